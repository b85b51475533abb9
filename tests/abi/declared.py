#!/usr/bin/env python3
"""Makes a library of what the public headers declare, with debug information of that alone, for abidw and abidiff.

    declared.py HEADERS LIBRARY

HEADERS is a folder with the headers. The functions have no use: each one traps. Debug information of the real libraries
would describe the engine too, ten times as much.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

FUNCTION = re.compile(r"^CACHE_API ([^;]+?\b(\w+)\([^;]*\));", re.MULTILINE)


def main() -> int:
    folder, library = Path(sys.argv[1]), Path(sys.argv[2])
    lines, bodies = [], []
    for header in sorted(folder.glob("*.h")):
        lines.append(f'#include "{header.name}"\n')
        for declaration, name in FUNCTION.findall(header.read_text(encoding="utf-8")):
            bodies.append(
                f'#undef {name}\n__attribute__((visibility("default"))) {declaration} {{ __builtin_trap(); }}\n'
            )
    with tempfile.TemporaryDirectory() as work:
        source = Path(work) / "declared.c"
        source.write_text("".join(lines + bodies), encoding="utf-8")
        flags = ["-std=c11", "-g", "-w", "-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-soname,libcache.so.1"]
        subprocess.run(["cc", *flags, "-I", str(folder), str(source), "-o", str(library)], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
