#!/usr/bin/env python3
"""Compiles and runs the examples in C++ of examples/ and of docs/embedding.md, as people who copy them do.

    examples_test.py ROOT LIBRARY INCLUDES COMPILER...

INCLUDES is the folder that has memstream/memstream.hpp. Each compiler accepts them without a warning; what the first
one makes of them runs. The segment is one of this run, on the backend that MEMSTREAM_BACKEND names, and is destroyed at
the end.
"""

import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

BLOCK = re.compile(r"^```cpp\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FLAGS = ("-std=c++20", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror")
CALLERS = 4
PAGE_PRINTS = ["1.08", "EURUSD: 16 bytes", "report: 5 bytes", "value"]


def start(*command: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(*command: str) -> tuple[int, str]:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60)
    return done.returncode, done.stdout


def compile_all(
    sources: list[Path], library: Path, includes: Path, compilers: list[str], folder: Path
) -> Iterator[str]:
    link = ["-L", str(library.parent), "-lcache", f"-Wl,-rpath,{library.parent}"]
    for place, compiler in enumerate(compilers):
        for source in sources:
            what = [*link, "-o", str(folder / source.stem)] if place == 0 else ["-fsyntax-only"]
            code, said = run(compiler, *FLAGS, "-I", str(includes), str(source), *what)
            if code != 0:
                yield f"{compiler} refuses {source.name}:\n{said[:3000]}"


def single_flight_problems(program: str) -> Iterator[str]:
    callers = [start(program, "sales") for _ in range(CALLERS)]
    printed = sorted(caller.communicate(timeout=60)[0] for caller in callers)
    wanted = ["report of sales, computed elsewhere\n"] * (CALLERS - 1) + ["report of sales, computed here\n"]
    if printed != sorted(wanted):
        yield f"{CALLERS} callers of single_flight print {printed}"
    # The caller that computes dies, and the one that waits takes over.
    first = start(program, "stock")
    time.sleep(0.2)
    second = start(program, "stock")
    time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    if (said := second.communicate(timeout=60)[0]) != "report of stock, computed here\n":
        yield f"after the death of the caller that computes, single_flight prints {said!r}"
    if first.returncode != -signal.SIGKILL:
        yield "the first caller ended before it was killed: the case shows nothing"
    if (found := run(program))[0] != 2 or "usage" not in found[1]:
        yield f"single_flight without a key: {found}"


def market_data_problems(program: str) -> Iterator[str]:
    for arguments, wanted in (
        (("show", "EURUSD"), (1, "EURUSD no quote\n")),
        (("mean", "EURUSD"), (1, "EURUSD no quote\n")),
        (("publish", "EURUSD", "1.07", "1.09"), (0, "")),
        (("publish", "EURUSD", "1.09", "1.11"), (0, "")),
        (("publish", "USDJPY", "150", "151"), (0, "")),
        (("show", "EURUSD", "USDJPY"), (0, "EURUSD 1.09000 1.11000\nUSDJPY 150.00000 151.00000\n")),
        (("show", "USDJPY", "GBPUSD"), (1, "USDJPY 150.00000 151.00000\nGBPUSD no quote\n")),
        (("mean", "EURUSD"), (0, "EURUSD 1.09000 of 2\n")),
    ):
        if (found := run(program, *arguments)) != wanted:
            yield f"market_data {' '.join(arguments)}: {found}, expected {wanted}"
    # Feeds of one symbol at the same time lose no quote of each other.
    feeds = [start(program, "publish", "BTCUSD", "1", str(ask)) for ask in range(20)]
    codes = [(feed.communicate(timeout=60)[0], feed.returncode) for feed in feeds]
    if set(codes) != {("", 0)}:
        yield f"market_data with many feeds: {codes}"
    if (found := run(program, "mean", "BTCUSD")) != (0, "BTCUSD 5.25000 of 20\n"):
        yield f"market_data mean BTCUSD after 20 feeds: {found}"
    if (found := run(program, "publish", "EURUSD"))[0] != 2 or "usage" not in found[1]:
        yield f"market_data with too few words: {found}"


def problems(root: Path, library: Path, includes: Path, compilers: list[str], folder: Path) -> Iterator[str]:
    sources = sorted((root / "examples").glob("*.cpp"))
    checks = {"market_data": market_data_problems, "single_flight": single_flight_problems}
    if [source.stem for source in sources] != sorted(checks):
        yield f"examples/ has {[source.name for source in sources]}, and this runs {sorted(checks)}"
    blocks = BLOCK.findall((root / "docs/embedding.md").read_text(encoding="utf-8"))
    if len(blocks) != 1:
        yield f"docs/embedding.md has {len(blocks)} examples in C++, and this runs 1"
    page = folder / "embedding.cpp"
    page.write_text("".join(blocks).replace('"quotes"', f'"{os.environ["MEMSTREAM_NAME"]}-page"'), encoding="utf-8")
    sources.append(page)
    refused = list(compile_all(sources, library, includes, compilers, folder))
    yield from refused
    if not refused:
        for name, check in checks.items():
            yield from check(str(folder / name))
        code, printed = run(str(folder / "embedding"))
        if code != 0 or sorted(printed.splitlines()) != PAGE_PRINTS:
            yield f"the example of docs/embedding.md: {code}, {printed!r}, expected the lines {PAGE_PRINTS}"


def main() -> int:
    root, library, includes = (Path(argument).resolve() for argument in sys.argv[1:4])
    compilers = sys.argv[4:]
    os.environ.update(MEMSTREAM_NAME=f"examples-{os.getpid()}", MEMSTREAM_SIZE="16M")
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = list(problems(root, library, includes, compilers, Path(folder)))
    finally:
        destroyed = ctypes.CDLL(str(library)).cache_destroy()
    for problem in found:
        print(problem)
    print(f"{len(compilers)} compilers, {len(found)} problems, destroyed: {destroyed}")
    return 1 if found or destroyed != 0 or not compilers else 0


if __name__ == "__main__":
    sys.exit(main())
