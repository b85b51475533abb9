"""Many keys in one call, with the accelerator or without, as the suite runs."""

from __future__ import annotations

import itertools
import sys
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
from conftest import Segment

from memstream import Cache
from memstream.errors import (
    BadKey,
    CacheGone,
    ClosedError,
    Conflict,
    InvalidArgument,
    ReadOnlyError,
    UndecodableWarning,
    ValueTooLarge,
)


def test_a_batch_stores_returns_and_removes(cache: Cache) -> None:
    values = {f"key-{i}": bytes([i % 256]) * (i * 37 % 3000) for i in range(500)}
    values["large"] = b"l" * 100_000
    cache.set_many(values)
    assert cache.get_many(values) == values
    assert all(cache.get(key) == value for key, value in values.items())
    assert cache.delete_many([*values, "absent"]) == len(values)
    assert cache.get_many(values) == {}
    assert len(cache) == 0


def test_keys_come_back_as_they_were_given(cache: Cache) -> None:
    cache.set_many({"text": b"1", b"bytes": b"2", "zero": b""})
    assert cache.get_many(["text", b"bytes", b"text", "absent", "zero"]) == {
        "text": b"1",
        b"bytes": b"2",
        b"text": b"1",
        "zero": b"",
    }


@pytest.mark.parametrize("make", [list, tuple, set, iter, dict.fromkeys, lambda keys: (key for key in keys)])
def test_keys_may_be_any_iterable(cache: Cache, make: Callable[[Any], Any]) -> None:
    cache.set_many({"a": b"1", "b": b"2"})
    assert cache.get_many(make(["a", "b", "c"])) == {"a": b"1", "b": b"2"}
    assert cache.delete_many(make(["a", "b", "c"])) == 2


def test_consistent_values_are_those_of_a_cache_at_rest(cache: Cache) -> None:
    values = {f"key{i}": bytes(i * 37) for i in range(200)}
    cache.set_many(values)
    cache.set("large", bytes(200_000))
    keys = [*values, "absent", b"large"]
    assert cache.get_many(keys, consistent=True) == {**values, b"large": bytes(200_000)}
    assert cache.get_many(iter(keys), consistent=False) == cache.get_many(keys)
    assert cache.get_many([], consistent=True) == {}
    with pytest.raises(BadKey):
        cache.get_many(["key1", ""], consistent=True)


def test_consistent_values_are_decoded(segment: Segment) -> None:
    with Cache(segment.name, serializer="pickle") as cache:
        cache.set_many({"a": {1, 2}, "b": [3]})
        assert cache.get_many(["a", "b"], consistent=True) == {"a": {1, 2}, "b": [3]}


def test_keys_that_do_not_stand_still_are_a_conflict(segment: Segment, cache: Cache) -> None:
    keys = [f"key{i}" for i in range(20_000)]  # To read them takes longer than the writer is ever kept off a core.
    cache.set_many(dict.fromkeys(keys, b"0"))
    program = """
import memstream, sys
cache = memstream.Cache(sys.argv[1])
print(flush=True)
for i in range(1 << 60):
    cache.set(f"key{i % 20000}", b"%d" % i)
"""
    writer = segment.start("-c", program, segment.name)
    assert writer.stdout is not None and writer.stdout.readline()
    with pytest.raises(Conflict, match="did not stand still"):
        for _ in range(100):
            cache.get_many(keys, consistent=True)
    writer.kill()
    writer.wait()
    assert len(cache.get_many(keys, consistent=True)) == 20_000


def test_nothing_is_done_with_nothing(cache: Cache) -> None:
    cache.set_many({})
    assert cache.get_many([]) == {} and cache.delete_many([]) == 0


def test_values_may_be_any_buffer_and_mappings_any_mapping(cache: Cache) -> None:
    values = OrderedDict([("a", bytearray(b"1")), ("b", memoryview(b"22"))])
    cache.set_many(values, ttl=60, flags=7)
    assert cache.get_many("ab") == {"a": b"1", "b": b"22"}
    entry = cache.entry("a")
    assert entry is not None and entry.flags == 7 and entry.expires_at is not None


