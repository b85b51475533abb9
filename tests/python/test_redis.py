"""The near cache of Redis, with a Redis of the test's own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from ctypes.util import find_library
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional

import pytest
from conftest import MIB, Segment

from memstream import Cache, errors
from memstream._core import near as native

redis = pytest.importorskip("redis", reason="redis-py is not installed (Debian: python3-redis)")

from memstream.integrations.redis import _address_of  # noqa: E402  They need redis-py.
from memstream.redis import NearCache  # noqa: E402

SERVER = shutil.which("redis-server")


class Server:
    """A Redis on a Unix socket in a folder of its own."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="near-redis-")
        self.socket = f"{self.folder}/redis.sock"
        self.process: Optional["subprocess.Popen[bytes]"] = None
        self.start()

    def start(self) -> None:
        command = [str(SERVER), "--port", "0", "--unixsocket", self.socket, "--save", "", "--dir", self.folder]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        assert becomes_true(self.answers)

    def answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except redis.ConnectionError:
            return False

    def client(self, **options: Any) -> Any:
        return redis.Redis(unix_socket_path=self.socket, **options)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def end(self) -> None:
        self.kill()
        shutil.rmtree(self.folder)


def becomes_true(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def is_current(near: NearCache) -> bool:
    lag = near.stats().lag
    return lag is not None and lag < 0.4


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    if SERVER is None:
        pytest.skip("there is no redis-server (Debian: redis-server)")
    started = Server()
    yield started
    started.end()


@pytest.fixture
def cache(segment: Segment, library: Path) -> Iterator[Cache]:
    if not library.with_name(native.FILE_NAME).exists() and find_library("hiredis") is None:
        pytest.skip("there is no libmemstream_near.so: hiredis is not installed (Debian: libhiredis-dev)")
    with Cache(segment.name, size=16 * MIB) as opened:
        yield opened


@pytest.fixture
def near(server: Server, cache: Cache) -> Iterator[NearCache]:
    server.client().flushall()
    with NearCache(server.client(), cache=cache, max_lag=0.6, timeout=0.5) as opened:
        assert becomes_true(lambda: is_current(opened))
        yield opened


def have(near: NearCache, key: str, value: bytes) -> None:
    """Stores a value and waits until it is a copy: the echo of a write may end the first fetch after it."""
    near.set(key, value)

    def is_hit() -> bool:
        hits = near.stats().hits
        return near.get(key) == value and near.stats().hits > hits

    assert becomes_true(is_hit)


def calls_of_get(server: Server) -> int:
    return int(server.client().info("commandstats").get("cmdstat_get", {"calls": 0})["calls"])


@pytest.mark.parametrize("value", [b"value", b"", b"x" * 100_000], ids=len)
def test_a_value_is_fetched_once_for_all(server: Server, cache: Cache, near: NearCache, value: bytes) -> None:
    have(near, "key", value)
    calls = calls_of_get(server)
    with NearCache(server.client(), cache=cache, max_lag=0.6) as other:
        assert other.get("key") == other.get(b"key") == value
        assert "key" in other
        assert other.stats().hits >= 3 and other.stats().fills == 0  # Twice for a large value.
    assert calls_of_get(server) == calls


def test_absent_keys_are_remembered_until_they_are_written(server: Server, near: NearCache) -> None:
    assert near.get("absent") is None and near.get("absent", "default") == "default"
    assert near.stats().hits == 1
    server.client().set("absent", "present")
    assert becomes_true(lambda: near.get("absent") == b"present", 0.6)
    assert near.delete("absent", "another") == 1
    assert near.get("absent") is None
    assert near.delete() == 0


def test_own_writes_are_seen_at_once_and_live_as_long_as_in_redis(near: NearCache) -> None:
    for number in range(50):
        near.set("key", number)
        assert near.get("key") == str(number).encode()
    near.set("key", "short", ttl=0.06)
    assert near.get("key") == b"short"
    time.sleep(0.09)
    assert near.get("key") is None


def test_several_keys_are_fetched_in_one_pipeline(server: Server, near: NearCache) -> None:
    have(near, "here", b"0")
    server.client().mset({"a": "1", "b": "2"})
    assert near.get_many(["a", b"b", "here", "absent"]) == {"a": b"1", b"b": b"2", "here": b"0"}
    assert near.get_many([]) == {}


def test_a_change_during_a_fetch_is_not_lost(server: Server, cache: Cache) -> None:
    class Slow(redis.Redis):  # type: ignore[misc]
        """A client that is told when it is asked, and waits before it answers."""

        asked, may_answer = threading.Event(), threading.Event()

        def pipeline(self, *arguments: Any, **options: Any) -> Any:
            made = super().pipeline(*arguments, **options)
            execute = made.execute

            def late(*rest: Any) -> Any:
                answers = execute(*rest)
                self.asked.set()
                assert self.may_answer.wait(10)
                return answers

            made.execute = late
            return made

    server.client().set("key", "old")
    with NearCache(Slow(unix_socket_path=server.socket), cache=cache, max_lag=0.6, timeout=5) as near:
        assert becomes_true(lambda: is_current(near))
        got: List[Optional[bytes]] = []
        reader = threading.Thread(target=lambda: got.append(near.get("key")))
        reader.start()
        assert Slow.asked.wait(10)
        before = near.stats().invalidations
        server.client().set("key", "new")
        assert becomes_true(lambda: near.stats().invalidations > before)
        Slow.may_answer.set()
        reader.join()
        assert got == [b"old"]
        assert near.get("key") == b"new"
        assert near.stats().conflicts == 1


def test_a_fetch_that_fails_keeps_nobody_waiting(server: Server, cache: Cache, near: NearCache) -> None:
    server.client().rpush("list", 1)
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            near.get("list")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            near.get_many(["list", "other"])
        assert time.monotonic() - began < 0.4  # Not the time that callers wait for each other.


def test_all_resumes_when_redis_comes_again(server: Server, near: NearCache) -> None:
    have(near, "key", b"value")
    server.kill()
    assert near.get("key") == b"value"
    deadline = time.monotonic() + 1.5
    with pytest.raises(redis.ConnectionError):
        while time.monotonic() < deadline:
            near.get("key")
    with pytest.raises(redis.ConnectionError):
        near.set("key", "lost")
    assert becomes_true(lambda: near.stats().agent_error != "")
    server.start()
    assert near.get("key") is None
    have(near, "key", b"again")
    assert near.stats().epochs >= 2 and near.stats().agent_error == ""


CHILD = """
import sys, redis
from memstream import Cache
from memstream.redis import NearCache
near = NearCache(redis.Redis(unix_socket_path=sys.argv[1]), cache=Cache(), max_lag=0.6)
while not near.stats().is_agent: near.get("key")
print("agent", flush=True)
while True: near.get("key")
"""


def test_another_process_takes_the_role_of_a_killed_agent(server: Server, cache: Cache, segment: Segment) -> None:
    environment = {**os.environ, **segment.environment, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", CHILD, server.socket], stdout=subprocess.PIPE, env=environment)
    try:
        assert child.stdout is not None and child.stdout.readline() == b"agent\n"
        with NearCache(server.client(), cache=cache, max_lag=0.6) as near:
            assert becomes_true(lambda: is_current(near))
            have(near, "key", b"value")
            assert near.stats().agent_pid == child.pid and not near.stats().is_agent
            child.send_signal(signal.SIGKILL)
            server.client().set("key", "unheard")
            assert becomes_true(lambda: near.get("key") == b"unheard", 0.7)
            assert becomes_true(lambda: near.stats().is_agent)
            assert near.stats().agent_pid == os.getpid()
    finally:
        child.kill()
        child.communicate()


def test_a_forked_child_goes_on_without_an_agent(server: Server, near: NearCache) -> None:
    have(near, "key", b"value")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            near.set("child", "written")
            is_right = near.get("key") == b"value" and near.get("child") == b"written"
            near.close()
            code = 0 if is_right else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert near.get("child") == b"written" and near.stats().is_agent


def test_only_keys_of_the_prefixes_are_kept(server: Server, cache: Cache) -> None:
    with NearCache(server.client(), cache=cache, prefixes=["user:", "page:"], max_lag=0.6) as near:
        assert becomes_true(lambda: is_current(near))
        have(near, "user:1", b"1")
        near.set("other", "2")
        bypasses = near.stats().bypasses
        assert near.get("other") == near.get("other") == b"2"
        assert near.stats().bypasses == bypasses + 2


def test_what_cannot_be_a_near_cache_is_refused(server: Server, cache: Cache, segment: Segment) -> None:
    client = server.client()
    with pytest.raises(TypeError, match="no cluster and no client of asyncio"):
        NearCache(object(), cache=cache)
    with pytest.raises(TypeError, match="Pass a list"):
        NearCache(client, cache=cache, prefixes="user:")
    with pytest.raises(errors.InvalidArgument, match="decode_responses"):
        NearCache(server.client(decode_responses=True), cache=cache)
    with pytest.raises(errors.InvalidArgument, match="without TLS"):
        NearCache(redis.Redis(ssl=True), cache=cache)
    with pytest.raises(errors.InvalidArgument, match="max_lag_ms '100': expected 250"):
        NearCache(client, cache=cache, max_lag=0.1)
    with pytest.raises(errors.InvalidArgument, match="begins with no other prefix"):
        NearCache(client, cache=cache, prefixes=["a", "ab"])
    closed = NearCache(client, cache=cache)
    closed.close()
    closed.close()
    for call in (lambda: closed.get("key"), lambda: closed.invalidate("key"), closed.stats):
        with pytest.raises(errors.ClosedError, match="Open a new NearCache"):
            call()
    with Cache(f"{segment.name}-small", size=4 * MIB) as small:
        try:
            with pytest.raises(errors.InvalidArgument, match="at least 16 MiB"):
                NearCache(client, cache=small)
        finally:
            small.destroy()
    with pytest.raises(errors.ClosedError, match="Open a new Cache"):
        NearCache(client, cache=small)


def test_address_and_credentials_are_those_of_the_client() -> None:
    for client, expected in (
        (redis.Redis("127.0.0.1", 7000), ("127.0.0.1:7000", None, None)),
        (redis.Redis("::1"), ("[::1]:6379", None, None)),
        (redis.Redis.from_url("redis://user:secret@host:7000/0"), ("host:7000", b"user", b"secret")),
        (redis.Redis(unix_socket_path="/run/redis.sock"), ("unix:/run/redis.sock", None, None)),
    ):
        assert _address_of(client) == expected


def test_a_library_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.LibraryError, match="scripts/build.sh"):
        native.load(str(tmp_path / "libcache.so"))
