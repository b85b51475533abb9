#!/usr/bin/env python3
"""Shows nginx, Python, PHP, Node.js and C on one cache, each as a user of its own, by MEMSTREAM_GROUP.

    one_cache.py ROOT BUILD

The users share nothing but a group. Each stores a value, counts its visit and reads what the others stored. A user
outside the group is refused. Exit code: 0 if all held; 1 if not; 77 if a program is missing or this is not root.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = f"one-cache-{os.getpid()}"
GROUP = 61000  # Numbers that no account has: the kernel needs none.
USERS = {"python": 61001, "c": 61002, "php": 61003, "node": 61004, "nginx": 61005}
OUTSIDER = 61009
KEYS = [f"from-{language}" for language in USERS]
MODULES = Path("/usr/lib/nginx/modules")
PROGRAMS = ("cc", "nginx", "php8.2", "node")

PYTHON = """
import os, sys
from memstream import Cache
with Cache() as cache:
    cache["from-python"] = f"python as user {os.getuid()}".encode()
    cache.incr("visits", initial=0)
    print("|".join(cache.get(key, b"-").decode() for key in sys.argv[1:]))
"""
C = r"""
#include <memstream/memstream.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **keys) {
  memstream_t *cache;
  if (memstream_open(NULL, &cache) != CACHE_OK) return puts(cache_last_error());
  char value[64];
  const int64_t first = 0;
  int64_t visits;
  int size = snprintf(value, sizeof value, "c as user %d", (int)getuid());
  if (memstream_set(cache, "from-c", 6, value, (size_t)size, 0, 0) != CACHE_OK) return puts(cache_last_error());
  if (memstream_incr(cache, "visits", 6, 1, &first, 0, &visits) != CACHE_OK) return puts(cache_last_error());
  for (int i = 1; i < count; ++i) {
    size_t bytes = sizeof value;
    const int status = memstream_get(cache, keys[i], strlen(keys[i]), value, &bytes, NULL);
    printf("%s%.*s", i > 1 ? "|" : "", status == CACHE_OK ? (int)bytes : 1, status == CACHE_OK ? value : "-");
  }
  puts("");
  return memstream_close(cache);
}
"""
PHP = """<?php
memstream_store('from-php', 'php as user ' . fileowner('/proc/self'));
memstream_inc('visits');
$read = fn ($key) => memstream_exists($key) ? memstream_fetch($key) : '-';
echo implode('|', array_map($read, array_slice($argv, 1))), "\\n";
"""
NODE = """
const { Cache } = require('./node');
const cache = new Cache();
cache.set('from-node', `node as user ${process.getuid()}`);
cache.incr('visits', 1, { initial: 0 });
console.log(process.argv.slice(2).map((key) => cache.getString(key) ?? '-').join('|'));
"""
NGINX = """
load_module @MODULES@/ndk_http_module.so;
load_module @MODULES@/ngx_http_lua_module.so;
daemon off;
pid nginx.pid;
error_log error.log info;
env MEMSTREAM_NAME;
env MEMSTREAM_BACKEND;
env MEMSTREAM_GROUP;
env MEMSTREAM_MODE;
env MEMSTREAM_SIZE;
env MEMSTREAM_LIBRARY;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  lua_package_path "@LUA@/?.lua;;";
  init_worker_by_lua_block { cache = assert(require("memstream").open()) }
  server {
    listen unix:socket;
    location / {
      content_by_lua_block {
        local uid = io.open("/proc/self/status"):read("*a"):match("Uid:%s+(%d+)")
        assert(cache:set("from-nginx", "nginx as user " .. uid))
        assert(cache:incr("visits", 1, 0))
        local found = {}
        for key in ngx.var.args:gmatch("[^&]+") do found[#found + 1] = cache:get(key) or "-" end
        ngx.say(table.concat(found, "|"))
      }
    }
  }
}
"""


def run_as(user: int, group: int, folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        user=user,
        group=group,
        extra_groups=[],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )


def ask_nginx(folder: Path) -> str:
    """What nginx answers; waits until it does."""
    end = time.monotonic() + 20
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(20)
                connection.connect(str(folder / "nginx/socket"))
                connection.sendall(f"GET /?{'&'.join(KEYS)} HTTP/1.0\r\nHost: one\r\n\r\n".encode())
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
            return answer.partition(b"\r\n\r\n")[2].decode()
        except OSError:
            if time.monotonic() > end:
                log = folder / "nginx/error.log"
                raise SystemExit(f"nginx does not answer: {log.read_text() if log.exists() else 'no log'}") from None
            time.sleep(0.05)


@contextmanager
def nginx(folder: Path) -> Iterator[None]:
    command = ["nginx", "-p", str(folder / "nginx"), "-c", "nginx.conf", "-e", "error.log"]
    with subprocess.Popen(
        command, user=USERS["nginx"], group=GROUP, extra_groups=[], cwd=folder / "nginx", stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGQUIT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def install(root: Path, build: Path, folder: Path) -> None:
    """What the users need, where all of them may read it: a source tree may be closed to them."""
    shutil.copytree(root / "clients/python/memstream", folder / "python/memstream", ignore=lambda *_: ["__pycache__"])
    shutil.copytree(root / "clients/node/lib", folder / "node/lib")
    shutil.copy(root / "clients/node/package.json", folder / "node")
    shutil.copytree(root / "clients/lua", folder / "lua")
    for file in ("libcache.so.1", "libmemstream_python.so"):
        shutil.copy(build / file, folder)
    (folder / "php").mkdir()
    shutil.copy(build / "php/memstream.so", folder / "php")
    shutil.copy(build / "memstream.node", folder / "node")
    (folder / "node/libcache.so.1").symlink_to(folder / "libcache.so.1")
    for name, text in {"python.py": PYTHON, "c.c": C, "php.php": PHP, "ask.js": NODE}.items():
        (folder / name).write_text(text, encoding="utf-8")
    includes = build / "api/include"
    link = [str(folder / "libcache.so.1"), f"-Wl,-rpath,{folder}"]
    subprocess.run(
        ["cc", "-Wall", "-Wextra", "-Werror", "-I", includes, folder / "c.c", "-o", folder / "c", *link], check=True
    )
    (folder / "nginx").mkdir()
    text = NGINX.replace("@MODULES@", str(MODULES)).replace("@LUA@", str(folder / "lua"))
    (folder / "nginx/nginx.conf").write_text(text, encoding="utf-8")
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    shutil.chown(folder / "nginx", USERS["nginx"], GROUP)


def one_round(folder: Path) -> dict[str, str]:
    """Each language once, as its user. Returns what each printed."""
    php = ["php8.2", "-n", "-d", f"extension={folder}/php/memstream.so", "php.php", *KEYS]
    commands = {
        "python": [sys.executable, "python.py", *KEYS],
        "c": ["./c", *KEYS],
        "php": php,
        "node": ["node", "ask.js", *KEYS],
    }
    said = {}
    for language, command in commands.items():
        done = run_as(USERS[language], GROUP, folder, *command)
        if done.returncode != 0:
            raise SystemExit(f"{language} ended with {done.returncode}: {done.stdout}")
        said[language] = done.stdout.strip()
    said["nginx"] = ask_nginx(folder).strip()
    return said


def problems(folder: Path) -> Iterator[str]:
    first = [sys.executable, "-c", "from memstream import Cache\nwith Cache() as cache: print(len(cache))"]
    done = run_as(USERS["python"], GROUP, folder, *first)
    if done.returncode != 0:
        raise SystemExit(f"the first user cannot make the cache: {done.stdout}")
    with nginx(folder):
        one_round(folder)
        all_values = "|".join(f"{language} as user {user}" for language, user in USERS.items())
        for language, said in one_round(folder).items():
            print(f"  {language:<7} (user {USERS[language]}) reads: {said}")
            if said != all_values:
                yield f"{language} reads {said!r}, expected {all_values!r}"
        visits = run_as(
            USERS["php"], GROUP, folder, sys.executable, "-c", "import memstream; print(memstream.Cache()['visits'])"
        ).stdout.strip()
        if visits != f"b'{2 * len(USERS)}'":
            yield f"{visits} visits are counted, expected {2 * len(USERS)}"
        refused = run_as(OUTSIDER, OUTSIDER, folder, sys.executable, "python.py", *KEYS)
        last = refused.stdout.strip().splitlines()[-1] if refused.stdout else ""
        print(f"  a user outside the group: {last}")
        if refused.returncode == 0 or "NoPermission" not in last:
            yield f"a user outside the group is not refused: {refused.stdout}"


def main() -> int:
    root, build = (Path(argument).resolve() for argument in sys.argv[1:3])
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing or not (MODULES / "ngx_http_lua_module.so").exists():
        print(f"skipped: not installed: {', '.join(missing) or 'libnginx-mod-http-lua'}")
        return 77
    if os.geteuid() != 0:
        print("skipped: only root can run programs as other users")
        return 77
    for variable in [name for name in os.environ if name.startswith("MEMSTREAM_") and name != "MEMSTREAM_TEST_RUN"]:
        del os.environ[variable]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        install(root, build, folder)
        os.environ.update(
            MEMSTREAM_NAME=NAME,
            MEMSTREAM_SIZE="16M",
            MEMSTREAM_MODE="0660",
            MEMSTREAM_GROUP=str(GROUP),
            MEMSTREAM_LIBRARY=str(folder / "libcache.so.1"),
            LD_LIBRARY_PATH=str(folder),
            PYTHONPATH=str(folder / "python"),
            PYTHONDONTWRITEBYTECODE="1",
        )
        found: list[str] = []
        for backend in ("posix", "sysv"):
            os.environ["MEMSTREAM_BACKEND"] = backend
            print(f"one cache of backend {backend}, mode 0660, group {GROUP}:")
            try:
                found += problems(folder)
            finally:
                code = "from memstream import Cache\nwith Cache() as cache: cache.destroy()"
                left = run_as(USERS["python"], GROUP, folder, sys.executable, "-c", code)
                if left.returncode != 0:
                    raise SystemExit(f"the segment is left: {left.stdout}")
    print("\n".join(found) or f"{len(USERS)} languages, each with a user of its own, share one cache")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
