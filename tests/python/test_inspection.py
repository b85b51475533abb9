"""Looking at a cache: scan, entry, stats, info, processes, check."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from conftest import MIB, Segment

from memstream import Cache, Stats
from memstream import cache as cache_module
from memstream import errors
from memstream._core import abi


def test_a_scan_reports_every_entry_once_with_all_its_fields(cache: Cache) -> None:
    before = time.time()
    for number in range(1000):
        cache.set(f"key{number}", bytes(number), ttl=60 if number % 2 else None, flags=number)
    entries = {entry.key: entry for entry in cache.scan()}
    assert len(entries) == len(list(cache.scan())) == 1000
    for number in range(1000):
        entry = entries[f"key{number}".encode()]
        assert (entry.value_size, entry.flags, entry.access_count, entry.is_valid) == (number, number, 0, True)
        assert entry.stored_size >= number + len(entry.key)
        assert 0 < entry.data_offset <= cache.info().size - number
        assert entry.created_at == entry.last_access == pytest.approx(before, abs=5)
        assert entry.expires_at == (pytest.approx(before + 60, abs=5) if number % 2 else None)
        assert entry.token == cache.gets(entry.key)[1]
        assert 0 <= entry.shard < cache.stats().shards


def test_a_scan_can_be_limited_to_a_prefix(cache: Cache) -> None:
    cache.update({"a1": b"", "a2": b"", "b1": b"", b"\xff1": b"", "ключ1": b""})
    assert sorted(entry.key for entry in cache.scan("a")) == [b"a1", b"a2"]
    assert [entry.key for entry in cache.scan(b"\xff")] == [b"\xff1"]
    assert [entry.key for entry in cache.scan("ключ")] == ["ключ1".encode()]
    assert list(cache.scan("c")) == []
    assert len(list(cache.scan(""))) == 5


def test_a_scan_leaves_out_what_has_expired(cache: Cache) -> None:
    cache.set("short", b"", ttl=0.01)
    cache.set("long", b"", ttl=60)
    time.sleep(0.05)
    assert [entry.key for entry in cache.scan()] == [b"long"]


def test_data_offset_leads_to_the_bytes(cache: Cache, segment: Segment) -> None:
    cache["key"] = b"these very bytes"
    entry = cache.entry("key")
    assert entry is not None
    with segment.bytes() as memory:
        assert memory[entry.data_offset :][: entry.value_size] == b"these very bytes"


def test_looking_counts_no_access(cache: Cache) -> None:
    cache["key"] = b"value"
    for _ in range(3):
        list(cache.scan())
        cache.entry("key")
        cache.stats()
        cache.check()
    entry = cache.entry("key")
    assert entry is not None and entry.access_count == 0 and entry.last_access == entry.created_at
    assert cache.stats().hits == 0


def test_gets_and_views_are_counted(cache: Cache) -> None:
    cache["key"] = b"value"
    for _ in range(3):
        cache.get("key")
    with cache.view("key"):
        pass
    cache.get("absent")
    entry, stats = cache.entry("key"), cache.stats()
    assert entry is not None and entry.access_count == 4
    assert (stats.hits, stats.misses, stats.hit_ratio) == (4, 1, 0.8)


def test_entry_of_an_absent_key_is_none(cache: Cache) -> None:
    assert cache.entry("absent") is None


def test_stats_agree_with_a_scan(cache: Cache) -> None:
    before = time.time()
    for number in range(500):
        cache[f"key{number}"] = bytes(number)
    for number in range(0, 500, 5):
        del cache[f"key{number}"]
    stats, entries = cache.stats(), list(cache.scan())
    assert stats.entries == len(entries) == 400
    assert stats.value_memory == sum(entry.value_size for entry in entries)
    assert stats.key_memory == sum(len(entry.key) for entry in entries)
    assert stats.used_memory == sum(entry.stored_size for entry in entries)
    assert (stats.puts, stats.deletes, stats.evictions, stats.processes) == (500, 100, 0, 1)
    assert stats.max_memory == 32 * MIB and 0 < stats.max_value_size < 16 * MIB
    assert stats.used_memory <= stats.committed_memory <= stats.max_memory
    assert stats.now == pytest.approx(before, abs=5) and stats.created_at <= stats.now


def test_hit_ratio_of_a_cache_that_nobody_has_asked_is_none(cache: Cache) -> None:
    assert cache.stats().hit_ratio is None


def test_stats_have_the_counters_of_the_header(cache: Cache) -> None:
    theirs = {name for name, *_ in abi.CacheStats._fields_} - {"struct_size", "created_at_ms", "now_ms"}
    assert set(Stats._fields) == theirs | {"created_at", "now"}


def test_expirations_are_counted(cache: Cache) -> None:
    cache.set("key", b"value", ttl=0.01)
    time.sleep(0.05)
    assert cache.get("key") is None
    cache["key"] = b"value"
    assert cache.stats().expirations == 1


def test_processes_are_listed_with_what_they_did(cache: Cache, segment: Segment) -> None:
    child = segment.start(
        "-c",
        "import memstream; c = memstream.Cache(); c['key'] = b'value'; c['key']; c.get('absent');"
        "view = c.view('key'); print('ready', flush=True); input()",
        stdin=subprocess.PIPE,
    )
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    listed = {process.pid: process for process in cache.processes()}
    assert set(listed) == {os.getpid(), child.pid}
    theirs = listed[child.pid]
    assert (theirs.puts, theirs.misses, theirs.pins) == (1, 1, 1) and theirs.hits >= 1
    start_time = int(Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    assert theirs.start_time == start_time
    assert cache.stats().processes == 2


def test_more_processes_than_one_call_lists_are_all_listed(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "_PROCESS_BATCH", 1)
    pids = []
    read_end, write_end = os.pipe()
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            os.close(write_end)
            cache.get("key")
            os.read(read_end, 1)
            os._exit(0)
        pids.append(pid)
    deadline = time.monotonic() + 10
    while len(cache.processes()) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    listed = [process.pid for process in cache.processes()]
    os.close(write_end)
    os.close(read_end)
    for pid in pids:
        os.waitpid(pid, 0)
    assert sorted(listed) == sorted([os.getpid(), *pids])


def test_check_finds_a_used_cache_sound(cache: Cache) -> None:
    for number in range(2000):
        cache[f"key{number}"] = bytes(number * 20)
    cache.check()


def test_check_describes_damage(segment: Segment) -> None:
    with Cache() as cache:
        cache["a key that is easy to find"] = b"value"
        entry = cache.entry("a key that is easy to find")
        assert entry is not None
        with segment.bytes() as memory:
            near = entry.data_offset - 64  # The key stands before the value.
            memory[near + bytes(memory[near:][:64]).index(entry.key)] = ord("A")
        with pytest.raises(errors.CorruptError, match="key"):
            cache.check()
