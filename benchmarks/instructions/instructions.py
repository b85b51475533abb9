#!/usr/bin/env python3
"""Counts the instructions that each operation costs in libcache.so, and holds them against the recorded figures.

    instructions.py check PROGRAM     exit code 1 if a figure is off by more than the tolerance
    instructions.py record PROGRAM    writes the figures of this build to instructions.json beside this file
    instructions.py self-test         plants figures that are off and requires that each is found

PROGRAM is build/memstream-instructions. Only what runs inside libcache.so counts, and how often it calls out of itself:
which memcpy() or lock of the C library answers depends on the processor and on the version of the C library, and under
Valgrind clock_gettime() is a system call. So the figures are the same on every machine with the same compiler.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

RECORD = Path(__file__).with_name("instructions.json")
TOLERANCE = 0.03
# How often a get reads the clock depends on how often that ticks meanwhile.
SLACK = {"instructions": 0.0, "calls_out": 0.1}
OPERATIONS = (
    "get",
    "get_miss",
    "get_many",
    "set_overwrite",
    "set_many",
    "set_new",
    "set_evicting",
    "view_release",
    "set_viewed",
    "delete",
    "get_threads",
    "set_threads",
    "cache_put",
)
HOW_TO_RECORD = "If it is meant, record it: scripts/bench.sh instructions --record, and commit benchmarks/instructions/"

Figures = dict[str, dict[str, float]]


class Dump(NamedTuple):
    """What callgrind counted during one kind of operation."""

    instructions: int
    calls_out: int


def read_dump(text: str, library: str) -> Dump:
    """Sums one object's cost lines and its calls to others. A name is written out only where it first occurs."""
    objects: dict[str, str] = {}
    current = ""
    callee = ""
    instructions = calls_out = 0
    after_calls = False
    for line in text.splitlines():
        match = re.match(r"(c?ob)=\((\d+)\)(?: (.*))?$", line)
        if match:
            if match[3]:
                objects[match[2]] = Path(match[3]).name
            if match[1] == "ob":
                current = objects[match[2]]
            else:
                callee = objects[match[2]]
        elif line.startswith("calls="):
            if current.startswith(library) and callee and not callee.startswith(library):
                calls_out += int(line[len("calls=") :].split()[0])
            after_calls, callee = True, ""  # The next line is the cost of the callee.
        elif re.match(r"[+*\-\d]", line):
            if not after_calls and current.startswith(library):
                instructions += int(line.split()[1])
            after_calls = False
    return Dump(instructions, calls_out)


