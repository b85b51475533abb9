"""memstream.local: decoded objects that a process keeps in front of a shared cache."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
from ctypes import byref, sizeof
from typing import Any, Callable, Iterator, List, NamedTuple, Optional

import pytest
from conftest import Segment

import memstream
from memstream import Cache, LocalCache, errors
from memstream import local_cache as module
from memstream._core import abi
from memstream._core.abi import Status
from memstream._core.arguments import Key

SOON = 10  # Seconds, much more than it takes.

OTHER_PROCESS = """
import sys
from memstream import Cache
with Cache(serializer="pickle") as cache:
    exec(sys.argv[1])
"""


class Notes(List[str]):
    """An object that can be told from its equals."""


@pytest.fixture
def cache(segment: Segment) -> Iterator[Cache]:
    with Cache(serializer="pickle") as opened:
        yield opened
        if not opened.closed:
            opened.check()


@pytest.fixture
def local(cache: Cache) -> Iterator[LocalCache]:
    with memstream.local(cache) as made:
        yield made


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def has_ended(threads_before: int, descriptors_before: int) -> bool:
    """Whether no more is left. A thread of Python's lives on for a moment after it was joined."""
    return within(SOON, lambda: (threads(), descriptors()) == (threads_before, descriptors_before))


def within(seconds: float, is_so: Callable[[], bool]) -> bool:
    """Asks until it is so; returns whether it was in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if is_so():
            return True
        time.sleep(0.001)
    return is_so()


def store(cache: Cache, key: str, value: Any, **options: Any) -> None:
    """Stores a value past the local cache, and waits until its watch has told so."""
    with cache.watch(key) as watch:
        cache.set(key, value, **options)
        assert watch.wait(SOON)
    time.sleep(0.05)


def keeps(local: LocalCache, key: Key) -> bool:
    """Whether a key is kept, as soon as its last change has been told."""
    return within(SOON, lambda: local[key] is local[key])


# ---- hits and misses ----


def test_a_hit_gives_the_same_object(cache: Cache, local: LocalCache) -> None:
    store(cache, "key", Notes("ab"))
    first = local["key"]
    assert first == ["a", "b"] and local.get("key") is first and local["key"] is first
    assert local.get(b"key") is first, "both spellings of a key"
    assert local.info() == (3, 1, 0, 1, 10_000)


def test_a_miss_is_not_kept(cache: Cache, local: LocalCache) -> None:
    assert local.get("key") is None and local.get("key", 5) == 5
    with pytest.raises(errors.CacheMiss):
        local["key"]
    assert local.info() == (0, 3, 0, 0, 10_000) and not local._start()._reading
    store(cache, "key", None)
    assert local.get("key", 5) is None and local.get("key", 5) is None and local.info().hits == 1


def test_in_asks_the_shared_cache_for_what_is_not_kept(cache: Cache, local: LocalCache) -> None:
    store(cache, "key", 1, ttl=60)
    assert "key" in local and b"key" in local and "other" not in local and 5 not in local and [] not in local
    assert local["key"] == 1 and "key" in local
    cache.delete("key")
    assert within(SOON, lambda: "key" not in local)
    store(cache, "brief", 1, ttl=0.4)
    assert local["brief"] == 1 and "brief" in local
    time.sleep(0.4)
    assert "brief" not in local


def test_a_key_that_is_none_is_refused_as_by_the_cache(local: LocalCache) -> None:
    for key in (None, 5, [], bytearray(b"key"), "\udc80", "", "k" * 1025):
        with pytest.raises((TypeError, ValueError)) as expected:
            local.cache.get(key)  # type: ignore[arg-type]
        with pytest.raises(expected.type) as raised:
            local.get(key)  # type: ignore[arg-type]
        assert str(raised.value) == str(expected.value)


def test_keys_that_are_not_utf8_are_kept(cache: Cache, local: LocalCache) -> None:
    cache[b"\xff"] = [1]
    assert keeps(local, b"\xff")
    cache[b"\xff"] = [2]
    assert within(SOON, lambda: local[b"\xff"] == [2])


def test_a_key_of_a_class_of_its_own_is_the_key_that_it_spells(cache: Cache, local: LocalCache) -> None:
    class Name(str):
        def __hash__(self) -> int:
            return 5

    cache["key"] = [1]
    assert keeps(local, Name("key")) and local[Name("key")] is local["key"] is local[b"key"]


def test_it_finds_keys_beside_the_prefix_and_does_not_keep_them(cache: Cache) -> None:
    with memstream.local(cache, "config:") as local:
        cache["config:a"], cache["other"] = [1], [2]
        assert local["other"] == [2] and local["other"] is not local["other"]
        assert keeps(local, "config:a")
        assert local.info().size == 1 and local.prefix == b"config:"


def test_large_values_and_large_arrays_are_kept(cache: Cache, local: LocalCache) -> None:
    numpy = pytest.importorskip("numpy")
    cache["array"], cache["bytes"] = numpy.arange(100_000), bytes(100_000)
    assert local["array"].sum() == numpy.arange(100_000).sum() and keeps(local, "array") and keeps(local, "bytes")
    del local["array"]
    gc.collect()
    assert cache.stats().pinned_memory == 0


def test_a_full_one_drops_the_oldest_values(cache: Cache) -> None:
    with memstream.local(cache, maxsize=20) as local:
        for number in range(30):
            cache[f"key{number}"] = number
        time.sleep(0.1)
        for number in range(30):
            assert local[f"key{number}"] == number and local.info().size <= 20
        before = local.info()
        assert before.size == 20 and [local[f"key{number}"] for number in range(12, 30)] == list(range(12, 30))
        assert local.info().misses == before.misses
        assert local["key0"] == 0 and local.info().misses == before.misses + 1
    with memstream.local(cache, maxsize=1) as local:
        assert (local["key1"], local["key2"], local["key2"], local.info().size) == (1, 2, 2, 1)


def test_a_value_that_cannot_be_decoded_raises_each_time(cache: Cache, local: LocalCache) -> None:
    with Cache(serializer="json") as other:
        other["key"] = [1]
    for _ in range(2):
        with pytest.raises(errors.SerializerError):
            local.get("key")
    cache["key"] = [2]
    assert keeps(local, "key")


# ---- changes ----

CHANGES = {
    "set": "cache['key'] = [2]",
    "delete": "del cache['key']",
    "touch": "cache.touch('key', 0.05)",
    "tag": "cache.invalidate('group')",
    "clear": "cache.clear()",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_by_another_process_drops_the_value(
    cache: Cache, local: LocalCache, segment: Segment, change: str
) -> None:
    store(cache, "key", [1], tags=["group"])
    assert keeps(local, "key")
    segment.code(OTHER_PROCESS, CHANGES[change])
    assert within(SOON, lambda: local.get("key") == ([2] if change == "set" else None))
    assert local.info().invalidations == 1


def test_an_eviction_drops_the_value(cache: Cache, local: LocalCache) -> None:
    store(cache, "key", bytes(1000))
    assert local["key"] == bytes(1000)
    assert within(60, lambda: cache.set(os.urandom(8), bytes(200_000)) or local.info().invalidations > 0)
    assert "key" not in cache and "key" not in local


def test_a_resize_drops_everything(cache: Cache, local: LocalCache) -> None:
    store(cache, "key", [1])
    assert keeps(local, "key")
    report = abi.ResizeReport(struct_size=sizeof(abi.ResizeReport))
    cache._check(cache._library.c.memstream_resize(cache._handle, 48 * 1024 * 1024, byref(report)))
    assert within(SOON, lambda: local.info().invalidations == 1)
    assert keeps(local, "key")
    cache["key"] = [2]
    assert within(SOON, lambda: local["key"] == [2])


def test_a_destroyed_segment_ends_it(segment: Segment) -> None:
    with Cache() as cache, memstream.local(cache) as local:
        cache["key"] = b"1"
        assert keeps(local, "key")
        with Cache() as other:
            other.destroy()
        began = time.monotonic()
        with pytest.raises(errors.CacheGone):
            while True:
                local.get("key")
        assert time.monotonic() - began < 1
        with pytest.raises(errors.CacheGone):
            local.get("key")


def test_it_reads_its_own_writes(local: LocalCache) -> None:
    for number in range(2000):
        local["key"] = number
        assert local["key"] == number and local.get(b"key") == number
    local.set(b"key", "by bytes", ttl=60, flags=7, tags=["group"])
    entry = local.cache.entry("key")
    assert local["key"] == "by bytes" and entry is not None and entry.expires_at and entry.flags & 0xFF == 7
    assert local.delete("key") and local.get("key") is None and not local.delete("key")
    local["key"] = 1
    del local["key"]
    with pytest.raises(errors.CacheMiss):
        del local["key"]
    with pytest.raises(errors.CacheMiss):
        local["key"]


def test_a_write_that_fails_drops_the_value_as_well(local: LocalCache, monkeypatch: pytest.MonkeyPatch) -> None:
    local["key"] = [1]
    time.sleep(0.1)
    first = local["key"]

    def fail(*_: object, **__: object) -> None:
        raise errors.CacheBusy(memstream.Status.BUSY, "for the test")

    for call in (lambda: local.set("key", [2]), lambda: local.delete("key")):
        monkeypatch.setattr(Cache, "set", fail)
        monkeypatch.setattr(Cache, "delete", fail)
        with pytest.raises(errors.CacheBusy):
            call()
        monkeypatch.undo()
        assert local["key"] is not first
        first = local["key"]


def test_clear_drops_what_is_kept_and_leaves_the_shared_cache(cache: Cache, local: LocalCache) -> None:
    store(cache, "key", [1])
    first = local["key"]
    local.clear()
    assert local.info().size == 0 and cache["key"] == [1] and local["key"] is not first


# ---- reads that meet a change ----


class Meeting:
    """A serializer that does something in the middle of a read, once: behind the copy, and before the value is kept."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], object] = lambda: None

    def dumps(self, value: Any) -> bytes:
        return str(value).encode()

    def loads(self, data: bytes) -> Any:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return [int(data)]


