#!/usr/bin/env python3
"""Checks api/memstream.hpp as programs see it.

    cpp_header_test.py ROOT COMPILER...

- It calls every function of the C interface that is not left out for a reason: LEFT_OUT.
- With each compiler it compiles without a warning, also where exceptions are off, and all members of both faces do.
- With the first one, programs that misuse it do not compile: REFUSED.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import c_reference  # noqa: E402

HEADERS = ("api/memstream.hpp", "api/memstream_bytes.hpp", "api/memstream_result.hpp")
C_HEADERS = (
    "api/memstream_options.h",
    "api/memstream.h",
    "api/memstream_limits.h",
    "api/memstream_metrics.h",
    "api/memstream_tags.h",
    "api/memstream_watch.h",
)
# Functions of the C interface that the header does not call, each with what it calls instead.
LEFT_OUT = {
    "memstream_options_init": "memstream_options_init_sized",
    "memstream_get_many": "memstream_get_many_sized",
    "memstream_set_many": "memstream_set_many_sized",
    "memstream_delete_many": "memstream_delete_many_sized",
}
FLAGS = ("-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Wshadow", "-Werror")

WHOLE = """
#include "api/memstream.hpp"
template class memstream::BasicCache<memstream::Results>;
"""
USE = """
#include "api/memstream.hpp"
void use(memstream::Cache& cache) {
  %s;
}
"""
GOOD = '(void)cache.set("key", 1, {.flags = 2}); (void)cache.get<int>("key")'
# Statements that must not compile.
REFUSED = (
    '(void)cache.set("key", &cache)',
    '(void)cache.get<std::string_view>("key")',
    '(void)cache.get<std::vector<std::string>>("key")',
    '(void)cache.set("key", std::vector<const char*>())',
    '(void)cache.memoize("key", [] {})',
    "memstream::Cache copy = cache; (void)copy",
    'cache.set("key", 1)',  # A result that nobody looks at.
)


def compiles(compiler: str, root: Path, text: str, *flags: str) -> str:
    """What the compiler says; empty if it accepts the program."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "program.cpp"
        source.write_text(text, encoding="utf-8")
        command = [compiler, *FLAGS, *flags, "-I", str(root), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr or "no message"


def problems_with(compiler: str, root: Path) -> Iterator[str]:
    throwing = WHOLE + "template class memstream::BasicCache<memstream::Throws>;\n"
    for text, flags in ((throwing, ()), (WHOLE, ("-fno-exceptions",)), (USE % GOOD, ())):
        said = compiles(compiler, root, text, *flags)
        if said:
            yield f"{compiler} {' '.join(flags)}: {said[:2000]}"


def accepted(compiler: str, root: Path) -> Iterator[str]:
    for statement in REFUSED:
        if not compiles(compiler, root, USE % statement):
            yield f"{compiler} accepts: {statement}"


def uncalled(root: Path) -> Iterator[str]:
    text = "".join((root / header).read_text(encoding="utf-8") for header in HEADERS)
    code = re.sub(r"//[^\n]*", "", text)
    for header in C_HEADERS:
        for function in c_reference.read_functions((root / header).read_text(encoding="utf-8")):
            called = LEFT_OUT.get(function.name, function.name)
            if not re.search(rf"\b{called}\b", code):
                yield f"api/memstream.hpp does not call {called}()"


def main() -> int:
    root, compilers = Path(sys.argv[1]).resolve(), sys.argv[2:]
    problems = list(uncalled(root))
    for compiler in compilers:
        problems += problems_with(compiler, root)
    problems += accepted(compilers[0], root)
    for problem in problems:
        print(problem)
    print(f"{len(compilers)} compilers, {len(problems)} problems")
    return 1 if problems or not compilers else 0


if __name__ == "__main__":
    sys.exit(main())
