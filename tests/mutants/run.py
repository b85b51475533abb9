#!/usr/bin/env python3
"""Builds the library with each seeded bug of tests/mutants/ and runs the suites until one catches it.

Exit code 0: every mutant was caught, and the suites that caught them pass without one; 1: not so; 2: wrong usage;
77: this machine does not give the namespaces in which the suites run, so that nothing was tried.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple, Optional

from mutant import Mutant
from mutate import MUTANTS
from suites import SUITE_OF_NAME, SUITES, Suite, failure_of, sandbox_works

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "mutants"
SKIPPED = 77


class Verdict(NamedTuple):
    mutant: str
    breaks: str
    file: str
    caught_by: Optional[str]
    reason: str
    seconds: float


def run(command: list[str]) -> None:
    """Runs a step of the build. Ends the program, with what it printed, if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-4000:]}")


def configure(mutant: str, folder: Path) -> None:
    # Optimised as for users, without what only a debugger reads; a bug may leave something unused.
    run(
        [
            "cmake",
            "-S",
            str(ROOT),
            "-B",
            str(folder),
            "-G",
            "Ninja",
            "--log-level=WARNING",
            "-D",
            "CMAKE_BUILD_TYPE=Release",
            "-D",
            "CMAKE_CXX_FLAGS_RELEASE=-O2 -DNDEBUG",
            "-D",
            "MEMSTREAM_WERROR=OFF",
            "-D",
            f"MEMSTREAM_MUTANT={mutant}",
        ]
    )


def build(suite: Suite, folder: Path, jobs: int) -> None:
    run(["cmake", "--build", str(folder), "--parallel", str(jobs), "--target", suite.target])


def try_mutant(mutant: Mutant, only_expected: bool, folder: Path, jobs: int) -> Verdict:
    begun = time.monotonic()
    configure(mutant.name, folder)
    expected = [SUITE_OF_NAME[name] for name in mutant.suites]
    others = [] if only_expected else [suite for suite in SUITES if suite not in expected]
    for suite in expected + others:
        build(suite, folder, jobs)
        failure = failure_of(suite, folder)
        if failure is not None:
            return Verdict(mutant.name, mutant.breaks, mutant.file, suite.name, failure, time.monotonic() - begun)
    return Verdict(mutant.name, mutant.breaks, mutant.file, None, "it survived", time.monotonic() - begun)


def try_all(mutants: list[Mutant], only_expected: bool, workers: int, jobs: int) -> list[Verdict]:
    """Tries each mutant, `workers` of them at a time, each worker in a build of its own."""
    folders: SimpleQueue[Path] = SimpleQueue()
    for number in range(workers):
        folders.put(build_folder(number))

    def try_one(mutant: Mutant) -> Verdict:
        folder = folders.get()
        try:
            verdict = try_mutant(mutant, only_expected, folder, jobs)
        finally:
            folders.put(folder)
        print(f"{verdict.mutant:34} {verdict.caught_by or 'SURVIVED':24} {verdict.reason}", flush=True)
        return verdict

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(try_one, mutants))


def build_folder(worker: int) -> Path:
    return BUILD if worker == 0 else BUILD / f"worker{worker}"


def write_report(path: str, verdicts: list[Verdict], failing: list[str], skipped: bool) -> None:
    """A JUnit file: a test for each mutant, and one for each suite that fails without a bug."""
    suite = ElementTree.Element("testsuite", name="mutants")
    for verdict in verdicts:
        case = ElementTree.SubElement(suite, "testcase", name=verdict.mutant, time=f"{verdict.seconds:.1f}")
        if verdict.caught_by is None:
            ElementTree.SubElement(case, "failure", message=verdict.reason)
    for name in failing:
        case = ElementTree.SubElement(suite, "testcase", name=f"{name} without a bug")
        ElementTree.SubElement(case, "failure", message="the suite fails")
    if skipped:
        ElementTree.SubElement(ElementTree.SubElement(suite, "testcase", name="all"), "skipped")
    ElementTree.ElementTree(suite).write(path)


def failures_without_bug(names: set[str], jobs: int) -> list[str]:
    """The control: a suite that fails anyway catches nothing."""
    configure("", BUILD)
    found = []
    for suite in SUITES:
        if suite.name not in names:
            continue
        build(suite, BUILD, jobs)
        failure = failure_of(suite, BUILD) and failure_of(suite, BUILD)  # Once more: a loaded machine is no bug.
        print(f"{'(no bug)':34} {suite.name:24} {failure or 'passes'}", flush=True)
        if failure is not None:
            found.append(suite.name)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="mutants.sh", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a mutant; all otherwise")
    parser.add_argument("--list", action="store_true", help="name the mutants and stop")
    parser.add_argument("--only-expected", action="store_true", help="run only the suites that a mutant's entry names")
    parser.add_argument(
        "--workers", type=int, default=1, help="mutants at a time, each in a build of its own (default 1)"
    )
    parser.add_argument("--jobs", type=int, help="of the compiler, for each worker (default: the processors)")
    parser.add_argument("--junit", metavar="FILE", help="write a JUnit file too, with a test for each mutant")
    parser.add_argument("--json", metavar="FILE", help="write the table to this file too")
    options = parser.parse_args()
    if options.workers < 1:
        parser.error(f"Invalid --workers '{options.workers}': expected 1 or more")
    jobs = options.jobs or max(1, (os.cpu_count() or 1) // options.workers)
    unknown = [name for name in options.names if name not in MUTANTS]
    if unknown:
        parser.error(f"there is no mutant {unknown[0]}; --list names them")
    chosen = [MUTANTS[name] for name in options.names] or list(MUTANTS.values())
    if options.list:
        for mutant in chosen:
            print(f"{mutant.name:34} {mutant.breaks}")
        return 0
    if not sandbox_works():
        print(
            "skipped: unshare gives no namespaces here, and a suite that fails would leave segments behind; run as root"
        )
        if options.junit:
            write_report(options.junit, [], [], skipped=True)
        return SKIPPED
    # Sorted by file: what a mutant leaves of the build serves the next one.
    chosen = sorted(chosen, key=lambda mutant: mutant.file)
    verdicts = try_all(chosen, options.only_expected, options.workers, jobs)
    survivors = [verdict.mutant for verdict in verdicts if verdict.caught_by is None]
    failing = failures_without_bug({verdict.caught_by for verdict in verdicts if verdict.caught_by}, jobs)
    print(f"{len(verdicts)} mutants, {len(verdicts) - len(survivors)} caught, {len(survivors)} survived")
    for name in failing:
        print(f"the suite {name} fails without a bug too: what it caught does not count")
    if options.junit:
        write_report(options.junit, verdicts, failing, skipped=False)
    if options.json:
        table = {
            "mutants": [verdict._asdict() for verdict in verdicts],
            "survivors": survivors,
            "failing_suites": failing,
        }
        Path(options.json).write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    return 1 if survivors or failing else 0


if __name__ == "__main__":
    sys.exit(main())
