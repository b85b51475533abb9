#!/usr/bin/env python3
"""A get through memstream.hpp takes few instructions more than memstream_get().

    cpp_cost_test.py PROGRAM

PROGRAM is cpp_cost. Exit code 0: true; 1: it takes more; 77: there is no Valgrind.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Instructions beside those of memstream_get(), which takes about 360 with what it calls.
LIMIT = 10.0
SKIPPED = 77


def instructions(program: str) -> dict[str, float]:
    """Instructions for each get, by the name of the dump."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/dump", program]
        gets = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        found = {}
        for file in Path(folder).glob("dump*"):
            text = file.read_text(encoding="utf-8")
            trigger = re.search(r"^desc: Trigger: Client Request: (\w+)$", text, re.MULTILINE)
            total = re.search(r"^totals: (\d+)", text, re.MULTILINE)
            if trigger and total:
                found[trigger[1]] = int(total[1]) / gets
    return found


def main() -> int:
    if shutil.which("valgrind") is None:
        print("skipped: valgrind is not installed")
        return SKIPPED
    found = instructions(sys.argv[1])
    more = found["cpp"] - found["c"]
    print(
        f"a get takes {found['c']:.1f} instructions in C and {found['cpp']:.1f} in C++; {LIMIT:.0f} more are the limit"
    )
    return 0 if found["c"] > 100 and more <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
