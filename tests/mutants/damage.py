"""Mutants of what holds on damaged bytes: memory that was never given, walks, checksums, repair."""

from mutant import Mutant

MUTANTS = [
    Mutant(
        "holes-taken-for-memory",
        "a process believes in memory although the system says that there is none",
        "core/layout/backing.cpp",
        "    case Status::kNoMemory:\n      return false;",
        "    case Status::kNoMemory:\n      return true;",
        ("holes_test",),
    ),
    Mutant(
        "commits-believed",
        "the heap grows to where a damaged mark says that memory is",
        "core/shard/arena.cpp",
        "    if (backing_.reaches(shard_size_bytes_ - from_bytes, size)) return true;\n",
        "    if (size != 0) return true;\n",
        ("holes_test",),
    ),
    Mutant(
        "cells-believed",
        "a damaged number of cells leads to a table without memory",
        "core/layout/backing.cpp",
        "end - begin) == Status::kNoMemory) return false;",
        "end - begin) == Status::kNoMemory) return true;",
        ("holes_test",),
    ),
    Mutant(
        "ring-goes-by-its-count",
        "the walk over the retired blocks goes round as often as they are counted",
        "core/shard/shard_pins.cpp",
        '    if (position == first_kept) throw ShardDamage{"a ring of orphans with fewer than are counted"};\n',
        "",
        ("walks_test",),
    ),
    Mutant(
        "ring-without-a-look-back",
        "a link into the middle of the ring of retired blocks is followed",
        "core/shard/shard_pins.cpp",
        "if (!is_orphan(next) || "
        "link_previous(arena_.block(next).owner.load(std::memory_order_relaxed)) != position) {",
        "if (!is_orphan(next)) {",
        ("shard_check_test", "walks_test"),
    ),
    Mutant(
        "get-without-checksum",
        "a get returns a value that does not fit its checksum",
        "core/cache/cache_read.cpp",
        "if (got.status != Status::kOk || !has_checksums()) return got;",
        "if (got.status != Status::kOk || true) return got;",
        ("checksum_test",),
    ),
    Mutant(
        "view-without-checksum",
        "a view shows a value that does not fit its checksum",
        "core/cache/cache.cpp",
        "    if (checksum == checksum_of_word(held->read.caller_flags)) break;",
        "    if (checksum == checksum || true) break;",
        ("checksum_test",),
    ),
    Mutant(
        "increment-of-damage",
        "an increment counts on from a number that does not fit its checksum",
        "core/shard/shard_write.cpp",
        "if (!is_whole(request.key, found.block)) [[unlikely]] {",
        "if (!is_whole(request.key, found.block) && found.id == 0) [[unlikely]] {",
        ("checksum_test",),
    ),
    Mutant(
        "commit-without-checksum",
        "a committed reservation has no checksum",
        "core/cache/cache.cpp",
        "  if (has_checksums()) "
        "request.caller_flags |= checksum_word(held.value, request.value_size, request.key.hash);\n",
        "",
        ("checksum_test",),
    ),
    Mutant(
        "batch-without-checksum",
        "values that were stored in a batch have no checksum",
        "core/cache/cache_batch.cpp",
        ".caller_flags = item.caller_flags | checksum,",
        ".caller_flags = item.caller_flags | (checksum & 1),",
        ("checksum_test",),
    ),
    Mutant(
        "redo-without-checksum",
        "a value that is overwritten in its block loses its checksum",
        "core/shard/shard_overwrite.cpp",
        "  redo.extras.caller_flags.store(request.caller_flags, std::memory_order_relaxed);",
        "  redo.extras.caller_flags.store(request.caller_flags & 0xffff'ffff, std::memory_order_relaxed);",
        ("checksum_test",),
    ),
    Mutant(
        "repair-leaves-values",
        "a repair does not look at the values",
        "core/shard/shard_repair.cpp",
        "    if (geometry_.has_checksums()) report->damaged_values += remove_damaged_values();\n",
        "",
        ("checksum_test",),
    ),
]
