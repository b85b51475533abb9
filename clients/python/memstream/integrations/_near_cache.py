"""What the near caches of redis-py have in common: the segment's side of them.

`memstream.integrations.redis` has what asks Redis, with and without asyncio.
"""

from __future__ import annotations

import ctypes
import weakref
from ctypes import byref, c_size_t
from types import TracebackType
from typing import Any, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Type

from memstream._core import accelerator
from memstream._core import near as _near
from memstream._core.abi import Status
from memstream._core.arguments import Duration, Key, encode_key, invalid, milliseconds
from memstream._core.naming import present_as
from memstream.cache import Cache
from memstream.errors import ClosedError
from memstream.integrations._near_upstream import upstream_of

OK, MISS, FETCH, HELD = int(Status.OK), int(Status.MISS), _near.FETCH, _near.HELD
_TOO_SMALL = int(Status.TOO_SMALL)
_FIRST_ROOM = 32 * 1024
_NEVER_HEARD = 2**64 - 1

# Buffers that no call uses: as many as threads were ever reading at the same time.
_free_rooms: List["ctypes.Array[ctypes.c_char]"] = []

# A key that Redis is asked for, and what ends the fetch; None: the answer is not to be stored.
Fetch = Tuple[bytes, Optional[_near.Fill]]


class NearStats(NamedTuple):
    """What became of the calls of one near cache, and what is known of Redis on this machine."""

    hits: int
    """Answered from the segment."""
    fills: int
    """Answers of Redis that were stored."""
    conflicts: int
    """Answers that were not, since their key was invalidated meanwhile."""
    merged: int
    """Misses that waited for the fetch of another caller."""
    bypasses: int
    """Redis was asked and nothing was to be stored: too much lag, another prefix."""
    stale: int
    """Served beyond the bound, with `stale_on_error`."""
    lag: Optional[float]
    """Seconds that `max_lag` is compared with; None if Redis was never heard."""
    invalidations: int
    """Keys that were invalidated, by all processes."""
    epochs: int
    """Times that all copies were given up, by all processes."""
    agent_pid: Optional[int]
    """The process that hears from Redis; None if there is none."""
    is_agent: bool
    """Whether that is this object."""
    agent_error: str
    """Why its agent does not hear from Redis; empty if it does, or is none."""


