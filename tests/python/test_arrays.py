"""numpy arrays in the cache."""

from __future__ import annotations

import gc
import io
import subprocess
import sys
from typing import Any, Callable

import pytest
from conftest import CLIENT, Segment, pins

from memstream import Cache, CacheMiss, SerializerError, errors
from memstream._core.kinds import Kind, kind_of

numpy = pytest.importorskip("numpy")

ARRAYS = {
    "one dimension": numpy.arange(1000),
    "three dimensions": numpy.arange(24, dtype="<f4").reshape(2, 3, 4),
    "no dimension": numpy.array(5.5),
    "no elements": numpy.empty((0, 3), dtype="c16"),
    "other byte order": numpy.arange(10, dtype=">i2"),
    "text": numpy.array(["a", "bcd"]),
    "bytes": numpy.array([b"a", b"bcd"]),
    "instants": numpy.array(["2024-02-29", "NaT"], dtype="datetime64[ns]"),
    "fields": numpy.array([(1, 2.5), (3, 4.5)], dtype=[("a", "i4"), ("b", "f8")]),
    "half": numpy.arange(5, dtype="f2"),
    "bool": numpy.array([True, False]),
    "megabytes": numpy.random.default_rng(1).random((1000, 500)),
    "strided": numpy.arange(100)[::3],
    "backwards": numpy.arange(100)[::-1],
    "transposed": numpy.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_dtype_shape_and_elements_are_kept(cache: Cache, name: str) -> None:
    array = ARRAYS[name]
    cache.put_array("key", array)
    found = cache.array("key")
    assert found.dtype == array.dtype and found.shape == array.shape
    numpy.testing.assert_array_equal(found, array)
    assert found.flags.aligned and not found.flags.writeable and found.flags.c_contiguous
    del found
    assert pins(cache) == 0


def test_fortran_order_is_kept(cache: Cache) -> None:
    array = numpy.asfortranarray(numpy.arange(12).reshape(3, 4))
    cache.put_array("key", array)
    found = cache.array("key")
    assert found.flags.f_contiguous and not found.flags.c_contiguous and (found == array).all()


def test_lists_become_arrays(cache: Cache) -> None:
    cache.put_array("key", [[1, 2], [3, 4]], ttl=60, flags=7)
    assert cache.array("key").tolist() == [[1, 2], [3, 4]]
    entry = cache.entry("key")
    assert entry is not None and entry.expires_at is not None
    assert (kind_of(entry.flags), entry.flags & 0xFFFFFF) == (Kind.ARRAY, 7)


def test_an_array_is_read_where_it_is(cache: Cache) -> None:
    cache.put_array("key", numpy.arange(1000))
    first, second = cache.array("key"), cache.array("key")
    assert first.ctypes.data == second.ctypes.data
    assert pins(cache) == 2
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1
    with pytest.raises(ValueError):
        first.flags.writeable = True


@pytest.mark.parametrize("end", ["delete", "replace", "clear", "close"])
def test_an_array_outlives_its_entry_and_its_cache(segment: Segment, end: str) -> None:
    with Cache() as watcher:
        cache = Cache()
        cache.put_array("key", numpy.arange(50_000))
        part = cache.array("key")[100:200].reshape(10, 10)
        if end == "delete":
            cache.delete("key")
        elif end == "replace":
            cache.put_array("key", numpy.zeros(50_000))
        elif end == "clear":
            cache.clear()
        else:
            cache.close()
        for number in range(100):
            watcher[f"other{number}"] = bytes(400_000)
        assert (part.reshape(100) == numpy.arange(100, 200)).all()
        assert sum(process.pins for process in watcher.processes()) == 1
        del part
        gc.collect()
        assert sum(process.pins for process in watcher.processes()) == 0


def test_what_cannot_be_copied_stores_nothing(cache: Cache) -> None:
    with pytest.raises(errors.ValueTooLarge):
        cache.put_array("key", numpy.zeros(10**8, dtype="u1"))
    with pytest.raises(errors.InvalidArgument, match="24 bits"):
        cache.put_array("key", numpy.zeros(1), flags=2**24)
    assert "key" not in cache and pins(cache) == 0


def test_an_absent_array_is_a_miss(cache: Cache) -> None:
    with pytest.raises(CacheMiss):
        cache.array("absent")


def test_an_array_is_no_plain_value_and_a_plain_value_no_array(cache: Cache) -> None:
    cache.put_array("array", numpy.arange(3))
    cache["bytes"] = b"\x93NUMPX"
    with pytest.raises(SerializerError, match=r"array\(\)"):
        cache.get("array")
    with pytest.raises(SerializerError, match="plain bytes"):
        cache.array("bytes")
    with Cache(serializer="pickle") as other:
        other["object"] = "text"
        for reader in (cache, other):
            with pytest.raises(SerializerError, match="pickle"):
                reader.array("object")
        assert other.array("array").tolist() == [0, 1, 2]


def test_a_npy_file_is_an_array_and_the_other_way_round(cache: Cache) -> None:
    array = numpy.arange(12, dtype="<i8").reshape(3, 4)
    file = io.BytesIO()
    numpy.save(file, array)
    cache["file"] = file.getvalue()
    assert (cache.array("file") == array).all()
    cache.put_array("array", array)
    with cache.view("array") as memory:
        assert (numpy.load(io.BytesIO(memory)) == array).all()


def damaged(change: Callable[[bytearray], Any]) -> bytes:
    file = io.BytesIO()
    numpy.save(file, numpy.arange(100))
    data = bytearray(file.getvalue())
    change(data)
    return bytes(data)


@pytest.mark.parametrize(
    "value",
    [
        damaged(lambda data: data.__delitem__(slice(-1, None))),
        damaged(lambda data: data.__setitem__(20, 0)),
        damaged(lambda data: data.__setitem__(6, 9)),
        damaged(lambda data: data.__setitem__(slice(8, 10), b"\xff\xff")),
        b"\x93NUMPY",
        b"\x93NUMPY\1",
    ],
    ids=["short", "header", "version", "length", "magic", "half"],
)
def test_a_damaged_array_is_an_error(cache: Cache, value: bytes) -> None:
    cache["key"] = value
    with pytest.raises(SerializerError, match="damaged"):
        cache.array("key")
    gc.collect()
    assert pins(cache) == 0


def test_objects_from_others_are_refused(cache: Cache) -> None:
    file = io.BytesIO()
    numpy.save(file, numpy.array([{}]), allow_pickle=True)
    cache["key"] = file.getvalue()
    with pytest.raises(SerializerError, match="addresses"):
        cache.array("key")


def test_numpy_is_imported_at_the_first_array_only(segment: Segment) -> None:
    segment.code("import memstream, sys; memstream.Cache().set('key', b''); assert 'numpy' not in sys.modules")


def test_without_numpy_the_error_says_so(segment: Segment) -> None:
    code = "import sys; sys.modules['numpy'] = None; import memstream; memstream.Cache().put_array('key', [1])"
    child = subprocess.run(
        [sys.executable, "-c", code], env={**segment.environment, "PYTHONPATH": str(CLIENT)}, stderr=subprocess.PIPE
    )
    assert b"ImportError: Arrays need numpy. Install it" in child.stderr and b"python3-numpy" in child.stderr
