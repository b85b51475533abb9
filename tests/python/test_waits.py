"""Waiting for another caller's result: never without end, and never in the way of others."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import threading
import time
from typing import Any, Callable, List, Optional

import pytest
from conftest import Segment

from memstream import Cache, errors
from memstream.memo_keys import KeyMaker

WAITER = """
import signal, sys, time
from memstream import Cache
cache = Cache()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
@cache.memoize(name="slow")
def slow(): return 1
print("calling", flush=True)
try:
    cache.wait_for_lease("key") if sys.argv[1] == "lease" else slow()
except BaseException as error:
    print(type(error).__name__, flush=True)
"""


@pytest.mark.parametrize("what", ["lease", "memoized"])
@pytest.mark.parametrize("number, name", [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "SystemExit")])
def test_a_signal_ends_a_wait_at_once(cache: Cache, segment: Segment, what: str, number: int, name: str) -> None:
    key: Any = "key" if what == "lease" else KeyMaker(lambda: None, name="slow").key_of((), {})
    with cache.lease(key):  # type: ignore[union-attr]
        child = segment.start("-c", WAITER, what)
        assert child.stdout is not None and child.stdout.readline() == b"calling\n"
        time.sleep(0.3)
        child.send_signal(number)
        out, error = child.communicate(timeout=10)
        assert out.decode().split() == [name], error.decode()


GREENLETS = {
    "gevent": "from gevent import monkey; monkey.patch_all(); import gevent\n"
    "def run(jobs): return [job.value for job in gevent.joinall([gevent.spawn(*job) for job in jobs])]\n",
    "gevent unpatched": "import gevent\nfrom gevent import sleep\n"
    "def run(jobs): return [job.value for job in gevent.joinall([gevent.spawn(*job) for job in jobs])]\n",
    "eventlet": "import eventlet; eventlet.monkey_patch()\n"
    "def run(jobs): return [job.wait() for job in [eventlet.spawn(*job) for job in jobs]]\n",
    "eventlet unpatched": "import eventlet\nfrom eventlet import sleep\n"
    "def run(jobs): return [job.wait() for job in [eventlet.spawn(*job) for job in jobs]]\n",
}
CALLS = """
import sys, time
sleep = globals().get("sleep", time.sleep)
import memstream.dogpile
from dogpile.cache import make_region
from memstream import Cache
cache = Cache()
made = []
@cache.memoize()
def fetch(number):
    made.append(number)
    sleep(0.2)
    return number * 2
region = make_region().configure("memstream", expiration_time=60)
def make():
    made.append(0)
    sleep(0.2)
    return 5
def wait():
    return cache.wait_for_lease("lease", 5)
def hold():
    with cache.lease("lease"): sleep(0.2)
    return "held"
print(run([(fetch, 1)] * 3), made)
if {is_patched}: print(run([(region.get_or_create, "key", make)] * 3), made)
print(run([(hold,), (wait,), (wait,)]))
"""


@pytest.mark.parametrize("greenlets", GREENLETS)
def test_greenlets_wait_for_each_other(segment: Segment, greenlets: str) -> None:
    pytest.importorskip(greenlets.split()[0], reason="gevent or eventlet is not installed (Debian: python3-gevent)")
    pytest.importorskip("dogpile.cache", reason="dogpile.cache is not installed (Debian: python3-dogpile.cache)")
    is_patched = "unpatched" not in greenlets
    done = segment.run("-c", GREENLETS[greenlets] + CALLS.format(is_patched=is_patched))
    dogpile = "[5, 5, 5] [1, 0]\n" if is_patched else ""
    assert done.stdout.decode() == f"[2, 2, 2] [1]\n{dogpile}['held', True, True]\n", done.stderr.decode()


# ---- a holder that stores nothing ----


def in_threads(call: Callable[[], Any], count: int = 8) -> List[float]:
    """Calls from threads that begin together; returns how long each took."""
    times: List[float] = []

    def one() -> None:
        started = time.monotonic()
        try:
            call()
        except OSError:
            pass
        times.append(time.monotonic() - started)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


@pytest.mark.parametrize("why", ["raises", "cache_if", "large"])
@pytest.mark.filterwarnings("ignore:A result of")
def test_when_nothing_is_stored_all_that_have_waited_compute_at_once(cache: Cache, why: str) -> None:
    calls: List[int] = []

    @cache.memoize(cache_if=lambda value: value is not None)
    def compute() -> Optional[bytes]:
        calls.append(1)
        time.sleep(0.5)
        if why == "raises":
            raise OSError("backend down")
        return None if why == "cache_if" else bytes(40_000_000)

    assert max(in_threads(compute)) < 2.5  # 4 one after the other.
    assert len(calls) == 8


FAILS = """
import sys, time
from memstream import Cache
cache = Cache()
@cache.memoize(name="fails")
def fails():
    time.sleep(0.5)
    raise OSError
