"""Results of functions that are computed again before they end: memoize(refresh_ahead=...)."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import threading
import time
from typing import Any, Callable, Dict, List, Optional

import pytest
from conftest import Segment

from memstream import Cache
from memstream._core.codec import split_result

# The share of an hour of which nearly all is the last part: a result is due a few milliseconds after it was stored.
HOUR = 3600
SOON = 1 - 1e-6
DUE = 0.05

CHILD = """
import sys, time
from memstream import Cache

cache = Cache(serializer="pickle", create=False)

@cache.memoize(ttl=3600, refresh_ahead=1 - 1e-6, name="report")
def report():
    cache.incr("computing", initial=0)
    while not cache.exists("go"):
        time.sleep(0.01)
    return "new"

print("ready", flush=True)
sys.stdin.readline()
print(report(), flush=True)
"""


def become_due() -> None:
    time.sleep(DUE)


def messages(caplog: pytest.LogCaptureFixture) -> List[str]:
    return [record.getMessage() for record in caplog.records if record.name == "memstream.memoize"]


def test_before_its_last_part_a_result_is_fresh(cache: Cache) -> None:
    calls: List[int] = []

    @cache.memoize(ttl=HOUR, refresh_ahead=0.5)
    def make() -> int:
        calls.append(1)
        return len(calls)

    assert [make(), make(), make()] == [1, 1, 1]
    (key,) = cache
    entry = cache.entry(key)
    assert entry is not None and entry.expires_at is not None
    assert HOUR - 60 < entry.expires_at - cache.stats().now <= HOUR + 0.01


def test_in_its_last_part_one_caller_computes_and_the_others_get_the_old_result(cache: Cache) -> None:
    calls: List[int] = []
    goes_on, computing = threading.Event(), threading.Event()

    @cache.memoize(ttl=HOUR, refresh_ahead=SOON, ignore=("goes_on", "computing"))
    def make() -> int:
        calls.append(1)
        if len(calls) == 2:
            computing.set()
            assert goes_on.wait(20)
        return len(calls)

    assert make() == 1
    become_due()
    results: List[int] = []
    thread = threading.Thread(target=lambda: results.append(make()))
    thread.start()
    assert computing.wait(20)
    assert [make(), make(), make()] == [1, 1, 1]
    goes_on.set()
    thread.join()
    assert results == [2] and len(calls) == 2


def test_exactly_one_process_computes(segment: Segment) -> None:
    with Cache(serializer="pickle") as cache:
        report = cache.memoize(ttl=HOUR, refresh_ahead=SOON, name="report")(lambda: "old")
        assert report() == "old"
        become_due()
        children = [segment.start("-c", CHILD, stdin=subprocess.PIPE) for _ in range(6)]
        for child in children:
            assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write(b"\n")
            child.stdin.flush()
        ended: List["subprocess.Popen[bytes]"] = []
        until = time.monotonic() + 60
        while len(ended) < 5 and time.monotonic() < until:
            ended = [child for child in children if child.poll() is not None]
            time.sleep(0.01)
        # One of them still computes, and has kept nobody waiting.
        assert [child.stdout.read() for child in ended if child.stdout is not None] == [b"old\n"] * 5
        assert cache["computing"] == 1
        cache["go"] = 1
        (last,) = [child for child in children if child not in ended]
        out, error = last.communicate(timeout=60)
        assert (out, last.returncode, error) == (b"new\n", 0, b"")
        assert cache["computing"] == 1
        (stored,) = [key for key in cache if key not in (b"computing", b"go")]
        read = cache._connection.read(stored)
        assert read is not None and b"new" in bytes(split_result(memoryview(read.memory))[1])


class Trouble(Exception):
    """What the function raises."""


def failing(cache: Cache, errors: List[BaseException], **options: Any) -> Callable[[], int]:
    """Makes a function that raises what is in the list, from its second call on."""
    calls: List[int] = []

    @cache.memoize(name="failing", **options)
    def make() -> int:
        calls.append(1)
        if len(calls) > 1 and errors:
            raise errors.pop(0)
        return len(calls)

    return make


def test_an_exception_leaves_the_old_result_and_is_logged(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    make = failing(cache, [Trouble("first"), Trouble("second")], ttl=HOUR, refresh_ahead=SOON)
    assert make() == 1
    become_due()
    with caplog.at_level(logging.WARNING, "memstream.memoize"):
        assert [make(), make()] == [1, 1]
    texts = messages(caplog)
    assert len(texts) == 2 and "failing" in texts[0] and "Trouble('first')" in texts[0] and "second" in texts[1]
    assert all(record.exc_info is None for record in caplog.records)
    assert make() == 4


def test_an_exception_is_raised_where_there_is_no_old_result(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    make = failing(cache, [Trouble(), Trouble()], ttl=HOUR, refresh_ahead=SOON)
    assert make() == 1
    cache.clear()
    with pytest.raises(Trouble):
        make()
    with pytest.raises(Trouble):
        make.refresh()  # type: ignore[attr-defined]
    assert messages(caplog) == [] and make() == 4


def test_an_interruption_is_no_failed_refresh(cache: Cache) -> None:
    make = failing(cache, [KeyboardInterrupt()], ttl=HOUR, refresh_ahead=SOON)
    make()
    become_due()
    with pytest.raises(KeyboardInterrupt):
        make()
    assert make() == 3


def test_an_exception_leaves_a_stale_result_too_but_only_with_refresh_ahead(cache: Cache) -> None:
    make = failing(cache, [Trouble()], ttl=0.05, stale=HOUR, refresh_ahead=0.5)
    assert make() == 1
    time.sleep(0.1)
    assert (make(), make()) == (1, 3)
    cache.clear()
    make = failing(cache, [Trouble()], ttl=0.05, stale=HOUR)
    assert make() == 1
    time.sleep(0.1)
    with pytest.raises(Trouble):
        make()


def test_a_result_that_cannot_be_read_does_not_stay(cache: Cache) -> None:
    make = failing(cache, [Trouble()], ttl=HOUR, refresh_ahead=SOON)
    make()
    (key,) = cache
    assert cache._library.c.memstream_set(cache._handle, key, len(key), b"short", 5, 0, 0xE7000000) == 0
    with pytest.warns(RuntimeWarning, match="cannot be read"), pytest.raises(Trouble):
        make()


def test_the_last_part_is_a_share_of_what_jitter_and_absent_ttl_leave(cache: Cache) -> None:
    @cache.memoize(ttl=1000, absent_ttl=100, jitter=0.5, refresh_ahead=0.2)
    def find(number: int) -> Optional[int]:
        return number or None

    def lives() -> Dict[str, List[float]]:
        """For how many seconds results are fresh, and for how many they are there, in order."""
        found: Dict[str, List[float]] = {"fresh": [], "there": []}
        for entry in cache.scan():
            read = cache._connection.read(entry.key)
            assert read is not None and entry.expires_at is not None
            found["fresh"].append(split_result(memoryview(read.memory))[0] - time.monotonic())
            found["there"].append(entry.expires_at - cache.stats().now)
        for fresh, there in zip(found["fresh"], found["there"]):
            assert abs(fresh - (there - 0.2 * there)) < 5
        return {name: sorted(numbers) for name, numbers in found.items()}

    for number in range(1, 101):
        find(number)
    there = lives()["there"]
    assert 450 < there[0] < 600 and 900 < there[-1] <= 1000.01
    cache.clear()
    assert find(0) is None
    assert 40 < lives()["there"][0] <= 100.01


def test_coroutines_refresh_as_they_await(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    calls: List[int] = []

    async def run() -> None:
        goes_on, computing = asyncio.Event(), asyncio.Event()

        @cache.memoize(ttl=HOUR, refresh_ahead=SOON, name="coroutine")
        async def make() -> int:
            calls.append(1)
            number = len(calls)
            if number == 2:
                computing.set()
                await goes_on.wait()
            if number == 3:
                raise Trouble("third")
            return number

        assert await make() == 1
        become_due()
        task = asyncio.ensure_future(make())
        await asyncio.wait_for(computing.wait(), 20)
        assert [await make(), await make()] == [1, 1]
        goes_on.set()
        assert await task == 2
        become_due()
        assert await make() == 2
        assert len(messages(caplog)) == 1 and "Trouble('third')" in messages(caplog)[0]
        assert await make() == 4

    asyncio.run(run())


def test_a_cancelled_refresh_is_cancelled_and_gives_its_turn_back(cache: Cache) -> None:
    async def run() -> None:
        calls: List[int] = []
        never = asyncio.Event()

        @cache.memoize(ttl=HOUR, refresh_ahead=SOON, name="cancelled")
        async def make() -> int:
            calls.append(1)
            if len(calls) == 2:
                await never.wait()
            return len(calls)

        await make()
        become_due()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(make(), 0.05)
        assert await make() == 3

    asyncio.run(run())


def test_trio_refreshes_as_asyncio_does(cache: Cache) -> None:
    trio = pytest.importorskip("trio", reason="trio is not installed (Debian: python3-trio)")
    calls: List[int] = []

    async def run() -> None:
        goes_on, computing = trio.Event(), trio.Event()
        results: List[int] = []

        @cache.memoize(ttl=HOUR, refresh_ahead=SOON, name="trio")
        async def make() -> int:
            calls.append(1)
            number = len(calls)
            if number == 2:
                computing.set()
                await goes_on.wait()
            if number == 3:
                raise Trouble
            return number

        async def keep() -> None:
            results.append(await make())

        assert await make() == 1
        become_due()
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(keep)
                await computing.wait()
                assert await make() == 1
                goes_on.set()
        assert results == [2]
        become_due()
        assert await make() == 2 and len(calls) == 3

    trio.run(run)


def test_refresh_ahead_needs_a_time_to_live(cache: Cache) -> None:
    with pytest.raises(ValueError, match="^Invalid refresh_ahead 0.1: expected 0 without a ttl"):
        cache.memoize(refresh_ahead=0.1)
    cache.memoize(refresh_ahead=0.1, absent_ttl=5)
