"""cachelib's interface in shared memory: for Flask-Session and whatever else takes a cachelib cache."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Callable, Dict, List, Optional, Union, cast

from cachelib import BaseCache

from memstream._shared import SharedCache, bounded_key, bounded_prefix, seconds_of
from memstream.cache import Cache
from memstream.errors import CacheMiss

# Seconds; None: the default timeout of the cache.
Timeout = Union[None, float, timedelta]


class MemStreamCache(BaseCache):
    """A cachelib cache; its methods are those of cachelib's documentation.

    A timeout of 0 is for ever, a negative one has expired already. A value that is too large is not stored, and the key
    is absent then.
    """

    _adapter = "cachelib"

    def __init__(
        self,
        name: Optional[str] = None,
        default_timeout: Timeout = 300,
        key_prefix: Union[str, Callable[[], str], None] = "",
        **options: Any,
    ) -> None:
        """Makes the cache; the segment is opened at the first use.

        Args:
            name: of the cache; None: the environment's.
            default_timeout: seconds to live where none are given; 0 or None: for ever.
            key_prefix: put in front of every key; a function is called for each operation.
            options: those of `memstream.Cache`; `serializer`, "pickle" if it is not given; `ignore_errors`, whether
                trouble (busy, full, gone, no memory) is logged and counts as a miss.
        """
        super().__init__(cast(Any, default_timeout))  # cachelib knows whole numbers only.
        self._key_prefix = key_prefix
        self._shared = SharedCache(name, options, self._adapter)

    @property
    def memstream(self) -> Cache:
        """The `memstream.Cache` behind this one, open. Its keys have the prefix."""
        return self._shared.cache

    def _prefix(self) -> str:
        return (self._key_prefix() if callable(self._key_prefix) else self._key_prefix) or ""

    def _key(self, key: str) -> bytes:
        return bounded_key(self._prefix() + key)

    def _keys(self, keys: Any) -> Dict[bytes, str]:
        """Returns the callers' keys by those of the segment, in the same order."""
        prefix = self._prefix()
        return {bounded_key(prefix + key): key for key in keys}

    def _seconds(self, timeout: Timeout) -> Optional[float]:
        """Returns seconds to live; None for ever, which is 0 to cachelib; less than 0 for expired."""
        return seconds_of(self._normalize_timeout(cast(Any, timeout))) or None

    def get(self, key: str) -> Any:
        """Returns a value.

        Args:
            key: the key, without the prefix.

        Returns:
            The value; None if it is not there.

        Source: memstream_get.
        """
        return self._shared.get(self._key(key))

    def set(self, key: str, value: Any, timeout: Timeout = None) -> bool:
        """Stores a value.

        Args:
            key: the key, without the prefix.
            value: any object that the serializer takes.
            timeout: seconds to live; 0: for ever; None: the default timeout of the cache.

        Returns:
            Whether that worked.

        Source: memstream_set.
        """
        return self._shared.set(self._key(key), value, self._seconds(timeout))

    def add(self, key: str, value: Any, timeout: Timeout = None) -> bool:
        """Stores a value if the key is absent.

        Args:
            key: the key, without the prefix.
            value: any object that the serializer takes.
            timeout: seconds to live; 0: for ever; None: the default timeout of the cache.

        Returns:
            Whether it was stored.

        Source: memstream_add.
        """
        return self._shared.add(self._key(key), value, self._seconds(timeout))

    def delete(self, key: str) -> bool:
        """Removes a key.

        Args:
            key: the key, without the prefix.

        Returns:
            Whether it was there.

        Source: memstream_delete.
        """
        return bool(self._shared.call("delete", self._key(key)))

    def get_many(self, *keys: str) -> List[Any]:
        """Returns the values of several keys.

        Args:
            keys: the keys, without the prefix.

        Returns:
            The values in the order of the keys, with None for each that is not there.

        Source: memstream_get_many.
        """
        prefix = self._prefix()
        names = [bounded_key(prefix + key) for key in keys]
        found = self._shared.get_many(names)
        return [found.get(name) for name in names]

    def set_many(self, mapping: Dict[str, Any], timeout: Timeout = None) -> List[str]:
        """Stores values.

        Args:
            mapping: from keys to values.
            timeout: seconds to live; 0: for ever; None: the default timeout of the cache.

        Returns:
            The keys of those that were stored.

        Source: memstream_set_many.
        """
        values = dict(mapping)  # Another thread may change it meanwhile.
        names = self._keys(values)
        failed = self._shared.set_many({name: values[key] for name, key in names.items()}, self._seconds(timeout))
        refused = set(failed)
        return [key for name, key in names.items() if name not in refused]

    def delete_many(self, *keys: str) -> List[str]:
        """Removes keys.

        Args:
            keys: the keys, without the prefix.

        Returns:
            Those that were there.

        Source: memstream_delete_many.
        """
        prefix = self._prefix()
        were_there = self._shared.call("_delete_each", [bounded_key(prefix + key) for key in keys])
        return [key for key, was_there in zip(keys, were_there) if was_there]

    def has(self, key: str) -> bool:
        """Tells whether a key is there.

        Args:
            key: the key, without the prefix.

        Returns:
            Whether it is.

        Source: memstream_exists.
        """
        return bool(self._shared.call("exists", self._key(key)))

    def clear(self) -> bool:
        """Removes the entries with this prefix, or all of the segment if there is none.

        Returns:
            Whether that worked.

        Source: memstream_scan, memstream_delete_many; memstream_clear.
        """
        prefix = self._prefix()
        if not prefix:
            return self._shared.clear()
        return self._shared.delete_matching(bounded_prefix(prefix)) is not None

    def inc(self, key: str, delta: int = 1) -> Optional[int]:
        """Adds to a number, in one step among all processes; an absent key counts from 0.

        Args:
            key: the key, without the prefix.
            delta: a whole number.

        Returns:
            The new number; None for trouble that is ignored.

        Raises:
            ValueError: its value is no whole number.

        Source: memstream_incr.
        """
        try:
            return self._shared.incr(self._key(key), delta, 0, self._seconds(None))
        except CacheMiss:
            return None

    def dec(self, key: str, delta: int = 1) -> Optional[int]:
        """Subtracts from a number: `inc(key, -delta)`.

        Args:
            key, delta: as for `inc`.

        Returns:
            The new number; None for trouble that is ignored.
        """
        return self.inc(key, -delta)
