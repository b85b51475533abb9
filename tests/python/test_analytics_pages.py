"""analytics.py: the page and the metrics that the memstream command serves for it, rates and bars."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import Any, List, Tuple

import pytest
from conftest import CLIENT, Segment

from memstream import Cache
from memstream._core import library
from memstream.cli import command
from memstream.cli.common import UsageError
from memstream.cli.text import bar

ANALYTICS = str(CLIENT / "analytics.py")


def serve(segment: Segment, *arguments: str) -> "Tuple[subprocess.Popen[bytes], str]":
    """Starts analytics.py as a server, and returns it with the address that it prints."""
    child = segment.start(ANALYTICS, *arguments, "--port", "0")
    assert child.stdout is not None
    line = child.stdout.readline().decode()
    found = re.match(r"Serving at (\S+)\n", line)
    assert found, (line, child.communicate())
    return child, found[1]


def ask(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        text: str = answer.read().decode()
        return text


def test_serve_shows_the_cache_until_ctrl_c(cache: Cache, segment: Segment) -> None:
    cache["key"] = b"value"
    child, url = serve(segment, "--serve")
    assert json.loads(ask(url + "api/stat"))["entries"] == 1
    assert "<title>MemStream</title>" in ask(url)
    child.send_signal(signal.SIGINT)
    error = child.communicate(timeout=60)[1]
    assert (child.returncode, error) == (0, b"")


def test_serve_passes_its_options_on(cache: Cache, segment: Segment) -> None:
    words = ["--host", "127.0.0.2", "--allow-host", "cache.example", "--show-values", "--allow-writes"]
    child, url = serve(segment, "--serve", *words)
    assert re.fullmatch(r"http://127\.0\.0\.2:\d+/#token=[0-9a-f]{32}", url)
    report = json.loads(ask(url.split("#")[0] + "api/report"))
    assert report["shows_values"] and report["allows_writes"]
    request = urllib.request.Request(url.split("#")[0] + "healthz", headers={"Host": "cache.example"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=60)
    assert child.returncode == 0


def test_prometheus_serves_metrics_alone(cache: Cache, segment: Segment) -> None:
    cache["key"] = b"value"
    child, url = serve(segment, "--prometheus", "--read-only")
    assert url.endswith("/metrics")
    assert re.search(rf'^memstream_entries{{cache="{segment.name}",backend="{segment.backend}"}} 1$', ask(url), re.M)
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=60)
    assert child.returncode == 0


def test_html_writes_the_page_with_its_data(cache: Cache, segment: Segment, tmp_path: Path) -> None:
    cache["key"] = b"value"
    done = segment.program("analytics", "--html", tmp_path / "page.html")
    assert (done.returncode, done.stdout) == (0, f"Wrote {tmp_path}/page.html.\n".encode())
    data = (tmp_path / "page.html").read_text().split('id="report">')[1].split("</script>")[0]
    assert json.loads(data)["survey"]["largest"][0]["key"] == "key"
    done = segment.program("analytics", "--html", tmp_path / "absent" / "page.html")
    assert done.returncode == 4 and b"Choose another file" in done.stderr


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--serve", "--prometheus"), "not allowed with"),
        (("--serve", "--json"), "go without --json"),
        (("--html", "x", "--watch", "1"), "go without --json"),
        (("--serve", "--owner", "root"), "--owner is for the screen only"),
        (("--prometheus", "--show-values"), "need a page"),
        (("--port", "80"), "--port belongs to a server"),
        (("--html", "x", "--host", "127.0.0.1"), "--host belongs to a server"),
        (("--serve", "--port", "65536"), "Invalid PORT '65536': expected a number from 0 to 65535"),
        (("--serve", "--port", "x"), "Invalid PORT 'x'"),
    ],
)
def test_contradictions_of_pages_are_wrong_usage(
    cache: Cache, segment: Segment, arguments: "tuple[str, ...]", words: str
) -> None:
    done = segment.program("analytics", *arguments)
    assert done.returncode == 2 and words in " ".join(done.stderr.decode().split())


def test_serve_without_a_segment_is_refused(segment: Segment) -> None:
    for words in (["--serve", "--port", "0"], ["--html", "x"]):
        done = segment.program("analytics", *words)
        assert done.returncode == 3 and b"does not exist" in done.stderr


def test_the_command_is_looked_for_in_three_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Path(library.load().path).resolve().parent / "memstream"
    assert command.find_command() == str(found)
    (tmp_path / "lib").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "path").mkdir()
    moved = tmp_path / "lib" / "libcache.so"
    shutil.copy(library.load().path, moved)
    monkeypatch.setenv("MEMSTREAM_LIBRARY", str(moved))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    with pytest.raises(UsageError, match="neither beside .*libcache.so nor in PATH. Build it with scripts/build.sh"):
        command.find_command()
    for place in ("path", "bin", "lib"):  # Each comes before the ones that were looked at.
        program = tmp_path / place / "memstream"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        assert command.find_command() == str(program)


def test_the_programs_words_and_exit_code_are_those_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced: List[Any] = []
    monkeypatch.setattr(os, "execv", lambda path, words: replaced.append((path, words)))
    monkeypatch.setattr(command, "find_command", lambda: str(tmp_path / "memstream"))
    command.become("serve", "--port", "1")
    assert replaced == [(str(tmp_path / "memstream"), ["memstream", "serve", "--port", "1"])]
    (tmp_path / "memstream").write_text("#!/bin/sh\nexit 4\n")
    (tmp_path / "memstream").chmod(0o755)
    assert command.run_and_wait("report") == 4


def test_watch_shows_the_rates_of_each_interval(cache: Cache, segment: Segment) -> None:
    cache["key"] = b"value"
    child = segment.start(ANALYTICS, "--watch", "1", "--count", "2", "--top", "1")
    assert child.stdout is not None
    lines = [child.stdout.readline().decode()]
    assert lines[0].startswith("MemStream ")
    while not lines[-1].startswith("most recent"):
        lines.append(child.stdout.readline().decode())
    for _ in range(300):
        cache.get("key")
        cache.get("absent")
    rest = child.communicate(timeout=60)[0].decode()
    assert not any(line.startswith("last ") for line in lines)
    found = re.search(r"^last (\d+\.\d) +gets (\d+)/s \((\d+\.\d\d) % hits\), puts 0/s, deletes 0/s, ", rest, re.M)
    assert found, rest
    assert float(found[1]) * int(found[2]) == pytest.approx(600, rel=0.1) and found[3] == "50.00"


def test_bars_show_parts_of_a_whole(cache: Cache, segment: Segment) -> None:
    assert bar(0.5, 10) == "[#####.....]"
    assert (bar(-1, 4), bar(0, 4), bar(1, 4), bar(7, 4)) == ("[....]", "[....]", "[####]", "[####]")
    screen = segment.program("analytics").stdout.decode()
    assert "\nhits " not in screen and re.search(r"^full {8}\[#*\.+\] \d+\.\d %$", screen, re.M)
    cache["key"] = b"value"
    cache.get("key")
    assert f"\nhits        [{'#' * 40}] 100.0 %\n" in segment.program("analytics").stdout.decode()
