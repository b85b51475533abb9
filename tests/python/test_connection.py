"""Opening, closing and destroying a cache from Python."""

from __future__ import annotations

import mmap
import os
import pickle
import pwd
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
from conftest import MIB, Segment

from memstream import Cache, SegmentDiffers, destroy, errors
from memstream._core.library import load
from memstream._core.options import Options


def test_opening_creates_the_segment_that_the_environment_names(segment: Segment) -> None:
    with Cache() as cache:
        info = cache.info()
    assert (info.backend, info.name, info.size, info.read_only) == (segment.backend, segment.name, 32 * MIB, False)


def test_arguments_come_before_the_environment(segment: Segment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMSTREAM_NAME", "not-this-one")
    monkeypatch.setenv("MEMSTREAM_BACKEND", "not-that-one")
    with Cache(segment.name, backend=segment.backend, size=8 * MIB, shards=2, timeout=0.5) as cache:
        info, stats = cache.info(), cache.stats()
    assert (info.backend, info.name, info.size, stats.shards) == (segment.backend, segment.name, 8 * MIB, 2)


@pytest.mark.parametrize("size, expected", [("8M", 8 * MIB), ("8m", 8 * MIB), ("2048K", 2 * MIB), ("4194304", 4 * MIB)])
def test_a_size_may_be_text_as_in_the_environment(segment: Segment, size: str, expected: int) -> None:
    with Cache(size=size) as cache:
        assert cache.info().size == expected


def test_a_size_in_gigabytes_reaches_the_library(segment: Segment) -> None:
    with Cache(size="2G") as cache:
        assert cache.info().size == 2048 * MIB


def test_a_timeout_may_be_a_timedelta(segment: Segment) -> None:
    library = load()
    for timeout, expected in ((timedelta(seconds=2.5), 2500), (timedelta(microseconds=1), 1), (timedelta(0), 0)):
        assert Options(timeout=timeout).to_struct(library).timeout_ms == expected
    for timeout in (timedelta(seconds=-1), timedelta(hours=1, seconds=1)):
        with pytest.raises(errors.BadTimeout, match="^Invalid timeout .*: expected seconds from 0 to 3600"):
            Cache(timeout=timeout)
    with Cache(timeout=timedelta(seconds=2)) as cache:
        pickle.loads(pickle.dumps(cache)).close()


def test_a_nul_never_leads_to_another_segment(segment: Segment) -> None:
    with Cache() as cache:
        cache["key"] = b"value"
        for name in (segment.name + "\0", segment.name + "\0other", "\0" + segment.name):
            calls: "list[Callable[[], Any]]" = [
                lambda: Cache(name),
                lambda: Cache(name, create=False),
                lambda: Cache(name, serializer="pickle"),
                lambda: destroy(name),
            ]
            for call in calls:
                with pytest.raises(errors.BadName, match="^Invalid name .*: expected .* Remove the NUL character.$"):
                    call()
        with pytest.raises(errors.BadBackend, match="^Invalid backend .*NUL"):
            destroy(segment.name, backend=segment.backend + "\0")
        with pytest.raises(errors.BadHugePages, match="^Invalid hugepages .*NUL"):
            Cache(hugepages="off\0")
        with pytest.raises(errors.InvalidArgument, match="^Invalid library .*NUL"):
            Cache(library=segment.environment["MEMSTREAM_LIBRARY"] + "\0")
        assert cache["key"] == b"value" and len(cache.processes()) == 1


def test_two_caches_of_one_name_are_one(segment: Segment) -> None:
    with Cache() as first, Cache() as second:
        first["key"] = b"value"
        assert second["key"] == b"value"
        assert first.info().uuid == second.info().uuid


def test_caches_of_different_names_are_apart(segment: Segment) -> None:
    other = segment.name + "-other"
    with Cache() as first, Cache(other) as second:
        first["key"] = b"value"
        assert "key" not in second
        second.destroy()


def test_contents_outlive_the_processes(segment: Segment) -> None:
    segment.code("import memstream; memstream.Cache()['key'] = b'value'")
    with Cache(create=False) as cache:
        assert cache["key"] == b"value"


def test_huge_pages_are_tried_or_required_and_the_statistics_say_what_came_of_it(segment: Segment) -> None:
    with Cache(hugepages="off") as cache:
        ordinary = cache.stats()
        cache.destroy()
    with Cache(hugepages="try") as cache:
        stats = cache.stats()
        copy = pickle.loads(pickle.dumps(cache)).stats()
        cache.destroy()
    assert (ordinary.huge_pages, stats.huge_pages, copy.huge_pages) == ("off", "try", "try")
    assert ordinary.page_size == mmap.PAGESIZE and stats.page_size >= mmap.PAGESIZE
    assert copy.page_size == stats.page_size and stats.max_memory % stats.page_size == 0
    if stats.page_size > mmap.PAGESIZE:
        Cache(hugepages="require").destroy()
    else:
        with pytest.raises(errors.NoHugePages, match="huge"):
            Cache(hugepages="require")


def test_prefaulting_takes_all_memory_at_once(segment: Segment) -> None:
    with Cache(prefault=False) as cache:
        lazy = cache.stats()
        cache.destroy()
    with Cache(prefault=True) as cache, Cache(prefault=True, read_only=True) as reader:
        assert lazy.committed_memory < MIB < 31 * MIB < cache.stats().committed_memory
        cache["key"] = b"value"
        assert reader["key"] == b"value"


def test_create_false_never_creates(segment: Segment) -> None:
    with pytest.raises(errors.NoSegment, match=segment.name):
        Cache(create=False)
    with pytest.raises(errors.NoSegment):
        Cache(create=False)


def test_mode_decides_who_may_use_a_new_segment(segment: Segment) -> None:
    with Cache(mode=0o640):
        assert segment.mode == 0o640


@pytest.mark.parametrize("max_value", [4 << 20, "4M", "4096k"])
def test_max_value_makes_room_for_values_of_that_size(segment: Segment, max_value: Any) -> None:
    with Cache(size=16 << 20, max_value=max_value) as cache:
        cache["large"] = bytes(4 << 20)
        assert cache.stats().max_value_size >= 4 << 20


def test_a_max_value_beyond_a_quarter_of_the_size_is_refused_with_the_most_that_is_possible(segment: Segment) -> None:
    with pytest.raises(errors.BadMaxValue, match="at most 4194304 bytes"):
        Cache(size=16 << 20, max_value=(4 << 20) + 1)


def test_the_error_of_a_too_large_value_says_with_which_max_value_it_fits(segment: Segment) -> None:
    value = bytes(3 << 20)
    with Cache(size=16 << 20, shards=8) as cache:
        with pytest.raises(errors.ValueTooLarge, match=f"max_value={len(value)}"):
            cache["large"] = value
        cache.destroy()
    with Cache(size=16 << 20, max_value=len(value)) as cache:
        cache["large"] = value


def test_what_differs_from_what_was_asked_for_is_reported(
    segment: Segment, recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMSTREAM_SIZE")
    with Cache(size=8 << 20, shards=4, mode=0o600, max_value=512 << 10):
        with Cache(size=8 << 20, shards=4, mode=0o600, max_value=1000), Cache(size=(8 << 20) - 1), Cache(create=False):
            assert list(recwarn) == []
        for arguments, text in (
            ({"size": 16 << 20}, "a size of 8388608 bytes instead of 16777216"),
            ({"shards": 2}, "4 shards instead of 2"),
            ({"mode": 0o660}, "the mode 0600 instead of 0660"),
            ({"max_value": 2 << 20}, "instead of 2097152"),
        ):
            with pytest.warns(SegmentDiffers, match=text) as warned:
                Cache(**arguments).close()  # type: ignore[arg-type]
            assert [Path(warning.filename).name for warning in warned] == [Path(__file__).name]
        with pytest.warns(SegmentDiffers, match="16777216, 4 shards instead of 2. Destroy it"):
            Cache(size=16 << 20, shards=2, serializer="pickle").close()
        monkeypatch.setenv("MEMSTREAM_SHARDS", "3")
        with pytest.warns(SegmentDiffers, match="4 shards instead of 3"):
            Cache().close()


def test_an_owner_is_a_number_or_a_name_and_reads_only(segment: Segment) -> None:
    with Cache() as cache:
        cache["key"] = b"value"
        for owner in (os.geteuid(), str(os.geteuid()), pwd.getpwuid(os.geteuid()).pw_name):
            with Cache(owner=owner) as reader:
                assert reader["key"] == b"value" and reader.info().read_only
        with pytest.raises((errors.NotOwner, errors.NoSegment), match="user id 61001"):
            Cache(owner=61001)
        with pytest.raises(errors.InvalidArgument, match="Invalid options.owner 'nobody-of-that-name'"):
            Cache(owner="nobody-of-that-name")


IMPOSSIBLE: "list[tuple[Dict[str, Any], Any]]" = [
    ({"backend": "floppy"}, errors.BadBackend),
    ({"name": ""}, errors.BadName),
    ({"name": "a/b"}, errors.BadName),
    ({"name": "a" * 65}, errors.BadName),
    ({"size": 0}, errors.BadSize),
    ({"size": -1}, errors.BadSize),
    ({"size": 4096}, errors.BadSize),
    ({"size": 2**64}, errors.BadSize),
    ({"size": 2**63}, errors.BadSize),
    ({"shards": 0}, errors.BadShards),
    ({"shards": 65}, errors.BadShards),
    ({"shards": 2**32 + 1}, errors.BadShards),
    ({"mode": 0}, errors.BadMode),
    ({"mode": 0o1000}, errors.BadMode),
    ({"mode": 2**32 + 0o600}, errors.BadMode),
    ({"timeout": -1}, errors.BadTimeout),
    ({"timeout": 3601}, errors.BadTimeout),
    ({"timeout": float("nan")}, errors.BadTimeout),
    ({"hugepages": "sometimes"}, errors.BadHugePages),
    ({"prefault": "off"}, errors.BadPrefault),
    ({"group": "no such group"}, errors.BadGroup),
    ({"group": -1}, errors.BadGroup),
    ({"max_value": 0}, errors.BadMaxValue),
    ({"max_value": 2**64}, errors.BadMaxValue),
    ({"max_value": "much"}, errors.BadMaxValue),
    ({"max_value": "-1M"}, errors.BadMaxValue),
    ({"max_value": "M"}, errors.BadMaxValue),
]


@pytest.mark.parametrize("arguments, error", IMPOSSIBLE, ids=[str(arguments) for arguments, _ in IMPOSSIBLE])
def test_impossible_options_are_refused_by_name(segment: Segment, arguments: Dict[str, Any], error: Any) -> None:
    with pytest.raises(error) as caught:
        Cache(**arguments)
    assert next(iter(arguments)) in str(caught.value).lower()
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "variable, value, error",
    [
        ("MEMSTREAM_BACKEND", "floppy", errors.BadBackend),
        ("MEMSTREAM_NAME", "a b", errors.BadName),
        ("MEMSTREAM_SIZE", "much", errors.BadSize),
        ("MEMSTREAM_SHARDS", "0", errors.BadShards),
        ("MEMSTREAM_TIMEOUT_MS", "soon", errors.BadTimeout),
        ("MEMSTREAM_MODE", "rw", errors.BadMode),
        ("MEMSTREAM_HUGEPAGES", "yes", errors.BadHugePages),
        ("MEMSTREAM_PREFAULT", "true", errors.BadPrefault),
        ("MEMSTREAM_GROUP", "no such group", errors.BadGroup),
        ("MEMSTREAM_MAX_VALUE", "much", errors.BadMaxValue),
    ],
)
def test_an_impossible_environment_is_refused_by_variable(
    segment: Segment, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, error: Any
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv(variable, value)
        with pytest.raises(error, match=variable):
            Cache()


def test_a_closed_cache_raises_and_can_be_closed_again(segment: Segment) -> None:
    cache = Cache()
    assert not cache.closed and segment.name in repr(cache)
    cache.close()
    cache.close()
    assert cache.closed and "closed" in repr(cache)
    calls: "list[Callable[[], Any]]" = [
        lambda: cache.get("key"),
        lambda: cache.get("key", touch=60),
        lambda: cache.gets("key"),
        lambda: cache.set("key", b""),
        lambda: cache.set("key", bytearray()),
        lambda: cache.add("key", b""),
        lambda: cache.replace("key", b""),
        lambda: cache.cas("key", b"", 1),
        lambda: cache.delete("key"),
        lambda: cache.touch("key"),
        lambda: cache.incr("key"),
        lambda: cache.exists("key"),
        lambda: cache.view("key"),
        lambda: cache.reserve("key", 1),
        lambda: list(cache.scan()),
        lambda: cache.entry("key"),
        cache.stats,
        cache.info,
        cache.processes,
        cache.check,
        cache.clear,
        cache.destroy,
        lambda: len(cache),
        lambda: "key" in cache,
    ]
    for call in calls:
        with pytest.raises(errors.ClosedError, match="closed"):
            call()


def test_leaving_the_with_block_closes(segment: Segment) -> None:
    with Cache() as cache:
        cache["key"] = b"value"
    with pytest.raises(errors.ClosedError):
        cache["key"]


def test_a_cache_that_is_dropped_detaches(segment: Segment) -> None:
    with Cache() as watcher:
        attached = watcher.processes()
        for _ in range(100):
            Cache()
        assert watcher.processes() == attached


def test_destroy_removes_the_segment_and_tells_the_others(segment: Segment) -> None:
    with Cache() as mine, Cache() as other:
        mine["key"] = b"value"
        mine.destroy()
        assert mine.closed
        with pytest.raises(errors.CacheGone):
            other["key"]
        with Cache() as new:
            assert "key" not in new


def test_destroy_by_name_needs_no_open_cache(segment: Segment) -> None:
    Cache().close()
    destroy(segment.name, backend=segment.backend)
    with pytest.raises(errors.NoSegment):
        destroy(segment.name, backend=segment.backend)


def test_a_read_only_cache_reads_and_does_not_write(segment: Segment) -> None:
    with Cache() as writer, Cache(read_only=True) as reader:
        writer["key"] = b"value"
        assert reader.info().read_only
        assert reader["key"] == b"value"
        assert reader.get("absent") is None
        assert [entry.key for entry in reader.scan()] == [b"key"]
        with reader.view("key") as memory:
            assert bytes(memory) == b"value"
        writes: "list[Callable[[], Any]]" = [
            lambda: reader.set("key", b"x"),
            lambda: reader.add("new", b"x"),
            lambda: reader.delete("key"),
            lambda: reader.touch("key"),
            lambda: reader.get("key", touch=60),
            lambda: reader.get("absent", touch=60),
            lambda: reader.incr("key"),
            lambda: reader.reserve("key", 1),
            reader.clear,
        ]
        for write in writes:
            with pytest.raises(errors.ReadOnlyError):
                write()
        assert writer["key"] == b"value"


def test_read_only_never_creates(segment: Segment) -> None:
    with pytest.raises(errors.NoSegment):
        Cache(read_only=True)


def test_damaged_segments_are_refused_and_can_be_destroyed(segment: Segment) -> None:
    Cache().close()
    with segment.bytes() as memory:
        memory[128] ^= 0xFF  # In the seed of the hash.
    with pytest.raises(errors.BadChecksum, match=segment.name):
        Cache()
    destroy(segment.name, backend=segment.backend)
    Cache().close()


def test_closing_waits_for_calls_of_other_threads(segment: Segment) -> None:
    cache = Cache()
    cache["key"] = b"x" * 1000
    failures = []
    started = threading.Barrier(5)

    def read() -> None:
        started.wait()
        try:
            while True:
                if cache["key"] != b"x" * 1000:
                    failures.append("wrong value")
        except errors.ClosedError:
            pass

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.wait()
    cache.close()
    for thread in threads:
        thread.join(10)
    assert failures == [] and not any(thread.is_alive() for thread in threads)
