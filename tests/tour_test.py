#!/usr/bin/env python3
"""Checks docs/tour.md: each `file:function` it names exists, it is short enough, and its pictures are there.

    tour_test.py [ROOT]

A function exists if its file defines or declares something of that name with parameters. Exit code 0: all exist.
"""

import re
import sys
from pathlib import Path

MAX_WORDS = 1500
REFERENCE = re.compile(r"`([\w/.]+\.(?:h|cpp|c|py)):(\w+)`")


def problems_in(text: str, root: Path) -> list[str]:
    found = []
    references = REFERENCE.findall(text)
    if not references:
        found.append("no `file:function` at all")
    for path, function in references:
        file = root / path
        if not file.is_file():
            found.append(f"{path}: there is no such file")
        elif not re.search(rf"\b{function}\(", file.read_text(encoding="utf-8")):
            found.append(f"{path}: it has no {function}()")
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
        if not (root / "docs" / picture).is_file():
            found.append(f"{picture}: there is no such picture")
    words = len(re.findall(r"[\w'-]+", re.sub(r"```.*?```", "", text, flags=re.DOTALL)))
    if words > MAX_WORDS:
        found.append(f"{words} words, {MAX_WORDS} are the limit")
    return found


# A text, and words of the one problem that must come of it.
PLANTED = (
    ("nothing", "no `file:function`"),
    ("`tests/no_such_file.py:main`", "no such file"),
    ("`tests/tour_test.py:absent`", "it has no absent"),
    ("`tests/tour_test.py:main` ![x](pictures/no.svg)", "no such picture"),
    ("`tests/tour_test.py:main` " + "word " * MAX_WORDS, "are the limit"),
)


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    here = Path(__file__).resolve().parent.parent
    blind = [text[:40] for text, words in PLANTED if [words in p for p in problems_in(text, here)] != [True]]
    problems = problems_in((root / "docs" / "tour.md").read_text(encoding="utf-8"), root)
    for problem in [f"self-test: not found: {text}" for text in blind] + problems:
        print(problem)
    print(f"{len(PLANTED)} planted cases, {len(blind)} wrong; {len(problems)} problems")
    return 1 if blind or problems else 0


if __name__ == "__main__":
    sys.exit(main())
