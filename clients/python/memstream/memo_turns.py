"""Whose turn it is to compute a result: one call does, the others wait for it.

A call that was told that another one has the lease follows that lease to its end. When it ended with a value, the value
is there. When it ended without one, all that have followed it compute now: one of them has the next lease, and the
others would only wait in a row. When its holder died, one of them takes over and the others follow that one.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from ctypes import byref, c_uint64
from typing import Any, NamedTuple, Optional, Tuple
from weakref import WeakValueDictionary

from memstream._core.abi import Status
from memstream._core.arguments import milliseconds
from memstream._core.errors import CacheGone
from memstream._core.waiting import LONGEST_SLICE, cooperative_sleep, coroutine_sleep, pauses
from memstream.leases import Lease
from memstream.memo_results import Result, ResultCache, Results


class Strand(NamedTuple):
    """Who runs: a thread, and the task or greenlet in it."""

    thread: threading.Thread
    task: Any

    @property
    def has_ended(self) -> bool:
        """Whether nothing runs there any more, and nothing will."""
        task = self.task
        if isinstance(task, asyncio.Task):
            return task.done() or task.get_loop().is_closed()
        return getattr(task, "dead", False) is True or not self.thread.is_alive()


def current_strand() -> Strand:
    """Returns the strand that calls."""
    return Strand(threading.current_thread(), _current_task())


def _current_task() -> Any:
    if asyncio._get_running_loop() is not None:
        return asyncio.current_task()
    if "trio" in sys.modules:
        try:
            return sys.modules["trio"].lowlevel.current_task()
        except RuntimeError:  # This thread runs no trio.
            pass
    greenlet = sys.modules.get("greenlet")
    return None if greenlet is None else greenlet.getcurrent()


# The turns of this process that have a lease, by key and number of the lease: to know those that nobody will end.
_holders: "WeakValueDictionary[Tuple[bytes, int], Turn]" = WeakValueDictionary()


class Turn:
    """One call that has found no fresh result.

    Attributes:
        lease: what the caller has to give back, whatever happens.
        found: the result that it found, if any.
        computes: whether it computes; with the lease, or without one.
    """

    def __init__(self, results: Results, key: bytes, found: Optional[Result]) -> None:
        self._cache = results.cache
        self.lease = Lease(self._cache, key)
        self.found = found
        self.computes = False
        self._results = results
        self._key = key
        self._strand: Optional[Strand] = None
        self._waits_no_more = False
        self._lease_ms = milliseconds(results.options.lease)
        self._followed = c_uint64()

    def is_settled(self) -> bool:
        """Asks for the lease. Returns whether the call knows what to do: to compute, or to take what it has found."""
        status: int = Status.EXISTS
        while status == Status.EXISTS:
            found = self.found
            if found is not None and found.is_fresh:
                return True
            try:
                status = self.lease._ask(0 if found is None else found.token, self._lease_ms)
            except CacheGone:
                self._start_over()
                continue
            if status == Status.EXISTS:  # Another result than the one that was found, if any.
                self.found = self._results.look(self._key)
        if status == Status.OK:
            self._strand = current_strand()
            _holders[self._key, self.lease.token] = self
            self.computes = True
        elif found is not None and found.is_readable:
            return True  # It is stale, or will end soon, and another caller computes it again.
        else:
            self.computes = self._waits_no_more
        return self.computes

    def wait(self) -> None:
        """Waits for the holder of the lease, and looks at the result."""
        sleep = cooperative_sleep()
        for pause in pauses(self._results.options.wait, LONGEST_SLICE if sleep is None else None):
            if self._is_over(0 if sleep is not None else pause):
                return
            if sleep is not None:
                sleep(pause)
        self._waits_no_more = True

    async def wait_in_task(self) -> None:
        """As `wait`, while other tasks run."""
        sleep = coroutine_sleep()
        for pause in pauses(self._results.options.wait):
            if self._is_over(0):
                return
            await sleep(pause)
        self._waits_no_more = True

    def _is_over(self, seconds: float) -> bool:
        """Follows the lease for a while. Returns whether its holder is to be waited for no longer."""
        connection, key = self._cache._connection, self._key
        function = connection.library.c.memstream_lease_follow
        status = function(connection.handle, key, len(key), byref(self._followed), int(seconds * 1000))
        if status == Status.HELD:
            self._look_at_holder()
            return False
        if status == Status.GONE:
            self._start_over()
            return True
        if status not in (Status.OK, Status.MISS):
            connection.fail(status)
        self._waits_no_more = bool(status == Status.OK)
        self._followed.value = 0
        self.found = self._results.look(key)
        return True

    def _look_at_holder(self) -> None:
        """Looks for a holder in this process: one that will never end, or the caller itself."""
        holder = _holders.get((self._key, self._followed.value))
        if holder is None or holder._strand is None or not _is_one_segment(holder._cache, self._cache):
            return
        if holder._strand == current_strand():
            raise RuntimeError(
                f"{self._results.name} needs its own result for the same arguments, so it would wait for itself: "
                "call it with other arguments, or its __wrapped__"
            )
        if holder._strand.has_ended:
            holder.lease.give_back(None)

    def _start_over(self) -> None:
        """Goes on with another cache, if there is one in place of that which was destroyed."""
        if not self._results.renew(self._cache):
            self._cache._connection.fail(Status.GONE)
        self._cache = self._results.cache
        self.lease = Lease(self._cache, self._key)
        self.found = None
        self._followed.value = 0


def _is_one_segment(one: ResultCache, other: ResultCache) -> bool:
    return one is other or one.info().uuid == other.info().uuid
