"""An open segment: what the parts of the package do with it. It deals in bytes and flag words, and knows no objects."""

from __future__ import annotations

import ctypes
import warnings
from ctypes import byref, c_size_t
from typing import Any, List, NamedTuple, NoReturn, Optional, Tuple

from memstream._core import abi
from memstream._core.abi import Status
from memstream._core.arguments import SIZES, BorrowedBytes, Buffer, Duration, Key, check_range, encode_key, milliseconds
from memstream._core.callers import depth_of_user
from memstream._core.errors import CacheMiss, ClosedError, SegmentDiffers
from memstream._core.handle import Handle
from memstream._core.kinds import is_reserved
from memstream._core.options import Options
from memstream._core.views import Pin, Reservation, View

# Plain numbers, because looking up a member of an enum costs as much as the call's own work.
_OK, _MISS, _TOO_SMALL = int(Status.OK), int(Status.MISS), int(Status.TOO_SMALL)

# Values up to this size are copied by memstream_get into a buffer and from there into bytes; larger ones go through a
# view, which spares one of the two copies.
BUFFER_SIZE = 32 * 1024

# Values of more bytes that come in pieces go straight into the segment; smaller ones are joined first, which is faster.
_LEAST_RESERVATION = 32 * 1024

# A buffer for a value, its size and the value's meta data, both with the references that the C function takes.
ReadBuffer = Tuple["ctypes.Array[ctypes.c_char]", c_size_t, Any, abi.Meta, Any]

# Buffers that are free. As many are made as threads were ever reading at the same time. list.pop and list.append are
# atomic, and cheaper than a thread-local variable.
free_buffers: List[ReadBuffer] = []
take_buffer, return_buffer = free_buffers.pop, free_buffers.append


def make_buffer() -> ReadBuffer:
    """Returns a new buffer for values of up to BUFFER_SIZE bytes."""
    size, meta = c_size_t(), abi.Meta()
    return ctypes.create_string_buffer(BUFFER_SIZE), size, byref(size), meta, byref(meta)


def miss(key: Key) -> CacheMiss:
    """Returns the exception for a key that is not there."""
    return CacheMiss(Status.MISS, f"no live entry has the key {key!r}")


class Found(NamedTuple):
    """The bytes of a value, and what the library keeps with them.

    A small or plain value is a copy. A large object is in place: pinned for as long as anything refers to the memory.
    """

    memory: Any
    flags: int
    token: int
    expires_at_ms: int
    """Unix time; 0: never."""


