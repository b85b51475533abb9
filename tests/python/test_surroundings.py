"""The surroundings that a cache is used in: pools, servers that fork, event loops, forks at bad moments, the end."""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import json
import multiprocessing
import os
import pickle
import signal
import socket
import threading
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest
from conftest import Segment, pins

from memstream import Cache, errors

# ---- a cache that travels ----


def use(cache: Cache, number: int) -> int:
    """What the members of a pool do."""
    cache[f"key{number}"] = b"%d" % number
    return int(cache["base"]) + int(cache[f"key{number}"])


POOLS: "dict[str, Callable[[], Executor]]" = {
    "threads": lambda: ThreadPoolExecutor(4),
    "fork": lambda: ProcessPoolExecutor(2, multiprocessing.get_context("fork")),
    "spawn": lambda: ProcessPoolExecutor(2, multiprocessing.get_context("spawn")),
}


@pytest.mark.parametrize("pool", POOLS)
def test_a_cache_can_be_handed_to_a_pool(cache: Cache, pool: str) -> None:
    cache["base"] = b"1000"
    with POOLS[pool]() as executor:
        results = list(executor.map(use, [cache] * 20, range(20), timeout=60))
    assert results == [1000 + number for number in range(20)]
    assert all(cache[f"key{number}"] == b"%d" % number for number in range(20))


def test_a_cache_travels_as_what_it_is(segment: Segment, monkeypatch: pytest.MonkeyPatch) -> None:
    with Cache(serializer="json", timeout=0.5) as cache, Cache(read_only=True) as reader:
        data = pickle.dumps((cache, reader))
        monkeypatch.setenv("MEMSTREAM_NAME", "another-name")
        cache["key"] = [1]
        for copy in pickle.loads(data):
            assert copy.info() == (reader if copy.info().read_only else cache).info()
            copy.close()
        copy = pickle.loads(data)[0]
        assert type(copy) is Cache and copy["key"] == [1]
        copy.close()
    with pytest.raises(errors.ClosedError):
        pickle.dumps(cache)
    monkeypatch.setenv("MEMSTREAM_NAME", segment.name)
    with Cache() as last:
        last.destroy()
    with pytest.raises(errors.NoSegment):
        pickle.loads(data)


def test_views_and_reservations_do_not_travel(cache: Cache) -> None:
    cache["key"] = b"value"
    for held in (cache.view("key"), cache.reserve("other", 5)):
        with pytest.raises((TypeError, ValueError), match="pickle"):
            pickle.dumps(held)


# ---- forks at bad moments ----


@pytest.fixture
def busy_threads(cache: Cache) -> Iterator[None]:
    """Threads that read, write, view and scan all the time."""
    ends = threading.Event()
    cache["shared"] = b"x" * 100_000

    def work(number: int) -> None:
        while not ends.is_set():
            cache[f"key{number}"] = b"y" * 5000
            cache.get("shared")
            with cache.view("shared") as memory:
                assert memory[0] == 120
            sum(1 for _ in cache.scan())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    yield
    ends.set()
    for thread in threads:
        thread.join()


def test_a_fork_while_threads_are_in_calls(cache: Cache, busy_threads: None, in_child: Callable[..., int]) -> None:
    def child() -> int:
        for number in range(20):
            cache[f"child{number}"] = b"z" * 5000
            assert cache[f"child{number}"] == b"z" * 5000 and len(cache["shared"]) == 100_000
            with cache.view("shared") as memory:
                assert memory.nbytes == 100_000
        return 0

    for _ in range(15):
        assert in_child(child) == 0


def test_a_fork_in_the_middle_of_everything(cache: Cache, in_child: Callable[..., int]) -> None:
    cache.update({f"key{number}": b"value" for number in range(300)})
    scan = cache.scan()
    next(scan)
    view, room = cache.view("key1"), cache.reserve("room", 5)
    room.memory[:] = b"12345"

    def child() -> int:
        with pytest.raises(ValueError):
            view.memory[0]
        with pytest.raises(ValueError):
            room.memory[0] = 0
        with pytest.raises(errors.BadHandle):
            room.commit()
        room.abort()
        view.release()
        assert 1 + sum(1 for _ in scan) == 300
        with cache.reserve("child", 3) as memory:
            memory[:] = b"abc"
        cache.close()
        return 0

    assert in_child(child) == 0
    assert cache["child"] == b"abc" and pins(cache) == 2 and view.memory == b"value"
    room.commit()
    view.release()
    assert cache["room"] == b"12345" and sum(1 for _ in scan) >= 299


def test_a_child_may_outlive_its_parent(cache: Cache, segment: Segment) -> None:
    code = (
        "import memstream, os, time; c = memstream.Cache(); c['key'] = b'value'; v = c.view('key'); p = os.getpid()\n"
        "if os.fork(): os._exit(0)\n"
        "while os.getppid() == p: time.sleep(0.001)\n"
        "assert c['key'] == b'value'; v.release(); c.close(); memstream.Cache()['done'] = b'yes'"
    )
    segment.code(code)
    deadline = time.monotonic() + 10
    while cache.get("done") is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert cache["done"] == b"yes"


# ---- event loops ----


def loops() -> List[Any]:
    found: List[Any] = [pytest.param(asyncio.new_event_loop, id="asyncio")]
    if importlib.util.find_spec("uvloop"):
        import uvloop  # The import at the top would need it everywhere.

        return found + [pytest.param(uvloop.new_event_loop, id="uvloop")]
    reason = "uvloop is not installed (Debian: python3-uvloop)"
    return found + [pytest.param(None, id="uvloop", marks=pytest.mark.skip(reason=reason))]


