"""Django's cache in shared memory, for all processes of a site on one machine.

    CACHES = {
        "default": {
            "BACKEND": "memstream.django.MemStreamCache",
            "LOCATION": "site",                     # The name of the cache; without it MEMSTREAM_NAME, or "default".
            "OPTIONS": {"size": 512 * 1024 * 1024}, # What `memstream.Cache` takes. MAX_ENTRIES means nothing here.
        }
    }

Sessions work on it (`SESSION_ENGINE = "django.contrib.sessions.backends.cache"`). One of all processes computes what
`get_or_set` or a cached page needs; the others wait for it.

The asynchronous methods do their work at once, in the thread of the event loop: most calls take a few microseconds,
which is less than handing them to another thread would. Only `aget_or_set` waits, and lets other coroutines run.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Union

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from memstream._adapters import SharedCache, bounded_key, is_over, seconds_of
from memstream._pages import Pages, is_page
from memstream._turns import Turn
from memstream.errors import CacheMiss
from memstream.objects import ObjectCache

_NOT_OURS = {"MAX_ENTRIES", "CULL_FREQUENCY"}
_ABSENT = object()

# Seconds: for how long get_or_set and pages wait for others, and how often a coroutine looks again.
_DEFAULT_WAIT = 30
_LOOK_AGAIN = 0.01

# Seconds: 0 or less has expired, None is for ever; DEFAULT_TIMEOUT: the TIMEOUT of the settings.
Timeout = Union[None, float, timedelta, object]


class MemStreamCache(BaseCache):
    """A cache backend; its methods are those of Django's documentation.

    A value that is too large is not stored, and the key is absent then, as with memcached.
    """

    def __init__(self, location: str, params: Dict[str, Any]) -> None:
        """Makes the backend; the segment is opened at the first use.

        Args:
            location: name of the cache; empty: the environment's.
            params: the settings of the cache. OPTIONS are those of `memstream.Cache`; `serializer`, "pickle" if it is
                not given; `ignore_errors`, whether trouble (busy, full, gone, no memory) is logged and counts as a
                miss; `wait`, the seconds to wait for another process that computes the same, 0 for not at all: 30 if
                it is not given.
        """
        super().__init__(params)
        options = {name: value for name, value in params.get("OPTIONS", {}).items() if name not in _NOT_OURS}
        self._wait = options.pop("wait", _DEFAULT_WAIT)
        self._shared = SharedCache(location or None, options, "django")
        self._pages = Pages(self._shared, self._wait)

    @property
    def memstream(self) -> ObjectCache:
        """The `memstream.Cache` behind this one, open. Its keys are those of `make_key`."""
        return self._shared.cache

    def _key(self, key: str, version: Optional[int]) -> bytes:
        made = self.make_key(key, version=version)
        self.validate_key(made)
        return bounded_key(made)

    def _seconds(self, timeout: Any) -> Optional[float]:
        """Returns seconds to live, 0 or less for "expired at once", None for ever."""
        return seconds_of(self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout)

    def add(self, key: str, value: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: Optional[int] = None) -> bool:
        """Stores a value if the key is absent; returns whether it was. Source: memstream_add."""
        return self._shared.add(self._key(key, version), value, self._seconds(timeout))

    def get(self, key: str, default: Any = None, version: Optional[int] = None) -> Any:
        """Returns a value, or `default`. Waits for a page that another process is making. Source: memstream_get."""
        name = self._key(key, version)
        if is_page(key):
            return self._pages.get(key, name, lambda: self._shared.get(name, default), default)
        return self._shared.get(name, default)

    def set(self, key: str, value: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: Optional[int] = None) -> None:
        """Stores a value; with a timeout of 0 or less, removes it. Source: memstream_set."""
        is_stored = self._shared.set(self._key(key, version), value, self._seconds(timeout))
        if is_page(key):
            self._pages.note_set(key, is_stored)

    def get_or_set(
        self, key: str, default: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: Optional[int] = None
    ) -> Any:
        """Returns a value; stores `default` first if it is absent, or what `default` returns if that can be called.

        One of all processes and threads calls it; the others wait for the value, as long as `wait` of OPTIONS says. If
        it raises, its caller gets the exception, and the others compute side by side.

        Source: memstream_get, memstream_lease, memstream_lease_wait, memstream_add.
        """
        addition = _Addition(self, key, default, timeout, version)
        while not addition.is_decided():
            addition.turn.wait()
        return addition.finish()

    async def aget_or_set(
        self, key: str, default: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: Optional[int] = None
    ) -> Any:
        """As `get_or_set`, for coroutines: others run while this one waits."""
        addition = _Addition(self, key, default, timeout, version)
        while not addition.is_decided():
            await asyncio.sleep(_LOOK_AGAIN)
        return addition.finish()

    def touch(self, key: str, timeout: Timeout = DEFAULT_TIMEOUT, version: Optional[int] = None) -> bool:
        """Gives a key a new timeout; returns whether it was there. Source: memstream_touch."""
        return self._shared.touch(self._key(key, version), self._seconds(timeout))

    def delete(self, key: str, version: Optional[int] = None) -> bool:
        """Removes a key; returns whether it was there. Source: memstream_delete."""
        return bool(self._shared.call("delete", self._key(key, version)))

    def get_many(self, keys: Iterable[str], version: Optional[int] = None) -> Dict[str, Any]:
        """Returns a dict of those of the keys that are there. Source: memstream_get_many."""
        names = {self._key(key, version): key for key in keys}
        found = self._shared.get_many(names)
        return {names[name]: value for name, value in found.items()}

    def set_many(
        self, data: Mapping[str, Any], timeout: Timeout = DEFAULT_TIMEOUT, version: Optional[int] = None
    ) -> List[str]:
        """Stores values; with a timeout of 0 or less, removes them. Source: memstream_set_many.

        Returns:
            The keys of values that could not be stored; they are absent then.
        """
        values = dict(data)  # Another thread may change it meanwhile.
        names = {self._key(key, version): key for key in values}
        failed = self._shared.set_many({name: values[key] for name, key in names.items()}, self._seconds(timeout))
        return [names[name] for name in failed]

    def delete_many(self, keys: Iterable[str], version: Optional[int] = None) -> None:
        """Removes keys. Source: memstream_delete_many."""
        self._shared.call("delete_many", [self._key(key, version) for key in keys])

    def has_key(self, key: str, version: Optional[int] = None) -> bool:
        """Returns whether a key is there. Source: memstream_exists."""
        return bool(self._shared.call("exists", self._key(key, version)))

    def incr(self, key: str, delta: int = 1, version: Optional[int] = None) -> int:
        """Adds to a number, in one step among all processes. Keeps its timeout. Source: memstream_incr.

        Raises:
            ValueError: the key is absent, or its value is no whole number.
        """
        try:
            return self._shared.incr(self._key(key, version), delta)
        except CacheMiss:
            raise ValueError(f"Key '{key}' not found") from None

    def clear(self) -> None:
        """Removes all entries of the segment. Source: memstream_clear."""
        self._shared.clear()

    def close(self, **_: Any) -> None:
        """Ends what this thread's request had begun; the segment stays open. Called by Django after each request."""
        self._pages.end()


