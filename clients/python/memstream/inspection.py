"""Looking at a cache: nothing here counts as an access or changes an entry."""

from __future__ import annotations

from ctypes import byref, c_size_t, c_uint64, sizeof
from typing import Iterator, List, Optional

from memstream import _abi
from memstream._abi import Status
from memstream._arguments import Key, encode_key, encode_prefix
from memstream.connection import Connection
from memstream.records import (
    ENTRY_FORMAT,
    Entry,
    Info,
    Process,
    Stats,
    entry_from_fields,
    info_from_struct,
    process_from_struct,
    stats_from_struct,
)

# Entries that one call of the library fills: about 140 KiB.
_SCAN_BATCH = 128

# Processes that one call lists; more of them take a second call.
_PROCESS_BATCH = 64


class Inspection(Connection):
    """What can be seen from outside."""

    def scan(self, prefix: Optional[Key] = None) -> Iterator[Entry]:
        """Walks over all live entries, in no order.

        An entry that is there during the whole walk is reported exactly once; one that comes or goes meanwhile may or
        may not be, so that a key which goes and comes back may be reported twice. Other processes go on as usual
        between batches.

        Args:
            prefix: only keys that begin with this (str in UTF-8, or bytes); None: all. No pattern: a str must not end
                in an asterisk.

        Returns:
            An iterator of copies. One iterator belongs to one thread at a time.

        Raises:
            InvalidArgument: `prefix` is a pattern.
            ClosedError, UnavailableError, CorruptError: while iterating.

        Source: memstream_scan.
        """
        return self._scan(encode_prefix(prefix))

    def _scan(self, start: bytes) -> Iterator[Entry]:
        cursor = c_uint64(0)
        count = c_size_t()
        entries = (_abi.Entry * _SCAN_BATCH)()
        while True:
            status = self._library.c.memstream_scan(self._handle, byref(cursor), entries, _SCAN_BATCH, byref(count))
            self._check(status)
            filled = memoryview(entries).cast("B")[: count.value * ENTRY_FORMAT.size]
            for fields in ENTRY_FORMAT.iter_unpack(filled):
                entry = entry_from_fields(fields)
                if entry.key.startswith(start):
                    yield entry
            if cursor.value == 0:
                return

    def entry(self, key: Key) -> Optional[Entry]:
        """Returns what is known of one entry; None if the key is not there.

        Args:
            key: str (stored as UTF-8) or bytes; 1 to 1,024 bytes.

        Raises:
            BadKey: the key is empty or too long.

        Source: memstream_entry_info.
        """
        name = encode_key(key)
        raw = _abi.Entry()
        status = self._library.c.memstream_entry_info(self._handle, name, len(name), byref(raw))
        if status == Status.MISS:
            return None
        self._check(status)
        return entry_from_fields(ENTRY_FORMAT.unpack_from(raw))

    def stats(self) -> Stats:
        """Returns counters and sizes of the whole segment, as they are now. Source: memstream_stats."""
        raw = _abi.CacheStats(struct_size=sizeof(_abi.CacheStats))
        self._check(self._library.c.memstream_stats(self._handle, byref(raw)))
        return stats_from_struct(raw)

    def info(self) -> Info:
        """Returns which segment the cache is open on. Source: memstream_info."""
        raw = _abi.Info(struct_size=sizeof(_abi.Info))
        self._check(self._library.c.memstream_info(self._handle, byref(raw)))
        return info_from_struct(raw, self.accelerated)

    def processes(self) -> List[Process]:
        """Returns the live processes that are attached, this one among them. Cleans up after those that have died.

        Source: memstream_processes.
        """
        count = c_size_t(_PROCESS_BATCH)
        while True:
            room = count.value
            processes = (_abi.Process * room)()
            self._check(self._library.c.memstream_processes(self._handle, processes, room, byref(count)))
            if count.value <= room:
                return [process_from_struct(raw) for raw in processes[: count.value]]

    def check(self) -> None:
        """Verifies every invariant of the segment. Changes nothing; writers wait shard by shard.

        Raises:
            CorruptError: the text describes the first problems.

        Source: memstream_check.
        """
        problems = c_uint64()
        self._check(self._library.c.memstream_check(self._handle, byref(problems)))
