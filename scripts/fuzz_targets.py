#!/usr/bin/env python3
"""Runs the libFuzzer program over its targets and says what came of it. scripts/fuzz.sh builds the program first.

A target begins with the seeds that the build made, what fuzzing once found (tests/fuzz/findings) and its own corpus of
earlier runs (build/fuzz/corpus). An input that ends the program is left in build/fuzz/artifacts.
Exit code: 0 if no target found anything, 1 if one did.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "fuzz"
PROGRAM = BUILD / "tests" / "fuzz" / "memstream-fuzz"
REPLAY = BUILD / "tests" / "fuzz" / "memstream-fuzz-replay"

# The largest input of each target, bytes: more than it reads would only be carried along.
TARGETS = {
    "attach": 4104,
    "read_image": 1032,
    "read_scribbled": 1032,
    "abi_calls": 2000,
    "environment": 500,
    "repair": 1032,
}
LONGEST_INPUT_SECONDS = 25  # One that takes longer counts as a hang, also on a machine that is busy.
MEMORY_MIB = 2500
CHUNK_SECONDS = 300  # Processor time can only be looked at when the program has ended.


@dataclass
class Outcome:
    """What one target came to. Times are seconds."""

    target: str
    finding: str = ""  # Where the input lies that ended the program; empty if none did.
    executions: int = 0
    wall_seconds: float = 0
    cpu_seconds: float = 0
    corpus: int = 0  # Inputs, each of which reaches what the others do not.
    edges: int = 0  # Covered, of the whole program.


def prepare(target: str) -> list[str]:
    """The folders that the target begins with; the first is the one that grows."""
    corpus, found = BUILD / "corpus" / target, BUILD / "findings" / target
    corpus.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    kept = ROOT / "tests" / "fuzz" / "findings" / target
    if kept.is_dir():
        subprocess.run([REPLAY, "--unpack", str(kept), str(found)], check=True)
    return [str(corpus), str(BUILD / "tests" / "fuzz" / "seeds" / target), str(found)]


def run_once(outcome: Outcome, seconds: int, folders: list[str]) -> None:
    """Runs the program for `seconds` and adds to the outcome what it did."""
    artifacts = BUILD / "artifacts" / outcome.target
    artifacts.mkdir(parents=True, exist_ok=True)
    log = BUILD / f"fuzz-{outcome.target}.log"
    started = time.time()
    with log.open("wb") as output:
        child = subprocess.Popen(
            [
                PROGRAM,
                f"--target={outcome.target}",
                f"-max_total_time={seconds}",
                f"-max_len={TARGETS[outcome.target]}",
                f"-timeout={LONGEST_INPUT_SECONDS}",
                f"-rss_limit_mb={MEMORY_MIB}",
                f"-artifact_prefix={artifacts}/",
                "-print_final_stats=1",
                "-reload=0",
                *folders,
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    text = log.read_text(errors="replace")
    outcome.wall_seconds += time.time() - started
    outcome.cpu_seconds += usage.ru_utime + usage.ru_stime
    outcome.executions += sum(int(number) for number in re.findall(r"number_of_executed_units: (\d+)", text))
    progress = re.findall(r" cov: (\d+) .* corp: (\d+)/", text)
    if progress:
        outcome.edges, outcome.corpus = int(progress[-1][0]), int(progress[-1][1])
    if child.returncode != 0:
        written = re.findall(r"Test unit written to (\S+)", text)
        outcome.finding = written[-1] if written else str(log)
        print(f"{outcome.target}: ended with {child.returncode}; the end of {log}:")
        print("\n".join(text.splitlines()[-60:]), flush=True)
    elif outcome.executions == 0:
        raise RuntimeError(f"{outcome.target} executed nothing; see {log}")


def run(target: str, wall_seconds: int, cpu_seconds: int) -> Outcome:
    """Until one of the two times is over, or something was found; a time of 0 does not count."""
    outcome = Outcome(target)
    folders = prepare(target)
    while not outcome.finding:
        wall_left = wall_seconds - outcome.wall_seconds if wall_seconds else CHUNK_SECONDS
        cpu_left = cpu_seconds - outcome.cpu_seconds if cpu_seconds else CHUNK_SECONDS
        left = min(wall_left, cpu_left, CHUNK_SECONDS)
        if left < 1:
            break
        run_once(outcome, max(1, round(left)), folders)
    result = "FINDING" if outcome.finding else "clean"
    times = f"{outcome.wall_seconds:>8.0f} {outcome.cpu_seconds:>8.0f}"
    print(
        f"{target:<15} {result:<8} {outcome.executions:>12} {times} {outcome.corpus:>7} {outcome.edges:>7}", flush=True
    )
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz.sh", description="Lets libFuzzer loose on the library.")
    parser.add_argument("--target", nargs="+", choices=TARGETS, default=list(TARGETS), help="these only")
    parser.add_argument("--seconds", type=int, default=10, help="for each target; 0: no limit (default: 10)")
    parser.add_argument("--cpu-seconds", type=int, default=0, help="of processor time for each target; 0: no limit")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time (default: 1)")
    parser.add_argument("--json", type=Path, help="write the outcomes to this file")
    parser.add_argument("--list", action="store_true", help="name the targets and end")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(TARGETS))
        return 0
    if arguments.jobs < 1 or arguments.seconds < 0 or arguments.cpu_seconds < 0:
        parser.error("--jobs is at least 1, times are not negative")
    if arguments.seconds == 0 and arguments.cpu_seconds == 0:
        parser.error("without a limit of either kind it would never end: give --seconds or --cpu-seconds")
    print(f"{'target':<15} {'result':<8} {'executions':>12} {'seconds':>8} {'cpu':>8} {'corpus':>7} {'edges':>7}")
    with ThreadPoolExecutor(arguments.jobs) as pool:
        outcomes = list(
            pool.map(lambda target: run(target, arguments.seconds, arguments.cpu_seconds), arguments.target)
        )
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=2) + "\n")
    found = [outcome for outcome in outcomes if outcome.finding]
    for outcome in found:
        print(f"{outcome.target}: {outcome.finding}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
