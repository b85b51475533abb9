"""analytics.py: its screen, its JSON, its log; and that looking changes nothing."""

from __future__ import annotations

import json
import os
import pty
import signal
import time
from pathlib import Path
from typing import Any, Dict

import pytest
from conftest import CLIENT, MIB, Segment

from memstream import Cache, Stats
from memstream.cli import analytics
from memstream.cli.text import format_size, printable

ANALYTICS = str(CLIENT / "analytics.py")


@pytest.fixture
def used(cache: Cache) -> Cache:
    """A cache with something to see: hits, misses, sizes, ages, odd keys, a time to live."""
    for number in range(20):
        number = number * 7 % 20  # No order in which a scan may go is that of a ranking.
        cache[f"key{number:02}"] = bytes(number * 1000)
    for number in range(20):
        for _ in range(number):
            cache.get(f"key{number:02}")
    for _ in range(10):
        cache.get("absent")
    time.sleep(0.02)
    cache.set(b"\x1b[31mred\xff", b"value", ttl=3600)
    return cache


def analyse(segment: Segment, *arguments: object) -> str:
    done = segment.program("analytics", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def analyse_json(segment: Segment, *arguments: object) -> Dict[str, Any]:
    found: Dict[str, Any] = json.loads(analyse(segment, "--json", *arguments))
    return found


def test_the_screen_shows_everything_at_once(used: Cache, segment: Segment) -> None:
    screen = analyse(segment)
    info, stats = used.info(), used.stats()
    assert f"MemStream {segment.backend}:{segment.name}" in screen
    assert "hit ratio   95.00 %  (190 hits, 10 misses)" in screen
    assert "entries     21, " in screen
    assert (
        f"used {format_size(stats.used_memory)}" in screen
        and f"committed {format_size(stats.committed_memory)}" in screen
    )
    assert f"pages       {format_size(stats.page_size)} each, huge pages: off" in screen
    calls = "accelerated" if used.accelerated else "not accelerated"
    assert f"python      calls are {calls} with this installation" in screen
    assert "0 evictions, 0 expirations" in screen and format_size(info.size) in screen
    for heading in ("most accessed", "largest", "most recent"):
        rows = screen.split(f"\n{heading}")[1].split("\n\n")[0].splitlines()
        assert len(rows) == 11  # The heading and ten keys.
        assert rows[1].startswith("\\x1b[31mred\\xff" if heading == "most recent" else "key19")
    assert "\x1b" not in screen
    assert len(screen.splitlines()) < 50 and max(map(len, screen.splitlines())) < 180


def test_a_cache_that_nobody_has_asked_has_no_hit_ratio(cache: Cache, segment: Segment) -> None:
    assert "hit ratio   no lookups yet" in analyse(segment)
    assert analyse_json(segment)["hit_ratio"] is None


def test_json_has_every_figure_and_the_top_keys_with_all_fields(used: Cache, segment: Segment) -> None:
    found = analyse_json(segment)
    assert set(Stats._fields) <= set(found)
    assert (found["backend"], found["name"], found["hit_ratio"]) == (segment.backend, segment.name, 0.95)
    assert (found["entries"], found["hits"], found["misses"]) == (21, 190, 10)
    assert found["accelerated"] is used.accelerated
    assert [entry["key"] for entry in found["top"]["accesses"][:3]] == ["key19", "key18", "key17"]
    assert [entry["key"] for entry in found["top"]["size"][:3]] == ["key19", "key18", "key17"]
    newest = found["top"]["recency"][0]
    entry = used.entry(b"\x1b[31mred\xff")
    assert entry is not None
    assert newest == {**entry._asdict(), "key": "\x1b[31mred\\xff"}


@pytest.mark.parametrize("top", [1, 5, 100])
def test_top_says_how_many_keys_of_each_ranking(used: Cache, segment: Segment, top: int) -> None:
    found = analyse_json(segment, "--top", top)["top"]
    assert {len(entries) for entries in found.values()} == {min(top, 21)}
    counts = [entry["access_count"] for entry in found["accesses"]]
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize("options", [[], ["--json"], ["--read-only"], ["--watch", "0.01", "--count", "3"]])
def test_looking_changes_nothing(used: Cache, segment: Segment, options: "list[str]") -> None:
    def state() -> Any:
        stats = used.stats()
        return sorted(used.scan()), stats._replace(now=0, dead_processes=0)

    before = state()
    analyse(segment, *options)
    assert state() == before


def test_watch_looks_again_and_again(used: Cache, segment: Segment) -> None:
    screens = analyse(segment, "--watch", "0.05", "--count", "3", "--top", "1")
    assert screens.count("hit ratio") == 3 and "\x1b" not in screens
    lines = analyse(segment, "--watch", "0.01", "--count", "2", "--json").splitlines()
    assert [json.loads(line)["entries"] for line in lines] == [21, 21]


def test_watch_redraws_a_terminal_until_ctrl_c(used: Cache, segment: Segment) -> None:
    master, slave = pty.openpty()
    child = segment.start(ANALYTICS, "--watch", "0.05", stdout=slave)
    os.close(slave)
    shown = b""
    while shown.count(b"\x1b[H\x1b[2J") < 3:
        shown += os.read(master, 65536)
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == 0
    assert child.stderr is not None and child.stderr.read() == b""
    os.close(master)


def test_log_appends_one_json_line_for_each_sample(used: Cache, segment: Segment, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for _ in range(2):
        assert analyse(segment, "--log", log, "--every", "0.05", "--count", "2") == ""
    samples = [json.loads(line) for line in log.read_text().splitlines()]
    assert [sample["entries"] for sample in samples] == [21] * 4
    assert set(Stats._fields) <= set(samples[0]) and "top" not in samples[0]
    assert samples[0]["time"] < samples[1]["time"] <= time.time() + 5


def test_log_ends_at_ctrl_c(used: Cache, segment: Segment, tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = segment.start(ANALYTICS, "--log", str(log), "--every", "0.01")
    deadline = time.monotonic() + 30
    while not (log.exists() and log.read_text().count("\n") > 2) and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    out, error = child.communicate(timeout=30)
    assert (child.returncode, out, error) == (0, b"", b"")


def test_looks_keep_their_interval_whatever_each_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0

    def sleep(seconds: float) -> None:
        nonlocal now
        assert seconds >= 0
        now += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "sleep", sleep)
    looks = []
    for number in analytics._looks(interval=1.0, count=5):
        looks.append(now)
        now += 1.5 if number == 1 else 0.3  # The second look takes longer than the interval; the next ones catch up.
    assert looks == pytest.approx([100, 101, 102.5, 103, 104])


@pytest.mark.parametrize(
    "arguments",
    [
        ("--log", "x"),
        ("--every", "1"),
        ("--count", "1"),
        ("--log", "x", "--every", "1", "--watch", "1"),
        ("--log", "x", "--every", "1", "--json"),
        ("--top", "0"),
        ("--top", "x"),
        ("--watch", "0"),
        ("surplus",),
    ],
)
def test_contradictions_are_wrong_usage(cache: Cache, segment: Segment, arguments: "tuple[str, ...]") -> None:
    done = segment.program("analytics", *arguments)
    assert done.returncode == 2 and done.stderr and b"Traceback" not in done.stderr


def test_a_log_that_cannot_be_written_is_refused(cache: Cache, segment: Segment) -> None:
    done = segment.program("analytics", "--log", "/no/such/folder/log", "--every", "1")
    assert (done.returncode, done.stderr) == (4, b"analytics.py: /no/such/folder/log: No such file or directory\n")


def test_watch_ends_when_the_segment_goes_away(cache: Cache, segment: Segment) -> None:
    child = segment.start(ANALYTICS, "--watch", "0.05", "--json")
    assert child.stdout is not None
    child.stdout.readline()
    cache.destroy()
    out, error = child.communicate(timeout=30)
    assert child.returncode == 3 and error.count(b"\n") == 1


@pytest.mark.parametrize(
    "size, text", [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * MIB, "5.0 MiB"), (2**60, "1024.0 PiB")]
)
def test_sizes_are_readable(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    "data, width, text",
    [
        (b"plain", 0, "plain"),
        ("ж".encode(), 0, "ж"),
        (b"\x1b\n\xff", 0, "\\x1b\\n\\xff"),
        (b"abcdef", 4, "abc…"),
        (b"abcd", 4, "abcd"),
    ],
)
def test_keys_do_a_terminal_no_harm(data: bytes, width: int, text: str) -> None:
    assert printable(data, width) == text
