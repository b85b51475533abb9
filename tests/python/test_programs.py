"""What the three programs have in common: help, exit codes, errors in one line, the segment options."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Callable, List

import pytest
from conftest import CLIENT, Segment

from memstream import Cache, __version__, errors
from memstream.cli import reader
from memstream.cli.common import ExitCode

PROGRAMS = ["writer", "reader", "analytics"]
COMMANDS = [
    ["writer", "put", "key", "value"],
    ["writer", "load", "/proc/version"],
    ["reader", "get", "key"],
    ["reader", "keys"],
    ["reader", "verify", "/proc/version"],
    ["reader", "watch", "key"],
    ["analytics"],
]
ONE_OF_EACH = [COMMANDS[0], COMMANDS[2], COMMANDS[6]]
LOOKING = [command for command in COMMANDS if command[0] != "writer"]


def one_line(error: bytes, program: str) -> str:
    """The error, which must be one line that begins with the program's name."""
    text = error.decode()
    assert text.startswith(f"{program}.py: ") and text.count("\n") == 1 and text.endswith("\n"), text
    return text


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_shows_examples_and_exit_codes(segment: Segment, program: str) -> None:
    done = segment.program(program, "--help")
    text = done.stdout.decode()
    assert done.returncode == 0
    assert len(re.findall(rf"^  {program}\.py ", text, flags=re.MULTILINE)) >= 3
    for code in ExitCode:
        assert re.search(rf"^  .*\b{code.value}\b", text, flags=re.MULTILINE), code


@pytest.mark.parametrize("command", [["writer", "put"], ["writer", "load"], ["reader", "get"], ["reader", "verify"]])
def test_every_command_has_help(segment: Segment, command: List[str]) -> None:
    done = segment.program(command[0], command[1], "--help")
    assert done.returncode == 0 and b"--backend" in done.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_version_is_that_of_the_package(segment: Segment, program: str) -> None:
    assert segment.program(program, "--version").stdout == f"{program}.py {__version__}\n".encode()


@pytest.mark.parametrize("command", LOOKING, ids=" ".join)
@pytest.mark.parametrize("options", [[], ["--read-only"]], ids=" ".join)
def test_who_only_looks_never_creates(segment: Segment, command: List[str], options: List[str]) -> None:
    done = segment.program(*command, *options)
    assert done.returncode == 3
    assert segment.name in one_line(done.stderr, command[0])


@pytest.mark.parametrize("command", ONE_OF_EACH, ids=" ".join)
@pytest.mark.parametrize(
    "variable, option, value",
    [
        ("MEMSTREAM_BACKEND", "--backend", "floppy"),
        ("MEMSTREAM_NAME", "--name", "a/b"),
        ("MEMSTREAM_TIMEOUT_MS", "--timeout-ms", "soon"),
    ],
)
def test_options_that_cannot_be_are_wrong_usage(
    segment: Segment, command: List[str], variable: str, option: str, value: str
) -> None:
    by_option = segment.program(*command, option, value)
    by_variable = segment.program(*command, env={**segment.environment, variable: value})
    for done in (by_option, by_variable):
        assert done.returncode == 2
        text = one_line(done.stderr, command[0])
        assert variable in text and value in text


@pytest.mark.parametrize("option, value", [("--size", "much"), ("--size", "1K"), ("--shards", "0"), ("--mode", "rw")])
def test_creation_options_that_cannot_be_are_wrong_usage(segment: Segment, option: str, value: str) -> None:
    done = segment.program("writer", "put", "key", "value", option, value)
    assert done.returncode == 2 and value in one_line(done.stderr, "writer")


def test_options_come_before_the_environment(segment: Segment) -> None:
    other = f"{segment.name}-other"
    options = ["--name", other, "--backend", segment.backend, "--timeout-ms", "500"]
    creation = ["--size", "8M", "--shards", "2", "--mode", "0640"]
    wrong = {**segment.environment, "MEMSTREAM_BACKEND": "floppy", "MEMSTREAM_SIZE": "much", "MEMSTREAM_MODE": "x"}
    assert segment.program("writer", "put", "key", "value", *options, *creation, env=wrong).returncode == 0
    with Cache(other, create=False) as cache:
        assert cache["key"] == b"value"
        assert (cache.info().size, cache.stats().shards) == (8 * 1024 * 1024, 2)
    reading = {**wrong, "MEMSTREAM_SIZE": "32M", "MEMSTREAM_MODE": "0600"}
    assert segment.program("reader", "get", "key", *options, env=reading).stdout == b"value"
    with Cache(other, create=False) as cache:
        cache.destroy()


