"""Functions whose results are in Redis, and in the near cache of each machine.

A caller that finds no result takes the turn, a lease in the segment: of one machine one caller computes. The turn ends
with its process.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import pickle
import time
from typing import Any, Callable, Dict, Optional, Protocol, Tuple, TypeVar, cast

from memstream._core.abi import Status
from memstream._core.arguments import Duration, Key, check_callable, encode_key, invalid, milliseconds, seconds
from memstream._core.waiting import coroutine_sleep
from memstream.cache import Cache
from memstream.errors import InvalidArgument, MemStreamError
from memstream.leases import Lease
from memstream.memo_keys import KeyMaker

_T = TypeVar("_T")

_TURN = b"memstream-near-turn:"
_UNREADABLE = object()

# Seconds: between two looks of those that wait.
_PAUSE = 0.01


class NearMemoized(Protocol[_T]):
    """What `NearCache.memoize` makes of a function."""

    __wrapped__: Callable[..., _T]

    def __call__(self, *arguments: Any, **options: Any) -> _T:
        """Returns the stored result of these arguments, or computes it.

        Args:
            arguments, options: those of the function.

        Returns:
            The result; a coroutine for a coroutine function.
        """

    def refresh(self, *arguments: Any, **options: Any) -> _T:
        """Computes and stores the result again, whatever is stored.

        Args:
            arguments, options: those of the function.

        Returns:
            The result; a coroutine for a coroutine function.
        """

    def forget(self, *arguments: Any, **options: Any) -> bool:
        """Removes the result of these arguments.

        Args:
            arguments, options: those of the function.

        Returns:
            Whether there was one; a coroutine for a coroutine function.
        """


class Turn:
    """The right of one caller of this machine to compute what Redis does not have; a lease in the segment.

    turn = Turn(cache, b"key", wait=30)
    try:
        while not turn.is_taken():
            turn.wait()
            ... look for the value
    finally:
        turn.end()
    """

    def __init__(self, cache: Cache, name: bytes, wait: float) -> None:
        """Makes a turn; takes nothing yet.

        Args:
            cache: the one under the near cache.
            name: the key that is to be computed.
            wait: seconds for which this caller waits, and others wait for it.
        """
        self._cache, self._wait = cache, wait
        self._key = _TURN + hashlib.sha256(name).digest()
        self._end = time.monotonic() + wait
        self._lease: Optional[Lease] = None

    def is_taken(self) -> bool:
        """Asks for the turn. True also if this caller has waited enough, or the segment has no turns any more."""
        try:
            self._lease = self._cache.lease(self._key, duration=self._wait)
        except MemStreamError:  # Of a segment that was destroyed, say. Redis keeps the result nevertheless.
            return True
        return self._lease is not None or time.monotonic() >= self._end

    def wait(self) -> None:
        """Waits until nobody has the turn, or for as long as this caller waits."""
        try:
            self._cache.wait_for_lease(self._key, max(0.001, self._end - time.monotonic()))
        except MemStreamError:
            self._end = 0

    def end(self) -> None:
        """Gives the turn back, if it was taken."""
        if self._lease is not None:
            self._lease.give_back(None)


class _Results:
    """What the calls of one function have in common, with and without asyncio."""

    def __init__(
        self,
        near: Any,
        cache: Cache,
        ttl: Optional[Duration],
        prefix: Optional[Key],
        cache_if: Optional[Callable[[Any], bool]],
        wait: Duration,
    ) -> None:
        milliseconds(ttl)
        check_callable("cache_if", cache_if)
        self.wait = seconds(wait, "wait", "seconds above 0") or 0.0
        if not 0 < self.wait <= 3600:
            raise InvalidArgument(Status.INVALID, invalid("wait", wait, "seconds above 0, up to 3600"))
        own = near._prefixes[0] if near._prefixes else b""
        self.prefix = own if prefix is None else encode_key(prefix, "prefix")
        if near._prefixes and not self.prefix.startswith(tuple(near._prefixes)):
            remedy = "Use one of the prefixes of the near cache"
            raise InvalidArgument(Status.INVALID, invalid("prefix", prefix, "one that is cached", remedy))
        self.near, self.ttl, self._cache, self._cache_if = near, ttl, cache, cache_if

    def is_kept(self, value: Any) -> bool:
        return self._cache_if is None or bool(self._cache_if(value))

    def name_of(self, keys: KeyMaker, arguments: Tuple[Any, ...], options: Dict[str, Any]) -> bytes:
        name: bytes = self.prefix + keys.key_of(arguments, options)
        return name

    def turn(self, name: bytes) -> Turn:
        return Turn(self._cache, name, self.wait)


def _read(data: Optional[bytes]) -> Any:
    """Returns a result, or _UNREADABLE: another program may have stored it, with classes of its own."""
    if data is None:
        return _UNREADABLE
    try:
        return pickle.loads(data)
    except Exception:  # Unpickling runs code of the value's classes, which may raise anything.
        return _UNREADABLE


def memoize(
    near: Any,
    cache: Cache,
    ttl: Optional[Duration],
    prefix: Optional[Key],
    cache_if: Optional[Callable[[Any], bool]],
    wait: Duration,
    naming: Tuple[Any, ...],
) -> Callable[[Callable[..., _T]], NearMemoized[_T]]:
    """As `NearCache.memoize`; `naming` is for the KeyMaker."""
    results = _Results(near, cache, ttl, prefix, cache_if, wait)

    def decorate(function: Callable[..., _T]) -> NearMemoized[_T]:
        keys = KeyMaker(function, *naming)
        if inspect.iscoroutinefunction(keys.function):
            raise TypeError(invalid("function", function, "a plain one", "Use AsyncNearCache for coroutine functions"))
        _refuse_generators(keys.function)

        def name_of(arguments: Any, options: Any) -> bytes:
            return results.name_of(keys, arguments, options)

        def compute(name: bytes, arguments: Any, options: Any) -> Any:
            value = function(*arguments, **options)
            if results.is_kept(value):
                near.set(name, pickle.dumps(value, pickle.HIGHEST_PROTOCOL), ttl)
            return value

        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            name = name_of(arguments, options)
            found = _read(near.get(name))
            if found is not _UNREADABLE:
                return found
            turn = results.turn(name)
            try:
                while not turn.is_taken():
                    turn.wait()
                    found = _read(near.get(name))
                    if found is not _UNREADABLE:
                        return found
                found = _read(near.get(name))  # It may have come before the turn was taken.
                return compute(name, arguments, options) if found is _UNREADABLE else found
            finally:
                turn.end()

        def refresh(*arguments: Any, **options: Any) -> Any:
            return compute(name_of(arguments, options), arguments, options)

        def forget(*arguments: Any, **options: Any) -> bool:
            return bool(near.delete(name_of(arguments, options)))

        return _finish(call, refresh, forget)

    return decorate


def async_memoize(
    near: Any,
    cache: Cache,
    ttl: Optional[Duration],
    prefix: Optional[Key],
    cache_if: Optional[Callable[[Any], bool]],
    wait: Duration,
    naming: Tuple[Any, ...],
) -> Callable[[Callable[..., _T]], NearMemoized[_T]]:
    """As `memoize`, for coroutine functions."""
    results = _Results(near, cache, ttl, prefix, cache_if, wait)

    def decorate(function: Callable[..., _T]) -> NearMemoized[_T]:
        keys = KeyMaker(function, *naming)
        if not inspect.iscoroutinefunction(keys.function):
            raise TypeError(invalid("function", function, "a coroutine function", "Use NearCache for plain ones"))

        def name_of(arguments: Any, options: Any) -> bytes:
            return results.name_of(keys, arguments, options)

        async def compute(name: bytes, arguments: Any, options: Any) -> Any:
            value = await cast(Any, function)(*arguments, **options)
            if results.is_kept(value):
                await near.set(name, pickle.dumps(value, pickle.HIGHEST_PROTOCOL), ttl)
            return value

        @functools.wraps(function)
        async def call(*arguments: Any, **options: Any) -> Any:
            name = name_of(arguments, options)
            found = _read(await near.get(name))
            if found is not _UNREADABLE:
                return found
            turn = results.turn(name)
            try:
                while not turn.is_taken():
                    await coroutine_sleep()(_PAUSE)
                    found = _read(await near.get(name))
                    if found is not _UNREADABLE:
                        return found
                found = _read(await near.get(name))
                return await compute(name, arguments, options) if found is _UNREADABLE else found
            finally:
                turn.end()

        async def refresh(*arguments: Any, **options: Any) -> Any:
            return await compute(name_of(arguments, options), arguments, options)

        async def forget(*arguments: Any, **options: Any) -> bool:
            return bool(await near.delete(name_of(arguments, options)))

        return _finish(call, refresh, forget)

    return decorate


def _refuse_generators(function: Callable[..., Any]) -> None:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(invalid("function", function, "no generator", "Let it return a list, which can be stored"))


def _finish(call: Any, refresh: Any, forget: Any) -> NearMemoized[Any]:
    call.refresh, call.forget = refresh, forget
    return cast(NearMemoized[Any], call)
