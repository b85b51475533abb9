"""Cache.metrics(): what the segment counts beside its statistics."""

from __future__ import annotations

import dataclasses
import time
from typing import List

import pytest
from conftest import MIB, Segment

from memstream import Cache, Histogram, LockHolder, Metrics, Usage
from memstream._core import abi
from memstream._core.records import OPERATION_NAMES, OUTCOME_NAMES, REMOVAL_NAMES


def test_outcomes_are_counted_by_operation(cache: Cache) -> None:
    cache["key"] = b"value"
    cache.get("key")
    cache.get("absent")
    assert cache.add("key", b"other") is False
    assert cache.add("added", b"value") is True
    del cache["key"]
    assert cache.delete("key") is False
    operations = cache.metrics().operations
    assert (operations["get"]["ok"], operations["get"]["miss"]) == (1, 1)
    assert operations["set"]["ok"] == 1
    assert (operations["add"]["ok"], operations["add"]["exists"]) == (1, 1)
    assert (operations["delete"]["ok"], operations["delete"]["miss"]) == (1, 1)


def test_what_is_in_use_is_counted(cache: Cache) -> None:
    before = cache.usage()
    assert before.rate_capacity > 0 and before.holder_capacity > 0
    assert before == Usage(0, before.rate_capacity, 0, 0, 0, 0, before.holder_capacity, 0, 0, 0)
    cache.limit("user", rate=1, period=3600)
    with cache.semaphore("pool", 4), cache.lock("lock"):
        usage = cache.usage()
    assert (usage.rates, usage.semaphores, usage.locks, usage.permits, usage.holders) == (1, 1, 1, 2, 2)
    cache.invalidate("tag")
    assert cache.invalidations() == 1


def test_lock_holders_name_the_process(cache: Cache, segment: Segment) -> None:
    assert cache.lock_holders() == []
    code = (
        "from memstream import Cache\nwith Cache() as cache:\n    print(1, flush=True)\n"
        "    while True: cache.set_many({f'key{number}': bytes(1000) for number in range(100)})"
    )
    child = segment.start("-c", code)
    assert child.stdout is not None and child.stdout.readline() == b"1\n"
    deadline = time.monotonic() + 60
    found: List[LockHolder] = []
    while not found and time.monotonic() < deadline:
        found = cache.lock_holders()
    assert found and {(holder.lock, holder.pid) for holder in found} == {("write", child.pid)}
    assert all(holder.shard < cache.stats().shards for holder in found)


def test_removals_have_causes_and_ages(cache: Cache) -> None:
    for number in range(60):
        cache[f"key{number}"] = bytes(MIB)
    metrics, stats = cache.metrics(), cache.stats()
    evicted = sum(metrics.removals[cause] for cause in ("room", "large_value", "table", "chain"))
    assert evicted == stats.evictions > 0
    assert metrics.evicted_age_ms.total == metrics.evicted_idle_ms.total > 0
    cache.set("short", b"value", ttl=0.01)
    time.sleep(0.05)
    assert cache.get("short") is None
    cache["short"] = b"value"
    assert cache.metrics().removals["expired"] == 1
    cache.clear()
    assert cache.metrics().removals["clear"] > 0


def test_latencies_and_reuse_come_from_a_sample(cache: Cache) -> None:
    for number in range(20_000):
        cache[f"key{number}"] = b"value"
    for _ in range(2):
        for number in range(20_000):
            cache.get(f"key{number}")
    metrics = cache.metrics()
    assert metrics.sample_step >= 1 and metrics.sampled_keys > 0
    assert metrics.get_ns.total > 0 and metrics.set_ns.total > 0
    middle = metrics.get_ns.quantile(0.5)
    assert middle is not None and 0 < middle < 10**9
    assert 0 < metrics.reuse_distances.total <= metrics.references


def test_a_quantile_is_the_upper_end_of_a_bucket() -> None:
    histogram = Histogram(counts=(0, 3, 0, 1), bounds=(0, 1, 2, 3))
    assert histogram.total == 4
    assert [histogram.quantile(part) for part in (0, 0.5, 0.75, 0.76, 1)] == [2, 2, 2, 3, 3]
    assert Histogram((0, 0), (0, 1)).quantile(0.5) is None
    for part in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="expected a number from 0 to 1"):
            histogram.quantile(part)


def test_the_fields_are_those_of_the_c_struct() -> None:
    theirs = [field[0] for field in abi.Metrics._fields_[3:]]
    ours = [field.name for field in dataclasses.fields(Metrics)]
    assert ours == ["operations", "removals", *theirs]


def test_the_names_are_those_of_the_command(cache: Cache) -> None:
    metrics = cache.metrics()
    assert set(metrics.operations) == set(OPERATION_NAMES) and set(metrics.removals) == set(REMOVAL_NAMES)
    assert all(set(outcomes) == set(OUTCOME_NAMES) for outcomes in metrics.operations.values())
    assert metrics.get_ns.bounds[:6] == (0, 1, 2, 3, 4, 5)
    assert len(metrics.get_ns.counts) == len(metrics.get_ns.bounds) == abi.LATENCY_BUCKETS


def test_metrics_cannot_be_changed(cache: Cache) -> None:
    metrics = cache.metrics()
    with pytest.raises(dataclasses.FrozenInstanceError):
        metrics.lock_waits = 1  # type: ignore[misc]


def test_a_reader_sees_what_others_counted(cache: Cache, segment: Segment) -> None:
    cache["key"] = b"value"
    cache.get("key")
    with Cache(segment.name, read_only=True) as reader:
        assert reader.metrics().operations["get"]["ok"] == 1
