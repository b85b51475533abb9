"""Redis for a run: a single one on a Unix socket, or a cluster of three masters with replicas on loopback.

Whatever a server writes stays in the folder of the run.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Optional

import redis
import redis.cluster

SERVER = shutil.which("redis-server")
CLIENT = shutil.which("redis-cli")

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Of a child: it is killed when its parent ends, however that ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def until(condition: Callable[[], Any], what: str, seconds: float = 20) -> None:
    """Waits for a condition.

    Raises:
        TimeoutError: it does not become true.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not happen in {seconds:.0f} seconds")
        time.sleep(0.01)


def new_folder(prefix: str) -> Path:
    """A new folder for temporary files. Its path leaves room for the name of a Unix socket, of 107 bytes in all."""
    folder = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix=prefix, dir=folder if len(folder) <= 60 else "/tmp"))


class Server:
    """One redis-server. It keeps nothing on disk."""

    def __init__(self, folder: Path, options: Sequence[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._options = [*options, "--save", "", "--appendonly", "no", "--dir", str(folder), "--logfile", "log"]
        self._process: Optional[subprocess.Popen[bytes]] = None
        self.start()

    def start(self) -> None:
        assert SERVER is not None
        # Not what is preloaded into the processes of the run.
        environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        self._process = subprocess.Popen(
            [SERVER, *self._options], stdout=subprocess.DEVNULL, env=environment, preexec_fn=end_with_parent
        )

    def send_signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


class Single:
    """One Redis on a Unix socket, and a proxy in front of it that can delay and swallow."""

    is_cluster = False

    def __init__(self, folder: Path) -> None:
        self.socket = str(folder / "redis.sock")
        self.proxy_socket = str(folder / "proxy.sock")
        self.server = Server(folder / "redis", ["--port", "0", "--unixsocket", self.socket])
        self.await_answers()
        self.proxy = _start_proxy(self.proxy_socket, self.socket)
        until(lambda: os.path.exists(self.proxy_socket), "the start of the proxy")

    def await_answers(self) -> None:
        until(lambda: _answers(self.client()), "an answer of Redis")

    def client(self, through_proxy: bool = False, client_class: Any = redis.Redis, **options: Any) -> Any:
        path = self.proxy_socket if through_proxy else self.socket
        return client_class(unix_socket_path=path, socket_timeout=1.0, **options)

    def masters(self) -> list[Any]:
        return [self.client()]

    def end(self) -> None:
        os.kill(self.proxy, signal.SIGKILL)
        os.waitpid(self.proxy, 0)
        self.server.kill()


def _start_proxy(path: str, target: str) -> int:
    """Forks a process that passes bytes on between clients and a Redis. SIGSTOP makes it a black hole."""
    pid = os.fork()
    if pid == 0:
        try:
            end_with_parent()
            _run_proxy(path, target)
        finally:
            os._exit(1)
    return pid


def _run_proxy(path: str, target: str) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(128)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    others: dict[socket.socket, socket.socket] = {}

    def end(one: socket.socket) -> None:
        other = others.pop(one, None)
        selector.unregister(one)
        one.close()
        if other is not None:
            end(other)

    while True:
        for key, _ in selector.select():
            one: Any = key.fileobj
            if one is listener:
                client, _ = listener.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(target)
                except OSError:
                    client.close()
                    continue
                others[client], others[server] = server, client
                selector.register(client, selectors.EVENT_READ)
                selector.register(server, selectors.EVENT_READ)
            elif one in others:  # It may have ended with the other side.
                try:
                    data = one.recv(65536)
                    if data:
                        others[one].sendall(data)
                except OSError:
                    data = b""
                if not data:
                    end(one)


def free_ports(count: int) -> list[int]:
    """Returns ports on loopback that are free now, and whose cluster ports (10,000 higher) are."""
    found: list[int] = []
    for port in range(21000 + os.getpid() % 8000, 45000):
        try:
            for number in (port, port + 10000):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))
        except OSError:
            continue
        found.append(port)
        if len(found) == count:
            return found
    raise OSError("no free ports on 127.0.0.1 between 21000 and 45000")


