"""memstream near, the agent of a near cache as a program, and what the command shows of a near cache."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest
from prometheus_client.parser import text_string_to_metric_families
from test_cli import COMMAND, Shell

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None or not COMMAND.with_name("libmemstream_near.so").exists(),
    reason="needs redis-server, and a build with hiredis",
)


@pytest.fixture(name="shell")
def make_shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.setenv("MEMSTREAM_NAME", f"near-{os.getpid()}")
    shell = Shell(f"near-{os.getpid()}")
    yield shell
    shell.run("rm", "--yes")


class Redis:
    """A Redis of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = str(folder / "socket")
        self.process: "subprocess.Popen[bytes]"
        self.start()

    def start(self) -> None:
        words = ["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "", "--dir", str(self.folder)]
        self.process = subprocess.Popen([*words, "--logfile", str(self.folder / "log")])
        wait_until(lambda: "PONG" in self.ask("PING"))

    def ask(self, *words: str) -> str:
        return subprocess.run(
            ["redis-cli", "-s", self.socket, *words], capture_output=True, text=True, check=False
        ).stdout

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(name="redis_server")
def make_redis(tmp_path: Path) -> Iterator[Redis]:
    server = Redis(tmp_path)
    yield server
    server.kill()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it does not become true"
        time.sleep(0.02)


class Agent:
    """`memstream near`, and the lines that it has logged."""

    def __init__(self, log: Path, *words: str, **environment: str) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [str(COMMAND), "near", *words],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "MEMSTREAM_SIZE": "16M", **environment},
            )

    def lines(self) -> List[str]:
        return self.log.read_text().splitlines()

    def wait_for(self, text: str, times: int = 1) -> None:
        wait_until(lambda: sum(text in line for line in self.lines()) >= times)

    def end(self, by: int = signal.SIGTERM) -> int:
        self.process.send_signal(by)
        return self.process.wait(timeout=20)


