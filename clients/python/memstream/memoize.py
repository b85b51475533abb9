"""Functions whose results all processes share: one computes, the others wait or take the old result.

A result is an entry of the cache under a key made of the function's name and the call's arguments. Who finds none takes
the lease of that key; the lease dies with its holder, so that a computing process may be killed without anybody being
stuck. Exceptions are never stored.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
import warnings
from typing import Any, Callable, Dict, Iterable, NamedTuple, Optional, Protocol, Tuple, TypeVar, Union, cast

from memstream._arguments import Duration, check_bool, check_callable, invalid, milliseconds, seconds
from memstream._kinds import Kind, flag_word, kind_of
from memstream.errors import ValueTooLarge
from memstream.in_place import InPlace
from memstream.inspection import Inspection
from memstream.leases import Lease, Leases
from memstream.memo_keys import KeyMaker, function_name
from memstream.serializers import Codec, PickleCodec, decode, result_head, split_result

_T = TypeVar("_T")

# How long a coroutine sleeps between two looks at whether somebody else has come to an end, in seconds.
_FIRST_SLEEP = 0.001
_LONGEST_SLEEP = 0.02

_STALE = "seconds of 0 or more as a number or a timedelta"


class CacheInfo(NamedTuple):
    """As `functools.lru_cache` has it. Hits and misses are those of this process, the size is everybody's."""

    hits: int
    misses: int
    maxsize: Optional[int]
    """None: the memory of the cache is the limit."""
    currsize: int


class MemoizedFunction(Protocol[_T]):
    """What `memoize` makes of a function."""

    __wrapped__: Callable[..., _T]

    def __call__(self, *arguments: Any, **options: Any) -> _T:
        """Returns the stored result of these arguments, or computes it."""

    def refresh(self, *arguments: Any, **options: Any) -> _T:
        """Computes and stores anew, whatever is stored; returns the result. A coroutine for a coroutine."""

    def forget(self, *arguments: Any, **options: Any) -> bool:
        """Removes the result of these arguments; returns whether there was one."""

    def cache_clear(self) -> None:
        """Removes all results of the function, those of other processes too. Walks over all keys of the cache."""

    def cache_info(self) -> CacheInfo:
        """Returns hits, misses and size. Walks over all keys of the cache."""


class Memoizing(Leases, InPlace, Inspection):
    """A cache that remembers results of functions."""

    def memoize(
        self,
        ttl: Optional[Duration] = None,
        *,
        stale: Duration = 0,
        ignore: Union[str, Iterable[str]] = (),
        key: Optional[Callable[..., Any]] = None,
        typed: bool = False,
        cache_if: Optional[Callable[[Any], bool]] = None,
    ) -> Callable[[Callable[..., _T]], MemoizedFunction[_T]]:
        """Makes a decorator that keeps the results of a function, a method or a coroutine function.

            @cache.memoize(ttl=60, stale=30)
            def report(customer: int, month: str) -> dict: ...

        When a result is missing, one caller among all processes and threads computes it, and the others wait until it
        is there. When that one raises, its caller gets the exception, nothing is stored, and the next one computes;
        when its process is killed, the same.

        Args:
            ttl: seconds for which a result is fresh, above 0; None: for ever.
            stale: seconds after that during which it is still given to all but the one who computes it anew.
            ignore: names of parameters that do not count, such as "self" or ("connection", "verbose").
            key: called with the arguments; what it returns counts instead of them.
            typed: whether 1, 1.0 and True are different arguments.
            cache_if: called with a result; False: it is given back but not stored.

        Returns:
            A decorator. What it makes is a `MemoizedFunction`: it has `refresh`, `forget`, `cache_clear`, `cache_info`
            and `__wrapped__`. Results are stored by the serializer of the cache; by pickle if it has none.

        Raises:
            InvalidArgument, ValueError, TypeError: an option or the function is not as described above.

        Source: memstream_get, memstream_lease, memstream_lease_wait, memstream_lease_fulfil.
        """
        return memoize(lambda: self, ttl, stale, ignore, key, typed, cache_if)


def memoize(
    find_cache: Callable[[], Memoizing],
    ttl: Optional[Duration] = None,
    stale: Duration = 0,
    ignore: Union[str, Iterable[str]] = (),
    key: Optional[Callable[..., Any]] = None,
    typed: bool = False,
    cache_if: Optional[Callable[[Any], bool]] = None,
) -> Callable[[Callable[..., _T]], MemoizedFunction[_T]]:
    """As `Cache.memoize`, on the cache that `find_cache` returns at each call."""
    # Refuses what is wrong now, and not at the first call.
    milliseconds(ttl)
    check_callable("key", key)
    check_callable("cache_if", cache_if)
    check_bool("typed", typed)
    lifetime = seconds(ttl)
    extra = cast(float, seconds(stale, "stale", _STALE))
    if stale is None or not 0 <= extra < float("inf"):
        raise ValueError(invalid("stale", stale, _STALE))
    if extra and lifetime is None:
        raise ValueError(invalid("stale", stale, "0 without a ttl", "Give a ttl, after which results are stale"))

    def decorate(function: Callable[..., _T]) -> MemoizedFunction[_T]:
        results = Results(find_cache, function, KeyMaker(function, ignore, key, typed), lifetime, extra, cache_if)
        return _wrap(function, results)

    return decorate


class Result(NamedTuple):
    """A stored result."""

    value: Any
    is_fresh: bool
    token: int


