"""Storing many things in a row: what is refused is counted and named, and the rest goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from contextlib import contextmanager
from typing import Any, BinaryIO, Iterator, Optional, Tuple

from memstream.cache import Cache
from memstream.cli.acknowledgements import AcknowledgementLog
from memstream.cli.common import describe
from memstream.cli.files import SourceFile
from memstream.cli.progress import Progress
from memstream.cli.text import format_size, printable
from memstream.errors import ArgumentError, CacheGone, UnavailableError

# From this size on a file is read straight into the segment, which spares a copy and costs two more calls.
_IN_PLACE_SIZE = 64 * 1024


class _FileChanged(Exception):
    """A file has another size than a moment ago."""


def store_file(cache: Cache, file: SourceFile, ttl: Optional[float], wants_digest: bool) -> Tuple[int, str]:
    """Stores the bytes of a file under its key.

    Args:
        cache: where to.
        file: key and path.
        ttl: seconds to live; None: for ever.
        wants_digest: whether to compute the digest.

    Returns:
        The size in bytes, and the SHA-256 of what was stored, in hexadecimal; "" if it is not wanted.

    Raises:
        OSError: it cannot be read.
        MemStreamError: the cache refuses it, as `Cache.set` does.
    """
    with open(file.path, "rb") as source:
        size = os.fstat(source.fileno()).st_size
        if size >= _IN_PLACE_SIZE:
            try:
                with cache.reserve(file.key, size, ttl) as memory:
                    if source.readinto(memory) != size or source.read(1):
                        raise _FileChanged
                    return size, _digest(memory, wants_digest)
            except _FileChanged:
                source.seek(0)
        value = source.read()
    cache.set(file.key, value, ttl)
    return len(value), _digest(value, wants_digest)


def _digest(data: Any, wanted: bool) -> str:
    return hashlib.sha256(data).hexdigest() if wanted else ""


class Loader:
    """Stores one value after the other, and counts what was stored and refused.

    Attributes:
        refusals: how many things were refused, by reason.
        skipped: how many things were met that are no files; for the summary.
    """

    def __init__(
        self, cache: Cache, progress: Progress, ttl: Optional[float], log: Optional[AcknowledgementLog]
    ) -> None:
        """Begins with nothing stored.

        Args:
            cache: where to.
            progress: counts what was stored.
            ttl: seconds to live; None: for ever.
            log: gets a line for each key that the cache has accepted; None: no log.
        """
        self.refusals: "Counter[str]" = Counter()
        self.skipped = 0
        self._evictions_before = cache.stats().evictions
        self._cache = cache
        self._progress = progress
        self._ttl = ttl
        self._log = log

    def store_file(self, file: SourceFile) -> None:
        """Stores a file, or counts why not."""
        with self._refusing(file.key):
            self._accept(file.key, *store_file(self._cache, file, self._ttl, self._log is not None))

    def store_value(self, key: bytes, value: bytes) -> None:
        """Stores a value, or counts why not."""
        with self._refusing(key):
            self._cache.set(key, value, self._ttl)
            self._accept(key, len(value), _digest(value, self._log is not None))

    def store_lines(self, file: BinaryIO, field: str, prefix: bytes) -> None:
        """Stores every line of a JSON lines file, without its line end, under the value of `field`. Skips empty lines.

        Args:
            file: where to read, to its end.
            field: name of a field that holds a string or a whole number.
            prefix: put in front of every key.
        """
        for number, line in enumerate(file, start=1):
            value = line.rstrip(b"\r\n")
            if not value.strip():
                continue
            try:
                key = prefix + _key_of_line(value, field)
            except ValueError as error:
                self.refuse(f"line {number}", str(error), str(error))
            else:
                self.store_value(key, value)

    def refuse(self, what: str, reason: str, detail: str) -> None:
        """Counts and names something that was not stored."""
        self.refusals[reason] += 1
        self._progress.say(f"refused {what}: {detail}")

    def summary(self) -> str:
        """Returns what was refused and why, and in the last line what was done: count, bytes, rate."""
        done, noun, took = self._progress, self._progress.noun, self._progress.seconds
        lines = []
        if self.skipped:
            lines.append(f"skipped {self.skipped}: no files (dangling links, sockets, FIFOs, devices)")
        if self.refusals:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.refusals.most_common())
            lines.append(f"refused {sum(self.refusals.values())}: {reasons}")
        if self._evictions():
            lines.append(f"evicted {self._evictions()} entries meanwhile: the cache is too small for all of it")
        lines.append(
            f"stored {done.count} {noun}, {format_size(done.size_bytes)} ({done.size_bytes} bytes) in {took:.2f} s: "
            f"{format_size(done.size_bytes / took)}/s, {done.count / took:.0f} {noun}/s"
        )
        return "\n".join(lines)

    def _evictions(self) -> int:
        """Returns how many entries were evicted since the beginning; 0 if the cache has gone."""
        try:
            return self._cache.stats().evictions - self._evictions_before
        except CacheGone:
            return 0

    def _accept(self, key: bytes, size: int, sha256: str) -> None:
        if self._log is not None:
            self._log.append(key, size, sha256)
        self._progress.add(size)

    @contextmanager
    def _refusing(self, key: bytes) -> Iterator[None]:
        """Counts what keeps this one key from being stored; a cache that is gone or corrupt ends the whole load."""
        try:
            yield
        except CacheGone:
            raise
        except (ArgumentError, UnavailableError) as error:
            self.refuse(printable(key), type(error).__name__, describe(error))
        except OSError as error:
            self.refuse(printable(key), error.strerror or type(error).__name__, describe(error))


def _key_of_line(line: bytes, field: str) -> bytes:
    """Returns the value of `field` in a line of JSON; raises ValueError, with the reason, if it cannot be a key."""
    try:
        record = json.loads(line)
    except ValueError:
        raise ValueError("not JSON") from None
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    key = record.get(field)
    if isinstance(key, bool) or not isinstance(key, (str, int)):
        raise ValueError(f"no string or whole number in field {field!r}")
    return os.fsencode(str(key))
