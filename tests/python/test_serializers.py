"""Objects as values: what each serializer keeps, and what a reader without it gets."""

from __future__ import annotations

import datetime
import json
import marshal
import os
import pickle
import zlib
from typing import Any, Callable, List

import pytest
from conftest import MIB, Segment, pins

from memstream import Cache, CacheMiss, ObjectCache, SerializerError, errors
from memstream._core.kinds import Kind, kind_of

JSON_VALUES: List[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    2**63,
    1.5,
    "",
    "text",
    "ключ \ud800",
    [1, [2, None]],
    {"a": {"b": []}},
]
PICKLE_VALUES: List[Any] = [
    *JSON_VALUES,
    (1, 2),
    {1: {2, 3}},
    bytearray(b"x" * 100_000),
    datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone.utc),
    list(range(50_000)),
]
RAW_VALUES = [b"", b"value", bytes(100_000)]


class Compressed:
    """A serializer of the caller's own."""

    name = "compressed"

    def dumps(self, value: Any) -> bytes:
        return zlib.compress(pickle.dumps(value))

    def loads(self, data: bytes) -> Any:
        return pickle.loads(zlib.decompress(data))


ROUND_TRIPS = [
    *(("pickle", value) for value in PICKLE_VALUES + RAW_VALUES),
    *((Compressed(), value) for value in PICKLE_VALUES + RAW_VALUES),
    *((marshal, value) for value in JSON_VALUES + RAW_VALUES),
    *((json, value) for value in JSON_VALUES),
]


@pytest.mark.parametrize("serializer,value", ROUND_TRIPS, ids=lambda value: repr(value)[:20])
def test_what_was_set_comes_back_as_the_same_object(segment: Segment, serializer: Any, value: Any) -> None:
    with Cache(serializer=serializer) as cache:
        cache.set("key", value)
        for found in (cache.get("key"), cache["key"], cache.gets("key")[0], dict(cache.items())[b"key"]):
            assert found == value and type(found) is type(value)
        assert value in cache.values()


@pytest.mark.parametrize("value", JSON_VALUES + RAW_VALUES, ids=lambda value: repr(value)[:20])
def test_json_keeps_what_json_knows(segment: Segment, value: Any) -> None:
    with Cache(serializer="json") as cache:
        cache.set("key", value)
        assert cache.get("key") == value and type(cache.get("key")) is type(value)


def test_json_in_the_cache_is_json_for_everybody(segment: Segment) -> None:
    with Cache(serializer="json") as cache:
        cache["key"] = {"a": ["ü", None]}
        with cache.view("key") as memory:
            assert bytes(memory) == b'{"a":["\\u00fc",null]}'


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, object()])
def test_what_json_cannot_say_is_refused_and_stores_nothing(segment: Segment, value: Any) -> None:
    with Cache(serializer="json") as cache:
        with pytest.raises((TypeError, ValueError)):
            cache.set("key", value)
        assert "key" not in cache


def test_none_is_a_value_and_no_miss(segment: Segment) -> None:
    with Cache(serializer="pickle") as cache:
        cache["nothing"] = None
        assert cache.get("nothing", "default") is None and cache.get("absent", "default") == "default"
        assert "nothing" in cache and cache["nothing"] is None
        assert cache.setdefault("nothing", 5) is None
        assert list(cache.items()) == [(b"nothing", None)] and list(cache.values()) == [None]
        assert cache.pop("nothing", "default") is None and cache.pop("nothing", "default") == "default"
        with pytest.raises(CacheMiss):
            cache["nothing"]


