"""Cache.watch: which keys change, in whatever process."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import signal
import threading
from typing import Callable, List, Optional, Set

import pytest
from conftest import Segment

from memstream import Cache, errors

WATCHER = """
from memstream import Cache
cache = Cache()
watch = cache.watch("config:")
try:
    print("watching", flush=True)
    print(next(watch), flush=True)
except BaseException as error:
    print(type(error).__name__, flush=True)
"""

TOLD = 10  # Seconds, much more than it takes.
QUIET = 0.15


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_it_names_the_keys_under_the_prefix(cache: Cache) -> None:
    with cache.watch("config:") as watch:
        assert watch.pending() == [] and not watch.wait(0.001) and watch.prefix == b"config:"
        cache["config:a"] = b"1"
        cache["other"] = b"1"
        assert watch.wait(TOLD) and watch.pending() == [b"config:a"]
        del cache["config:a"]
        assert next(watch) == b"config:a"
        cache.touch("other", 60)
        assert not watch.wait(QUIET)
        told: List[Optional[bytes]] = []
        for number in range(3):
            cache[b"config:\xff%d" % number] = b"1"
        for key in watch:
            told.append(key)
            if len(told) == 3:
                break
        assert sorted(map(bytes, filter(None, told))) == [b"config:\xff0", b"config:\xff1", b"config:\xff2"]


def test_without_a_prefix_it_names_all_keys(cache: Cache) -> None:
    with cache.watch() as watch:
        cache["a"] = b"1"
        assert next(watch) == b"a"


def test_none_says_to_look_again(cache: Cache) -> None:
    with cache.watch("config:") as watch:
        cache.set("page", b"1", tags=["group"])
        cache.invalidate("group")
        assert next(watch) is None
        assert not watch.wait(QUIET)


def test_the_descriptor_is_readable_while_there_is_something(cache: Cache) -> None:
    with cache.watch() as watch:
        assert select.select([watch], [], [], 0)[0] == []
        cache["a"] = b"1"
        assert select.select([watch], [], [], TOLD)[0] == [watch]
        assert watch.pending() == [b"a"]
        assert select.select([watch], [], [], 0)[0] == []


def test_coroutines_go_on_meanwhile(cache: Cache) -> None:
    told: List[Optional[bytes]] = []

    async def follow() -> None:
        async for key in cache.watch("config:"):
            told.append(key)
            if len(told) == 3:
                return

    async def write() -> None:
        for number in range(3):
            await asyncio.sleep(0.01)
            cache[f"config:{number}"] = b"1"

    async def both() -> None:
        await asyncio.wait_for(asyncio.gather(follow(), write()), TOLD)

    asyncio.run(both())
    assert told == [b"config:0", b"config:1", b"config:2"]


def test_a_cancelled_task_leaves_the_watch_as_it_is(cache: Cache) -> None:
    async def run() -> Optional[bytes]:
        watch = cache.watch()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(watch.__anext__(), 0.02)
        cache["later"] = b"1"
        return await asyncio.wait_for(watch.__anext__(), TOLD)

    assert asyncio.run(run()) == b"later"


def test_trio_waits_as_asyncio_does(cache: Cache) -> None:
    trio = pytest.importorskip("trio")
    told: List[Optional[bytes]] = []

    async def follow() -> None:
        with trio.fail_after(TOLD):
            told.append(await cache.watch().__anext__())

    async def both() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.sleep(0.02)
            cache["key"] = b"1"

    trio.run(both)
    assert told == [b"key"]


def test_another_process_is_told(cache: Cache, segment: Segment) -> None:
    child = segment.start("-c", WATCHER)
    assert child.stdout is not None and child.stdout.readline() == b"watching\n"
    cache["config:a"] = b"value"
    out, error = child.communicate(timeout=TOLD)
    assert out == b"b'config:a'\n", error.decode()


def test_a_signal_ends_the_wait(cache: Cache, segment: Segment) -> None:
    child = segment.start("-c", WATCHER)
    assert child.stdout is not None and child.stdout.readline() == b"watching\n"
    os.kill(child.pid, signal.SIGINT)
    out, error = child.communicate(timeout=TOLD)
    assert out == b"KeyboardInterrupt\n", error.decode()


def test_a_process_ends_while_it_watches(segment: Segment) -> None:
    out = segment.code(
        "from memstream import Cache; cache = Cache(); watch = cache.watch(); cache['a'] = b'1'; print(1)"
    )
    assert out == b"1\n"


def test_its_thread_ends_with_the_last_watch(cache: Cache) -> None:
    before = threads()
    first, second = cache.watch("a"), cache.watch("b")
    assert threads() == before + 1
    first.close()
    first.close()
    assert first.closed and threads() == before + 1
    del second
    gc.collect()
    assert threads() == before
    with pytest.raises(errors.ClosedError):
        next(first)
    with pytest.raises(errors.ClosedError):
        first.fileno()


def test_it_ends_with_its_cache(segment: Segment) -> None:
    cache = Cache()
    watch = cache.watch()
    cache.close()
    assert watch.closed
    with pytest.raises(errors.ClosedError):
        watch.pending()
    with pytest.raises(errors.ClosedError):
        cache.watch()


def test_a_forked_child_begins_one_of_its_own(cache: Cache, in_child: Callable[..., int]) -> None:
    watch = cache.watch()

    def body() -> None:
        with pytest.raises(errors.CacheGone):
            watch.pending()
        watch.close()
        own = cache.watch()
        cache["key"] = b"1"
        assert next(own) == b"key"

    assert in_child(body) == 0
    assert next(watch) == b"key"


def test_it_says_that_the_segment_was_destroyed(segment: Segment) -> None:
    watch = Cache().watch()
    with Cache() as other:
        other.destroy()
    assert watch.wait(TOLD)
    with pytest.raises(errors.CacheGone):
        watch.pending()


def test_it_goes_on_while_another_thread_writes(cache: Cache) -> None:
    watch = cache.watch("key")
    writer = threading.Thread(target=lambda: [cache.set(f"key{number}", b"1") for number in range(200)])
    writer.start()
    told: Set[Optional[bytes]] = set()
    while len(told) < 200 and None not in told:
        told.add(next(watch))
    writer.join()
    assert None in told or told == {b"key%d" % number for number in range(200)}


def test_it_refuses_patterns_and_caches_that_are_read_only(cache: Cache) -> None:
    with pytest.raises(errors.InvalidArgument):
        cache.watch("config:*")
    with Cache(read_only=True, create=False) as reader, pytest.raises(errors.ReadOnlyError):
        reader.watch()
    for timeout in (0, -1):
        with cache.watch() as watch, pytest.raises(errors.InvalidArgument):
            watch.wait(timeout)


def test_it_refuses_a_segment_that_is_too_small(segment: Segment) -> None:
    with Cache(size="8M") as small, pytest.raises(errors.InvalidArgument, match="at least 16 MiB"):
        small.watch()
