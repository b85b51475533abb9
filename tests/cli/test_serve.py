"""memstream serve and report: what they answer, what they refuse, and that all ways to a number give the same one."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple
from urllib.parse import quote, urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families
from test_cli import COMMAND, Shell, stopped_under_lock

SHAPE = Path(__file__).parent / "report_shape.json"
PATIENCE = 60  # Seconds after which a machine that is busy counts as one that hangs.


@pytest.fixture(name="shell")
def make_shell() -> Iterator[Shell]:
    shell = Shell(f"serve-{os.getpid()}")
    yield shell
    shell.run("rm", "--yes")


class Server:
    """`memstream serve` at a free port."""

    def __init__(self, shell: Shell, *words: str) -> None:
        environment = {**os.environ, "MEMSTREAM_NAME": shell.name, "MEMSTREAM_SIZE": "8M"}
        self.process = subprocess.Popen(
            [str(COMMAND), "serve", "--port", "0", "--seconds", "0.2", "--json", *words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        text = b""
        while not text.endswith(b"}\n"):
            line = self.process.stdout.readline()
            assert line, self.process.communicate()
            text += line
        said = json.loads(text)
        self.url, self.token = said["url"], said["token"]
        self.port = urlsplit(self.url).port
        assert self.port

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def ask(
        self, path: str, method: str = "GET", body: Optional[str] = None, **headers: str
    ) -> Tuple[int, Dict[str, str], str]:
        connection = self.connect()
        try:
            connection.request(method, path, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()
        finally:
            connection.close()

    def row_of(self, pid: int, /, **wanted: Any) -> Any:
        """The row of a process, as soon as a look finds it with these values."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for row in self.json("/api/report")["processes"]:
                if row["pid"] == pid and wanted.items() <= row.items():
                    return row
        raise AssertionError((pid, wanted, self.json("/api/report")["processes"]))

    def json(self, path: str, **headers: str) -> Any:
        status, _, text = self.ask(path, **headers)
        assert status == 200, (status, text)
        return json.loads(text)

    def refuses(self, status: int, path: str, method: str = "GET", body: Optional[str] = None, **headers: str) -> str:
        got, _, text = self.ask(path, method, body, **headers)
        assert got == status, (got, text)
        error: str = json.loads(text)["error"]
        return error

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        return code

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)


class Events:
    """The stream of a server, event by event."""

    def __init__(self, server: Server) -> None:
        self.connection = server.connect()
        self.connection.request("GET", "/api/events")
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200
        assert self.answer.getheader("Content-Type") == "text/event-stream"

    def next(self, wanted: str) -> Any:
        deadline = time.monotonic() + PATIENCE
        name = ""
        while time.monotonic() < deadline:
            line = self.answer.readline().decode().rstrip("\n")
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: ") and name == wanted:
                return json.loads(line[6:])
        raise AssertionError(f"no event {wanted}")

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()


def fill(shell: Shell, count: int = 1000) -> None:
    from memstream import Cache

    with Cache(shell.name, size=8 << 20) as cache:
        cache.set_many({f"user:{number}": b"x" * (number % 900 + 1) for number in range(count)})
        cache.set("img/large", b"y" * 50_000, ttl=3600)
        for number in range(300):
            cache.get(f"user:{number % 30}")
            cache.get(f"absent:{number}")
        cache.delete("user:1")


