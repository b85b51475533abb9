#!/usr/bin/env python3
"""Measures MemStream from Python, with and without its accelerator, beside its alternatives.

scripts/bench.sh python runs this.

Every value that comes back is compared with what was stored; a wrong or missing one ends the run. All contenders are
filled with the same data and take turns, round by round, so that whatever happens to the machine happens to all of
them. Ratios are made within a round; the median of the rounds is reported.

Exit code: 0 if all went well, whatever the figures; 1 if a contender failed or the run was interrupted; 2 for wrong
usage.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple, Optional, Type

import embedded
import ours
import report
import servers
from contender import Contender
from crowd import PROCESSES, Crowd, WorkerFailed
from data import SIZES, DataSet, make_data, size_name
from loops import operations_of
from results import Cell, Place, Results

CONTENDERS: list[Type[Contender]] = [
    ours.Limit,
    ours.Fast,
    ours.Plain,
    ours.PlainCtypes,
    ours.Views,
    ours.Local,
    ours.Copies,
    embedded.Dict,
    embedded.Lmdb,
    embedded.Tdb,
    embedded.DiskCache,
    servers.Memcached,
    servers.Redis,
    servers.Manager,
]


class Interrupted(Exception):
    """Somebody wants the run to end."""


class Plan(NamedTuple):
    """What is measured, how often and how long."""

    contenders: list[Type[Contender]]
    sizes: list[int]
    rounds: int
    seconds: float
    quick: bool


def interrupt(number: int, frame: Optional[FrameType]) -> None:
    """Ends the run by way of everything that cleans up, which no second signal disturbs."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise Interrupted(f"interrupted by {signal.Signals(number).name}")


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder in memory, for files and sockets; it goes with everything in it."""
    folder = Path(f"/dev/shm/memstream-python-bench-{os.getpid()}")
    folder.mkdir()
    try:
        folder.chmod(0o777)  # memcached gives up being root.
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(plan: Plan, data: DataSet, results: Results) -> None:
    """Measures all contenders with the values of one size."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        contenders = []
        for made in plan.contenders:
            contender = made(folder)
            stack.callback(contender.close)
            contender.fill(data)
            contenders.append(contender)
        crowds = []
        for contender in contenders:
            crowd = Crowd(contender, data)
            stack.callback(crowd.end)
            crowds.append((contender.name, crowd))
        for number in range(plan.rounds + 1):
            for operation in operations_of(data.size):
                for processes in range(1, PROCESSES + 1):
                    for name, crowd in crowds:
                        if not crowd.offers(operation, processes):
                            continue
                        rate = crowd.run(operation, processes, plan.seconds)
                        if number > 0:  # The first one warms up.
                            results.add(Place(name, Cell(data.size, operation, processes)), rate)


def parse(arguments: list[str]) -> tuple[Plan, Optional[Path]]:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="bench.sh python", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = {contender.name: contender for contender in CONTENDERS}
    parser.add_argument("--quick", action="store_true", help="10,000 keys at most, 3 rounds of 30 ms")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured to this file")
    parser.add_argument("--contender", action="append", choices=names, help="only this one (may be repeated)")
    parser.add_argument("--size", action="append", type=int, choices=SIZES, help="only this one (may be repeated)")
    parser.add_argument("--rounds", type=int, help="rounds of each contender in each cell (5)")
    parser.add_argument("--round-ms", type=int, help="duration of a round (100)")
    options = parser.parse_args(arguments)
    rounds = options.rounds or (3 if options.quick else 5)
    seconds = (options.round_ms or (30 if options.quick else 100)) / 1000
    if rounds < 1 or seconds <= 0:
        parser.error("--rounds and --round-ms are above 0")
    chosen = [names[name] for name in options.contender or names]
    return Plan(chosen, options.size or list(SIZES), rounds, seconds, options.quick), options.json


def run(plan: Plan, file: Optional[Path]) -> None:
    """Measures, prints, writes."""
    about = {"machine": report.machine(), "rounds": plan.rounds, "round_ms": plan.seconds * 1000, "quick": plan.quick}
    if file is not None:
        file.touch()  # Better now than after minutes of measuring.
    results = Results()
    for size in plan.sizes:
        print(f"measuring {size_name(size)}", file=sys.stderr)
        measure(plan, make_data(size, plan.quick), results)
    print(report.table(results), report.goal_list(results), sep="\n\n")
    if file is not None:
        file.write_text(json.dumps(report.as_json(results, about), indent=1) + "\n")


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    plan, file = parse(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        run(plan, file)
    except (Interrupted, WorkerFailed, servers.ServerFailed, OSError) as error:
        print(f"bench.sh python: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
