#!/usr/bin/env python3
"""Checks the comments of the public headers and the page that is made of them.

    c_reference_test.py ROOT [LIBRARY]

- Each function has a brief, every parameter, its results, thread safety and process safety.
- docs/reference-c.md is what scripts/c_reference.py makes of the headers.
- The version in the headers is that of CMakeLists.txt.
- LIBRARY exports the documented functions, no more and no less.

Before that it plants one fault of each kind and requires that each is found. Exit code 0: all true.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import c_reference  # noqa: E402

GOOD = """/**
 * Does it.
 *
 * @param x  What to do.
 * @retval CACHE_OK  It is done.
 * @threads Safe.
 * @processes Safe.
 */
CACHE_API int f(int x);
"""
# A comment with one fault, and words of the problem that must come of it. An empty text: silence.
PLANTED: tuple[tuple[str, str], ...] = (
    (GOOD, ""),
    (GOOD.replace(" * Does it.\n", ""), "no brief"),
    (GOOD.replace("Does it.", "Does it"), "no sentence"),
    (GOOD.replace("@param x", "@param y"), "the prototype has ['x']"),
    (GOOD.replace("  What to do.", ""), "without a text"),
    (GOOD.replace(" * @retval CACHE_OK  It is done.\n", ""), "neither @return"),
    (GOOD.replace("CACHE_OK  It", "It"), "without a status"),
    (GOOD.replace(" * @threads Safe.\n", ""), "one @threads"),
    (GOOD.replace("@processes Safe.", "@processes"), "one @processes"),
    ("CACHE_API void g(void);\n", "no brief"),
)


def problems_in(text: str) -> list[str]:
    return [problem for function in c_reference.read_functions(text) for problem in c_reference.problems_of(function)]


def self_test() -> Iterator[str]:
    for text, expected in PLANTED:
        found = problems_in(text)
        if (expected == "" and found) or not any(expected in problem for problem in found or [""]):
            yield f"self-test: expected {expected!r}, got {found}"
    pages = [c_reference.render([text]) for text in (GOOD, GOOD.replace("Does it", "Makes it"))]
    if "Does it." not in pages[0] or pages[0] == pages[1]:
        yield "self-test: the page does not show the comment"


def check_version(root: Path) -> Iterator[str]:
    header = (root / "api/cache.h").read_text(encoding="utf-8")
    numbers = [re.findall(rf"#define MEMSTREAM_VERSION_{part} (\d+)", header) for part in ("MAJOR", "MINOR", "PATCH")]
    project = re.findall(
        r"project\(memstream\s+VERSION ([\d.]+)", (root / "CMakeLists.txt").read_text(encoding="utf-8")
    )
    if [".".join(number for found in numbers for number in found)] != project:
        yield f"api/cache.h has the version {numbers}, CMakeLists.txt {project}"


def exported(library: Path) -> set[str]:
    listed = subprocess.run(["nm", "-D", "--defined-only", str(library)], check=True, stdout=subprocess.PIPE, text=True)
    # Of api/memstream_near_core.h, which is for near/ alone.
    return {name for name in re.findall(r" T (\w+)", listed.stdout) if not name.startswith("memstream_near_core_")}


def main() -> int:
    root = Path(sys.argv[1]).resolve()
    problems = list(self_test())
    names: list[str] = []
    for header in c_reference.HEADERS:
        text = (root / header).read_text(encoding="utf-8")
        problems += problems_in(text)
        names += [function.name for function in c_reference.read_functions(text)]
    if (root / c_reference.PAGE).read_text(encoding="utf-8") != c_reference.page_of(root):
        problems.append(f"{c_reference.PAGE} is not current: run scripts/c_reference.py")
    problems += check_version(root)
    if len(sys.argv) > 2:
        differences = exported(Path(sys.argv[2])) ^ set(names)
        problems += [f"{name}: exported or documented, but not both" for name in sorted(differences)]
    for problem in problems:
        print(problem)
    print(f"{len(PLANTED)} planted cases; {len(names)} functions, {len(problems)} problems")
    return 1 if problems or len(names) < 40 else 0


if __name__ == "__main__":
    sys.exit(main())
