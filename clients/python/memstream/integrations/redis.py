"""A near cache of Redis: all processes of this machine share what they have read.

    import redis
    from memstream import Cache
    from memstream.redis import NearCache

    near = NearCache(redis.Redis(), cache=Cache("near"), prefixes=["user:"], max_lag=1.0)
    near.get("user:1")                  # Redis is asked once on this machine, until somebody changes the key
    near.set("user:1", b"new", ttl=60)

Nothing that it returns was overwritten in Redis more than `max_lag` seconds ago, whatever dies: docs/near_cache.md.
"""

from __future__ import annotations

import ctypes
import weakref
from ctypes import byref, c_size_t
from types import TracebackType
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple, Type, TypeVar, Union

import redis

from memstream._core import near as _near
from memstream._core.abi import Status
from memstream._core.arguments import Duration, Key, encode_key, invalid, milliseconds
from memstream._core.naming import present_as
from memstream.cache import Cache
from memstream.errors import ClosedError, InvalidArgument

_T = TypeVar("_T")

_OK, _MISS, _TOO_SMALL = int(Status.OK), int(Status.MISS), int(Status.TOO_SMALL)
_FIRST_ROOM = 32 * 1024
_NEVER_HEARD = 2**64 - 1

# Buffers that no call uses: as many as threads were ever reading at the same time.
_free_rooms: List["ctypes.Array[ctypes.c_char]"] = []


class NearStats(NamedTuple):
    """What became of the calls of one `NearCache`, and what is known of Redis on this machine."""

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


