"""What the tests of near caches share: a Redis of the tests' own on a Unix socket."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from ctypes.util import find_library
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from memstream._core import near as native

redis = pytest.importorskip("redis", reason="redis-py is not installed (Debian: python3-redis)")

from memstream.redis import NearCache  # noqa: E402  It needs redis-py.

SERVER = shutil.which("redis-server")


class Server:
    """A Redis on a Unix socket in a folder of its own."""

    def __init__(self, *options: str) -> None:
        self.folder = tempfile.mkdtemp(prefix="near-redis-")
        self.socket = f"{self.folder}/redis.sock"
        self.url = f"unix://{self.socket}"
        self.options = options
        self.process: Optional["subprocess.Popen[bytes]"] = None
        self.start()

    def start(self) -> None:
        command = [str(SERVER), "--port", "0", "--unixsocket", self.socket, "--save", "", "--dir", self.folder]
        self.process = subprocess.Popen([*command, *self.options], stdout=subprocess.DEVNULL)
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

    def start_if_killed(self) -> None:
        """For the next test, when one that killed it failed before it started it again."""
        if self.process is None or self.process.poll() is not None:
            self.start()

    def end(self) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def calls_of(self, command: str) -> int:
        found = self.client().info("commandstats").get(f"cmdstat_{command}", {"calls": 0})
        return int(found["calls"])


def becomes_true(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether it is true within this time, or right after it if this process got no processor meanwhile."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return condition()


def is_current(near: Any) -> bool:
    lag = near.stats().lag
    return lag is not None and lag < 0.4


def have(near: NearCache, key: str, value: bytes) -> None:
    """Stores a value and waits until it is a copy. The echo of the write, which ends a copy, is heard before."""
    near.set(key, value)
    written = time.monotonic()

    def has_heard() -> bool:
        now, lag = time.monotonic(), near.stats().lag
        return lag is not None and now - lag > written

    def is_hit() -> bool:
        hits = near.stats().hits
        return near.get(key) == value and near.stats().hits > hits

    assert becomes_true(has_heard)
    assert becomes_true(is_hit)


def need_server() -> None:
    if SERVER is None:
        pytest.skip("there is no redis-server (Debian: redis-server)")


def need_library(library: Path) -> None:
    if not library.with_name(native.FILE_NAME).exists() and find_library("hiredis") is None:
        pytest.skip("there is no libmemstream_near.so: hiredis is not installed (Debian: libhiredis-dev)")
