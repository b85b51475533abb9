"""memstream trace: its files, held against what another tracer sees at the same time."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple

import pytest
from test_cli import COMMAND, Shell

from memstream import Cache
from memstream._core import abi
from memstream._core.library import load

OPS = {1: "hit", 2: "miss", 3: "store"}
LIMIT_SECONDS = 30.0


class Access(NamedTuple):
    time_ms: int
    key_hash: int
    size: int
    op: str


@pytest.fixture(name="shell")
def make_shell() -> Iterator[Shell]:
    shell = Shell(f"trace-{os.getpid()}")
    yield shell
    shell.run("rm", "--yes")


class Tracer:
    """Traces through the C interface, in this process."""

    def __init__(self, shell: Shell) -> None:
        self.c = load().c
        self.handle = ctypes.c_void_p()
        options = abi.Options(struct_size=ctypes.sizeof(abi.Options), name=shell.name.encode())
        assert self.c.memstream_open(ctypes.byref(options), ctypes.byref(self.handle)) == 0
        self.state = abi.Trace(struct_size=ctypes.sizeof(abi.Trace))
        self.seen: List[Access] = []
        self.read()

    def read(self) -> None:
        some = (abi.Access * 1000)()
        count = ctypes.c_size_t(len(some))
        while count.value == len(some):
            assert self.c.memstream_trace(self.handle, self.state, some, len(some), ctypes.byref(count)) == 0
            self.seen += [Access(one.time_ms, one.key_hash, one.size, OPS[one.what]) for one in some[: count.value]]

    def end(self) -> None:
        self.c.memstream_close(self.handle)


def begin(shell: Shell, *words: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [str(COMMAND), "trace", *words, "--json"],
        env={**os.environ, "MEMSTREAM_NAME": shell.name},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def report_of(running: "subprocess.Popen[bytes]") -> Dict[str, Any]:
    answer, complaint = running.communicate(timeout=LIMIT_SECONDS)
    assert running.returncode == 0, complaint
    return dict(json.loads(answer))


def trace_a_load(tracer: Tracer, shell: Shell, *words: str) -> Dict[str, Any]:
    """Asks for keys that are there, absent ones, and ones that come and go, until the command has ended."""
    tracer.read()
    tracer.state.gaps = 0
    running = begin(shell, *words)
    end = time.monotonic() + LIMIT_SECONDS
    with Cache(shell.name) as cache:
        while running.poll() is None:
            assert time.monotonic() < end
            for number in range(4000):
                cache.get(f"there{number * 7919 % 1000}")
                cache.get(f"absent{number}")
                key = f"now and then{number}"
                if cache.get(key) is None:
                    cache[key] = b"x" * (number + 1)
                else:
                    del cache[key]
                if number % 100 == 0:
                    tracer.read()
    tracer.read()
    assert (tracer.state.lost, tracer.state.gaps) == (0, 0)
    report = report_of(running)
    # The sample may have become smaller meanwhile.
    tracer.seen = [access for access in tracer.seen if access.key_hash >> 32 & (report["sample"] - 1) == 0]
    return report


@pytest.fixture(name="tracer")
def make_tracer(shell: Shell) -> Iterator[Tracer]:
    with Cache(shell.name, size=16 << 20) as cache:
        cache.set_many({f"there{number}": b"x" * (number + 1) for number in range(1000)})
    tracer = Tracer(shell)
    yield tracer
    tracer.end()


def place_of(part: List[Any], whole: List[Any]) -> int:
    """Returns where `part` lies in `whole`, whose elements follow each other there without a gap."""
    for start in range(len(whole) - len(part) + 1):
        if whole[start : start + len(part)] == part:
            return start
    raise AssertionError(f"no such {len(part)} accesses in a row")


def test_csv_has_each_access_in_its_order(shell: Shell, tracer: Tracer, tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    report = trace_a_load(tracer, shell, str(file), "--seconds", "1")
    head, *lines = file.read_text().splitlines()
    assert head == "time,key-hash,size,op"
    found = [Access(int(at), int(key), int(size), op) for at, key, size, op in (line.split(",") for line in lines)]
    assert len(found) > 100
    place_of(found, tracer.seen)
    assert {access.op for access in found} == {"hit", "miss", "store"}
    assert report["format"] == "csv"
    assert (report["accesses"], report["lost"], report["gaps"]) == (len(found), 0, 0)
    assert {access.key_hash >> 32 & (report["sample"] - 1) for access in found} == {0}


def test_oracle_has_each_get_with_its_size_and_when_it_comes_again(
    shell: Shell, tracer: Tracer, tmp_path: Path
) -> None:
    file = tmp_path / "trace.oracleGeneral"
    report = trace_a_load(tracer, shell, str(file), "--seconds", "1.5")
    data = file.read_bytes()
    assert len(data) % 24 == 0
    found = list(struct.iter_unpack("<IQIq", data))
    assert report["format"] == "oracle"
    assert (report["accesses"], report["lost"], report["gaps"]) == (len(found), 0, 0)
    assert len(found) > 100
    sizes = {access.key_hash: access.size for access in tracer.seen if access.op != "miss"}
    absent = {access.key_hash for access in tracer.seen} - set(sizes)
    assert absent and report["without_size"] > 0
    reads = [access for access in tracer.seen if access.op != "store" and access.key_hash not in absent]
    hashes = [key_hash for _, key_hash, _, _ in found]
    # A key that comes and goes has no size where the trace has nothing of it but its first or last miss.
    with_size = [access for access in reads if access.key_hash in set(hashes)]
    start = place_of(hashes, [access.key_hash for access in with_size])
    window = with_size[start : start + len(found)]
    assert [size for _, _, size, _ in found] == [sizes[key_hash] for key_hash in hashes]
    assert any(access.op == "miss" for access in window)
    following: Dict[int, int] = {}
    for place in range(len(found), 0, -1):
        assert found[place - 1][3] == following.get(hashes[place - 1], -1)
        following[hashes[place - 1]] = place
    times = [at for at, _, _, _ in found]
    assert times == sorted(times)
    assert times[0] == 0
    for at, access in zip(times, window):
        assert abs(at * 1000 - (access.time_ms - window[0].time_ms)) <= 1000


def test_a_larger_step_takes_a_part_of_the_keys(shell: Shell, tracer: Tracer, tmp_path: Path) -> None:
    file = tmp_path / "trace"
    report = trace_a_load(tracer, shell, str(file), "--seconds", "1", "--sample", "512", "--format", "csv")
    found = [line.split(",") for line in file.read_text().splitlines()[1:]]
    assert report["sample"] == 512
    assert found
    seen = [[access.time_ms, access.key_hash] for access in tracer.seen]
    place_of([[int(at), int(key)] for at, key, _, _ in found], seen)


def test_an_interrupted_trace_is_written(shell: Shell, tracer: Tracer, tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    running = begin(shell, str(file), "--seconds", str(10 * LIMIT_SECONDS))
    try:
        end = time.monotonic() + LIMIT_SECONDS
        with Cache(shell.name) as cache:
            while all(process.pid != running.pid for process in cache.processes()):
                assert time.monotonic() < end
                time.sleep(0.01)
        time.sleep(0.5)
        running.send_signal(signal.SIGINT)
        report = report_of(running)
    finally:
        running.kill()
    assert len(file.read_text().splitlines()) == 1 + report["accesses"]


def test_a_trace_that_is_killed_leaves_no_file(shell: Shell, tracer: Tracer, tmp_path: Path) -> None:
    running = begin(shell, str(tmp_path / "trace.csv"), "--seconds", "30")
    time.sleep(0.5)
    running.kill()
    running.wait()
    assert list(tmp_path.iterdir()) == []
    tracer.read()


def test_wrong_words_and_segments_are_refused(shell: Shell, tracer: Tracer, tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    assert "Invalid --sample '100': expected a power of two" in shell.fails(2, "trace", str(file), "--sample", "100")
    message = shell.fails(2, "trace", str(file), "--sample", "2", "--seconds", "0.1")
    assert f"Invalid --sample 2: expected at least {tracer.state.sample_step}" in message
    absent = tmp_path / "absent" / "trace.csv"
    assert "Choose another file" in shell.fails(4, "trace", str(absent), "--seconds", "0.1")
    assert list(tmp_path.iterdir()) == []


def test_a_segment_without_the_ring_is_refused(shell: Shell, tmp_path: Path) -> None:
    shell.ok("put", "key", "value")
    message = shell.fails(2, "trace", str(tmp_path / "trace.csv"), "--seconds", "0.1")
    assert "This segment of 8388608 bytes cannot be traced: it has less than 16 MiB" in message
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_refused_before_the_trace(
    tracer: Tracer, shell: Shell, tmp_path: Path
) -> None:
    began = time.monotonic()
    for file in (tmp_path / "none" / "trace.csv", tmp_path):
        assert "Choose another file." in shell.fails(4, "trace", str(file), "--seconds", "600")
    assert time.monotonic() - began < LIMIT_SECONDS
    assert list(tmp_path.iterdir()) == []
