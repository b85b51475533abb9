"""What is done to processes, connections and servers while readers and writers go on."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import redis
from history import ABSENT, ALL_KEYS, DOUBT, ERASE_ALL, Recorder
from redis_servers import until
from workers import Board, Settings, key_name


class Crew(Protocol):
    """The processes of a run, as far as faults need them."""

    settings: Settings
    board: Board

    def reader_places(self) -> list[int]:
        """Returns the places of readers that fetch by themselves."""

    def replace(self, place: int) -> None:
        """Kills the process of a place, and starts another one."""

    def agent_place(self, node: int) -> int:
        """Returns the place of the process that has a node's agent; -1: it is none of the run."""


class Faults:
    """The faults that can be injected, by name."""

    def __init__(self, crew: Crew, recorder: Recorder) -> None:
        self._crew = crew
        self._recorder = recorder
        self._servers: Any = crew.settings.servers
        self._stop_time = crew.settings.max_lag + 0.4
        self.done: Counter[str] = Counter()
        common: dict[str, Callable[[], None]] = {
            "kill-reader": self._kill_reader,
            "kill-agent": self._kill_agent,
            "stop-agent": self._stop_agent,
            "client-kill": self._client_kill,
            "flushall": lambda: self._flush("FLUSHALL"),
            "flushdb": lambda: self._flush("FLUSHDB"),
        }
        single: dict[str, Callable[[], None]] = {
            "black-hole": self._black_hole,
            "stop-redis": self._stop_redis,
            "restart-redis": self._restart_redis,
        }
        cluster: dict[str, Callable[[], None]] = {
            "move-slot": self._move_slot,
            "failover": self._failover,
            "kill-master": self._kill_master,
        }
        self.known = {**common, **(cluster if self._servers.is_cluster else single)}

    def inject(self, name: str) -> None:
        self.known[name]()
        self.done[name] += 1

    # ---- processes ----

    def _kill_reader(self) -> None:
        """A reader in the middle of a fetch, if there is one soon."""
        end = time.monotonic() + 0.5
        places = self._crew.reader_places()
        fetching: list[int] = []
        while not fetching and time.monotonic() < end:
            fetching = [place for place in places if self._crew.board.get(place)[1]]
        self._crew.replace(random.choice(fetching or places))

    def _agent(self) -> int:
        nodes = [0, 1]
        random.shuffle(nodes)
        found = -1

        def is_found() -> bool:
            nonlocal found
            found = max(self._crew.agent_place(nodes[0]), self._crew.agent_place(nodes[1]))
            return found >= 0

        until(is_found, "an agent", 10)
        return found

    def _kill_agent(self) -> None:
        self._crew.replace(self._agent())

    def _stop_agent(self) -> None:
        pid = self._crew.board.get(self._agent())[0]
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self._stop_time)
        os.kill(pid, signal.SIGCONT)

    # ---- connections ----

    def _client_kill(self) -> None:
        for master in self._servers.masters():
            master.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    def _black_hole(self) -> None:
        os.kill(self._servers.proxy, signal.SIGSTOP)
        time.sleep(self._stop_time)
        os.kill(self._servers.proxy, signal.SIGCONT)

    # ---- servers ----

    def _flush(self, command: str) -> None:
        begin = time.monotonic_ns()
        masters = self._servers.masters()
        for master in masters:
            master.execute_command(command)
        self._erased(begin)

    def _erased(self, begin: int) -> None:
        self._recorder.add(ERASE_ALL, ALL_KEYS, ABSENT, begin, time.monotonic_ns())

    def _stop_redis(self) -> None:
        self._servers.server.send_signal(signal.SIGSTOP)
        time.sleep(self._stop_time)
        self._servers.server.send_signal(signal.SIGCONT)

    def _restart_redis(self) -> None:
        begin = time.monotonic_ns()
        self._servers.server.kill()
        time.sleep(random.random() * 0.5)
        self._servers.server.start()
        self._servers.await_answers()
        self._erased(begin)

    def _move_slot(self) -> None:
        key = random.randrange(self._crew.settings.keys)
        slot = self._servers.node(self._servers.ports[0]).execute_command("CLUSTER", "KEYSLOT", key_name(key))
        self._servers.move_slot(int(slot))

    def _a_master(self) -> int:
        ports: list[int] = [port for port, role in self._servers.roles().items() if role == "master"]
        return random.choice(ports)

    def _failover(self) -> None:
        """A planned one: it loses nothing."""
        replica = self._servers.replica_of(self._a_master())
        self._servers.node(replica).execute_command("CLUSTER", "FAILOVER")
        until(lambda: self._servers.roles().get(replica) == "master", "a failover")
        self._servers.await_answers()

    def _kill_master(self) -> None:
        """What was written just before may be lost, and the oracle takes that into account."""
        master = self._a_master()
        replica = self._servers.replica_of(master)
        begin = time.monotonic_ns() - 500_000_000
        self._servers.servers[master].kill()

        def has_taken_over() -> bool:
            try:
                return bool(self._servers.node(replica).info("replication")["role"] == "master")
            except redis.RedisError:
                return False

        until(has_taken_over, "a failover", 30)
        self._recorder.add(DOUBT, ALL_KEYS, ABSENT, begin, time.monotonic_ns())
        self._servers.servers[master].start()
        self._servers.await_answers()
