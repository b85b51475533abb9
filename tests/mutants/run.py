#!/usr/bin/env python3
"""Builds the library with each seeded bug of tests/mutants/ and runs the suites until one catches it.

Exit code 0: every mutant was caught, and the suites that caught them pass without one; 1: not so; 2: wrong usage;
77: this machine does not give the namespaces in which the suites run, so that nothing was tried.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
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


def configure(mutant: str) -> None:
    # Optimised as for users, without what only a debugger reads; a bug may leave something unused.
    run(
        [
            "cmake",
            "-S",
            str(ROOT),
            "-B",
            str(BUILD),
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


def build(suite: Suite, jobs: int) -> None:
    run(["cmake", "--build", str(BUILD), "--parallel", str(jobs), "--target", suite.target])


def try_mutant(mutant: Mutant, only_expected: bool, jobs: int) -> Verdict:
    begun = time.monotonic()
    configure(mutant.name)
    expected = [SUITE_OF_NAME[name] for name in mutant.suites]
    others = [] if only_expected else [suite for suite in SUITES if suite not in expected]
    for suite in expected + others:
        build(suite, jobs)
        failure = failure_of(suite, BUILD)
        if failure is not None:
            return Verdict(mutant.name, mutant.breaks, mutant.file, suite.name, failure, time.monotonic() - begun)
    return Verdict(mutant.name, mutant.breaks, mutant.file, None, "it survived", time.monotonic() - begun)


def failures_without_bug(names: set[str], jobs: int) -> list[str]:
    """The control: a suite that fails anyway catches nothing."""
    configure("")
    found = []
    for suite in SUITES:
        if suite.name not in names:
            continue
        build(suite, jobs)
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
    parser.add_argument("--jobs", type=int, default=2, help="of the compiler (default 2)")
    parser.add_argument("--json", metavar="FILE", help="write the table to this file too")
    options = parser.parse_args()
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
        return SKIPPED
    verdicts = []
    for mutant in chosen:
        verdict = try_mutant(mutant, options.only_expected, options.jobs)
        verdicts.append(verdict)
        print(f"{verdict.mutant:34} {verdict.caught_by or 'SURVIVED':24} {verdict.reason}", flush=True)
    survivors = [verdict.mutant for verdict in verdicts if verdict.caught_by is None]
    failing = failures_without_bug({verdict.caught_by for verdict in verdicts if verdict.caught_by}, options.jobs)
    print(f"{len(verdicts)} mutants, {len(verdicts) - len(survivors)} caught, {len(survivors)} survived")
    for name in failing:
        print(f"the suite {name} fails without a bug too: what it caught does not count")
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
