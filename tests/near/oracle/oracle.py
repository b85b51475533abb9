#!/usr/bin/env python3
"""An oracle for the near cache: does it ever serve what it must not, whatever is killed, stopped or lost?

Two nodes, each a segment of its own with readers and a writer, use one Redis or one cluster. Writers store growing
versions; each access is recorded with its instants. Faults are injected meanwhile. Then the history is judged:

  stale       nothing older than --max-lag, with the measured clock error added
  backwards   a node sees its own writes
  unwritten   no value that nobody wrote

With --sabotage it does the same to a library with a seeded bug, to show that the oracle would notice.
Exit code: 0 if the history is clean, 1 if it is not, 2 for wrong arguments, 77 without redis-server.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Optional

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "clients" / "python"))

from checker import Verdict, judge  # noqa: E402
from history import NO_NODE, Recorder, records_of  # noqa: E402
from redis_servers import CLIENT, SERVER, Cluster, Single, new_folder  # noqa: E402
from workers import TROUBLE, Board, Settings, key_name, open_near, read, read_async, start, write  # noqa: E402

from faults import Faults  # noqa: E402
from memstream import destroy  # noqa: E402
from memstream.errors import NoSegment  # noqa: E402

SABOTAGE = ("tokens", "epochs", "heartbeat", "delete")
_MONOTONIC_COARSE = 6  # Linux's number, which the module `time` does not name.
_PRELOADED = "MEMSTREAM_TEST_SABOTAGE"

# Places on the board: each node has its readers, one reader with asyncio and one writer; then writers of Redis alone.
NODES = 2


def parse(arguments: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cluster", action="store_true", help="three masters with replicas, instead of one Redis")
    parser.add_argument("--seconds", type=float, default=8, metavar="S", help="how long readers and writers run (8)")
    parser.add_argument("--readers", type=int, default=2, metavar="N", help="readers of each node (2)")
    parser.add_argument("--keys", type=int, default=36, metavar="N", help="keys in total (36)")
    parser.add_argument("--max-lag", type=float, default=0.5, metavar="S", help="the bound, 0.25 or more (0.5)")
    parser.add_argument("--slow-fetches", type=float, default=0.1, metavar="SHARE", help="that store late (0.1)")
    parser.add_argument(
        "--pace", type=float, default=0.004, metavar="S", help="a reader's pause after 20 reads (0.004)"
    )
    parser.add_argument(
        "--fault",
        action="append",
        metavar="NAME[=COUNT]",
        help="inject it so often, once by default; may be repeated. 'all': each of them",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of the order of the faults")
    parser.add_argument("--sabotage", choices=SABOTAGE, help="seed a bug: what is disabled in the library")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy the records there")
    options = parser.parse_args(arguments)
    if options.seconds <= 0 or options.readers < 1 or not 6 <= options.keys <= 1000 or options.max_lag < 0.25:
        parser.error("expected --seconds above 0, --readers from 1, --keys 6 to 1000, --max-lag from 0.25")
    if NODES * (options.readers + 2) + 2 > Board.PLACES:
        parser.error(f"Invalid --readers {options.readers}: expected at most {(Board.PLACES - 2) // NODES - 2}")
    return options


class Run:
    """One run: servers, processes, faults, and the verdict."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self.board = Board()
        names = tuple(f"near-oracle-{os.getpid()}-{node}" for node in "ab")
        servers: Any = Cluster(folder) if options.cluster else Single(folder)
        self.settings = Settings(
            folder,
            servers,
            names,
            options.max_lag,
            timeout=min(0.5, options.max_lag),
            keys=options.keys,
            slow_fetches=options.slow_fetches,
            pace=options.pace,
        )
        self._places: dict[int, int] = {}  # Of each place: its node.
        self._versions = 0
        self.epochs = self.invalidations = 0
        self.tracking: list[int] = []

    # ---- the crew ----

    def start_all(self) -> None:
        per_node = self._options.readers + 2
        for place in range(NODES * per_node + 2):
            self._start(place)

    def _start(self, place: int) -> None:
        per_node = self._options.readers + 2
        node, index = divmod(place, per_node)
        if node >= NODES:  # Two writers that have no near cache.
            self._places[place] = NO_NODE
            self._start_writer(place, NO_NODE, NODES + (place - NODES * per_node))
            return
        self._places[place] = node
        if index < self._options.readers:
            start(self.settings, self.board, place, node, read)
        elif index == self._options.readers:
            start(self.settings, self.board, place, node, read_async)
        else:
            self._start_writer(place, node, node)

    def _start_writer(self, place: int, node: int, number: int) -> None:
        keys = [key for key in range(self.settings.keys) if key % (NODES + 2) == number]
        # A writer that takes over goes on with higher versions.
        self._versions += 1 << 20
        start(self.settings, self.board, place, node, write, keys, self._versions)

    def reader_places(self) -> list[int]:
        per_node = self._options.readers + 2
        return [place for place in self._places if place < NODES * per_node and place % per_node < per_node - 2]

    def replace(self, place: int) -> None:
        pid = self.board.get(place)[0]
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        self._start(place)

    def _stats(self, node: int) -> Any:
        """Returns what is known of a node; None if nobody can say now."""
        try:
            # It must name Redis as the processes of its node do: to the segment it is another server otherwise.
            client = self.settings.servers.client(through_proxy=node == 1)
            with open_near(self.settings, node, client, agent=False) as near:
                near.get(key_name(0))  # Of a cluster it learns by this who serves what.
                return near.stats()
        except TROUBLE:
            return None

    def agent_place(self, node: int) -> int:
        stats = self._stats(node)
        pid = None if stats is None else stats.agent_pid
        return next((place for place in self._places if self.board.get(place)[0] == pid), -1)

    # ---- its course ----

    def go(self) -> Counter[str]:
        """Runs to the end. Returns the faults that were injected."""
        options = self._options
        recorder = Recorder(self._folder / "faults.records", NO_NODE)
        faults = Faults(self, recorder)
        planned = _planned(options.fault or [], faults)
        random.Random(options.seed).shuffle(planned)
        self.start_all()
        begun = time.monotonic()
        for number, name in enumerate(planned):
            # Spread over the time, but never cut short: each of them needs its own.
            due = begun + 0.8 + number * max(0.0, options.seconds - 1.5) / max(1, len(planned))
            time.sleep(max(0.0, due - time.monotonic()))
            faults.inject(name)
        time.sleep(max(options.max_lag + 1.0, begun + options.seconds - time.monotonic()))
        self.tracking = [int(one.info("clients")["tracking_clients"]) for one in self.settings.servers.masters()]
        for node in range(NODES):
            stats = self._stats(node)
            if stats is not None:
                self.epochs += stats.epochs
                self.invalidations += stats.invalidations
        return faults.done

    def end(self) -> list[str]:
        """Stops all processes. Returns what went wrong in them."""
        self.board.stop()
        deadline = time.monotonic() + 10
        wrong = []
        for place in self._places:
            pid = self.board.get(place)[0]
            status: Optional[int] = None
            while status is None and time.monotonic() < deadline:
                found, code = os.waitpid(pid, os.WNOHANG)
                status = code if found else None
                if not found:
                    time.sleep(0.01)
            if status is None:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
                wrong.append(f"process {place} did not end")
            elif status != 0:
                wrong.append(f"process {place} ended with status {status}")
        wrong += [path.read_text() for path in self._folder.glob("*.error")]
        return wrong

    def clean_up(self) -> None:
        for place in self._places:
            try:
                os.kill(self.board.get(place)[0], 9)
                os.waitpid(self.board.get(place)[0], 0)
            except (ProcessLookupError, ChildProcessError):
                pass
        for name in self.settings.names:
            try:
                destroy(name)
            except NoSegment:
                pass
        self.settings.servers.end()


