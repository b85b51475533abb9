"""Turns the arguments of Python callers into those of the C functions, and refuses an invalid one by its name."""

from __future__ import annotations

import ctypes
import math
import os
import re
from contextlib import suppress
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_ssize_t, c_uint32, c_uint64, c_void_p
from datetime import timedelta
from operator import index
from reprlib import Repr
from typing import Any, Dict, Iterable, List, Optional, Tuple, Type, TypeVar, Union, cast

from memstream._core.abi import Status
from memstream._core.errors import InvalidArgument, MemStreamError

_T = TypeVar("_T")

Key = Union[str, bytes]

# Seconds, or a timedelta.
Duration = Union[float, timedelta]

Path = Union[str, "os.PathLike[str]"]

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

# Shows values in messages: an argument may be of any size.
_short = Repr()
_short.maxstring = _short.maxother = 80


def shown(value: object) -> str:
    """Returns a value as a message shows it: on one line, without control characters, and shortened if it is long."""
    try:
        text = _short.repr(value)
    except ValueError:  # An integer of thousands of digits.
        return f"of type {type(value).__name__}"
    return " ".join("".join(c if c.isprintable() or c.isspace() else ascii(c)[1:-1] for c in text).split())


def invalid(parameter: str, value: object, expected: str, remedy: str = "") -> str:
    """Returns the text of an error about an argument.

    Args:
        parameter: the name that the caller knows it by.
        value: what was passed.
        expected: what is allowed.
        remedy: what to do instead, as an imperative without a full stop.
    """
    return f"Invalid {parameter} {shown(value)}: expected {expected}." + (f" {remedy}." if remedy else "")


def encode_key(key: Key, parameter: str = "key") -> bytes:
    """Returns a key as bytes: str in UTF-8, bytes as they are.

    Raises:
        TypeError: it is neither.
        UnicodeEncodeError: str with lone surrogates, as file names can have; `os.fsencode` turns those into bytes.
    """
    if isinstance(key, str):
        try:
            return key.encode()
        except UnicodeEncodeError as error:
            remedy = "Pass os.fsencode() of a file name"
            reason = invalid(parameter, key, "a str that UTF-8 can encode, or bytes", remedy)
            raise UnicodeEncodeError(error.encoding, key, error.start, error.end, reason) from None
    if isinstance(key, bytes):
        return bytes(key)
    remedy = f"Pass bytes({parameter})" if isinstance(key, (bytearray, memoryview)) else ""
    if isinstance(key, (int, float)):
        remedy = f"Pass str({parameter})"
    raise TypeError(invalid(parameter, key, "str or bytes", remedy))


def encode_prefix(prefix: Optional[Key]) -> bytes:
    """Returns what the keys of a scan begin with.

    Raises:
        InvalidArgument: it looks like a pattern, as other caches take it, which would find nothing here.
    """
    if prefix is None:
        return b""
    if isinstance(prefix, str) and prefix.endswith("*"):
        remedy = f"Pass {prefix.rstrip('*')!r}, or bytes for keys that contain the asterisk itself"
        raise InvalidArgument(Status.INVALID, invalid("prefix", prefix, "what the keys begin with, no pattern", remedy))
    return encode_key(prefix, "prefix")


_SECONDS = "seconds above 0 as a number or a timedelta, or None for no limit"


def seconds(duration: Optional[Duration], parameter: str = "ttl", expected: str = _SECONDS) -> Optional[float]:
    """Returns a duration in seconds, of any size; None for None.

    Raises:
        TypeError: it is neither a number nor a timedelta.
    """
    if duration is None or duration.__class__ is int or duration.__class__ is float:
        return cast("Optional[float]", duration)
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    # float() also takes values that may mean something else: "60", True, and numpy's timedelta64 of nanoseconds.
    is_number = not isinstance(duration, (str, bytes, bytearray, bool)) and hasattr(type(duration), "__float__")
    if is_number and getattr(getattr(duration, "dtype", None), "kind", "f") in "iuf":
        with suppress(TypeError, ValueError):
            return int(duration) if isinstance(duration, int) else float(duration)
    remedy = ""
    if isinstance(duration, str) and _is_number(duration):
        remedy = f"Pass the number: {parameter}={duration.strip()}"
    elif callable(duration) and parameter == "ttl":
        remedy = "Call the decorator, with parentheses: @cache.memoize()"
    raise TypeError(invalid(parameter, duration, expected, remedy))


def milliseconds(duration: Optional[Duration], parameter: str = "ttl") -> int:
    """Returns a duration in milliseconds, rounded up; 0, the library's "no limit", for None.

    Raises:
        TypeError: it is neither a number nor a timedelta.
        InvalidArgument: 0, negative, not a number, or beyond 63 bits.
    """
    if duration is None:
        return 0
    if duration.__class__ is int and 0 < cast(int, duration) < 2**53:  # The common case.
        return cast(int, duration) * 1000
    number = seconds(duration, parameter)
    if number is None or not 0 < number < 2**63 / 1000:
        remedy = "Call delete() to remove an entry" if parameter == "ttl" else ""
        raise InvalidArgument(Status.INVALID, invalid(parameter, duration, _SECONDS, remedy))
    return math.ceil(number * 1000)


def whole_number(parameter: str, number: int, expected: str, remedy: str = "") -> int:
    """Returns an int, or what stands for one, such as numpy's numbers.

    Raises:
        TypeError: it is something else, also a bool, which is a mistake where a number is expected.
    """
    if number.__class__ is int:
        return number
    if not isinstance(number, bool):
        with suppress(TypeError):
            return index(number)
    raise TypeError(invalid(parameter, number, expected, remedy))


