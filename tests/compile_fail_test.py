#!/usr/bin/env python3
"""Requires of the compiler that it refuses what the types and lock contracts of the engine forbid.

    compile_fail_test.py ROOT CXX [CLANG [COMMANDS]]

Each case is a line of C++ that compiles, and the same line with one mistake, which must not, for the reason that is
named. All lines stand in one source: an error of one hides none of the others. CXX compiles the cases of the types;
the lock contracts need clang. Without CLANG these are left out, and the last line says so. With COMMANDS, the
compile_commands.json of a build with CLANG, the warnings are those of that build.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple


class Case(NamedTuple):
    """A line that compiles, and a line that must be refused with a text that this matches."""

    right: str
    wrong: str
    reason: str


TYPES_PRELUDE = """
#include "core/shard/shard.h"
using namespace memstream;
void use(const ShardContents& contents, const RedoLog& log, RetiredBlocks& retired, Reclaimer& reclaimer, Arena& arena,
         Index& index, Eviction& eviction, const PinTable& table, PinSet& pins, ShardHeader* header,
         const CheckedBlock& block, RedoLog::Overwriting* found, KeyHash hash, EntryId id, BlockPosition position,
         EntryRef ref, Units units, PinNumber pin, std::uint32_t cells, std::uint32_t policy, std::uint64_t bytes,
         std::uint64_t now_ms) {
"""
NO_MATCH = "no match|no viable|convert"
TYPES = (
    Case("contents.owning_ref(id, position);", "contents.owning_ref(position, id);", NO_MATCH),
    Case("log.find(id, ref, found);", "log.find(EntryId{0}, id, found);", NO_MATCH),
    Case("cas_token(id, ref, 0);", "cas_token(position, ref, 0);", NO_MATCH),
    Case("retired.add(position, bytes);", "retired.add(bytes, position);", NO_MATCH),
    Case("reclaimer.make_room(units, now_ms);", "reclaimer.make_room(now_ms, units);", NO_MATCH),
    Case("arena.allocate(units, now_ms);", "arena.allocate(now_ms, units);", NO_MATCH),
    Case("arena.allocate_at(position, cells);", "arena.allocate_at(cells, position);", NO_MATCH),
    Case("arena.cut_to(position, cells);", "arena.cut_to(cells, position);", NO_MATCH),
    Case("arena.backing().reaches(position, bytes);", "arena.backing().reaches(bytes, position);", NO_MATCH),
    Case("position = arena.free(position);", "id = arena.free(position);", NO_MATCH),
    Case("reclaimer.empty_block(position, now_ms);", "reclaimer.empty_block(now_ms, position);", NO_MATCH),
    Case("contents.checked_block(position);", "contents.checked_block(id);", NO_MATCH),
    Case("table.is_pinned(position);", "table.is_pinned(id);", NO_MATCH),
    Case("ref_live(ref, position);", "ref_live(position, ref);", NO_MATCH),
    Case("pins.release(pin, bytes);", "pins.release(bytes, pin);", NO_MATCH),
    Case("pins.validate(pin, bytes);", "pins.validate(id, bytes);", NO_MATCH),
    Case("Index::names_entry(id, cells);", "Index::names_entry(cells, id);", NO_MATCH),
    Case("Index::entry_unchecked(header, id);", "Index::entry_unchecked(header, position);", NO_MATCH),
    Case("index.link(id);", "index.link(position);", NO_MATCH),
    Case("position = index.hint_of(id);", "position = index.hint_of(position);", NO_MATCH),
    Case("id = index.take_free_entry();", "position = index.take_free_entry();", NO_MATCH),
    Case("eviction.admit(hash, id);", "eviction.admit(hash, position);", NO_MATCH),
    Case("eviction.is_recent(id, policy);", "eviction.is_recent(policy, id);", NO_MATCH),
    Case("eviction.count_in(id, policy, bytes);", "eviction.count_in(policy, id, bytes);", NO_MATCH),
    Case(
        "eviction.recount(id, policy, policy, bytes, bytes);",
        "eviction.recount(policy, id, policy, bytes, bytes);",
        NO_MATCH,
    ),
    Case("FoundEntry{.ref = ref, .id = id};", "FoundEntry{.ref = id, .id = ref};", "deleted|convert"),
    Case("reclaimer.release_block(ref, block);", "reclaimer.release_block(position, block);", NO_MATCH),
    Case("table.is_block_pinned(ref);", "table.is_block_pinned(position);", NO_MATCH),
    Case("owner_word(id, now_ms);", "owner_word(now_ms, id);", NO_MATCH),
    Case("EntryId{7U};", "EntryId{position};", "deleted"),
    Case("position += 4U;", "position = 4U;", NO_MATCH),
)
LOCKS_PRELUDE = """
#include "core/shard/shard.h"
using namespace memstream;
template <class Operation>
void run(ShardLock& lock, Operation operation) {
  lock.assert_held();
  operation();
}
void use(ShardLock& lock, const Deadline& deadline, ShardContents& contents, RetiredBlocks& retired, LeaseTable& leases,
         Reclaimer& reclaimer, ShardRebuilder& rebuilder, const FoundEntry& found, const Key& key) {
"""
NEEDS_W = "requires holding write lock of the shard"
LOCKS = (
    Case("lock.assert_held(); retired.free_all();", "retired.free_all();", NEEDS_W),
    Case("lock.assert_held(); contents.find(key);", "contents.find(key);", NEEDS_W),
    Case("lock.assert_held(); leases.end_of(key);", "leases.end_of(key);", NEEDS_W),
    Case("lock.assert_held(); reclaimer.remove_entry(found);", "reclaimer.remove_entry(found);", NEEDS_W),
    Case("lock.assert_held(); rebuilder.repair();", "rebuilder.repair();", NEEDS_W),
    Case(
        "lock.assert_held(); static_cast<void>(lock.exclude_readers(deadline));",
        "static_cast<void>(lock.exclude_readers(deadline));",
        NEEDS_W,
    ),
    Case(
        "run(lock, [&]() MEMSTREAM_NEEDS_W { retired.free_all(); });",
        "run(lock, [&] { retired.free_all(); });",
        NEEDS_W,
    ),
    Case(
        "lock.assert_held(); retired.free_all(); lock.unlock();",
        "lock.assert_held(); lock.unlock(); retired.free_all();",
        NEEDS_W,
    ),
)


def errors_by_line(root: Path, command: list[str], prelude: str, lines: list[str], folder: Path) -> dict[int, str]:
    """Compiles the lines, each in a block, in one source. What is said of each, by its index; -1: of anything else."""
    source = folder / "case.cpp"
    body = "".join(f'#line {index + 1} "line"\n  {{ {line} }}\n' for index, line in enumerate(lines))
    source.write_text(f'{prelude}{body}#line 1 "end"\n}}\n', encoding="utf-8")
    no_limit = "-ferror-limit=0" if "clang" in command[0] else "-fmax-errors=0"
    options = ["-std=c++20", "-fsyntax-only", no_limit, f"-I{root}"]
    result = subprocess.run([*command, *options, str(source)], capture_output=True, text=True, check=False)
    found: dict[int, str] = {}
    for message in result.stderr.splitlines():
        match = re.match(r"line:(\d+):\d+: error: (.*)", message)
        if match:
            index = int(match[1]) - 1
            found[index] = found.get(index, "") + match[2] + "\n"
        elif re.search(r"\berror:", message):
            found[-1] = found.get(-1, "") + message + "\n"
    if result.returncode != 0 and not found:
        found[-1] = result.stderr
    return found


def problems_of(root: Path, command: list[str], prelude: str, cases: tuple[Case, ...], folder: Path) -> list[str]:
    right = errors_by_line(root, command, prelude, [case.right for case in cases], folder)
    problems = [f"does not compile, and should: {'' if i < 0 else cases[i].right} {text}" for i, text in right.items()]
    wrong = errors_by_line(root, command, prelude, [case.wrong for case in cases], folder)
    if -1 in wrong:
        problems.append(f"an error outside the cases: {wrong[-1]}")
    for index, case in enumerate(cases):
        if index not in wrong:
            problems.append(f"compiles, and must not: {case.wrong}")
        elif not re.search(case.reason, wrong[index]):
            problems.append(f"fails for another reason than '{case.reason}': {case.wrong} {wrong[index]}")
    return problems


def lock_warnings(commands: str) -> list[str]:
    """The options for warnings of a build, but -Werror: the lock contracts must be errors by themselves."""
    if not commands:
        return ["-Wthread-safety", "-Werror=thread-safety"]
    entries = json.loads(Path(commands).read_text(encoding="utf-8"))
    (command,) = (entry["command"] for entry in entries if entry["file"].endswith("/core/shard/shard.cpp"))
    return [option for option in command.split() if option.startswith("-W") and option != "-Werror"]


def main() -> int:
    root, cxx = Path(sys.argv[1]), sys.argv[2]
    clang = sys.argv[3] if len(sys.argv) > 3 else ""
    commands = sys.argv[4] if len(sys.argv) > 4 else ""
    with tempfile.TemporaryDirectory() as name:
        found = problems_of(root, [cxx, "-Wall", "-Wextra", "-Werror=narrowing"], TYPES_PRELUDE, TYPES, Path(name))
        if clang:
            lock_command = [clang, *lock_warnings(commands)]
            found += problems_of(root, lock_command, LOCKS_PRELUDE, LOCKS, Path(name))
    for problem in found:
        print(problem)
    locks = f"{len(LOCKS)} of locks" if clang else "none of locks: there is no clang"
    print(f"{len(TYPES)} cases of types, {locks}; {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
