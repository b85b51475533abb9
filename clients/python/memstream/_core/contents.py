"""What `Cache.values` and `Cache.items` return."""

from __future__ import annotations

from typing import Any, ItemsView, Iterator, Protocol, Tuple, ValuesView

from memstream._core.arguments import Key

# What `_get_decodable` returns for a key that has no value.
ABSENT = object()


class Contents(Protocol):
    """What they need of their Cache."""

    def __iter__(self) -> Iterator[bytes]:
        ...

    def items(self) -> "CacheItems":
        ...

    def _get_decodable(self, key: Key) -> Any:
        ...


class CacheValues(ValuesView[Any]):
    """Values of the keys that are still there when their turn comes."""

    _mapping: Contents

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping.items())

    def __contains__(self, value: object) -> bool:
        return any(value == stored for stored in self)


class CacheItems(ItemsView[Key, Any]):
    """Pairs of the keys that are still there when their turn comes: others may delete and evict meanwhile.

    What cannot be decoded is left out, as `get_many` does.
    """

    _mapping: Contents

    def __iter__(self) -> Iterator[Tuple[bytes, Any]]:
        for key in self._mapping:
            value = self._mapping._get_decodable(key)
            if value is not ABSENT:
                yield key, value

    def __contains__(self, item: Any) -> bool:
        key, value = item
        found = self._mapping._get_decodable(key)
        return found is value or bool(found == value)
