#!/usr/bin/env python3
"""Writes the mutated copy of one file, for a build with MEMSTREAM_MUTANT.

    mutate.py NAME ROOT OUTPUT    writes OUTPUT/<file> and prints the file's path relative to the root
    mutate.py --check ROOT        applies every mutant to the sources and writes nothing
    mutate.py --list              the mutants, and what each breaks
"""

import sys
from pathlib import Path

import engine
import overwriting
import pins_and_recovery
import processes
import structure
from mutant import Mutant, Stale

MUTANTS: dict[str, Mutant] = {
    mutant.name: mutant
    for table in (engine, overwriting, pins_and_recovery, processes, structure)
    for mutant in table.MUTANTS
}


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
        elif len(arguments) == 2 and arguments[0] == "--check":
            for mutant in MUTANTS.values():
                mutant.mutated(Path(arguments[1]))
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
