"""Cache.wait: until the entry of a key changes."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any, Callable, List

import pytest
from conftest import Segment

from memstream import Cache, errors

WAITER = """
from memstream import Cache
cache = Cache()
print("waiting", flush=True)
try:
    print(cache.wait("key", None), flush=True)
except BaseException as error:
    print(type(error).__name__, flush=True)
"""


def test_it_says_how_the_key_is(cache: Cache) -> None:
    assert not cache.wait("key", None, 0.001)
    cache["key"] = b"value"
    _, token = cache.gets("key")
    assert cache.wait("key", None) and not cache.wait("key", token, 0.001)
    cache["key"] = b"value"
    assert cache.wait("key", token)
    del cache["key"]
    assert cache.wait("key", token) and not cache.wait("key", None, 0.001)


@pytest.mark.parametrize(
    "change, is_there",
    [
        (lambda cache: cache.set("key", b"newer"), True),
        (lambda cache: cache.delete("key"), False),
        (lambda cache: cache.clear(), False),
    ],
)
def test_a_change_wakes_immediately(cache: Cache, change: Callable[[Cache], Any], is_there: bool) -> None:
    best = 1.0
    for _ in range(20):
        cache["key"] = b"value"
        _, token = cache.gets("key")
        woken: List[float] = []
        waiter = threading.Thread(target=lambda: woken.append(time.monotonic() if cache.wait("key", token) else 0.0))
        waiter.start()
        time.sleep(0.008)
        changed = time.monotonic()
        change(cache)
        waiter.join()
        assert woken[0] >= changed and ("key" in cache) == is_there
        best = min(best, woken[0] - changed)
        if best < 0.025:  # A waiter looks by itself every 50 ms.
            return
    raise AssertionError(f"woken after {best:.3f} s at best")


def test_it_ends_at_the_timeout(cache: Cache) -> None:
    began = time.monotonic()
    assert not cache.wait("key", None, 0.12)
    assert 0.12 <= time.monotonic() - began < 5


def test_another_process_is_woken(cache: Cache, segment: Segment) -> None:
    child = segment.start("-c", WAITER)
    assert child.stdout is not None and child.stdout.readline() == b"waiting\n"
    cache["key"] = b"value"
    out, error = child.communicate(timeout=10)
    assert out == b"True\n", error.decode()


def test_a_signal_ends_a_wait(cache: Cache, segment: Segment) -> None:
    child = segment.start("-c", WAITER)
    assert child.stdout is not None and child.stdout.readline() == b"waiting\n"
    time.sleep(0.3)
    os.kill(child.pid, signal.SIGINT)
    out, error = child.communicate(timeout=10)
    assert out == b"KeyboardInterrupt\n", error.decode()
    assert "key" not in cache


@pytest.mark.parametrize("arguments", [("key", 0), ("key", -1), ("key", 2**64), ("key", None, 0), ("key", None, -1)])
def test_it_refuses_what_is_no_token_and_no_time(cache: Cache, arguments: Any) -> None:
    with pytest.raises(errors.InvalidArgument):
        cache.wait(*arguments)


def test_it_refuses_what_is_no_key_and_a_segment_that_is_gone(cache: Cache) -> None:
    with pytest.raises(errors.BadKey):
        cache.wait("", None)
    with Cache() as other:
        other.destroy()
    with pytest.raises(errors.UnavailableError):
        cache.wait("key", None, 1)
    cache.close()
