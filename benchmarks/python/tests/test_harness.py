"""The benchmark itself: a wrong value fails a run, every contender keeps what it is given, nothing is left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional, Type

import pytest

import goals
import main
import report
from contender import Contender, Session
from crowd import Crowd, WorkerFailed
from data import Draws, WrongValue, make_data
from loops import Rate, Worker, operations_of
from results import Cell, Place, Results

PROGRAM = Path(main.__file__)
DATA = make_data(64, quick=True)


def leftovers(pid: int) -> list[str]:
    """What a process that runs the benchmark has put into shared memory."""
    return [name for name in os.listdir("/dev/shm") if re.search(rf"bench-{pid}(-|$)", name)]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No test leaves anything in shared memory."""
    yield
    assert leftovers(os.getpid()) == []


class Planted(Contender):
    """A dict, with a fault in what it gives or takes."""

    name = "planted"
    shared = False
    forgets = False

    def wrong(self, value: bytes) -> Optional[bytes]:
        """Returns what comes back instead of the value."""
        return value

    def fill(self, data: Any) -> None:
        self._values = dict(data.pairs())

    def open(self) -> Session:
        values, wrong = self._values, self.wrong

        def store(key: bytes, value: bytes) -> None:
            if not self.forgets:
                values[key] = value

        return Session(lambda key: wrong(values[key]), store, lambda keys: {key: wrong(values[key]) for key in keys})


class Truncates(Planted):
    """Loses the last byte."""

    def wrong(self, value: bytes) -> Optional[bytes]:
        return value[:-1]


class Misses(Planted):
    """Finds nothing."""

    def wrong(self, value: bytes) -> Optional[bytes]:
        return None


class Mixes(Planted):
    """Gives another key's value."""

    def wrong(self, value: bytes) -> Optional[bytes]:
        return DATA.value(0, 0)


class Forgets(Planted):
    """Takes a value and does not keep it."""

    forgets = True


@pytest.mark.parametrize(
    "kind, operation, text",
    [
        (Truncates, "get", "nobody stored"),
        (Truncates, "mix", "nobody stored"),
        (Truncates, "get_many", "nobody stored"),
        (Misses, "get", "is missing"),
        (Misses, "get_many", "is missing"),
        (Mixes, "get", "nobody stored"),
        (Mixes, "get_many", "nobody stored"),
        (Forgets, "set", "nobody stored"),
    ],
)
def test_a_wrong_value_fails_the_run(tmp_path: Path, kind: Type[Contender], operation: str, text: str) -> None:
    contender = kind(tmp_path)
    contender.fill(DATA)
    crowd = Crowd(contender, DATA)
    try:
        with pytest.raises(WorkerFailed, match=text):
            crowd.run(operation, 1, 0.01)
    finally:
        crowd.end()


def test_a_right_one_does_not(tmp_path: Path) -> None:
    contender = Planted(tmp_path)
    contender.fill(DATA)
    worker = Worker(contender.open(), DATA, Draws(DATA, 0))
    for operation in operations_of(DATA.size):
        assert worker.run(operation, 0.01).rate > 0


def test_a_worker_that_dies_fails_the_run(tmp_path: Path) -> None:
    class Dies(Planted):
        def open(self) -> Session:
            os._exit(3)

    contender = Dies(tmp_path)
    contender.fill(DATA)
    with pytest.raises(WorkerFailed, match="a worker ended"):
        Crowd(contender, DATA)


@pytest.mark.parametrize("kind", main.CONTENDERS, ids=[kind.name for kind in main.CONTENDERS])
@pytest.mark.parametrize("size", [64, 4 * 1024 * 1024])
def test_every_contender_keeps_what_it_is_given(kind: Type[Contender], size: int) -> None:
    plan = main.Plan([kind], [size], 1, 0.005, quick=True)
    results = Results()
    main.measure(plan, make_data(size, quick=True), results)
    measured = {(place.cell.operation, place.cell.processes) for place in results.places()}
    assert ("get", 1) in measured
    assert (("get", 2) in measured) == kind.shared


