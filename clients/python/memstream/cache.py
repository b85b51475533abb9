"""The class that users see: a cache as a mutable mapping, and more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ItemsView, Iterator, MutableMapping, Optional, Tuple, Type, ValuesView, overload

from memstream._abi import Status
from memstream._arguments import Buffer, Key, invalid
from memstream.accelerator import Accelerated
from memstream.arrays import Arrays
from memstream.errors import CacheMiss, MemStreamError, SerializerError
from memstream.memoize import Memoizing
from memstream.operations import miss
from memstream.serializers import SerializerChoice

if TYPE_CHECKING:
    from memstream.objects import ObjectCache

_ABSENT = object()


class Values(ValuesView[Any]):
    """Values of the keys that are still there when their turn comes."""

    _mapping: "Cache"

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping.items())

    def __contains__(self, value: object) -> bool:
        return any(value == stored for stored in self)


class Items(ItemsView[Key, Any]):
    """Pairs of the keys that are still there when their turn comes: others may delete and evict meanwhile.

    What cannot be decoded is left out, as `get_many` does.
    """

    _mapping: "Cache"

    def __iter__(self) -> Iterator[Tuple[bytes, Any]]:
        for key in self._mapping:
            value = self._mapping._get_decodable(key)
            if value is not _ABSENT:
                yield key, value

    def __contains__(self, item: Any) -> bool:
        key, value = item
        found = self._mapping._get_decodable(key)
        return found is value or bool(found == value)


class Cache(Accelerated, Memoizing, Arrays, MutableMapping[Key, Any]):
    """A cache that all processes of this machine share, as a mapping from keys to bytes.

        with Cache("thumbnails") as cache:
            cache["cat"] = b"..."
            cache.set("dog", b"...", ttl=60)
            value = cache.get("bird")           # None: not there

    Keys are str (stored as UTF-8) or bytes, and come back as bytes. Values are bytes-like, and come back as bytes; with
    `serializer=` they are objects: `Cache(serializer="pickle")` makes an `ObjectCache`, which see.

    Threads: all of them may use one Cache; the interpreter's lock is free while a call waits. Fork: a child goes on
    with the Cache of its parent, but not with its views and reservations. Spawn, pools: a Cache may be handed to
    another process, which opens the same segment. A process may be killed at any time: what it had stored stays, the
    others go on.

    Every method may raise ClosedError (after `close`), CacheBusy (others held the shard until the timeout), CacheGone
    (the segment was destroyed: open a new Cache) and CorruptError (damaged bytes were met).
    """

    # Two caches are the same if they are one object: comparing all entries is not what == should cost.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    @overload
    def __new__(cls, name: Optional[str] = None, *, serializer: None = None, **options: Any) -> "Cache":
        ...

    @overload
    def __new__(cls, name: Optional[str] = None, *, serializer: SerializerChoice, **options: Any) -> "ObjectCache":
        ...

    def __new__(
        cls, name: Optional[str] = None, *, serializer: Optional[SerializerChoice] = None, **options: Any
    ) -> "Cache":
        """Makes an `ObjectCache` if a serializer is given."""
        chosen: Type[Cache] = cls
        if serializer is not None:
            from memstream.objects import ObjectCache

            if cls is Cache:
                chosen = ObjectCache
            elif not issubclass(cls, ObjectCache):
                expected = f"None, because {cls.__name__} stores bytes"
                raise TypeError(invalid("serializer", serializer, expected, f"Derive {cls.__name__} from ObjectCache"))
        return super().__new__(chosen)

    def clear(self) -> None:
        """Removes all entries. Views stay readable. Source: memstream_clear."""
        self._check(self._library.c.memstream_clear(self._handle))

    def __getitem__(self, key: Key) -> Any:
        """Returns a copy of the value; raises CacheMiss, which is a KeyError, if the key is not there."""
        value = self.get(key, _ABSENT)
        if value is _ABSENT:
            raise miss(key)
        return value

    def __setitem__(self, key: Key, value: Buffer) -> None:
        self.set(key, value)

    def __delitem__(self, key: Key) -> None:
        if not self.delete(key):
            raise miss(key)

    def __contains__(self, key: object) -> bool:
        """Returns whether the key is there; counts no access. What cannot be a key is not there."""
        return isinstance(key, (str, bytes)) and self.exists(key)

    def __len__(self) -> int:
        """Returns the number of entries; an expired one counts until somebody notices."""
        return self.stats().entries

    def __bool__(self) -> bool:
        """A cache is true, also an empty one: `cache or other` must not depend on what was evicted."""
        return True

    def __iter__(self) -> Iterator[bytes]:
        """Walks over the keys, as bytes, like `scan`."""
        return (entry.key for entry in self.scan())

    def values(self) -> Values:
        """Returns the values; each is a get. Entries that go while it is walked over are left out."""
        return Values(self)

    def items(self) -> Items:
        """Returns (key, value) pairs; each is a get. Entries that go while it is walked over are left out."""
        return Items(self)

    def pop(self, key: Key, default: Any = _ABSENT) -> Any:
        """Removes the key and returns its value.

        Two steps: a value that somebody stores between them is removed unseen. If several pop one key at the same time,
        exactly one of them gets it.

        Args:
            key: as for `get`.
            default: what a miss returns, or a value that cannot be decoded, which is removed all the same; without it a
                miss raises CacheMiss, and what cannot be decoded an error, and stays.
        """
        if default is _ABSENT:
            value = self.get(key, _ABSENT)
            if value is _ABSENT or not self.delete(key):
                raise miss(key)
            return value
        value = self._get_decodable(key)
        return value if self.delete(key) and value is not _ABSENT else default

    def popitem(self) -> Tuple[bytes, Any]:
        """Removes a key, any of them, and returns it with its value; raises CacheMiss if there is none."""
        for key, value in self.items():
            if self.delete(key):
                return bytes(key), value
        raise CacheMiss(Status.MISS, "The cache has no value that can be decoded. Store one first.")

    def _get_decodable(self, key: Key) -> Any:
        """Returns a value as `get` does, and _ABSENT, with a warning, for one that cannot be decoded."""
        try:
            return self.get(key, _ABSENT)
        except Exception as error:
            if isinstance(error, MemStreamError) and not isinstance(error, SerializerError):
                raise
        # It warns, or raises what has nothing to do with the value. For one key it takes longer than a get.
        return self.get_many([key]).get(key, _ABSENT)

    def setdefault(self, key: Key, default: Any = b"") -> Any:
        """Returns the value of the key; stores `default` first if it is absent, unless somebody else is faster."""
        while True:
            value = self.get(key, _ABSENT)
            if value is not _ABSENT:
                return value
            if self.add(key, default):
                return self._as_stored(default)

    def _as_stored(self, value: Any) -> Any:
        """Returns what `get` would give for this value."""
        return bytes(value)

    def __repr__(self) -> str:
        if self.closed:
            return "<memstream.Cache closed>"
        info = self.info()
        calls = "accelerated" if info.accelerated else "not accelerated"
        return f"<memstream.Cache {info.backend}:{info.name}, {calls}>"
