"""numpy arrays in the cache: written in place, read without a copy.

A stored array is a .npy file as numpy.save writes it (header, then the elements, at a multiple of 64 bytes), so that
other programs can read it, and `Cache.array` reads a .npy file that was stored as it is.
"""

from __future__ import annotations

import ast
import io
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Callable, Optional, Tuple, cast

from memstream._core.arguments import Duration, Key, invalid
from memstream._core.connection import Connection
from memstream._core.errors import SerializerError
from memstream._core.kinds import Kind, flag_word, kind_of, refusal
from memstream._core.views import View

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAGIC = b"\x93NUMPY"
_ALIGNMENT = 64
# Magic, version, and the size of the rest of the header: 2 bytes in version 1, 4 later.
_LEAST_HEADER = len(_MAGIC) + 2 + 4


def put_array(connection: Connection, key: Key, array: Any, ttl: Optional[Duration], flags: int) -> None:
    """Stores an array: see `Cache.put_array`."""
    numpy = _import_numpy()
    try:
        source = numpy.asanyarray(array)
    except (TypeError, ValueError) as error:
        raise ValueError(invalid("array", array, "an array, or nested sequences of one shape")) from error
    if isinstance(source, numpy.ma.MaskedArray):
        remedy = "Store .data and .mask under two keys"
        raise SerializerError(invalid("array", array, "one array of bytes, which a masked array is not", remedy))
    header = _make_header(source)
    word = flag_word(Kind.ARRAY, flags)
    order = "F" if source.flags.f_contiguous and not source.flags.c_contiguous else "C"
    with connection.reserve(key, len(header) + source.nbytes, ttl, word) as memory:
        memory[: len(header)] = header
        target = numpy.ndarray(source.shape, source.dtype, buffer=memory, offset=len(header), order=order)
        numpy.copyto(target, source)
        del target  # It would keep the room from being committed.
        _clear_padding(source.dtype, memory[len(header) :])


def array_in_place(take_view: Callable[[Key], View], key: Key) -> "NDArray[Any]":
    """Returns an array over the view that `take_view` gives: see `Cache.array`."""
    numpy = _import_numpy()
    view = take_view(key)
    memory = view.memory
    if kind_of(view.flags) not in (Kind.ARRAY, Kind.BYTES) or bytes(memory[: len(_MAGIC)]) != _MAGIC:
        raise refusal(key, view.flags)
    try:
        dtype, shape, order, offset = _parse_header(_header_of(memory))
        # Over an array of the read-only memoryview: numpy would let its user write to what is below that.
        array = numpy.ndarray(shape, dtype, numpy.asarray(memory), offset, order=order)
    except (ValueError, TypeError, IndexError) as error:
        raise SerializerError(f"is a damaged array: {error}. Delete it, or store it again.", key) from None
    return cast("NDArray[Any]", array)


def _import_numpy() -> Any:
    try:
        import numpy
        import numpy.lib.format
    except ImportError:
        raise ImportError(
            "Arrays need numpy. Install it (Debian: python3-numpy), or use bytes, view() and reserve()."
        ) from None
    return numpy


def _make_header(array: Any) -> bytes:
    """Returns the header of a .npy file, 64 bytes or a multiple."""
    npy = _import_numpy().lib.format
    if array.dtype.hasobject:
        expected = "a dtype without Python objects, whose addresses mean nothing to other processes"
        remedy = 'Give it another dtype, or store it through a cache with serializer="pickle"'
        raise SerializerError(invalid("array", array.dtype, expected, remedy))
    header = io.BytesIO()
    try:
        description = npy.header_data_from_array_1_0(array)
    except ValueError:
        expected = "a dtype whose fields do not overlap and are in the order of their bytes"
        raise SerializerError(invalid("array", array.dtype, expected, "Convert it with astype()")) from None
    for write in (npy.write_array_header_1_0, npy.write_array_header_2_0):
        try:
            write(header, description)
            return header.getvalue()
        except ValueError:  # Above 64 KiB: many fields. Or names of fields that are not Latin-1.
            pass
    text = repr(description).encode()
    start = _MAGIC + b"\3\0"
    text += b" " * (-(len(start) + 4 + len(text) + 1) % _ALIGNMENT) + b"\n"
    return start + len(text).to_bytes(4, "little") + text


def _clear_padding(dtype: Any, memory: memoryview) -> None:
    """Writes zeros between the fields of each element, where a deleted value may have left its bytes."""
    padding = _padding_of(dtype) if dtype.names else None
    if padding is not None and padding.any() and memory.nbytes:
        numpy = _import_numpy()
        numpy.frombuffer(memory, "u1").reshape(-1, dtype.itemsize)[:, padding] = 0


def _padding_of(dtype: Any) -> Any:
    """Returns of each byte of an element whether it belongs to no field."""
    numpy = _import_numpy()
    if not dtype.names:
        return numpy.zeros(dtype.itemsize, bool)
    padding = numpy.ones(dtype.itemsize, bool)
    for name in dtype.names:
        field, offset = dtype.fields[name][:2]
        padding[offset : offset + field.itemsize] = numpy.resize(_padding_of(field.base), field.itemsize)
    return padding


def _header_of(memory: memoryview) -> bytes:
    """Cuts the header off a .npy file."""
    start = bytes(memory[:_LEAST_HEADER])
    size_bytes = 2 if start[len(_MAGIC)] == 1 else 4
    size = int.from_bytes(start[len(_MAGIC) + 2 : len(_MAGIC) + 2 + size_bytes], "little")
    return bytes(memory[: len(_MAGIC) + 2 + size_bytes + size])


@lru_cache(maxsize=256)
def _parse_header(header: bytes) -> Tuple[Any, Tuple[int, ...], str, int]:
    """Returns dtype, shape, order and offset of the elements. Kept: parsing takes longer than all the rest.

    Not by numpy's functions: they do not read what `_make_header` writes for many fields, or for names in Unicode.
    """
    npy = _import_numpy().lib.format
    version = header[len(_MAGIC)]
    if not 1 <= version <= 3:
        raise ValueError(f"version {version} of the .npy format is unknown")
    text = header[len(_MAGIC) + 2 + (2 if version == 1 else 4) :].decode("utf-8" if version == 3 else "latin-1")
    try:
        fields = ast.literal_eval(text.strip())
        dtype, shape, is_fortran = npy.descr_to_dtype(fields["descr"]), fields["shape"], fields["fortran_order"]
    except (SyntaxError, KeyError, RecursionError, MemoryError) as error:
        raise ValueError(f"its header does not parse: {error}") from None
    if dtype.hasobject:
        raise ValueError(f"an array of dtype {dtype} holds addresses of another process")
    return dtype, shape, "F" if is_fortran else "C", len(header)
