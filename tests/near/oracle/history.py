"""What happened in a run: records that processes append to files of their own, and what may have been true when.

A record is complete or absent, also if its process is killed: it is written by one call, and a part of one is ignored.
All instants are of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO, Iterator, NamedTuple, Optional

# Kinds of records.
WRITE = 1  # version, ttl_ns in `extra`; end NEVER: nobody knows whether and when Redis executed it
DELETE = 2
ERASE_ALL = 3  # of all keys: FLUSHALL, a Redis that starts without its data
READ = 4  # reads in a row of one version: begin of the last, end of the first; `extra`: how many
FAILED = 5  # `extra` calls that Redis did not answer
STRANGE = 6  # a value that is not whole, or of another key
DOUBT = 7  # what was written between begin and end may be lost: a failover

ABSENT = 0
ALL_KEYS = 0xFFFF
NO_NODE = -1
NEVER = 2**62

_RECORD = struct.Struct("<BbHIqqq")


class Record(NamedTuple):
    """One line of a history."""

    kind: int
    node: int  # Which near cache; NO_NODE: a client of Redis alone.
    key: int
    version: int
    begin: int
    end: int
    extra: int


class Recorder:
    """Appends the records of one process. Reads of one value in a row become one record."""

    def __init__(self, path: Path, node: int) -> None:
        self._file: BinaryIO = path.open("ab", buffering=0)
        self._node = node
        # Of each key: version, begin of the last read, end of the first, how many.
        self._runs: dict[int, tuple[int, int, int, int]] = {}

    def add(self, kind: int, key: int, version: int, begin: int, end: int, extra: int = 0) -> None:
        self._file.write(_RECORD.pack(kind, self._node, key, version, begin, end, extra))

    def read(self, key: int, version: int, begin: int, end: int) -> None:
        run = self._runs.get(key)
        # Between two reads of nothing there may have been a value: they are not one run.
        if run is None or run[0] != version or version == ABSENT:
            if run is not None:
                self._end_run(key, run)
            self._runs[key] = (version, begin, end, 1)
        else:
            self._runs[key] = (version, begin, run[2], run[3] + 1)

    def flush(self) -> None:
        runs, self._runs = self._runs, {}
        for key, run in runs.items():
            self._end_run(key, run)

    def _end_run(self, key: int, run: tuple[int, int, int, int]) -> None:
        version, begin, end, count = run
        self.add(READ, key, version, begin, end, count)


def records_of(folder: Path) -> Iterator[Record]:
    """Gives all records of all processes, in no order."""
    for path in sorted(folder.glob("*.records")):
        data = path.read_bytes()
        for fields in _RECORD.iter_unpack(data[: len(data) // _RECORD.size * _RECORD.size]):
            yield Record(*fields)


def make_value(key: int, version: int) -> bytes:
    """Returns the value of a version: it says what it is, and whether it is whole."""
    head = b"%d:%d:" % (key, version)
    body = head + b"x" * (version * 37 % 200)
    return body + b":%08x" % zlib.crc32(body)


def version_in(key: int, value: Optional[bytes]) -> Optional[int]:
    """Returns the version of a value, ABSENT for none; None if it is not one of this key."""
    if value is None:
        return ABSENT
    body, _, checksum = value.rpartition(b":")
    parts = body.split(b":")
    if len(parts) != 3 or checksum != b"%08x" % zlib.crc32(body) or parts[0] != b"%d" % key:
        return None
    return int(parts[1])
