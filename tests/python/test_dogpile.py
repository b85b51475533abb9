"""The dogpile.cache backend."""

from __future__ import annotations

import subprocess
import threading
import time
from typing import Any, Iterator, List

import pytest
from conftest import Segment

from memstream import Cache, _shared, destroy, errors

pytest.importorskip("dogpile.cache", reason="dogpile.cache is not installed (Debian: python3-dogpile.cache)")

from dogpile.cache import make_region  # noqa: E402  It may be missing.
from dogpile.cache.api import NO_VALUE, CacheMutex  # noqa: E402

import memstream.dogpile  # noqa: E402


@pytest.fixture
def region(segment: Segment) -> Iterator[Any]:
    _shared._open.clear()
    yield make_region().configure("memstream", expiration_time=60, arguments={"name": segment.name, "timeout": 5})
    _shared._open.clear()


@pytest.mark.parametrize(
    "value", [None, 0, "text", b"bytes", [1, (2,)], {"a": {1}}, "x" * 100_000], ids=lambda v: repr(v)[:9]
)
def test_values_of_every_kind_come_back(region: Any, value: Any) -> None:
    region.set("key", value)
    assert region.get("key") == value and type(region.get("key")) is type(value)


def test_simple_operations(region: Any) -> None:
    assert region.get("absent") is NO_VALUE
    region.set("key", 1)
    region.delete("key")
    region.delete("key")
    assert region.get("key") is NO_VALUE
    region.set_multi({"a": 1, "b": 2})
    assert region.get_multi(["a", "absent", "b"]) == [1, NO_VALUE, 2]
    region.delete_multi(["a", "absent"])
    assert region.get_multi(["a", "b"]) == [NO_VALUE, 2]
    keys = ["x" * 3000 + end for end in "ab"]
    region.set_multi(dict(zip(keys, "ab")))
    assert region.get_multi(keys) == ["a", "b"]


def test_values_expire_and_are_made_again(region: Any) -> None:
    made: List[int] = []

    def make() -> int:
        made.append(1)
        return len(made)

    assert [region.get_or_create("key", make, expiration_time=0.2) for _ in range(3)] == [1, 1, 1]
    time.sleep(0.3)
    assert region.get_or_create("key", make, expiration_time=0.2) == 2
    region.invalidate()
    assert region.get_or_create("key", make) == 3

    @region.cache_on_arguments()
    def double(number: int) -> int:
        made.append(number)
        return 2 * number

    assert [double(4), double(4), double(5)] == [8, 8, 10] and made[3:] == [4, 5]
    assert region.get_or_create_multi(["p", "q"], lambda *keys: [key * 2 for key in keys]) == ["pp", "qq"]


def test_a_ttl_drops_values(segment: Segment, region: Any) -> None:
    short = make_region().configure("memstream", arguments={"name": segment.name, "ttl": 30})
    short.set("key", 1)
    with Cache(segment.name) as cache:
        entry = cache.entry("key")
        assert entry is not None and entry.expires_at is not None
        assert entry.expires_at - entry.created_at == pytest.approx(30, abs=1)


def test_threads_make_a_value_once(region: Any) -> None:
    made: List[int] = []

    def make() -> int:
        made.append(1)
        time.sleep(0.1)
        return 7

    results: List[int] = []
    threads = [threading.Thread(target=lambda: results.append(region.get_or_create("key", make))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [7] * 8 and made == [1]


def test_the_lock_is_a_lock_among_processes(region: Any, segment: Segment) -> None:
    mutex, other = region.backend.get_mutex("key"), region.backend.get_mutex("key")
    assert isinstance(mutex, CacheMutex) and not mutex.locked()
    assert mutex.acquire() and mutex.locked() and not other.acquire(wait=False)
    code = (
        "import sys; from memstream.dogpile import MemStreamBackend\n"
        "mutex = MemStreamBackend({'name': sys.argv[1]}).get_mutex('key')\n"
        "print(mutex.acquire(wait=False), flush=True); mutex.acquire(); print('has it', flush=True); sys.stdin.read()"
    )
    child = segment.start("-c", code, segment.name, stdin=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"False\n"
    mutex.release()
    mutex.release()  # Once more does no harm.
    assert child.stdout.readline() == b"has it\n" and not mutex.acquire(wait=False)
    child.kill()
    started = time.monotonic()
    assert other.acquire() and time.monotonic() - started < 10
    other.release()


def test_dogpile_finds_the_backend_by_its_name(region: Any) -> None:
    assert type(region.backend) is memstream.dogpile.MemStreamBackend


def test_many_keys_are_one_call(region: Any, shared_calls: List[str]) -> None:
    values = {f"key-{i}": [i] for i in range(200)}
    region.set_multi(values)
    assert region.get_multi(["absent", *values]) == [NO_VALUE, *values.values()]
    region.delete_multi(["absent", *values])
    assert shared_calls == ["set_many", "get_many", "delete_many"]


def test_a_region_goes_on_after_the_segment_was_destroyed(region: Any, segment: Segment) -> None:
    def make() -> int:
        destroy(segment.name)
        return 7

    assert region.get_or_create("key", make) == 7  # The lock has gone while it was held, and so has the segment.
    assert region.get("key") == 7
    mutex = region.backend.get_mutex("lock")
    assert mutex.acquire()
    destroy(segment.name)
    mutex.release()
    assert mutex.acquire(wait=False)
    mutex.release()


def test_a_creator_that_waits_goes_on_after_the_segment_was_destroyed(region: Any, segment: Segment) -> None:
    mutex, other = region.backend.get_mutex("key"), region.backend.get_mutex("key")
    assert mutex.acquire()
    taken: List[bool] = []
    thread = threading.Thread(target=lambda: taken.append(other.acquire()))
    thread.start()
    time.sleep(0.2)
    assert not taken
    destroy(segment.name)
    thread.join(10)
    assert taken == [True]
    other.release()


def test_lock_timeout_bounds_how_long_a_lock_is_held(segment: Segment, region: Any) -> None:
    arguments = {"name": segment.name, "lock_timeout": 0.3}
    bounded = make_region().configure("memstream", arguments=arguments)
    mutex, other = bounded.backend.get_mutex("key"), bounded.backend.get_mutex("key")
    assert mutex.acquire() and not other.acquire(wait=False)
    started = time.monotonic()
    assert other.acquire() and time.monotonic() - started < 10
    mutex.release()  # It was taken away: this ends nothing.
    assert other.locked()
    other.release()
    with pytest.raises(errors.InvalidArgument):
        make_region().configure("memstream", arguments={"lock_timeout": 0})