STORED: "list[tuple[str, Callable[[], Any], str]]" = [
    ("pickle", lambda: "text", 'serializer="pickle"'),
    ("json", lambda: "text", 'serializer="json"'),
    ("own", lambda: "text", "a serializer of its own"),
    ("pickle", lambda: 5, "a number"),
]


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("writer,make,words", STORED, ids=["pickle", "json", "own", "integer"])
def test_a_reader_without_the_serializer_gets_an_error_that_names_it(
    cache: Cache, writer: Any, make: Callable[[], Any], words: str, large: bool
) -> None:
    value = make()
    if large and isinstance(value, str):
        value *= 20_000
    with Cache(serializer=Compressed() if writer == "own" else writer) as other:
        other["key"] = value if writer != "own" else os.urandom(100_000 if large else 10)
    for read in (cache.get, cache.gets, cache.__getitem__, cache.pop):
        with pytest.raises(SerializerError, match=words):
            read("key")
    for reader in {"pickle", "json"} - {writer}:
        with Cache(serializer=reader) as other:
            if words == "a number":
                assert other["key"] == 5
            else:
                with pytest.raises(SerializerError, match=words):
                    other.get("key")
    assert "key" in cache


def test_a_pickle_is_never_loaded_by_a_cache_without_that_serializer(segment: Segment) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (os._exit, (99,))

    with Cache(serializer="pickle") as cache:
        cache["key"] = Bomb()
    for serializer in (None, "json", Compressed()):
        with Cache(serializer=serializer) as other, pytest.raises(SerializerError):
            other.get("key")


def test_a_serializer_of_another_name_is_refused_with_both_names(segment: Segment) -> None:
    with Cache(serializer=Compressed()) as cache:
        cache["key"] = "text"
    with Cache(serializer=marshal) as other, pytest.raises(SerializerError, match="'compressed'.*'marshal'"):
        other.get("key")


def test_the_name_of_a_serializer_is_its_class_without_one_of_its_own(segment: Segment) -> None:
    class Nameless:
        dumps, loads = staticmethod(pickle.dumps), staticmethod(pickle.loads)

    for serializer in (Nameless(), Nameless):
        with Cache(serializer=serializer) as cache:
            cache["key"] = "text"
            assert cache["key"] == "text"
            with cache.view("key") as memory:
                assert b"test_serializers.test_the_name" in bytes(memory)


def test_a_name_that_does_not_fit_is_refused(segment: Segment) -> None:
    class Named:
        dumps, loads = staticmethod(pickle.dumps), staticmethod(pickle.loads)

        def __init__(self, name: str) -> None:
            self.name = name

    with Cache(serializer=Named("é" * 127)) as cache:
        cache["key"] = "text"
        assert cache["key"] == "text"
    with pytest.raises(
        ValueError, match="^Invalid serializer .*: expected a name of at most 255 bytes. Give it a shorter"
    ):
        Cache(serializer=Named("é" * 128))


@pytest.mark.parametrize("result", [None, 5, memoryview(bytes(8))[::2]])
def test_what_dumps_returns_is_checked(segment: Segment, result: Any) -> None:
    class Wrong:
        def dumps(self, value: Any) -> Any:
            return result

        loads = dumps

    with Cache(serializer=Wrong()) as cache:
        with pytest.raises(
            TypeError, match=r"^Invalid result of dumps\(\) .*: expected bytes, .*, or str. Return bytes.$"
        ):
            cache["key"] = 1
        assert "key" not in cache


