"""functools.lru_cache for all processes of the machine, with the same words."""

from __future__ import annotations

from typing import Any, Callable, Optional, TypeVar, Union, overload

from memstream._core.arguments import invalid, whole_number
from memstream._shared import SharedCache
from memstream.memo_results import Source
from memstream.memoize import MemoizedFunction, memoize

_T = TypeVar("_T")


@overload
def lru_cache(maxsize: Callable[..., _T], typed: bool = False) -> MemoizedFunction[_T]:
    ...


@overload
def lru_cache(maxsize: Optional[int] = 128, typed: bool = False) -> Callable[[Callable[..., _T]], MemoizedFunction[_T]]:
    ...


def lru_cache(maxsize: Union[int, None, Callable[..., Any]] = 128, typed: bool = False) -> Any:
    """Keeps the results of a function in the default cache of the environment, for all processes.

        from memstream import lru_cache

        @lru_cache
        def report(month: str) -> dict: ...

    Args:
        maxsize: taken so that only the import has to be changed; the memory of the cache is the limit. The function
            itself in the form without parentheses.
        typed: whether 1, 1.0 and True are different arguments.

    Returns:
        As `Cache.memoize` with nothing else given. Arguments need not be hashable, results must be picklable, and each
        call gets a copy of its own.

    Raises:
        ValueError: `maxsize` is 0 or less: call the function itself instead.

    Source: as `Cache.memoize`.
    """
    shared = SharedCache(None, {})
    source = Source(lambda: shared.cache, shared.drop)
    if callable(maxsize):
        return memoize(source, typed=typed)(maxsize)
    expected = "a whole number above 0, which changes nothing, or None"
    if maxsize is not None and whole_number("maxsize", maxsize, expected) <= 0:
        raise ValueError(invalid("maxsize", maxsize, expected, "Remove the decorator to keep no results"))
    return memoize(source, typed=typed)