class NearBase:
    """What `NearCache` and `AsyncNearCache` both have."""

    # The method, of a key and a default, that native code stands for.
    _native_method = ""
    _accelerator: Optional[accelerator.NearAccelerator] = None

    def _open(
        self,
        client: Any,
        cache: Cache,
        prefixes: Iterable[Key],
        max_lag: Duration,
        local_ttl: Duration,
        absent_ttl: Duration,
        timeout: Duration,
        agent: bool,
        stale_on_error: bool,
    ) -> None:
        if isinstance(prefixes, (str, bytes)):
            raise TypeError(invalid("prefixes", prefixes, "a list of prefixes", "Pass a list with this one in it"))
        if cache.closed:
            raise ClosedError(Status.NOT_CONNECTED, "This cache was closed. Open a new Cache.")
        upstream = upstream_of(client)
        flags = 0 if agent else _near.NO_AGENT
        if upstream.is_cluster:
            flags |= _near.CLUSTER
        timeout_ms = milliseconds(timeout)
        options = _near.Options(
            redis=upstream.address.encode(),
            user=upstream.user,
            password=upstream.password,
            max_lag_ms=milliseconds(max_lag),
            local_ttl_ms=milliseconds(local_ttl),
            absent_ttl_ms=milliseconds(absent_ttl),
            timeout_ms=timeout_ms,
            flags=flags,
        )
        handle = cache._handle
        assert handle is not None  # It is open.
        self._client = client
        self._cache = cache
        self._prefixes = sorted({encode_key(prefix, "prefix") for prefix in prefixes})
        self._wait = timeout_ms / 1000 or 1.0
        self._is_cluster = upstream.is_cluster
        self._serves_stale = stale_on_error
        self._near = _near.NearHandle(_near.load(cache._library.path), handle, options, self._prefixes)
        # Before anything else is done with this object: another one may have been at its address.
        self._accelerator = accelerator.attach_near(
            self._native_class(), self._native_method, self, cache._library, self._near
        )
        self._end = weakref.finalize(self, _close, self._near, self._accelerator)

    @classmethod
    def _native_class(cls) -> type:
        return next(base for base in cls.__mro__ if cls._native_method in vars(base))

    @property
    def client(self) -> Any:
        """The client of redis-py that it asks. A caller that writes by it calls `invalidate` then."""
        return self._client

    @property
    def cache(self) -> Cache:
        """The cache whose segment has the copies."""
        return self._cache

    @property
    def accelerated(self) -> bool:
        """Whether native functions answer what the segment has."""
        return self._accelerator is not None

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._near.pointer is None

    def invalidate(self, key: Key) -> None:
        """Removes the local copy, for callers that have written to Redis in another way.

        Args:
            key: str or bytes.

        Source: memstream_near_invalidate.
        """
        name = encode_key(key)
        self._near.check(self._near.c.invalidate(self._near.pointer, name, len(name)))

    def stats(self) -> NearStats:
        """Tells what became of the calls, and what is known of Redis.

        Returns:
            Counts of this object, and the state of this machine.

        Source: memstream_near_stats.
        """
        raw = _near.RawStats(struct_size=ctypes.sizeof(_near.RawStats))
        self._near.check(self._near.c.stats(self._near.pointer, byref(raw)))
        return NearStats(
            hits=raw.hits,
            fills=raw.fills,
            conflicts=raw.conflicts,
            merged=raw.merged,
            bypasses=raw.bypasses,
            stale=raw.stale,
            lag=None if raw.lag_ms == _NEVER_HEARD else raw.lag_ms / 1000,
            invalidations=raw.invalidations,
            epochs=raw.epochs,
            agent_pid=raw.agent_pid or None,
            is_agent=bool(raw.is_agent),
            agent_error=self._near.c.agent_error(self._near.pointer).decode("utf-8", "replace"),
        )

    def close(self) -> None:
        """Stops this object's agent. The client and the cache stay open. Closing twice is fine.

        Safe from any thread. The agent stops as soon as no other thread is in a call.

        Source: memstream_near_close.
        """
        self._end()

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    # ---- for the classes ----

    def _read(self, function: Any, name: bytes, *rest: Any) -> Tuple[int, Optional[bytes]]:
        """Calls a function that reads into a buffer. Returns its status, and the value after OK."""
        near = self._near
        try:
            buffer = _free_rooms.pop()
        except IndexError:
            buffer = ctypes.create_string_buffer(_FIRST_ROOM)
        while True:
            size = c_size_t(len(buffer))
            status = function(near.pointer, name, len(name), buffer, byref(size), *rest)
            value: Optional[bytes] = ctypes.string_at(buffer, size.value) if status == OK else None
            if len(buffer) == _FIRST_ROOM:
                _free_rooms.append(buffer)
            if status != _TOO_SMALL:
                if status not in _near.REDIS_SAYS_NO:
                    near.check(status)
                return status, value
            buffer = ctypes.create_string_buffer(size.value)

    def _begin(self, function: Any, name: bytes) -> Tuple[int, Optional[bytes], Optional[_near.Fill]]:
        """Returns OK, MISS, FETCH or HELD; the value; and what ends the fetch."""
        fill = _near.Fill()
        status, value = self._read(function, name, byref(fill))
        return status, value, fill if status == FETCH else None

    def _store(self, fetches: Sequence[Fetch], answers: Sequence[Any]) -> List[Optional[bytes]]:
        """Stores what Redis has answered to GET and PTTL of each key. Returns the values."""
        near = self._near
        values: List[Optional[bytes]] = list(answers[::2])
        # That a copy cannot be stored, since it is too large or its key has changed, is nothing to the caller.
        for (name, fill), value, pttl in zip(fetches, values, answers[1::2]):
            if fill is None:
                continue
            if value is None:
                near.c.store_absent(near.pointer, name, len(name), byref(fill))
            else:
                near.c.store(near.pointer, name, len(name), value, len(value), pttl, byref(fill))
        return values

    def _abandon(self, fetches: Iterable[Fetch]) -> None:
        for name, fill in fetches:
            if fill is not None:
                self._near.c.abandon(self._near.pointer, name, len(name), byref(fill))

    def _stale(self, fetches: Sequence[Fetch]) -> Optional[List[Optional[bytes]]]:
        """Returns the values of all keys, however old; None if one of them is not there or that is not wanted."""
        if not self._serves_stale:
            return None
        found = [self._read(self._near.c.peek_stale, name) for name, _ in fetches]
        return None if any(status == FETCH for status, _ in found) else [value for _, value in found]


def _close(near: _near.NearHandle, native: Optional[accelerator.NearAccelerator]) -> None:
    if native is not None:
        native.end()
    near.close()


present_as("memstream.redis", NearBase, NearStats)
