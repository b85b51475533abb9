"""Many keys in one call into the library."""

from __future__ import annotations

import ctypes
from array import array
from contextlib import ExitStack
from ctypes import byref, c_char_p, c_size_t
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

from memstream import _abi
from memstream._abi import Status
from memstream._arguments import BorrowedBytes, Duration, Key, check_iterable, encode_key, invalid, milliseconds
from memstream._kinds import FIRST_RESERVED, LAST_RESERVED, refusal
from memstream._undecodable import warn_of_undecodable
from memstream.operations import Operations

_OK, _TOO_SMALL = int(Status.OK), int(Status.TOO_SMALL)

# Room for each value of `get_many` to begin with, and for all of them. What does not fit is got by itself.
_ROOM_FOR_EACH = 512
_MOST_ROOM = 1024 * 1024


class Batches(Operations):
    """What is done with many keys. Each key is done or not, by itself; the whole is not atomic."""

    def get_many(self, keys: Iterable[Key]) -> Dict[Key, Any]:
        """Returns the values of those of the keys that are there.

        Args:
            keys: each as for `get`.

        Returns:
            A dict from the keys, as they were given, to copies of their values. A key that is not there is not in it,
            nor is one whose value cannot be decoded: an UndecodableWarning says why.

        Raises:
            BadKey: one of the keys is empty or too long.
            TypeError, UnavailableError, CorruptError, ClosedError: as for `get`.

        Source: memstream_get_many; for values that are large or many, memstream_get and memstream_view.
        """
        given = check_iterable("keys", keys)
        items = _Items(given)
        room_size = c_size_t(min(len(given) * _ROOM_FOR_EACH, _MOST_ROOM))
        room = ctypes.create_string_buffer(room_size.value)
        status = self._library.c.memstream_get_many(self._handle, items.array, len(given), room, byref(room_size))
        if status not in (_OK, _TOO_SMALL):
            self._fail(status)
        start = ctypes.addressof(room)
        found: Dict[Key, Any] = {}
        with memoryview(room).cast("B") as memory:
            for key, address, size, flags, outcome in items.results():
                if outcome == _OK:
                    begin = address - start
                    value = bytes(memory[begin : begin + size])
                elif outcome == _TOO_SMALL:
                    alone = self._read(encode_key(key))
                    if alone is None:
                        continue
                    value, flags, _ = alone
                else:
                    continue
                try:
                    found[key] = self._unpack(key, value, flags)
                except MemoryError:
                    raise
                except Exception as error:
                    warn_of_undecodable(error, encode_key(key))
        return found

    def set_many(self, values: Mapping[Key, Any], ttl: Optional[Duration] = None, flags: int = 0) -> None:
        """Stores every value under its key.

        Args:
            values: from keys to values, each as for `set`.
            ttl, flags: of all of them, as for `set`.

        Raises:
            Those of `set`. The others are stored all the same, unless an argument was no key, value or number at all.

        Source: memstream_set_many.
        """
        pairs = snapshot(values)
        items = _Items([key for key, _ in pairs])
        packed = [self._pack(value, flags) for _, value in pairs]
        ttl_ms = milliseconds(ttl)
        with ExitStack() as stack:
            for index, (value, word) in enumerate(packed):
                address, size = stack.enter_context(BorrowedBytes(value))
                items.set_value(index, address.value or 0, size, ttl_ms, word)
            status = self._library.c.memstream_set_many(self._handle, items.array, len(packed))
        self._check(status)

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Stores the entries of a mapping, or of an iterable of (key, value) pairs, as `dict.update` does.

        Args:
            other: a mapping, or pairs.
            more: further values; their names are the keys.

        Raises:
            Those of `set_many`. The others are stored all the same.

        Source: memstream_set_many.
        """
        try:
            merged: Dict[Any, Any] = dict(snapshot(other) if isinstance(other, Mapping) else other)
        except (TypeError, ValueError) as error:
            raise TypeError(invalid("other", other, "a mapping, or an iterable of (key, value) pairs")) from error
        merged.update(more)
        self.set_many(merged)

    def delete_many(self, keys: Iterable[Key]) -> int:
        """Removes the keys.

        Args:
            keys: each as for `get`.

        Returns:
            How many of them were there.

        Raises:
            Those of `delete`. The others are removed all the same.

        Source: memstream_delete_many.
        """
        return sum(self._delete_each(keys))

    def _delete_each(self, keys: Iterable[Key]) -> List[bool]:
        """As `delete_many`, but returns of each key whether it was there."""
        items = _Items(check_iterable("keys", keys))
        self._check(self._library.c.memstream_delete_many(self._handle, items.array, len(items.keys)))
        return [outcome == _OK for *_, outcome in items.results()]

    def _unpack(self, key: Key, value: bytes, flags: int) -> Any:
        """Turns what was stored into what the caller gets."""
        if FIRST_RESERVED <= flags <= LAST_RESERVED:
            raise refusal(key, flags)
        return value


def snapshot(values: Mapping[Key, Any]) -> List[Tuple[Key, Any]]:
    """Returns the pairs of a mapping as they are at one moment: another thread may change it at any time.

    A dict is copied first, because that runs no Python code: its iterator may let other threads run between two pairs.

    Raises:
        TypeError: it is no mapping.
    """
    if type(values) is dict:
        return list(values.copy().items())
    if not isinstance(values, Mapping):
        expected = "a mapping from keys to values"
        raise TypeError(invalid("values", values, expected, "Pass dict() of (key, value) pairs"))
    return list(values.items())


# Where the fields of a `memstream_item_t` lie, in words of 64 bits; the last word is flags (lower half) and status.
_WORDS = ctypes.sizeof(_abi.Item) // 8
_KEY, _KEY_SIZE, _VALUE, _VALUE_SIZE, _TTL, _LAST = 0, 1, 2, 3, 4, _WORDS - 1


class _Items:
    """An array of `memstream_item_t`, filled and read by columns: a ctypes struct for each key would cost a get each.

    Attributes:
        keys: as they were given.
        array: for the library.
    """

    def __init__(self, keys: List[Key]) -> None:
        self.keys = keys
        self._names = [encode_key(key) for key in keys]  # Kept: the array has their addresses.
        count = len(keys)
        addresses = (c_char_p * count)(*self._names)
        self._words = array("Q", bytes(8 * _WORDS * count))
        self._words[_KEY::_WORDS] = array("Q", bytes(addresses))
        self._words[_KEY_SIZE::_WORDS] = array("Q", map(len, self._names))
        self.array = ctypes.cast(self._words.buffer_info()[0], ctypes.POINTER(_abi.Item))

    def set_value(self, index: int, address: int, size: int, ttl_ms: int, flags: int) -> None:
        """Fills what `memstream_set_many` reads besides the key."""
        begin = index * _WORDS
        self._words[begin + _VALUE], self._words[begin + _VALUE_SIZE] = address, size
        self._words[begin + _TTL], self._words[begin + _LAST] = ttl_ms, flags

    def results(self) -> Iterator[Tuple[Key, int, int, int, int]]:
        """Gives key, address and size of the value, flags and status of each."""
        last = memoryview(self._words[_LAST::_WORDS]).cast("B").cast("I").tolist()
        statuses = memoryview(self._words[_LAST::_WORDS]).cast("B").cast("i").tolist()[1::2]
        return zip(self.keys, self._words[_VALUE::_WORDS], self._words[_VALUE_SIZE::_WORDS], last[::2], statuses)
