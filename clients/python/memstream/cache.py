"""The class that users see: a cache as a mutable mapping, and more."""

from __future__ import annotations

from ctypes import byref
from typing import Any, ItemsView, Iterator, MutableMapping, Optional, Tuple, ValuesView

from memstream import _abi
from memstream._abi import Status
from memstream._arguments import Buffer, Key, check_flags, check_range, encode_key, milliseconds
from memstream.inspection import Inspection
from memstream.operations import Operations, miss
from memstream.views import Pin, Reservation, View

_ABSENT = object()


class Values(ValuesView[bytes]):
    """Values of the keys that are still there when their turn comes."""

    _mapping: "Cache"

    def __iter__(self) -> Iterator[bytes]:
        return (value for _, value in self._mapping.items())

    def __contains__(self, value: object) -> bool:
        return any(value == stored for stored in self)


class Items(ItemsView[Key, bytes]):
    """Pairs of the keys that are still there when their turn comes: others may delete and evict meanwhile."""

    _mapping: "Cache"

    def __iter__(self) -> Iterator[Tuple[bytes, bytes]]:
        for key in self._mapping:
            value = self._mapping.get(key)
            if value is not None:
                yield key, value


class Cache(Operations, Inspection, MutableMapping[Key, bytes]):
    """A cache that all processes of this machine share, as a mapping from keys to bytes.

        with Cache("thumbnails") as cache:
            cache["cat"] = b"..."
            cache.set("dog", b"...", ttl=60)
            value = cache.get("bird")           # None: not there

    Keys are str (stored as UTF-8) or bytes, and come back as bytes. Values are bytes-like, and come back as bytes.

    Threads: all of them may use one Cache; the interpreter's lock is free while a call waits. Fork: a child goes on
    with the Cache of its parent, but not with its views and reservations. Spawn: open a Cache of the same name. A
    process may be killed at any time: what it had stored stays, the others go on.

    Every method may raise ClosedError (after `close`), CacheBusy (others held the shard until the timeout), CacheGone
    (the segment was destroyed: open a new Cache) and CorruptError (damaged bytes were met).
    """

    # Two caches are the same if they are one object: comparing all entries is not what == should cost.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def view(self, key: Key) -> View:
        """Gives the value of `key` in place, without a copy, for a with block.

            with cache.view("cat") as memory:
                digest = sha256(memory)

        Args:
            key: str (stored as UTF-8) or bytes; 1 to 1,024 bytes.

        Returns:
            A context manager that gives a read-only memoryview. The end of the block raises BufferError if a slice or
            an array of it is still in use. With `read_only=True` the library makes a copy of its own.

        Raises:
            CacheMiss: the key is not there.
            BadKey: it is empty or too long.

        Source: memstream_view, memstream_release.
        """
        name = encode_key(key)
        raw = _abi.View()
        handle = self._handle
        status = self._library.c.memstream_view(handle, name, len(name), byref(raw))
        if status == Status.MISS:
            raise miss(key)
        if status or handle is None:
            self._fail(status)
        return View(Pin(handle, self._library.c.memstream_release, raw))

    def reserve(self, key: Key, size: int, ttl: Optional[float] = None, flags: int = 0) -> Reservation:
        """Gives room for a value of `size` bytes in the segment, to be filled in place in a with block.

            with cache.reserve("cat", size) as memory:
                file.readinto(memory)

        The value appears, at once and whole, when the block ends; not if it ends by an exception.

        Args:
            key: str (stored as UTF-8) or bytes; 1 to 1,024 bytes.
            size: bytes, 0 to `Stats.max_value_size`.
            ttl: seconds to live from the end of the block on, above 0; None: for ever.
            flags: 32 bits of the caller's own, kept with the value.

        Returns:
            A context manager that gives a writable memoryview; what is in it at first is undefined. The end of the
            block raises BufferError, and stores nothing, if a slice or an array of it is still in use.

        Raises:
            BadKey, ValueTooLarge, InvalidArgument, ReadOnlyError, UnavailableError: as for `set`.

        Source: memstream_reserve, memstream_commit, memstream_abort.
        """
        name = encode_key(key)
        check_range("size", size, 0, 2**63 - 1)
        ttl_ms, flags = milliseconds(ttl), check_flags(flags)
        raw = _abi.Reservation()
        handle = self._handle
        status = self._library.c.memstream_reserve(handle, name, len(name), size, byref(raw))
        if status or handle is None:
            self._fail(status)
        pin = Pin(handle, self._library.c.memstream_abort, raw)
        return Reservation(pin, self._library.c.memstream_commit, self._check, ttl_ms, flags)

    def clear(self) -> None:
        """Removes all entries. Views stay readable. Source: memstream_clear."""
        self._check(self._library.c.memstream_clear(self._handle))

    def __getitem__(self, key: Key) -> bytes:
        """Returns a copy of the value; raises CacheMiss, which is a KeyError, if the key is not there."""
        value = self.get(key, _ABSENT)
        if value is _ABSENT:
            raise miss(key)
        assert isinstance(value, bytes)
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
            default: what a miss returns; without it a miss raises CacheMiss.
        """
        value = self.get(key, _ABSENT)
        if value is not _ABSENT and self.delete(key):
            return value
        if default is _ABSENT:
            raise miss(key)
        return default

    def setdefault(self, key: Key, default: Buffer = b"") -> bytes:
        """Returns the value of the key; stores `default` first if it is absent, unless somebody else is faster."""
        while True:
            value = self.get(key)
            if value is not None:
                return value
            if self.add(key, default):
                return bytes(default)

    def __repr__(self) -> str:
        if self.closed:
            return "<memstream.Cache closed>"
        info = self.info()
        return f"<memstream.Cache {info.backend}:{info.name}>"
