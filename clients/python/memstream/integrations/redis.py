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

import asyncio
from types import TracebackType
from typing import Any, Awaitable, Callable, Dict, Iterable, List, Optional, Type, TypeVar, Union

from memstream._core.arguments import Duration, Key, encode_key, invalid, milliseconds
from memstream._core.naming import present_as
from memstream._core.waiting import pauses
from memstream.cache import Cache
from memstream.integrations._near_cache import FETCH, HELD, MISS, OK, Fetch, NearBase, NearStats
from memstream.integrations._near_memo import NearMemoized, async_memoize, memoize
from memstream.integrations._near_upstream import (
    ASYNC_CLIENTS,
    CLIENTS,
    UNREACHABLE,
    ConnectionFailed,
    asks_as_the_library_does,
)

__all__ = ["AsyncNearCache", "NearCache", "NearMemoized", "NearStats"]

_T = TypeVar("_T")

# What redis-py takes.
Value = Union[bytes, str, int, float]

# The segment has no answer.
_UNKNOWN = object()


class NearCache(NearBase):
    """String keys of a Redis, with copies in a segment that all processes of this machine share.

    Each object has a thread outside the interpreter; one of these threads on the machine is the agent, which hears
    which keys change. Open it after a fork: a child of fork goes on, but never becomes the agent.

    Threads: all of them may use one NearCache, as far as the client may be used so.
    """

    _native_method = "get"

    def __init__(
        self,
        client: Any,
        *,
        cache: Cache,
        prefixes: Iterable[Key] = (),
        max_lag: Duration = 1.0,
        local_ttl: Duration = 60,
        absent_ttl: Duration = 1,
        timeout: Duration = 1.0,
        agent: bool = True,
        stale_on_error: bool = False,
    ) -> None:
        """Opens a near cache. It does not wait for Redis.

        Args:
            client: a redis.Redis or redis.cluster.RedisCluster of redis-py, 4.3 or later, which returns bytes and uses
                no TLS. It writes, and fetches several keys. The library fetches single keys by connections of its own.
                A client of a derived class, or of another database than 0, fetches them itself.
            cache: a cache of its own, of 16 MiB or more, without checksums; it stays open as long as this object.
            prefixes: what the keys that are cached begin with; none: all keys. The same in all processes.
            max_lag: no value is older, in seconds: 0.25 or more.
            local_ttl: seconds that a copy is kept at most.
            absent_ttl: seconds that it is remembered that Redis has no such key.
            timeout: seconds that the agent, and callers that wait for the fetch of another one, wait.
            agent: whether this process may become the agent.
            stale_on_error: whether copies of any age are served while Redis cannot be reached.

        Raises:
            TypeError: `client` is none of these, or `prefixes` is one string.
            InvalidArgument: an option is out of range, or the cache or the client cannot be used for this.
            LibraryError: there is no libmemstream_near.so beside libcache.so.
            ClosedError: `cache` was closed.

        Source: memstream_near_open.
        """
        if not isinstance(client, CLIENTS):
            remedy = "Use AsyncNearCache for a client of asyncio" if isinstance(client, ASYNC_CLIENTS) else ""
            raise TypeError(invalid("client", client, "a redis.Redis or a redis.cluster.RedisCluster", remedy))
        self._library_asks = asks_as_the_library_does(client)
        self._open(client, cache, prefixes, max_lag, local_ttl, absent_ttl, timeout, agent, stale_on_error)

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

        Source: memstream_near_get; memstream_near_begin and memstream_near_store.
        """
        name = encode_key(key)
        if self._library_asks:
            status, value = self._read(self._near.c.get, name)
            if status in (OK, MISS):
                return default if value is None else value
            # Redis did not answer, or refused: the client says so in its own words.
        _, value, fill = self._begin(self._near.c.begin, name)
        if fill is not None:
            value = self._fetch([(name, fill)])[0]
        return default if value is None else value

    def get_many(self, keys: Iterable[Key]) -> Dict[Key, bytes]:
        """Returns the values of several keys. Of those that are missing here Redis is asked in one pipeline.

        Args:
            keys: str or bytes.

        Returns:
            The values of the keys that Redis has, under the keys as they were passed.

        Raises:
            redis.RedisError, ClosedError: as for `get`.

        Source: memstream_near_begin and memstream_near_store.
        """
        wanted = {encode_key(key): key for key in keys}
        found: Dict[bytes, Optional[bytes]] = {}
        fetches: List[Fetch] = []
        try:
            # In one order everywhere: no two callers wait for each other's fetch.
            for name in sorted(wanted):
                _, found[name], fill = self._begin(self._near.c.begin, name)
                if fill is not None:
                    fetches.append((name, fill))
        except BaseException:
            self._abandon(fetches)
            raise
        if fetches:
            found.update(zip([name for name, _ in fetches], self._fetch(fetches)))
        return {key: value for name, key in wanted.items() if (value := found[name]) is not None}

    def __contains__(self, key: Key) -> bool:
        return self.get(key) is not None

    def memoize(
        self,
        ttl: Optional[Duration] = None,
        *,
        prefix: Optional[Key] = None,
        ignore: Union[str, Iterable[str]] = (),
        key: Optional[Callable[..., Any]] = None,
        typed: bool = False,
        cache_if: Optional[Callable[[Any], bool]] = None,
        name: Optional[str] = None,
        version: Any = None,
        wait: Duration = 30,
    ) -> Callable[[Callable[..., _T]], NearMemoized[_T]]:
        """Makes a decorator that keeps the results of a function in Redis, for all machines, pickled.

        When a result is missing, one caller of this machine computes it, and the others wait for it. Use it only with a
        Redis that you trust: unpickling runs what the bytes say.

        Args:
            ttl: seconds that Redis keeps a result; None: for ever.
            prefix: what the keys of the results begin with; None: the first prefix of this near cache.
            ignore, key, typed, name, version: as for `Cache.memoize`. Give a `name` where machines have the function in
                different files.
            cache_if: called with a result; False: the result is returned but not stored.
            wait: seconds after which a waiting caller computes by itself.

        Returns:
            A decorator for plain functions. What it makes has `refresh`, `forget` and `__wrapped__`.

        Raises:
            InvalidArgument, ValueError, TypeError: an option or the function is not as described above.

        Source: memstream_lease and memstream_lease_wait.
        """
        return memoize(self, self._cache, ttl, prefix, cache_if, wait, (ignore, key, typed, name, version))

    # ---- writing: Redis first; then the copy goes, whatever came of it ----

    def set(self, key: Key, value: Value, ttl: Optional[Duration] = None) -> None:
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

    def _fetch(self, fetches: List[Fetch]) -> List[Optional[bytes]]:
        """Asks Redis for each, and stores the answers."""
        try:
            answers = self._ask([name for name, _ in fetches])
        except UNREACHABLE:
            self._abandon(fetches)
            stale = self._stale(fetches)
            if stale is None:
                raise
            return stale
        except BaseException:
            self._abandon(fetches)
            raise
        return self._store(fetches, answers)

    def _ask(self, names: List[bytes]) -> List[Any]:
        """Returns the answers to GET and PTTL of each key."""
        with self._client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.get(name)
                pipeline.pttl(name)
            return list(pipeline.execute())


class AsyncNearCache(NearBase):
    """As `NearCache`, for a client of redis.asyncio. Nothing in it makes the event loop wait.

    near = AsyncNearCache(redis.asyncio.Redis(), cache=Cache("near"))
    await near.get("user:1")
    """

    _native_method = "_peek"

    def __init__(
        self,
        client: Any,
        *,
        cache: Cache,
        prefixes: Iterable[Key] = (),
        max_lag: Duration = 1.0,
        local_ttl: Duration = 60,
        absent_ttl: Duration = 1,
        timeout: Duration = 1.0,
        agent: bool = True,
        stale_on_error: bool = False,
    ) -> None:
        """Opens a near cache. It does not wait for Redis.

        Args:
            client: a redis.asyncio.Redis or redis.asyncio.cluster.RedisCluster, as for `NearCache`.
            cache, prefixes, max_lag, local_ttl, absent_ttl, timeout, agent, stale_on_error: as for `NearCache`.

        Raises:
            TypeError, InvalidArgument, LibraryError, ClosedError: as for `NearCache`.

        Source: memstream_near_open.
        """
        if not isinstance(client, ASYNC_CLIENTS):
            remedy = "Use NearCache for a client without asyncio" if isinstance(client, CLIENTS) else ""
            wanted = "a redis.asyncio.Redis or a redis.asyncio.cluster.RedisCluster"
            raise TypeError(invalid("client", client, wanted, remedy))
        self._open(client, cache, prefixes, max_lag, local_ttl, absent_ttl, timeout, agent, stale_on_error)

    async def __aenter__(self) -> "AsyncNearCache":
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    # ---- reading ----

    def _peek(self, key: Key, default: Any = None) -> Any:
        """Returns what the segment has, `default` if it knows that Redis has nothing, or _UNKNOWN."""
        status, value = self._read(self._near.c.peek, encode_key(key))
        return value if status == OK else default if status == MISS else _UNKNOWN

    async def get(self, key: Key, default: Union[bytes, _T, None] = None) -> Union[bytes, _T, None]:
        """Returns the value of a key.

        Args:
            key, default: as for `NearCache.get`.

        Returns:
            The bytes, or `default`.

        Raises:
            redis.RedisError, ClosedError: as for `NearCache.get`.

        Source: memstream_near_peek, memstream_near_try and memstream_near_store.
        """
        value = self._peek(key, default)
        if value is not _UNKNOWN:
            return value  # type: ignore[no-any-return]
        return (await self.get_many([key])).get(key, default)

    async def get_many(self, keys: Iterable[Key]) -> Dict[Key, bytes]:
        """Returns the values of several keys. Of those that are missing here Redis is asked in one pipeline.

        Args:
            keys: str or bytes.

        Returns:
            The values of the keys that Redis has, under the keys as they were passed.

        Raises:
            redis.RedisError, ClosedError: as for `NearCache.get`.

        Source: memstream_near_try and memstream_near_store.
        """
        wanted = {encode_key(key): key for key in keys}
        found: Dict[bytes, Optional[bytes]] = {}
        fetches: List[Fetch] = []
        try:
            for name in sorted(wanted):  # In one order everywhere, as NearCache has it.
                status, found[name], fill = self._begin(self._near.c.begin_unless_held, name)
                if status == HELD:
                    # Of all waits together: a key that somebody else fetches for too long is fetched here too.
                    for pause in pauses(self._wait):
                        await asyncio.sleep(pause)
                        status, found[name], fill = self._begin(self._near.c.begin_unless_held, name)
                        if status != HELD:
                            break
                if status in (FETCH, HELD):
                    fetches.append((name, fill))
        except BaseException:
            self._abandon(fetches)
            raise
        if fetches:
            found.update(zip([name for name, _ in fetches], await self._fetch(fetches)))
        return {key: value for name, key in wanted.items() if (value := found[name]) is not None}

    def memoize(
        self,
        ttl: Optional[Duration] = None,
        *,
        prefix: Optional[Key] = None,
        ignore: Union[str, Iterable[str]] = (),
        key: Optional[Callable[..., Any]] = None,
        typed: bool = False,
        cache_if: Optional[Callable[[Any], bool]] = None,
        name: Optional[str] = None,
        version: Any = None,
        wait: Duration = 30,
    ) -> Callable[[Callable[..., _T]], NearMemoized[_T]]:
        """As `NearCache.memoize`, for coroutine functions.

        Args:
            ttl, prefix, ignore, key, typed, cache_if, name, version, wait: as for `NearCache.memoize`.

        Returns:
            A decorator for coroutine functions.

        Raises:
            InvalidArgument, ValueError, TypeError: as for `NearCache.memoize`.

        Source: memstream_lease and memstream_lease_wait.
        """
        return async_memoize(self, self._cache, ttl, prefix, cache_if, wait, (ignore, key, typed, name, version))

    # ---- writing, as NearCache does ----

    async def set(self, key: Key, value: Value, ttl: Optional[Duration] = None) -> None:
        """Stores a value in Redis, and removes the local copy.

        Args:
            key, value, ttl: as for `NearCache.set`.

        Raises:
            redis.RedisError: as for `NearCache.set`.

        Source: memstream_near_invalidate.
        """
        name = encode_key(key)
        try:
            await _answer_of(self._client.set(name, value, px=None if ttl is None else milliseconds(ttl)))
        finally:
            self.invalidate(name)

    async def delete(self, *keys: Key) -> int:
        """Deletes keys in Redis, and removes the local copies.

        Args:
            keys: str or bytes.

        Returns:
            How many Redis had.

        Raises:
            redis.RedisError: as for `NearCache.delete`.

        Source: memstream_near_invalidate.
        """
        names = [encode_key(key) for key in keys]
        try:
            return int(await _answer_of(self._client.delete(*names))) if names else 0
        finally:
            for name in names:
                self.invalidate(name)

    async def _fetch(self, fetches: List[Fetch]) -> List[Optional[bytes]]:
        try:
            answers = await self._ask([name for name, _ in fetches])
        except UNREACHABLE:
            self._abandon(fetches)
            stale = self._stale(fetches)
            if stale is None:
                raise
            return stale
        except BaseException:
            self._abandon(fetches)
            raise
        return self._store(fetches, answers)

    async def _ask(self, names: List[bytes]) -> List[Any]:
        """Returns the answers to GET and PTTL of each key."""
        if self._is_cluster:
            # No pipeline: those of redis-py 4.3 take each other's commands when two coroutines have one.
            commands = [ask(name) for name in names for ask in (self._client.get, self._client.pttl)]
            return list(await _answer_of(asyncio.gather(*commands)))
        async with self._client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.get(name)
                pipeline.pttl(name)
            return list(await _answer_of(pipeline.execute()))


async def _answer_of(command: Awaitable[Any]) -> Any:
    """Waits for an answer of Redis. redis-py 4.3 raises strange errors when a connection ends while it reads."""
    try:
        return await command
    except (AttributeError, ValueError) as error:
        raise ConnectionFailed(f"Redis does not answer any more: {error}") from error


present_as("memstream.redis", NearCache, AsyncNearCache)
