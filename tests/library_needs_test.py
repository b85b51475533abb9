#!/usr/bin/env python3
"""What libcache.so needs at run time, and that it calls no function of its own through the dynamic linker.

    library_needs_test.py LIBRARY
"""

import re
import subprocess
import sys

# The C and C++ libraries, and what a sanitizer or the coverage brings is not asked for here.
ALLOWED = {"libstdc++.so.6", "libgcc_s.so.1", "libm.so.6", "libc.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}


def read(library: str, option: str) -> str:
    return subprocess.run(["readelf", "--wide", option, library], check=True, capture_output=True, text=True).stdout


def main(library: str) -> int:
    needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", read(library, "--dynamic")))
    own_calls = re.findall(r"\b((?:cache|memstream)_\w+)", read(library, "--relocs"))
    complaints = [f"{name} would have to be there at run time" for name in sorted(needed - ALLOWED)]
    complaints += [f"{name}() is called through the dynamic linker" for name in sorted(set(own_calls))]
    print("\n".join(complaints) or f"{len(needed)} libraries are needed")
    return 1 if complaints or not needed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
