"""MemStream: the package with and without its accelerator, views, and what they are held against."""

from __future__ import annotations

import ctypes
import os
import re
from ctypes import byref, c_size_t, c_uint32, c_uint64
from operator import methodcaller
from pathlib import Path
from typing import Any, Optional

import memstream_limit

from contender import Contender, Session
from data import DataSet
from memstream import Cache, local
from memstream._core import abi
from memstream.views import View

# Room for the data several times over: nothing may be evicted.
_SEGMENT_BYTES = 1024 * 1024 * 1024
_ACCELERATOR = "MEMSTREAM_PYTHON_ACCELERATOR"


class MemStream(Contender):
    """A segment of its own, read and written by the package."""

    accelerator = "require"

    def __init__(self, scratch: Path) -> None:
        super().__init__(scratch)
        self._name = "bench-%d-%s" % (os.getpid(), re.sub(r"\W", "-", self.name).strip("-"))
        # Whoever opens it first makes it; it is ours to destroy from here on.
        Cache(self._name, size=_SEGMENT_BYTES).close()

    def fill(self, data: DataSet) -> None:
        with self.connect() as cache:
            for key, value in data.pairs():
                cache.set(key, value)
            assert cache.stats().evictions == 0, "the segment is too small for the data"

    def connect(self) -> Cache:
        """Opens the segment with or without the accelerator, as this contender has it."""
        os.environ[_ACCELERATOR] = self.accelerator
        try:
            cache = Cache(self._name, create=False)
        finally:
            del os.environ[_ACCELERATOR]
        assert cache.accelerated == (self.accelerator == "require")
        return cache

    def open(self) -> Session:
        cache = self.connect()
        return Session(cache.get, cache.set, cache.get_many)

    def close(self) -> None:
        self.connect().destroy()


class Fast(MemStream):
    """Built-in functions."""

    name = "memstream-fast"


class Plain(MemStream):
    """ctypes."""

    name = "memstream-plain"
    accelerator = "off"


class Views(MemStream):
    """Values where they stand, without a copy: a view made and released."""

    name = "memstream-views"

    def open(self) -> Session:
        cache = self.connect()
        # A view knows its values only until it is released.
        return Session(cache.view, bytes_of=_memory_of, release=methodcaller("release"))


def _memory_of(view: View) -> bytes:
    return view.memory.tobytes()  # Comparing memoryviews goes byte by byte.


class Local(MemStream):
    """Objects that the process keeps. It has got each of them once: nothing is copied any more."""

    name = "memstream-local"

    def fill(self, data: DataSet) -> None:
        super().fill(data)
        self._keys = [key for key, _ in data.pairs()]

    def open(self) -> Session:
        kept = local(self.connect(), maxsize=len(self._keys))
        for key in self._keys:
            kept.get(key)
        return Session(kept.get)


class Limit(MemStream):
    """The C extension around the same calls."""

    name = "limit"

    def open(self) -> Session:
        self._cache = self.connect()  # Keeps open what the extension uses.
        handle: Any = self._cache._handle
        limit = memstream_limit.Cache(handle.value)
        return Session(limit.get, limit.set, limit.get_many)


class PlainCtypes(MemStream):
    """The best that is known with ctypes alone: objects that are made once, nothing that is converted.

    Threads and signal handlers may use it, as they may the package: a call has its room for itself. It does less than
    the package for all that: keys of bytes only, no look at what a value is, no subclasses. One room for all calls
    would save a fifth of a get, and give a thread another one's value.
    """

    name = "plain-ctypes"

    def open(self) -> Session:
        self._cache = self.connect()
        return plain_ctypes(self._cache)


_ROOM = 32 * 1024


def plain_ctypes(cache: Cache) -> Session:
    """Makes the functions."""
    library = ctypes.CDLL(cache._library.path)
    raw_get, raw_set = library["memstream_get"], library["memstream_set"]
    sizes = {number: c_size_t(number) for number in range(1025)}
    handle = cache._handle
    for_ever, no_flags = c_uint64(0), c_uint32(0)
    rooms: list[Any] = []
    take, give = rooms.pop, rooms.append

    def make_room() -> Any:
        size = c_size_t()
        return ctypes.create_string_buffer(_ROOM), size, byref(size)

    def get(key: bytes) -> Optional[bytes]:
        try:
            room = take()
        except IndexError:
            room = make_room()
        buffer, size, size_reference = room
        size.value = _ROOM
        status = raw_get(handle, key, sizes[len(key)], buffer, size_reference, None)
        if status == 0:
            value: bytes = buffer[: size.value]
            give(room)
            return value
        give(room)
        return large(key) if status == abi.Status.TOO_SMALL else None

    def large(key: bytes) -> Optional[bytes]:
        view = abi.View()
        if library.memstream_view(handle, key, sizes[len(key)], byref(view)) != 0:
            return None
        try:
            return ctypes.string_at(view.data, view.size)
        finally:
            library.memstream_release(handle, byref(view))

    def store(key: bytes, value: bytes) -> None:
        length = sizes.get(len(value)) or c_size_t(len(value))
        if raw_set(handle, key, sizes[len(key)], value, length, for_ever, no_flags) != 0:
            raise OSError("memstream_set failed")

    return Session(get, store)


class Copies(MemStream):
    """`bytes(memoryview)` of the values where they stand: what copying them costs, and nothing else."""

    name = "bytes(memoryview)"

    def __init__(self, scratch: Path) -> None:
        super().__init__(scratch)
        self._keys: list[bytes] = []

    def fill(self, data: DataSet) -> None:
        super().fill(data)
        self._keys = [key for key, _ in data.pairs()]

    def open(self) -> Session:
        self._cache = self.connect()
        self._views = [self._cache.view(key) for key in self._keys]
        memories = {key: view.memory for key, view in zip(self._keys, self._views) if view is not None}

        def get(key: bytes) -> bytes:
            return bytes(memories[key])

        return Session(get)
