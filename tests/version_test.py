#!/usr/bin/env python3
"""Checks that everything which states the version of MemStream states the same one.

    version_test.py ROOT [BUILD]

From the tree: CMake's project, the numbers of api/cache.h, the Python package, clients/node/package.json and other
clients' descriptions if they exist, and CHANGELOG.md, whose newest release may not be newer. From BUILD: the command,
the library, the accelerator, pkg-config, the CMake package, the names of the shared objects, and the Python package as
pip would name it. Before that it plants one fault of each kind and requires that each is found.
"""

import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

RELEASE = re.compile(r"^## \[?(\d+\.\d+\.\d+)\]?", re.MULTILINE)


class Statement(NamedTuple):
    place: str
    version: str


def found_in(root: Path, path: str, pattern: str) -> Statement:
    file = root / path
    found = re.search(pattern, file.read_text(encoding="utf-8"), re.MULTILINE) if file.exists() else None
    return Statement(path, ".".join(found.groups()) if found else "none")


def tree_states(root: Path) -> Iterator[Statement]:
    yield found_in(root, "CMakeLists.txt", r"^project\(memstream\s+VERSION (\S+)")
    numbers = r"VERSION_MAJOR (\d+)\n#define MEMSTREAM_VERSION_MINOR (\d+)\n#define MEMSTREAM_VERSION_PATCH (\d+)$"
    yield found_in(root, "api/cache.h", numbers)
    yield found_in(root, "clients/python/memstream/_core/abi.py", r'^VERSION = "(.*)"$')
    for description in sorted((root / "clients").glob("*/package.json")):
        place = description.relative_to(root).as_posix()
        yield Statement(place, json.loads(description.read_text(encoding="utf-8")).get("version", "none"))


def key_of(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


def changelog_problems(root: Path, version: str) -> Iterator[str]:
    """What is not released stands below "Unreleased"; without that heading, the version has one of its own."""
    file = root / "CHANGELOG.md"
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    released = RELEASE.findall(text)
    if released and key_of(released[0]) > key_of(version):
        yield f"CHANGELOG.md: the newest release is {released[0]}, and the tree is {version}"
    if "\n## Unreleased\n" not in text and version not in released:
        yield f"CHANGELOG.md: no heading '## {version}', and none '## Unreleased'"


def run(*command: object) -> str:
    return subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def text_of(function: "ctypes._NamedFuncPointer") -> str:
    function.restype = ctypes.c_char_p
    return str(function().decode())


def build_states(root: Path, build: Path) -> Iterator[Statement]:
    library = ctypes.CDLL(str(build / "libcache.so"))
    yield Statement("cache_version()", text_of(library.cache_version))
    number = library.memstream_version()
    yield Statement("memstream_version()", f"{number // 10000}.{number // 100 % 100}.{number % 100}")
    accelerator = ctypes.PyDLL(str(build / "libmemstream_python.so"))
    yield Statement("libmemstream_python.so", text_of(accelerator.memstream_python_version))
    yield Statement("memstream --version", run(build / "memstream", "--version"))
    yield found_in(build, "api/memstream.pc", r"^Version: (.*)$")
    yield found_in(build, "memstreamConfigVersion.cmake", r'^set\(PACKAGE_VERSION "(.*)"\)$')
    for file in (link.resolve() for link in sorted(build.glob("lib*.so.?"))):
        yield Statement(file.name, file.name.partition(".so.")[2].partition(".")[2])
    with tempfile.TemporaryDirectory() as folder:
        source = root / "clients/python"
        command = [sys.executable, str(source / "setup.py"), "-q", "--version"]
        done = subprocess.run(command, cwd=source, env={**os.environ, "TMPDIR": folder}, capture_output=True, text=True)
        yield Statement("setup.py", done.stdout.strip() or done.stderr)


def problems_of(root: Path, statements: list[Statement]) -> list[str]:
    version = statements[0].version
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        return [f"{statements[0].place} states no version: {version}"]
    wrong = [f"{place} states {stated}, and the tree is {version}" for place, stated in statements if stated != version]
    return wrong + list(changelog_problems(root, version))


GOOD = {
    "CMakeLists.txt": "project(memstream\n  VERSION 1.2.3\n",
    "api/cache.h": "#define MEMSTREAM_VERSION_MAJOR 1\n"
    "#define MEMSTREAM_VERSION_MINOR 2\n#define MEMSTREAM_VERSION_PATCH 3\n",
    "clients/python/memstream/_core/abi.py": 'VERSION = "1.2.3"\n',
    "clients/node/package.json": '{"version": "1.2.3"}',
    "CHANGELOG.md": "# Changes\n\n## Unreleased\n\n## 1.2.3\n",
}
# Files instead of the good ones, and words of the one problem that must come of them. An empty text: silence.
PLANTED: tuple[tuple[dict[str, str], str], ...] = (
    ({}, ""),
    ({"CHANGELOG.md": "# Changes\n\n## 1.2.3\n"}, ""),
    ({"CMakeLists.txt": "project(memstream)\n"}, "states no version"),
    ({"api/cache.h": GOOD["api/cache.h"].replace("3", "4")}, "api/cache.h states 1.2.4"),
    ({"clients/python/memstream/_core/abi.py": ""}, "abi.py states none"),
    ({"clients/node/package.json": '{"version": "1.2.2"}'}, "package.json states 1.2.2"),
    ({"CHANGELOG.md": "# Changes\n\n## Unreleased\n\n## 1.3.0\n"}, "newest release is 1.3.0"),
    ({"CHANGELOG.md": "# Changes\n\n## 1.2.2\n"}, "no heading '## 1.2.3'"),
)


def self_test() -> list[str]:
    failures = []
    for files, expected in PLANTED:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for path, text in {**GOOD, **files}.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(text, encoding="utf-8")
            found = problems_of(folder, list(tree_states(folder)))
        if [expected in problem for problem in found] != ([True] if expected else []):
            failures.append(f"self-test: expected {expected!r}, got {found}")
    return failures


def main() -> int:
    root = Path(sys.argv[1]).resolve()
    statements = list(tree_states(root))
    if len(sys.argv) > 2:
        statements += build_states(root, Path(sys.argv[2]).resolve())
    failures, problems = self_test(), problems_of(root, statements)
    for line in failures + problems:
        print(line)
    print(f"{len(statements)} statements of the version {statements[0].version}, {len(problems)} problems")
    return 1 if failures or problems else 0


if __name__ == "__main__":
    sys.exit(main())
