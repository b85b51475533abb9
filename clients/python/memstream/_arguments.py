"""From what Python callers pass to what the C functions take; what does not fit is refused here, by name."""

from __future__ import annotations

import ctypes
import math
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_ssize_t, c_uint32, c_uint64, c_void_p
from types import TracebackType
from typing import Any, Dict, Optional, Tuple, Type, Union

from memstream._abi import Status
from memstream._kinds import Kind, flag_word
from memstream.errors import InvalidArgument

Key = Union[str, bytes]

# Anything with a C-contiguous buffer: bytes, bytearray, memoryview, array, numpy. Python 3.12 is the first with a type
# for it.
Buffer = Any


class _Sizes(Dict[int, c_size_t]):
    """Numbers as size_t. Small ones are made once: making one costs a fifth of a whole get."""

    def __missing__(self, number: int) -> c_size_t:
        return c_size_t(number)


SIZES = _Sizes((number, c_size_t(number)) for number in range(1025))
FOR_EVER = c_uint64(0)
NO_FLAGS = c_uint32(0)


def encode_key(key: Key) -> bytes:
    """Returns a key as bytes: str in UTF-8, bytes as they are.

    Raises:
        TypeError: it is neither.
        UnicodeEncodeError: str with lone surrogates, as file names can have; `os.fsencode` turns those into bytes.
    """
    if isinstance(key, str):
        return key.encode()
    if isinstance(key, bytes):
        return bytes(key)
    raise TypeError(f"a key is str or bytes, not {type(key).__name__}")


def milliseconds(ttl: Optional[float]) -> int:
    """Returns a time to live in milliseconds, rounded up; 0, the library's "for ever", for None.

    Raises:
        InvalidArgument: 0, negative, not a number, or beyond 63 bits.
    """
    if ttl is None:
        return 0
    if not 0 < ttl < 2**63 / 1000:
        raise InvalidArgument(Status.INVALID, f"ttl is {ttl!r} seconds: give a number above 0, or None for ever")
    return math.ceil(ttl * 1000)


def check_range(what: str, number: int, least: int, most: int) -> int:
    """Returns `number`. ctypes would cut off the bits that do not fit, without a word.

    Raises:
        InvalidArgument: it is below `least` or above `most`.
    """
    if not least <= number <= most:
        raise InvalidArgument(Status.INVALID, f"{what} is {number}: it must lie between {least} and {most}")
    return number


def check_flags(flags: int) -> int:
    """Returns the caller's 32 bits; raises InvalidArgument if there are more, or if they say "serialized"."""
    return flag_word(Kind.BYTES, flags)


def check_int64(what: str, number: int) -> int:
    """Returns a signed number of 64 bits; raises InvalidArgument if it has more."""
    return check_range(what, number, -(2**63), 2**63 - 1)


class _PyBuffer(ctypes.Structure):
    """`Py_buffer` of the stable ABI."""

    _fields_ = [
        ("buf", c_void_p),
        ("obj", c_void_p),
        ("len", c_ssize_t),
        ("itemsize", c_ssize_t),
        ("readonly", c_int),
        ("ndim", c_int),
        ("format", c_char_p),
        ("shape", POINTER(c_ssize_t)),
        ("strides", POINTER(c_ssize_t)),
        ("suboffsets", POINTER(c_ssize_t)),
        ("internal", c_void_p),
    ]


_SIMPLE = 0  # PyBUF_SIMPLE: contiguous bytes; the exporter refuses if it has none.
_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = (ctypes.py_object, POINTER(_PyBuffer), c_int)
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = (POINTER(_PyBuffer),)
_release_buffer.restype = None


class BorrowedBytes:
    """The bytes of any buffer where they are, for the length of a with block. Nothing is copied.

    `ctypes` itself gives the address of writable buffers only; the interpreter's own function gives that of all.
    """

    __slots__ = ("_buffer",)

    def __init__(self, value: Buffer) -> None:
        self._buffer = _PyBuffer()
        # Raises TypeError if there is no buffer, BufferError if it is not contiguous.
        _get_buffer(value, byref(self._buffer), _SIMPLE)

    def __enter__(self) -> Tuple[c_void_p, int]:
        """Returns the address and the size in bytes."""
        return c_void_p(self._buffer.buf), self._buffer.len

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        _release_buffer(byref(self._buffer))
