"""Leases: one of many processes computes what is missing."""

from __future__ import annotations

from ctypes import byref, c_uint64
from types import TracebackType
from typing import Any, Optional, Type

from memstream._abi import Status
from memstream._arguments import Duration, Key, check_range, encode_key, milliseconds
from memstream.operations import Operations

# One call into the library, in seconds; who wants to wait for longer calls again.
_LONGEST_WAIT = 3600.0


class Lease:
    """The right to compute the value of one key. Made by `Cache.lease`; belongs to the process that made it.

    Ends by `fulfil` or `release`, at the end of the with block at the latest; when anybody writes, deletes or clears
    the key; and with its process, however that ends.
    """

    def __init__(self, cache: "Leases", key: bytes, token: int) -> None:
        self._cache = cache
        self._key = key
        self._token = token
        self._is_open = True

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
        data, word = self._cache._pack(value, flags)
        return self._fulfil_packed(data, ttl, word)

    def _fulfil_packed(self, data: Any, ttl: Optional[Duration], word: int) -> bool:
        """As `fulfil`, with the bytes and the flag word as they are to be stored."""
        cache, function = self._cache, self._cache._library.c.memstream_lease_fulfil
        refusals = (int(Status.CONFLICT),)
        status = cache._store_packed(function, self._key, data, ttl, word, self._token, refusals=refusals)
        self._is_open = False
        return status == Status.OK

    def release(self) -> None:
        """Ends the lease without a value; one of those that wait computes it then. Releasing twice is fine.

        Source: memstream_lease_release.
        """
        if self._is_open:
            self._is_open = False
            cache, key = self._cache, self._key
            status = cache._library.c.memstream_lease_release(cache._handle, key, len(key), self._token)
            if status != Status.CONFLICT:
                cache._check(status)

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
        name, result = encode_key(key), c_uint64()
        stale = 0 if token is None else check_range("token", token, 0, 2**64 - 1)
        status = self._library.c.memstream_lease(
            self._handle, name, len(name), stale, milliseconds(duration, "duration"), byref(result)
        )
        if status == Status.OK:
            return Lease(self, name, result.value)
        if status not in (Status.HELD, Status.EXISTS):
            self._fail(status)
        return None

    def wait_for_lease(self, key: Key, timeout: Optional[Duration] = None) -> bool:
        """Waits until nobody holds a lease of a key: at once if it is fulfilled or released, soon if its holder dies.

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
        wait_ms = milliseconds(_LONGEST_WAIT if timeout is None else timeout, "timeout")
        while True:
            status = self._library.c.memstream_lease_wait(self._handle, name, len(name), wait_ms)
            if status == Status.OK:
                return True
            if status != Status.HELD:
                self._fail(status)
            if timeout is not None:
                return False
