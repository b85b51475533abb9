"""The processes of a run: readers and writers of two nodes, and writers that know nothing of a near cache."""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import random
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.cluster
from history import ABSENT, DELETE, FAILED, NEVER, NO_NODE, STRANGE, WRITE, Recorder, make_value, version_in

from memstream import Cache
from memstream.errors import MemStreamError
from memstream.redis import AsyncNearCache, NearCache

# What Redis, or the way to it, may answer while faults are injected.
TROUBLE = (redis.RedisError, redis.exceptions.RedisClusterException, OSError, MemStreamError, asyncio.TimeoutError)

MIB = 1024 * 1024


class Settings(NamedTuple):
    """What all processes of a run know."""

    folder: Path
    servers: Any  # Single or Cluster.
    names: tuple[str, ...]  # Of the segments, one for each node.
    max_lag: float
    timeout: float
    keys: int
    slow_fetches: float  # How many of the fetches wait before they store.
    pace: float  # Seconds that a reader sleeps after a few reads.


class Board:
    """Memory that the processes of a run share: whether it goes on, who fetches, counts."""

    PLACES = 64
    _PLACE = struct.Struct("qqq")  # pid, whether it fetches, reads

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8 + self.PLACES * self._PLACE.size)

    @property
    def goes_on(self) -> bool:
        return self._memory[0] == 0

    def stop(self) -> None:
        self._memory[0] = 1

    def set(self, place: int, index: int, value: int) -> None:
        struct.pack_into("q", self._memory, 8 + place * self._PLACE.size + 8 * index, value)

    def get(self, place: int) -> tuple[int, int, int]:
        found = self._PLACE.unpack_from(self._memory, 8 + place * self._PLACE.size)
        return found[0], found[1], found[2]


def key_name(key: int) -> str:
    return f"oracle:{key}"


# ---- clients whose answers come late, now and then ----


def _slow(client_class: Any, share: float, note: Callable[[int], None]) -> Any:
    """Returns a class of clients that wait before they pass on what a pipeline has answered."""

    class Slow(client_class):  # type: ignore[misc]
        def pipeline(self, *arguments: Any, **options: Any) -> Any:
            made = super().pipeline(*arguments, **options)
            execute = made.execute

            def late(*rest: Any, **more: Any) -> Any:
                note(1)
                answers = execute(*rest, **more)
                if random.random() < share:
                    time.sleep(random.random() * 0.02)
                note(0)
                return answers

            made.execute = late
            return made

    return Slow


def _slow_async(client_class: Any, share: float) -> Any:
    """The same for redis.asyncio; a cluster is asked by single commands."""

    async def pause() -> None:
        if random.random() < share:
            await asyncio.sleep(random.random() * 0.02)

    class Slow(client_class):  # type: ignore[misc]
        async def execute_command(self, *arguments: Any, **options: Any) -> Any:
            answer = await super().execute_command(*arguments, **options)
            await pause()
            return answer

        def pipeline(self, *arguments: Any, **options: Any) -> Any:
            made = super().pipeline(*arguments, **options)
            execute = made.execute

            async def late(*rest: Any, **more: Any) -> Any:
                answers = await execute(*rest, **more)
                await pause()
                return answers

            made.execute = late
            return made

    return Slow


def _client(settings: Settings, node: int, client_class: Any) -> Any:
    """Returns the client of a process. The second node reaches a single Redis through the proxy."""
    return settings.servers.client(through_proxy=node == 1, client_class=client_class)


def open_near(settings: Settings, node: int, client: Any, near_class: Any = NearCache, agent: bool = True) -> Any:
    cache = Cache(settings.names[node], size=16 * MIB)
    options = {"max_lag": settings.max_lag, "timeout": settings.timeout, "agent": agent}
    return near_class(client, cache=cache, prefixes=["oracle:"], **options)


class _Persistent:
    """A client that is made again until that works: a cluster's client needs the cluster to be there."""

    def __init__(self, board: Board, make: Callable[[], Any]) -> None:
        while True:
            try:
                self.made = make()
                return
            except TROUBLE:
                if not board.goes_on:
                    raise SystemExit(0) from None
                time.sleep(0.05)


# ---- the roles ----


def read(settings: Settings, board: Board, place: int, node: int, recorder: Recorder) -> None:
    """Reads keys of all writers, hot ones more often, by `get` and sometimes by `get_many`."""
    base = redis.cluster.RedisCluster if settings.servers.is_cluster else redis.Redis
    client_class = _slow(base, settings.slow_fetches, lambda value: board.set(place, 1, value))
    client = _Persistent(board, lambda: _client(settings, node, client_class)).made
    near = open_near(settings, node, client)
    reads = 0
    while board.goes_on:
        for _ in range(20):
            begin = time.monotonic_ns()
            keys = random.sample(range(settings.keys), 4 if random.random() < 0.05 else 1)
            try:
                if len(keys) == 1:
                    values = {key_name(keys[0]): near.get(key_name(keys[0]))}
                else:
                    values = near.get_many([key_name(key) for key in keys])
            except TROUBLE:
                recorder.add(FAILED, keys[0], ABSENT, begin, time.monotonic_ns(), 1)
                time.sleep(0.01)
                continue
            end = time.monotonic_ns()
            for key in keys:
                note_read(recorder, key, values.get(key_name(key)), begin, end)
            reads += len(keys)
        recorder.flush()
        board.set(place, 2, reads)
        time.sleep(settings.pace)
    near.close()