@pytest.mark.parametrize("ttl", [60, 0.0005, 60.5])
def test_a_batch_has_a_time_to_live(cache: Cache, ttl: float) -> None:
    cache.set_many({"a": b"1"}, ttl)
    entry = cache.entry("a")
    assert entry is None or entry.expires_at is not None


def test_one_bad_item_keeps_none_of_the_others_from_being_done(cache: Cache) -> None:
    with pytest.raises(ValueTooLarge, match="larger than the limit"):
        cache.set_many({"a": b"1", "large": bytes(40 << 20), "b": b"2"})
    with pytest.raises(BadKey):
        cache.set_many({"": b"1", "c": b"3"})
    assert cache.get_many(["a", "b", "c"]) == {"a": b"1", "b": b"2", "c": b"3"}
    with pytest.raises(BadKey):
        cache.get_many(["a", ""])
    with pytest.raises(BadKey):
        cache.delete_many(["a", "x" * 1025])
    assert cache.get("a") is None


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), 2**63])
def test_a_time_to_live_that_cannot_be_stores_nothing(cache: Cache, ttl: float) -> None:
    with pytest.raises(InvalidArgument, match="ttl"):
        cache.set_many({"a": b"1"}, ttl)
    assert cache.get("a") is None


def test_what_is_no_key_or_value_stores_nothing(cache: Cache) -> None:
    bad: Any
    for bad in ({"a": b"1", 7: b"2"}, {"a": b"1", "b": "text"}, {"a": b"1", "b": None}):
        with pytest.raises(TypeError):
            cache.set_many(bad)
    with pytest.raises(UnicodeEncodeError):
        cache.set_many({"a": b"1", "\udc80": b"2"})
    for bad in ([None], None, 7):
        with pytest.raises(TypeError):
            cache.get_many(bad)
        with pytest.raises(TypeError):
            cache.delete_many(bad)
    assert len(cache) == 0


class Changing(Dict[Any, Any]):
    """A dict that another thread changes all the time: it has its pairs in another order whenever anybody looks."""

    def _turn(self) -> None:
        key = next(super().__iter__())
        super().__setitem__(key, super().pop(key))

    def __iter__(self) -> Any:
        self._turn()
        return super().__iter__()

    def keys(self) -> Any:
        self._turn()
        return super().keys()

    def values(self) -> Any:
        self._turn()
        return super().values()

    def items(self) -> Any:
        self._turn()
        return super().items()


@pytest.mark.parametrize("store", ["set_many", "update"])
def test_a_mapping_that_changes_meanwhile_is_read_once(cache: Cache, store: str) -> None:
    values = {b"%d" % i: b"%d" % i for i in range(20)}
    getattr(cache, store)(Changing(values))
    assert cache.get_many(values) == values


@pytest.mark.parametrize("store", ["set_many", "update"])
def test_a_dict_that_the_serializer_changes_is_read_once(segment: Segment, store: str) -> None:
    """As another thread would, that runs while values are serialized."""
    values = {"%d" % i: "%d" % i for i in range(20)}
    expected = dict(values)

    class Meddling:
        def dumps(self, value: str) -> str:
            first = next(iter(values))
            values[first] = values.pop(first)
            values.pop("19", None)
            return value

        def loads(self, data: bytes) -> str:
            return data.decode()

    with Cache(serializer=Meddling()) as cache:
        getattr(cache, store)(values)
        assert cache.get_many(expected) == expected


def test_values_stay_with_their_keys_while_a_thread_changes_the_dict(cache: Cache) -> None:
    values = {b"%d" % i: b"%d" % i for i in range(50)}
    done = threading.Event()

    def churn() -> None:
        for number in itertools.cycle(range(50)):
            key = b"%d" % number
            values[key] = values.pop(key)
            if done.is_set():
                return

    thread = threading.Thread(target=churn)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread.start()
    try:
        for _ in range(300):
            cache.set_many(values)
            assert all(key == value for key, value in cache.get_many([b"%d" % i for i in range(50)]).items())
    finally:
        sys.setswitchinterval(interval)
        done.set()
        thread.join()


