"""What is timed. One pass of each loop is one chunk: its time is what counts, its results are checked after that.

The rate of a round is that of the median chunk. A chunk takes microseconds to milliseconds, so on a busy machine most
of them run from begin to end without the processor being taken away, and one that did not does not count for a
thousand others. `mean_rate` counts everything.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from contender import Session
from data import DataSet, Draws, WrongValue

_now = time.perf_counter_ns
LEAST_CHUNKS = 5
# Of what has to be released nothing is copied, so a chunk is as long for large values as for small ones; and it is
# what a process may hold in place at a time.
HELD_AT_ONCE = 64


class Rate(NamedTuple):
    """Keys a second: of the median chunk, and all in all."""

    rate: float
    mean_rate: float


class Chunk(NamedTuple):
    """What one pass came to."""

    keys: int
    ns: int


class Worker:
    """A session with the keys that one worker draws.

    Attributes:
        alone: nobody else writes: what was stored last must be there.
    """

    def __init__(self, session: Session, data: DataSet, draws: Draws) -> None:
        self._session = session
        self._data = data
        self._draws = draws
        self.alone = True

    def offers(self, operation: str) -> bool:
        """Returns whether the session can do it."""
        if operation == "get_many":
            return self._session.get_many is not None
        return operation == "get" or self._session.set is not None

    def run(self, operation: str, seconds: float) -> Rate:
        """Repeats an operation for so long.

        Raises:
            WrongValue: something came back that is not right.
        """
        step: Callable[[], Chunk] = getattr(self, f"_{operation}")
        times: list[float] = []
        end = _now() + int(seconds * 1e9)
        while len(times) < LEAST_CHUNKS or _now() < end:
            chunk = step()
            times.append(chunk.ns / chunk.keys)
        return Rate(1e9 / statistics.median(times), 1e9 * len(times) / sum(times))

    def _get(self) -> Chunk:
        session = self._session
        get, release = session.get, session.release
        numbers = self._draws.numbers(None if release is None else HELD_AT_ONCE)
        keys = [self._data.key(number) for number in numbers]
        if len(keys) == 1:
            # Comparing the last value has filled the caches with it, and a chunk of one has nobody to warm them.
            self._warm_up()
        start = _now()
        values = [get(key) for key in keys]
        took = _now() - start
        for number, value in zip(numbers, values):
            self._check(number, value)
        if release is not None:
            start = _now()
            for value in values:
                release(value)
            took += _now() - start
        return Chunk(len(keys), took)

    def _set(self) -> Chunk:
        store = self._session.set
        assert store is not None
        writes = self._draws.writes()
        pairs = [(write.key, write.value) for write in writes]
        start = _now()
        for key, value in pairs:
            store(key, value)
        took = _now() - start
        # The last one of the chunk is there, and it is the new one.
        last = writes[-1]
        self._look(last.number, last.variant if self.alone else None)
        return Chunk(len(pairs), took)

    def _get_many(self) -> Chunk:
        get_many = self._session.get_many
        assert get_many is not None
        numbers = self._draws.batch()
        keys = [self._data.key(number) for number in numbers]
        start = _now()
        result = get_many(keys)
        took = _now() - start
        found = self._session.pairs(result, keys)
        if len(found) > len(keys):
            raise WrongValue(f"{len(found)} values came of {len(keys)} keys")
        for number, key in zip(numbers, keys):
            self._check(number, found.get(key))
        return Chunk(len(keys), took)

    def _mix(self) -> Chunk:
        session = self._session
        get, store, release = session.get, session.set, session.release
        assert store is not None and release is None
        operations = self._draws.mix()
        steps = [(key, None if write is None else write.value) for _, key, write in operations]
        values = []
        start = _now()
        for key, value in steps:
            if value is None:
                values.append(get(key))
            else:
                store(key, value)
        took = _now() - start
        got = (number for number, _, write in operations if write is None)
        for number, value in zip(got, values):
            self._check(number, value)
        return Chunk(len(steps), took)

    def _check(self, number: int, value: object, variant: int | None = None) -> None:
        self._data.check(number, None if value is None else self._session.bytes_of(value), variant)

    def _warm_up(self) -> None:
        self._session.get(self._data.key(self._draws.numbers()[0]))

    def _look(self, number: int, variant: int | None) -> None:
        value = self._session.get(self._data.key(number))
        self._check(number, value, variant)
        if self._session.release is not None:
            self._session.release(value)


def operations_of(size: int) -> Iterator[str]:
    """What is measured with values of this size: a hundred of 4 MiB are no cache's daily work."""
    yield from ("get", "set", "mix")
    if size < 1024 * 1024:
        yield "get_many"