def note_read(recorder: Recorder, key: int, value: Any, begin: int, end: int) -> None:
    version = version_in(key, value)
    if version is None:
        recorder.add(STRANGE, key, ABSENT, begin, end)
    else:
        recorder.read(key, version, begin, end)


def read_async(settings: Settings, board: Board, place: int, node: int, recorder: Recorder) -> None:
    """The same by coroutines of one event loop."""
    asyncio.run(_read_async(settings, board, place, node, recorder))


async def _read_async(settings: Settings, board: Board, place: int, node: int, recorder: Recorder) -> None:
    base = redis.asyncio.cluster.RedisCluster if settings.servers.is_cluster else redis.asyncio.Redis
    near = open_near(settings, node, _client(settings, node, _slow_async(base, settings.slow_fetches)), AsyncNearCache)
    reads = 0

    async def walk() -> None:
        nonlocal reads
        while board.goes_on:
            for _ in range(10):
                key = random.randrange(settings.keys)
                begin = time.monotonic_ns()
                try:
                    value = await near.get(key_name(key))
                except TROUBLE:
                    recorder.add(FAILED, key, ABSENT, begin, time.monotonic_ns(), 1)
                    await asyncio.sleep(0.01)
                    continue
                note_read(recorder, key, value, begin, time.monotonic_ns())
                reads += 1
            recorder.flush()
            board.set(place, 2, reads)
            await asyncio.sleep(settings.pace)

    await asyncio.gather(*(walk() for _ in range(4)))
    near.close()
    await near.client.close()


def write(
    settings: Settings, board: Board, place: int, node: int, recorder: Recorder, keys: list[int], first: int
) -> None:
    """Writes keys that no other process writes; a node's writer reads each back immediately."""
    base = redis.cluster.RedisCluster if settings.servers.is_cluster else redis.Redis
    client = _Persistent(board, lambda: _client(settings, max(node, 0), base)).made
    near = None if node == NO_NODE else open_near(settings, node, client)
    version = first
    while board.goes_on:
        key = keys[int(len(keys) * random.random() ** 3)]  # The first ones often, the last ones seldom.
        name = key_name(key)
        for _ in range(random.choice((1, 1, 2, 4))):
            version += 1
            deletes = random.random() < 0.1
            ttl = random.randrange(200, 1500) if random.random() < 0.2 else None
            begin = time.monotonic_ns()
            kind, ttl_ns = DELETE if deletes else WRITE, (ttl or 0) * 1_000_000
            # First that it may happen: the writer may be killed before it can say that it did.
            recorder.add(kind, key, version, begin, NEVER, ttl_ns)
            try:
                if near is not None:
                    if deletes:
                        near.delete(name)
                    else:
                        near.set(name, make_value(key, version), ttl=None if ttl is None else ttl / 1000)
                elif deletes:
                    client.delete(name)
                else:
                    client.set(name, make_value(key, version), px=ttl)
                end = time.monotonic_ns()
            except TROUBLE:
                end = NEVER
            if end != NEVER:
                recorder.add(kind, key, version, begin, end, ttl_ns)
            if end == NEVER:
                time.sleep(0.02)
            elif near is not None:
                begin = time.monotonic_ns()
                try:
                    note_read(recorder, key, near.get(name), begin, time.monotonic_ns())
                except TROUBLE:
                    recorder.add(FAILED, key, ABSENT, begin, time.monotonic_ns(), 1)
                recorder.flush()
            time.sleep(random.random() * 0.01)
        time.sleep(random.random() * 0.06)
    if near is not None:
        near.close()


def start(settings: Settings, board: Board, place: int, node: int, role: Callable[..., None], *rest: Any) -> int:
    """Forks a process with a role. Its place on the board has its pid."""
    from redis_servers import end_with_parent

    pid = os.fork()
    if pid:
        board.set(place, 0, pid)
        board.set(place, 1, 0)
        return pid
    code = 1
    try:
        end_with_parent()
        logging.disable()  # redis-py writes each redirection there, with a traceback.
        random.seed()
        path = settings.folder / f"{os.getpid()}.records"
        role(settings, board, place, node, Recorder(path, node), *rest)
        code = 0
    except BaseException:
        import traceback

        (settings.folder / f"{os.getpid()}.error").write_text(traceback.format_exc())
    finally:
        os._exit(code)
