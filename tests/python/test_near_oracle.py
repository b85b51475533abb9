"""The oracle of the near cache: its judgement, a run that must be clean, and runs in which it must notice a bug.

tests/near/oracle/oracle.py --help says what a run is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

import pytest
from conftest import ROOT
from near_redis import need_library, need_server

ORACLE = ROOT / "tests" / "near" / "oracle"
sys.path.insert(0, str(ORACLE))

from checker import judge  # noqa: E402  The line above makes it importable.
from history import (  # noqa: E402
    ABSENT,
    ALL_KEYS,
    DELETE,
    DOUBT,
    ERASE_ALL,
    NEVER,
    NO_NODE,
    READ,
    STRANGE,
    WRITE,
    Record,
    Recorder,
    make_value,
    records_of,
    version_in,
)

MS = 1_000_000


def write(version: int, begin: int, end: int, node: int = NO_NODE, ttl: int = 0) -> Record:
    return Record(WRITE, node, 1, version, begin * MS, end if end == NEVER else end * MS, ttl * MS)


def read(version: int, begin: int, end: int, node: int = 0) -> Record:
    return Record(READ, node, 1, version, begin * MS, end * MS, 1)


def wrong(*records: Record) -> List[str]:
    """Returns what a bound of 500 ms, with an error of 10 ms, makes of a history."""
    return sorted(judge(records, 0.5, 0.01).violations)


OLD, NEW = write(1, 0, 10), write(2, 100, 110)


@pytest.mark.parametrize(
    "records, expected",
    [
        # A value may be served until the bound after the end of what overwrote it.
        ([OLD, NEW, read(1, 619, 620)], []),
        ([OLD, NEW, read(1, 621, 622)], ["stale"]),
        ([OLD, NEW, read(2, 9000, 9001)], []),
        ([OLD, NEW, write(3, 120, 130), read(1, 621, 622)], ["stale"]),
        # Two writes at the same time may take effect in either order.
        ([write(1, 0, 50), write(2, 40, 60), read(1, 9000, 9001)], []),
        # A write without an answer overwrites nothing for certain, and may take effect at any time.
        ([OLD, write(2, 100, NEVER), read(1, 9000, 9001), read(2, 9100, 9101)], []),
        ([write(1, 0, NEVER), NEW, read(1, 9000, 9001)], []),
        # A node sees its own writes, others may take their time.
        ([OLD, write(2, 100, 110, node=0), read(1, 111, 112)], ["backwards"]),
        ([OLD, write(2, 100, 110, node=1), read(1, 111, 112)], []),
        ([OLD, write(2, 100, 110, node=0), read(1, 109, 112)], []),
        # A writer notes what it is about to do, and then that it was done.
        ([OLD, write(2, 100, NEVER), NEW, read(1, 621, 622)], ["stale"]),
        # Values that nobody wrote, or not yet.
        ([OLD, read(7, 20, 30)], ["unwritten"]),
        ([OLD, NEW, read(2, 20, 30)], ["unwritten"]),
        ([OLD, Record(STRANGE, 0, 1, ABSENT, 0, 0, 0)], ["unwritten"]),
        # Absent keys.
        ([OLD, read(ABSENT, 5, 6)], []),
        ([OLD, read(ABSENT, 521, 522)], ["stale"]),
        ([OLD, Record(DELETE, NO_NODE, 1, 9, 100 * MS, 110 * MS, 0), read(ABSENT, 9000, 9001)], []),
        ([OLD, Record(DELETE, NO_NODE, 1, 9, 100 * MS, 110 * MS, 0), read(1, 621, 622)], ["stale"]),
        ([OLD, Record(ERASE_ALL, NO_NODE, ALL_KEYS, ABSENT, 100 * MS, 110 * MS, 0), read(1, 621, 622)], ["stale"]),
        ([OLD, Record(ERASE_ALL, NO_NODE, ALL_KEYS, ABSENT, 100 * MS, 110 * MS, 0), read(ABSENT, 9000, 9001)], []),
        ([read(ABSENT, 5, 6)], []),
        # Expiry.
        ([write(1, 0, 10, ttl=100), read(1, 600, 601), read(ABSENT, 9000, 9001)], []),
        ([write(1, 0, 10, ttl=100), read(1, 630, 631)], ["stale"]),
        ([write(1, 0, 10, ttl=9000), read(ABSENT, 600, 601)], ["stale"]),
        # What a failover may have lost.
        ([OLD, NEW, Record(DOUBT, NO_NODE, ALL_KEYS, ABSENT, 105 * MS, 900 * MS, 0), read(1, 9000, 9001)], []),
        ([OLD, NEW, Record(DOUBT, NO_NODE, ALL_KEYS, ABSENT, 200 * MS, 900 * MS, 0), read(1, 9000, 9001)], ["stale"]),
    ],
)
def test_the_judgement(records: List[Record], expected: List[str]) -> None:
    assert wrong(*records) == expected


def test_records_survive_a_process_that_is_killed_while_it_writes(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "1.records", 1)
    recorder.add(WRITE, 3, 7, 10, 20, 5)
    for version, begin in ((7, 30), (7, 40), (8, 50), (ABSENT, 60), (ABSENT, 70)):
        recorder.read(3, version, begin, begin + 5)
    recorder.flush()
    with (tmp_path / "1.records").open("ab") as file:
        file.write(b"part of a record")
    assert list(records_of(tmp_path)) == [
        Record(WRITE, 1, 3, 7, 10, 20, 5),
        Record(READ, 1, 3, 7, 40, 35, 2),
        Record(READ, 1, 3, 8, 50, 55, 1),
        Record(READ, 1, 3, ABSENT, 60, 65, 1),
        Record(READ, 1, 3, ABSENT, 70, 75, 1),
    ]


def test_values_say_what_they_are() -> None:
    value = make_value(3, 12)
    assert version_in(3, value) == 12 and version_in(3, None) == ABSENT
    assert version_in(4, value) is None and version_in(3, value[:-1] + b"!") is None and version_in(3, b"") is None


def run(library: Path, *arguments: str, seconds: float = 60) -> "subprocess.CompletedProcess[str]":
    need_server()
    need_library(library)
    command = [sys.executable, str(ORACLE / "oracle.py"), *arguments]
    environment = {**os.environ, "MEMSTREAM_LIBRARY": str(library)}
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment)


def result_of(done: "subprocess.CompletedProcess[str]") -> Dict[str, Any]:
    assert done.stdout, done.stderr
    found: Dict[str, Any] = json.loads(done.stdout)
    return found


def test_nothing_stale_is_served_whatever_is_killed(library: Path, tmp_path: Path) -> None:
    written = tmp_path / "result.json"
    done = run(library, "--seconds", "10", "--fault", "all", "--fault", "kill-reader=3", "--json", str(written))
    result = result_of(done)
    assert (done.returncode, result["clean"], result["violations"], result["failures"]) == (0, True, {}, []), result
    assert json.loads(written.read_text()) == result
    assert len(result["faults"]) == 9 and result["faults"]["kill-reader"] == 4
    assert result["reads"] > 1000 and result["writes"] > 50 and result["epochs"] > 5 and result["invalidations"] > 50


# What has to happen for a bug to show.
PROVOKED = {
    "tokens": ("--slow-fetches", "0.9", "--seconds", "4"),
    "epochs": ("--fault", "flushall=3", "--seconds", "5"),
    "heartbeat": ("--fault", "stop-agent=3", "--seconds", "5"),
    "delete": ("--seconds", "3"),
}


@pytest.mark.parametrize("bug", sorted(PROVOKED))
def test_the_oracle_notices_a_seeded_bug(library: Path, bug: str) -> None:
    done = run(library, "--sabotage", bug, *PROVOKED[bug])
    result = result_of(done)
    assert done.returncode == 1 and result["violations"] and result["failures"] == [], result
    assert result["examples"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--keys", "2"), "expected --seconds above 0"),
        (("--readers", "40"), "Invalid --readers 40: expected at most"),
        (("--fault", "earthquake"), "Invalid --fault 'earthquake': expected one of all, kill-reader"),
    ],
)
def test_wrong_arguments_are_refused(library: Path, arguments: Any, message: str) -> None:
    done = run(library, *arguments)
    assert done.returncode == 2 and message in done.stderr


def test_the_demo_is_clean_and_leaves_nothing_behind(library: Path, tmp_path: Path) -> None:
    """Rates, then a cluster that loses an agent and a master and moves slots."""
    need_server()
    need_library(library)
    written = tmp_path / "demo.json"
    # A folder of its own, so that what is left is known to be its; the paths of Unix sockets must be short.
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        environment = {**os.environ, "MEMSTREAM_LIBRARY": str(library), "TMPDIR": folder}
        demo = [str(ROOT / "scripts" / "demo_near.sh"), "--quick", "--json", str(written)]
        done = subprocess.run(demo, capture_output=True, text=True, timeout=180, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        assert os.listdir(folder) == []
    assert "verdict: clean" in done.stdout
    found = json.loads(written.read_text())
    assert found["clean"] and found["oracle"]["faults"] == {"kill-agent": 1, "kill-master": 1, "move-slot": 2}
    # Of two nodes each has one connection to each master.
    assert found["oracle"]["tracking"] == [2, 2, 2] and found["oracle"]["reads"] > 1000
    assert {"redis-py", "near cache, 99 % hits"} <= set(found["rates"])


@pytest.mark.parametrize("arguments", [["--json"], ["--slow"]])
def test_the_demo_refuses_what_it_does_not_know(arguments: List[str]) -> None:
    demo = [str(ROOT / "scripts" / "demo_near.sh"), *arguments]
    done = subprocess.run(demo, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and "usage: demo_near.sh" in done.stderr
