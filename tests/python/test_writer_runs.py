"""writer.py while it runs: its progress, and the ways in which it ends early."""

from __future__ import annotations

import errno
import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path

from conftest import CLIENT, Segment

from memstream import Cache
from memstream.errors import NoSegment

WRITER = str(CLIENT / "writer.py")


def read_terminal(master: int) -> str:
    """Everything that a child writes to a terminal until it closes it."""
    text = b""
    while select.select([master], [], [], 60)[0]:
        try:
            data = os.read(master, 65536)
        except OSError as error:
            assert error.errno == errno.EIO  # What Linux says when the other side is closed.
            break
        if not data:
            break
        text += data
    return text.decode()


def test_a_terminal_sees_a_bar_with_count_and_rate(segment: Segment, tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"file{number}").write_bytes(b"x" * 1000)
    master, slave = pty.openpty()
    child = segment.start(WRITER, "load", str(tmp_path), stderr=slave)
    os.close(slave)
    shown = read_terminal(master)
    os.close(master)
    assert child.wait(60) == 0
    last = shown.replace("\r\n", "\n").rstrip("\n").split("\r\x1b[K")[-1]
    assert re.fullmatch(r"\[#{30}\] 300 of 300 files, 293.0 KiB, [\d.]+ [KM]iB/s", last), shown


def test_elsewhere_plain_lines_are_printed_now_and_then(segment: Segment) -> None:
    child = segment.start(
        "-c",
        "import sys, memstream.cli.progress as p; p._LINE_SECONDS = 0.2;"
        "from memstream.cli.writer import main; sys.exit(main(sys.argv[1:]))",
        *("load", "--jsonl", "-", "--key", "id"),
        stdin=subprocess.PIPE,
    )
    assert child.stdin is not None and child.stderr is not None
    deadline = time.monotonic() + 30
    while not select.select([child.stderr], [], [], 0.01)[0] and time.monotonic() < deadline:
        child.stdin.write(b'{"id": "key"}\n' * 1000)
        child.stdin.flush()
    _, error = child.communicate()
    for line in error.splitlines():
        assert re.fullmatch(rb"\d+ lines, [\d.]+ [KM]?i?B, [\d.]+ [KM]?i?B/s", line), error
    assert error


def test_ctrl_c_ends_a_load_with_its_summary_and_one_line(segment: Segment, cache: Cache) -> None:
    child = segment.start(WRITER, "load", "--jsonl", "-", "--key", "id", stdin=subprocess.PIPE)
    assert child.stdin is not None
    child.stdin.write(b'{"id": "a"}\n')
    child.stdin.flush()
    deadline = time.monotonic() + 30
    while b"a" not in cache and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    child.wait(30)  # Before its standard input ends.
    out, error = child.communicate()
    assert (child.returncode, error) == (130, b"writer.py: interrupted\n")
    assert out.startswith(b"stored ")


def test_a_segment_that_goes_away_ends_a_load(segment: Segment) -> None:
    child = segment.start(WRITER, "load", "--jsonl", "-", "--key", "id", stdin=subprocess.PIPE)
    assert child.stdin is not None
    deadline = time.monotonic() + 30
    opened = None
    while opened is None and time.monotonic() < deadline:
        try:
            opened = Cache(create=False)
        except NoSegment:
            time.sleep(0.01)
    assert opened is not None
    # Only then it has the segment open for certain.
    child.stdin.write(b'{"id": "first"}\n')
    child.stdin.flush()
    while b"first" not in opened and time.monotonic() < deadline:
        time.sleep(0.01)
    opened.destroy()
    out, error = child.communicate(b'{"id": "a"}\n', timeout=30)
    assert child.returncode == 3 and error.count(b"\n") == 1 and b"Traceback" not in error


def test_a_writer_killed_in_its_middle_has_stored_all_that_its_log_says(segment: Segment, tmp_path: Path) -> None:
    tree, log = tmp_path / "tree", tmp_path / "log"
    tree.mkdir()
    for number in range(3000):
        (tree / str(number)).write_bytes(os.urandom(100 + number))
    log.touch()
    child = segment.start(WRITER, "load", str(tree), "--log", str(log))
    deadline = time.monotonic() + 30
    while log.stat().st_size < 20_000 and time.monotonic() < deadline:
        time.sleep(0.001)
    child.kill()
    child.wait()
    acknowledged = log.read_bytes().count(b"\n")
    assert 0 < acknowledged < 3000
    done = segment.program("reader", "verify", "--log", log)
    assert done.returncode == 0, done.stdout
    assert (
        b"verified %d keys" % acknowledged in done.stdout
        and b"%d same, 0 different, 0 missing" % acknowledged in done.stdout
    )
    # Of the file that it was at, either nothing is there or all of it.
    done = segment.program("reader", "verify", tree)
    assert done.returncode == 1 and b" 0 different" in done.stdout
