#!/usr/bin/env python3
"""Writes the mutated copy of one file, for a build with MEMSTREAM_MUTANT.

    mutate.py NAME ROOT OUTPUT    writes OUTPUT/<file> and prints the file's path relative to the root
    mutate.py --check ROOT        applies every mutant to the sources, looks for its suites, compares TABLE with --table
    mutate.py --table             prints the page TABLE: every mutant, by the suite that is expected to catch it
    mutate.py --list              the mutants, and what each breaks
"""

import sys
from pathlib import Path

import consistent
import damage
import engine
import limits
import overwriting
import pins_and_recovery
import processes
import quick_put
import structure
import tracing
import watching
from mutant import Mutant, Stale
from suites import SUITE_OF_NAME

MUTANTS: dict[str, Mutant] = {
    mutant.name: mutant
    for module in (
        consistent,
        damage,
        engine,
        limits,
        overwriting,
        pins_and_recovery,
        processes,
        quick_put,
        structure,
        tracing,
        watching,
    )
    for mutant in module.MUTANTS
}
TABLE = "tests/results/seeded-bugs.md"
INTRODUCTION = """# Seeded bugs

{count} bugs, each a change of one place of the library, by the suite that has to catch it. `scripts/mutants.sh` builds
the library with each of them and fails if every suite passes. To write this page again:
`python3 tests/mutants/mutate.py --table > {page}`.
"""


def table() -> str:
    by_suite: dict[str, list[Mutant]] = {}
    for mutant in MUTANTS.values():
        by_suite.setdefault(mutant.suites[0], []).append(mutant)
    lines = [INTRODUCTION.format(count=len(MUTANTS), page=TABLE)]
    for suite, mutants in sorted(by_suite.items()):
        lines += [f"## {suite}\n", "| Bug | What it breaks | File |", "|---|---|---|"]
        lines += [f"| `{mutant.name}` | {mutant.breaks} | `{mutant.file}` |" for mutant in mutants]
        lines += [""]
    return "\n".join(lines)


def check(root: Path) -> None:
    """Raises Stale unless every mutant fits the sources, its suites exist, and the page shows it."""
    for mutant in MUTANTS.values():
        mutant.mutated(root)
        unknown = [suite for suite in mutant.suites if suite not in SUITE_OF_NAME]
        if unknown:
            raise Stale(f"{mutant.name} names {', '.join(unknown)}, which tests/mutants/suites.py does not have")
    page = root / TABLE
    if not page.exists() or page.read_text(encoding="utf-8") != table():
        raise Stale(f"{TABLE} is not current: python3 tests/mutants/mutate.py --table > {TABLE}")


def write(mutant: Mutant, root: Path, output: Path) -> None:
    text = mutant.mutated(root)
    copy = output / mutant.file
    copy.parent.mkdir(parents=True, exist_ok=True)
    if not copy.exists() or copy.read_text(encoding="utf-8") != text:
        copy.write_text(text, encoding="utf-8")
    print(mutant.file)


def main(arguments: list[str]) -> int:
    try:
        if arguments == ["--list"]:
            for mutant in MUTANTS.values():
                print(f"{mutant.name:34} {mutant.breaks}")
        elif arguments == ["--table"]:
            print(table(), end="")
        elif len(arguments) == 2 and arguments[0] == "--check":
            check(Path(arguments[1]))
            print(f"{len(MUTANTS)} mutants fit the sources")
        elif len(arguments) == 3 and arguments[0] in MUTANTS:
            write(MUTANTS[arguments[0]], Path(arguments[1]), Path(arguments[2]))
        elif len(arguments) == 3:
            print(f"there is no mutant {arguments[0]}: see scripts/mutants.sh --list", file=sys.stderr)
            return 2
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except Stale as stale:
        print(stale, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
