#!/usr/bin/env python3
"""Configures the tree for systems where MemStream does not run: CMake has to say why in one sentence, and to stop.

    platform_test.py ROOT

Exit code 77: no compiler for one of them is here; the last line says which. What can be tried is tried before.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SKIPPED = 77
# A system, the compilers and options for it, and what has to be said.
CASES = (
    ("32 bit", ("gcc", "g++"), "-m32", "MemStream supports 64-bit systems only"),
    ("musl", ("musl-gcc", "g++"), "", "MemStream supports glibc only"),
)


def refusal(root: Path, compilers: tuple[str, str], flags: str) -> str:
    """What CMake says, in one line; "" if it configures the tree."""
    with tempfile.TemporaryDirectory() as folder:
        options = [f"-DCMAKE_C_COMPILER={compilers[0]}", f"-DCMAKE_CXX_COMPILER={compilers[1]}"]
        # Without libraries for it, nothing is linked.
        options += [f"-DCMAKE_C_FLAGS={flags}", f"-DCMAKE_CXX_FLAGS={flags}"]
        options += ["-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY", "-DMEMSTREAM_BUILD_TESTS=OFF"]
        done = subprocess.run(
            ["cmake", "-S", str(root), "-B", folder, "-G", "Ninja", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    return " ".join(done.stdout.split()) if done.returncode else ""


def main() -> int:
    root = Path(sys.argv[1]).resolve()
    wrong, absent = 0, []
    for name, compilers, flags, expected in CASES:
        if any(shutil.which(compiler) is None for compiler in compilers):
            absent.append(name)
            continue
        said = refusal(root, compilers, flags)
        if expected not in said:
            print(f"{name}: expected '{expected}', CMake says: {said[-500:] or 'nothing'}")
            wrong += 1
    print(f"{len(CASES) - len(absent)} systems refused as they should be, {wrong} not; no compiler for {absent}")
    return 1 if wrong else SKIPPED if absent else 0


if __name__ == "__main__":
    sys.exit(main())
