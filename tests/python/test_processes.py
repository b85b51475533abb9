"""Many processes on one cache: fork, spawn, kill."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from typing import Any, Callable

import pytest
from conftest import Segment

from memstream import Cache, errors

PROCESSES = 8
ROUNDS = 2000


def count_up(rounds: int) -> None:
    with Cache(create=False) as cache:
        for _ in range(rounds):
            cache.incr("counter")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_increments_of_eight_processes_add_up(cache: Cache, method: str) -> None:
    cache["counter"] = b"0"
    context: Any = multiprocessing.get_context(method)
    children = [context.Process(target=count_up, args=(ROUNDS,)) for _ in range(PROCESSES)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * PROCESSES
    assert cache["counter"] == str(PROCESSES * ROUNDS).encode()


def append_with_cas(cache: Cache, mark: bytes, rounds: int) -> int:
    for _ in range(rounds):
        while True:
            value, token = cache.gets("list", b"")
            if cache.cas("list", value + mark, token):
                break
    return 0


def test_compare_and_set_of_many_processes_loses_nothing(cache: Cache) -> None:
    pids = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            os._exit(append_with_cas(cache, b"%d" % number, 100))
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 4
    value = cache["list"]
    assert [value.count(b"%d" % number) for number in range(4)] == [100] * 4


def test_a_forked_child_goes_on_with_the_cache_of_its_parent(cache: Cache, in_child: Callable[..., int]) -> None:
    def child() -> int:
        if cache["mine"] != b"parent":
            return 1
        cache["theirs"] = b"child"
        pids = {process.pid for process in cache.processes()}
        return 0 if pids == {os.getpid(), os.getppid()} else 2

    cache["mine"] = b"parent"
    assert in_child(child) == 0
    assert cache["theirs"] == b"child"


def test_closing_in_a_child_leaves_the_parent_attached(cache: Cache, in_child: Callable[..., int]) -> None:
    cache["key"] = b"value"
    assert in_child(cache.close) == 0
    assert cache["key"] == b"value"
    assert os.getpid() in {process.pid for process in cache.processes()}


def test_a_grandchild_works_too(cache: Cache, in_child: Callable[..., int]) -> None:
    assert in_child(lambda: in_child(lambda: cache.set("key", b"grandchild"))) == 0
    assert cache["key"] == b"grandchild"


WRITER = """
import sys, memstream
cache = memstream.Cache()
number = 0
while True:
    cache.set(f"key{number}", (f"{number}:" * 2000).encode())
    print(number, flush=True)
    number += 1
"""


def test_all_that_a_killed_writer_was_told_is_stored_is_there(cache: Cache, segment: Segment) -> None:
    for pause in (0.0, 0.01, 0.05):
        child = segment.start("-c", WRITER)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(pause)
        child.send_signal(signal.SIGKILL)
        acknowledged = [line for line in child.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")]
        child.wait()
        last = int(acknowledged[-1]) if acknowledged else 0
        started = time.monotonic()
        # The cache holds about 2,500 of these values. Up to there all are there; then new ones stay for a while.
        for number in range(0 if last < 2000 else last - 20, last + 1):
            assert cache[f"key{number}"] == (f"{number}:" * 2000).encode()
        cache["mine"] = b"value"
        assert time.monotonic() - started < 10
        cache.clear()


def test_a_killed_process_leaves_no_view_behind(cache: Cache, segment: Segment) -> None:
    cache["key"] = b"value" * 1000
    child = segment.start(
        "-c",
        "import memstream, time; c = memstream.Cache(); views = [c.view('key') for _ in range(10)];"
        "room = c.reserve('other', 5000); print('ready', flush=True); time.sleep(60)",
    )
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    assert {process.pid: process.pins for process in cache.processes()}[child.pid] == 11
    child.kill()
    child.wait()
    assert [process.pid for process in cache.processes()] == [os.getpid()]
    del cache["key"]
    assert cache.stats().pinned_memory == 0


def test_a_stopped_process_stops_nobody(segment: Segment) -> None:
    cache = Cache(timeout=0.05)
    child = segment.start("-c", WRITER, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while "key0" not in cache and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGSTOP)
    try:
        # It may have been stopped inside a write: then a call gives up at its deadline. None may hang.
        for number in range(20):
            started = time.monotonic()
            try:
                cache[f"mine{number}"] = b"value"
            except errors.CacheBusy:
                pass
            assert time.monotonic() - started < 10
    finally:
        child.send_signal(signal.SIGCONT)