def _planned(wanted: list[str], faults: Faults) -> list[str]:
    planned: list[str] = []
    for text in wanted:
        name, _, count = text.partition("=")
        names = list(faults.known) if name == "all" else [name]
        if not set(names) <= faults.known.keys() or (count and not count.isdigit()):
            raise ValueError(f"Invalid --fault '{text}': expected one of all, {', '.join(faults.known)}, or NAME=COUNT")
        planned += names * (int(count) if count else 1)
    return planned


def clock_error() -> float:
    """Measures how far the coarse clock, which the library reads, is behind: seconds, and two for roundings."""
    worst = 0.0
    end = time.monotonic() + 0.05
    while time.monotonic() < end:
        coarse = time.clock_gettime(_MONOTONIC_COARSE)
        worst = max(worst, time.monotonic() - coarse)
    return min(worst, 0.01) + 0.002


def report(verdict: Verdict, faults: Counter[str], wrong: list[str], run: Run, error: float) -> dict[str, Any]:
    return {
        "clean": verdict.is_clean and not wrong,
        "reads": verdict.reads,
        "writes": verdict.writes,
        "unknown_writes": verdict.unknown_writes,
        "failed_reads": verdict.failed_reads,
        "violations": verdict.violations,
        "examples": verdict.examples,
        "worst_age_ms": round(verdict.worst_age_ms, 1),
        "clock_error_ms": round(error * 1000, 1),
        "faults": dict(faults),
        "epochs": run.epochs,
        "invalidations": run.invalidations,
        "tracking": run.tracking,
        "failures": wrong,
    }


def preload(options: argparse.Namespace, folder: Path) -> None:
    """Builds the library with the seeded bug, and begins again with it."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("there is no C compiler, cc: install one (Debian: gcc)")
    library = folder / "sabotage.so"
    source = Path(__file__).with_name("sabotage.c")
    command = [compiler, "-shared", "-fPIC", "-O1", f"-I{ROOT}", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    os.environ[_PRELOADED] = options.sabotage
    os.environ["LD_PRELOAD"] = str(library)
    os.execv(sys.executable, [sys.executable, *sys.argv])


def execute(options: argparse.Namespace) -> dict[str, Any]:
    """Runs and judges.

    Raises:
        ValueError: a fault has a wrong name.
    """
    folder = Path(os.environ.pop("NEAR_ORACLE_FOLDER", "") or new_folder("near-oracle-"))
    try:
        error = clock_error()
        run = Run(options, folder)
        try:
            faults = run.go()
            wrong = run.end()
        finally:
            run.clean_up()
        result = report(judge(records_of(folder), options.max_lag, error), faults, wrong, run, error)
        if options.keep is not None:
            shutil.copytree(folder, options.keep, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock"))
        return result
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    options = parse()
    if SERVER is None or (options.cluster and CLIENT is None):
        print("skipped: there is no redis-server (Debian: redis-server)", file=sys.stderr)
        return 77
    if options.sabotage and os.environ.get(_PRELOADED) != options.sabotage:
        os.environ["NEAR_ORACLE_FOLDER"] = str(new_folder("near-oracle-"))
        preload(options, Path(os.environ["NEAR_ORACLE_FOLDER"]))
    try:
        result = execute(options)
    except ValueError as mistake:
        print(mistake, file=sys.stderr)
        return 2
    text = json.dumps(result, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n")
    print(text)
    return 0 if result["clean"] else 1


if __name__ == "__main__":
    sys.exit(main())
