#!/usr/bin/env python3
"""Compares the declarations of clients/lua/memstream_cdef.lua with those of api/*.h.

LuaJIT believes what it is told: a field at another place would be read without a complaint. Exit code 0: each
declaration stands in a header word by word; 1: the ones that do not.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADERS = ("api/cache.h", "api/memstream.h", "api/memstream_options.h")


def words(text: str) -> str:
    """Text without comments, with one blank between words and none around signs."""
    text = re.sub(r"/\*.*?\*/|\bCACHE_API\b", " ", text, flags=re.DOTALL)
    return re.sub(r"\s*([^\w\s])\s*", r"\1", re.sub(r"\s+", " ", text)).strip()


def declarations(text: str) -> list[str]:
    """The declarations of a C text without comments, each up to the semicolon behind its last brace."""
    return [words(part) for part in re.findall(r"[^;{}]+(?:\{[^}]*\}[^;]*)?;", text)]


def differences(cdef: str, headers: str) -> list[str]:
    known = words(headers)
    found = declarations(cdef)
    if len(found) < 30:
        return [f"only {len(found)} declarations were found"]
    return [declaration for declaration in found if declaration not in known]


def main() -> int:
    cdef = re.search(r"\[\[(.*)\]\]", (ROOT / "clients/lua/memstream_cdef.lua").read_text(encoding="utf-8"), re.DOTALL)
    assert cdef is not None
    headers = "\n".join((ROOT / header).read_text(encoding="utf-8") for header in HEADERS)
    # A planted difference of each kind must be found.
    for wrong in (("uint32_t mode", "uint64_t mode"), ("size_t key_size, uint64_t ttl_ms", "size_t key_size")):
        assert differences(cdef[1].replace(*wrong, 1), headers), wrong
    problems = differences(cdef[1], headers)
    for problem in problems:
        print(f"clients/lua/memstream_cdef.lua: no header declares {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