class Connection:
    """An open segment.

    Attributes:
        library: the libcache.so that serves it.
        options: how it was opened.
        handle: the C handle; None once it is closed. Functions take None as NULL and refuse it, so that no call has to
            look first.
        raw_get, raw_set: functions of the library without prototypes, for callers that pass ready-made ctypes objects.
    """

    def __init__(self, options: Options) -> None:
        """Opens the segment.

        Args:
            options: which segment, and how.

        Raises:
            Those of `Cache`.
        """
        self.library = library = options.load_library()
        self.options = options
        struct = options.to_struct(library)
        handle = Handle(library)
        self.raw_get, self.raw_set = library.raw_get, library.raw_set
        library.check(handle.open(struct))
        note = library.c.memstream_open_note(handle).decode()
        if note:
            warnings.warn(note, SegmentDiffers, stacklevel=depth_of_user())
        self.handle: Optional[Handle] = handle

    def check(self, status: int) -> None:
        """Raises the exception of a status other than OK."""
        if status:
            self.fail(status)

    def fail(self, status: int) -> NoReturn:
        """Raises the exception of `status`, which the calling thread's last call returned."""
        if self.handle is None:
            raise ClosedError(Status.NOT_CONNECTED, "This cache was closed. Open a new Cache.")
        self.library.check(status)
        raise AssertionError("only a status other than OK gets here")

    def is_there(self, status: int) -> bool:
        """Returns whether a key was there; raises for a status that says neither."""
        if status not in (_OK, _MISS):
            self.fail(status)
        return status == _OK

    def read(self, name: bytes) -> Optional[Found]:
        """Reads a value, its flags and its token, all of one state.

        Args:
            name: the key.

        Returns:
            What was found; None for a miss.

        Raises:
            Those of `Cache.get`.
        """
        try:
            buffer = take_buffer()
        except IndexError:
            buffer = make_buffer()
        memory, size, size_reference, meta, meta_reference = buffer
        size.value = BUFFER_SIZE
        status = self.raw_get(self.handle, name, SIZES[len(name)], memory, size_reference, meta_reference)
        copy: Any = memory[: size.value] if status == _OK else None
        found = Found(copy, meta.flags, meta.cas, meta.expires_at_ms)
        return_buffer(buffer)
        if status == _OK:
            return found
        if status == _MISS:
            return None
        if status == _TOO_SMALL:
            return self.read_large(name)
        self.fail(status)

    def read_large(self, name: bytes) -> Optional[Found]:
        """As `read`, by way of a view: at most one copy, whatever the size."""
        handle = self.handle
        if handle is None:
            self.fail(Status.NOT_CONNECTED)
        pin = Pin(handle, self.library.ends["memstream_release"], abi.View())
        raw, is_kept = pin.raw, False
        try:
            status = self.library.c.memstream_view(handle, name, len(name), byref(raw))
            if status == _MISS:
                return None
            self.check(status)
            meta = raw.meta
            flags, token, expires_at_ms = meta.flags, meta.cas, meta.expires_at_ms
            if is_reserved(flags):
                found = Found(View(pin).memory, flags, token, expires_at_ms)
                is_kept = True
                return found
            copy = ctypes.string_at(raw.data, raw.size) if raw.size else b""
            return Found(copy, flags, token, expires_at_ms)
        finally:
            if not is_kept:
                pin.give_back(None)

    def read_and_touch(self, name: bytes, ttl_ms: int) -> Optional[Found]:
        """As `read`, and gives the entry a new time to live in the same call.

        Args:
            name: the key.
            ttl_ms: milliseconds from now.

        Returns:
            What was found, always a copy; None for a miss.

        Raises:
            Those of `Cache.get`.
        """
        meta, size, memory = abi.Meta(), c_size_t(BUFFER_SIZE), ctypes.create_string_buffer(BUFFER_SIZE)
        while True:
            status = self.library.c.memstream_get_and_touch(
                self.handle, name, len(name), ttl_ms, memory, byref(size), byref(meta)
            )
            if status == _OK:
                return Found(memory[: size.value], meta.flags, meta.cas, meta.expires_at_ms)
            if status == _MISS:
                return None
            if status != _TOO_SMALL:
                self.fail(status)
            memory = ctypes.create_string_buffer(size.value)  # Another process may store a larger value meanwhile.

    def store(
        self,
        function: Any,
        key: Key,
        value: Buffer,
        ttl: Optional[Duration],
        word: int,
        *more: Any,
        refusals: Tuple[int, ...] = (),
    ) -> int:
        """Calls one of the library's storing functions.

        Args:
            function: the function.
            key, ttl: as for `Cache.set`.
            value: a contiguous buffer.
            word: the flag word to be stored.
            more: what the function takes besides.
            refusals: statuses that are no errors here.

        Returns:
            OK, or one of `refusals`.

        Raises:
            Those of `Cache.set`.
        """
        name = encode_key(key)
        rest = (milliseconds(ttl), word, *more)
        if isinstance(value, bytes):
            status: int = function(self.handle, name, len(name), value, len(value), *rest)
        else:
            with BorrowedBytes(value) as (address, size):
                status = function(self.handle, name, len(name), address, size, *rest)
        if status != _OK and status not in refusals:
            self.fail(status)
        return status

    def store_tagged(
        self,
        operation: int,
        key: Key,
        value: Buffer,
        ttl: Optional[Duration],
        word: int,
        tags: abi.Tags,
        token: int = 0,
        refusals: Tuple[int, ...] = (),
    ) -> int:
        """As `store`, with tags; `operation` says how, `token` is that of CAS and FULFIL."""
        function = self.library.c.memstream_store_tagged
        return self.store(function, key, value, ttl, word, operation, token, byref(tags), refusals=refusals)

    def set(
        self,
        key: Key,
        pieces: List[Any],
        size: int,
        ttl: Optional[Duration],
        word: int,
        tags: Optional[abi.Tags] = None,
    ) -> None:
        """Stores a value that comes in pieces.

        Args:
            key, ttl: as for `Cache.set`.
            pieces: contiguous buffers.
            size: bytes of all pieces; not looked at if there is only one.
            word: the flag word to be stored.
            tags: None: without any.

        Raises:
            Those of `Cache.set`.
        """
        if tags is not None:
            joined = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self.store_tagged(abi.SET, key, joined, ttl, word, tags)
            return
        if len(pieces) == 1 or size < _LEAST_RESERVATION:
            value = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self.store(self.library.c.memstream_set, key, value, ttl, word)
            return
        with self.reserve(key, size, ttl, word) as memory:
            position = 0
            for piece in pieces:
                end = position + len(piece)
                memory[position:end] = piece
                position = end

    def view(self, key: Key) -> View:
        """Gives a value in place: see `Cache.view`."""
        name = key if key.__class__ is bytes else encode_key(key)
        handle = self.handle
        if handle is None:
            self.fail(Status.NOT_CONNECTED)
        pin = Pin(handle, self.library.ends["memstream_release"], abi.View())
        try:
            status = self.library.raw_view(handle, name, SIZES[len(name)], byref(pin.raw))
            if status == _MISS:
                raise miss(key)
            self.check(status)
            return View(pin)
        except BaseException:  # A signal handler's, for instance. Its traceback may outlive it, and keep the pin.
            pin.give_back(None)
            raise

    def reserve(self, key: Key, size: int, ttl: Optional[Duration], word: int) -> Reservation:
        """Gives room for a value: see `Cache.reserve`. The flag word is as it is to be stored."""
        name = encode_key(key)
        check_range("size", size, 0, 2**63 - 1)
        ttl_ms = milliseconds(ttl)
        handle = self.handle
        if handle is None:
            self.fail(Status.NOT_CONNECTED)
        pin = Pin(handle, self.library.ends["memstream_abort"], abi.Reservation())
        try:
            self.check(self.library.c.memstream_reserve(handle, name, len(name), size, byref(pin.raw)))
            return Reservation(pin, self.library.c.memstream_commit, self.check, ttl_ms, word)
        except BaseException:
            pin.give_back(None)
            raise