@pytest.fixture(name="agents")
def make_agents(tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    made: List[Agent] = []

    def start(*words: str, **environment: str) -> Agent:
        made.append(Agent(tmp_path / f"agent-{len(made)}.log", *words, **environment))
        return made[-1]

    yield start
    for agent in made:
        if agent.process.poll() is None:
            agent.process.kill()
            agent.process.wait()


def near_of(shell: Shell) -> Any:
    return shell.json("stat").get("near", {"servers": []})


def test_the_agent_logs_each_change_and_ends_cleanly(
    shell: Shell, redis_server: Redis, agents: Callable[..., Agent]
) -> None:
    words = ("--redis", f"unix:{redis_server.socket}", "--prefix", "user:", "--max-lag", "500ms")
    first = agents(*words)
    first.wait_for("following: this process is the agent")
    second = agents(*words, "--json")
    second.wait_for(f"process {first.process.pid} is the agent")
    assert {json.loads(line)["state"] for line in second.lines()} <= {"waiting", "connecting"}
    redis_server.ask("FLUSHALL")
    first.wait_for("epoch: 1 of them ended")
    assert first.end() == 0
    assert first.lines()[-1].endswith("ended: by SIGTERM")
    second.wait_for('"following"')
    redis_server.kill()
    second.wait_for(f"Redis at 'unix:{redis_server.socket}' cannot be followed")
    redis_server.start()
    second.wait_for('"following"', 2)
    assert second.end(signal.SIGINT) == 0
    assert near_of(shell)["servers"][0]["agent_pid"] == 0


def test_what_the_agent_cannot_do_is_named(shell: Shell, redis_server: Redis, agents: Callable[..., Agent]) -> None:
    del shell
    for words, message in (
        (["--max-lag", "5"], "Invalid --max-lag '5'"),
        (["--max-lag", "100ms"], "expected 250ms to 3600s"),
        (["--prefix", "a", "--prefix", "ab"], "Invalid prefix 'ab'"),
        (["--redis", "nowhere"], "Invalid redis 'nowhere'"),
        (["--redis", "\x1b[31m"], "Invalid redis '\\x1b[31m': expected HOST"),
        (["--redis", "x" * 5000], "xxx...' (5000 bytes): expected HOST"),
        (["--max-lag", "\x1b[31m"], "Invalid --max-lag '\\x1b[31m': expected"),
        (["--user", "\x1b[31m"], "Invalid --user '\\x1b[31m': expected"),
        (["--password-file", "/\x1b[31m"], "Invalid --password-file '/\\x1b[31m': expected"),
        (["--cluster", "--redis", "unix:/x"], "with commas between"),
        (["--user", "near"], "Invalid --user 'near'"),
        (["--password-file", "/dev/null"], "Invalid --password-file"),
    ):
        agent = agents(*words)
        assert agent.process.wait(timeout=20) == 2, agent.lines()
        assert message in agent.log.read_text()
    redis_server.ask("ACL", "SETUSER", "near", "on", ">secret", "~*", "+client|id")
    agent = agents("--redis", f"unix:{redis_server.socket}", "--user", "near", MEMSTREAM_NEAR_PASSWORD="secret")
    agent.wait_for("Add this rule to the user by ACL SETUSER: +client|tracking")
    redis_server.ask("ACL", "SETUSER", "near", "+client|tracking", "+subscribe", "+ping", "&__redis__:invalidate")
    agent.wait_for("following")


def test_stat_and_metrics_show_the_near_cache(shell: Shell, redis_server: Redis, agents: Callable[..., Agent]) -> None:
    shell.ok("put", "key", "x")
    assert "near" not in shell.json("stat")
    shell.ok("rm", "--yes")
    address = f"unix:{redis_server.socket}"
    agent = agents("--redis", address)
    agent.wait_for("following")
    wait_until(lambda: near_of(shell)["servers"][0]["lag_ms"] is not None)
    redis_server.ask("SET", "key", "value")
    wait_until(lambda: bool(near_of(shell)["servers"][0]["invalidations"] == 1))
    redis_server.ask("CLIENT", "KILL", "TYPE", "pubsub")
    wait_until(lambda: bool(near_of(shell)["servers"][0]["subscriptions"] == 2))
    near = near_of(shell)
    assert len(near["servers"]) == 1
    server = near["servers"][0]
    assert server["name"] == address[:48]
    assert (server["agent_pid"], server["epochs"]) == (agent.process.pid, 2)
    assert (near["hits"], near["fills"], near["errors"]) == (0, 0, 0)
    text = shell.ok("stat")
    assert f"agent {agent.process.pid}" in text and "2 subscriptions" in text
    samples = {
        sample.name: sample
        for family in text_string_to_metric_families(shell.ok("metrics"))  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.name.startswith("memstream_near_")
    }
    assert samples["memstream_near_agent_pid"].value == agent.process.pid
    assert samples["memstream_near_agent_pid"].labels["server"] == address[:48]
    assert samples["memstream_near_subscriptions_total"].value == 2
    assert samples["memstream_near_epochs_total"].value == 2
    assert samples["memstream_near_lag_seconds"].value < 5
    assert samples["memstream_near_hits_total"].value == 0


def test_stat_shows_what_readers_have_counted(shell: Shell, redis_server: Redis, agents: Callable[..., Agent]) -> None:
    redis = pytest.importorskip("redis")
    from memstream import Cache
    from memstream.redis import NearCache

    agents("--redis", f"unix:{redis_server.socket}").wait_for("following")
    client = redis.Redis(unix_socket_path=redis_server.socket)
    with Cache(shell.name) as cache:
        near = NearCache(client, cache=cache)
        wait_until(lambda: (near.stats().lag or 60) < 0.5)
        near.set("key", b"value")
        wait_until(lambda: near.get("key") == b"value" and near.stats().hits >= 3)
        counted = near.stats()
        near.close()
    shown = near_of(shell)
    assert shown["hits"] >= counted.hits
    assert shown["fills"] >= 1
