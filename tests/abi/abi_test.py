#!/usr/bin/env python3
"""Checks that programs which were built against the recorded C interface run with the library of this tree.

    abi_test.py ROOT BUILD

scripts/abi.sh has to find nothing but additions. In a copy of the headers it has to refuse what would break programs,
and to accept what would not: CHANGES. The libraries of BUILD have to export each recorded function. program.c, compiled
with the recorded headers and linked against a library that has the recorded functions alone, has to run with the
library of BUILD. Exit code 77: there is no abidiff.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SKIPPED = 77
RECORD = "tests/abi/interface.abi"
SYMBOL = re.compile(r"<elf-symbol name='(\w+)'[^>]* type='func-type'")
HEADER = "api/memstream.h"
# A change of the header: what it is, the text, what comes instead, and whether programs still run.
CHANGES = (
    ("a function less", "CACHE_API int memstream_exists(", "int memstream_exists(", False),
    (
        "a field moves",
        "  const void *key;        /* In: the key. */\n  size_t key_size;",
        "  size_t key_size; const void *key;",
        False,
    ),
    (
        "a field shrinks",
        "  uint32_t flags;         /* Set, in: the caller's",
        "  uint16_t flags;         /* Set, in: the caller's",
        False,
    ),
    ("an item grows", "} memstream_item_t;", "  uint64_t more;\n} memstream_item_t;", False),
    (
        "a parameter changes",
        "CACHE_API int memstream_close(memstream_t *cache",
        "CACHE_API int memstream_close(int cache",
        False,
    ),
    (
        "a function more",
        "CACHE_API int memstream_exists(",
        "CACHE_API int memstream_more(void);\nCACHE_API int memstream_exists(",
        True,
    ),
    ("a struct with struct_size grows", "} memstream_info_t;", "  uint64_t more;\n} memstream_info_t;", True),
)


def run(*command: object, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def change_problems(root: Path, folder: Path) -> Iterator[str]:
    for part in ("scripts", "api", "near", "tests/abi"):
        shutil.copytree(root / part, folder / part)
    text = (root / HEADER).read_text(encoding="utf-8")
    for name, old, new, is_allowed in CHANGES:
        if text.count(old) != 1:
            yield f"self-test: {name} cannot be planted in {HEADER}: '{old}' is there {text.count(old)} times"
            continue
        (folder / HEADER).write_text(text.replace(old, new), encoding="utf-8")
        done = run(folder / "scripts/abi.sh", "check")
        is_refused = done.returncode == 1 and "Invalid change of the C interface" in done.stdout
        if is_refused == is_allowed or (is_allowed and done.returncode != 0):
            yield f"self-test: {name} is {'refused' if is_refused else 'not refused'}: {done.stdout[-2000:]}"


def export_problems(root: Path, build: Path) -> Iterator[str]:
    exported: set[str] = set()
    for library in ("libcache.so", "libmemstream_near.so"):
        if (build / library).exists():
            exported.update(re.findall(r" T (\w+)$", run("nm", "-D", build / library).stdout, re.MULTILINE))
    has_near = any(name.startswith("memstream_near_open") for name in exported)
    for name in SYMBOL.findall((root / RECORD).read_text(encoding="utf-8")):
        # Where there is no hiredis, there is no near cache.
        if name not in exported and (has_near or not name.startswith("memstream_near_")):
            yield f"no library exports {name}() any more"


def program_problems(root: Path, build: Path, folder: Path) -> Iterator[str]:
    recorded = root / "tests/abi"
    (folder / "include/memstream").mkdir(parents=True)
    for header in (recorded / "include").glob("*.recorded"):
        shutil.copy(header, folder / "include/memstream" / header.stem)
    names = SYMBOL.findall((root / RECORD).read_text(encoding="utf-8"))
    stub = folder / "recorded.c"
    stub.write_text("".join(f"void {name}(void);\nvoid {name}(void) {{}}\n" for name in names), encoding="utf-8")
    library, program = folder / "librecorded.so", folder / "program"
    for command in (
        ("cc", "-shared", "-fPIC", "-Wl,-soname,libcache.so.1", stub, "-o", library),
        (
            "cc",
            "-std=c11",
            "-Wall",
            "-Werror",
            "-I",
            folder / "include",
            recorded / "program.c",
            library,
            "-o",
            program,
        ),
    ):
        done = run(*command)
        if done.returncode != 0:
            yield f"{' '.join(map(str, command))}: {done.stdout}"
            return
    segment = f"abi-{os.getpid()}"
    done = run(program, LD_LIBRARY_PATH=str(build), LD_BIND_NOW="1", MEMSTREAM_NAME=segment)
    if done.returncode != 0 or "serves with" not in done.stdout:
        yield f"a program of the record ends with {done.returncode}: {done.stdout}"


def main() -> int:
    root, build = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        problems = [*program_problems(root, build, Path(folder) / "program"), *export_problems(root, build)]
        if shutil.which("abidiff") is None:
            print("\n".join(problems) or "skipped: there is no abidiff (Debian: abigail-tools)")
            return 1 if problems else SKIPPED
        done = run(root / "scripts/abi.sh", "check")
        if done.returncode != 0:
            problems.append(done.stdout)
        problems += change_problems(root, Path(folder) / "tree")
    print(
        "\n".join(problems)
        or f"the C interface is the recorded one, or more; {len(CHANGES)} changes are judged rightly"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
