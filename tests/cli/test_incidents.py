"""The questions of an incident in docs/operations.md: each command, in the situation that it is for, answers."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from signal import SIGSTOP
from typing import Any, Dict, Iterator, List

import pytest
from test_cli import COMMAND, HOLDER, Shell, spoil
from test_serve import Server

ROOT = Path(__file__).resolve().parents[2]


def read_table() -> Dict[str, List[str]]:
    """The questions of the page, and the commands in the cell beside each."""
    page = (ROOT / "docs/operations.md").read_text().split("## During an incident\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    return {question: re.findall(r"`([^`]+)`", answer) for question, answer in rows if question != "Question"}


TABLE = read_table()
ASKED: List[str] = []  # What the tests below are about.


def about(question: str) -> pytest.MarkDecorator:
    """Marks the test of a question, which gets the commands of its row."""
    ASKED.append(question)
    return pytest.mark.parametrize("commands", [TABLE.get(question, [])], ids=[question])


@pytest.fixture(name="shell")
def make_shell() -> Iterator[Shell]:
    shell = Shell(f"incident-{os.getpid()}")
    yield shell
    shell.run("rm", "--yes")


def words_of(command: str, program: str = "build/memstream") -> List[str]:
    """The words behind the program, which must be this one."""
    assert command.split()[0] == program, command
    return command.split()[1:]


def open_cache(shell: Shell, **options: Any) -> Any:
    from memstream import Cache

    return Cache(shell.name, size=8 << 20, **options)


def run_script(shell: Shell, command: str, *more: str, code: int = 0) -> str:
    script, *words = command.split()
    environment = {**os.environ, "MEMSTREAM_NAME": shell.name, "TZ": "UTC"}
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *words, *more],
        env=environment,
        stdout=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
    return done.stdout.decode()


@contextmanager
def another_process(shell: Shell, code: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Runs this Python code with `cache`, and goes on when it has printed a line."""
    start = "import sys, time; from memstream import Cache; cache = Cache(sys.argv[1], size='8M')\n"
    child = subprocess.Popen(
        [sys.executable, "-c", start + code, shell.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None and child.stdout.readline()
        yield child
    finally:
        child.kill()
        child.communicate()


WORKER = """
for number in range(1000): cache[f"key{number}"] = b"x" * 100
print("ready", flush=True)
while True:
    cache["written"] = b"x" * 100
    for number in range(100):
        cache.get("hot")
        cache.get(f"key{number}")
    cache["hot"] = b"value"
"""


def line_of(text: str, start: str) -> str:
    found = [line for line in text.splitlines() if line.startswith(start)]
    assert len(found) == 1, (start, text)
    return found[0]


def test_each_question_of_the_page_has_its_test() -> None:
    assert sorted(ASKED) == sorted(TABLE) and len(TABLE) == 18


@about("What is in the cache, what is the hit ratio?")
def test_contents_and_hit_ratio(shell: Shell, commands: List[str]) -> None:
    script, command = commands
    with open_cache(shell) as cache:
        cache.set_many({"first": b"x" * 1000, "second": b"y"})
        for key in ("first", "first", "second", "absent"):
            cache.get(key)
    text = shell.ok(*words_of(command))
    assert "75.0 %  (3 hits, 1 misses)" in line_of(text, "hit ratio")
    assert line_of(text, "entries").split()[1] == "2;"
    shown = run_script(shell, script)
    assert "75.0 %" in shown and "first" in shown and "second" in shown


@about("Can I see it all at once?")
def test_all_at_once(shell: Shell, commands: List[str]) -> None:
    shell.ok("put", "key", "x")
    command, *rest = words_of(commands[0])
    assert command == "serve"
    with Server(shell, *rest) as server:
        status, headers, page = server.ask("/")
        assert status == 200 and "text/html" in headers["Content-Type"] and "<title>" in page
        assert server.json("/api/report")["stat"]["entries"] == 1


@about("How does it change?")
def test_changes(shell: Shell, commands: List[str]) -> None:
    top, watch = commands
    assert watch.endswith(" --watch 5")
    with another_process(shell, WORKER):
        lines = shell.ok(*words_of(watch)[:-1], "0.5", "--count", "2").splitlines()
        titles = lines[0].split()
        values = re.split(r" {2,}", lines[-1])  # A point in time has one space in it.
        row = dict(zip(titles, values))
        assert int(row["GETS/S"]) > 0 and int(row["PUTS/S"]) > 0, lines
        assert row["ENTRIES"] == "1002"
        screen = shell.ok(*words_of(top), "--seconds", "0.5", "--count", "2")
        assert re.search(r"gets/s [1-9]\d*  puts/s [1-9]", screen), screen


@about("Which keys are hot, which are large?")
def test_hot_and_large_keys(shell: Shell, commands: List[str]) -> None:
    hot, large = commands
    assert hot.endswith(" --rate 5")
    with another_process(shell, WORKER):
        shell.ok("put", "whale", "x" * 100_000)
        deadline = time.monotonic() + 30
        first = ""
        while first != "hot" and time.monotonic() < deadline:
            lines = shell.run(*words_of(hot)[:-1], "0.5").stdout.decode().splitlines()
            first = lines[1].split()[-1] if len(lines) > 1 else ""
        assert "hot" in lines[1].split(), lines
        assert "whale" in shell.ok(*words_of(large)).splitlines()[1]


@about("Why are entries evicted, and how old are they?")
def test_evictions(shell: Shell, commands: List[str]) -> None:
    with open_cache(shell) as cache:
        for number in range(300):
            cache.set_many({f"key{number}-{part}": bytes(1000) for part in range(100)})
        evictions = cache.stats().evictions
    assert evictions > 10_000
    text = shell.ok(*words_of(commands[0]))
    by_cause = re.findall(r"(\d+) for (\w+)", line_of(text, "evictions"))
    assert sum(int(count) for count, _ in by_cause) == evictions
    assert max(by_cause, key=lambda one: int(one[0]))[1] == "room"
    age = re.search(r"half of them not read for (\S+ \w+) or less, stored (\S+ \w+) ago", text)
    assert age, text


@about("Is the cache too small?")
def test_size(shell: Shell, commands: List[str]) -> None:
    numbers = random.Random(1)
    with open_cache(shell) as cache:
        for _ in range(200_000):
            key = f"key{numbers.randrange(40_000)}"  # It holds about 25,000 of them.
            if cache.get(key) is None:
                cache[key] = bytes(200)
    text = shell.ok(*words_of(commands[0]))
    gain = re.search(r"Twice the memory \(16\.0 MiB\): (\d+\.\d) points more hits", text)
    assert gain, text
    assert float(gain.group(1)) > 5
    ratios = [float(line.split()[2]) for line in text.splitlines() if re.match(r"\d+\.\d MiB ", line)]
    assert len(ratios) == 8 and ratios == sorted(ratios), text


@about("Would another size or policy evict less?")
def test_policy(shell: Shell, commands: List[str], tmp_path: Path) -> None:
    from memstream import Cache

    file = tmp_path / "cache.oracleGeneral"
    each = "cache[f'key{number}'] = b'x'; cache.get(f'key{number}')"
    loop = f"print(1, flush=True)\nwhile True:\n    for number in range(5000): {each}"
    with Cache(shell.name, size="16M"), another_process(shell, loop):
        words = words_of(commands[0])
        assert words[1] == file.name
        text = shell.ok(words[0], str(file), *words[2:], "--seconds", "1")
    assert text.startswith("Wrote ")
    assert file.stat().st_size > 0 and file.stat().st_size % 24 == 0


@about("Who waits for whom?")
def test_waits(shell: Shell, commands: List[str]) -> None:
    waits, who = commands
    loop = "print(1, flush=True)\nwhile True: cache['same'] = bytes(100_000)"
    with another_process(shell, loop), another_process(shell, loop) as second:
        deadline = time.monotonic() + 60
        counted = 0
        while counted == 0 and time.monotonic() < deadline:
            locks = re.search(r"(\d+) waits, (\S+ \w+) in total, the longest", shell.ok(*words_of(waits)))
            assert locks
            counted = int(locks.group(1))
        assert counted > 0
        second.send_signal(SIGSTOP)
        state = ""
        while state != "stopped" and time.monotonic() < deadline:
            row = [line.split() for line in shell.ok(*words_of(who)).splitlines() if line.startswith(f"{second.pid} ")]
            state = row[0][1]
        assert state == "stopped"
        assert line_of(shell.ok(*words_of(who)), "PID").split()[6] == "HOLDS"


@about("Who is attached?")
def test_attached(shell: Shell, commands: List[str]) -> None:
    with another_process(shell, "cache['key'] = b'x'; print(1, flush=True); input()") as child:
        text = shell.ok(*words_of(commands[0]))
        row = line_of(text, f"{child.pid} ")
        assert row.split()[1] == "running" and "import sys, time" in row
    assert f"{child.pid} " not in shell.ok(*words_of(commands[0]))


@about("Is a key there, and what does it hold?")
def test_a_key(shell: Shell, commands: List[str]) -> None:
    shell.ok("put", "user:1", "what it holds")
    assert commands[0].endswith(" KEY")
    assert run_script(shell, commands[0].replace("KEY", "user:1")) == "what it holds"
    assert run_script(shell, commands[0].replace("KEY", "user:2"), code=1) == ""


@about("Which segments exist?")
def test_segments(shell: Shell, commands: List[str]) -> None:
    command, by_system = commands
    shell.ok("put", "key", "x")
    row = line_of(shell.ok(*words_of(command)), shell.name + " ")
    assert "8.0 MiB" in row and "ready" in row
    number = [one["system_id"] for one in shell.json("ls")["segments"] if one["name"] == shell.name][0]
    shown = subprocess.run(["sh", "-c", by_system], capture_output=True, check=True).stdout.decode()
    assert re.search(rf"(^|\s){re.escape(number.split('/')[-1].split()[-1])}(\s|$)", shown), (number, shown)


FULL = """
import sys
from memstream import Cache
with Cache(sys.argv[1], backend="posix", size="64M") as cache:
    for number in range(200): cache[f"key{number}"] = bytes(100_000)
"""


@about("Is `/dev/shm` full?")
def test_a_full_file_system(shell: Shell, commands: List[str]) -> None:
    """In a mount namespace with a /dev/shm of its own, which is smaller than the cache.

    The semaphores of the segment end with an IPC namespace of its own: there nothing else removes them.
    """
    space = ["unshare", "--ipc", "--mount", "--propagation", "private"]
    if os.geteuid() != 0 or subprocess.run([*space, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can have a /dev/shm of its own")
    look, field = commands
    steps = f'mount -t tmpfs -o size=8m none /dev/shm && "$1" -c "$2" "$3" && {look} && "$4" stat --json'
    done = subprocess.run(
        [*space, "sh", "-c", steps, "sh", sys.executable, FULL, shell.name, str(COMMAND)],
        env={**os.environ, "MEMSTREAM_NAME": shell.name, "MEMSTREAM_BACKEND": "posix"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    table, report = done.stdout.decode().split("{", 1)
    used = table.splitlines()[1].split()
    assert used[-1] == "/dev/shm" and int(used[-2].rstrip("%")) > 90, table
    assert json.loads("{" + report)[field] > 0


def damage(shell: Shell) -> None:
    with open_cache(shell, checksum=True) as cache:
        cache.set_many({"whole": b"x" * 1000, "damaged": b"y" * 1000})
        spoil(cache, "damaged")


@about("Are the contents intact?")
def test_intact(shell: Shell, commands: List[str]) -> None:
    from memstream.errors import CorruptError

    command, in_python, in_c = commands
    assert in_python == "Cache().check()" and in_c == "memstream_check()"  # Cache.check() calls the latter.
    with open_cache(shell, checksum=True) as cache:
        cache["key"] = b"x"
        assert shell.ok(*words_of(command)) == "Every invariant holds.\n"
        cache.check()
        damage(shell)
        done = shell.run(*words_of(command))
        assert done.returncode == 1 and b"checksum" in done.stdout + done.stderr, done
        with pytest.raises(CorruptError):
            cache.check()


@about("How do I repair them?")
def test_repair(shell: Shell, commands: List[str]) -> None:
    command, in_python, in_c = commands
    assert in_python == "Cache().repair()" and in_c == "memstream_repair()"  # Cache.repair() calls the latter.
    damage(shell)
    done = shell.run(*words_of(command))
    assert done.returncode == 1 and b"1 damaged values" in done.stdout and b"1 entries are left" in done.stdout
    shell.ok("check")
    damage(shell)
    with open_cache(shell) as cache:
        assert cache.repair().damaged_values == 1
        cache.check()
        assert cache["whole"] == b"x" * 1000 and cache.get("damaged") is None


@about("How do I change the size?")
def test_resizing(shell: Shell, commands: List[str]) -> None:
    shell.ok("put", "key", "value")
    command, in_c = commands
    assert command.endswith(" SIZE") and in_c == "memstream_resize()"
    assert "from 8.0 MiB to 32.0 MiB" in shell.ok(*words_of(command)[:-1], "32M")
    assert shell.json("stat")["max_memory"] == 32 << 20 and shell.ok("get", "key") == "value"


@about("What do dead processes still hold?")
def test_what_the_dead_hold(shell: Shell, commands: List[str]) -> None:
    command, in_c = commands
    assert in_c == "memstream_reap()"
    with another_process(shell, HOLDER) as child:
        child.kill()
        child.wait()
    text = shell.ok(*words_of(command))
    assert "Freed what dead processes held: 1 process slots, 3 views, 1 leases, 0 locks, " in text


@about("Is something wrong on this machine?")
def test_the_machine(shell: Shell, commands: List[str]) -> None:
    with open_cache(shell, backend="posix"):
        pass
    identity = [
        one["system_id"]
        for one in shell.json("ls", "--backend", "posix")["segments"]
        if (one["name"], one["backend"]) == (shell.name, "posix")
    ][0]
    path = Path("/dev/shm") / identity.strip("/")
    shell.ok("rm", "--backend", "posix", "--yes")
    path.write_bytes(b"not a segment".ljust(1 << 20))
    try:
        done = shell.run(*words_of(commands[0]))
        assert done.returncode == 1
        finding, remedy = done.stdout.decode().split(shell.name, 1)[1].splitlines()[:2]
        assert "cannot be opened" in finding, finding
        fix = re.search(r"memstream (rm --backend posix --name \S+)\.", remedy)
        assert fix, remedy
        shell.ok(*fix.group(1).split(), "--yes")
        assert not path.exists() and shell.name not in shell.run(*words_of(commands[0])).stdout.decode()
    finally:
        path.unlink(missing_ok=True)


@about("What does this error mean?")
def test_errors(shell: Shell, commands: List[str]) -> None:
    assert commands == []  # A link, not a command.
    row = [
        line for line in (ROOT / "docs/operations.md").read_text().splitlines() if "What does this error mean" in line
    ]
    page = (ROOT / "docs" / re.findall(r"\(([\w.]+)\)", row[0])[0]).read_text()
    header = (ROOT / "api/cache.h").read_text()
    statuses = re.findall(r"\bCACHE_[A-Z_]+\b(?=\s*=\s*-?\d)", header)
    assert len(statuses) > 20
    assert [status for status in statuses if f"| `{status}` |" not in page] == []