class Met(NamedTuple):
    cache: Cache
    local: LocalCache
    serializer: Meeting


@pytest.fixture
def met(segment: Segment) -> Iterator[Met]:
    serializer = Meeting()
    with Cache(serializer=serializer) as cache, memstream.local(cache) as local:
        yield Met(cache, local, serializer)


def test_a_read_keeps_nothing_that_changed_meanwhile(met: Met, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: List[Any] = []
    put = module._Store._put

    def note_and_put(self: Any, key: Key, value: Any) -> None:
        kept.append(value)
        put(self, key, value)

    monkeypatch.setattr(module._Store, "_put", note_and_put)
    store(met.cache, "key", 1)
    met.serializer.meanwhile = lambda: store(met.cache, "key", 2)
    assert met.local["key"] == [1]
    assert met.local["key"] == [2] and met.local["key"] is met.local["key"]
    assert kept == [[2]]  # A value that is kept for an instant is one that another thread may get.


def test_a_read_keeps_nothing_that_a_signal_handler_sets_meanwhile(met: Met, monkeypatch: pytest.MonkeyPatch) -> None:
    put = module._Store._put

    def set_and_put(self: Any, key: Key, value: Any) -> None:
        monkeypatch.undo()
        met.local.set("key", 2)
        put(self, key, value)

    store(met.cache, "key", 1)
    monkeypatch.setattr(module._Store, "_put", set_and_put)
    assert met.local["key"] == [1] and met.local["key"] == [2]


def test_a_read_keeps_nothing_if_any_key_may_have_changed_meanwhile(met: Met) -> None:
    store(met.cache, "key", 1, tags=["group"])

    def invalidate() -> None:
        met.cache.invalidate("group")
        time.sleep(0.2)

    met.serializer.meanwhile = invalidate
    assert met.local["key"] == [1] and met.local.get("key") is None


def test_a_read_keeps_nothing_that_this_process_has_set_meanwhile(met: Met) -> None:
    met.local["key"] = 1
    met.serializer.meanwhile = lambda: met.local.set("key", 2)
    assert met.local["key"] == [1]
    assert met.local["key"] == [2]


def test_readers_of_one_entry_keep_it(met: Met) -> None:
    store(met.cache, "key", 1)
    inner: List[object] = []
    met.serializer.meanwhile = lambda: inner.append(met.local["key"])
    assert met.local["key"] == [1] and inner == [[1]]
    assert met.local["key"] is inner[0]


def unheard(met: Met, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets no change be told any more."""
    monkeypatch.setattr(module._FollowedWatch, "take_each", lambda _: time.sleep(0.01) or [])


def test_readers_of_two_values_keep_neither(met: Met, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that has got the newer value must not get the older one, which another reader has read before."""
    unheard(met, monkeypatch)
    met.cache["key"] = 1
    inner: List[object] = []

    def read_newer() -> None:
        met.cache["key"] = 2
        inner.append(met.local["key"])

    met.serializer.meanwhile = read_newer
    assert met.local["key"] == [1] and inner == [[2]]
    assert met.local["key"] == [2]


def test_a_reader_that_ends_later_takes_away_an_older_value(met: Met, monkeypatch: pytest.MonkeyPatch) -> None:
    unheard(met, monkeypatch)
    met.cache["key"] = 1
    has_read, may_end = threading.Event(), threading.Event()
    got: List[object] = []

    def decode_slowly() -> None:
        has_read.set()
        may_end.wait(SOON)

    def read_newer() -> None:
        met.serializer.meanwhile = decode_slowly
        got.append(met.local["key"])

    reader = threading.Thread(target=read_newer)

    def let_another_thread_read() -> None:
        met.cache["key"] = 2
        reader.start()
        assert has_read.wait(SOON)

    met.serializer.meanwhile = let_another_thread_read
    assert met.local["key"] == [1] and met.local["key"] == [1] and got == []
    may_end.set()
    reader.join()
    assert got == [[2]] and met.local["key"] == [2]


def test_a_reader_that_finds_nothing_makes_others_keep_nothing(met: Met, monkeypatch: pytest.MonkeyPatch) -> None:
    unheard(met, monkeypatch)
    met.cache["key"] = 1
    inner: List[object] = []

    def read_nothing() -> None:
        del met.cache["key"]
        inner.append(met.local.get("key"))

    met.serializer.meanwhile = read_nothing
    assert met.local["key"] == [1] and inner == [None]
    assert met.local.get("key") is None


# ---- time to live ----


def test_nothing_is_given_after_its_expiry(cache: Cache, local: LocalCache) -> None:
    for ttl in (0.2, 0.5):
        store(cache, "key", [1], ttl=ttl)
        store(cache, "key", [1], ttl=ttl)
        entry = cache.entry("key")
        assert entry is not None and entry.expires_at is not None
        hits = local.info().hits
        while True:
            asked_at = time.time()
            if local.get("key") is None:
                break
            assert asked_at < entry.expires_at + 0.06
        assert (ttl == 0.2) or local.info().hits > hits + 10
        assert not cache.exists("key")


def test_a_hit_is_not_given_after_its_expiry(cache: Cache, local: LocalCache, monkeypatch: pytest.MonkeyPatch) -> None:
    store(cache, "key", [1], ttl=60)
    first = local["key"]
    assert local["key"] is first and local[b"key"] is first
    now = time.monotonic()
    monkeypatch.setattr(module, "monotonic", lambda: now + 59.5)
    assert local["key"] is first
    monkeypatch.setattr(module, "monotonic", lambda: now + 60)
    cache_asked = local.info().misses
    assert local["key"] is not first and local.info().misses == cache_asked + 1
    monkeypatch.undo()


def test_a_longer_time_to_live_counts(cache: Cache, local: LocalCache) -> None:
    store(cache, "key", [1], ttl=0.5)
    assert local["key"] == [1]
    cache.touch("key")
    time.sleep(0.6)
    assert keeps(local, "key")


def test_nothing_that_expires_is_kept_while_the_wall_clock_is_being_set(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, steady = time.time(), time.monotonic()
    passed, setting = 0.0, 0.0
    monkeypatch.setattr(module, "monotonic", lambda: steady + passed)
    monkeypatch.setattr(module, "time", lambda: wall + passed + setting)
    clock = module._Clock()
    assert clock.until(wall + 10) == pytest.approx(steady + 10 - 0.12, abs=0.001)
    setting = -3600.0
    assert clock.until(wall + 10) == 0.0  # The cache still counts by the clock of before.
    passed = 0.4
    assert clock.until(wall + 10) == 0.0
    passed = 0.6
    assert clock.until(wall + 10 - 3600) == pytest.approx(steady + 10 - 0.12, abs=0.001)


# ---- threads, processes, ends ----


def test_coroutines_get_while_a_task_writes(segment: Segment, cache: Cache, local: LocalCache) -> None:
    async def read() -> None:
        while local.get("key") != 200:
            await asyncio.sleep(0)

    async def write() -> None:
        for number in range(201):
            cache["key"] = number
            await asyncio.sleep(0.0005)

    async def both() -> None:
        await asyncio.wait_for(asyncio.gather(read(), read(), write()), 60)

    asyncio.run(both())
    assert local.info().hits > 0


def test_threads_share_it(cache: Cache, local: LocalCache) -> None:
    """Values only go up, in each thread, whatever the others read, write and clear."""
    ended = threading.Event()
    wrong: List[object] = []

    def write() -> None:
        for number in range(1500):
            (local if number % 3 else cache)["key"] = number
            if number % 100 == 0:
                local.clear()

    def read() -> None:
        last = -1
        while not ended.is_set():
            number = local.get("key", last)
            if number < last:
                wrong.append((last, number))
            last = number

    readers = [threading.Thread(target=read) for _ in range(3)]
    for each in readers:
        each.start()
    write()
    ended.set()
    for each in readers:
        each.join()
    assert not wrong and within(SOON, lambda: local["key"] == 1499)


def test_a_forked_child_begins_with_nothing(cache: Cache, local: LocalCache, in_child: Callable[..., int]) -> None:
    store(cache, "key", [1])
    first = local["key"]

    def body() -> None:
        assert local.info() == (0, 0, 0, 0, 10_000)
        assert local["key"] == [1] and local["key"] is not first and local["key"] is local["key"]
        store(cache, "key", [2])
        assert within(SOON, lambda: local["key"] == [2])
        local.close()
        gc.collect()

    assert in_child(body) == 0
    assert within(SOON, lambda: local["key"] == [2])
    cache["key"] = [3]
    assert within(SOON, lambda: local["key"] == [3] and local["key"] is local["key"])


def test_a_forked_child_leaves_the_one_of_its_parent_alone(
    cache: Cache, local: LocalCache, in_child: Callable[..., int]
) -> None:
    store(cache, "key", [1])
    assert local["key"] == [1]
    before, ending = descriptors(), [local._start().stop]

    def body() -> None:
        # The two of the pipe are closed; one that lists the directory is open in both.
        assert descriptors() == before - 2
        for each in ending:
            each()
        local.close()
        cache.close()

    assert in_child(body) == 0
    cache["key"] = [2]
    assert within(SOON, lambda: local["key"] == [2])
    assert keeps(local, "key")


def test_a_child_of_a_closed_one_keeps_it_closed(cache: Cache, in_child: Callable[..., int]) -> None:
    local = memstream.local(cache)
    local.close()

    def body() -> None:
        with pytest.raises(errors.ClosedError):
            local.get("key")

    assert in_child(body) == 0


def test_it_ends_with_its_block_and_leaves_nothing(cache: Cache) -> None:
    cache["key"] = [1]
    before, opened = threads(), descriptors()
    with memstream.local(cache) as local:
        assert local["key"] == [1] and threads() == before + 2 and not local.closed
        assert repr(local).startswith("<memstream.LocalCache of <memstream.Cache")
    assert "memstream-local" not in [each.name for each in threading.enumerate()]
    assert local.closed and has_ended(before, opened)
    local.close()
    for call in (lambda: local.get("key"), lambda: local["key"], local.info, local.clear):
        with pytest.raises(errors.ClosedError):
            call()
    assert cache["key"] == [1] and "closed" in repr(local)


def test_it_ends_when_nothing_refers_to_it(cache: Cache) -> None:
    before, opened = threads(), descriptors()
    local = memstream.local(cache)
    cache["key"] = [1]
    assert local["key"] == [1]
    del local
    gc.collect()
    assert has_ended(before, opened)


def test_it_ends_with_its_cache(segment: Segment) -> None:
    before, opened = threads(), descriptors()
    cache = Cache()
    first, second = memstream.local(cache), memstream.local(cache, "config:")
    cache["key"] = b"1"
    assert first["key"] == b"1"
    cache.close()
    assert has_ended(before, opened)
    for each in (first, second):
        with pytest.raises(errors.ClosedError):
            each.get("key")
        each.close()


def test_it_keeps_nothing_once_nobody_tells_what_changes(
    cache: Cache, local: LocalCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> List[Any]:
        raise errors.NoMemory(memstream.Status.NO_MEMORY, "for the test")

    store(cache, "key", [1])
    assert keeps(local, "key")
    monkeypatch.setattr(module._FollowedWatch, "take_each", fail)
    cache["key"] = [2]
    assert within(SOON, lambda: local["key"] == [2])
    cache["key"] = [3]
    assert local["key"] == [3] and local["key"] is not local["key"]


def test_its_thread_may_end_it(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last reference goes, or the cache is closed, where a value is dropped: in the thread that follows."""

    class Closing(List[int]):
        def __del__(self) -> None:
            local.close()

    unraisable: List[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    local = memstream.local(cache)
    before = threads()
    cache["key"] = [1]
    time.sleep(0.1)
    local._start().values["key"] = Closing()
    cache["key"] = [2]
    assert within(SOON, lambda: local.closed and threads() == before - 2) and unraisable == []


def test_a_process_ends_while_it_has_one(segment: Segment) -> None:
    code = "import memstream; l = memstream.local(memstream.Cache()); l['a'] = b'1'; l['a']; print(len(l['a']))"
    assert segment.code(code) == b"1\n"


def test_a_signal_handler_may_use_it(local: LocalCache) -> None:
    local["key"] = 0
    count = 0

    def handle(*_: object) -> None:
        nonlocal count
        count += 1
        local["key"] = count
        assert local["key"] == count
        signal.setitimer(signal.ITIMER_REAL, 0.0005)

    previous = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005)
    try:
        for number in range(3000):
            local.get("key")
            local.set("other", number)
            assert local["other"] == number
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert count and local["key"] == count


def test_it_refuses_what_cannot_be_watched(segment: Segment, cache: Cache) -> None:
    with Cache(read_only=True, create=False) as reader, pytest.raises(errors.ReadOnlyError):
        memstream.local(reader)
    with pytest.raises(errors.InvalidArgument, match="pattern"):
        memstream.local(cache, "config:*")
    before = threads(), descriptors()
    cache.destroy()
    with Cache(size="8M") as small:
        with pytest.raises(errors.InvalidArgument, match="Make a new one with at least 16 MiB"):
            memstream.local(small)
    gc.collect()
    assert (threads(), descriptors()) <= before


# ---- killed writers ----

WRITER = """
import sys, time
from memstream import Cache
cache = Cache(serializer="pickle")
key = sys.argv[1]
version = cache.get(key, 0)
while True:
    version += 1
    cache.set(key, version, ttl=(None, 600)[version % 2])
    time.sleep(0.0005)
"""
KILLS = 10
OLDEST = 1.0  # Seconds that a value may be old, also on a machine that is busy with other tests.


class Followed:
    """A key with a writer. What the reader gets of it never goes back, and is never older than OLDEST."""

    def __init__(self, key: str, segment: Segment) -> None:
        self.key = key
        self.changes = 0
        self._segment = segment
        self._last = self._least = 0
        self._age = 0.0
        self._now = time.monotonic()
        self._start()

    def _start(self) -> None:
        self._writer = self._segment.start("-c", WRITER, self.key, stdout=subprocess.DEVNULL)
        self._changes_before = self.changes

    def read(self, local: LocalCache) -> None:
        before, self._now = self._now, time.monotonic()
        self._age += min(self._now - before, 0.01)  # A process that gets no processor learns nothing.
        version = local.get(self.key, 0)
        assert version >= self._last, "it went back"
        self.changes += version > self._last
        self._last = version
        if self._age > OLDEST:
            assert version >= self._least, "it is old"
            self._age, self._least = 0.0, local.cache.get(self.key, 0)

    def kill(self) -> bool:
        """Kills the writer and starts another one, if the reader has seen changes by this one."""
        if self.changes < self._changes_before + 20:
            return False
        self._writer.kill()
        self._writer.wait()
        self._start()
        return True


def test_killed_writers_leave_no_old_value(cache: Cache, local: LocalCache, segment: Segment) -> None:
    followed = [Followed(f"key{number}", segment) for number in range(3)]
    choice = random.Random(5)
    kills = 0
    next_kill = time.monotonic()
    while kills < KILLS:
        for each in followed:
            each.read(local)
        if time.monotonic() > next_kill:
            kills += choice.choice(followed).kill()
            next_kill = time.monotonic() + choice.random() / 10
    until = time.monotonic() + 2 * OLDEST
    while time.monotonic() < until:
        for each in followed:
            each.read(local)
    info = local.info()
    assert info.hits > 1000 and info.invalidations > 20 * KILLS


def test_a_signal_handler_may_close_it_while_its_thread_has_the_lock(local: LocalCache) -> None:
    local["key"] = [1]
    assert local["key"] == [1]
    store = local._store
    assert store is not None

    def close() -> None:
        with store._lock:
            local.close()

    closer = threading.Thread(target=close, daemon=True)
    closer.start()
    closer.join(SOON)
    assert not closer.is_alive() and local.closed
    store._thread.join(SOON)
    assert not store._thread.is_alive()


def test_changes_without_a_pause_are_carried_out_one_by_one(local: LocalCache) -> None:
    local["key"] = [1]
    assert local["key"] == [1]
    store = local._store
    assert store is not None

    def ask(told: List[Optional[bytes]]) -> int:
        told.append(b"key")
        return Status.OK

    store._watch._ask = ask  # type: ignore[method-assign]
    local.cache.set("other", 1)  # The thread wakes, and from now on there is always a change.
    end = time.monotonic() + SOON
    while "key" in store.values:
        assert time.monotonic() < end
        time.sleep(0.001)
    local.close()
    assert not store._thread.is_alive()


def test_a_thread_that_cannot_start_leaves_nothing(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    before, opened = threads(), descriptors()

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="can't start"):
            memstream.local(cache)
    monkeypatch.undo()
    gc.collect()
    assert within(SOON, lambda: threads() <= before and descriptors() <= opened)


def test_changes_are_followed_without_poll(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("select.poll")  # As eventlet does.
    with memstream.local(cache) as local, cache.watch() as watch:
        local["key"] = [1]
        assert local["key"] == [1]
        cache["key"] = [2]
        assert within(SOON, lambda: local["key"] == [2])
        assert watch.wait(SOON) and watch.pending() == [b"key"]
