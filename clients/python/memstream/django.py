"""Django's cache in shared memory, for all processes of a site on one machine.

    CACHES = {
        "default": {
            "BACKEND": "memstream.django.MemStreamCache",
            "LOCATION": "site",                     # The name of the cache; without it MEMSTREAM_NAME, or "default".
            "OPTIONS": {"size": 512 * 1024 * 1024}, # What `memstream.Cache` takes. MAX_ENTRIES means nothing here.
        }
    }

Sessions work on it (`SESSION_ENGINE = "django.contrib.sessions.backends.cache"`). `clear` empties the whole segment,
whatever the prefix. The asynchronous methods do their work at once, in the thread of the event loop: most calls take a
few microseconds, which is less than handing them to another thread would.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Union

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from memstream._adapters import SharedCache, bounded_key, seconds_of
from memstream.errors import CacheMiss
from memstream.objects import ObjectCache

_NOT_OURS = {"MAX_ENTRIES", "CULL_FREQUENCY"}

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
                miss.
        """
        super().__init__(params)
        options = {name: value for name, value in params.get("OPTIONS", {}).items() if name not in _NOT_OURS}
        self._shared = SharedCache(location or None, options, "django")

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
        """Returns a value, or `default`. Source: memstream_get."""
        return self._shared.get(self._key(key, version), default)

    def set(self, key: str, value: Any, timeout: Timeout = DEFAULT_TIMEOUT, version: Optional[int] = None) -> None:
        """Stores a value; with a timeout of 0 or less, removes it. Source: memstream_set."""
        self._shared.set(self._key(key, version), value, self._seconds(timeout))

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


def _asynchronous(name: str) -> Callable[..., Any]:
    async def method(self: MemStreamCache, *arguments: Any, **options: Any) -> Any:
        return getattr(self, name)(*arguments, **options)

    method.__name__ = method.__qualname__ = f"a{name}"
    method.__doc__ = f"As `{name}`, for coroutines."
    return method


for _name in (
    "add get set touch delete has_key incr decr clear close "
    "get_many set_many delete_many get_or_set incr_version decr_version"
).split():
    setattr(MemStreamCache, f"a{_name}", _asynchronous(_name))
