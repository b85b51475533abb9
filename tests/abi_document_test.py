#!/usr/bin/env python3
"""Holds docs/abi.md against the headers and the library.

    abi_document_test.py ROOT LIBRARY

Its table of statuses has to list the constants of api/cache.h, no more and no less, with the sentences that
cache_strerror() gives; its examples have to build without a warning and to print "value".
"""

import ctypes
import os
import re
import sys
import tempfile
from pathlib import Path

from readme_test import BLOCK, run_example

CONSTANT = re.compile(r"^ +(CACHE_[A-Z_]+) = (-?\d+)", re.MULTILINE)
ROW = re.compile(r"^\| (-?\d+) \| `(CACHE_[A-Z_]+)` \| (.+) \|$", re.MULTILINE)


def main() -> int:
    root, library = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    os.environ["MEMSTREAM_NAME"] = f"abi-document-{os.getpid()}"
    document = (root / "docs/abi.md").read_text(encoding="utf-8")
    libcache = ctypes.CDLL(str(library))
    libcache.cache_strerror.restype = ctypes.c_char_p

    constants = CONSTANT.findall((root / "api/cache.h").read_text(encoding="utf-8"))
    declared = [(number, name, libcache.cache_strerror(int(number)).decode()) for name, number in constants]
    listed = ROW.findall(document)
    wrong = sorted(set(declared) ^ set(listed))
    for row in wrong:
        print(f"{'only declared' if row in declared else 'only in docs/abi.md'}: {row}")

    examples = BLOCK.findall(document)
    with tempfile.TemporaryDirectory() as folder:
        try:
            printed = [run_example(language, text, root, library, Path(folder)) for language, text in examples]
        finally:
            destroyed = libcache.cache_destroy()
    print(f"{len(listed)} statuses, {len(examples)} examples printed {printed}, destroyed: {destroyed}")
    is_good = not wrong and declared and printed == ["value\n"] * len(examples) and examples and destroyed == 0
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
