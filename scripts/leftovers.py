#!/usr/bin/env python3
"""Tells what a test run left behind on the machine.

    leftovers.py snapshot FILE    note the shared memory, semaphores and files that exist now
    leftovers.py compare FILE     list what has come since, and processes of the run; exit code 1 if there is anything

A process belongs to the run if its environment has the same MEMSTREAM_TEST_RUN as this program's: children inherit it,
whatever they execute.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

RUN_VARIABLE = "MEMSTREAM_TEST_RUN"
# A process that was just killed may need a moment to go, and what it held goes with it.
PATIENCE_SECONDS = 5.0


def system_v(kind: str) -> list[str]:
    """The System V objects of a kind ("shm", "sem"), one line each, told by key and id."""
    table = Path("/proc/sysvipc") / kind
    if not table.exists():
        return []
    rows = [line.split() for line in table.read_text().splitlines()[1:]]
    return [f"System V {kind} key {int(row[0]) & 0xFFFFFFFF:#010x} id {row[1]}" for row in rows]


def files(folder: str) -> list[str]:
    return [f"file {entry.path}" for entry in os.scandir(folder)]


def resources() -> list[str]:
    found = system_v("shm") + system_v("sem") + files("/dev/shm")
    if "TMPDIR" in os.environ:
        found += files(tempfile.gettempdir())
    return sorted(found)


def processes_of_run() -> list[str]:
    mark = f"{RUN_VARIABLE}={os.environ[RUN_VARIABLE]}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) == os.getpid():
            continue
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue  # It has ended meanwhile, or is another user's.
        if mark in environment and command:
            found.append(f"process {folder.name}: {command}")
    return found


def leftovers(before: set[str]) -> list[str]:
    return [thing for thing in resources() if thing not in before] + processes_of_run()


def compare(before: set[str]) -> int:
    deadline = time.monotonic() + PATIENCE_SECONDS
    left = leftovers(before)
    while left and time.monotonic() < deadline:
        time.sleep(0.2)
        left = leftovers(before)
    for thing in left:
        print(f"left behind: {thing}")
    print(f"{len(left)} things left behind")
    return 1 if left else 0


def main(arguments: list[str]) -> int:
    if len(arguments) == 2 and arguments[0] == "snapshot":
        Path(arguments[1]).write_text(json.dumps(resources()))
        return 0
    if len(arguments) == 2 and arguments[0] == "compare":
        return compare(set(json.loads(Path(arguments[1]).read_text())))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