@pytest.mark.parametrize("new_loop", loops())
def test_coroutines_use_a_cache_beside_each_other(cache: Cache, new_loop: Callable[[], Any]) -> None:
    async def work(number: int) -> int:
        loop = asyncio.get_running_loop()
        for turn in range(20):
            cache[f"key{number}"] = b"%d" % turn
            await asyncio.sleep(0)
            assert await loop.run_in_executor(None, cache.get, f"key{number}") == b"%d" % turn
            with cache.view(f"key{number}") as memory:
                await asyncio.sleep(0)
                assert memory == b"%d" % turn
        return number

    async def everything() -> List[int]:
        return list(await asyncio.gather(*(work(number) for number in range(10))))

    loop = new_loop()
    try:
        assert loop.run_until_complete(everything()) == list(range(10))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


# ---- a server that forks ----

APPLICATION = """
import json, os, memstream
cache = memstream.Cache()
cache["master"] = str(os.getpid()).encode()
view = cache.view("master")
array = memoryview(view.memory)

def application(environment, start_response):
    try:
        view.memory[0]
        released = False
    except ValueError:
        released = True
    answer = {"pid": os.getpid(), "master": cache["master"].decode(), "hits": cache.incr("hits", initial=0),
              "released": released}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
"""


class Gunicorn:
    """A server on a Unix socket."""

    def __init__(self, segment: Segment, folder: Path, application: str, *options: str) -> None:
        (folder / "application.py").write_text(application)
        self.socket = str(folder / "socket")
        self.process = segment.start(
            "-m",
            "gunicorn",
            "--preload",
            # A worker that is told to end before it listens to signals is not told again, only killed after this time.
            "--graceful-timeout",
            "5",
            *options,
            "--bind",
            f"unix:{self.socket}",
            "application",
            cwd=folder,
        )
        deadline = time.monotonic() + 20
        while not self._listens() and time.monotonic() < deadline:
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.01)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(self.socket) == 0

    def get(self, path: str = "/") -> Any:
        """Asks once; returns the parsed answer."""
        connection = http.client.HTTPConnection("localhost", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(20)
        connection.sock.connect(self.socket)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            assert response.status == 200, response.read()
            return json.loads(response.read())
        finally:
            connection.close()

    def stop(self) -> None:
        """Ends the server and its workers."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0, self.process.communicate()


def test_gunicorn_with_preload(cache: Cache, segment: Segment, tmp_path: Path) -> None:
    pytest.importorskip("gunicorn", reason="gunicorn is not installed (Debian: python3-gunicorn)")
    server = Gunicorn(segment, tmp_path, APPLICATION, "--workers", "3")
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: server.get(), range(60)))
    assert sorted(answer["hits"] for answer in answers) == list(range(1, 61))
    assert {answer["master"] for answer in answers} == {str(server.process.pid)}
    workers = {answer["pid"] for answer in answers}
    assert server.process.pid not in workers and all(answer["released"] for answer in answers)
    os.kill(next(iter(workers)), signal.SIGKILL)
    assert [server.get()["hits"] for _ in range(5)] == list(range(61, 66))
    assert {process.pid: process.pins for process in cache.processes()}[server.process.pid] == 1
    server.stop()
    assert [process.pid for process in cache.processes()] == [os.getpid()]


# ---- the end of the interpreter ----

ENDINGS = ["", "raise SystemExit(0)", "cache.close()", "del cache, view", "sys.modules.clear()", "os._exit(0)"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_interpreter_ends_with_live_views(segment: Segment, ending: str) -> None:
    code = f"""
import os, sys, threading, time
from memstream import Cache
try:
    import numpy
except ImportError:
    numpy = None
cache = Cache()
cache["key"] = bytes(100_000)
view = cache.view("key")
part, room = view.memory[10:20], cache.reserve("other", 100)
if numpy:
    cache.put_array("array", numpy.arange(1000))
    array = cache.array("array")[3:]
class Late:
    def __del__(self):
        assert bytes(self.memory) == bytes(10)
late = Late()
late.memory = part
late.circle = late
threading.Thread(target=lambda: [cache.get("key") for _ in iter(int, 1)], daemon=True).start()
time.sleep(0.01)
{ending}
"""
    # With a tracer in the thread that never ends, the interpreter takes up to a minute to end.
    done = segment.run("-c", code, env=segment.unmeasured)
    assert done.returncode == 0, done.stderr.decode()
    with Cache() as cache:
        assert [process.pid for process in cache.processes()] == [os.getpid()]
        cache.clear()
        assert cache.stats().pinned_memory == 0


def test_a_killed_process_holds_nothing_after_a_second(cache: Cache, segment: Segment) -> None:
    code = """
import sys, time, memstream
cache = memstream.Cache()
views = [cache.view("key") for _ in range(100)]
rooms = [cache.reserve(f"room{number}", 10_000) for number in range(10)]
print("ready", flush=True)
time.sleep(60)
"""
    cache["key"] = b"value" * 10_000
    child = segment.start("-c", code)
    assert child.stdout is not None and child.stdout.readline() == b"ready\n"
    cache["key"] = b"other"
    child.kill()
    child.wait()
    started = time.monotonic()
    for number in range(10):
        cache[f"room{number}"] = b"mine"
    assert [process.pid for process in cache.processes()] == [os.getpid()]
    assert cache.stats().pinned_memory == 0
    assert time.monotonic() - started < 10
