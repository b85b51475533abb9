#!/usr/bin/env python3
"""Checks the wheel that pip makes of this tree: what it carries, which glibc it needs, and that it serves.

    wheel_test.py ROOT FOLDER

FOLDER has the two libraries that the wheel carries: build/portable. They may need nothing but glibc. The symbols say
which one: it has to be that which the wheel's name and docs/installing.md state. In a clean virtual environment, the
wheel has to give accelerated calls without a warning.
"""

import os
import platform
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

LIBRARIES = ("libcache.so", "libmemstream_python.so")
OF_GLIBC = {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
PIP = ("-m", "pip", "--disable-pip-version-check")
FLAGS = ("--no-build-isolation", "--no-index", "--no-deps")
STATED = re.compile(r"glibc (\d+\.\d+) or newer")
CODE = """
import memstream
with memstream.Cache(size=2**20) as cache:
    cache["key"] = b"value"
    assert cache["key"] == b"value" and cache.accelerated
    print(memstream.__version__, cache._library.path)
    cache.destroy()
"""


def run(*command: object, **variables: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MEMSTREAM_LIBRARY")}
    done = subprocess.run(
        [str(part) for part in command],
        env={**kept, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def needs_of(library: Path) -> tuple[set[str], tuple[int, int]]:
    """The libraries that this one needs, and the newest version of a symbol of glibc."""
    text = run("readelf", "--wide", "--dynamic", "--version-info", library)
    versions = re.findall(r"Name: GLIBC_(\d+)\.(\d+)", text)
    return set(re.findall(r"\(NEEDED\).*\[(.+)\]", text)), max((int(a), int(b)) for a, b in versions)


def problems(root: Path, folder: Path, work: Path) -> Iterator[str]:
    floors = []
    for name in LIBRARIES:
        needed, newest = needs_of(folder / name)
        floors.append(newest)
        if not needed <= OF_GLIBC:
            yield f"{name} needs {sorted(needed - OF_GLIBC)}, which not every machine has"
    floor = "{}.{}".format(*max(floors))
    stated = set(STATED.findall((root / "docs/installing.md").read_text(encoding="utf-8")))
    if stated != {floor}:
        yield f"the libraries need glibc {floor}, and docs/installing.md states {sorted(stated)}"

    own = {"MEMSTREAM_LIBRARY": str(folder / LIBRARIES[0]), "TMPDIR": str(work)}
    run(
        sys.executable, *PIP, "wheel", "--quiet", *FLAGS, "--wheel-dir", work / "wheels", root / "clients/python", **own
    )
    (wheel,) = (work / "wheels").iterdir()
    tag = f"py3-none-manylinux_{floor.replace('.', '_')}_{platform.machine()}.whl"
    if not wheel.name.endswith(tag):
        yield f"the wheel is {wheel.name}, expected a name that ends with {tag}"
    with zipfile.ZipFile(wheel) as archive:
        shared = {name for name in archive.namelist() if ".so" in name}
    if shared != {f"memstream/{name}" for name in LIBRARIES}:
        yield f"the wheel carries the libraries {sorted(shared)}"

    run(sys.executable, "-m", "venv", work / "venv")
    python = work / "venv/bin/python"
    run(python, *PIP, "install", "--quiet", "--no-index", wheel)
    segment = f"wheel-{os.getpid()}"
    printed = run(python, "-W", "error", "-c", CODE, MEMSTREAM_NAME=segment, MEMSTREAM_PYTHON_ACCELERATOR="require")
    if str(work / "venv") not in printed:
        yield f"the installed package uses another library: {printed}"


def main() -> int:
    with tempfile.TemporaryDirectory() as work:
        found = list(problems(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), Path(work)))
    print("\n".join(found) or "the wheel carries everything and serves")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
