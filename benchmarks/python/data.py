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
# So much is stored at most, by every contender at the same time.
MOST_BYTES = 32 * 1024 * 1024
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

    Attributes:
        size: of every value, in bytes.
        keys: all of them, as bytes.
        values: by variant and number of the key.
    """

    def __init__(self, size: int, count: int) -> None:
        self.size = size
        self.keys = [b"user:%08d" % number for number in range(count)]
        self.values = [[self._value(number, variant) for number in range(count)] for variant in range(VARIANTS)]

    def _value(self, number: int, variant: int) -> bytes:
        pattern = hashlib.sha256(b"%d:%d" % (number, variant)).digest()
        return (pattern * (self.size // len(pattern) + 1))[: self.size]

    def check(self, number: int, value: Any, variant: int | None = None) -> None:
        """Raises WrongValue unless `value` was stored under this key: the variant, or any of them for None."""
        allowed = [self.values[variant][number]] if variant is not None else [each[number] for each in self.values]
        if value is None:
            raise WrongValue(f"{self.keys[number]!r} is missing")
        if not any(value == each for each in allowed):
            raise WrongValue(f"{self.keys[number]!r} has a value of {len(value)} bytes that nobody stored under it")


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
        count = len(data.keys)
        self.chunk = max(1, min(CHUNK, CHUNK_BYTES // data.size))
        self._drawn = [self._random.randrange(count) for _ in range(self._LENGTH)]
        self._position = 0

    def numbers(self) -> list[int]:
        """The next chunk."""
        if self._position + self.chunk > self._LENGTH:
            self._position = 0
        begin, self._position = self._position, self._position + self.chunk
        return self._drawn[begin : self._position]

    def batch(self) -> list[int]:
        """A hundred different ones, or all there are."""
        count = len(self._data.keys)
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
            yield Write(number, data.keys[number], data.values[variant][number], variant)