class Results:
    """The results of one function."""

    def __init__(
        self,
        find_cache: Callable[[], Memoizing],
        function: Callable[..., Any],
        keys: KeyMaker,
        ttl: Optional[float],
        stale: float,
        cache_if: Optional[Callable[[Any], bool]],
    ) -> None:
        self.find_cache = find_cache
        self.keys = keys
        self.hits = 0
        self.misses = 0
        self._name = function_name(function)
        self._ttl = ttl
        self._stale = stale
        self._cache_if = cache_if

    def look(self, key: bytes) -> Optional[Result]:
        """Returns what is stored under a key; None if nothing is."""
        cache = self.find_cache()
        located = cache._locate(key)
        if located is None:
            return None
        is_fresh = True
        if kind_of(located.flags) is Kind.RESULT:
            is_fresh = time.monotonic() < split_result(located.memory)[0]
        return Result(decode(key, _codec_of(cache), located.memory, located.flags), is_fresh, located.token)

    def lease(self, key: bytes, found: Optional[Result]) -> Optional[Lease]:
        """Asks for the right to compute what is missing or stale."""
        return self.find_cache().lease(key, None if found is None else found.token)

    def store(self, key: bytes, value: Any, lease: Optional[Lease]) -> None:
        """Stores a result, if it may be: through a lease, which may have ended, or whatever is there."""
        if self._cache_if is not None and not self._cache_if(value):
            return
        cache = self.find_cache()
        kind, pieces, size = _codec_of(cache).encode(value)
        lifetime = self._ttl
        if self._ttl is not None and self._stale:
            head = result_head(time.monotonic() + self._ttl, kind)
            kind, pieces, size = Kind.RESULT, [head, *pieces], len(head) + size
            lifetime = self._ttl + self._stale
        try:
            if lease is None:
                cache._store_pieces(key, pieces, size, lifetime, flag_word(kind, 0))
            else:
                data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                lease._fulfil_packed(data, lifetime, flag_word(kind, 0))
        except ValueTooLarge as error:
            # The caller is better served by a result that was not stored than by none.
            warnings.warn(f"a result of {self._name} is not cached: {error}", RuntimeWarning, stacklevel=4)

    def forget(self, *arguments: Any, **options: Any) -> bool:
        """Removes one result."""
        return self.find_cache().delete(self.keys.key_of(arguments, options))

    def clear(self) -> None:
        """Removes all results."""
        cache = self.find_cache()
        for entry in cache.scan(self.keys.prefix):
            cache.delete(entry.key)
        self.hits = self.misses = 0

    def info(self) -> CacheInfo:
        """Counts."""
        size = sum(1 for _ in self.find_cache().scan(self.keys.prefix))
        return CacheInfo(self.hits, self.misses, None, size)


_PICKLE = PickleCodec()


def _codec_of(cache: Memoizing) -> Codec:
    codec: Codec = getattr(cache, "_codec", _PICKLE)
    return codec


def _wrap(function: Callable[..., _T], results: Results) -> MemoizedFunction[_T]:
    """Makes the function that callers see."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function_name(function)} is a generator: let it return a list, which can be stored")
    is_async = inspect.iscoroutinefunction(function)
    call, refresh = (_async_calls if is_async else _calls)(function, results)
    wrapper: Any = functools.wraps(function)(call)
    wrapper.refresh = refresh
    wrapper.forget = results.forget
    wrapper.cache_clear = results.clear
    wrapper.cache_info = results.info
    return cast(MemoizedFunction[_T], wrapper)


def _calls(function: Callable[..., Any], results: Results) -> Tuple[Callable[..., Any], Callable[..., Any]]:
    """Makes call and refresh of a plain function."""

    def call(*arguments: Any, **options: Any) -> Any:
        key = results.keys.key_of(arguments, options)
        found = results.look(key)
        while found is None or not found.is_fresh:
            lease = results.lease(key, found)
            if lease is not None:
                with lease:
                    return compute(key, lease, arguments, options)
            if found is not None:
                break  # Somebody else computes it anew.
            results.find_cache().wait_for_lease(key)
            found = results.look(key)
        results.hits += 1
        return found.value

    def compute(key: bytes, lease: Optional[Lease], arguments: Tuple[Any, ...], options: Dict[str, Any]) -> Any:
        results.misses += 1
        value = function(*arguments, **options)
        results.store(key, value, lease)
        return value

    def refresh(*arguments: Any, **options: Any) -> Any:
        return compute(results.keys.key_of(arguments, options), None, arguments, options)

    return call, refresh


def _async_calls(function: Callable[..., Any], results: Results) -> Tuple[Callable[..., Any], Callable[..., Any]]:
    """Makes call and refresh of a coroutine function. Nothing in them makes the event loop wait."""

    async def call(*arguments: Any, **options: Any) -> Any:
        key = results.keys.key_of(arguments, options)
        found = results.look(key)
        sleep = _FIRST_SLEEP
        while found is None or not found.is_fresh:
            lease = results.lease(key, found)
            if lease is not None:
                with lease:
                    return await compute(key, lease, arguments, options)
            if found is not None:
                break  # Somebody else computes it anew.
            await asyncio.sleep(sleep)
            sleep = min(2 * sleep, _LONGEST_SLEEP)
            found = results.look(key)
        results.hits += 1
        return found.value

    async def compute(key: bytes, lease: Optional[Lease], arguments: Tuple[Any, ...], options: Dict[str, Any]) -> Any:
        results.misses += 1
        value = await function(*arguments, **options)
        results.store(key, value, lease)
        return value

    async def refresh(*arguments: Any, **options: Any) -> Any:
        return await compute(results.keys.key_of(arguments, options), None, arguments, options)

    return call, refresh
