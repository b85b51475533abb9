"""Leases: one of many processes computes what is missing."""

from __future__ import annotations

from ctypes import byref, c_uint64
from types import TracebackType
from typing import Any, Optional, Type

from memstream._abi import Status
from memstream._arguments import Duration, Key, check_range, encode_key, milliseconds, seconds
from memstream._ownership import Owned, all_owned
from memstream._waiting import LONGEST_SLICE, cooperative_sleep, pauses
from memstream.operations import Operations


class Lease(Owned):
    """The right to compute the value of one key. Made by `Cache.lease`; belongs to the process that made it.

    Ends by `fulfil` or `release`, at the end of the with block at the latest; when nothing refers to it any more; when
    anybody writes, deletes or clears the key; when its cache is closed; and with its process, however that ends. Any
    thread of the process may fulfil it.

    Attributes:
        cache: the one that it is of.
    """

    def __init__(self, cache: "Leases", key: bytes) -> None:
        """Makes a lease that nobody has granted yet."""
        self.cache = cache
        self._key = key
        self._token = c_uint64()  # 0: there is none, or it has ended.
        give_back = cache._library.ends["memstream_lease_release"]
        super().__init__(give_back, cache._handle, key, len(key), self._token)

    @property
    def token(self) -> int:
        """The library's number of it; 0 once it has ended."""
        return self._token.value

    def _ask(self, stale: int, duration_ms: int) -> int:
        """Asks the library for the lease; returns OK, HELD or EXISTS."""
        cache, key = self.cache, self._key
        function = cache._library.c.memstream_lease
        status: int = function(cache._handle, key, len(key), stale, duration_ms, byref(self._token))
        if status not in (Status.OK, Status.HELD, Status.EXISTS):
            cache._fail(status)
        return status

    def fulfil(self, value: Any, ttl: Optional[Duration] = None, flags: int = 0) -> bool:
        """Stores the value and ends the lease, in one step; all that wait for it go on.

        Args:
            value, ttl, flags: as for `Cache.set`.

        Returns:
            Whether it was stored. False: the lease had ended; what somebody else has stored or removed is newer.

        Raises:
            Those of `Cache.set`; the lease stands then.

        Source: memstream_lease_fulfil.
        """
        data, word = self.cache._pack(value, flags)
        return self._fulfil_packed(data, ttl, word)

    def _fulfil_packed(self, data: Any, ttl: Optional[Duration], word: int) -> bool:
        """As `fulfil`, with the bytes and the flag word as they are to be stored."""
        cache, function = self.cache, self.cache._library.c.memstream_lease_fulfil
        refusals = (int(Status.CONFLICT),)
        status = cache._store_packed(function, self._key, data, ttl, word, self._token.value, refusals=refusals)
        self._token.value = 0
        return status == Status.OK

    def release(self) -> None:
        """Ends the lease without a value; those that wait compute it then. Releasing twice is fine.

        Source: memstream_lease_release.
        """
        status = self.give_back(None) if self._token.value and self.is_ours else Status.CONFLICT
        self._token.value = 0
        if status != Status.CONFLICT:
            self.cache._check(status)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.release()


class Leases(Operations):
    """What a cache does with leases."""

    def lease(self, key: Key, token: Optional[int] = None, duration: Optional[Duration] = None) -> Optional[Lease]:
        """Asks for the right to compute the value of a key.

            while (value := cache.get("report")) is None:
                lease = cache.lease("report")
                if lease is None:
                    cache.wait_for_lease("report")
                    continue
                with lease:
                    lease.fulfil(make_report(), ttl=60)

        Args:
            key: str (stored as UTF-8) or bytes; 1 to 1,024 bytes.
            token: from `gets`, of a value that is to be computed anew; None: only if the key is absent.
            duration: seconds after which somebody else may take the lease away, above 0; None: it stands as long as
                this process does.

        Returns:
            The lease, for a with block; None if somebody else has it (a thread of this process too), or if the value
            is there by now.

        Raises:
            BadKey, InvalidArgument, ReadOnlyError, UnavailableError: as for `set`.

        Source: memstream_lease.
        """
        stale = 0 if token is None else check_range("token", token, 0, 2**64 - 1)
        lease = Lease(self, encode_key(key))
        try:
            return lease if lease._ask(stale, milliseconds(duration, "duration")) == Status.OK else None
        except BaseException:  # A signal handler's, for instance. Its traceback may outlive it, and keep the lease.
            lease.give_back(None)
            raise

    def wait_for_lease(self, key: Key, timeout: Optional[Duration] = None) -> bool:
        """Waits until nobody holds a lease of a key: at once if it is fulfilled or released, soon if its holder dies.

        Signals are handled meanwhile. Under gevent and eventlet the other greenlets of the thread go on.

        Args:
            key: as for `lease`.
            timeout: seconds, above 0; None: as long as it takes.

        Returns:
            Whether nobody holds one; False at the timeout.

        Raises:
            BadKey, InvalidArgument, UnavailableError: as for `get`.

        Source: memstream_lease_wait.
        """
        name = encode_key(key)
        milliseconds(timeout, "timeout")  # Refuses what is no time.
        sleep = cooperative_sleep()
        for pause in pauses(seconds(timeout, "timeout"), LONGEST_SLICE if sleep is None else None):
            if self._is_free(name, 0 if sleep is not None else pause):
                return True
            if sleep is not None:
                sleep(pause)
        return self._is_free(name, 0)

    def _is_free(self, name: bytes, wait: float) -> bool:
        """Waits in the library, for a slice at most. Returns whether nobody holds a lease of a key."""
        status = self._library.c.memstream_lease_wait(self._handle, name, len(name), int(wait * 1000))
        if status not in (Status.OK, Status.HELD):
            self._fail(status)
        return bool(status == Status.OK)

    def close(self) -> None:
        """Detaches from the segment, which stays, and ends this cache's leases. Otherwise as `Connection.close`."""
        for owned in all_owned():
            if isinstance(owned, Lease) and owned.cache is self:
                owned.give_back(None)
                owned._let_go(_say_ended)  # Or the segment would stay mapped as long as the lease is referred to.
        super().close()


def _say_ended(_: object) -> int:
    return Status.CONFLICT
