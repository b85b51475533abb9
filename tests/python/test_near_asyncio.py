"""The near cache for clients of redis.asyncio: it never makes the event loop wait."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, AsyncIterator, Awaitable, Callable, Iterator, List

import pytest
from conftest import MIB, Segment

from memstream import Cache, errors

redis = pytest.importorskip("redis", reason="redis-py is not installed (Debian: python3-redis)")

import redis.asyncio  # noqa: E402
from near_redis import Server, is_current, need_library, need_server  # noqa: E402

from memstream.redis import AsyncNearCache, NearCache  # noqa: E402


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


class Slow(redis.asyncio.Redis):  # type: ignore[misc]
    """A client whose pipelines take a while."""

    seconds = 0.2

    def pipeline(self, *arguments: Any, **options: Any) -> Any:
        made = super().pipeline(*arguments, **options)
        execute = made.execute

        async def late() -> Any:
            answers = await execute()
            await asyncio.sleep(self.seconds)
            return answers

        made.execute = late
        return made


@asynccontextmanager
async def opened(server: Server, cache: Cache, client_class: Any = None, **options: Any) -> AsyncIterator[Any]:
    client = (client_class or redis.asyncio.Redis)(unix_socket_path=server.socket)
    await client.flushall()
    async with AsyncNearCache(client, cache=cache, max_lag=0.6, timeout=0.5, **options) as near:
        await becomes(lambda: is_current(near))
        yield near
    await client.close()


async def becomes(condition: Callable[[], Any], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if await found if isinstance(found, Awaitable) else found:
            return
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


async def have(near: Any, key: str, value: bytes) -> None:
    await near.set(key, value)

    async def is_hit() -> bool:
        hits = near.stats().hits
        return await near.get(key) == value and near.stats().hits > hits

    await becomes(is_hit)


@pytest.mark.parametrize("value", [b"value", b"", b"x" * 10_000, b"x" * 100_000], ids=len)
def test_a_value_is_fetched_once(server: Server, cache: Cache, value: bytes) -> None:
    async def run() -> None:
        async with opened(server, cache) as near:
            await have(near, "key", value)
            calls = server.calls_of("get")
            assert [await near.get(key) for key in ("key", b"key")] == [value, value]
            assert await near.get_many(["key", "absent"]) == {"key": value}
            assert await near.get("absent") is None and await near.get("absent", "default") == "default"
            assert server.calls_of("get") == calls + 1

    asyncio.run(run())


def test_coroutines_that_miss_one_key_ask_once_and_hold_nobody_up(server: Server, cache: Cache) -> None:
    async def run() -> None:
        async with opened(server, cache, Slow) as near:
            server.client().set("slow", "value")
            await asyncio.sleep(0.05)  # The echo of the write.
            calls = server.calls_of("get")
            ticks: List[float] = []

            async def tick() -> None:
                while True:
                    ticks.append(time.monotonic())
                    await asyncio.sleep(0.005)

            ticking = asyncio.create_task(tick())
            assert await asyncio.gather(*(near.get("slow") for _ in range(10))) == [b"value"] * 10
            ticking.cancel()
            assert server.calls_of("get") == calls + 1
            assert len(ticks) > 10  # Had one of them blocked, the loop would have stood for 0.2 s.

    asyncio.run(run())


def test_writes_are_seen_at_once(server: Server, cache: Cache) -> None:
    async def run() -> None:
        async with opened(server, cache) as near:
            for number in range(20):
                await near.set("key", number)
                assert await near.get("key") == b"%d" % number
            assert await near.delete("key", "other") == 1 and await near.delete() == 0
            assert await near.get("key") is None
            await near.set("key", "short", ttl=0.05)
            await asyncio.sleep(0.08)
            assert await near.get("key") is None

    asyncio.run(run())


def test_a_fetch_that_is_cancelled_or_fails_keeps_nobody_waiting(server: Server, cache: Cache) -> None:
    async def run() -> None:
        async with opened(server, cache, Slow) as near:
            server.client().set("key", "value")
            server.client().rpush("list", 1)
            cancelled = asyncio.create_task(near.get("key"))
            await asyncio.sleep(0.05)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            Slow.seconds = 0.0
            begun = time.monotonic()
            assert await near.get("key") == b"value"
            for _ in range(2):
                with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
                    await near.get_many(["key", "list"])
            assert time.monotonic() - begun < 0.4
            Slow.seconds = 0.2

    asyncio.run(run())


def test_without_redis_it_fails_or_serves_what_is_stale(server: Server, cache: Cache) -> None:
    async def run() -> None:
        async with opened(server, cache, stale_on_error=True) as near:
            await have(near, "key", b"value")
            async with AsyncNearCache(near.client, cache=cache, max_lag=0.6, agent=False) as strict:
                server.kill()
                await asyncio.sleep(0.8)
                assert await near.get("key") == b"value" and near.stats().stale == 1
                for one, key in ((strict, "key"), (near, "never read")):
                    with pytest.raises(redis.ConnectionError):
                        await one.get(key)
                with pytest.raises(redis.ConnectionError):
                    await near.set("key", "lost")
                server.start()
                await becomes(lambda: is_current(near))
                assert await near.get("key") is None

    asyncio.run(run())


def test_a_memoized_coroutine_runs_once_on_this_machine(server: Server, cache: Cache) -> None:
    async def run() -> None:
        calls: List[int] = []
        async with opened(server, cache, prefixes=["memo:"]) as near:

            @near.memoize(ttl=60, prefix="memo:double:")
            async def double(number: int) -> int:
                calls.append(number)
                await asyncio.sleep(0.05)
                return 2 * number

            assert await asyncio.gather(*(double(2) for _ in range(5))) == [4] * 5
            assert calls == [2] and len(server.client().keys("memo:double:*")) == 1
            assert await double.refresh(2) == 4 and await double.forget(2) is True and await double(2) == 4
            assert calls == [2, 2, 2]
            with pytest.raises(TypeError, match="Use NearCache for plain ones"):
                near.memoize()(len)

    asyncio.run(run())


def test_other_clients_are_refused(server: Server, cache: Cache) -> None:
    with pytest.raises(TypeError, match="Use NearCache for a client without asyncio"):
        AsyncNearCache(server.client(), cache=cache)
    with pytest.raises(TypeError, match="Use AsyncNearCache for a client of asyncio"):
        NearCache(redis.asyncio.Redis(), cache=cache)
    with pytest.raises(errors.InvalidArgument, match="decode_responses"):
        AsyncNearCache(redis.asyncio.Redis(decode_responses=True), cache=cache)
    closed = AsyncNearCache(redis.asyncio.Redis(unix_socket_path=server.socket), cache=cache)
    closed.close()
    with pytest.raises(errors.ClosedError, match="Open a new one"):
        asyncio.run(closed.get("key"))
