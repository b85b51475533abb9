"""Reading and writing single entries."""

from __future__ import annotations

import array
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, List, Optional

import pytest
from conftest import MIB, Segment

from memstream import Cache, CacheMiss, errors
from memstream._core import connection

KEYS = [b"k", "text", "ключ", b"\0", b"a\0b", b"\xff\xfe", b"k" * 1024, "é" * 512]
SIZES = [0, 1, 64, 1023, 1024, 1025, 32767, 32768, 32769, 100_000, MIB, 5 * MIB]


def pattern(size: int) -> bytes:
    """Bytes of which no two places look alike, NUL among them."""
    return b"".join(number.to_bytes(4, "little") for number in range((size + 3) // 4))[:size]


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_what_was_set_comes_back_under_every_kind_of_key(cache: Cache, key: Any) -> None:
    cache.set(key, b"value\0with NUL\0")
    assert cache.get(key) == b"value\0with NUL\0"


@pytest.mark.parametrize("size", SIZES)
def test_values_of_every_size_come_back_exact(cache: Cache, size: int) -> None:
    value = pattern(size)
    cache.set("key", value)
    assert cache.get("key") == value
    assert cache.gets("key")[0] == value


def test_a_str_key_and_its_utf8_bytes_are_one_key(cache: Cache) -> None:
    cache["ключ"] = b"value"
    assert cache["ключ".encode()] == b"value"


def test_a_miss_gives_the_default(cache: Cache) -> None:
    marker = object()
    assert cache.get("absent") is None
    assert cache.get("absent", b"default") == b"default"
    assert cache.get("absent", marker) is marker


@pytest.mark.parametrize("key", ["", b"", b"k" * 1025, "é" * 513])
def test_empty_and_overlong_keys_are_refused(cache: Cache, key: Any) -> None:
    calls: List[Callable[..., Any]] = [cache.get, cache.gets, cache.delete, cache.touch, cache.incr, cache.exists]
    calls += [cache.view, cache.entry]
    for call in calls:
        with pytest.raises(errors.BadKey):
            call(key)
    for store in (cache.set, cache.add, cache.replace):
        with pytest.raises(errors.BadKey):
            store(key, b"")
    with pytest.raises(errors.BadKey):
        cache.reserve(key, 1)


@pytest.mark.parametrize("key", [None, 1, bytearray(b"key"), ["key"]])
def test_keys_of_other_types_are_refused(cache: Cache, key: Any) -> None:
    calls: List[Callable[..., Any]] = [cache.get, cache.gets, cache.delete, cache.view, cache.entry]
    for call in calls:
        with pytest.raises(TypeError, match="str or bytes"):
            call(key)
    with pytest.raises(TypeError, match="str or bytes"):
        cache.set(key, b"")


def test_a_key_may_be_of_a_subclass(cache: Cache) -> None:
    class Text(str):
        pass

    class Data(bytes):
        pass

    cache[Text("key")] = b"value"
    assert cache[Data(b"key")] == b"value"


@pytest.mark.parametrize(
    "value",
    [
        b"some bytes",
        bytearray(b"some bytes"),
        memoryview(b"some bytes"),
        memoryview(bytearray(b"-some bytes-"))[1:-1],
        memoryview(b"some bytes").cast("H"),
        array.array("B", b"some bytes"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_contiguous_buffer_can_be_stored(cache: Cache, value: Any) -> None:
    for store in (cache.set, cache.put, cache.add, cache.replace):
        store("key", value)
        assert cache["key"] == b"some bytes"
    token = cache.gets("key")[1]
    assert cache.cas("key", value, token)


def test_numpy_arrays_can_be_stored(cache: Cache) -> None:
    numpy = pytest.importorskip("numpy")
    numbers = numpy.arange(10_000, dtype="float64").reshape(100, 100)
    numbers.flags.writeable = False
    cache["numbers"] = numbers
    assert (numpy.frombuffer(cache["numbers"]).reshape(100, 100) == numbers).all()
    with pytest.raises((BufferError, ValueError)):
        cache["numbers"] = numbers.T


@pytest.mark.parametrize(
    "value, error",
    [("text", TypeError), (None, TypeError), (7, TypeError), (memoryview(b"some bytes")[::2], BufferError)],
    ids=["str", "None", "int", "with gaps"],
)
def test_what_has_no_contiguous_buffer_is_refused(cache: Cache, value: Any, error: Any) -> None:
    with pytest.raises(error):
        cache.set("key", value)
    assert "key" not in cache


def test_storing_lends_the_buffer_and_gives_it_back(cache: Cache) -> None:
    value = bytearray(b"value")
    cache.set("key", value)
    with pytest.raises(errors.BadKey):
        cache.set(b"", value)
    value.extend(b"!")  # Raises BufferError while anybody still holds the buffer.


def test_a_value_over_the_limit_is_refused_with_size_and_limit_and_evicts_nothing(cache: Cache) -> None:
    cache["other"] = b"value"
    limit = cache.stats().max_value_size
    with pytest.raises(errors.ValueTooLarge) as caught:
        cache.set("k", bytes(limit + 1))
    assert str(limit + 1) in str(caught.value) and str(limit) in str(caught.value)
    assert cache["other"] == b"value" and cache.stats().evictions == 0
    cache.set("k", bytes(limit))
    assert cache["k"] == bytes(limit)


def test_put_is_set(cache: Cache) -> None:
    assert Cache.put is Cache.set


def test_add_stores_only_what_is_absent(cache: Cache) -> None:
    assert cache.add("key", b"first") is True
    assert cache.add("key", b"second") is False
    assert cache["key"] == b"first"


def test_replace_stores_only_over_what_is_there(cache: Cache) -> None:
    assert cache.replace("key", b"first") is False
    assert "key" not in cache
    cache["key"] = b"first"
    assert cache.replace("key", b"second") is True
    assert cache["key"] == b"second"


def test_cas_stores_only_if_nothing_came_between(cache: Cache) -> None:
    cache["key"] = b"first"
    value, token = cache.gets("key")
    assert value == b"first"
    assert cache.cas("key", b"second", token) is True
    assert cache.cas("key", b"third", token) is False
    assert cache["key"] == b"second"


def test_cas_of_a_key_that_is_gone_stores_nothing(cache: Cache) -> None:
    cache["key"] = b"first"
    _, token = cache.gets("key")
    del cache["key"]
    assert cache.cas("key", b"second", token) is False
    assert "key" not in cache


def test_cas_without_a_token_stores_only_what_is_absent(cache: Cache) -> None:
    assert cache.gets("key", b"default") == (b"default", None)
    assert cache.cas("key", b"first", None) is True
    assert cache.cas("key", b"second", None) is False


def test_delete_tells_whether_the_key_was_there(cache: Cache) -> None:
    cache["key"] = b"value"
    assert cache.delete("key") is True
    assert cache.delete("key") is False
    assert cache.get("key") is None


def test_entries_expire(cache: Cache) -> None:
    for number, store in enumerate((cache.set, cache.add)):
        assert store(f"short{number}", b"value", ttl=0.05) in (None, True)
    cache.set("bytearray", bytearray(b"value"), 0.05)
    cache.set("long", b"value", ttl=60)
    cache.set("for ever", b"value", ttl=None)
    cache.incr("counter", initial=0, ttl=0.05)
    assert cache["short0"] == cache["short1"] == cache["bytearray"] == b"value"
    time.sleep(0.1)
    assert [key for key in ("short0", "short1", "bytearray", "counter", "long", "for ever") if key in cache] == [
        "long",
        "for ever",
    ]
    assert cache.get("short0") is None


def test_touch_gives_a_new_time_to_live(cache: Cache) -> None:
    cache.set("key", b"value", ttl=60, flags=7)
    assert cache.touch("key", 0.05) is True
    time.sleep(0.1)
    assert "key" not in cache
    assert cache.touch("key", 60) is False
    cache.set("key", b"value", ttl=0.05)
    assert cache.touch("key") is True
    time.sleep(0.1)
    assert cache["key"] == b"value"


@pytest.mark.parametrize("size", [0, 5, 40_000, 300_000])
def test_a_get_with_touch_gives_a_new_time_to_live(cache: Cache, size: int) -> None:
    cache.set("key", b"v" * size, ttl=3600, flags=7)
    _, token = cache.gets("key")
    for seconds in (7200, 60):
        assert cache.get("key", touch=seconds) == b"v" * size
        entry = cache.entry("key")
        assert entry is not None and entry.expires_at is not None and entry.flags == 7
        assert seconds - 5 < entry.expires_at - cache.stats().now <= seconds + 0.01
    assert cache.gets("key")[1] == token
    assert cache.get("key", touch=0.05) == b"v" * size
    time.sleep(0.1)
    assert cache.get("key", b"default", touch=60) == b"default" and cache.get("key", touch=60) is None


def test_a_get_with_touch_decodes_objects(segment: Segment) -> None:
    with Cache(serializer="pickle") as cache:
        for value in ({"name": "Ada"}, list(range(50_000)), 17, b"bytes"):
            cache["key"] = value
            assert cache.get("key", touch=60) == value
        with Cache() as plain:
            cache["key"] = {"name": "Ada"}
            with pytest.raises(errors.SerializerError):
                plain.get("key", touch=60)


@pytest.mark.parametrize("touch", [0, -1, float("nan"), float("inf"), 1e300])
def test_a_get_refuses_an_impossible_touch(cache: Cache, touch: float) -> None:
    with pytest.raises(errors.InvalidArgument, match="^Invalid touch"):
        cache.get("key", touch=touch)


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), 1e300])
def test_impossible_times_to_live_are_refused(cache: Cache, ttl: float) -> None:
    for call in (cache.set, cache.add, cache.replace):
        with pytest.raises(errors.InvalidArgument, match="ttl"):
            call("key", b"value", ttl=ttl)
    with pytest.raises(errors.InvalidArgument, match="ttl"):
        cache.touch("key", ttl)
    with pytest.raises(errors.InvalidArgument, match="ttl"):
        cache.reserve("key", 1, ttl=ttl)
    assert "key" not in cache


def test_a_time_to_live_is_rounded_up(cache: Cache) -> None:
    cache.set("key", b"value", ttl=1e-9)  # Not 0, which would be for ever.
    time.sleep(0.05)
    assert "key" not in cache


def test_flags_are_kept(cache: Cache) -> None:
    for store in (cache.set, cache.add, cache.replace):
        cache.set("key", b"old") if store == cache.replace else cache.delete("key")
        store("key", b"value", flags=0xDEADBEEF)
        entry = cache.entry("key")
        assert entry is not None and entry.flags == 0xDEADBEEF


@pytest.mark.parametrize("flags", [-1, 2**32])
def test_flags_beyond_32_bits_are_refused(cache: Cache, flags: int) -> None:
    for value in (b"value", bytearray(b"value")):
        with pytest.raises(errors.InvalidArgument, match="flags"):
            cache.set("key", value, flags=flags)
    assert "key" not in cache


def test_tokens_beyond_64_bits_are_refused(cache: Cache) -> None:
    with pytest.raises(errors.InvalidArgument, match="token"):
        cache.cas("key", b"value", 2**64)


def test_incr_and_decr_count_in_text(cache: Cache) -> None:
    cache["counter"] = b"10"
    assert cache.incr("counter") == 11
    assert cache.incr("counter", 5) == 16
    assert cache.decr("counter", 20) == -4
    assert cache["counter"] == b"-4"


def test_incr_of_an_absent_key_is_a_miss_or_begins(cache: Cache) -> None:
    with pytest.raises(CacheMiss, match="counter"):
        cache.incr("counter")
    assert cache.incr("counter", 2, initial=40) == 42
    assert cache.decr("down", 2, initial=40) == 38


def test_incr_keeps_flags_and_time_to_live(cache: Cache) -> None:
    cache.set("counter", b"1", ttl=60, flags=9)
    cache.incr("counter")
    entry = cache.entry("counter")
    assert entry is not None and entry.flags == 9 and entry.expires_at is not None


@pytest.mark.parametrize("value, delta", [(b"text", 1), (b"", 1), (b"1.5", 1), (str(2**63 - 1).encode(), 1)])
def test_incr_of_what_does_not_count_leaves_it_alone(cache: Cache, value: bytes, delta: int) -> None:
    cache["counter"] = value
    with pytest.raises(errors.NotNumeric):
        cache.incr("counter", delta)
    assert cache["counter"] == value


@pytest.mark.parametrize("arguments", [{"delta": 2**63}, {"delta": -(2**63) - 1}, {"initial": 2**63}])
def test_numbers_beyond_64_bits_are_refused(cache: Cache, arguments: Any) -> None:
    with pytest.raises(errors.InvalidArgument, match=next(iter(arguments))):
        cache.incr("counter", **arguments)


def test_exists_counts_no_access(cache: Cache) -> None:
    cache["key"] = b"value"
    before = cache.stats()
    assert cache.exists("key") and not cache.exists("absent")
    after = cache.stats()
    assert (before.hits, before.misses) == (after.hits, after.misses)


def test_a_full_cache_keeps_accepting(cache: Cache) -> None:
    value = bytes(64 * 1024)
    for number in range(2000):  # Four times what it holds.
        cache.set(f"key{number}", value)
    stats = cache.stats()
    assert stats.evictions > 0 and stats.used_memory <= stats.max_memory
    assert cache["key1999"] == value


@pytest.mark.parametrize("change", [50_000, 5 * MIB, 10, None], ids=["grows", "grows more", "shrinks", "goes"])
def test_get_copes_with_a_value_that_changes_between_its_two_calls(
    unaccelerated: None, cache: Cache, monkeypatch: pytest.MonkeyPatch, change: Optional[int]
) -> None:
    get = cache._connection.raw_get

    def get_and_change(*arguments: Any) -> Any:
        status = get(*arguments)
        if change is None:
            cache.delete("key")
        else:
            cache.set("key", pattern(change))
        return status

    cache.set("key", pattern(40_000))
    monkeypatch.setattr(cache._connection, "raw_get", get_and_change)
    assert cache.get("key", "gone") == ("gone" if change is None else pattern(change))


def test_get_never_mixes_two_values_of_a_key(cache: Cache) -> None:
    values = {size: bytes([size % 251]) * size for size in (100, 40_000, 500_000)}

    def write() -> None:
        for _ in range(300):
            for value in values.values():
                cache.set("key", value)

    cache.set("key", values[100])
    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        while not writer.done():
            value = cache.get("key")
            assert value is not None and value == values[len(value)]
        writer.result()


def test_gets_use_the_same_buffers_again(cache: Cache) -> None:
    cache["small"], cache["large"] = b"value", bytes(MIB)
    cache.get("small")
    buffers = list(connection.free_buffers)
    for key in ("small", "absent", "large"):
        cache.get(key)
        assert [id(buffer) for buffer in connection.free_buffers] == [id(buffer) for buffer in buffers]


def test_threads_share_a_cache_without_mixing_their_values_up(cache: Cache) -> None:
    def work(worker: int) -> None:
        for number in range(500):
            value = f"{worker}:{number}:".encode() * (worker + 1)
            cache.set(f"key{worker}", value)
            assert cache.get(f"key{worker}") == value

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, worker) for worker in range(8)]:
            done.result()
