"""A writer's log of what the cache has accepted, so that another process can check it, also after a kill.

One JSON line for each key: `{"key": ..., "size": ..., "sha256": ...}`, written when the store has returned and not
before. Bytes of a key that are not UTF-8 are lone surrogates in the JSON, as in Python's file names.
"""

from __future__ import annotations

import json
import os
from typing import Dict, NamedTuple


class AcknowledgementLog:
    """Appends to a log. Each line is one write(2): a kill loses none of those and leaves at most one unfinished."""

    def __init__(self, path: str) -> None:
        """Opens the log; makes it if it is absent.

        Raises:
            OSError: it cannot be opened.
        """
        self._descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            os.write(self._descriptor, b"\n")  # An earlier writer was killed in its last line.

    def append(self, key: bytes, size: int, sha256: str) -> None:
        """Notes that the cache has accepted a value of this size in bytes and this digest under `key`."""
        line = json.dumps({"key": os.fsdecode(key), "size": size, "sha256": sha256})
        os.write(self._descriptor, line.encode() + b"\n")

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)


class Acknowledged(NamedTuple):
    """What a log says."""

    digests: Dict[bytes, str]
    """The SHA-256 of the last value of each key."""
    unfinished: int
    """Lines that do not parse: their writer was killed in the middle."""


def read_log(path: str) -> Acknowledged:
    """Reads a log.

    Raises:
        OSError: it cannot be read.
    """
    digests: Dict[bytes, str] = {}
    unfinished = 0
    with open(path, "rb") as file:
        for line in file:
            try:
                record = json.loads(line)
                digests[os.fsencode(record["key"])] = str(record["sha256"])
            except (ValueError, KeyError, TypeError):
                unfinished += 1
    return Acknowledged(digests, unfinished)
