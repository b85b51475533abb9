"""Leases: one of many processes computes what is missing."""

from __future__ import annotations

from ctypes import byref, c_uint64
from typing import Any, Optional, Protocol

from memstream._core import abi
from memstream._core.abi import Status
from memstream._core.arguments import Duration, Key, encode_key, milliseconds, seconds
from memstream._core.blocks import EndedByBlock
from memstream._core.codec import Codec
from memstream._core.connection import Connection
from memstream._core.ownership import Owned, all_owned
from memstream._core.waiting import LONGEST_SLICE, cooperative_sleep, pauses
from memstream.tags import Tagged, struct_of


class LeaseOwner(Protocol):
    """What a lease needs of its Cache."""

    _connection: Connection
    _codec: Codec


class Lease(EndedByBlock, Owned):
    """The right to compute the value of one key. Made by `Cache.lease`; belongs to the process that made it.

    Ends by `fulfil` or `release`, at the end of the with block at the latest; when nothing refers to it any more; when
    anybody writes, deletes or clears the key; when its cache is closed; and with its process, however that ends. Any
    thread of the process may fulfil it.

    Attributes:
        cache: the one that it is of.
    """

    def __init__(self, cache: LeaseOwner, key: bytes) -> None:
        """Makes a lease that nobody has granted yet."""
        self.cache = cache
        self._connection = connection = cache._connection
        self._key = key
        self._token = c_uint64()  # 0: there is none, or it has ended.
        give_back = connection.library.ends["memstream_lease_release"]
        super().__init__(give_back, connection.handle, key, len(key), self._token)

    @property
    def token(self) -> int:
        """The library's number of it; 0 once it has ended."""
        return self._token.value

    def _ask(self, stale: int, duration_ms: int) -> int:
        """Asks the library for the lease; returns OK, HELD or EXISTS."""
        connection, key = self._connection, self._key
        function = connection.library.c.memstream_lease
        status: int = function(connection.handle, key, len(key), stale, duration_ms, byref(self._token))
        if status not in (Status.OK, Status.HELD, Status.EXISTS):
            connection.fail(status)
        return status

    def fulfil(self, value: Any, ttl: Optional[Duration] = None, flags: int = 0, *, tags: Tagged = None) -> bool:
        """Stores the value and ends the lease, in one step; all that wait for it go on.

        Args:
            value, ttl, flags, tags: as for `Cache.set`.

        Returns:
            Whether it was stored. False: the lease had ended before.

        Raises:
            Those of `Cache.set`; the lease stands then.

        Source: memstream_lease_fulfil; memstream_store_tagged with tags.
        """
        data, word = self.cache._codec.pack(value, flags)
        return self._fulfil_packed(data, ttl, word, struct_of(self._connection, tags))

    def _fulfil_packed(self, data: Any, ttl: Optional[Duration], word: int, tags: Optional[abi.Tags] = None) -> bool:
        """As `fulfil`, with the bytes and the flag word as they are to be stored."""
        connection, refusals, token = self._connection, (int(Status.CONFLICT),), self._token.value
        if tags is not None:
            status = connection.store_tagged(abi.FULFIL, self._key, data, ttl, word, tags, token, refusals)
        else:
            function = connection.library.c.memstream_lease_fulfil
            status = connection.store(function, self._key, data, ttl, word, token, refusals=refusals)
        self._token.value = 0
        return status == Status.OK

    def release(self) -> None:
        """Ends the lease without a value; those that wait compute it then. Releasing twice is fine.

        Source: memstream_lease_release.
        """
        status = self.give_back(None) if self._token.value and self.is_ours else Status.CONFLICT
        self._token.value = 0
        if status != Status.CONFLICT:
            self._connection.check(status)

    def _end_block(self) -> None:
        self.release()


def wait_for_lease(connection: Connection, key: Key, timeout: Optional[Duration]) -> bool:
    """Waits until nobody holds a lease of a key: see `Cache.wait_for_lease`."""
    name = encode_key(key)
    milliseconds(timeout, "timeout")  # Refuses what is no time.
    sleep = cooperative_sleep()
    for pause in pauses(seconds(timeout, "timeout"), LONGEST_SLICE if sleep is None else None):
        if _is_free(connection, name, 0 if sleep is not None else pause):
            return True
        if sleep is not None:
            sleep(pause)
    return _is_free(connection, name, 0)


def _is_free(connection: Connection, name: bytes, wait: float) -> bool:
    """Waits in the library, for a slice at most. Returns whether nobody holds a lease of a key."""
    status = connection.library.c.memstream_lease_wait(connection.handle, name, len(name), int(wait * 1000))
    if status not in (Status.OK, Status.HELD):
        connection.fail(status)
    return bool(status == Status.OK)


def end_leases(cache: LeaseOwner) -> None:
    """Ends the leases of a cache that is being closed."""
    for owned in all_owned():
        if isinstance(owned, Lease) and owned.cache is cache:
            owned.give_back(None)
            owned._let_go(_say_ended)  # Or the segment would stay mapped as long as the lease is referred to.


def _say_ended(_: object) -> int:
    return Status.CONFLICT
