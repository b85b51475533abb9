"""Many keys for one call into the library."""

from __future__ import annotations

import ctypes
from array import array
from ctypes import c_char_p
from typing import Any, Iterator, List, Mapping, Tuple

from memstream._core import abi
from memstream._core.arguments import Key, encode_key, invalid


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


class Items:
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
        self.array = ctypes.cast(self._words.buffer_info()[0], ctypes.POINTER(abi.Item))

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