class _Addition:
    """A `get_or_set` under way."""

    def __init__(self, cache: MemStreamCache, key: str, default: Any, timeout: Any, version: Optional[int]) -> None:
        self._shared = cache._shared
        self._name = cache._key(key, version)
        self._default = default
        self._seconds = cache._seconds(timeout)
        # What nobody can find afterwards, and what takes no time, is not waited for.
        wait = cache._wait if callable(default) and not is_over(self._seconds) else 0
        self.turn = Turn(self._shared, self._name, wait, _ABSENT)

    def _look(self) -> Any:
        return self._shared.get(self._name, _ABSENT)

    def is_decided(self) -> bool:
        """Returns whether the value is there, or has to be made here and now."""
        self.turn.value = self._look()
        return self.turn.value is not _ABSENT or self.turn.is_decided(self._look)

    def finish(self) -> Any:
        """Returns the value; makes and stores it if need be."""
        with self.turn as turn:
            if turn.value is _ABSENT:
                turn.value = self._default() if callable(self._default) else self._default
                turn.is_stored = self._store(turn)
        return turn.value

    def _store(self, turn: Turn) -> bool:
        """Stores the value unless another one is there by now, which then counts; returns whether one is there."""
        if self._shared.add(self._name, turn.value, self._seconds):
            return True
        found = self._look()
        if found is not _ABSENT:
            turn.value = found
            return True
        # Something is there that cannot be decoded, or the value cannot be stored.
        return self._shared.set(self._name, turn.value, self._seconds)


def _asynchronous(name: str) -> Callable[..., Any]:
    async def method(self: MemStreamCache, *arguments: Any, **options: Any) -> Any:
        return getattr(self, name)(*arguments, **options)

    method.__name__ = method.__qualname__ = f"a{name}"
    method.__doc__ = f"As `{name}`, for coroutines."
    return method


for _name in (
    "add get set touch delete has_key incr decr clear close " "get_many set_many delete_many incr_version decr_version"
).split():
    setattr(MemStreamCache, f"a{_name}", _asynchronous(_name))
