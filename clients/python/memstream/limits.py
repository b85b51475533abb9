"""Rate limits, semaphores and locks among all processes of a cache. What a dead process holds is free soon."""

from __future__ import annotations

from ctypes import byref, c_size_t, c_uint64, sizeof
from typing import List, Optional, Protocol

from memstream._core import abi
from memstream._core.abi import Status
from memstream._core.arguments import Duration, Key, check_range, encode_key, milliseconds, seconds
from memstream._core.blocks import EndedByBlock
from memstream._core.connection import Connection
from memstream._core.ownership import Owned, all_owned
from memstream._core.records import LockHolder, Usage, lock_holder_from_struct, usage_from_struct
from memstream._core.waiting import LONGEST_SLICE, cooperative_sleep, pauses


class PermitOwner(Protocol):
    """What a permit needs of its Cache."""

    _connection: Connection


class Permit(Owned):
    """One permit of a semaphore, or none yet. Any thread of the process may give it back."""

    def __init__(self, cache: PermitOwner, name: bytes) -> None:
        """Makes a permit that nobody has granted yet."""
        self.cache = cache
        self._connection = connection = cache._connection
        self._name = name
        self._word = c_uint64()  # 0: there is none, or it was given back.
        give_back = connection.library.ends["memstream_semaphore_release"]
        super().__init__(give_back, connection.handle, name, len(name), self._word)

    def _ask(self, permits: int, wait: float) -> bool:
        """Asks the library for the permit, and waits for a slice at most. Returns whether this has it."""
        connection, name = self._connection, self._name
        function = connection.library.c.memstream_semaphore_acquire
        status: int = function(connection.handle, name, len(name), permits, int(wait * 1000), byref(self._word))
        if status not in (Status.OK, Status.HELD):
            connection.fail(status)
        return bool(status == Status.OK)

    def _end(self) -> None:
        """Gives it back. Doing so twice is fine."""
        status = self.give_back(None) if self._word.value and self.is_ours else Status.CONFLICT
        self._word.value = 0
        if status != Status.CONFLICT:
            self._connection.check(status)


class Semaphore(EndedByBlock):
    """Permits that all processes of a cache share. Made by `Cache.semaphore` and `Cache.lock`.

    A permit belongs to this process: its end in any way, and that of its cache, frees the permit within 100 ms. A
    stopped process keeps it. Threads may share one object. A thread that ends leaves its permits to its process. A
    child of fork has none of them.

    Attributes:
        name: what all processes call it.
        permits: how many there are in total.
    """

    def __init__(self, cache: PermitOwner, name: Key, permits: int, timeout: Optional[Duration]) -> None:
        """Makes the object; takes nothing yet."""
        self.name = encode_key(name, "name")
        if timeout is not None:
            milliseconds(timeout, "timeout")  # Refuses what is no time before somebody waits.
        self.permits = check_range("permits", permits, 1, 65535)
        self._cache = cache
        self._timeout = timeout
        self._has: List[Permit] = []

    def acquire(self, timeout: Optional[Duration] = None, blocking: bool = True) -> bool:
        """Takes a permit, and waits for one. There is no queue.

        Signals are handled meanwhile. Under gevent and eventlet the other greenlets of the thread go on.

        Args:
            timeout: seconds, above 0; None: as long as it takes.
            blocking: False: only try.

        Returns:
            Whether it was taken.

        Raises:
            InvalidArgument: the segment is smaller than 16 MiB.
            UnavailableError: as for `Cache.get`; CacheFull: too many processes hold permits.

        Source: memstream_semaphore_acquire.
        """
        permit = Permit(self._cache, self.name)
        try:
            if not self._wait_for(permit, timeout, blocking):
                return False
            self._has.append(permit)
        except BaseException:  # A signal handler's, for instance. Its traceback may outlive it, and keep the permit.
            permit._end()
            raise
        return True

    def _wait_for(self, permit: Permit, timeout: Optional[Duration], blocking: bool) -> bool:
        if timeout is not None:
            milliseconds(timeout, "timeout")  # Refuses what is no time.
        if permit._ask(self.permits, 0):
            return True
        if not blocking:
            return False
        sleep = cooperative_sleep()
        for pause in pauses(seconds(timeout, "timeout"), LONGEST_SLICE if sleep is None else None):
            if permit._ask(self.permits, 0 if sleep is not None else pause):
                return True
            if sleep is not None:
                sleep(pause)
        return permit._ask(self.permits, 0)

    def release(self) -> None:
        """Gives back a permit that this object has taken, in any thread. Source: memstream_semaphore_release.

        Raises:
            RuntimeError: this object has none.
        """
        try:
            permit = self._has.pop()
        except IndexError:
            raise RuntimeError("Cannot release a permit that was not acquired. Acquire it first") from None
        permit._end()

    def held(self) -> int:
        """Counts the permits that living processes hold.

        Returns:
            The number, which other processes may change at any moment.

        Raises:
            InvalidArgument: the segment is smaller than 16 MiB.

        Source: memstream_semaphore_held.
        """
        connection, held = self._cache._connection, c_uint64()
        function = connection.library.c.memstream_semaphore_held
        connection.check(function(connection.handle, self.name, len(self.name), byref(held)))
        return held.value

    def locked(self) -> bool:
        """Tells whether no permit is free.

        Returns:
            Whether all are held.

        Source: memstream_semaphore_held.
        """
        return self.held() >= self.permits

    def __enter__(self) -> "Semaphore":
        if not self.acquire(self._timeout):
            raise TimeoutError(
                f"All {self.permits} permits of {self.name!r} were held for {self._timeout} s. Give it a longer timeout"
            )
        return self

    def _end_block(self) -> None:
        self.release()