def shape_of(value: Any) -> Any:
    """Names of types in place of values. Of a list the first element stands for all. A sample may have met nothing."""
    if isinstance(value, dict) and {"count", "buckets"} <= set(value):
        return "histogram"
    if isinstance(value, dict) and set(value) == {"p50", "p99", "p999"}:
        return "latencies"
    if isinstance(value, dict):
        return {key: shape_of(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shape_of(value[0])] if value else []
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def test_every_way_to_a_number_gives_the_same_one(shell: Shell) -> None:
    from memstream import Cache

    fill(shell)
    with Server(shell) as server, Cache(shell.name) as cache:
        stat = shell.json("stat")
        served = server.json("/api/stat")
        # Each command that looks is a process of its own for that moment, and has its own instant.
        passing = {"time_ms", "processes"}
        assert {k: v for k, v in served.items() if k not in passing} == {
            k: v for k, v in stat.items() if k not in passing
        }
        samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(server.ask("/metrics")[2])  # type: ignore[no-untyped-call]
            for sample in family.samples
        }
        common = (("backend", stat["backend"]), ("cache", shell.name))

        def metric(name: str, **labels: str) -> float:
            return float(samples[name, tuple(sorted((*common, *labels.items())))])

        stats = cache.stats()
        for field in ("hits", "misses", "puts", "deletes", "evictions", "entries", "used_memory", "table_memory"):
            assert served[field] == getattr(stats, field), field
        assert metric("memstream_commands_total", command="get", status="ok") == stats.hits == 300
        assert metric("memstream_commands_total", command="get", status="miss") == stats.misses == 300
        assert metric("memstream_commands_total", command="set", status="ok") == stats.puts == 1001
        assert metric("memstream_removed_total", cause="delete") == stats.deletes == 1
        assert metric("memstream_entries") == stats.entries == 1000
        assert metric("memstream_current_bytes") == stats.used_memory + stats.table_memory
        report = shell.json("report", "--seconds", "0.1")
        assert report["stat"]["entries"] == report["survey"]["entries"] == 1000
        assert report["survey"]["share"] == 1 and report["survey"]["is_over"]
        assert report["survey"]["all_prefixes"]["stored_bytes"] == stats.used_memory
        assert report["survey"]["largest"][0] == shell.json("bigkeys", "--limit", "1")["keys"][0]
        assert report["survey"]["most_read"] == shell.json("hotkeys", "--limit", "100")["keys"]
        assert report["survey"]["histograms"]["size"] == shell.json("histogram", "size")
        prefixes = {row["prefix"]: row for row in report["survey"]["prefixes"]}
        assert prefixes["user:"] == shell.json("prefixes")["prefixes"][0]
        assert prefixes["img/"]["entries"] == 1
        rows = {row["pid"]: row for row in shell.json("procs")["processes"]}
        assert server.row_of(os.getpid(), **rows[os.getpid()]) == rows[os.getpid()]


def test_the_server_names_what_a_stopped_process_holds(shell: Shell) -> None:
    from memstream import Cache

    with Cache(shell.name, size=8 << 20, shards=1) as cache:
        cache.set("hot", b"value")
        for _ in range(20_000):
            cache.get("hot")
        assert shell.json("hotkeys")["keys"]
        with Server(shell) as server, stopped_under_lock(shell) as child:
            row = server.row_of(child.pid, state="stopped", holds=["write lock of shard 0"])
            assert row["pins"] == 0
            # Sample after sample, though the lock is not to be had.
            seen = len(server.json("/api/report")["history"])
            deadline = time.monotonic() + PATIENCE
            while len(server.json("/api/report")["history"]) < seen + 3 and time.monotonic() < deadline:
                time.sleep(0.05)
            assert len(server.json("/api/report")["history"]) >= seen + 3


def test_the_report_has_the_recorded_shape(shell: Shell) -> None:
    fill(shell)
    shape = shape_of(shell.json("report", "--seconds", "0.1"))
    assert shape == json.loads(SHAPE.read_text()), json.dumps(shape, indent=1)


def test_the_answers_forbid_what_the_page_does_not_need(shell: Shell) -> None:
    fill(shell, 1)
    with Server(shell) as server:
        status, headers, page = server.ask("/")
        assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "'unsafe-inline'" not in policy
        assert "connect-src 'self'" in policy and "script-src 'sha256-" in policy
        for path in ("/", "/api/stat", "/metrics", "/absent"):
            headers = server.ask(path)[1]
            assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
            assert headers["Cache-Control"] == "no-store" and headers["X-Frame-Options"] == "DENY"
            assert "Access-Control-Allow-Origin" not in headers
        assert "<title>MemStream</title>" in page and "http-equiv" in page
        assert "Invalid request 'GET /absent'" in server.refuses(404, "/absent")
        assert "404" in server.refuses(404, "/api/stat", "POST", "{}")


