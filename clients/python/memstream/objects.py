"""The name that a cache with a serializer had as a class of its own."""

from __future__ import annotations

from abc import ABCMeta
from typing import Any, Optional

from memstream._core.codec import SerializerChoice
from memstream.cache import Cache


class _AnyWithSerializer(ABCMeta):
    """Lets `isinstance` take every cache with a serializer for an ObjectCache."""

    def __instancecheck__(cls, instance: object) -> bool:
        if cls is ObjectCache and isinstance(instance, Cache):
            return instance._codec.stores_objects
        return super().__instancecheck__(instance)


class ObjectCache(Cache, metaclass=_AnyWithSerializer):
    """A `Cache` that pickles its values unless it is given another serializer.

    `Cache(serializer="pickle")` does the same. This name stays until the next release; to `isinstance`, every cache
    with a serializer is one.
    """

    def __init__(self, name: Optional[str] = None, *, serializer: SerializerChoice = "pickle", **options: Any) -> None:
        """Opens the cache of that name.

        Args:
            name, serializer, options: as for `Cache`.

        Raises:
            Those of `Cache`.

        Source: memstream_open.
        """
        super().__init__(name, serializer=serializer, **options)
