"""What is stored, which keys are asked for, and whether what comes back is right."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

BATCH = 100
VARIANTS = 2
# So much is got between two looks at the clock: many small values, so that the clock does not count, and not more bytes
# than the processor's caches hold.
CHUNK = 64
CHUNK_BYTES = 256 * 1024
# So much is stored at most, by every contender at the same time: more than the processor's caches hold.
MOST_BYTES = 128 * 1024 * 1024
MOST_QUICK_BYTES = 8 * 1024 * 1024
LEAST_KEYS = 8
SIZES = (64, 1024, 64 * 1024, 4 * 1024 * 1024)


class WrongValue(Exception):
    """A contender gave something else than what was stored."""


def size_name(size: int) -> str:
    """Returns bytes as people say them: "64 B", "1 KiB"."""
    for unit, name in ((1024 * 1024, "MiB"), (1024, "KiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size} B"


class DataSet:
    """Keys, and two values for each of them: what a contender is filled with, and what `set` alternates with.

    Keys and values are made when they are asked for, as those of a program are that has just received or computed them:
    they are in the processor's caches, and what is measured is the store.

    Attributes:
        size: of every value, in bytes.
        count: of the keys, which are numbered from 0.
    """

    def __init__(self, size: int, count: int) -> None:
        self.size = size
        self.count = count

    def key(self, number: int) -> bytes:
        """The key of that number."""
        return b"user:%08d" % number

    def value(self, number: int, variant: int) -> bytes:
        """One of the two values of that key."""
        pattern = hashlib.sha256(b"%d:%d" % (number, variant)).digest()
        return (pattern * (self.size // len(pattern) + 1))[: self.size]

    def pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys with the first of their values, for filling."""
        return ((self.key(number), self.value(number, 0)) for number in range(self.count))

    def check(self, number: int, value: Any, variant: int | None = None) -> None:
        """Raises WrongValue unless `value` was stored under this key: the variant, or any of them for None."""
        if value is None:
            raise WrongValue(f"{self.key(number)!r} is missing")
        allowed = range(VARIANTS) if variant is None else (variant,)
        if not any(value == self.value(number, each) for each in allowed):
            raise WrongValue(f"{self.key(number)!r} has a value of {len(value)} bytes that nobody stored under it")


def make_data(size: int, quick: bool) -> DataSet:
    """Makes 100,000 keys (10,000 for `quick`), or as many as the bytes allow."""
    most = (MOST_QUICK_BYTES if quick else MOST_BYTES) // size
    return DataSet(size, max(LEAST_KEYS, min(10_000 if quick else 100_000, most)))


class Write(NamedTuple):
    """A value to be stored."""

    number: int
    key: bytes
    value: bytes
    variant: int


class Draws:
    """Keys drawn uniformly, in advance: drawing costs more than getting. Each worker has its own."""

    _LENGTH = 1 << 15

    def __init__(self, data: DataSet, worker: int) -> None:
        self._data = data
        self._random = random.Random(worker)
        self.chunk = max(1, min(CHUNK, CHUNK_BYTES // data.size))
        self._drawn = [self._random.randrange(data.count) for _ in range(self._LENGTH)]
        self._position = 0

    def numbers(self, count: int | None = None) -> list[int]:
        """The next chunk, or so many."""
        count = self.chunk if count is None else count
        if self._position + count > self._LENGTH:
            self._position = 0
        begin, self._position = self._position, self._position + count
        return self._drawn[begin : self._position]

    def batch(self) -> list[int]:
        """A hundred different ones, or all there are."""
        count = self._data.count
        return self._random.sample(range(count), min(BATCH, count))

    def writes(self) -> list[Write]:
        """The next chunk, with what is to be stored."""
        return list(self._writes_of(self.numbers()))

    def mix(self) -> list[tuple[int, bytes, Write | None]]:
        """The next chunk, of which one in twenty is to be stored and the others to be got."""
        return [(write.number, write.key, write if self._random.random() < 0.05 else None) for write in self.writes()]

    def _writes_of(self, numbers: list[int]) -> Iterator[Write]:
        data = self._data
        for number in numbers:
            variant = self._random.randrange(VARIANTS)
            yield Write(number, data.key(number), data.value(number, variant), variant)