def test_only_this_machine_may_be_named(shell: Shell) -> None:
    fill(shell, 1)
    with Server(shell, "--allow-host", "cache.example") as server:
        for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "", "[::1"):
            assert "Invalid Host" in server.refuses(403, "/api/stat", Host=host), host
            server.refuses(403, "/", Host=host)
            server.refuses(403, "/metrics", Host=host)
        for host in ("127.0.0.1", "localhost:8080", "[::1]:80", "192.168.1.2:9", "cache.example", "cache.example:80"):
            assert server.json("/api/stat", Host=host)["entries"] > 0, host
        assert "Sec-Fetch-Site" in server.refuses(403, "/api/stat", Sec_Fetch_Site="cross-site")
        server.refuses(403, "/api/events", Sec_Fetch_Site="same-site")
        assert server.json("/api/stat", Sec_Fetch_Site="same-origin")


def test_it_listens_to_this_machine_alone_unless_told(shell: Shell) -> None:
    fill(shell, 1)
    with Server(shell) as server:
        assert server.url == f"http://127.0.0.1:{server.port}/"
        with socket.socket() as other, pytest.raises(ConnectionRefusedError):
            other.connect(("127.0.0.2", server.port))
    with Server(shell, "--host", "127.0.0.2") as server:
        assert server.url.startswith("http://127.0.0.2:")


def test_values_are_hidden_until_they_are_asked_for_with_the_token(shell: Shell) -> None:
    shell.run("put", "key", "-", stdin=b"a<b\xff\\")
    with Server(shell) as server:
        assert server.token == ""
        server.refuses(404, "/api/value?key=key")
    with Server(shell, "--show-values") as server:
        assert server.url.endswith(f"/#token={server.token}") and len(server.token) == 32
        assert "Invalid X-MemStream-Token" in server.refuses(403, "/api/value?key=key")
        server.refuses(403, "/api/value?key=key", X_MemStream_Token=server.token[:-1] + "x")
        reads = server.json("/api/entry?key=key")["access_count"]
        value = server.json("/api/value?key=key", X_MemStream_Token=server.token)
        assert value == {"size": 5, "flags": 0, "is_cut": False, "value": "a<b\\xff\\\\"}
        assert server.json("/api/entry?key=key")["access_count"] == reads
        assert "does not exist" in server.refuses(404, "/api/value?key=absent", X_MemStream_Token=server.token)
        shell.run("put", "large", "-", stdin=b"z" * 100_000)
        value = server.json("/api/value?key=large", X_MemStream_Token=server.token)
        assert value["size"] == 100_000 and value["is_cut"] and len(value["value"]) == 65536
        server.refuses(404, "/api/delete", "POST", '{"key": "key"}', X_MemStream_Token=server.token)


