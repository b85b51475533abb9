"""Whatever `put_array` accepts, `array` returns: over generated dtypes, shapes and orders."""

from __future__ import annotations

import io
import os
from typing import Any, Iterator, List, Tuple

import pytest
from conftest import ROOT, Segment

from memstream import Cache, SerializerError

numpy = pytest.importorskip("numpy")
hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed (Debian: python3-hypothesis)")

from hypothesis import strategies as st  # noqa: E402  The line above says so where it is missing.
from hypothesis.configuration import set_hypothesis_home_dir  # noqa: E402

set_hypothesis_home_dir(str(ROOT / "build" / "test-results" / "hypothesis"))

# Elements of these leave bytes of their block as they are, unless somebody clears them.
MARK = 0xA7


def names() -> Any:
    """Names of fields: any text, also such as no .npy file of version 1 or 2 can name."""
    return st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), min_size=1, max_size=6)


def plain_dtypes() -> Any:
    """One element, of either byte order."""
    order = st.sampled_from("<>")
    text = st.builds("{}{}{}".format, order, st.sampled_from("SUV"), st.integers(0, 9))
    instants = st.builds("{}{}8[{}{}]".format, order, st.sampled_from("mM"), st.integers(1, 30), st.sampled_from(UNITS))
    numbers = st.builds("{}{}".format, order, st.sampled_from("? i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 g c8 c16 G".split()))
    return st.one_of(text, instants, numbers, st.sampled_from(["<M8", ">m8"])).map(numpy.dtype)


UNITS = "Y M W D h m s ms us ns ps fs as".split()


@st.composite
def structured(draw: Any, fields: Any) -> Any:
    """Fields in order, packed or aligned as a C compiler would, or at places of their own with gaps between them."""
    labels = draw(st.lists(names(), min_size=1, max_size=4, unique=True))
    formats = [draw(fields) for _ in labels]
    shapes = [draw(st.sampled_from([(), (), (1,), (3,), (2, 2), (0,)])) if each.itemsize else () for each in formats]
    parts = [(label, dtype, shape) if shape else (label, dtype) for label, dtype, shape in zip(labels, formats, shapes)]
    layout = draw(st.sampled_from(["packed", "aligned", "gaps"]))
    if layout != "gaps":
        return numpy.dtype(parts, align=layout == "aligned")
    offsets, end = [], 0
    for part in parts:
        offsets.append(end + draw(st.integers(0, 5)))
        end = offsets[-1] + numpy.dtype([part]).itemsize
    whole = [numpy.dtype((part[1], part[2])) if len(part) == 3 else part[1] for part in parts]
    size = end + draw(st.integers(0, 5))
    return numpy.dtype({"names": labels, "formats": whole, "offsets": offsets, "itemsize": size})


def dtypes() -> Any:
    return st.recursive(plain_dtypes(), structured, max_leaves=5)


@st.composite
def arrays(draw: Any) -> Any:
    """Arrays of any bytes at all, contiguous in either order, or cut, turned, spread and reversed."""
    dtype = draw(dtypes())
    shape = draw(st.sampled_from([(), (0,), (1,), (5,), (2, 3), (3, 0, 2), (2, 1, 3), (1, 1), (4, 2, 2)]))
    count = int(numpy.prod(shape, dtype=int)) * dtype.itemsize
    seed = draw(st.integers(0, 2**32 - 1))
    data = numpy.random.default_rng(seed).integers(0, 256, count, dtype="u1").tobytes()
    source = numpy.ndarray(shape, dtype, data)
    for change in draw(st.lists(st.sampled_from(CHANGES), max_size=2)):
        source = change(source)
    return source


CHANGES: List[Any] = [
    numpy.asfortranarray,
    numpy.transpose,
    lambda array: array[..., ::2] if array.ndim else array,
    lambda array: array[::-1] if array.ndim else array,
    lambda array: numpy.broadcast_to(array, (2, *array.shape)),
    lambda array: array.view(numpy.recarray) if array.dtype.names else array,
]


def leaves(dtype: Any, start: int = 0) -> Iterator[Tuple[int, int]]:
    """Gives begin and end of the bytes of an element that are not padding."""
    if dtype.subdtype:
        base, shape = dtype.subdtype
        for index in range(int(numpy.prod(shape))):
            yield from leaves(base, start + index * base.itemsize)
    elif dtype.fields:
        for field, offset, *_ in (dtype.fields[name] for name in dtype.names):
            yield from leaves(field, start + offset)
    else:
        yield start, start + dtype.itemsize


