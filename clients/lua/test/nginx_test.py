#!/usr/bin/env python3
"""Debian's nginx with libnginx-mod-http-lua on a cache that a Python process fills.

    nginx_test.py ROOT BUILD

Exit code: 0 if all held; 1 if not; 77 if nginx or a module is missing.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Tuple

ROOT, BUILD = (Path(argument).resolve() for argument in sys.argv[1:3])
sys.path.insert(0, str(ROOT / "clients" / "python"))

from memstream import Cache, destroy  # noqa: E402  The line above makes it importable.

MODULES = Path("/usr/lib/nginx/modules")
NAME = f"lua-test-{os.getpid()}"


def request(path: Path, target: str) -> Tuple[int, bytes]:
    """Status and body of a GET over the socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(f"GET {target} HTTP/1.0\r\nHost: test\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@contextmanager
def nginx(folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """An nginx that answers."""
    text = (ROOT / "clients/lua/test/nginx.conf").read_text(encoding="utf-8")
    for name, value in {"MODULES": MODULES, "LUA": ROOT / "clients/lua", "SOCKET": folder / "socket"}.items():
        text = text.replace(f"@{name}@", str(value))
    # Workers of root would be another user's, and not be let in.
    text = text.replace("@USER@", "user root;" if os.geteuid() == 0 else "")
    (folder / "nginx.conf").write_text(text, encoding="utf-8")
    command = ["nginx", "-p", str(folder), "-c", "nginx.conf", "-e", "error.log"]
    with subprocess.Popen(command) as process:
        try:
            wait_until(lambda: answers(folder / "socket"), "nginx answers")
            yield process
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait(20)


def answers(path: Path) -> bool:
    try:
        return request(path, "/worker")[0] == 200
    except OSError:
        return False


def wait_until(condition: "object", what: str) -> None:
    end = time.monotonic() + 10
    while not condition():  # type: ignore[operator]
        if time.monotonic() > end:
            raise AssertionError(f"In vain waited until {what}.")
        time.sleep(0.02)


def check_values(cache: Cache, path: Path) -> None:
    """nginx serves what Python stored, and the other way."""
    for value in (b"page", b"", bytes(range(256)), b"x" * 300_000):
        cache.set("page", value)
        assert request(path, "/value/page") == (200, value)
    assert request(path, "/value/absent") == (404, b"no such key\n")
    assert request(path, "/set/from-nginx?hello") == (200, b"stored\n")
    assert cache["from-nginx"] == b"hello"
    entry = cache.entry("from-nginx")
    assert entry is not None and entry.expires_at is not None and 50 < entry.expires_at - time.time() < 61
    status, body = request(path, "/value/" + "k" * 2000)
    assert status == 503 and b"2000 bytes" in body, body
    assert request(path, "/value/page")[1] == b"x" * 300_000


def check_mistakes(path: Path) -> None:
    lines = request(path, "/mistakes")[1].decode().splitlines()
    expected = ("not a table", "not a boolean", "Invalid ttl", "Invalid ttl", "CACHE_BAD_NAME", "CACHE_NO_SEGMENT")
    assert len(lines) == len(expected) and all(part in line for part, line in zip(expected, lines)), lines
    assert all(line.startswith("false") for line in lines[:4]), lines


def check_stopped_writer(cache: Cache, path: Path) -> None:
    """A writer that is stopped while it holds a lock makes nginx answer "busy" immediately."""
    code = "from memstream import Cache\ncache = Cache()\nwhile True: cache.set('large', bytes(200_000))"
    with subprocess.Popen([sys.executable, "-c", code]) as writer:
        try:
            wait_until(lambda: cache.exists("large"), "the writer writes")
            for _ in range(200):
                writer.send_signal(signal.SIGSTOP)
                time.sleep(0.01)
                started = time.monotonic()
                busy = request(path, "/set/key?v")[1] == b"CACHE_BUSY\n"
                took = time.monotonic() - started
                assert took < 0.5, f"nginx waited {took} s for a lock"
                if busy:
                    return
                writer.send_signal(signal.SIGCONT)
                time.sleep(0.003)
            raise AssertionError("The writer was never stopped with the lock.")
        finally:
            writer.kill()


def check_reload(cache: Cache, process: "subprocess.Popen[bytes]", path: Path) -> None:
    """A reload brings new workers, and leaves no slot of the old ones."""
    before = {attached.pid for attached in cache.processes()}
    assert len(before) == 3, before  # This process and two workers.
    for _ in range(5):
        process.send_signal(signal.SIGHUP)
        wait_until(
            lambda: len(pids := {attached.pid for attached in cache.processes()}) == 3 and len(pids & before) == 1,
            "the new workers alone are attached",
        )
        before = {attached.pid for attached in cache.processes()}
    assert cache.stats().dead_processes == 0, "a worker ended without closing"
    assert request(path, "/value/page")[0] == 200


def main() -> int:
    if shutil.which("nginx") is None or not (MODULES / "ngx_http_lua_module.so").exists():
        print("nginx or its module for Lua is missing: install nginx-light, libnginx-mod-http-lua and lua-cjson")
        return 77
    os.environ.update(MEMSTREAM_NAME=NAME, MEMSTREAM_LIBRARY=str(BUILD / "libcache.so"), MEMSTREAM_SIZE="16M")
    os.environ["PYTHONPATH"] = str(ROOT / "clients" / "python")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "socket"
        try:
            with Cache(shards=1) as cache, nginx(folder) as process:
                cases = ROOT / "tests/conformance/cases.json"
                status, body = request(path, f"/conformance?file={cases}&name={NAME}-cases")
                assert status == 200 and int(body) > 100, (folder / "error.log").read_text(encoding="utf-8")[-2000:]
                check_values(cache, path)
                check_mistakes(path)
                check_reload(cache, process, path)
                check_stopped_writer(cache, path)
                wait_until(lambda: request(path, "/set/key?v")[1] == b"stored\n", "the dead writer's lock is free")
            with Cache() as cache:
                assert [attached.pid for attached in cache.processes()] == [os.getpid()]
        finally:
            destroy(NAME)
    print(f"nginx holds {int(body)} steps of conformance, serves what Python stored, and waits for nobody")
    return 0


if __name__ == "__main__":
    sys.exit(main())