def test_nothing_is_changed_without_leave_and_token(shell: Shell) -> None:
    fill(shell)
    body = json.dumps({"key": "user:2"})
    with Server(shell) as server:
        server.refuses(404, "/api/delete", "POST", body)
        server.refuses(404, "/api/touch", "POST", body)
    with Server(shell, "--allow-writes") as server:
        server.refuses(403, "/api/delete", "POST", body)
        server.refuses(403, "/api/delete", "POST", body, X_MemStream_Token="0" * 32)
        server.refuses(403, "/api/delete", "POST", body, X_MemStream_Token=server.token, Sec_Fetch_Site="cross-site")
        server.refuses(404, "/api/delete", X_MemStream_Token=server.token)
        assert shell.json("stat")["deletes"] == 1
        assert server.ask("/api/delete", "POST", body, X_MemStream_Token=server.token)[0] == 200
        assert "does not exist" in server.refuses(404, "/api/delete", "POST", body, X_MemStream_Token=server.token)
        assert shell.json("stat")["deletes"] == 2
        for wrong in ("", "[]", "{}", '{"key": 5}', "{"):
            assert "Invalid body" in server.refuses(400, "/api/delete", "POST", wrong, X_MemStream_Token=server.token)
        assert "Invalid key ''" in server.refuses(
            400, "/api/delete", "POST", '{"key": ""}', X_MemStream_Token=server.token
        )
        long = json.dumps({"key": "k" * 2000})
        assert "1 to 1024" in server.refuses(400, "/api/delete", "POST", long, X_MemStream_Token=server.token)
        for ttl in ("", ', "ttl_ms": -1', ', "ttl_ms": "1"', ', "ttl_ms": 0.5'):
            wrong = '{"key": "user:3"' + ttl + "}"
            assert "Invalid ttl_ms" in server.refuses(400, "/api/touch", "POST", wrong, X_MemStream_Token=server.token)
        body = json.dumps({"key": "user:3", "ttl_ms": 3_600_000})
        assert server.ask("/api/touch", "POST", body, X_MemStream_Token=server.token)[0] == 200
        assert server.json("/api/entry?key=user:3")["expires_at_ms"] > 0
        assert server.ask("/api/delete", "POST", "x" * 70_000, X_MemStream_Token=server.token)[0] == 413


def test_keys_of_any_bytes_are_found_by_what_the_json_calls_them(shell: Shell) -> None:
    from memstream import Cache

    keys = [b"\xff\x00\\x41", b"a b/c?&=%", "ключ".encode(), b'"<script>']
    with Cache(shell.name, size=8 << 20) as cache:
        for key in keys:
            cache.set(key, b"value")
    with Server(shell) as server:
        names = [row["key"] for row in shell.json("keys")["keys"]]
        assert len(names) == 4
        for name in names:
            assert server.json(f"/api/entry?key={quote(name)}")["key"] == name
        assert "Invalid key ''" in server.refuses(400, "/api/entry")
        assert "does not exist" in server.refuses(404, "/api/entry?key=absent")


def test_a_search_walks_over_all_keys(shell: Shell) -> None:
    fill(shell, 300)
    with Server(shell) as server:
        found = server.json("/api/keys?match=" + quote("user:12?"))
        assert sorted(row["key"] for row in found["keys"]) == [f"user:{number}" for number in range(120, 130)]
        assert found["seen"] == 300 and found["has_all"]
        found = server.json("/api/keys?match=*")
        assert len(found["keys"]) == 200 and not found["has_all"]


def test_the_stream_brings_what_changes(shell: Shell) -> None:
    from memstream import Cache

    fill(shell, 100)
    with Server(shell) as server, Events(server) as events:
        survey = events.next("survey")
        assert survey["entries"] == 100 and survey["share"] == 1
        before = events.next("sample")
        with Cache(shell.name) as cache:
            for number in range(500):
                cache.get(f"user:{number % 50}")
        deadline = time.monotonic() + PATIENCE
        rates: List[float] = []
        while time.monotonic() < deadline:
            event = events.next("sample")
            rates.append(event["sample"]["gets_per_s"])
            if (
                event["stat"]["hits"] + event["stat"]["misses"]
                == before["stat"]["hits"] + before["stat"]["misses"] + 500
            ):
                break
        assert max(rates) > 0
        assert event["stat"]["hits"] > before["stat"]["hits"]
        history = server.json("/api/report")["history"]
        assert [sample["time_ms"] for sample in history] == sorted(sample["time_ms"] for sample in history)
        assert sum(round(s["gets_per_s"] * s["seconds"]) for s in history) == 500


def test_a_segment_that_goes_is_a_problem_until_it_is_back(shell: Shell) -> None:
    fill(shell, 10)
    with Server(shell) as server, Events(server) as events:
        events.next("sample")
        shell.ok("rm", "--yes")
        assert events.next("problem")["message"]
        assert server.refuses(503, "/metrics")
        assert server.refuses(503, "/healthz")
        assert server.json("/api/report")["problem"]
        fill(shell, 20)
        event = events.next("sample")
        assert event["stat"]["entries"] == 20
        assert server.json("/healthz") == {"ok": True}
        assert server.json("/api/report")["problem"] == ""