class NearCache:
    """String keys of a Redis, with copies in a segment that all processes of this machine share.

    Each object has a thread outside the interpreter; one of these threads on the machine is the agent, which hears
    which keys change. Open it after a fork: a child of fork goes on, but never becomes the agent.

    Threads: all of them may use one NearCache, as far as the client may be used so.
    """

    def __init__(
        self,
        client: "redis.Redis[bytes]",
        *,
        cache: Cache,
        prefixes: Iterable[str] = (),
        max_lag: Duration = 1.0,
        local_ttl: Duration = 60,
        absent_ttl: Duration = 1,
        timeout: Duration = 1.0,
        agent: bool = True,
    ) -> None:
        """Opens a near cache. It does not wait for Redis.

        Args:
            client: a client of redis-py, 4.3 or later, which returns bytes and uses no TLS. It fetches and writes.
            cache: a cache of its own, of 16 MiB or more, without checksums; it stays open as long as this object.
            prefixes: what the keys that are cached begin with; none: all keys. The same in all processes.
            max_lag: no value is older, in seconds: 0.25 or more.
            local_ttl: seconds that a copy is kept at most.
            absent_ttl: seconds that it is remembered that Redis has no such key.
            timeout: seconds that the agent, and callers that wait for the fetch of another one, wait.
            agent: whether this process may become the agent.

        Raises:
            TypeError: `client` is no redis.Redis (no cluster, no asyncio), or `prefixes` is one string.
            InvalidArgument: an option is out of range, or the cache or the client cannot be used for this.
            LibraryError: there is no libmemstream_near.so beside libcache.so.
            ClosedError: `cache` was closed.

        Source: memstream_near_open.
        """
        if not isinstance(client, redis.Redis):
            raise TypeError(invalid("client", client, "a redis.Redis, no cluster and no client of asyncio"))
        if isinstance(prefixes, (str, bytes)):
            raise TypeError(invalid("prefixes", prefixes, "a list of prefixes", "Pass a list with this one in it"))
        if cache.closed:
            raise ClosedError(Status.NOT_CONNECTED, "This cache was closed. Open a new Cache.")
        self._client = client
        address, user, password = _address_of(client)
        options = _near.Options(
            redis=address.encode(),
            user=user,
            password=password,
            max_lag_ms=milliseconds(max_lag),
            local_ttl_ms=milliseconds(local_ttl),
            absent_ttl_ms=milliseconds(absent_ttl),
            timeout_ms=milliseconds(timeout),
            flags=0 if agent else _near.NO_AGENT,
        )
        names = sorted({encode_key(prefix, "prefix") for prefix in prefixes})
        handle = cache._handle
        assert handle is not None  # It is open.
        functions = _near.load(cache._library.path)
        self._near = _near.NearHandle(functions, handle, options, names)
        self._end = weakref.finalize(self, self._near.close)

    # ---- reading ----

    def get(self, key: Key, default: Union[bytes, _T, None] = None) -> Union[bytes, _T, None]:
        """Returns the value of a key.

        Args:
            key: str (UTF-8) or bytes, as in Redis.
            default: for a key that Redis does not have.

        Returns:
            The bytes, or `default`.

        Raises:
            redis.RedisError: Redis had to be asked, and cannot be reached or refused.
            ClosedError: after `close`.

        Source: memstream_near_begin and memstream_near_store.
        """
        name = encode_key(key)
        is_there, value, fill = self._begin(name)
        if fill is not None:
            value = self._fetch([(name, fill)])[0]
            is_there = value is not None
        return value if is_there else default

    def get_many(self, keys: Iterable[Key]) -> Dict[Key, bytes]:
        """Returns the values of several keys. Of those that are missing here Redis is asked in one pipeline.

        Args:
            keys: str or bytes.

        Returns:
            The values of the keys that Redis has, under the keys as they were passed.

        Raises:
            As `get`.

        Source: memstream_near_begin and memstream_near_store.
        """
        wanted = {encode_key(key): key for key in keys}
        found: Dict[bytes, Optional[bytes]] = {}
        fills: List[Tuple[bytes, _near.Fill]] = []
        try:
            # In one order everywhere: no two callers wait for each other's fetch.
            for name in sorted(wanted):
                is_there, found[name], fill = self._begin(name)
                if fill is not None:
                    fills.append((name, fill))
        except BaseException:
            self._abandon(fills)
            raise
        if fills:
            found.update(zip([name for name, _ in fills], self._fetch(fills)))
        return {key: value for name, key in wanted.items() if (value := found[name]) is not None}

    def __contains__(self, key: Key) -> bool:
        return self.get(key) is not None

    # ---- writing: Redis first; then the copy goes, whatever came of it ----

    def set(self, key: Key, value: Union[bytes, str, int, float], ttl: Optional[Duration] = None) -> None:
        """Stores a value in Redis, and removes the local copy.

        Args:
            key: str or bytes.
            value: what redis-py takes.
            ttl: seconds to live; None: for ever.

        Raises:
            redis.RedisError: Redis cannot be reached or refused. Whether it stored the value may be unknown.

        Source: memstream_near_invalidate.
        """
        name = encode_key(key)
        try:
            self._client.set(name, value, px=None if ttl is None else milliseconds(ttl))
        finally:
            self.invalidate(name)

    def delete(self, *keys: Key) -> int:
        """Deletes keys in Redis, and removes the local copies.

        Args:
            keys: str or bytes.

        Returns:
            How many Redis had.

        Raises:
            redis.RedisError: Redis cannot be reached or refused.

        Source: memstream_near_invalidate.
        """
        names = [encode_key(key) for key in keys]
        try:
            return int(self._client.delete(*names)) if names else 0
        finally:
            for name in names:
                self.invalidate(name)

    def invalidate(self, key: Key) -> None:
        """Removes the local copy, for callers that have written to Redis in another way.

        Args:
            key: str or bytes.

        Source: memstream_near_invalidate.
        """
        name = encode_key(key)
        self._check(self._near.c.invalidate(self._near.pointer, name, len(name)))

    # ---- the rest ----

    def stats(self) -> NearStats:
        """Tells what became of the calls, and what is known of Redis.

        Returns:
            Counts of this object, and the state of this machine.

        Source: memstream_near_stats.
        """
        raw = _near.RawStats(struct_size=ctypes.sizeof(_near.RawStats))
        self._check(self._near.c.stats(self._near.pointer, byref(raw)))
        return NearStats(
            hits=raw.hits,
            fills=raw.fills,
            conflicts=raw.conflicts,
            merged=raw.merged,
            bypasses=raw.bypasses,
            lag=None if raw.lag_ms == _NEVER_HEARD else raw.lag_ms / 1000,
            invalidations=raw.invalidations,
            epochs=raw.epochs,
            agent_pid=raw.agent_pid or None,
            is_agent=bool(raw.is_agent),
            agent_error=self._near.c.agent_error(self._near.pointer).decode("utf-8", "replace"),
        )

    def close(self) -> None:
        """Stops this object's agent. The client and the cache stay open. Closing twice is fine.

        Source: memstream_near_close.
        """
        self._end()

    def __enter__(self) -> "NearCache":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def _check(self, status: int) -> None:
        if status < 0 and self._near.pointer is None:
            raise ClosedError(Status.NOT_CONNECTED, "This near cache was closed. Open a new NearCache.")
        self._near.check(status)

    def _begin(self, name: bytes) -> Tuple[bool, Optional[bytes], Optional[_near.Fill]]:
        """Returns whether the key is there, its value and, if Redis has to be asked, what ends the fetch."""
        near, fill = self._near, _near.Fill()
        try:
            buffer = _free_rooms.pop()
        except IndexError:
            buffer = ctypes.create_string_buffer(_FIRST_ROOM)
        while True:
            size = c_size_t(len(buffer))
            status = near.c.begin(near.pointer, name, len(name), buffer, byref(size), byref(fill))
            value: Any = buffer[: size.value] if status == _OK else None
            if len(buffer) == _FIRST_ROOM:
                _free_rooms.append(buffer)
            if value is not None:
                return True, value, None
            if status == _MISS:
                return False, None, None
            if status == _near.FETCH:
                return False, None, fill
            if status != _TOO_SMALL:
                self._check(status)
            buffer = ctypes.create_string_buffer(size.value)

    def _fetch(self, fills: List[Tuple[bytes, _near.Fill]]) -> List[Optional[bytes]]:
        """Asks Redis for each, and stores the answers."""
        near = self._near
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for name, _ in fills:
                    pipeline.get(name)
                    pipeline.pttl(name)
                answers = pipeline.execute()
        except BaseException:
            self._abandon(fills)
            raise
        values: List[Optional[bytes]] = answers[::2]
        # That a copy cannot be stored, since it is too large or its key has changed, is nothing to the caller.
        for (name, fill), value, pttl in zip(fills, values, answers[1::2]):
            if value is None:
                near.c.store_absent(near.pointer, name, len(name), byref(fill))
            else:
                near.c.store(near.pointer, name, len(name), value, len(value), pttl, byref(fill))
        return values

    def _abandon(self, fills: List[Tuple[bytes, _near.Fill]]) -> None:
        for name, fill in fills:
            self._near.c.abandon(self._near.pointer, name, len(name), byref(fill))


def _address_of(client: "redis.Redis[bytes]") -> Tuple[str, Optional[bytes], Optional[bytes]]:
    """Returns where the client's Redis is, as the library has it, with user and password."""
    pool: Any = client.connection_pool
    kwargs = pool.connection_kwargs
    if issubclass(pool.connection_class, redis.SSLConnection):
        text = invalid("client", client, "one without TLS", "Use a Unix socket, a private network or a tunnel")
        raise InvalidArgument(Status.INVALID, text)
    if kwargs.get("decode_responses"):
        text = invalid("client", client, "one that returns bytes", "Make it without decode_responses=True")
        raise InvalidArgument(Status.INVALID, text)
    if kwargs.get("path"):
        address = f"unix:{kwargs['path']}"
    else:
        host = kwargs.get("host") or "localhost"
        address = f"[{host}]:{kwargs.get('port', 6379)}" if ":" in host else f"{host}:{kwargs.get('port', 6379)}"
    user, password = kwargs.get("username"), kwargs.get("password")
    return address, user and str(user).encode(), password and str(password).encode()


present_as("memstream.redis", NearCache, NearStats)
