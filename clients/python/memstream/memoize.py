"""Functions whose results all processes share: one computes, the others wait or take the old result.

A result is an entry of the cache under a key made of the function's name and the call's arguments. Who finds none takes
the lease of that key; the lease dies with its holder, so that a computing process may be killed without anybody being
stuck. Exceptions are never stored.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, Callable, Dict, Iterable, Optional, Protocol, Tuple, TypeVar, Union, cast

from memstream._core.arguments import (
    Duration,
    Key,
    check_bool,
    check_callable,
    encode_key,
    invalid,
    milliseconds,
    seconds,
)
from memstream.leases import Lease
from memstream.memo_callables import MEMOIZED
from memstream.memo_keys import KeyMaker
from memstream.memo_results import CacheInfo, Options, Result, Results, Source
from memstream.memo_turns import Turn

_T = TypeVar("_T")

_STALE = "seconds of 0 or more as a number or a timedelta"
_SHARE = "a number from 0 to below 1"
_WAIT = "seconds of 0 or more as a number or a timedelta, or None"


class MemoizedFunction(Protocol[_T]):
    """What `memoize` makes of a function."""

    __wrapped__: Callable[..., _T]

    def __call__(self, *arguments: Any, **options: Any) -> _T:
        """Returns the stored result of these arguments, or computes it.

        Args:
            arguments, options: those of the function.

        Returns:
            The result.
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
            Whether there was one.
        """

    def cache_clear(self) -> None:
        """Removes all results of the function, those of other processes too. Walks over all keys of the cache."""

    def cache_info(self) -> CacheInfo:
        """Counts hits, misses and results. Walks over all keys of the cache.

        Returns:
            The numbers.
        """


def memoize(
    source: Source,
    options: Options = Options(),
    ignore: Union[str, Iterable[str]] = (),
    key: Optional[Callable[..., Any]] = None,
    typed: bool = False,
    name: Optional[str] = None,
    version: Any = None,
) -> Callable[[Callable[..., _T]], MemoizedFunction[_T]]:
    """As `Cache.memoize`, on the cache of a source."""
    # Refuses what is wrong now, and not at the first call.
    check_callable("key", key)
    check_bool("typed", typed)
    if name is not None and not isinstance(name, str):
        raise TypeError(invalid("name", name, "a str that is not empty, or None for the function's own name"))
    if name == "":
        raise ValueError(invalid("name", name, "a str that is not empty, or None for the function's own name"))

    def decorate(function: Callable[..., _T]) -> MemoizedFunction[_T]:
        keys = KeyMaker(function, ignore, key, typed, name, version)
        return _wrap(function, Results(source, keys, options))

    return decorate


def make_options(
    ttl: Optional[Duration],
    stale: Duration,
    cache_if: Optional[Callable[[Any], bool]],
    wait: Optional[Duration],
    lease: Optional[Duration],
    tags: Union[None, Iterable[Key], Callable[..., Iterable[Key]]] = None,
    jitter: float = 0,
    absent_ttl: Optional[Duration] = None,
    refresh_ahead: float = 0,
) -> Options:
    """Returns options with all durations in seconds.

    Raises:
        TypeError, ValueError, InvalidArgument: one of them is not as `Cache.memoize` describes it.
    """
    milliseconds(ttl)
    milliseconds(lease, "lease")
    check_callable("cache_if", cache_if)
    stale_seconds = seconds(stale, "stale", _STALE)
    if stale_seconds is None or not 0 <= stale_seconds < float("inf"):
        raise ValueError(invalid("stale", stale, _STALE))
    if stale_seconds and ttl is None:
        raise ValueError(invalid("stale", stale, "0 without a ttl", "Give a ttl, after which results are stale"))
    milliseconds(absent_ttl, "absent_ttl")
    for name, share in (("jitter", jitter), ("refresh_ahead", refresh_ahead)):
        if isinstance(share, bool) or not isinstance(share, (int, float)):
            raise TypeError(invalid(name, share, _SHARE))
        if not 0 <= share < 1:
            raise ValueError(invalid(name, share, _SHARE))
        if share and ttl is None and absent_ttl is None:
            raise ValueError(invalid(name, share, "0 without a ttl", "Give a ttl, of which it is a share"))
    wait_seconds = seconds(wait, "wait", _WAIT)
    if wait_seconds is not None and not wait_seconds >= 0:
        raise ValueError(invalid("wait", wait, _WAIT))
    if tags is not None and not callable(tags):
        if isinstance(tags, (str, bytes)) or not isinstance(tags, Iterable):
            raise TypeError(invalid("tags", tags, "an iterable of str or bytes, or a function that gives one"))
        tags = [encode_key(tag, "tag") for tag in tags]
    return Options(
        ttl=seconds(ttl),
        stale=stale_seconds,
        cache_if=cache_if,
        wait=wait_seconds,
        lease=seconds(lease, "lease"),
        jitter=jitter,
        refresh_ahead=refresh_ahead,
        absent_ttl=seconds(absent_ttl, "absent_ttl"),
        tags=tags,
    )


def _wrap(function: Callable[..., _T], results: Results) -> MemoizedFunction[_T]:
    """Makes the function that callers see."""
    inner = results.keys.function
    if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
        raise TypeError(f"{results.name} is a generator: let it return a list, which can be stored")
    call, refresh = (_async_calls if inspect.iscoroutinefunction(inner) else _calls)(function, results)
    wrapper: Any = functools.wraps(function)(call)
    wrapper.refresh = refresh
    wrapper.forget = results.forget
    wrapper.cache_clear = results.clear
    wrapper.cache_info = results.info
    setattr(wrapper, MEMOIZED, results.keys)
    return cast(MemoizedFunction[_T], wrapper)


# In both kinds of calls the lease is given back by a C function, called first of all: an exception from a signal
# handler finds no bytecode before it.


def _calls(function: Callable[..., Any], results: Results) -> Tuple[Callable[..., Any], Callable[..., Any]]:
    """Makes call and refresh of a plain function."""

    def call(*arguments: Any, **options: Any) -> Any:
        key = results.keys.key_of(arguments, options)
        found = results.look(key)
        if found is None or not found.is_fresh:
            turn = Turn(results, key, found)
            try:
                while not turn.is_settled():
                    turn.wait()
                if turn.computes:
                    return compute(key, turn.lease, arguments, options, turn.found)
            finally:
                turn.lease.give_back(None)
            found = turn.found
        results.hits += 1
        return None if found is None else found.value

    def compute(
        key: bytes,
        lease: Optional[Lease],
        arguments: Tuple[Any, ...],
        options: Dict[str, Any],
        old: Optional[Result] = None,
    ) -> Any:
        results.misses += 1
        tags = results.take_tags(arguments, options)
        try:
            value = function(*arguments, **options)
        except Exception as error:
            if old is None or not results.may_stay(old, error):
                raise
            return old.value
        results.store(key, value, lease, tags)
        return value

    def refresh(*arguments: Any, **options: Any) -> Any:
        return compute(results.keys.key_of(arguments, options), None, arguments, options)

    return call, refresh


def _async_calls(function: Callable[..., Any], results: Results) -> Tuple[Callable[..., Any], Callable[..., Any]]:
    """Makes call and refresh of a coroutine function. Nothing in them makes the event loop wait."""

    async def call(*arguments: Any, **options: Any) -> Any:
        key = results.keys.key_of(arguments, options)
        found = results.look(key)
        if found is None or not found.is_fresh:
            turn = Turn(results, key, found)
            try:
                while not turn.is_settled():
                    await turn.wait_in_task()
                if turn.computes:
                    return await compute(key, turn.lease, arguments, options, turn.found)
            finally:
                turn.lease.give_back(None)
            found = turn.found
        results.hits += 1
        return None if found is None else found.value

    async def compute(
        key: bytes,
        lease: Optional[Lease],
        arguments: Tuple[Any, ...],
        options: Dict[str, Any],
        old: Optional[Result] = None,
    ) -> Any:
        results.misses += 1
        tags = results.take_tags(arguments, options)
        try:
            value = await function(*arguments, **options)
        except Exception as error:
            if old is None or not results.may_stay(old, error):
                raise
            return old.value
        results.store(key, value, lease, tags)
        return value

    async def refresh(*arguments: Any, **options: Any) -> Any:
        return await compute(results.keys.key_of(arguments, options), None, arguments, options)

    return call, refresh
