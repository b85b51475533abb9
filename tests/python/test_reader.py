"""reader.py: what it prints, what it compares, and how it ends."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import CLIENT, MIB, Segment

from memstream import Cache

READER = str(CLIENT / "reader.py")
BYTES = b"\0all\xff bytes\r\n\0" * 1000


# ---- get ----


@pytest.mark.parametrize("value", [b"", b"value", BYTES, os.urandom(5 * MIB)], ids=len)
def test_get_writes_the_raw_bytes(cache: Cache, segment: Segment, value: bytes) -> None:
    cache["key"] = value
    done = segment.program("reader", "get", "key")
    assert (done.returncode, done.stdout, done.stderr) == (0, value, b"")


def test_get_out_writes_a_file(cache: Cache, segment: Segment, tmp_path: Path) -> None:
    cache["key"] = BYTES
    done = segment.program("reader", "get", "key", "--out", tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, b"")
    assert (tmp_path / "out").read_bytes() == BYTES


def test_get_of_an_absent_key_is_a_miss_and_leaves_the_file_alone(
    cache: Cache, segment: Segment, tmp_path: Path
) -> None:
    (tmp_path / "out").write_bytes(b"before")
    done = segment.program("reader", "get", "absent", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr == b"reader.py: no live entry has the key b'absent'\n"
    assert (tmp_path / "out").read_bytes() == b"before"


def test_get_out_to_where_nothing_can_be_written_is_refused(cache: Cache, segment: Segment) -> None:
    cache["key"] = b"value"
    done = segment.program("reader", "get", "key", "--out", "/no/such/folder/out")
    assert (done.returncode, done.stderr) == (4, b"reader.py: /no/such/folder/out: No such file or directory\n")


def test_a_reader_of_the_output_that_goes_away_is_no_traceback(cache: Cache, segment: Segment) -> None:
    cache["key"] = bytes(5 * MIB)
    for number in range(20_000):
        cache[f"a rather long key, so that the pipe is full before the last one {number}"] = b""
    for command in (["get", "key"], ["keys"]):
        child = segment.start(READER, *command)
        assert child.stdout is not None and child.stderr is not None
        child.stdout.read(10)
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(30) == 141


# ---- keys ----


def test_keys_lists_them_as_they_are(cache: Cache, segment: Segment) -> None:
    cache.update({"a": b"", "ключ": b"", b"\xff\0": b"", "b": b""})
    done = segment.program("reader", "keys")
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == [b"a", b"b", "ключ".encode(), b"\xff\0"]
    assert segment.program("reader", "keys", "--prefix", "к").stdout == "ключ\n".encode()
    assert segment.program("reader", "keys", "--prefix", "nothing").stdout == b""


# ---- verify ----


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "deep").mkdir(parents=True)
    (root / "text").write_text("some text\n")
    (root / "empty").touch()
    (root / "deep" / "large").write_bytes(os.urandom(3 * MIB))
    return root


def test_verify_finds_loaded_files_the_same(segment: Segment, tree: Path) -> None:
    segment.program("writer", "load", tree, "--prefix", "p/")
    done = segment.program("reader", "verify", tree, "--prefix", "p/")
    assert done.returncode == 0, done.stdout
    assert re.fullmatch(
        rb"verified 3 files, 3\.0 MiB \(3145738 bytes\) in \d+\.\d\d s, [\d.]+ [MG]iB/s: "
        rb"3 same, 0 different, 0 missing, 0 unreadable\n",
        done.stdout,
    )


def test_verify_names_what_differs_and_what_is_missing(segment: Segment, tree: Path) -> None:
    segment.program("writer", "load", tree)
    with Cache(create=False) as cache:
        del cache["tree/empty"]
    with (tree / "deep" / "large").open("r+b") as file:
        file.seek(MIB)
        file.write(b"another byte")
    (tree / "new").touch()
    done = segment.program("reader", "verify", tree)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert sorted(lines[:-1]) == [b"different tree/deep/large", b"missing tree/empty", b"missing tree/new"]
    assert lines[-1].endswith(b": 1 same, 1 different, 2 missing, 0 unreadable")


def test_verify_names_files_that_cannot_be_read(segment: Segment, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment.program("writer", "load", tree)
    (tree / "text").unlink()
    (tree / "text").symlink_to("/proc/self/mem")  # A regular file that nobody can read from its beginning.
    done = segment.program("reader", "verify", tree)
    assert done.returncode == 4
    assert b"unreadable " in done.stdout and b"2 same, 0 different, 0 missing, 1 unreadable" in done.stdout


def test_verify_by_the_log_needs_no_files(cache: Cache, segment: Segment, tmp_path: Path) -> None:
    records = []
    for number, value in enumerate((b"same", b"different", b"missing")):
        cache[f"key{number}"] = value
        records.append({"key": f"key{number}", "size": len(value), "sha256": hashlib.sha256(value).hexdigest()})
    cache["key1"] = b"changed"
    del cache["key2"]
    # The last word about a key counts; a line that a killed writer left unfinished says nothing.
    lines = [json.dumps({**records[0], "sha256": "0" * 64})] + [json.dumps(record) for record in records]
    (tmp_path / "log").write_text("\n".join(lines) + '\n{"key": "half')
    done = segment.program("reader", "verify", "--log", tmp_path / "log")
    assert done.returncode == 1
    assert done.stdout.splitlines()[:-1] == [
        b"different key1",
        b"missing key2",
        b"passed over 1 unfinished lines of the log",
    ]
    assert done.stdout.endswith(b": 1 same, 1 different, 1 missing, 0 unreadable\n")


def test_verify_by_a_log_that_is_not_there_is_refused(cache: Cache, segment: Segment) -> None:
    done = segment.program("reader", "verify", "--log", "/no/such/log")
    assert (done.returncode, done.stderr) == (4, b"reader.py: /no/such/log: No such file or directory\n")


@pytest.mark.parametrize("arguments", [("verify",), ("verify", "x", "--log", "y"), ("verify", "/no/such"), (), ("x",)])
def test_verify_needs_one_source(cache: Cache, segment: Segment, arguments: "tuple[str, ...]") -> None:
    done = segment.program("reader", *arguments)
    assert done.returncode == 2 and b"Traceback" not in done.stderr


# ---- watch ----


def test_watch_prints_a_line_at_every_change(cache: Cache, segment: Segment) -> None:
    child = segment.start(READER, "watch", "key", "--interval", "0.01", "--count", "5")
    assert child.stdout is not None
    lines = [child.stdout.readline()]
    for value in (b"first", b"\x1b[2J" + b"x" * 100, b"x", None):
        if value is None:
            del cache["key"]
        else:
            cache["key"] = value
        lines.append(child.stdout.readline())
    assert child.wait(30) == 0
    states = [line.decode().rstrip("\n")[20:] for line in lines]
    assert states == ["absent", "5 B: first", "104 B: \\x1b[2J" + "x" * 56 + "…", "1 B: x", "absent"]
    assert all(re.match(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in lines)


def test_watch_sees_a_value_stored_once_more(cache: Cache, segment: Segment) -> None:
    cache["key"] = b"same"
    child = segment.start(READER, "watch", "key", "--interval", "0.01", "--count", "2")
    assert child.stdout is not None
    child.stdout.readline()
    cache["key"] = b"same"
    assert child.stdout.readline().endswith(b"4 B: same\n")
    assert child.wait(30) == 0


def test_watching_counts_no_access_while_nothing_changes(cache: Cache, segment: Segment) -> None:
    cache["key"] = b"value"
    child = segment.start(READER, "watch", "key", "--interval", "0.01")
    assert child.stdout is not None
    child.stdout.readline()
    hits = cache.stats().hits
    time.sleep(0.2)
    assert cache.stats().hits == hits == 1
    child.send_signal(signal.SIGINT)
    out, error = child.communicate(timeout=30)
    assert (child.returncode, error) == (0, b"")


def test_watch_ends_when_the_segment_goes_away(cache: Cache, segment: Segment) -> None:
    child = segment.start(READER, "watch", "key", "--interval", "0.01")
    assert child.stdout is not None
    child.stdout.readline()
    cache.destroy()
    out, error = child.communicate(timeout=30)
    assert child.returncode == 3 and error.count(b"\n") == 1


def test_watch_names_the_keys_under_a_prefix(cache: Cache, segment: Segment) -> None:
    child = segment.start(READER, "watch", "--prefix", "config:", "--count", "4")
    assert child.stdout is not None and child.stdout.readline() == b"watching config:\n"
    cache["other"] = b"value"
    cache["config:a"] = b"first"
    lines = [child.stdout.readline()]
    cache[b"config:\x1b\xff"] = b"x"
    lines.append(child.stdout.readline())
    del cache["config:a"]
    lines.append(child.stdout.readline())
    cache.invalidate("tag")
    lines.append(child.stdout.readline())
    assert child.wait(30) == 0
    states = [line.decode().rstrip("\n")[20:] for line in lines]
    assert states == ["config:a 5 B: first", "config:\\x1b\\xff 1 B: x", "config:a absent", "look again"]


def test_ctrl_c_ends_a_watch_of_a_prefix(cache: Cache, segment: Segment) -> None:
    child = segment.start(READER, "watch", "--prefix", "")
    assert child.stdout is not None and child.stdout.readline() == b"watching all keys\n"
    child.send_signal(signal.SIGINT)
    out, error = child.communicate(timeout=30)
    assert (child.returncode, error) == (0, b"")


@pytest.mark.parametrize("arguments", [(), ("key", "--prefix", "p")])
def test_watch_takes_a_key_or_a_prefix(cache: Cache, segment: Segment, arguments: "tuple[str, ...]") -> None:
    done = segment.program("reader", "watch", *arguments)
    assert done.returncode == 2 and b"watch expects one of KEY and --prefix P" in done.stderr


# ---- read-only ----


@pytest.mark.parametrize("command", [("get", "key"), ("keys",), ("watch", "key", "--count", "1")])
def test_every_command_works_read_only(cache: Cache, segment: Segment, command: "tuple[str, ...]") -> None:
    cache["key"] = b"value"
    done = segment.program("reader", *command, "--read-only")
    assert done.returncode == 0 and done.stdout


def test_verify_works_read_only(segment: Segment, tree: Path) -> None:
    segment.program("writer", "load", tree)
    done = segment.program("reader", "verify", tree, "--read-only")
    assert done.returncode == 0 and b"3 same" in done.stdout


def test_a_value_with_letters_that_the_terminal_lacks_is_printed_all_the_same(cache: Cache, segment: Segment) -> None:
    cache["key"] = "ж".encode()
    environment = {**segment.environment, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, READER, "watch", "key", "--count", "1"], env=environment, capture_output=True
    )
    assert done.returncode == 0 and done.stdout.endswith(b"2 B: \\u0436\n"), done.stderr