def test_exceptions_of_a_serializer_pass_through(segment: Segment) -> None:
    class Failing:
        def dumps(self, value: Any) -> bytes:
            return b"%d" % (1 // value)

        def loads(self, data: bytes) -> Any:
            raise KeyError(data)

    with Cache(serializer=Failing()) as cache:
        with pytest.raises(ZeroDivisionError):
            cache["key"] = 0
        cache["key"] = 1
        with pytest.raises(KeyError, match="b'1'"):
            cache.get("key", "default")


@pytest.mark.parametrize("serializer", ["yaml", 5, object()])
def test_what_is_no_serializer_is_refused(segment: Segment, serializer: Any) -> None:
    with pytest.raises(TypeError, match="pickle.*json.*dumps"):
        Cache(serializer=serializer)


def test_one_class_serves_bytes_and_objects(segment: Segment) -> None:
    class Mine(Cache):
        pass

    class MineOfObjects(ObjectCache):
        pass

    with Cache(serializer="json") as cache, Mine(serializer="json") as mine, ObjectCache() as default:
        assert type(cache) is Cache and type(mine) is Mine
        mine["key"] = [1]
        assert cache["key"] == [1]
        default["key"] = (1,)
        with pytest.raises(SerializerError):
            assert cache["key"]
    with MineOfObjects(serializer="json") as derived, Cache() as plain:
        assert isinstance(cache, ObjectCache) and isinstance(mine, ObjectCache) and isinstance(derived, ObjectCache)
        assert not isinstance(plain, ObjectCache) and not isinstance(mine, MineOfObjects)


def test_plain_bytes_of_others_come_back_as_bytes(cache: Cache) -> None:
    cache["key"] = b"plain"
    for serializer in ("pickle", "json", Compressed()):
        with Cache(serializer=serializer) as other:
            assert other["key"] == b"plain"
    with Cache(serializer="pickle") as other:
        other["mine"] = b"plain too"
    assert cache["mine"] == b"plain too"


@pytest.mark.parametrize("serializer", ["pickle", "json", Compressed()], ids=["pickle", "json", "own"])
def test_numbers_count(segment: Segment, serializer: Any) -> None:
    with Cache(serializer=serializer) as cache:
        assert cache.incr("made", 5, initial=10, ttl=60) == 15
        assert cache.incr("made") == 16 and cache["made"] == 16 and type(cache["made"]) is int
        entry = cache.entry("made")
        assert entry is not None and entry.expires_at is not None
        with pytest.raises(CacheMiss):
            cache.incr("absent")
        with pytest.raises(errors.InvalidArgument, match="initial"):
            cache.incr("absent", 1, initial=2**63 - 1)
        if serializer in ("pickle", "json"):
            cache["set"] = 41
            assert cache.incr("set") == 42 and cache.decr("set", 2) == 40
        cache["text"] = "no number"
        with pytest.raises(errors.NotNumeric):
            cache.incr("text")


def test_two_who_count_from_the_same_absent_key_both_count(segment: Segment, monkeypatch: pytest.MonkeyPatch) -> None:
    with Cache(serializer="pickle") as cache:
        store = cache._connection.store

        def somebody_was_faster(*arguments: Any, **options: Any) -> int:
            monkeypatch.setattr(cache._connection, "store", store)
            with Cache(serializer="pickle") as other:
                other["counter"] = 100
            return store(*arguments, **options)

        monkeypatch.setattr(cache._connection, "store", somebody_was_faster)
        assert cache.incr("counter", 1, initial=0) == 101


def test_add_replace_and_cas_take_objects(segment: Segment) -> None:
    with Cache(serializer="pickle") as cache:
        assert not cache.replace("key", [0])
        assert cache.add("key", [1]) and not cache.add("key", [2])
        assert cache.replace("key", [3])
        value, token = cache.gets("key")
        assert value == [3] and cache.cas("key", [4], token) and not cache.cas("key", [5], token)
        assert cache["key"] == [4]
        assert cache.gets("absent", 0) == (0, None) and cache.cas("absent", [6], None)
        assert cache.setdefault("new", [7]) == [7] and cache.setdefault("new", [8]) == [7]
        cache.put("put", [9], ttl=60)
        assert cache.pop("put") == [9]


def test_the_flag_word_is_shared_with_the_caller(segment: Segment) -> None:
    with Cache(serializer="pickle") as cache:
        cache.set("text", "x", flags=0xABCDEF)
        cache.set("bytes", b"x", flags=0xDEADBEEF)
        text, plain = cache.entry("text"), cache.entry("bytes")
        assert text is not None and plain is not None
        assert (kind_of(text.flags), text.flags & 0xFFFFFF) == (Kind.PICKLE, 0xABCDEF)
        assert plain.flags == 0xDEADBEEF
        for value in ("x", 5):
            with pytest.raises(errors.InvalidArgument, match="24 bits"):
                cache.set("key", value, flags=2**24)


@pytest.mark.parametrize("flags", [0xE0000000, 0xE2000000, 0xEFFFFFFF])
def test_plain_bytes_cannot_pretend_to_be_serialized(cache: Cache, flags: int) -> None:
    for store in (cache.set, cache.add, cache.replace):
        with pytest.raises(errors.InvalidArgument, match="flags"):
            store("key", b"value", flags=flags)
    with pytest.raises(errors.InvalidArgument, match="flags"):
        cache.reserve("key", 1, flags=flags)
    for allowed in (0xDFFFFFFF, 0xF0000000, 0xFFFFFFFF):
        cache.set("key", b"value", flags=allowed)
        assert cache.get("key") == b"value"


def test_a_kind_of_a_newer_version_is_refused(cache: Cache) -> None:
    assert cache._library.c.memstream_set(cache._handle, b"key", 3, b"value", 5, 0, 0xEF000000) == 0
    with Cache(serializer="pickle") as other:
        for reader in (cache, other):
            with pytest.raises(SerializerError, match="newer version"):
                reader.get("key")
    with cache.view("key") as memory:
        assert memory == b"value"


def test_serializer_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(SerializerError("why")))
    assert (type(error), str(error), error.status) == (SerializerError, "why", None)


