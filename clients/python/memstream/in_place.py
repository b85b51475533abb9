"""Reading and writing values where they stand in the segment."""

from __future__ import annotations

from ctypes import byref
from typing import Any, List, NamedTuple, Optional

from memstream import _abi
from memstream._abi import Status
from memstream._arguments import SIZES, Duration, Key, check_range, encode_key, milliseconds
from memstream._kinds import check_flags
from memstream.errors import CacheMiss
from memstream.operations import TOO_LARGE, Operations, miss
from memstream.views import Pin, Reservation, View

# Values of more bytes that come in pieces go straight into the segment; smaller ones are joined first, which is faster.
_LEAST_RESERVATION = 32 * 1024


class Located(NamedTuple):
    """The bytes of a value, somewhere, and what the library keeps with it."""

    memory: memoryview
    flags: int
    token: int


class InPlace(Operations):
    """Views and reservations. They deal in bytes, whatever the serializer of the cache."""

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
        name = key if key.__class__ is bytes else encode_key(key)
        library = self._library
        handle = self._handle
        if handle is None:
            self._fail(Status.NOT_CONNECTED)
        pin = Pin(handle, library.ends["memstream_release"], _abi.View())
        try:
            status = library.raw_view(handle, name, SIZES[len(name)], byref(pin.raw))
            if status == Status.MISS:
                raise miss(key)
            self._check(status)
            return View(pin)
        except BaseException:  # A signal handler's, for instance. Its traceback may outlive it, and keep the pin.
            pin.give_back(None)
            raise

    def reserve(self, key: Key, size: int, ttl: Optional[Duration] = None, flags: int = 0) -> Reservation:
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
        return self._reserve(key, size, ttl, check_flags(flags))

    def _reserve(self, key: Key, size: int, ttl: Optional[Duration], word: int) -> Reservation:
        """As `reserve`, with the flag word as it is to be stored."""
        name = encode_key(key)
        check_range("size", size, 0, 2**63 - 1)
        ttl_ms = milliseconds(ttl)
        handle = self._handle
        if handle is None:
            self._fail(Status.NOT_CONNECTED)
        pin = Pin(handle, self._library.ends["memstream_abort"], _abi.Reservation())
        try:
            self._check(self._library.c.memstream_reserve(handle, name, len(name), size, byref(pin.raw)))
            return Reservation(pin, self._library.c.memstream_commit, self._check, ttl_ms, word)
        except BaseException:
            pin.give_back(None)
            raise

    def _locate(self, key: Key) -> Optional[Located]:
        """Returns a small value as a copy, a large one in place; None for a miss.

        In place it is pinned for as long as anything refers to the memoryview.
        """
        found = self._read_small(encode_key(key))
        if found is None:
            return None
        if found is not TOO_LARGE:
            return Located(memoryview(found.value), found.flags, found.token)
        try:
            view = self.view(key)
        except CacheMiss:
            return None
        return Located(view.memory, view.flags, view.token)

    def _store_pieces(self, key: Key, pieces: List[Any], size: int, ttl: Optional[Duration], word: int) -> None:
        """Stores `size` bytes that come in pieces, with the flag word as it is to be stored."""
        if len(pieces) == 1 or size < _LEAST_RESERVATION:
            value = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._store_packed(self._library.c.memstream_set, key, value, ttl, word)
            return
        with self._reserve(key, size, ttl, word) as memory:
            position = 0
            for piece in pieces:
                end = position + len(piece)
                memory[position:end] = piece
                position = end