def test_update_takes_what_dict_update_takes(cache: Cache) -> None:
    cache.update({"a": b"1"}, b=b"2")
    cache.update([("c", b"3"), (b"d", b"4")])
    cache.update(e=b"5")
    cache.update()
    assert dict(cache.items()) == {b"a": b"1", b"b": b"2", b"c": b"3", b"d": b"4", b"e": b"5"}
    with pytest.raises(TypeError):
        cache.update(7)


def test_a_cache_of_objects_stores_objects(segment: Segment) -> None:
    with Cache(serializer="pickle") as cache:
        values = {"a": {"x": 1}, "b": None, "c": 7, "d": b"bytes", "e": list(range(10_000))}
        cache.set_many(values)
        assert cache.get_many(values) == values
        assert cache.get("b", "absent") is None
        with Cache() as plain:
            assert plain.get_many(["d"]) == {"d": b"bytes"}
            with pytest.warns(UndecodableWarning, match="pickle"):
                assert plain.get_many(["d", "a"]) == {"d": b"bytes"}


def test_a_closed_a_read_only_and_a_destroyed_cache_say_so(segment: Segment) -> None:
    cache, reader = Cache(), Cache(read_only=True)
    cache.set_many({"a": b"1"})
    assert reader.get_many(["a"]) == {"a": b"1"}
    with pytest.raises(ReadOnlyError):
        reader.set_many({"a": b"2"})
    with pytest.raises(ReadOnlyError):
        reader.delete_many(["a"])
    reader.close()
    other = Cache()
    cache.destroy()
    for closed, error in ((cache, ClosedError), (reader, ClosedError), (other, CacheGone)):
        with pytest.raises(error):
            closed.get_many(["a"])
        with pytest.raises(error):
            closed.set_many({"a": b"1"})
        with pytest.raises(error):
            closed.delete_many(["a"])


def test_the_library_is_the_one_of_the_suite(cache: Cache, library: Path) -> None:
    assert Path(cache._library.path) == library


@pytest.mark.parametrize("count", [1, 15, 16, 17, 64, 80, 81, 1024, 1040, 2500])
def test_a_batch_of_any_number_of_keys_is_whole(cache: Cache, count: int) -> None:
    values = {b"%d" % i: b"%d" % i * (i % 50) for i in range(count)}
    cache.set_many(values)
    assert cache.get_many(values) == values
    assert list(cache.get_many(list(values))) == list(values)


@pytest.mark.parametrize("size", [1000, 4096, 4097, 8000, 40_000])
def test_values_that_fill_the_room_of_a_batch_are_got_all_the_same(cache: Cache, size: int) -> None:
    values = {b"%d" % i: (b"%d" % i) * (size // 4) for i in range(150)}
    values.update({b"small%d" % i: b"small" for i in range(50)})
    cache.set_many(values)
    assert cache.get_many([*values, "absent"]) == values


@pytest.mark.parametrize("place", [0, 20, 199])
def test_a_value_that_is_no_plain_bytes_is_left_out_anywhere_in_a_batch(cache: Cache, place: int) -> None:
    keys = [f"key-{i}" for i in range(200)]
    cache.set_many(dict.fromkeys(keys, b"value"))
    with Cache(serializer="pickle") as objects:
        objects[keys[place]] = {"an": "object"}
    with pytest.warns(UndecodableWarning, match="it was stored with"):
        found = cache.get_many(keys)
    del keys[place]
    assert list(found) == keys


def test_threads_read_batches_at_the_same_time(cache: Cache) -> None:
    values = {b"%d" % i: b"%d" % i * (i % 700) for i in range(3000)}
    cache.set_many(values)
    with ThreadPoolExecutor(4) as pool:
        assert all(found == values for found in pool.map(cache.get_many, [list(values)] * 20))