class CacheLimits:
    """What a Cache does for limits, and what of them is in use: they share nothing with its values. A segment of at
    least 16 MiB has them."""

    __slots__ = ()

    _connection: Connection

    def limit(self, key: Key, rate: int, period: Duration = 1, burst: Optional[int] = None) -> float:
        """Asks whether a request of a key may go on now, and counts it if so.

            wait = cache.limit("user:7", rate=100, period=60)
            if wait:
                raise TooManyRequests(retry_after=wait)

        The key may be used `rate` times in each period, evenly, and `burst` times together after a pause. In any period
        at most `rate` + `burst` requests go on. It has nothing to do with a value of the same key.

        Args:
            key: what is limited.
            rate: requests in each period. All callers of a key should pass the same numbers.
            period: seconds, or a timedelta.
            burst: requests that may go on together; None: as many as `rate`.

        Returns:
            0.0: the request may go on. Otherwise the seconds to wait before the next try; it is not counted then.

        Raises:
            InvalidArgument: a number is out of range, or the segment is smaller than 16 MiB.
            BadKey: as for `get`.
            CacheFull: too many keys have used up a part of their rate. The request is not counted.
            UnavailableError: as for `set`.

        Source: memstream_limit.
        """
        connection, name, wait = self._connection, encode_key(key), c_uint64()
        rate = check_range("rate", rate, 1, 2**63 - 1)
        most = rate if burst is None else check_range("burst", burst, 1, 2**63 - 1)
        length = milliseconds(period, "period")
        function = connection.library.c.memstream_limit
        status = function(connection.handle, name, len(name), rate, length, most, byref(wait))
        if status not in (Status.OK, Status.HELD):
            connection.fail(status)
        return wait.value / 1000

    def reset_limit(self, key: Key) -> bool:
        """Makes a key as if it was never used.

        Args:
            key: as for `limit`.

        Returns:
            Whether a part of its rate was used up.

        Raises:
            BadKey, InvalidArgument, UnavailableError: as for `limit`.

        Source: memstream_limit_reset.
        """
        connection, name = self._connection, encode_key(key)
        return connection.is_there(connection.library.c.memstream_limit_reset(connection.handle, name, len(name)))

    def semaphore(self, name: Key, permits: int, timeout: Optional[Duration] = None) -> Semaphore:
        """Makes a semaphore that all processes of the cache share.

            with cache.semaphore("reports", permits=3):
                ...

        Args:
            name: what all processes call it; it has nothing to do with a value of that key.
            permits: how many there are in total, 1 to 65,535. All callers of a name should pass the same number.
            timeout: seconds that a with block waits for a permit, before it raises TimeoutError; None: as long as it
                takes.

        Returns:
            The semaphore, of which nothing is taken yet.

        Raises:
            BadKey, InvalidArgument: a name or a number out of range.
        """
        return Semaphore(self, name, permits, timeout)

    def lock(self, name: Key, timeout: Optional[Duration] = None) -> Semaphore:
        """Makes a lock that all processes of the cache share: a semaphore with one permit.

            with cache.lock("nightly"):
                ...

        Args:
            name, timeout: as for `semaphore`.

        Returns:
            The lock, which is not taken yet. It is not reentrant.

        Raises:
            BadKey, InvalidArgument: as for `semaphore`.
        """
        return Semaphore(self, name, 1, timeout)

    def usage(self) -> Usage:
        """Returns what is in use now: limits, semaphores, locks, permits, and threads that wait. Takes no lock.

        Returns:
            The numbers as they are now.

        Source: memstream_usage.
        """
        raw = abi.Usage(struct_size=sizeof(abi.Usage))
        connection = self._connection
        connection.check(connection.library.c.memstream_usage(connection.handle, byref(raw)))
        return usage_from_struct(raw)

    def lock_holders(self) -> List[LockHolder]:
        """Returns the locks of the segment that threads hold now. Takes no lock.

        A hold mostly takes less than a microsecond. A process that holds the same lock in several looks is stopped,
        slow, or busy with a large value.

        Returns:
            The locks of shards in their order, then that of the process table.

        Source: memstream_lock_holders.
        """
        connection = self._connection
        count = c_size_t(64)
        while True:
            capacity = count.value
            holders = (abi.LockHolder * capacity)()
            function = connection.library.c.memstream_lock_holders
            connection.check(function(connection.handle, holders, capacity, byref(count)))
            if count.value <= capacity:
                return [lock_holder_from_struct(raw) for raw in holders[: count.value]]


def end_permits(cache: PermitOwner) -> None:
    """Gives back the permits of a cache that is being closed."""
    for owned in all_owned():
        if isinstance(owned, Permit) and owned.cache is cache:
            owned.give_back(None)
            owned._let_go(_say_ended)  # Or the segment would stay mapped as long as the permit is referred to.


def _say_ended(_: object) -> int:
    return Status.CONFLICT
