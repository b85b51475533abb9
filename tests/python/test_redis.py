"""The near cache of Redis, with a Redis of the test's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Iterator, List, Optional

import pytest
from conftest import MIB, Segment

from memstream import Cache, errors
from memstream._core import near as native

redis = pytest.importorskip("redis", reason="redis-py is not installed (Debian: python3-redis)")

from near_redis import Server, becomes_true, have, is_current, need_library, need_server  # noqa: E402  They need it.

from memstream.integrations._near_upstream import upstream_of  # noqa: E402
from memstream.redis import NearCache  # noqa: E402


@pytest.fixture(scope="module")
def one_server() -> Iterator[Server]:
    need_server()
    started = Server()
    yield started
    started.end()


@pytest.fixture
def server(one_server: Server) -> Server:
    one_server.start_if_killed()
    return one_server


@pytest.fixture
def cache(segment: Segment, library: Path) -> Iterator[Cache]:
    need_library(library)
    with Cache(segment.name, size=16 * MIB) as opened:
        yield opened


@pytest.fixture
def near(server: Server, cache: Cache) -> Iterator[NearCache]:
    server.client().flushall()
    with NearCache(server.client(), cache=cache, max_lag=0.6, timeout=0.5) as opened:
        assert becomes_true(lambda: is_current(opened))
        yield opened


@pytest.mark.parametrize("value", [b"value", b"", b"x" * 100_000], ids=len)
def test_a_value_is_fetched_once_for_all(server: Server, cache: Cache, near: NearCache, value: bytes) -> None:
    have(near, "key", value)
    calls = server.calls_of("get")
    with NearCache(server.client(), cache=cache, max_lag=0.6) as other:
        assert other.get("key") == other.get(b"key") == value
        assert "key" in other
        assert other.stats().hits >= 3 and other.stats().fills == 0  # Twice for a large value.
    assert server.calls_of("get") == calls


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
    with pytest.raises(TypeError, match="a redis.Redis or a redis.cluster.RedisCluster"):
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
        with pytest.raises(errors.ClosedError, match="Open a new one"):
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
        assert upstream_of(client) == (*expected, False)


def test_a_library_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.LibraryError, match="scripts/build.sh"):
        native.load(str(tmp_path / "libcache.so"))


def test_processes_that_miss_one_key_ask_redis_once(server: Server, cache: Cache, segment: Segment) -> None:
    """Eight processes, with a Redis whose answer takes a while."""
    server.client().flushall()
    server.client().set("slow", "value")
    environment = {**os.environ, **segment.environment, "PYTHONPATH": os.pathsep.join(sys.path)}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", WAITING_CHILD, server.socket],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        for _ in range(8)
    ]
    try:
        for child in children:
            assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        calls = server.calls_of("get")
        tracking = server.client().info("clients")["tracking_clients"]
        for child in children:
            assert child.stdin is not None
            child.stdin.write(b"go\n")
            child.stdin.flush()
        # None ends before all have read: the copies of an agent that has gone are not served.
        for child in children:
            assert child.stdout is not None and child.stdout.readline() == b"b'value'\n"
        assert server.calls_of("get") == calls + 1
        assert tracking == 1  # One connection of the machine hears what changes.
    finally:
        for child in children:
            child.kill()
            child.communicate()


WAITING_CHILD = """
import sys, time, redis
from memstream import Cache
from memstream.redis import NearCache

class Slow(redis.Redis):
    def pipeline(self, *arguments, **options):
        made = super().pipeline(*arguments, **options)
        execute = made.execute
        def late():
            answers = execute()
            time.sleep(0.5)
            return answers
        made.execute = late
        return made

near = NearCache(Slow(unix_socket_path=sys.argv[1]), cache=Cache(), max_lag=5, timeout=5)
while near.stats().lag is None or near.stats().lag > 0.4:
    time.sleep(0.01)
