"""Reading and writing single entries."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_int64, c_size_t, c_uint32, c_uint64
from typing import Any, List, NamedTuple, Optional, Tuple, TypeVar, Union, overload

from memstream import _abi
from memstream._abi import Status
from memstream._arguments import (
    FOR_EVER,
    NO_FLAGS,
    SIZES,
    BorrowedBytes,
    Buffer,
    Duration,
    Key,
    check_int64,
    check_range,
    encode_key,
    milliseconds,
)
from memstream._kinds import FIRST_RESERVED, LAST_RESERVED, check_flags, refusal
from memstream.connection import Connection
from memstream.errors import CacheMiss
from memstream.views import Pin

_T = TypeVar("_T")

# Plain numbers: looking a member of an enum up costs as much as the call's own work.
_OK, _MISS, _EXISTS, _CONFLICT, _TOO_SMALL = map(
    int, (Status.OK, Status.MISS, Status.EXISTS, Status.CONFLICT, Status.TOO_SMALL)
)

# What `flags` is if it was not given. Compared by identity: False and 0.0 are equal to it, and refused.
_ZERO = 0

# Values up to this size are copied by memstream_get into a room and from there into bytes; larger ones go through a
# view, which spares one of the two copies.
_ROOM_SIZE = 32 * 1024

# Rooms that are free: (buffer, size, byref(size), meta, byref(meta)). As many are made as threads were ever reading at
# the same time. list.pop and list.append are atomic, and cheaper than a thread-local variable.
_Room = Tuple["ctypes.Array[ctypes.c_char]", c_size_t, Any, _abi.Meta, Any]
_rooms: List[_Room] = []


def _make_room() -> _Room:
    size, meta = c_size_t(), _abi.Meta()
    return ctypes.create_string_buffer(_ROOM_SIZE), size, byref(size), meta, byref(meta)


class Found(NamedTuple):
    """A copy of a value, and what the library keeps with it."""

    value: bytes
    flags: int
    token: int


# What stands for a value that does not fit into a room.
TOO_LARGE = Found(b"", 0, 0)


def _plain(key: Key, found: Found) -> Found:
    """Returns what was found, if it is plain bytes."""
    if FIRST_RESERVED <= found.flags <= LAST_RESERVED:
        raise refusal(key, found.flags)
    return found


def miss(key: Key) -> CacheMiss:
    """Makes the exception for a key that is not there."""
    return CacheMiss(Status.MISS, f"no live entry has the key {key!r}")


class Operations(Connection):
    """What is done with one key. Every method is one call into the library, and atomic among all processes."""

    @overload
    def get(self, key: Key) -> Optional[bytes]:
        ...

    @overload
    def get(self, key: Key, default: Union[bytes, _T]) -> Union[bytes, _T]:
        ...

    def get(self, key: Key, default: Any = None) -> Any:
        """Returns the value of `key`, or `default` if it is not there.

        Args:
            key: str (stored as UTF-8) or bytes; 1 to 1,024 bytes.
            default: what a miss returns.

        Returns:
            The value: a copy.

        Raises:
            BadKey: the key is empty or too long.
            SerializerError: the value is no plain bytes; the text says what reads it.
            ClosedError, UnavailableError, CorruptError: as for every method.

        Source: memstream_get; memstream_view for values above 32 KiB.
        """
        name = key if key.__class__ is bytes else encode_key(key)
        try:
            room = _rooms.pop()
        except IndexError:
            room = _make_room()
        buffer, size, size_reference, meta, meta_reference = room
        size.value = _ROOM_SIZE
        status = self._raw_get(self._handle, name, SIZES[len(name)], buffer, size_reference, meta_reference)
        if status == _OK:
            value = buffer[: size.value]
            flags = meta.flags
            _rooms.append(room)
            if flags >= FIRST_RESERVED and flags <= LAST_RESERVED:
                raise refusal(key, flags)
            return value
        _rooms.append(room)
        if status == _MISS:
            return default
        if status == _TOO_SMALL:
            found = self._read_large(encode_key(key))
            return default if found is None else _plain(key, found).value
        self._fail(status)

    def gets(self, key: Key, default: Any = None) -> Tuple[Any, Optional[int]]:
        """Returns the value of `key` and the token for `cas`; `(default, None)` if it is not there.

        Args:
            key: as for `get`.
            default: the value that a miss returns.

        Returns:
            The value (a copy) and a token that every write of the entry changes.

        Raises:
            BadKey: the key is empty or too long.
            SerializerError: as for `get`.

        Source: memstream_get; memstream_view for values above 32 KiB.
        """
        found = self._read(encode_key(key))
        return (default, None) if found is None else (_plain(key, found).value, found.token)

    def _read(self, key: bytes) -> Optional[Found]:
        """Returns a copy of the value with flags and token, all of one state; None for a miss."""
        found = self._read_small(key)
        return self._read_large(key) if found is TOO_LARGE else found

    def _read_small(self, key: bytes) -> Optional[Found]:
        """As `_read`, but returns TOO_LARGE for a value of more than 32 KiB."""
        try:
            room = _rooms.pop()
        except IndexError:
            room = _make_room()
        buffer, size, size_reference, meta, meta_reference = room
        size.value = _ROOM_SIZE
        status = self._raw_get(self._handle, key, SIZES[len(key)], buffer, size_reference, meta_reference)
        copy: Any = buffer[: size.value] if status == _OK else None
        found = Found(copy, meta.flags, meta.cas)
        _rooms.append(room)
        if status == _OK:
            return found
        if status == _MISS:
            return None
        if status == _TOO_SMALL:
            return TOO_LARGE
        self._fail(status)

    def _read_large(self, key: bytes) -> Optional[Found]:
        """As `_read`, by way of a view: one copy, whatever the size."""
        view = _abi.View()
        handle = self._handle
        if handle is None:
            self._fail(Status.NOT_CONNECTED)
        pin = Pin(handle, self._library.ends["memstream_release"], view)
        try:
            status = self._library.c.memstream_view(handle, key, len(key), byref(view))
            if status == _MISS:
                return None
            self._check(status)
            value = ctypes.string_at(view.data, view.size) if view.size else b""
            return Found(value, view.meta.flags, view.meta.cas)
        finally:
            pin.give_back(None)

    def set(self, key: Key, value: Buffer, ttl: Optional[Duration] = None, flags: int = 0) -> None:
        """Stores `value` under `key`, whatever was there. A full cache evicts; it does not refuse.

        Args:
            key: str (stored as UTF-8) or bytes; 1 to 1,024 bytes.
            value: any C-contiguous buffer (bytes, bytearray, memoryview, array, numpy), 0 to `Stats.max_value_size`
                bytes; copied straight into the segment.
            ttl: seconds until it expires, above 0, or a timedelta; None: never.
            flags: 32 bits of the caller's own, kept with the value; 0xE0000000 to 0xEFFFFFFF are the package's.

        Raises:
            BadKey, ValueTooLarge: the limits above; nothing was evicted for it.
            InvalidArgument: `ttl` or `flags` out of range.
            TypeError: an argument is of another type; `value` has no buffer.
            BufferError: the buffer of `value` is not contiguous.
            ReadOnlyError: the cache was opened with `read_only=True`.
            UnavailableError: busy, destroyed, or no memory.

        Source: memstream_set.
        """
        if key.__class__ is not bytes:
            key = encode_key(key)
        if value.__class__ is bytes:
            status = self._raw_set(
                self._handle,
                key,
                SIZES[len(key)],
                value,
                SIZES[len(value)],
                FOR_EVER if ttl is None else c_uint64(milliseconds(ttl)),
                NO_FLAGS if flags is _ZERO else c_uint32(check_flags(flags)),
            )
        else:
            status = self._store(self._library.c.memstream_set, key, value, ttl, flags)
        if status:
            self._fail(status)

    put = set

    def add(self, key: Key, value: Buffer, ttl: Optional[Duration] = None, flags: int = 0) -> bool:
        """Stores `value` only if `key` is absent.

        Args and exceptions are those of `set`.

        Returns:
            Whether it was stored.

        Source: memstream_add.
        """
        return self._store(self._library.c.memstream_add, key, value, ttl, flags, refusals=(_EXISTS,)) == _OK

    def replace(self, key: Key, value: Buffer, ttl: Optional[Duration] = None, flags: int = 0) -> bool:
        """Stores `value` only if `key` is present.

        Args and exceptions are those of `set`.

        Returns:
            Whether it was stored.

        Source: memstream_replace.
        """
        return self._store(self._library.c.memstream_replace, key, value, ttl, flags, refusals=(_MISS,)) == _OK

    def cas(
        self, key: Key, value: Buffer, token: Optional[int], ttl: Optional[Duration] = None, flags: int = 0
    ) -> bool:
        """Stores `value` only if nobody has written the entry since `gets` (compare and set).

        Args:
            token: from `gets`, `View.token` or `Entry.token`; None: the key must still be absent, as for `add`.
            key, value, ttl, flags: as for `set`.

        Returns:
            Whether it was stored. False: the entry was changed or is gone; get it anew.

        Raises:
            As for `set`.

        Source: memstream_cas; memstream_add without a token.
        """
        if token is None:
            return self.add(key, value, ttl, flags)
        check_range("token", token, 0, 2**64 - 1)
        status = self._store(self._library.c.memstream_cas, key, value, ttl, flags, token, refusals=(_MISS, _CONFLICT))
        return status == _OK

    def _store(
        self,
        function: Any,
        key: Key,
        value: Buffer,
        ttl: Optional[Duration],
        flags: int,
        *more: int,
        refusals: Tuple[int, ...] = (),
    ) -> int:
        """Calls one of the storing functions; returns OK or one of `refusals`, raises for every other status."""
        value, word = self._pack(value, flags)
        return self._store_packed(function, key, value, ttl, word, *more, refusals=refusals)

    def _store_packed(
        self,
        function: Any,
        key: Key,
        value: Buffer,
        ttl: Optional[Duration],
        word: int,
        *more: int,
        refusals: Tuple[int, ...] = (),
    ) -> int:
        """As `_store`, with the bytes and the flag word as they are to be stored."""
        name = encode_key(key)
        rest = (milliseconds(ttl), word, *more)
        if isinstance(value, bytes):
            status: int = function(self._handle, name, len(name), value, len(value), *rest)
        else:
            with BorrowedBytes(value) as (address, size):
                status = function(self._handle, name, len(name), address, size, *rest)
        if status != _OK and status not in refusals:
            self._fail(status)
        return status

    def _pack(self, value: Any, flags: int) -> Tuple[Buffer, int]:
        """Turns a value and the caller's flags into the bytes and the flag word to be stored."""
        return value, check_flags(flags)

    def delete(self, key: Key) -> bool:
        """Removes `key`.

        Returns:
            Whether it was there.

        Raises:
            BadKey, ReadOnlyError, UnavailableError: as for `set`.

        Source: memstream_delete.
        """
        name = encode_key(key)
        return self._found(self._library.c.memstream_delete(self._handle, name, len(name)))

    def touch(self, key: Key, ttl: Optional[Duration] = None) -> bool:
        """Gives the entry a new time to live and leaves its value alone.

        Args:
            key: as for `get`.
            ttl: seconds from now, above 0, or a timedelta; None: it never expires.

        Returns:
            Whether the key was there.

        Raises:
            BadKey, InvalidArgument, ReadOnlyError, UnavailableError: as for `set`.
            CacheFull: a small value that was stored without ttl and flags moves to a block that has room for a ttl,
                and views and reservations hold everything that could make way; ttl and value are as they were.

        Source: memstream_touch.
        """
        name = encode_key(key)
        return self._found(self._library.c.memstream_touch(self._handle, name, len(name), milliseconds(ttl)))

    def incr(self, key: Key, delta: int = 1, initial: Optional[int] = None, ttl: Optional[Duration] = None) -> int:
        """Adds `delta` to a value that is a decimal number in text, such as b"-12". Keeps its ttl and flags.

        Args:
            key: as for `get`.
            delta: 64 bits, signed.
            initial: what an absent key counts from: it becomes `initial + delta`; None: an absent key is a miss.
            ttl: seconds to live of a key that was absent, or a timedelta; None: for ever.

        Returns:
            The new number.

        Raises:
            CacheMiss: the key is absent, and there is no `initial`.
            NotNumeric: the value is not a decimal number, or the sum leaves 64 bits; it stays as it was.
            BadKey, InvalidArgument, ReadOnlyError, UnavailableError: as for `set`.

        Source: memstream_incr.
        """
        name = encode_key(key)
        start = None if initial is None else byref(c_int64(check_int64("initial", initial)))
        result = c_int64()
        status = self._library.c.memstream_incr(
            self._handle, name, len(name), check_int64("delta", delta), start, milliseconds(ttl), byref(result)
        )
        if status == _MISS:
            raise miss(key)
        self._check(status)
        return result.value

    def decr(self, key: Key, delta: int = 1, initial: Optional[int] = None, ttl: Optional[Duration] = None) -> int:
        """Subtracts `delta`: `incr(key, -delta, initial, ttl)`."""
        return self.incr(key, -check_int64("delta", delta), initial, ttl)

    def exists(self, key: Key) -> bool:
        """Returns whether `key` is there. Counts no access. Source: memstream_exists."""
        name = encode_key(key)
        return self._found(self._library.c.memstream_exists(self._handle, name, len(name)))

    def _found(self, status: int) -> bool:
        """Returns whether the key was there; raises for every other status."""
        if status not in (_OK, _MISS):
            self._fail(status)
        return status == _OK
