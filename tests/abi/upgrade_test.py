#!/usr/bin/env python3
"""Replaces the library under load and restarts the processes one after another, as docs/installing.md says.

    upgrade_test.py LIBRARY

The file is replaced as a package manager does it, by a rename. Old and new processes share the segment. No call
may fail, no value that was stored before may be lost, and the new processes have to use the new file.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

WORKERS, KEYS = 3, 200
WORKER = """
import ctypes, signal, sys
library = ctypes.CDLL(sys.argv[1])
library.cache_last_error.restype = ctypes.c_char_p
running = True
def stop(*_):
    global running
    running = False
signal.signal(signal.SIGTERM, stop)
def require(status):
    if status != 0:
        sys.exit(f"{status}: {library.cache_last_error().decode()}")
require(library.cache_connect())
print("ready", flush=True)
rounds = 0
while running:
    rounds += 1
    require(library.cache_put(sys.argv[2].encode(), str(rounds).encode(), len(str(rounds))))
    value, size = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
    key = f"kept-{rounds % KEYS}"
    require(library.cache_get(key.encode(), value, ctypes.byref(size)))
    if value.raw[: size.value] != key.encode():
        sys.exit(f"{key} has the value {value.raw[:size.value]!r}")
print(rounds)
""".replace(
    "KEYS", str(KEYS)
)


def install(library: Path, place: Path) -> None:
    new = place.with_suffix(".new")
    shutil.copy(library, new)
    new.rename(place)


def start(place: Path, number: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WORKER, str(place), f"worker-{number}"]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert worker.stdout is not None
    first = worker.stdout.readline().strip()
    if first != "ready":
        raise SystemExit(f"a worker says: {first} {worker.communicate()[0]}")
    return worker


def uses_removed_file(worker: "subprocess.Popen[str]", place: Path) -> bool:
    return f"{place} (deleted)" in Path(f"/proc/{worker.pid}/maps").read_text(encoding="utf-8")


def stop(worker: "subprocess.Popen[str]") -> Iterator[str]:
    worker.send_signal(signal.SIGTERM)
    printed = worker.communicate(timeout=60)[0].strip()
    if worker.returncode != 0 or not printed.isdigit() or int(printed) == 0:
        yield f"a worker ends with {worker.returncode}: {printed}"


def upgrade(library: Path, place: Path, workers: "list[subprocess.Popen[str]]") -> Iterator[str]:
    workers += [start(place, number) for number in range(WORKERS)]
    time.sleep(0.2)
    install(library, place)
    for number in range(WORKERS):
        if not uses_removed_file(workers[number], place):
            yield f"worker {number} does not use the old file before its restart"
        workers.append(start(place, number))
        time.sleep(0.1)
        yield from stop(workers[number])
    for worker in workers[WORKERS:]:
        if uses_removed_file(worker, place):
            yield "a worker uses the old file after its restart"
        yield from stop(worker)


def main() -> int:
    library = Path(sys.argv[1]).resolve()
    os.environ["MEMSTREAM_NAME"] = f"upgrade-{os.getpid()}"
    os.environ["MEMSTREAM_SIZE"] = "4M"
    own = ctypes.CDLL(str(library))
    own.cache_last_error.restype = ctypes.c_char_p
    workers: "list[subprocess.Popen[str]]" = []
    problems: "list[str]" = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "libcache.so.1"
        install(library, place)
        try:
            for number in range(KEYS):
                key = f"kept-{number}".encode()
                if own.cache_connect() != 0 or own.cache_put(key, key, len(key)) != 0:
                    raise SystemExit(own.cache_last_error().decode())
            problems += upgrade(library, place, workers)
            for number in range(KEYS):
                value, size = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
                if own.cache_get(f"kept-{number}".encode(), value, ctypes.byref(size)) != 0:
                    problems.append(f"kept-{number} is lost")
        finally:
            for worker in workers:
                if worker.poll() is None:
                    worker.kill()
                    worker.wait()
            destroyed = own.cache_destroy()
    print("\n".join(problems) or f"{WORKERS} workers were replaced under load, {KEYS} values stayed")
    return 0 if not problems and destroyed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