print("ready", flush=True)
sys.stdin.readline()
print(near.get("slow"), flush=True)
sys.stdin.readline()
"""


def test_stale_copies_are_served_without_redis_only_if_that_is_chosen(server: Server, cache: Cache) -> None:
    options: Any = {"cache": cache, "max_lag": 3, "timeout": 0.5}
    with NearCache(server.client(), stale_on_error=True, **options) as near, NearCache(
        server.client(), agent=False, **options
    ) as strict:
        assert becomes_true(lambda: is_current(near))
        have(near, "key", b"value")
        have(near, "large", b"x" * 50_000)
        assert near.get("absent") is None
        server.kill()
        time.sleep(3.2)
        assert near.get("key") == b"value" and near.get("large") == b"x" * 50_000
        assert near.get_many(["key", "large"]) == {"key": b"value", "large": b"x" * 50_000}
        assert near.stats().stale == 4 and strict.stats().stale == 0
        for one, key in ((strict, "key"), (near, "never read")):
            with pytest.raises(redis.ConnectionError):
                one.get(key)
        with pytest.raises(redis.ConnectionError):
            near.get_many(["key", "never read"])
        server.start()
        assert becomes_true(lambda: is_current(near))
        assert near.get("key") is None


def test_results_of_functions_are_shared_and_computed_once(server: Server, cache: Cache) -> None:
    server.client().flushall()
    calls: List[int] = []
    with NearCache(server.client(), cache=cache, prefixes=["memo:"], max_lag=0.6, timeout=0.5) as near:
        assert becomes_true(lambda: is_current(near))

        @near.memoize(ttl=60, name="double", cache_if=lambda result: result > 0)
        def double(number: int) -> int:
            """Doubles it."""
            calls.append(number)
            time.sleep(0.05)
            return 2 * number

        threads = [threading.Thread(target=double, args=(2,)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert double(2) == 4 and calls == [2] and double.__doc__ == "Doubles it."
        (name,) = server.client().keys("memo:*")
        assert 0 < server.client().pttl(name) <= 60_000
        assert double(-1) == -2 and double(-1) == -2 and calls == [2, -1, -1]
        assert double.refresh(2) == 4 and double.forget(2) is True and double.forget(2) is False
        calls.clear()
        server.client().set(name, b"no pickle")
        assert becomes_true(lambda: near.get(name) == b"no pickle")
        assert double(2) == 4 and calls == [2]

        @near.memoize(wait=0.1)
        def fails() -> None:
            raise KeyError("no result")

        for _ in range(2):
            with pytest.raises(KeyError, match="no result"):
                fails()


def test_what_cannot_be_memoized_is_refused(server: Server, cache: Cache) -> None:
    async def coroutine() -> None:
        pass

    def generator() -> Iterator[int]:
        yield 1

    with NearCache(server.client(), cache=cache, prefixes=["memo:"]) as near:
        with pytest.raises(TypeError, match="Use AsyncNearCache for coroutine functions"):
            near.memoize()(coroutine)
        with pytest.raises(TypeError, match="Let it return a list"):
            near.memoize()(generator)
        with pytest.raises(errors.InvalidArgument, match="Use one of the prefixes of the near cache"):
            near.memoize(prefix="other:")
        for wait in (0, -1, 3601):
            with pytest.raises(errors.InvalidArgument, match="seconds above 0, up to 3600"):
                near.memoize(wait=wait)


def test_a_memoized_function_goes_on_without_the_segment(server: Server, cache: Cache, segment: Segment) -> None:
    with NearCache(server.client(), cache=cache, timeout=0.2) as near:

        @near.memoize(wait=5)
        def answer() -> int:
            return 42

        Cache(segment.name, size=16 * MIB).destroy()
        assert answer() == 42 and answer() == 42


def test_closing_while_others_read_harms_nobody(server: Server, cache: Cache) -> None:
    for _ in range(5):
        near = NearCache(server.client(), cache=cache, max_lag=0.6, timeout=0.5)
        ends: List[str] = []

        def read() -> None:
            try:
                while True:
                    near.get("key")
                    near.invalidate("key")
            except errors.ClosedError as error:
                ends.append(str(error))

        readers = [threading.Thread(target=read) for _ in range(4)]
        for reader in readers:
            reader.start()
        time.sleep(0.05)
        near.close()
        for reader in readers:
            reader.join(10)
        assert len(ends) == 4 and near.closed


def test_the_method_stays_a_method(near: NearCache) -> None:
    """Native code stands for it, and answers what is asked of it as the Python function does."""
    have(near, "key", b"value")
    bound = near.get
    assert bound("key") == b"value" and bound("key", default=None) == b"value" and near.get(key="key") == b"value"
    assert NearCache.get(near, "key") == b"value" and NearCache.get.__doc__.startswith("Returns the value of a key.")
    for wrong, error in ((1, TypeError), ("\ud800", UnicodeEncodeError), (bytearray(b"key"), TypeError)):
        with pytest.raises(error):
            near.get(wrong)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        near.get()  # type: ignore[call-arg]
    near.set("k" * 2000, b"too long for a copy")
    assert near.get("k" * 2000) == b"too long for a copy"