def elements(array: Any) -> bytes:
    """The bytes of an array in C order, without its padding."""
    size = array.dtype.itemsize
    raw = numpy.ascontiguousarray(array).tobytes() if size else b""
    kept = list(leaves(array.dtype))
    return b"".join(raw[at + begin : at + end] for at in range(0, len(raw), size or 1) for begin, end in kept)


def padding(array: Any) -> bytes:
    size = array.dtype.itemsize
    is_kept = {index for begin, end in leaves(array.dtype) for index in range(begin, end)}
    data = bytes(array.reshape(-1, order="A").view("u1")) if array.size and size else b""
    return bytes(data[at + index] for at in range(0, len(data), size or 1) for index in set(range(size)) - is_kept)


@hypothesis.settings(
    max_examples=int(os.environ.get("MEMSTREAM_ARRAY_EXAMPLES", "200")),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(array=arrays())
def test_whatever_is_put_comes_back(cache: Cache, array: Any) -> None:
    # What the array is to be written over: its padding must not show it.
    cache["key"] = bytes([MARK]) * 8192
    cache.delete("key")
    cache.put_array("key", array)
    found = cache.array("key")
    assert found.dtype == array.dtype and found.shape == array.shape
    assert elements(found) == elements(array)
    assert not any(padding(found))
    if found.nbytes and (array.flags.c_contiguous or array.flags.f_contiguous):
        assert found.flags.c_contiguous == array.flags.c_contiguous
        assert found.flags.f_contiguous == array.flags.f_contiguous
    with cache.view("key") as memory:
        loaded = numpy.load(io.BytesIO(memory))
    assert loaded.dtype == array.dtype and elements(loaded) == elements(array)


def test_padding_would_show_deleted_values(segment: Segment) -> None:
    """That the test above sees what it looks for: a reservation has the bytes of the value before."""
    with Cache() as cache:
        cache["key"] = bytes([MARK]) * 8192
        cache.delete("key")
        reservation = cache.reserve("key", 4096)
        assert MARK in bytes(reservation.memory)
        reservation.abort()


REFUSED = {
    "objects": numpy.array([{}]),
    "objects in a field": numpy.zeros(2, dtype=[("a", "i4"), ("b", "O")]),
    "objects in fields of a field": numpy.zeros(2, dtype=[("a", [("b", "O", 2)])]),
    "overlapping fields": numpy.zeros(2, dtype={"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [0, 2]}),
    "fields in another order": numpy.zeros(2, dtype={"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [4, 0]}),
    "masked": numpy.ma.masked_array([1, 2], mask=[0, 1]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_come_back_is_refused_and_stores_nothing(cache: Cache, name: str) -> None:
    with pytest.raises(SerializerError, match="^Invalid array .*: expected"):
        cache.put_array("key", REFUSED[name])
    assert "key" not in cache


ODD = {
    "texts of no size": numpy.zeros(3, "S0"),
    "no fields": numpy.zeros(3, dtype=[]),
    "titles": numpy.zeros(3, dtype=[(("a title", "a"), "i4")]),
    "a name in Cyrillic": numpy.zeros(3, dtype=[("ключ", "i4")]),
    "4,000 fields": numpy.zeros(2, dtype=[(f"field{number:05}", "u1") for number in range(4000)]),
    "4,000 fields in Cyrillic": numpy.zeros(2, dtype=[(f"поле{number:05}", "u1") for number in range(4000)]),
    "32 dimensions": numpy.zeros((1,) * 32),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_arrays_come_back(cache: Cache, name: str) -> None:
    array = ODD[name]
    cache.put_array("key", array)
    found = cache.array("key")
    assert found.dtype == array.dtype and found.shape == array.shape and found.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "text",
    [b"{'descr': '<i4', 'shape': (1,)}", b"{", b"1", b"[" * 10_000, b"{'descr': 5}"],
    ids=["no order", "no end", "a number", "deep", "no dtype"],
)
def test_a_header_that_does_not_parse_is_an_error(cache: Cache, text: bytes) -> None:
    cache["key"] = b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + bytes(64)
    with pytest.raises(
        SerializerError, match="^The value of 'key' is a damaged array: .* Delete it, or store it again.$"
    ):
        cache.array("key")
