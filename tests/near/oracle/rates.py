"""How many gets a second eight processes make: of redis-py alone, and through the near cache."""

from __future__ import annotations

import gc
import os
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import redis
from redis_servers import Single, end_with_parent, until

from memstream import Cache, destroy
from memstream.errors import NoSegment
from memstream.redis import NearCache

PROCESSES = 8
_HOT = 1000
_VALUE = b"x" * 100
_MIB = 1024 * 1024


class Rate(NamedTuple):
    """What the processes did together."""

    gets_per_second: float
    misses_percent: float


def measure(folder: Path, seconds: float) -> dict[str, Rate]:
    """Measures on a Redis of its own, on a Unix socket. Misses are of keys that nobody has read: none is merged."""
    server = Single(folder)
    segment = f"near-rates-{os.getpid()}"
    try:
        client = server.client()
        _store(client, [f"hot:{number}" for number in range(_HOT)])
        found = {"redis-py": _together(lambda place: _plain(server), seconds)}
        with Cache(segment, size=256 * _MIB) as cache, NearCache(server.client(), cache=cache) as near:
            until(lambda: (near.stats().lag or 1.0) < 0.4, "the start of the agent")
            for share in (0.0, 0.01, 0.05):
                # As many as can be asked for in the time, for each process keys of its own.
                count = 0 if share == 0 else int(4000 * seconds)
                _store(
                    client, [f"cold:{share}:{place}:{index}" for place in range(PROCESSES) for index in range(count)]
                )
                time.sleep(0.3)  # The echo of the writes.
                name = f"near cache, {100 - share * 100:.0f} % hits"
                found[name] = _together(lambda place: _near(server, segment, share, place, count), seconds)
        return found
    finally:
        try:
            destroy(segment)
        except NoSegment:
            pass
        server.end()


def _store(client: Any, names: list[str]) -> None:
    for begin in range(0, len(names), 1000):
        client.mset({name: _VALUE for name in names[begin : begin + 1000]})


def _plain(server: Single) -> Callable[[float], tuple[int, int]]:
    client = server.client(client_class=redis.Redis)
    client.get("hot:0")

    def run(end: float) -> tuple[int, int]:
        done = 0
        while time.monotonic() < end:
            for number in range(100):
                client.get(f"hot:{number}")
            done += 100
        return done, done

    return run


def _near(server: Single, segment: str, share: float, place: int, count: int) -> Callable[[float], tuple[int, int]]:
    near = NearCache(server.client(client_class=redis.Redis), cache=Cache(segment, size=256 * _MIB))
    hot = [f"hot:{number}" for number in range(_HOT)]
    for name in hot:
        near.get(name)
    misses = int(1000 * share)

    def run(end: float) -> tuple[int, int]:
        done, cold = 0, 0
        get = near.get
        while time.monotonic() < end and cold + misses <= count:
            for name in hot[misses:]:
                get(name)
            for index in range(cold, cold + misses):
                get(f"cold:{share}:{place}:{index}")
            cold += misses
            done += _HOT
        return done, cold

    return run


def _together(make: Callable[[int], Callable[[float], tuple[int, int]]], seconds: float) -> Rate:
    """Forks the processes, lets them begin at one instant, and adds up what they report."""
    results_read, results_write = os.pipe()
    begin_read, begin_write = os.pipe()
    ready_read, ready_write = os.pipe()
    children = []
    sys.stdout.flush()
    for place in range(PROCESSES):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                end_with_parent()
                run = make(place)
                os.write(ready_write, b"r")
                os.read(begin_read, 1)
                gc.disable()
                begun = time.monotonic()
                done, misses = run(begun + seconds)
                os.write(results_write, struct.pack("qqd", done, misses, time.monotonic() - begun))
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    try:
        for _ in children:
            os.read(ready_read, 1)
        os.write(begin_write, b"b" * PROCESSES)
        results = []
        for pid in children:
            _, status = os.waitpid(pid, 0)
            if status != 0:
                raise RuntimeError(f"a process that measures ended with status {status}")
            results.append(struct.unpack("qqd", os.read(results_read, struct.calcsize("qqd"))))
    finally:
        for descriptor in (results_read, results_write, begin_read, begin_write, ready_read, ready_write):
            os.close(descriptor)
    gets = sum(done for done, _, _ in results)
    misses = sum(missed for _, missed, _ in results)
    return Rate(sum(done / took for done, _, took in results), 100 * misses / max(1, gets))