def measure(program: Path, library: str = "libcache.so") -> tuple[str, Figures]:
    """Runs the program under callgrind; the compiler that built it, and instructions and calls for each operation."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/dump"]
        environment = {**os.environ, "MEMSTREAM_BACKEND": "posix"}
        run = subprocess.run([*command, str(program)], env=environment, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            raise SystemExit(f"{program} failed under callgrind:\n{run.stdout}{run.stderr}")
        compiler, *lines = run.stdout.splitlines()
        runs = {name: 0 for name in OPERATIONS}
        for line in lines:
            runs[line.split()[0]] += int(line.split()[1])
        totals = {name: Dump(0, 0) for name in OPERATIONS}
        for file in Path(folder).glob("dump*"):
            text = file.read_text(encoding="utf-8")
            trigger = re.search(r"^desc: Trigger: Client Request: (\w+)$", text, re.MULTILINE)
            if trigger:
                dump, total = read_dump(text, library), totals[trigger[1]]
                totals[trigger[1]] = Dump(total.instructions + dump.instructions, total.calls_out + dump.calls_out)
    if not all(total.instructions > 0 for total in totals.values()):
        raise SystemExit(f"callgrind counted nothing in {library} for some operation: {totals}")
    return compiler, {
        name: {
            "instructions": round(total.instructions / runs[name], 1),
            "calls_out": round(total.calls_out / runs[name], 2),
        }
        for name, total in totals.items()
    }


def differences(measured: Figures, recorded: Figures) -> list[str]:
    """A sentence for each figure that is off."""
    found = []
    for name in sorted(measured.keys() | recorded.keys()):
        for kind in ("instructions", "calls_out"):
            now = measured.get(name, {}).get(kind)
            then = recorded.get(name, {}).get(kind)
            if now is None or then is None:
                found.append(f"{name}: {kind} is {'not measured any more' if now is None else 'not recorded yet'}")
            elif abs(now - then) > max(TOLERANCE * then, SLACK[kind]):
                found.append(f"{name}: {now} {kind}, recorded are {then} ({(now / then - 1) * 100:+.1f} %)")
    return found


def print_table(measured: Figures, recorded: Figures) -> None:
    print(f"{'operation':<14} {'instructions':>12} {'recorded':>9} {'calls out':>10} {'recorded':>9}")
    for name in OPERATIONS:
        now, then = measured[name], recorded.get(name, {})
        print(
            f"{name:<14} {now['instructions']:>12.1f} {then.get('instructions', 0):>9.1f} "
            f"{now['calls_out']:>10.2f} {then.get('calls_out', 0):>9.2f}"
        )


def check(program: Path) -> int:
    compiler, measured = measure(program)
    recorded = json.loads(RECORD.read_text(encoding="utf-8")).get(compiler)
    if recorded is None:
        print_table(measured, {})
        print(f"There are no figures for '{compiler}'. {HOW_TO_RECORD}")
        return 1
    print_table(measured, recorded)
    found = differences(measured, recorded)
    for sentence in found:
        print(sentence)
    if found:
        print(f"More than {TOLERANCE:.0%} off, in either direction. {HOW_TO_RECORD}")
    return 1 if found else 0


def record(program: Path) -> int:
    compiler, measured = measure(program)
    known = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    print_table(measured, known.get(compiler, {}))
    known[compiler] = measured
    RECORD.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(f"recorded for '{compiler}'")
    return 0


def self_test() -> int:
    """The check finds a figure that is off by more than the tolerance, and no other."""
    base = {name: {"instructions": 1000.0, "calls_out": 10.0} for name in OPERATIONS}
    failures = []

    def expect(measured: Figures, words: str) -> None:
        found = differences(measured, base)
        if (not found) if words else bool(found):
            failures.append(f"expected '{words}', found {found}")
        elif words and (len(found) != 1 or words not in found[0]):
            failures.append(f"expected '{words}', found {found}")

    expect(base, "")
    expect({**base, "get": {"instructions": 1029.0, "calls_out": 10.0}}, "")
    expect({**base, "get": {"instructions": 1031.0, "calls_out": 10.0}}, "get: 1031.0 instructions")
    expect({**base, "get": {"instructions": 969.0, "calls_out": 10.0}}, "get: 969.0 instructions")
    expect({**base, "delete": {"instructions": 1000.0, "calls_out": 11.0}}, "delete: 11.0 calls_out")
    text = "ob=(1) /x/libcache.so.1.0\nfn=(1) f\n10 5\n+1 7\ncob=(2) /lib/libc.so.6\ncfn=(2) memcpy\ncalls=3 0\n* 90\n"
    text += "ob=(2)\nfn=(2)\n1 90\ncob=(1)\ncfn=(1)\ncalls=1 0\n1 12\nob=(1)\nfn=(3) g\n4 1\ncfn=(1)\ncalls=4 0\n5 12\n"
    if read_dump(text, "libcache.so") != Dump(13, 3):
        failures.append(f"a dump is read as {read_dump(text, 'libcache.so')}")
    for failure in failures:
        print(f"self-test: {failure}")
    return 1 if failures else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Instructions per operation, counted by callgrind.")
    parser.add_argument("action", choices=("check", "record", "self-test"))
    parser.add_argument("program", type=Path, nargs="?")
    arguments = parser.parse_args()
    if arguments.action == "self-test":
        return self_test()
    if arguments.program is None:
        parser.error("which program? build/memstream-instructions")
    if self_test() != 0:
        return 1
    return check(arguments.program) if arguments.action == "check" else record(arguments.program)


if __name__ == "__main__":
    sys.exit(main())
