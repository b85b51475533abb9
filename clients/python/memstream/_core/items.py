"""Many keys for one call into the library."""

from __future__ import annotations

import ctypes
from array import array
from ctypes import byref, c_char_p, c_size_t
from typing import Any, Iterator, List, Mapping, Optional, Tuple

from memstream._core import abi
from memstream._core.abi import Status
from memstream._core.arguments import Key, encode_key, invalid
from memstream._core.connection import Connection
from memstream._core.errors import Conflict

# Initial bytes of the buffer for each value, and the most for all of them.
_BYTES_EACH = 512
_MOST_BYTES = 1024 * 1024

_OK, _TOO_SMALL, _CONFLICT = (int(status) for status in (Status.OK, Status.TOO_SMALL, Status.CONFLICT))


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
_WORDS = ctypes.sizeof(abi.Item) // 8
_KEY, _KEY_SIZE, _VALUE, _VALUE_SIZE, _TTL, _LAST = 0, 1, 2, 3, 4, _WORDS - 1
# A `memstream_tagged_item_t` has one word more, for its tags.
_TAGGED_WORDS = ctypes.sizeof(abi.TaggedItem) // 8


class Items:
    """An array of `memstream_item_t`, filled and read by columns: a ctypes struct for each key would cost a get each.

    Attributes:
        keys: as they were given.
        array: for the library.
        size: bytes of an item.
    """

    def __init__(self, keys: List[Key], tags: Optional[abi.Tags] = None) -> None:
        self.keys = keys
        self._tags = tags  # Kept, as the names are.
        step = _WORDS if tags is None else _TAGGED_WORDS
        self._step, self.size = step, 8 * step
        self._names = [encode_key(key) for key in keys]  # Kept: the array has their addresses.
        count = len(keys)
        addresses = (c_char_p * count)(*self._names)
        self._words = array("Q", bytes(8 * step * count))
        self._words[_KEY::step] = array("Q", bytes(addresses))
        self._words[_KEY_SIZE::step] = array("Q", map(len, self._names))
        if tags is not None:
            self._words[_WORDS::step] = array("Q", [ctypes.addressof(tags)] * count)
        self.array = ctypes.cast(self._words.buffer_info()[0], ctypes.POINTER(abi.Item))

    def set_value(self, index: int, address: int, size: int, ttl_ms: int, flags: int) -> None:
        """Fills what `memstream_set_many` reads besides the key."""
        begin = index * self._step
        self._words[begin + _VALUE], self._words[begin + _VALUE_SIZE] = address, size
        self._words[begin + _TTL], self._words[begin + _LAST] = ttl_ms, flags

    def results(self) -> Iterator[Tuple[Key, int, int, int, int]]:
        """Gives key, address and size of the value, flags and status of each."""
        words, step = self._words, self._step
        last = memoryview(words[_LAST::step]).cast("B").cast("I").tolist()
        statuses = memoryview(words[_LAST::step]).cast("B").cast("i").tolist()[1::2]
        return zip(self.keys, words[_VALUE::step], words[_VALUE_SIZE::step], last[::2], statuses)


def read_each(connection: Connection, items: Items) -> "ctypes.Array[ctypes.c_char]":
    """Reads those of the values that fit into the buffer that it returns; the status of the others says so."""
    count = len(items.keys)
    size = c_size_t(min(count * _BYTES_EACH, _MOST_BYTES))
    buffer = ctypes.create_string_buffer(size.value)
    status = connection.library.c.memstream_get_many(connection.handle, items.array, count, buffer, byref(size))
    if status not in (_OK, _TOO_SMALL):
        connection.fail(status)
    return buffer


def read_consistent(connection: Connection, items: Items) -> "ctypes.Array[ctypes.c_char]":
    """Reads all values, as they were at one instant, into the buffer that it returns.

    Raises:
        Conflict: one of them changed each time that they were read.
    """
    function = connection.library.c.memstream_get_many_consistent
    count = len(items.keys)
    size = c_size_t(min(count * _BYTES_EACH, _MOST_BYTES))
    while True:
        buffer = ctypes.create_string_buffer(size.value)
        status = function(connection.handle, items.array, items.size, count, buffer, byref(size), 0)
        if status == _OK:
            return buffer
        if status == _CONFLICT:
            reason = f"one of the {count} keys changed each of the 16 times that they were read"
            raise Conflict(
                status, f"The keys did not stand still: {reason}. Try again later, or ask for fewer at once."
            )
        if status != _TOO_SMALL:
            connection.fail(status)