def test_the_mix_stores_one_in_twenty() -> None:
    draws = Draws(DATA, 0)
    mixed = [write for _ in range(200) for _, _, write in draws.mix()]
    assert 0.03 < sum(write is not None for write in mixed) / len(mixed) < 0.07


def test_the_check_knows_both_variants() -> None:
    for variant in (0, 1):
        DATA.check(7, DATA.value(7, variant))
        with pytest.raises(WrongValue):
            DATA.check(7, DATA.value(7, variant), 1 - variant)


def results_of(rates: dict[Place, list[float]]) -> Results:
    """Results as they would have been measured."""
    made = Results()
    for place, each in rates.items():
        for rate in each:
            made.add(place, Rate(rate, rate))
    return made


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    cell = Cell(64, "get", 1)
    over, under = Place("memstream-fast", cell), Place("limit", cell)
    # The median rates are 20 and 20; round by round it is 2, 0.5, 0.5.
    results = results_of({over: [20, 10, 30], under: [10, 20, 60]})
    assert results.ratio(over, under) == 0.5
    assert results.ratio(over, Place("absent", cell)) is None


def test_a_goal_is_met_or_missed_by_its_figure() -> None:
    cell = Cell(64, "get", 1)
    for rate, verdict in ((85.0, "met"), (84.0, "MISSED")):
        results = results_of({Place("memstream-fast", cell): [rate], Place("limit", cell): [100.0]})
        (line,) = report.goal_list(results).splitlines()[1:]
        assert line.startswith("memstream-fast get 64 B x1 / limit get 64 B x1") and line.endswith(verdict)


def test_every_goal_speaks_of_what_is_measured() -> None:
    names = {contender.name for contender in main.CONTENDERS}
    for goal in goals.goals():
        for place in (goal.over, goal.under):
            assert place.contender in names and place.cell.operation in operations_of(place.cell.size)


def start(*arguments: str) -> "subprocess.Popen[str]":
    """Starts the program."""
    command = [sys.executable, str(PROGRAM), "--quick", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_program_writes_what_it_measured(tmp_path: Path) -> None:
    file = tmp_path / "python.json"
    chosen = ("--contender", "limit", "--contender", "memstream-fast", "--size", "64")
    child = start(*chosen, "--rounds", "2", "--round-ms", "5", "--json", str(file))
    out, error = child.communicate()
    assert child.returncode == 0, error
    assert leftovers(child.pid) == []
    assert "get_many of 100, 64 B" in out and "memstream-fast set 64 B x1 / limit set 64 B x1" in out
    written = json.loads(file.read_text())
    assert {cell["operation"] for cell in written["cells"]} == {"get", "set", "mix", "get_many"}
    assert all(len(each["keys_per_second"]) == 2 for cell in written["cells"] for each in cell["contenders"])
    assert {goal["least"] for goal in written["goals"]} >= {0.85, 1.7}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(number: signal.Signals) -> None:
    child = start("--size", "64")
    deadline = time.monotonic() + 60
    while not any("memcached" in each for each in children_of(child.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert leftovers(child.pid)
    descendants = children_of(child.pid)
    assert len(descendants) >= 1
    child.send_signal(number)
    _, error = child.communicate(timeout=60)
    assert child.returncode == 1
    assert f"interrupted by {number.name}" in error
    assert leftovers(child.pid) == []
    assert [pid for pid in descendants if Path(f"/proc/{pid.split()[0]}").exists()] == []


def children_of(pid: int) -> list[str]:
    """Number and command of each child of a process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        status, command = read(folder / "status"), read(folder / "cmdline")
        if status is not None and command is not None and f"\nPPid:\t{pid}\n" in status:
            found.append(f"{folder.name} {command}")
    return found


def read(path: Path) -> Optional[str]:
    """The text of a file, None if it is gone."""
    try:
        return path.read_text()
    except OSError:
        return None