def test_pages_beyond_the_limit_are_refused_and_a_closed_one_makes_room(shell: Shell) -> None:
    fill(shell, 1)
    with Server(shell) as server:
        open_pages = [Events(server) for _ in range(16)]
        assert "16 pages are open" in server.refuses(503, "/api/events")
        assert server.json("/api/stat")
        open_pages[0].connection.close()
        open_pages[0].answer.close()
        deadline = time.monotonic() + PATIENCE
        while server.ask("/healthz") and time.monotonic() < deadline:
            connection = server.connect()
            connection.request("GET", "/api/events")
            status = connection.getresponse().status
            connection.close()
            if status == 200:
                break
            time.sleep(0.1)
        assert status == 200
        for page in open_pages[1:]:
            page.connection.close()


def test_a_signal_ends_it_also_while_pages_are_open(shell: Shell) -> None:
    fill(shell, 10)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with Server(shell) as server, Events(server) as events:
            events.next("sample")
            assert server.stop(number) == 0
            while events.answer.readline():
                pass


def test_metrics_can_be_served_alone(shell: Shell) -> None:
    fill(shell, 10)
    with Server(shell, "--metrics-only") as server:
        assert server.url.endswith("/metrics")
        status, headers, text = server.ask("/metrics")
        assert status == 200 and headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "memstream_entries{" in text
        for path in ("/", "/api/stat", "/api/report", "/api/events"):
            server.refuses(404, path)


def test_wrong_words_are_refused(shell: Shell) -> None:
    assert "does not exist" in shell.fails(3, "serve", "--port", "0")
    assert "does not exist" in shell.fails(3, "report", "--json")
    shell.ok("put", "key", "x")
    shell.fails(2, "serve", "--port", "65536")
    shell.fails(2, "serve", "--seconds", "0")
    assert "Invalid --sep ''" in shell.fails(2, "serve", "--sep", "")
    assert "--read-only" in shell.fails(2, "serve", "--allow-writes", "--read-only")
    assert ".html" in shell.fails(2, "report")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert "Choose another port" in shell.fails(4, "serve", "--port", port)
    assert "Invalid --host '203.0.113.1'" in shell.fails(4, "serve", "--port", "0", "--host", "203.0.113.1")
    with Server(shell) as server:
        assert f"--port {server.port}" in shell.fails(4, "serve", "--port", str(server.port))


def test_a_report_is_one_file_whatever_the_keys_are(shell: Shell, tmp_path: Path) -> None:
    shell.ok("put", "</script><b>", "secret value")
    path = tmp_path / "report.html"
    assert shell.ok("report", str(path), "--seconds", "0.1") == f"Wrote {path}.\n"
    text = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert "</script><b>" not in text and "secret value" not in text
    data = text.split('id="report">')[1].split("</script>")[0]
    report = json.loads(data)
    assert [row["key"] for row in report["survey"]["largest"]] == ["</script><b>"]
    assert report["stat"]["entries"] == 1 and len(report["history"]) == 1
    assert "Writing" in shell.fails(4, "report", str(tmp_path / "absent" / "report.html"), "--seconds", "0.1")
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "folder").mkdir()
    assert "Writing" in shell.fails(4, "report", str(tmp_path / "folder"), "--seconds", "0.1")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "folder", path]


def test_a_read_only_server_is_no_process_of_the_cache(shell: Shell) -> None:
    fill(shell, 10)
    with Server(shell, "--read-only") as server:
        assert server.json("/api/stat")["read_only"]
        assert shell.json("procs")["processes"][0]["command"].startswith(str(COMMAND) + " procs")
        assert server.json("/api/report")["stat"]["entries"] == 10
