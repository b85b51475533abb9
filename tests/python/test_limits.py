"""Rate limits, semaphores and locks that all processes of a cache share."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from datetime import timedelta
from typing import List

import pytest
from conftest import Segment

from memstream import Cache, errors

HOLDS = """
import sys, memstream
cache = memstream.Cache()
with cache.lock("nightly"):
    print("holds", flush=True)
    sys.stdin.readline()
"""


def holder(segment: Segment) -> "subprocess.Popen[bytes]":
    """Starts a process that holds the lock "nightly" until its input ends."""
    child = segment.start("-c", HOLDS, stdin=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"holds\n"
    return child


def test_a_key_gets_its_burst_and_then_learns_how_long_to_wait(cache: Cache) -> None:
    assert [cache.limit("user:7", rate=2, period=3600, burst=3) for _ in range(3)] == [0.0] * 3
    wait = cache.limit("user:7", rate=2, period=timedelta(hours=1), burst=3)
    assert 1700 < wait <= 1800
    assert cache.limit("user:8", rate=2, period=3600) == 0.0
    assert cache.reset_limit("user:7") is True
    assert cache.reset_limit("user:7") is False
    assert cache.limit("user:7", rate=2, period=3600, burst=1) == 0.0
    assert cache.limit("short", rate=20) == 0.0  # A period is a second, and the burst is the rate.
    assert sum(cache.limit("short", rate=20) == 0.0 for _ in range(30)) in (19, 20, 21)


def test_a_limit_has_nothing_to_do_with_a_value(cache: Cache) -> None:
    cache.limit("key", rate=1, period=3600)
    assert "key" not in cache
    cache["key"] = b"value"
    cache.clear()
    assert cache.limit("key", rate=1, period=3600) > 0


def test_numbers_out_of_range_are_refused(cache: Cache) -> None:
    for arguments in ({"rate": 0}, {"rate": -1}, {"rate": 1, "burst": 0}, {"rate": 1, "period": 0}, {"rate": 2**63}):
        with pytest.raises(errors.InvalidArgument):
            cache.limit("key", **arguments)
    with pytest.raises(TypeError):
        cache.limit("key", rate=1.5)  # type: ignore[arg-type]
    with pytest.raises(errors.BadKey):
        cache.limit("", rate=1)
    for permits in (0, 65536):
        with pytest.raises(errors.InvalidArgument):
            cache.semaphore("name", permits)
    with pytest.raises(errors.InvalidArgument):
        cache.lock("name").acquire(timeout=0)


def test_a_small_segment_says_what_it_lacks(segment: Segment) -> None:
    with Cache(name=segment.name + "-small", size=8 << 20) as small:
        try:
            with pytest.raises(errors.InvalidArgument, match="at least 16 MiB"):
                small.limit("key", rate=1)
            with pytest.raises(errors.InvalidArgument, match="at least 16 MiB"):
                small.lock("name").acquire()
        finally:
            small.destroy()


def test_a_semaphore_gives_as_many_permits_as_it_has(cache: Cache) -> None:
    semaphore = cache.semaphore("reports", 2)
    with semaphore:
        assert semaphore.held() == 1
        assert not semaphore.locked()
        assert cache.semaphore("reports", 2).acquire()
        assert semaphore.held() == 1  # What nothing refers to is given back.
        other = cache.semaphore("reports", 2)
        assert other.acquire()
        assert semaphore.locked()
        begun = time.monotonic()
        assert not cache.semaphore("reports", 2).acquire(timeout=0.1)
        assert time.monotonic() - begun >= 0.1
        assert not semaphore.acquire(blocking=False)
        with pytest.raises(TimeoutError, match="All 2 permits of b'reports' were held for 0.05 s"):
            with cache.semaphore("reports", 2, timeout=0.05):
                raise AssertionError("all permits were held")
        other.release()
        with pytest.raises(RuntimeError, match="not acquired"):
            other.release()
    assert semaphore.held() == 0


def test_threads_take_turns(cache: Cache) -> None:
    inside: List[int] = []
    most: List[int] = []

    def work() -> None:
        for _ in range(20):
            with cache.lock("turns", timeout=30):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 80
    assert max(most) == 1


def test_another_thread_may_release(cache: Cache) -> None:
    lock = cache.lock("handed over")
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    assert lock.held() == 0


def test_a_killed_holder_leaves_its_lock_and_a_stopped_one_keeps_it(cache: Cache, segment: Segment) -> None:
    child = holder(segment)
    child.send_signal(signal.SIGSTOP)
    assert not cache.lock("nightly").acquire(timeout=0.2)
    child.kill()
    killed = time.monotonic()
    with cache.lock("nightly", timeout=5):
        assert time.monotonic() - killed < 1  # 0.1 s, and what a busy machine adds.
    child.wait()


def test_a_waiter_goes_on_when_the_lock_is_released(cache: Cache, segment: Segment) -> None:
    child = holder(segment)
    threading.Timer(0.2, child.communicate).start()
    assert cache.lock("nightly").acquire(timeout=30)
    assert child.wait(timeout=30) == 0


def test_a_signal_interrupts_a_waiter(cache: Cache, segment: Segment) -> None:
    child = holder(segment)

    class Interrupted(Exception):
        pass

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    former = signal.signal(signal.SIGALRM, interrupt)
    try:
        begun = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Interrupted):
            cache.lock("nightly").acquire()
        assert time.monotonic() - begun < 1
    finally:
        signal.signal(signal.SIGALRM, former)
    child.communicate()
    with cache.lock("nightly", timeout=5) as lock:
        assert lock.held() == 1


def test_a_child_of_fork_has_none_of_its_parents_permits(cache: Cache) -> None:
    lock = cache.lock("mine")
    lock.acquire()
    child = os.fork()
    if child == 0:
        wrong = 1
        try:
            lock.release()  # Of the child's copy, which holds nothing.
            wrong = 0 if not cache.lock("mine").acquire(blocking=False) else 2
        finally:
            os._exit(wrong)
    assert os.waitpid(child, 0)[1] == 0
    assert lock.held() == 1
    lock.release()


def test_closing_a_cache_gives_its_permits_back(cache: Cache, segment: Segment) -> None:
    other = Cache()
    held = other.lock("closed")
    held.acquire()
    other.close()
    with cache.lock("closed", timeout=5) as lock:
        assert lock.held() == 1
    held.release()
    assert lock.held() == 0
