"""One of many processes, threads and coroutines computes."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable, List

import pytest
from conftest import Segment
from test_surroundings import Gunicorn, loops

from memstream import Cache, errors

COMPUTES_ONCE = """
import os, sys, time, memstream
cache = memstream.Cache()
@cache.memoize(ttl=60)
def slow(number):
    print("computing", flush=True)
    time.sleep(0.3)
    return {"number": number, "pid": os.getpid()}
sys.stdin.readline()
print(slow(5)["number"], flush=True)
"""


def test_one_of_eight_processes_computes(cache: Cache, segment: Segment) -> None:
    children = [segment.start("-c", COMPUTES_ONCE, stdin=subprocess.PIPE) for _ in range(8)]
    time.sleep(0.3)
    outputs = []
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.flush()
    for child in children:
        out, error = child.communicate(timeout=30)
        assert child.returncode == 0, error.decode()
        outputs.append(out.decode().split())
    assert sum(words.count("computing") for words in outputs) == 1
    assert all(words[-1] == "5" for words in outputs)


def test_when_the_computing_process_is_killed_another_takes_over(cache: Cache, segment: Segment) -> None:
    code = """
import os, sys, time, memstream
cache = memstream.Cache()
@cache.memoize()
def slow():
    print("computing", flush=True)
    time.sleep(float(sys.argv[1]))
    return os.getpid()
print(slow(), flush=True)
"""
    first = segment.start("-c", code, "60")
    assert first.stdout is not None and first.stdout.readline() == b"computing\n"
    waiting = [segment.start("-c", code, "0.01") for _ in range(3)]
    time.sleep(0.5)
    assert all(child.poll() is None for child in waiting)
    first.kill()
    first.wait()
    killed = time.monotonic()
    outputs = [child.communicate(timeout=30)[0].split() for child in waiting]
    assert time.monotonic() - killed < 5
    assert sum(words.count(b"computing") for words in outputs) == 1
    assert len({words[-1] for words in outputs}) == 1


def test_threads_of_one_process_compute_once(cache: Cache) -> None:
    calls: List[int] = []

    @cache.memoize()
    def slow() -> int:
        calls.append(1)
        time.sleep(0.2)
        return len(calls)

    results: List[int] = []
    threads = [threading.Thread(target=lambda: results.append(slow())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [1] * 8 and calls == [1]


@pytest.mark.parametrize("new_loop", loops())
def test_coroutines_compute_once(cache: Cache, new_loop: Callable[[], Any]) -> None:
    calls: List[int] = []

    @cache.memoize(ttl=0.1, stale=60)
    async def slow(number: int) -> int:
        calls.append(number)
        await asyncio.sleep(0.05)
        if number < 0:
            raise ZeroDivisionError
        return number * number

    async def everything() -> None:
        assert await asyncio.gather(*(slow(3) for _ in range(10))) == [9] * 10
        assert calls == [3]
        await asyncio.sleep(0.15)
        assert await asyncio.gather(*(slow(3) for _ in range(5))) == [9] * 5
        assert calls == [3, 3]
        assert await slow.refresh(3) == 9 and calls == [3, 3, 3]
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await slow(-1)
        task = asyncio.ensure_future(slow(4))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await slow(4) == 16

    loop = new_loop()
    try:
        loop.run_until_complete(everything())
    finally:
        loop.close()
    assert asyncio.iscoroutinefunction(slow)


APPLICATION = """
import json, os, time, memstream
cache = memstream.Cache()

@cache.memoize(ttl=60)
def report():
    with open("computing", "a") as file:
        file.write("computing ")
    time.sleep(0.3)
    return os.getpid()

def application(environment, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([report(), os.getpid()]).encode()]
"""


def test_eight_workers_of_gunicorn_compute_once(cache: Cache, segment: Segment, tmp_path: Path) -> None:
    pytest.importorskip("gunicorn", reason="gunicorn is not installed (Debian: python3-gunicorn)")
    server = Gunicorn(segment, tmp_path, APPLICATION, "--workers", "8")
    answers: List[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(server.get())) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.stop()
    assert len(answers) == 24 and len({answer[0] for answer in answers}) == 1
    assert (tmp_path / "computing").read_text() == "computing "


# ---- leases ----


def test_a_lease_is_given_once_and_fulfilled_once(cache: Cache) -> None:
    lease = cache.lease("key")
    assert lease is not None and cache.lease("key") is None and not cache.wait_for_lease("key", 0.01)
    assert lease.fulfil(b"value", ttl=60, flags=5) is True
    assert cache["key"] == b"value" and cache.wait_for_lease("key") and cache.lease("key") is None
    entry = cache.entry("key")
    assert entry is not None and entry.flags == 5 and entry.expires_at is not None
    lease.release()
    assert lease.fulfil(b"other") is False and cache["key"] == b"value"


def test_a_lease_that_is_released_is_free(cache: Cache) -> None:
    with pytest.raises(ZeroDivisionError):
        lease = cache.lease("key")
        assert lease is not None
        with lease:
            1 / 0
    again = cache.lease("key")
    assert again is not None
    cache["key"] = b"newer"
    assert again.fulfil(b"older") is False and cache["key"] == b"newer"


def test_a_stale_value_can_be_leased_by_its_token(cache: Cache) -> None:
    cache["key"] = b"stale"
    _, token = cache.gets("key")
    assert cache.lease("key") is None
    lease = cache.lease("key", token)
    assert lease is not None and cache.lease("key", token) is None
    assert cache["key"] == b"stale" and lease.fulfil(b"fresh")
    assert cache.lease("key", token) is None


def test_a_lease_with_a_duration_can_be_taken_away(cache: Cache) -> None:
    first = cache.lease("key", duration=0.05)
    time.sleep(0.1)
    second = cache.lease("key")
    assert first is not None and second is not None
    assert first.fulfil(b"late") is False and second.fulfil(b"value") is True


def test_leases_refuse_what_cannot_be(cache: Cache) -> None:
    for call in (cache.lease, cache.wait_for_lease):
        with pytest.raises(errors.BadKey):
            call("")
    with Cache(read_only=True) as reader, pytest.raises(errors.ReadOnlyError):
        reader.lease("key")
    with pytest.raises(errors.InvalidArgument):
        cache.lease("key", duration=0)


def test_whoever_waits_goes_on_at_once(cache: Cache) -> None:
    lease = cache.lease("key")
    assert lease is not None
    waited: List[float] = []

    def wait() -> None:
        cache.wait_for_lease("key")
        waited.append(time.monotonic())

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    ended = time.monotonic()
    lease.release()
    thread.join()
    assert 0 <= waited[0] - ended < 10


def test_the_lease_of_a_killed_process_is_free_at_once(cache: Cache, segment: Segment) -> None:
    child = segment.start(
        "-c",
        "import memstream, time; c = memstream.Cache(); leases = [c.lease(f'key{n}') for n in range(20)];"
        "print(all(leases), flush=True); time.sleep(60)",
    )
    assert child.stdout is not None and child.stdout.readline() == b"True\n"
    assert cache.lease("key5") is None
    child.send_signal(signal.SIGKILL)
    child.wait()
    started = time.monotonic()
    assert all(cache.wait_for_lease(f"key{number}", 1) for number in range(20))
    leases = [cache.lease(f"key{number}") for number in range(20)]
    assert all(leases) and time.monotonic() - started < 10
