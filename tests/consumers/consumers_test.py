#!/usr/bin/env python3
"""Builds and runs a user's programs against MemStream, by every way that docs/embedding.md shows.

    consumers_test.py installed ROOT BUILD    pkg-config and find_package, against what BUILD installs
    consumers_test.py embedded ROOT           add_subdirectory and FetchContent, as a part of the user's build

The user's project gives no build type and has targets called cache and tests. Embedded, MemStream may add nothing to
it: no flag, test or rule that installs; and the library is optimised all the same.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
PROGRAMS = ("quotes", "report", "report_static", "quotes_static")
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror"]
FUNCTION = re.compile(r" [TWVBDRu] (\S+)$", re.MULTILINE)


def run(*command: object, **variables: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def configure(how: str, folder: Path, **settings: object) -> Path:
    build = folder / how
    options = [f"-D{name}={value}" for name, value in settings.items()]
    run("cmake", "-S", SOURCES, "-B", build, "-G", "Ninja", f"-DHOW={how}", *options)
    return build


def build_and_test(build: Path) -> None:
    run("cmake", "--build", build)
    run("ctest", "--test-dir", build, "--output-on-failure", "--no-tests=error")


def archive_problems(archive: Path) -> Iterator[str]:
    """The archive shows the functions of the C interface, and nothing that could meet a name of the program's."""
    names = FUNCTION.findall(run("nm", "--extern-only", "--defined-only", archive))
    strange = [name for name in names if not re.match(r"(cache|memstream)_\w+$", name)]
    if strange or len(names) < 40:
        yield f"{archive.name} shows {len(names)} names, and among them {strange[:5]}"


def size_problems(library: Path) -> Iterator[str]:
    if ".debug_info" in run("readelf", "--wide", "--sections", library):
        yield f"{library.name} is installed with debug information"


def installed(root: Path, build: Path, folder: Path) -> Iterator[str]:
    prefix = folder / "prefix"
    run("cmake", "--install", build, "--prefix", folder / "first")
    (folder / "first").rename(prefix)  # An installed tree can be moved.
    build_and_test(configure("find_package", folder, CMAKE_PREFIX_PATH=prefix))

    (description,) = prefix.rglob("memstream.pc")
    libraries = description.parent.parent
    where = {"PKG_CONFIG_PATH": str(description.parent)}
    flags = run("pkg-config", "--cflags", "--libs", "memstream", **where).split()
    static = [flag for flag in run("pkg-config", "--static", "--libs", "memstream", **where).split()]
    static = ["-l:libmemstream.a" if flag == "-lmemstream" else flag for flag in static]
    includes = run("pkg-config", "--cflags", "memstream", **where).split()
    for compiler, standard, source in (("cc", "-std=gnu11", "report.c"), ("c++", "-std=c++20", "quotes.cpp")):
        for name, options in (("shared", [*flags, f"-Wl,-rpath,{libraries}"]), ("static", [*includes, *static])):
            program = folder / f"{name}_{source.partition('.')[0]}"
            run(compiler, standard, *WARNINGS, SOURCES / source, "-o", program, *options)
            run(program)
            needed = "libcache.so.1" in run("readelf", "--wide", "--dynamic", program)
            if needed != (name == "shared"):
                yield f"{program.name} {'needs' if needed else 'does not need'} libcache.so.1"
    yield from archive_problems(libraries / "libmemstream.a")
    yield from size_problems(libraries / "libcache.so.1")
    # Of api/ all but the one that is for near/ alone; that of near/ where its library was built.
    headers = {header.name for header in (root / "api").glob("memstream*.h*")} | {"cache.h"}
    headers.remove("memstream_near_core.h")
    if any(libraries.glob("libmemstream_near.so*")):
        headers.add("memstream_near.h")
    found = {header.name for header in (prefix / "include/memstream").glob("*.h*")}
    if headers != found:
        yield f"installed are the headers {sorted(found)}, and {sorted(headers)} belong there"


def embedded_problems(build: Path) -> Iterator[str]:
    commands = json.loads((build / "compile_commands.json").read_text(encoding="utf-8"))
    own = [entry["command"] for entry in commands if entry["file"].startswith(str(SOURCES))]
    library = [entry["command"] for entry in commands if entry["file"].endswith("/api/memstream.cpp")]
    for command in own:
        strange = re.findall(r" (-[WOgf]\S*)", command)
        if strange:
            yield f"{build.name}: the user's program is compiled with {strange}"
    if len(library) != 1 or " -O2" not in library[0] or "-DNDEBUG" not in library[0] or "-Werror" in library[0]:
        yield f"{build.name}: the library is compiled by {library}"
    tests = set(re.findall(r"Test +#\d+: (\S+)", run("ctest", "--test-dir", build, "-N")))
    if tests != set(PROGRAMS):
        yield f"{build.name}: the tests are {sorted(tests)}"
    run("cmake", "--install", build, "--prefix", build / "prefix")
    files = [str(file) for file in (build / "prefix").rglob("*") if file.is_file()]
    if files:
        yield f"{build.name}: it installs {files[:5]}"


def embedded(root: Path, folder: Path) -> Iterator[str]:
    clone = folder / "clone"
    shutil.copytree(root, clone, ignore=shutil.ignore_patterns("build", ".git", ".venv", "__pycache__"))
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main")
    run("git", *identity, "init", "-q", clone)
    run("git", "-C", clone, "add", "--all")
    run("git", "-C", clone, *identity, "commit", "-q", "--no-verify", "-m", "The tree of the test")
    for how in ("add_subdirectory", "FetchContent"):
        build = configure(how, folder, MEMSTREAM=clone)
        build_and_test(build)
        yield from embedded_problems(build)


def main() -> int:
    what, root = sys.argv[1], Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        if what == "installed":
            problems = list(installed(root, Path(sys.argv[3]).resolve(), Path(folder)))
        else:
            problems = list(embedded(root, Path(folder)))
    for problem in problems:
        print(problem)
    print(f"{what}: {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