@pytest.mark.parametrize("command", ONE_OF_EACH, ids=" ".join)
def test_a_library_that_is_not_there_is_refused_in_one_line(segment: Segment, command: List[str]) -> None:
    done = segment.program(*command, "--library", "/no/such/libcache.so")
    assert done.returncode == 4
    assert "/no/such/libcache.so" in one_line(done.stderr, command[0])


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_damaged_segment_is_refused_in_one_line(segment: Segment, command: List[str]) -> None:
    Cache().close()
    with segment.bytes() as memory:
        memory[128] ^= 0xFF
    done = segment.program(*command)
    assert done.returncode == 4
    assert segment.name in one_line(done.stderr, command[0])


def test_another_users_segment_is_refused(
    segment: Segment, in_child: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")

    def read_as_another_user() -> int:
        # Forked, with everything loaded: the other user may not be allowed to read this repository.
        os.setgid(65534)
        os.setuid(65534)
        try:
            return reader.main(["keys"])
        finally:
            sys.stderr.flush()

    Cache().close()
    # System V keys are made of user and name: there, another user's segment is simply not that one.
    assert in_child(read_as_another_user) == (4 if segment.backend == "posix" else 3)
    text = capfd.readouterr().err
    assert segment.name in text and text.count("\n") == 1


def test_a_program_without_the_package_installed_finds_it_beside_itself(segment: Segment, tmp_path: Path) -> None:
    environment = {name: value for name, value in segment.environment.items() if name != "PYTHONPATH"}
    assert segment.program("writer", "put", "key", "value", env=environment, cwd=tmp_path).returncode == 0


def test_ctrl_c_is_one_line(segment: Segment) -> None:
    child = segment.start(str(CLIENT / "writer.py"), "put", "key", "--file", "-", stdin=subprocess.PIPE)
    while not _attached(segment):
        pass
    child.send_signal(signal.SIGINT)
    out, error = child.communicate(timeout=30)
    assert (child.returncode, out, error) == (130, b"", b"writer.py: interrupted\n")


def _attached(segment: Segment) -> bool:
    """Whether the segment exists by now."""
    try:
        Cache(create=False).close()
    except errors.NoSegment:
        return False
    return True


NUL = [
    ["get", "key", "--name", "a\0b"],
    ["get", "key", "--backend", "posix\0"],
    ["get", "key", "--out", "/tmp/a\0b"],
    ["get", "k\0y"],
    ["verify", "/tmp\0/other"],
    ["verify", "--log", "\0"],
]


@pytest.mark.parametrize("arguments", NUL, ids=lambda arguments: " ".join(arguments).replace("\0", "NUL"))
def test_a_nul_in_an_argument_is_wrong_usage(
    segment: Segment, capsys: pytest.CaptureFixture[str], arguments: List[str]
) -> None:
    Cache().close()
    assert reader.main(arguments) == ExitCode.USAGE
    error = capsys.readouterr().err
    assert ": Invalid argument " in error and "expected text without a NUL character" in error


@pytest.mark.parametrize(
    "command, text",
    [
        (["writer", "put", "key"], "put expects one of VALUE and --file PATH. Give exactly one."),
        (["writer", "load"], "load expects one of PATH... and --jsonl FILE. Give exactly one."),
        (["writer", "load", "--jsonl", "-"], "--jsonl FILE and --key FIELD go together. Give both, or none."),
        (["reader", "verify"], "verify expects one of PATH... and --log FILE. Give exactly one."),
        (["analytics", "--log", "x"], "--log FILE and --every SECONDS go together. Give both, or none."),
        (["analytics", "--count", "1"], "--count ends a series of looks. Give --watch or --log with it."),
        (["writer", "put", "k", "v", "--ttl", "1h"], "--ttl: Invalid SECONDS '1h': expected a number above 0."),
        (["writer", "put", "k", "v", "--ttl", "0"], "--ttl: Invalid SECONDS '0': expected a number above 0."),
        (["reader", "watch", "k", "--count", "x"], "--count: Invalid N 'x': expected a whole number above 0."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_says_what_is_expected(segment: Segment, command: List[str], text: str) -> None:
    done = segment.program(*command)
    assert done.returncode == ExitCode.USAGE and done.stderr.decode().endswith(f"{text}\n")
