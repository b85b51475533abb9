#!/usr/bin/env python3
"""The extension for PHP: the scripts of this folder, and FPM beside the command line.

    php_test.py ROOT BUILD

Exit code: 0 if all held; 1 if not; 77 if PHP 8.2 or PSR-16's interfaces are missing.
"""

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterator, List

ROOT, BUILD = (Path(argument).resolve() for argument in sys.argv[1:3])
sys.path.insert(0, str(ROOT / "clients" / "python"))

from memstream import Cache, destroy  # noqa: E402  The line above makes it importable.

EXTENSION = BUILD / "php" / "memstream.so"
FPM = "php-fpm8.2"
NAME = f"php-test-{os.getpid()}"


def settings(name: str) -> List[str]:
    given = {
        "extension": EXTENSION,
        "memstream.name": name,
        "memstream.size": 4 << 20,
        "memstream.shards": 1,
        "memory_limit": "256M",
        "include_path": ".:/usr/share/php",
    }
    return [part for key, value in given.items() for part in ("-d", f"{key}={value}")]


def php(name: str, *arguments: object) -> str:
    done = subprocess.run(
        ["php8.2", "-n", *settings(name), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def fastcgi(path: Path, script: Path, query: str) -> str:
    """The body that FPM gives for a script."""

    def record(kind: int, content: bytes) -> bytes:
        return struct.pack(">BBHHBB", 1, kind, 1, len(content), 0, 0) + content

    variables = {
        "SCRIPT_FILENAME": str(script),
        "REQUEST_METHOD": "GET",
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    pairs = b"".join(
        struct.pack(">BB", len(key), len(value)) + key.encode() + value.encode() for key, value in variables.items()
    )
    body = b""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(record(1, struct.pack(">HB5x", 1, 0)) + record(4, pairs) + record(4, b"") + record(5, b""))
        answer = connection.makefile("rb")
        while head := answer.read(8):
            _, kind, _, size, padding, _ = struct.unpack(">BBHHBB", head)
            content = answer.read(size + padding)[:size]
            body += content if kind == 6 else b""
    return body.partition(b"\r\n\r\n")[2].decode()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 10
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"In vain waited until {what}.")
        time.sleep(0.02)


@contextmanager
def fpm(folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """An FPM with two workers that answers at folder/socket."""
    pool: Dict[str, object] = {"listen": folder / "socket", "pm": "static", "pm.max_children": 2}
    if os.geteuid() == 0:
        pool.update(user="root", group="root")
    lines = ["[global]", f"error_log = {folder}/log", "daemonize = no", "[www]"]
    lines += [f"{key} = {value}" for key, value in pool.items()]
    (folder / "fpm.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [FPM, "-n", "-R", "-y", str(folder / "fpm.conf"), *settings(NAME)]
    with subprocess.Popen(command) as process:
        try:
            wait_until(lambda: (folder / "socket").exists(), "FPM listens")
            yield process
        finally:
            process.send_signal(signal.SIGQUIT)
            process.wait(20)


SCRIPT = """<?php
if (isset($_GET['entry'])) {
    echo memstream_entry('entry', function () { usleep(300000); memstream_inc('computed'); return getmypid(); });
} else {
    memstream_store('from-fpm', ['pid' => getmypid()]);
    echo json_encode([getmypid(), memstream_fetch('from-cli')]);
}
"""


def workers(cache: Cache) -> List[int]:
    return sorted(attached.pid for attached in cache.processes() if attached.pid != os.getpid())


def both_attached(cache: Cache, ask: Callable[[str], str]) -> Callable[[], bool]:
    """Asks until both workers have opened the cache, and nobody else is attached."""

    def attached() -> bool:
        ask("")
        return len(workers(cache)) == 2

    return attached


def check_fpm(folder: Path) -> None:
    script = folder / "script.php"
    script.write_text(SCRIPT, encoding="utf-8")
    with Cache(NAME, size=4 << 20, shards=1) as cache, fpm(folder) as process:

        def ask(query: str) -> str:
            return fastcgi(folder / "socket", script, query)

        # The command line and FPM share one cache, and Python reads strings of both.
        php(NAME, "-r", "memstream_store('from-cli', 'text of the command line');")
        assert cache["from-cli"] == b"text of the command line"
        assert "text of the command line" in ask("")
        assert "pid" in php(NAME, "-r", "echo json_encode(memstream_fetch('from-fpm'));")

        # Two workers and the command line ask for one missing value at the same moment: one of them computes.
        make = "function () { usleep(300000); memstream_inc('computed'); return getmypid(); }"
        code = f"echo memstream_entry('entry', {make});"
        with subprocess.Popen(
            ["php8.2", "-n", *settings(NAME), "-r", code], stdout=subprocess.PIPE, text=True
        ) as one, subprocess.Popen(
            ["php8.2", "-n", *settings(NAME), "-r", code], stdout=subprocess.PIPE, text=True
        ) as two:
            answers = {ask("entry=1"), one.communicate()[0], two.communicate()[0]}
        assert len(answers) == 1 and cache["computed"] == b"1", (answers, cache["computed"])

        # A reload starts new workers; the old ones leave no slot.
        wait_until(both_attached(cache, ask), "both workers are attached")
        for _ in range(3):
            before = workers(cache)
            process.send_signal(signal.SIGUSR2)
            wait_until(lambda: not set(before) & set(workers(cache)), "the old workers are gone")
            wait_until(lambda: (folder / "socket").exists(), "FPM listens")
            wait_until(both_attached(cache, ask), "the new workers are attached")
        process.send_signal(signal.SIGQUIT)
        process.wait(20)
        assert workers(cache) == [] and len(cache.processes()) == 1
        assert cache["from-cli"] == b"text of the command line"


def check_page() -> None:
    """The example of docs/languages.md runs as it stands."""
    (block,) = re.findall(r"^```php\n(.*?)^```$", (ROOT / "docs/languages.md").read_text(encoding="utf-8"), re.S | re.M)
    code = "require 'Psr/SimpleCache/autoload.php'; require $argv[1]; function makeReport() { return 'made'; }"
    said = "echo json_encode([$user, $found, memstream_fetch('visits'), $report, $cache->set('key', 1)]);"
    printed = php(
        f"{NAME}-page",
        "-r",
        f"{code} try {{ {block} {said} }} finally {{ memstream_destroy(); }}",
        ROOT / "clients/php/lib/SimpleCache.php",
    )
    assert printed == '[{"name":"Ada"},true,1,"made",true]', printed


def main() -> int:
    missing = [program for program in ("php8.2", FPM) if shutil.which(program) is None]
    if missing or not Path("/usr/share/php/Psr/SimpleCache").exists():
        print("PHP is missing: install php8.2-cli, php8.2-dev, php8.2-fpm and php-psr-simple-cache")
        return 77
    for variable in [name for name in os.environ if name.startswith("MEMSTREAM_") and name != "MEMSTREAM_TEST_RUN"]:
        del os.environ[variable]
    os.environ["MEMSTREAM_LIBRARY"] = str(BUILD / "libcache.so")
    here = ROOT / "clients/php/tests"
    print(php(f"{NAME}-cases", here / "conformance.php", ROOT / "tests/conformance/cases.json"), end="")
    print(php(f"{NAME}-functions", here / "functions.php", EXTENSION), end="")
    print(php(f"{NAME}-psr", here / "psr16.php"), end="")
    check_page()
    with tempfile.TemporaryDirectory() as folder:
        try:
            check_fpm(Path(folder))
        finally:
            destroy(NAME)
    print("FPM and the command line share one cache, and reloads leave no slot")
    return 0


if __name__ == "__main__":
    sys.exit(main())
