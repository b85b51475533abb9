"""The memstream command, run as a user runs it: real processes, on the backend of the suite."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, Tuple

import pytest

COMMAND = Path(os.environ["MEMSTREAM_LIBRARY"]).resolve().parent / "memstream"


class Shell:
    """Runs the command on a cache of its own."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, *words: str, stdin: bytes = b"", **options: Any) -> "subprocess.CompletedProcess[bytes]":
        environment = {**os.environ, "MEMSTREAM_NAME": self.name, "MEMSTREAM_SIZE": "8M", "TZ": "UTC"}
        return subprocess.run(
            [str(COMMAND), *words],
            input=stdin,
            capture_output=True,
            env=environment,
            timeout=60,
            check=False,
            **options,
        )

    def ok(self, *words: str, stdin: bytes = b"") -> str:
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def json(self, *words: str) -> Any:
        return json.loads(self.ok(*words, "--json"))

    def fails(self, code: int, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done.stderr.decode()


@pytest.fixture(name="shell")
def make_shell() -> Iterator[Shell]:
    shell = Shell(f"cli-{os.getpid()}")
    yield shell
    shell.run("rm", "--yes")


def test_what_is_put_is_got_byte_by_byte(shell: Shell) -> None:
    value = bytes(range(256))
    shell.ok("put", "key", "-", stdin=value)
    assert shell.run("get", "key").stdout == value


def test_put_takes_a_value_a_file_or_standard_input(shell: Shell, tmp_path: Path) -> None:
    shell.ok("put", "a", "text")
    (tmp_path / "file").write_bytes(b"from a file")
    shell.ok("put", "b", "--file", str(tmp_path / "file"))
    assert (shell.ok("get", "a"), shell.ok("get", "b")) == ("text", "from a file")
    assert "one of them only" in shell.fails(2, "put", "c")
    assert "one of them only" in shell.fails(2, "put", "c", "value", "--file", "x")
    assert "Invalid file" in shell.fails(2, "put", "c", "--file", str(tmp_path / "absent"))


def test_a_miss_is_exit_code_1_and_an_absent_segment_3(shell: Shell) -> None:
    assert "does not exist" in shell.fails(3, "get", "key")
    shell.ok("put", "other", "x")
    assert "key 'key' does not exist" in shell.fails(1, "get", "key")
    assert json.loads(shell.run("get", "key", "--json").stdout) == {"key": "key", "found": False}


def test_looking_makes_no_segment(shell: Shell) -> None:
    for words in (
        ["stat"],
        ["keys"],
        ["procs"],
        ["limits"],
        ["hotkeys"],
        ["prefixes"],
        ["histogram", "size"],
        ["check"],
        ["clear"],
    ):
        shell.fails(3, *words)
    assert all(segment["name"] != shell.name for segment in shell.json("ls")["segments"])


def test_ttl_is_seconds_or_has_a_unit(shell: Shell) -> None:
    for ttl, milliseconds in (("90", 90_000), ("500ms", 500), ("2h", 7_200_000), ("1d", 86_400_000)):
        shell.ok("put", "key", "x", "--ttl", ttl)
        entry = shell.json("get", "key")
        assert abs(entry["expires_at_ms"] - entry["created_at_ms"] - milliseconds) <= 10
    assert "Invalid ttl '5y'" in shell.fails(2, "put", "key", "x", "--ttl", "5y")
    shell.ok("touch", "key", "0")
    assert shell.json("get", "key")["expires_at_ms"] == 0
    assert "does not exist" in shell.fails(1, "touch", "absent", "5")


def test_incr_counts_from_zero(shell: Shell) -> None:
    assert shell.ok("incr", "n") == "1\n"
    assert shell.ok("incr", "n", "41") == "42\n"
    assert shell.ok("incr", "n", "--", "-2") == "40\n"
    shell.ok("put", "text", "abc")
    assert "integer" in shell.fails(4, "incr", "text")


def test_add_refuses_a_key_that_is_there(shell: Shell) -> None:
    shell.ok("put", "key", "1", "--add")
    assert "exists already" in shell.fails(1, "put", "key", "2", "--add")
    assert shell.ok("get", "key") == "1"


def test_keys_match_patterns_and_are_printed_safely(shell: Shell) -> None:
    for key in ("user:1", "user:2", "page:1", "bell\a"):
        shell.ok("put", key, "x")
    assert sorted(shell.ok("keys", "--match", "user:*").split()) == ["user:1", "user:2"]
    assert len(shell.ok("keys", "--limit", "2").split()) == 2
    assert "bell\\x07" in shell.ok("keys")
    assert {row["key"] for row in shell.json("keys")["keys"]} == {"user:1", "user:2", "page:1", "bell\a"}
    shell.fails(1, "keys", "--match", "none*")


def test_rankings_show_the_highest_first(shell: Shell) -> None:
    for number in range(1, 6):
        shell.ok("put", f"key{number}", "x" * number * 10)
    for _ in range(3):
        shell.ok("get", "key2")
    assert [row["key"] for row in shell.json("bigkeys", "--limit", "2")["keys"]] == ["key5", "key4"]
    assert shell.json("hotkeys", "--limit", "1")["keys"][0]["key"] == "key2"
    assert shell.json("hotkeys", "--limit", "1")["keys"][0]["access_count"] == 3  # Looking counted nothing.


def test_prefixes_sum_up_bytes(shell: Shell) -> None:
    for key in ("a:1", "a:2", "b:1", "plain"):
        shell.ok("put", key, "x" * 100)
    rows = {row["prefix"]: row["entries"] for row in shell.json("prefixes")["prefixes"]}
    assert rows == {"a:": 2, "b:": 1, "": 1}
    assert "at least one character" in shell.fails(2, "prefixes", "--sep", "")


def test_histograms_count_every_entry(shell: Shell) -> None:
    shell.ok("put", "small", "x")
    shell.ok(
        "put",
        "large",
        "x" * 5000,
    )
    shell.ok("put", "short", "x", "--ttl", "60")
    for of in ("size", "age", "idle", "ttl"):
        report = shell.json("histogram", of)
        assert sum(bucket["entries"] for bucket in report["buckets"]) + report["never"] == 3
    assert {bucket["below"] for bucket in shell.json("histogram", "size")["buckets"]} == {2, 8192}
    shell.fails(2, "histogram", "colour")


def test_del_many_asks_and_deletes_what_matches(shell: Shell) -> None:
    for key in ("tmp:1", "tmp:2", "keep"):
        shell.ok("put", key, "x")
    assert "2 keys match and none was deleted" in shell.fails(2, "del", "--prefix", "tmp:")
    assert shell.json("del", "--prefix", "tmp:", "--yes") == {"deleted": 2}
    assert shell.ok("keys") == "keep\n"
    shell.fails(1, "del", "--match", "tmp*", "--yes")
    shell.ok("del", "keep")
    shell.fails(1, "del", "keep")
    assert "or --prefix" in shell.fails(2, "del")


def test_clear_asks(shell: Shell) -> None:
    shell.ok("put", "key", "x")
    assert "pass --yes" in shell.fails(2, "clear")
    assert shell.json("clear", "--yes") == {"removed": 1}
    shell.fails(1, "keys")


def test_stat_agrees_with_the_library(shell: Shell) -> None:
    from memstream import Cache

    with Cache(shell.name, size=8 << 20) as cache:
        cache["a"] = b"1"
        assert cache.get("a") == b"1" and cache.get("b") is None
        stats, report = cache.stats(), shell.json("stat")
        for field in ("hits", "misses", "puts", "entries", "evictions", "used_memory", "max_value_size", "shards"):
            assert report[field] == getattr(stats, field), field
        assert report["name"] == shell.name
        rows = shell.json("procs")["processes"]
        assert [row for row in rows if row["pid"] == os.getpid()][0]["puts"] == 1


def test_stat_watch_prints_rates(shell: Shell) -> None:
    shell.ok("put", "key", "x")
    lines = shell.ok("stat", "--watch", "0.1", "--count", "2").splitlines()
    assert len(lines) == 3 and lines[0].startswith("TIME")
    rows = [json.loads(line) for line in shell.ok("stat", "--watch", "0.1", "--count", "2", "--json").splitlines()]
    assert len(rows) == 2 and rows[0]["entries"] == 1


def test_limits_shows_what_is_in_use_and_by_whom(shell: Shell) -> None:
    from memstream import Cache

    with Cache(shell.name, size=16 << 20) as cache:
        assert "nobody holds" in shell.ok("limits")
        assert shell.json("limits") == {"rates": [], "permits": []}
        cache.limit("user:\x07", rate=2, period=3600)
        with cache.semaphore("reports", 3), cache.lock("nightly"):
            found = shell.json("limits")
            assert [(rate["name"], rate["used"], rate["burst"]) for rate in found["rates"]] == [("user:\x07", 1, 2)]
            assert 0 < found["rates"][0]["restored_in_ms"] <= 1_800_000
            assert found["rates"][0]["interval_ns"] == 1_800_000_000_000
            holders = {row["name"]: (row["used"], row["permits"], row["pid"]) for row in found["permits"]}
            assert holders == {"reports": (1, 3, os.getpid()), "nightly": (1, 1, os.getpid())}
            text = shell.ok("limits")
            assert "nightly" in text and "lock" in text and "\x07" not in text
        assert shell.json("limits")["permits"] == []


def test_procs_shows_a_stopped_process(shell: Shell) -> None:
    code = (
        "import sys, time; from memstream import Cache; cache = Cache(sys.argv[1]); cache['k'] = b'v'; "
        "print(1, flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(["/usr/bin/python3", "-c", code, shell.name], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None and child.stdout.readline() == b"1\n"
        child.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 20
        state: Optional[str] = None
        while state != "stopped" and time.monotonic() < deadline:
            state = {row["pid"]: row["state"] for row in shell.json("procs")["processes"]}.get(child.pid)
        assert state == "stopped"
    finally:
        child.kill()
        child.wait()


@contextmanager
def stopped_under_lock(shell: Shell) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that was stopped inside a put. REQUIRES: the segment, if there is one, has one shard."""
    code = (
        "import sys; from memstream import Cache; cache = Cache(sys.argv[1], shards=1); print(1, flush=True)\n"
        "values = {f'key{number}': bytes(900 + number) for number in range(256)}\n"
        "while True: cache.set_many(values)"
    )
    environment = {**os.environ, "MEMSTREAM_SIZE": "8M"}
    child = subprocess.Popen(["/usr/bin/python3", "-c", code, shell.name], stdout=subprocess.PIPE, env=environment)
    try:
        assert child.stdout is not None and child.stdout.readline() == b"1\n"
        deadline = time.monotonic() + 60
        holders: List[int] = []
        while child.pid not in holders and time.monotonic() < deadline:
            child.send_signal(signal.SIGCONT)
            time.sleep(0.01)
            child.send_signal(signal.SIGSTOP)
            os.waitpid(child.pid, os.WUNTRACED)
            holders = [lock["pid"] for lock in shell.json("procs")["locks"]]
        yield child
    finally:
        child.kill()
        child.wait()


def test_procs_names_what_a_stopped_process_holds(shell: Shell) -> None:
    with stopped_under_lock(shell) as child:
        report = shell.json("procs")
        row = {row["pid"]: row for row in report["processes"]}[child.pid]
        assert (row["state"], row["holds"]) == ("stopped", ["write lock of shard 0"])
        assert report["locks"] == [{"lock": "write", "pid": child.pid, "tid": child.pid, "shard": 0}]
        lines = [line for line in shell.ok("procs").splitlines() if line.startswith(f"{child.pid} ")]
        assert len(lines) == 1 and "stopped" in lines[0] and "write lock of shard 0" in lines[0]
    assert shell.json("procs")["locks"] == []


def test_ls_names_size_owner_and_state(shell: Shell) -> None:
    shell.ok("put", "key", "x")
    rows = [row for row in shell.json("ls")["segments"] if row["name"] == shell.name]
    assert len(rows) == 1
    assert rows[0]["size_bytes"] == 8 << 20 and rows[0]["entries"] == 1 and rows[0]["mode"] == "0600"
    assert rows[0]["condition"] == "ready" and rows[0]["backend"] == os.environ.get("MEMSTREAM_BACKEND", "posix")
    assert shell.name in shell.ok("ls")


def test_check_finds_nothing_in_a_whole_cache(shell: Shell) -> None:
    shell.ok("put", "key", "x")
    assert shell.json("check") == {"problems": 0, "story": ""}


def test_check_repairs_on_demand(shell: Shell) -> None:
    shell.ok("put", "key", "x")
    nothing = {"problems": 0, "dropped_entries": 0, "damaged_values": 0, "emptied_shards": 0, "entries": 1}
    assert shell.json("check", "--repair") == nothing
    assert "1 entries" in shell.ok("check", "--repair")


def test_rm_asks_and_removes(shell: Shell) -> None:
    shell.ok("put", "key", "x")
    assert "--yes" in shell.fails(2, "rm")
    shell.ok("rm", "--yes")
    shell.fails(3, "rm", "--yes")


# ---- dump and load ----


def fill(shell: Shell, count: int) -> None:
    from memstream import Cache

    with Cache(shell.name, size=8 << 20) as cache:
        cache.set_many({f"key{i}": bytes([i % 256]) * (i % 3000) for i in range(count)})
        cache.set("timed", b"t", ttl=3600)


def contents(shell: Shell) -> List[Any]:
    from memstream import Cache

    with Cache(shell.name) as cache:
        return sorted((entry.key, cache.get(entry.key), entry.flags) for entry in cache.scan())


def spoil(cache: Any, key: str) -> None:
    """Flips a bit of a value in the segment, as a stray write of some process would."""
    numpy = pytest.importorskip("numpy")
    with cache.view(key) as value:
        address = numpy.frombuffer(value, dtype=numpy.uint8).ctypes.data
        ctypes.c_ubyte.from_address(address).value ^= 1


@pytest.mark.parametrize("options", [[], ["--zstd"]])
def test_a_dump_is_loaded_whole_on_the_other_backend(shell: Shell, tmp_path: Path, options: List[str]) -> None:
    fill(shell, 1000)
    before = contents(shell)
    path = str(tmp_path / "dump")
    assert shell.json("dump", path, *options)["entries"] == 1001
    other = "sysv" if os.environ.get("MEMSTREAM_BACKEND", "posix") == "posix" else "posix"
    try:
        assert shell.json("load", path, "--backend", other)["entries"] == 1001
        left = shell.json("get", "timed", "--backend", other)
        assert 3500_000 < left["expires_at_ms"] - left["created_at_ms"] <= 3600_000
    finally:
        shell.run("rm", "--yes", "--backend", other)
    shell.ok("clear", "--yes")
    shell.ok("load", path)
    assert contents(shell) == before


def test_a_dump_counts_no_access(shell: Shell, tmp_path: Path) -> None:
    shell.ok("put", "key", "x")
    shell.ok("dump", str(tmp_path / "dump"))
    stats = shell.json("stat")
    assert (stats["hits"], stats["misses"], shell.json("hotkeys")["keys"][0]["access_count"]) == (0, 0, 0)


def test_a_dump_leaves_out_damaged_values_counts_them_and_holds_the_rest(shell: Shell, tmp_path: Path) -> None:
    from memstream import Cache

    path = str(tmp_path / "dump")
    with Cache(shell.name, size=8 << 20, checksum=True) as cache:
        cache.set_many({f"key{i}": bytes([i]) * 1000 for i in range(100)})
        for key in ("key7", "key50"):
            spoil(cache, key)
        whole = sorted(entry.key for entry in cache.scan() if entry.key not in (b"key7", b"key50"))
        done = shell.run("dump", path, "--json")
        assert done.returncode == 4
        assert json.loads(done.stdout) == {
            "entries": 98,
            "damaged": 2,
            "tagged": 0,
            "bytes": 98 * 1000 + sum(map(len, whole)),
        }
        assert f"File '{path}' lacks 2 damaged values; it holds all others." in done.stderr.decode()
    shell.ok("clear", "--yes")
    assert shell.json("load", path)["entries"] == 98
    assert [key for key, _, _ in contents(shell)] == whole


@pytest.mark.parametrize("options", [[], ["--zstd"]])
def test_a_damaged_dump_stops_at_the_damaged_record(shell: Shell, tmp_path: Path, options: List[str]) -> None:
    fill(shell, 200)
    path = tmp_path / "dump"
    shell.ok("dump", str(path), *options)
    data = path.read_bytes()
    for damaged in (
        data[: len(data) // 2],
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
    ):
        shell.ok("clear", "--yes")
        path.write_bytes(damaged)
        message = shell.fails(4, "load", str(path))
        assert "damaged or cut off" in message
        assert f"after {shell.json('stat')['entries']} entries" in message


@pytest.mark.parametrize("options", [[], ["--zstd"]])
def test_values_of_all_sizes_come_back_with_flags_and_times(shell: Shell, tmp_path: Path, options: List[str]) -> None:
    """More than the buffers of dump and load hold, in each way that a record can lie across their ends."""
    from memstream import Cache

    sizes = [0, 1, 31, 4095, 4096, 65_536, 100_000, 262_144 - 40, 262_144, 262_145, 500_000, *range(0, 30_000, 97)]
    path = str(tmp_path / "dump")

    def all_of(cache: Any) -> Any:
        return {entry.key: (cache.get(entry.key), entry.flags, entry.expires_at is not None) for entry in cache.scan()}

    with Cache(shell.name, size=32 << 20) as cache:
        for number, size in enumerate(sizes):
            value = (number.to_bytes(4, "little") * (size // 4 + 1))[:size]
            cache.set(f"{'k' * (number % 1000)}{number}", value, flags=number, ttl=3600 if number % 2 else None)
        before = all_of(cache)
        assert len(before) == len(sizes)
        report = shell.json("dump", path, *options)
        assert (report["entries"], report["damaged"]) == (len(sizes), 0)
        cache.clear()
        assert shell.json("load", path)["bytes"] == report["bytes"]
        assert all_of(cache) == before


def test_a_record_that_claims_an_impossible_size_is_damaged(shell: Shell, tmp_path: Path) -> None:
    shell.ok("put", "key", "value")
    path = tmp_path / "dump"
    shell.ok("dump", str(path))
    data = path.read_bytes()
    head = 16  # The file's; then key_size (4 bytes), flags (4), value_size (8).
    for at, number, size in ((head, 1025, 4), (head, 1024, 4), (head + 8, 2**63, 8), (head + 8, 2**39, 8)):
        path.write_bytes(data[:at] + number.to_bytes(size, "little") + data[at + size :])
        assert "cut off after 0 entries" in shell.fails(4, "load", str(path)), number


def test_load_refuses_what_is_no_dump(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello, this is no dump at all")
    assert "expected a file that memstream dump made" in shell.fails(2, "load", str(tmp_path / "text"))
    assert "Invalid file" in shell.fails(2, "load", str(tmp_path / "absent"))


def test_what_has_expired_meanwhile_is_not_loaded(shell: Shell, tmp_path: Path) -> None:
    shell.ok("put", "long", "x")
    for ttl in ("1", "4", "16", "64"):  # A machine at work may take longer than the shortest one.
        shell.ok("put", "short", "x", "--ttl", ttl)
        if shell.json("dump", str(tmp_path / "dump"))["entries"] == 2:
            break
    while shell.run("get", "short").returncode == 0:
        time.sleep(0.05)
    shell.ok("clear", "--yes")
    report = shell.json("load", str(tmp_path / "dump"))
    assert (report["entries"], report["expired"]) == (1, 1)


def test_an_invalidation_ends_entries_with_a_tag(shell: Shell) -> None:
    shell.ok("put", "both", "1", "--tag", "user:7", "--tag", "pages")
    shell.ok("put", "page", "2", "--tag", "pages", "--ttl", "1h")
    shell.ok("put", "none", "3")
    assert shell.run("put", "both", "4", "--tag", "pages", "--add").returncode == 1
    assert shell.ok("get", "both") == "1"
    shell.ok("invalidate", "user:7")
    assert shell.run("get", "both").returncode == 1
    assert (shell.ok("get", "page"), shell.ok("get", "none")) == ("2", "3")
    assert shell.json("invalidate", "pages") == {"tag": "pages", "invalidations": 2}
    assert shell.run("get", "page").returncode == 1
    assert "Invalid tag of 0 bytes" in shell.fails(2, "invalidate", "")
    tags = [word for number in range(10) for word in ("--tag", str(number))]
    assert "expected at most 4" in shell.fails(2, "put", "key", "x", *tags)


def test_a_dump_leaves_out_entries_with_tags(shell: Shell, tmp_path: Path) -> None:
    shell.ok("put", "tagged", "1", "--tag", "t")
    shell.ok("put", "plain", "2")
    report = shell.json("dump", str(tmp_path / "dump"))
    assert (report["entries"], report["tagged"]) == (1, 1)
    shell.ok("clear", "--yes")
    shell.ok("load", str(tmp_path / "dump"))
    assert shell.ok("get", "plain") == "2"
    assert shell.run("get", "tagged").returncode == 1


def test_a_killed_dump_leaves_no_file_or_a_complete_one(shell: Shell, tmp_path: Path) -> None:
    fill(shell, 2000)
    for delay in (0, 1, 2, 4, 8, 16):
        path = tmp_path / f"dump{delay}"
        environment = {**os.environ, "MEMSTREAM_NAME": shell.name}
        with subprocess.Popen([str(COMMAND), "dump", str(path)], env=environment, stdout=subprocess.DEVNULL) as child:
            time.sleep(delay / 1000)
            child.kill()
        if path.exists():
            shell.ok("load", str(path))
        assert [
            file.name for file in tmp_path.iterdir() if file.name != path.name and not file.name.startswith("dump")
        ] == []


def test_a_message_that_cannot_be_written_is_exit_code_4(shell: Shell) -> None:
    environment = {**os.environ, "MEMSTREAM_NAME": shell.name}
    with open("/dev/full", "wb") as full:
        done = subprocess.run([str(COMMAND), "get", "key"], env=environment, stderr=full, check=False)
    assert done.returncode == 4


def test_usage_errors_are_exit_code_2(shell: Shell) -> None:
    wrong: List[List[str]] = [
        [],
        ["dance"],
        ["get"],
        ["get", "x", "--backend", "none"],
        ["put", "", "x"],
        ["stat", "--watch", "-1"],
    ]
    for words in wrong:
        assert shell.run(*words).returncode == 2, words
    assert shell.run("--help").returncode == 0 and shell.run("get", "--help").returncode == 0
    assert b"Examples:" in shell.run("get", "--help").stdout


def test_a_word_of_the_user_is_shown_without_control_bytes_and_not_longer_than_needed(
    shell: Shell, tmp_path: Path
) -> None:
    shell.ok("put", "key", "x")
    file = str(tmp_path / "\x1b[31m")
    hostile: List[Tuple[int, str, List[str]]] = [
        (2, "Invalid options.backend '{}': expected", ["get", "x", "--backend", "{}"]),
        (2, "Invalid options.name '{}': expected", ["get", "x", "--name", "{}"]),
        (2, "Invalid ttl '{}': expected", ["put", "x", "y", "--ttl", "{}"]),
        (2, "Invalid size '{}': expected", ["resize", "{}"]),
        (2, "Invalid --owner '{}': expected", ["serve", "--port", "0", "--allow-writes", "--owner", "{}"]),
        (2, "Could not convert: --timeout-ms = '{}'", ["get", "x", "--timeout-ms", "{}"]),
        (2, "Could not convert: --timeout-ms = '{}'", ["get", "x", "--timeout-ms={}"]),
        (2, "not expected: '{}'", ["stat", "{}"]),
        (4, "Invalid --host '{}' with", ["serve", "--host", "{}"]),
    ]
    for code, text, words in hostile:
        message = shell.fails(code, *(word.format("\x1b[31m") for word in words))
        assert text.format("\\x1b[31m") in message and "\x1b" not in message, message
        message = shell.fails(code, *(word.format("x" * 5000) for word in words))
        assert text.format("x" * 100 + "...").replace("...'", "...' (5000 bytes)") in message, message
        assert len(message) < 600, message
    for code, text, words in (
        (2, "Invalid file '{}': ", ["put", "x", "--file", file]),
        (2, "Invalid file '{}': ", ["load", file]),
        (4, " '{}' failed: ", ["dump", file + "/x"]),
        (4, "Writing '{}' failed: ", ["report", file + "/x"]),
    ):
        message = shell.fails(code, *words)
        shown = words[-1].replace("\x1b", "\\x1b")
        assert text.format(shown) in message and "\x1b" not in message, message
    assert "größe" in shell.fails(2, "get", "x", "--backend", "größe")


# ---- another user's cache ----

OWNER = 61001  # A number without an account.


def as_user(user: int, name: str, act: Callable[[Any], object]) -> None:
    """Runs `act` with the cache of this name, in a child process of that user."""
    from memstream import Cache

    def work() -> None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        with Cache(name, size=8 << 20) as cache:
            act(cache)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(60)
    assert child.exitcode == 0


@pytest.fixture(name="foreign")
def make_foreign(shell: Shell) -> Iterator[Shell]:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    as_user(OWNER, shell.name, lambda cache: cache.set_many({"user:1": b"secret", "user:2": bytes(100)}))
    yield shell
    as_user(OWNER, shell.name, lambda cache: cache.destroy())


LOOKS: List[List[str]] = [
    ["get", "user:1"],
    ["keys"],
    ["scan"],
    ["hotkeys"],
    ["bigkeys"],
    ["prefixes"],
    ["histogram", "size"],
    ["map"],
    ["stat"],
    ["metrics"],
    ["advise"],
    ["procs"],
    ["report"],
    ["top", "--seconds", "0.1", "--count", "1"],
]


def test_root_looks_at_the_cache_of_an_owner_and_changes_nothing(foreign: Shell, tmp_path: Path) -> None:
    for words in LOOKS:
        foreign.json(*words, "--owner", str(OWNER))
    assert foreign.ok("get", "user:1", "--owner", str(OWNER)) == "secret"
    assert sorted(foreign.ok("keys", "--owner", str(OWNER)).split()) == ["user:1", "user:2"]
    assert foreign.json("dump", str(tmp_path / "dump"), "--owner", str(OWNER))["entries"] == 2
    report = foreign.json("stat", "--owner", str(OWNER))
    assert (report["entries"], report["hits"], report["misses"]) == (2, 0, 0)


def test_an_owner_is_for_looking_alone(foreign: Shell) -> None:
    for words in (["put", "key", "x"], ["del", "user:1"], ["clear", "--yes"], ["rm", "--yes"], ["check"]):
        foreign.fails(2, *words, "--owner", str(OWNER))
    for words in (["procs", "--reap"], ["serve", "--port", "0", "--allow-writes"]):
        message = foreign.fails(2, *words, "--owner", str(OWNER))
        assert f"Invalid --owner '{OWNER}': expected no owner where the command writes." in message
    assert foreign.json("stat", "--owner", str(OWNER))["entries"] == 2


def test_an_owner_must_be_a_user_who_has_that_cache(foreign: Shell) -> None:
    assert "the name or number of a user" in foreign.fails(2, "stat", "--owner", "")
    assert "Invalid options.owner 'no-such-user': expected" in foreign.fails(2, "stat", "--owner", "no-such-user")
    other = str(OWNER + 1)
    refused = 4 if os.environ.get("MEMSTREAM_BACKEND", "posix") == "posix" else 3
    assert f"user id {other}" in foreign.fails(refused, "stat", "--owner", other)


def test_every_command_that_looks_completes_owner(shell: Shell) -> None:
    script = shell.ok("completion")
    for command in [words[0] for words in LOOKS] + ["dump", "serve"]:
        ask = f'COMP_WORDS=(memstream {command} --ow); COMP_CWORD=2; _memstream; echo "${{COMPREPLY[@]}}"\n'
        done = subprocess.run(["bash", "-c", script + ask], capture_output=True, check=True)
        assert done.stdout == b"--owner\n", command


HOLDER = """
import sys
from memstream import Cache
cache = Cache(sys.argv[1], size="8M")
cache["held"] = bytes(100_000)
views = [cache.view("held") for _ in range(3)]
lease = cache.lease("computed")
assert lease
cache["held"] = b"new"
print("ready", flush=True)
input()
"""


def test_reap_frees_what_a_killed_process_held_and_says_what_it_was(shell: Shell) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, shell.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        alive = shell.json("procs", "--reap")
        assert child.pid in [process["pid"] for process in alive["processes"]]
        assert alive["reaped"] == {"processes": 0, "pins": 0, "leases": 0, "locks": 0, "freed_bytes": 0}
        assert "held nothing" in shell.ok("procs", "--reap")
        child.kill()
    from memstream import Cache

    with Cache(shell.name) as cache:  # It has found the dead process by now, and no lease.
        reaped = shell.json("procs", "--reap")["reaped"]
        assert reaped["leases"] == 1 and reaped["freed_bytes"] >= 100_000
        lease = cache.lease("computed")
        assert lease
        lease.release()
    shell.ok("check")


def test_reap_counts_views_slots_and_locks(shell: Shell) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, shell.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        child.kill()
    text = shell.ok("procs", "--reap")
    assert "Freed what dead processes held: 1 process slots, 3 views, 1 leases, 0 locks, " in text
    assert "held nothing" in shell.ok("procs", "--reap")


def test_resize_keeps_the_entries_and_the_clients(shell: Shell) -> None:
    from memstream import Cache

    fill(shell, 500)
    with Cache(shell.name) as cache:
        report = shell.json("resize", "32M")
        assert (report["old_bytes"], report["new_bytes"]) == (8 << 20, 32 << 20)
        assert report["new_entries"] == report["old_entries"] == len(cache)
        assert cache.info().size == 32 << 20
        cache["after"] = b"value"
        assert shell.ok("get", "after") == "value"
        assert "Resized from 32.0 MiB to 8.0 MiB" in shell.ok("resize", "8M")
        assert cache["after"] == b"value"
    shell.ok("check")


def test_resize_refuses_what_is_no_size(shell: Shell) -> None:
    assert "does not exist" in shell.fails(3, "resize", "32M")
    shell.ok("put", "key", "value")
    assert "Invalid" in shell.fails(2, "resize", "large")
    assert "expected a number of bytes" in shell.fails(2, "resize", "4K")
    assert shell.ok("get", "key") == "value"