def check_range(parameter: str, number: int, least: int, most: int, remedy: str = "") -> int:
    """Returns `number`. ctypes would cut off the bits that do not fit, without a word.

    Raises:
        TypeError: it is no whole number.
        InvalidArgument: it is below `least` or above `most`.
    """
    if number.__class__ is int and least <= number <= most:
        return number
    expected = f"a whole number from {_bound(least)} to {_bound(most)}"
    found = whole_number(parameter, number, expected, remedy)
    if not least <= found <= most:
        raise InvalidArgument(Status.INVALID, invalid(parameter, number, expected, remedy))
    return found


def _bound(number: int) -> str:
    """Returns a limit of a C type as a power of two, which people recognize."""
    power = number if number < 0 else number + 1
    if abs(power) < 2**24:
        return str(number)
    return f"-2**{abs(power).bit_length() - 1}" if number < 0 else f"2**{power.bit_length() - 1} - 1"


_SIZE = 'bytes as an int, or as a str with an optional K, M or G, such as "64M"'
_SIZE_TEXT = re.compile("([0-9]{1,20})([KMGkmg]?)")
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30}


def byte_count(parameter: str, size: Union[int, str], error: Type[MemStreamError], code: Status) -> int:
    """Returns a number of bytes that is given as a number, or as text in the form of the environment.

    Raises:
        TypeError: it is neither.
        error: the text does not parse, or the number is below 1 or above 64 bits.
    """
    if isinstance(size, str):
        match = _SIZE_TEXT.fullmatch(size)
        count = int(match[1]) << _UNITS[match[2].upper()] if match else 0
    else:
        count = whole_number(parameter, size, _SIZE, f"Pass int({parameter})" if isinstance(size, float) else "")
    if not 1 <= count < 2**64:
        raise error(code, invalid(parameter, size, _SIZE))
    return count


def check_int64(parameter: str, number: int) -> int:
    """Returns a signed number of 64 bits; raises InvalidArgument if it has more."""
    if number.__class__ is int and -(2**63) <= number < 2**63:  # The common case.
        return number
    remedy = "Count in a smaller unit, such as cents" if isinstance(number, float) else ""
    return check_range(parameter, number, -(2**63), 2**63 - 1, remedy)


def check_bool(parameter: str, value: bool) -> bool:
    """Returns True or False; raises TypeError for what only counts as one of them: "no" counts as True."""
    if isinstance(value, bool):
        return value
    raise TypeError(invalid(parameter, value, "True or False"))


def check_callable(parameter: str, function: object) -> None:
    """Raises TypeError for a value that is neither a function nor None."""
    if function is not None and not callable(function):
        raise TypeError(invalid(parameter, function, "a function, or None"))


def check_iterable(parameter: str, values: Iterable[_T], items: str = "str or bytes") -> List[_T]:
    """Returns the items of an iterable; raises TypeError for anything else."""
    if values.__class__ is list:  # Copying it runs no Python code; an iterator might let another thread change it.
        return list(values)
    try:
        iterator = iter(values)
    except TypeError:
        raise TypeError(invalid(parameter, values, f"an iterable of {items}", "Pass a list")) from None
    return list(iterator)


def c_text(
    parameter: str, text: str, expected: str, error: Type[MemStreamError], code: Status, remedy: str = ""
) -> bytes:
    """Encodes text for a C function that ends it at the first NUL. Refuses a NUL, because the rest would be lost.

    Raises:
        TypeError: it is no str.
        error: it has a NUL, or lone surrogates.
    """
    if not isinstance(text, str):
        raise TypeError(invalid(parameter, text, expected, "Decode it" if isinstance(text, bytes) else remedy))
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise error(code, invalid(parameter, text, expected, "Remove the lone surrogates")) from None
    if b"\0" in encoded:
        raise error(code, invalid(parameter, text, expected, "Remove the NUL character"))
    return encoded


def path_text(parameter: str, path: Path) -> str:
    """Returns a path for the system's loader, which ends it at the first NUL.

    Raises:
        TypeError: it is no path.
        InvalidArgument: it has a NUL.
    """
    expected = "the path of a file"
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(invalid(parameter, path, expected))
    text = os.fsdecode(path)
    if "\0" in text:
        raise InvalidArgument(Status.INVALID, invalid(parameter, text, expected, "Remove the NUL character"))
    return text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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
        """Borrows the bytes.

        Raises:
            TypeError: `value` has no buffer.
            BufferError: its buffer is not contiguous.
        """
        self._buffer = _PyBuffer()
        try:
            _get_buffer(value, byref(self._buffer), _SIMPLE)
        except TypeError:
            remedy = 'Open the cache with serializer="pickle" or "json" to store objects'
            if isinstance(value, str):
                remedy = "Encode it with .encode(), or open the cache with serializer= to store objects"
            raise TypeError(invalid("value", value, "bytes, or another object with a buffer", remedy)) from None
        except (BufferError, ValueError) as error:  # numpy raises the latter; so does what was closed or released.
            if "contiguous" not in str(error):
                raise
            raise BufferError(invalid("value", value, "a contiguous buffer", "Copy it with .tobytes()")) from None

    def __enter__(self) -> Tuple[c_void_p, int]:
        """Returns the address and the size in bytes."""
        return c_void_p(self._buffer.buf), self._buffer.len

    def __exit__(self, *exception: object) -> None:
        _release_buffer(byref(self._buffer))
