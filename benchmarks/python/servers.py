"""Stores behind a Unix socket: memcached, Redis, and the manager of multiprocessing. Each has a server of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any, Optional

import pylibmc
import redis

from contender import Contender, Session
from crowd import follow_parent
from data import DataSet

_PATIENCE_SECONDS = 10.0
_MEMORY_MB = 1024


class ServerFailed(Exception):
    """A server that did not start; the text says which."""


class Server:
    """A server process, from its start until it answers, to its end."""

    def __init__(self, command: list[str], path: Path) -> None:
        """Starts it.

        Args:
            command: the program and its arguments.
            path: of the socket at which it answers.

        Raises:
            ServerFailed: it is not installed, ended at once, or does not answer.
        """
        self._name = command[0]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                preexec_fn=follow_parent,
            )
        except FileNotFoundError:
            raise ServerFailed(f"{self._name} is not installed: scripts/setup.sh bench") from None
        try:
            self._wait(str(path))
        except BaseException:
            self.stop()
            raise

    def _wait(self, path: str) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(path) == 0:
                    return
            if self._process.poll() is not None:
                raise ServerFailed(f"{self._name} ended at once with exit code {self._process.returncode}")
            time.sleep(0.02)
        raise ServerFailed(f"{self._name} does not answer")

    def stop(self) -> None:
        """Ends it and waits for that."""
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Served(Contender):
    """What has a server of its own, at a socket in the scratch folder."""

    def __init__(self, scratch: Path) -> None:
        super().__init__(scratch)
        self._socket = scratch / f"{self.name}.socket"
        self._server: Optional[Server] = Server(self.command(), self._socket)

    def command(self) -> list[str]:
        """Returns the server's program and arguments."""
        raise NotImplementedError

    def close(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None


class Memcached(_Served):
    """pylibmc with the binary protocol, as its documentation advises."""

    name = "memcached"

    def command(self) -> list[str]:
        command = ["memcached", "-s", str(self._socket), "-a", "0777", "-m", str(_MEMORY_MB), "-M", "-I", "8m"]
        # It gives up being root, and says so if it cannot.
        return [*command, "-t", "2", *(["-u", "nobody"] if os.geteuid() == 0 else [])]

    def _connect(self) -> Any:
        return pylibmc.Client([str(self._socket)], binary=True)

    def fill(self, data: DataSet) -> None:
        client = self._connect()
        for key, value in data.pairs():
            client.set(key, value)
        client.disconnect_all()

    def open(self) -> Session:
        client = self._connect()
        return Session(client.get, client.set, client.get_multi)


class Redis(_Served):
    """redis-py, one request at a time; a hundred keys with MGET."""

    name = "redis"

    def command(self) -> list[str]:
        command = ["redis-server", "--port", "0", "--unixsocket", str(self._socket), "--save", "", "--appendonly", "no"]
        return [*command, "--dir", str(self.scratch), "--loglevel", "warning"]

    def _connect(self) -> Any:
        return redis.Redis(unix_socket_path=str(self._socket))

    def fill(self, data: DataSet) -> None:
        client = self._connect()
        for key, value in data.pairs():
            client.set(key, value)
        client.close()

    def open(self) -> Session:
        client = self._connect()
        return Session(client.get, client.set, client.mget, pairs=lambda result, keys: dict(zip(keys, result)))


class Manager(Contender):
    """`multiprocessing.Manager().dict()`: a dict in a server process in Python."""

    name = "manager-dict"

    def __init__(self, scratch: Path) -> None:
        super().__init__(scratch)
        self._manager = SyncManager(address=str(scratch / "manager.socket"))
        self._manager.start(follow_parent)
        self._values = self._manager.dict()

    def fill(self, data: DataSet) -> None:
        for key, value in data.pairs():
            self._values[key] = value

    def open(self) -> Session:
        return Session(self._values.get, self._values.__setitem__)

    def close(self) -> None:
        self._manager.shutdown()