# ---- buffers beside the pickle ----


def test_large_arrays_are_kept_beside_the_pickle_and_can_be_written_to_again(segment: Segment) -> None:
    numpy = pytest.importorskip("numpy")
    with Cache(serializer="pickle") as cache:
        frozen = numpy.arange(10_000)
        frozen.flags.writeable = False
        value = {
            "a": numpy.arange(100_000, dtype="<f4").reshape(100, 1000),
            "f": numpy.asfortranarray(numpy.arange(20_000).reshape(100, 200)),
            "strided": numpy.arange(20_000)[::2],
            "small": numpy.arange(3),
            "frozen": frozen,
        }
        cache["key"] = value
        entry = cache.entry("key")
        assert entry is not None and kind_of(entry.flags) is Kind.PICKLE_PARTS
        found = cache["key"]
        for name, array in value.items():
            assert found[name].dtype == array.dtype and (found[name] == array).all()
        found["a"][0, 0] = 99
        found["f"][0, 0] = 99
        assert found["f"].flags.f_contiguous and not found["frozen"].flags.writeable
        assert cache["key"]["a"][0, 0] == 0
        assert cache.add("other", value) and (cache["other"]["a"] == value["a"]).all()
        assert pins(cache) == 0


def test_a_buffer_that_is_not_contiguous_is_the_serializer_s_to_refuse(segment: Segment) -> None:
    with Cache(serializer="pickle") as cache, pytest.raises(pickle.PicklingError, match="contiguous"):
        cache["key"] = pickle.PickleBuffer(memoryview(bytes(100_000))[::2])


@pytest.mark.parametrize("value", [b"", b"\1", b"\xff" * 16, (1).to_bytes(8, "little") + bytes(8)])
def test_a_damaged_pickle_with_buffers_is_an_error(cache: Cache, value: bytes) -> None:
    assert cache._library.c.memstream_set(cache._handle, b"key", 3, value, len(value), 0, 0xE3000000) == 0
    with Cache(serializer="pickle") as other, pytest.raises(SerializerError, match="damaged"):
        other.get("key")


def test_a_buffer_beyond_the_end_is_an_error(cache: Cache) -> None:
    value = b"".join(number.to_bytes(8, "little") for number in (1, 0, 2**40, 0))
    assert cache._library.c.memstream_set(cache._handle, b"key", 3, value, len(value), 0, 0xE3000000) == 0
    with Cache(serializer="pickle") as other, pytest.raises(SerializerError, match="beyond the end"):
        other.get("key")


def test_a_large_object_that_goes_between_two_steps_is_a_miss(
    segment: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Cache(serializer="pickle") as cache:
        cache["key"] = "x" * MIB
        read_large = cache._connection.read_large

        def evicted_first(name: bytes) -> Any:
            cache.delete(name)
            return read_large(name)

        monkeypatch.setattr(cache._connection, "read_large", evicted_first)
        assert cache.gets("key", "default") == ("default", None)
