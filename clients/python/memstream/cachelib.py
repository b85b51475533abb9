"""cachelib's interface in shared memory: for Flask-Session and whatever else takes a cachelib cache."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from cachelib import BaseCache

from memstream._adapters import SharedCache, bounded_key


class MemStreamCache(BaseCache):
    """A cachelib cache; its methods are those of cachelib's documentation."""

    def __init__(
        self, name: Optional[str] = None, default_timeout: int = 300, key_prefix: str = "", **options: Any
    ) -> None:
        """Makes the cache; the segment is opened at the first use.

        Args:
            name: of the cache; None: the environment's.
            default_timeout: seconds to live where none are given; 0: for ever.
            key_prefix: put in front of every key.
            options: those of `memstream.Cache`, also `serializer`: "pickle" if it is not given.
        """
        super().__init__(default_timeout)
        self._prefix = key_prefix
        self._shared = SharedCache(name, options)

    def _key(self, key: str) -> bytes:
        return bounded_key(self._prefix + key)

    def _ttl(self, timeout: Optional[int]) -> Optional[int]:
        """Returns seconds to live; None for ever, which is 0 to cachelib."""
        seconds = self._normalize_timeout(timeout)
        return seconds if seconds > 0 else None

    def get(self, key: str) -> Any:
        """Returns a value; None if it is not there. Source: memstream_get."""
        return self._shared.call("get", self._key(key))

    def set(self, key: str, value: Any, timeout: Optional[int] = None) -> bool:
        """Stores a value. Source: memstream_set."""
        self._shared.call("set", self._key(key), value, self._ttl(timeout))
        return True

    def add(self, key: str, value: Any, timeout: Optional[int] = None) -> bool:
        """Stores a value if the key is absent; returns whether it was. Source: memstream_add."""
        return bool(self._shared.call("add", self._key(key), value, self._ttl(timeout)))

    def delete(self, key: str) -> bool:
        """Removes a key; returns whether it was there. Source: memstream_delete."""
        return bool(self._shared.call("delete", self._key(key)))

    def get_many(self, *keys: str) -> List[Any]:
        """Returns the values in the order of the keys, with None for what is not there. Source: memstream_get_many."""
        names = [self._key(key) for key in keys]
        found = self._shared.call("get_many", names)
        return [found.get(name) for name in names]

    def set_many(self, mapping: Dict[str, Any], timeout: Optional[int] = None) -> List[str]:
        """Stores values; returns their keys. Source: memstream_set_many."""
        self._shared.call("set_many", {self._key(key): value for key, value in mapping.items()}, self._ttl(timeout))
        return list(mapping)

    def delete_many(self, *keys: str) -> List[str]:
        """Removes keys; returns those that were there. Source: memstream_delete_many."""
        were_there = self._shared.call("_delete_each", [self._key(key) for key in keys])
        return [key for key, was_there in zip(keys, were_there) if was_there]

    def has(self, key: str) -> bool:
        """Returns whether a key is there. Source: memstream_exists."""
        return bool(self._shared.call("exists", self._key(key)))

    def clear(self) -> bool:
        """Removes all entries of the segment, whatever their prefix. Source: memstream_clear."""
        self._shared.call("clear")
        return True

    def inc(self, key: str, delta: int = 1) -> int:
        """Adds to a number, in one step among all processes; an absent key counts from 0. Source: memstream_incr.

        Raises:
            ValueError: its value is no whole number.
        """
        ttl = self._ttl(None)
        return int(self._shared.call("incr", self._key(key), delta, initial=0, ttl=ttl))

    def dec(self, key: str, delta: int = 1) -> int:
        """Subtracts from a number: `inc(key, -delta)`."""
        return self.inc(key, -delta)