class Cluster:
    """Three masters, each with a replica, on 127.0.0.1."""

    is_cluster = True

    def __init__(self, folder: Path) -> None:
        assert CLIENT is not None
        self.ports = free_ports(6)
        self.servers = {
            port: Server(
                folder / str(port),
                [
                    *("--port", str(port), "--bind", "127.0.0.1", "--cluster-enabled", "yes"),
                    *("--cluster-node-timeout", "1000", "--cluster-config-file", "nodes.conf"),
                    *("--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0"),
                ],
            )
            for port in self.ports
        }
        for port in self.ports:
            until(partial(self._node_answers, port), f"an answer of Redis on port {port}")
        addresses = [f"127.0.0.1:{port}" for port in self.ports]
        command = [CLIENT, "--cluster", "create", *addresses, "--cluster-replicas", "1", "--cluster-yes"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"redis-cli --cluster create failed: {done.stdout}{done.stderr}")
        self.await_answers()

    def _node_answers(self, port: int) -> bool:
        return _answers(self.node(port))

    def node(self, port: int) -> Any:
        return redis.Redis("127.0.0.1", port, socket_timeout=2.0)

    def roles(self) -> dict[int, str]:
        """Returns "master" or "slave" of each port that answers."""
        found = {}
        for port in self.ports:
            try:
                found[port] = str(self.node(port).info("replication")["role"])
            except redis.RedisError:
                pass
        return found

    def is_whole(self) -> bool:
        """Whether all nodes answer and agree that all slots are served, and each master has its replica."""
        try:
            for port in self.ports:
                if self.node(port).cluster("info").get("cluster_state") != "ok":
                    return False
            roles = self.roles()
            masters = [port for port, role in roles.items() if role == "master"]
            slots = self.node(self.ports[0]).execute_command("CLUSTER", "SLOTS")
            return (
                len(masters) == 3
                and all(len(entry) >= 4 for entry in slots)
                and all(
                    self.node(port).info("replication")["master_link_status"] == "up"
                    for port, role in roles.items()
                    if role == "slave"
                )
            )
        except (redis.RedisError, KeyError):
            return False

    def await_answers(self) -> None:
        until(self.is_whole, "a whole cluster", 40)

    def client(
        self, through_proxy: bool = False, client_class: Any = redis.cluster.RedisCluster, **options: Any
    ) -> Any:
        del through_proxy  # Nodes name each other: there is none in between.
        return client_class(host="127.0.0.1", port=self.ports[0], **options)

    def masters(self) -> list[Any]:
        return [self.node(port) for port, role in self.roles().items() if role == "master"]

    def replica_of(self, master: int) -> int:
        """Returns the port of a replica of the master on that port."""
        for port, role in self.roles().items():
            if role == "slave" and int(self.node(port).info("replication")["master_port"]) == master:
                return port
        raise LookupError(f"the master on port {master} has no replica")

    def move_slot(self, slot: int) -> None:
        """Moves a slot with its keys to another master, while clients use it."""
        entries = self.node(self.ports[0]).execute_command("CLUSTER", "SLOTS")
        source = next(entry[2] for entry in entries if entry[0] <= slot <= entry[1])
        target = next(entry[2] for entry in entries if entry[2][1] != source[1])
        source_id, target_id = source[2].decode(), target[2].decode()
        one, other = self.node(source[1]), self.node(target[1])
        other.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        one.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        while keys := one.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            one.execute_command("MIGRATE", "127.0.0.1", target[1], "", 0, 2000, "REPLACE", "KEYS", *keys)
        for node in (other, one):
            node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)

    def end(self) -> None:
        for server in self.servers.values():
            server.kill()
