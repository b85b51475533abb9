"""The oracle's judgement: which reads no Redis can explain.

Redis executes a write at some instant between its begin and its end. So a value was overwritten at an instant T for
certain, if a later write began after the end of the value's own write, and ended before T. A read that began at t is
wrong if

  stale       its value was overwritten before t - max_lag - clock error,
  backwards   its value was overwritten before t by a write of the same node: a node sees its own writes immediately,
  unwritten   nobody has written the value, or only later.

A write without an answer may take effect at any time later, or never: it overwrites nothing for certain. The same holds
for a write that a failover may have lost.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, Optional

from history import ABSENT, ALL_KEYS, DELETE, DOUBT, ERASE_ALL, FAILED, NEVER, READ, STRANGE, WRITE, Record

# Redis counts an expiry in milliseconds, from the instant at which it executed the write.
_EXPIRY_GRAIN = 2_000_000
_MOST_EXAMPLES = 20


class Operation(NamedTuple):
    """A write, or what removed a key."""

    begin: int
    effect_end: int  # Later it does not take effect any more.
    certain_end: int  # From then on it has taken effect for certain.
    version: int
    node: int
    ttl: int


class Verdict(NamedTuple):
    """What the oracle says of a history."""

    reads: int
    writes: int
    unknown_writes: int
    failed_reads: int
    violations: dict[str, int]
    examples: list[str]
    worst_age_ms: float
    """The greatest time between the certain end of a value and the begin of a read of it."""

    @property
    def is_clean(self) -> bool:
        return not self.violations


class _Timeline:
    """The operations of one key, to be asked when a value was overwritten at the latest."""

    def __init__(self, operations: list[Operation]) -> None:
        self._begins = [operation.begin for operation in operations]
        # Of each operation and all that began later: the earliest certain end.
        self._ends = [NEVER] * (len(operations) + 1)
        for index in range(len(operations) - 1, -1, -1):
            self._ends[index] = min(self._ends[index + 1], operations[index].certain_end)

    def overwritten_by(self, effect_end: int) -> int:
        """Returns the earliest instant at which what took effect by `effect_end` was overwritten for certain."""
        return self._ends[bisect_left(self._begins, effect_end)]


class _Key:
    """All that is known of one key."""

    def __init__(self, operations: list[Operation]) -> None:
        operations.sort()
        self._all = _Timeline(operations)
        nodes = {operation.node for operation in operations}
        self._own = {node: _Timeline([one for one in operations if one.node == node]) for node in nodes}
        self._written = {one.version: one for one in operations if one.version != ABSENT}
        # What may have made the key absent: begin, and the latest instant at which it did.
        absences = [(one.begin, one.effect_end) for one in operations if one.version == ABSENT]
        absences += [
            (one.begin + one.ttl, min(NEVER, one.effect_end + one.ttl + _EXPIRY_GRAIN))
            for one in operations
            if one.ttl and one.version != ABSENT
        ]
        absences.sort()
        self._absence_begins = [begin for begin, _ in absences]
        self._absence_ends: list[int] = []
        for _, end in absences:
            self._absence_ends.append(max(end, self._absence_ends[-1] if self._absence_ends else -1))

    def judge(self, read: Record, bound: int) -> tuple[Optional[str], int]:
        """Returns what is wrong with a read, and how many nanoseconds before it its value was overwritten."""
        expires = NEVER
        if read.version == ABSENT:
            index = bisect_left(self._absence_begins, read.end + 1)
            # -1: the key was absent before all else.
            effect_end = self._absence_ends[index - 1] if index else -1
        else:
            written = self._written.get(read.version)
            if written is None or written.begin > read.end:
                return "unwritten", 0
            effect_end = written.effect_end
            if written.ttl:
                expires = min(NEVER, effect_end + written.ttl + _EXPIRY_GRAIN)
        over = min(self._all.overwritten_by(effect_end), expires)
        age = read.begin - over
        if age > bound:
            return "stale", age
        own = self._own.get(read.node)
        if own is not None and own.overwritten_by(effect_end) < read.begin:
            return "backwards", age
        return None, age


def judge(records: Iterable[Record], max_lag: float, clock_error: float) -> Verdict:
    """Judges a history.

    Args:
        records: of all processes, in any order.
        max_lag: seconds, as the near caches were opened with.
        clock_error: seconds.
    """
    everything = _without_intentions(records)
    bound = int((max_lag + clock_error) * 1e9)
    doubts = [(one.begin, one.end) for one in everything if one.kind == DOUBT]
    common = [_operation(one, doubts) for one in everything if one.kind == ERASE_ALL]
    operations: dict[int, list[Operation]] = {}
    for one in everything:
        if one.kind in (WRITE, DELETE):
            operations.setdefault(one.key, []).append(_operation(one, doubts))
    keys = {key: _Key(own + common) for key, own in operations.items()}
    violations: Counter[str] = Counter()
    examples: list[str] = []
    counts: Counter[int] = Counter()
    unknown, worst = 0, 0
    for one in everything:
        counts[one.kind] += one.extra if one.kind in (READ, FAILED) else 1
        unknown += one.kind in (WRITE, DELETE) and one.end >= NEVER
        wrong: Optional[str] = None
        age = 0
        if one.kind == STRANGE:
            wrong = "unwritten"
        elif one.kind == READ:
            if one.key not in keys:
                keys[one.key] = _Key(list(common))
            wrong, age = keys[one.key].judge(one, bound)
            worst = max(worst, age)
        if wrong is not None:
            violations[wrong] += 1
            if len(examples) < _MOST_EXAMPLES:
                what = "nothing" if one.version == ABSENT else f"version {one.version}"
                examples.append(f"{wrong}: key {one.key}, node {one.node}, {what}, over for {age / 1e6:.1f} ms")
    return Verdict(
        reads=counts[READ],
        writes=counts[WRITE] + counts[DELETE],
        unknown_writes=unknown,
        failed_reads=counts[FAILED],
        violations=dict(violations),
        examples=examples,
        worst_age_ms=worst / 1e6,
    )


def _without_intentions(records: Iterable[Record]) -> list[Record]:
    """Returns the records, of each write the one with its end, if its writer lived to note it."""
    writes: dict[tuple[int, int], Record] = {}
    others: list[Record] = []
    for one in records:
        if one.kind not in (WRITE, DELETE):
            others.append(one)
        elif (one.key, one.version) not in writes or one.end < writes[one.key, one.version].end:
            writes[one.key, one.version] = one
    return others + list(writes.values())


def _operation(one: Record, doubts: list[tuple[int, int]]) -> Operation:
    is_doubtful = one.key != ALL_KEYS and any(begin <= one.end and one.begin <= end for begin, end in doubts)
    version, ttl = (one.version, one.extra) if one.kind == WRITE else (ABSENT, 0)
    return Operation(one.begin, one.end, NEVER if is_doubtful else one.end, version, one.node, ttl)