sys.stdin.readline()
started = time.monotonic()
try: fails()
except OSError: print(time.monotonic() - started)
"""


def test_processes_that_have_waited_in_vain_compute_at_once(cache: Cache, segment: Segment) -> None:
    children = [segment.start("-c", FAILS, stdin=subprocess.PIPE) for _ in range(6)]
    time.sleep(1)
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.flush()
    times = [float(child.communicate(timeout=30)[0]) for child in children]
    assert max(times) < 2.2  # 3 one after the other.


# ---- waiting for oneself ----


def test_a_function_that_needs_its_own_result_is_told_so(cache: Cache) -> None:
    @cache.memoize()
    def itself(number: int) -> int:
        return 1 + (itself(number) if number else 0)

    with pytest.raises(RuntimeError, match="itself needs its own result"):
        itself(5)
    assert itself(0) == 1
    with pytest.raises(RuntimeError):
        itself(5)  # The lease of the first time has ended.

    with Cache() as again:  # The same segment by another handle.
        inner = again.memoize(name="twice")(lambda: 1)
        outer = cache.memoize(name="twice", ignore="inner")(lambda: inner())
        with pytest.raises(RuntimeError):
            outer()


def test_coroutines_are_told_so_too(cache: Cache) -> None:
    @cache.memoize()
    async def itself() -> int:
        return await itself()  # type: ignore[no-any-return]

    @cache.memoize()
    async def slow() -> int:
        await asyncio.sleep(0.1)
        return 5

    async def run() -> None:
        with pytest.raises(RuntimeError, match="needs its own result"):
            await itself()
        assert await asyncio.gather(slow(), slow()) == [5, 5]  # Two tasks of one thread.

    asyncio.run(run())


def test_trio_waits_as_asyncio_does(cache: Cache) -> None:
    trio = pytest.importorskip("trio", reason="trio is not installed (Debian: python3-trio)")
    calls: List[int] = []

    @cache.memoize()
    async def slow(number: int) -> int:
        calls.append(number)
        await trio.sleep(0.2)
        return number

    @cache.memoize()
    async def itself() -> int:
        return await itself()  # type: ignore[no-any-return]

    async def run() -> None:
        results: List[int] = []

        async def one() -> None:
            results.append(await slow(3))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(one)
        assert results == [3] * 5 and calls == [3]
        with pytest.raises(RuntimeError, match="needs its own result"):
            await itself()
        with trio.move_on_after(0.05):
            await slow(4)
        assert await slow(4) == 4 and calls == [3, 4, 4]

    trio.run(run)


# ---- bounds ----


def test_wait_bounds_the_wait(cache: Cache) -> None:
    calls: List[int] = []

    def compute() -> int:
        calls.append(1)
        return 7

    options: Any = {"name": "n", "ignore": "calls"}
    key = KeyMaker(compute, **options).key_of((), {})
    with cache.lease(key):  # type: ignore[union-attr]
        for wait in (0, 0.2):
            started = time.monotonic()
            assert cache.memoize(wait=wait, **options)(compute)() == 7
            assert wait <= time.monotonic() - started < wait + 5
        assert calls == [1, 1] and key not in cache  # Whoever has the lease stores.

        async def compute_in_task() -> int:
            return 8

        assert asyncio.run(cache.memoize(name="n", wait=0.05)(compute_in_task)()) == 8  # type: ignore[arg-type]
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match="Invalid wait"):
            cache.memoize(wait=wrong)
    with pytest.raises(errors.InvalidArgument):
        cache.memoize(lease=0)


def test_lease_bounds_how_long_a_holder_keeps_others_away(cache: Cache) -> None:
    calls: List[int] = []
    goes_on = threading.Event()

    @cache.memoize(lease=0.2, ignore="goes_on")
    def compute() -> int:
        calls.append(1)
        number = len(calls)
        if number == 1:
            assert goes_on.wait(30)
        return number

    thread = threading.Thread(target=compute)
    thread.start()
    time.sleep(0.1)
    assert compute() == 2
    goes_on.set()
    thread.join()
    assert compute() == 2 and len(calls) == 2


# ---- holders that will never end ----


def test_the_lease_of_an_object_that_is_dropped_ends(cache: Cache) -> None:
    thread = threading.Thread(target=lambda: cache.lease("key"))
    thread.start()
    thread.join()
    gc.collect()
    assert cache.wait_for_lease("key", 5)


def test_the_lease_of_an_abandoned_task_ends(cache: Cache) -> None:
    calls: List[int] = []

    @cache.memoize()
    async def compute() -> int:
        calls.append(1)
        await asyncio.sleep(60 if len(calls) == 1 else 0)
        return 5

    def abandon() -> Any:
        loop = asyncio.new_event_loop()
        task = loop.create_task(compute())  # type: ignore[arg-type]
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()
        return task

    task = abandon()  # Somebody keeps it.
    assert asyncio.run(compute()) == 5 and calls == [1, 1]  # type: ignore[arg-type]
    task._log_destroy_pending = False
    del task
    gc.collect()


def test_closing_a_cache_ends_its_leases(cache: Cache) -> None:
    other = Cache()
    lease = other.lease("key")
    assert lease is not None and not cache.wait_for_lease("key", 0.01)
    other.close()
    assert cache.wait_for_lease("key", 5) and cache.stats().processes == 1
    lease.release()
    with pytest.raises(errors.ClosedError):
        lease.fulfil(b"value")


def test_a_forked_child_leaves_the_leases_of_its_parent(cache: Cache, in_child: Callable[..., int]) -> None:
    lease = cache.lease("key")
    assert lease is not None

    def child() -> int:
        nonlocal lease
        assert lease is not None
        lease.release()
        lease = None
        gc.collect()
        return 0 if cache.lease("key") is None else 1

    assert in_child(child) == 0 and os.getpid() and lease.fulfil(b"value")


def test_a_result_that_comes_meanwhile_is_taken_although_somebody_computes_it_anew(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compute() -> int:
        return 7

    call = cache.memoize(name="n", ttl=60, stale=60)(compute)
    key = KeyMaker(compute, name="n").key_of((), {})
    locate = cache._connection.read

    def locate_late(name: Any) -> Any:  # The result comes just after the first look.
        monkeypatch.setattr(cache._connection, "read", locate)
        call.refresh()
        entry = cache.entry(key)
        leases.append(entry and cache.lease(key, entry.token))
        return None

    leases: List[Any] = []
    monkeypatch.setattr(cache._connection, "read", locate_late)
    started = time.monotonic()
    timer = threading.Timer(3, lambda: leases[0].release())  # Whoever waits for it returns late, but returns.
    timer.start()
    assert call() == 7 and time.monotonic() - started < 2 and leases[0] is not None
    timer.cancel()
    timer.join()
