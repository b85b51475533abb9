"""Mutants of the heap, of the table and of the life of a segment."""

from mutant import Mutant

MUTANTS = [
    Mutant(
        "left-slots-end-the-table",
        "the dead behind a slot that its process has left are never cleaned up",
        "core/processes.cpp",
        "(slots_[used].generation.load(std::memory_order_relaxed) != 0 ||",
        "(slots_[used].pid.load(std::memory_order_relaxed) != 0 ||",
        ("processes_test",),
    ),
    Mutant(
        "version-not-bumped",
        "a bucket has the version after a change that it had before",
        "core/index.cpp",
        "bucket.version.store(bucket.version.load(std::memory_order_relaxed) + 1, std::memory_order_release);",
        "bucket.version.store(bucket.version.load(std::memory_order_relaxed) - 1, std::memory_order_release);",
        ("kill_test", "histories"),
    ),
    Mutant(
        "split-without-odd-new-bucket",
        "the new bucket of a split looks finished before it is filled",
        "core/index.cpp",
        "  write_begin(old_bucket);\n  write_begin(new_bucket);\n",
        "  write_begin(old_bucket);\n  new_bucket.version.store(2, std::memory_order_relaxed);\n",
        ("index_test", "histories"),
    ),
    Mutant(
        "cells-before-odd-bucket",
        "the number of buckets grows before the bucket that is split is marked",
        "core/index.cpp",
        "  write_begin(old_bucket);\n  write_begin(new_bucket);\n",
        "  shard_->cells.store(to + 1, std::memory_order_release);\n"
        "  write_begin(old_bucket);\n  write_begin(new_bucket);\n",
        ("index_test", "torture_step_put", "histories"),
    ),
    Mutant(
        "chains-without-bound",
        "an overfull chain evicts nobody",
        "core/index.cpp",
        "return length < kMaxChain ? 0 : coldest;",
        "return length < kMaxChain + 2 ? 0 : coldest;",
        ("index_test",),
    ),
    Mutant(
        "size-before-rest",
        "a block is shortened before the rest behind it has a header",
        "core/arena.cpp",
        """    set_shape(block(rest_position), {.size_units = rest});
    set_shape(header, {.size_units = units, .flags = kBlockUsed});""",
        """    set_shape(header, {.size_units = units, .flags = kBlockUsed});
    set_shape(block(rest_position), {.size_units = rest});""",
        ("torture_step_put",),
    ),
    Mutant(
        "heap-before-header",
        "the heap reaches down to a block that has no header yet",
        "core/arena.cpp",
        """  set_shape(*header, {.size_units = static_cast<std::uint32_t>(units), .flags = kBlockUsed});
  space().heap_begin.store(position, std::memory_order_release);""",
        """  space().heap_begin.store(position, std::memory_order_release);
  set_shape(*header, {.size_units = static_cast<std::uint32_t>(units), .flags = kBlockUsed});""",
        ("torture_step_put",),
    ),
    Mutant(
        "neighbour-not-marked",
        "the block behind a free one does not know it",
        "core/arena.cpp",
        "  mark_next(position + units, true);\n",
        "",
        ("arena_test",),
    ),
    Mutant(
        "free-without-joining",
        "a freed block is not joined with the free one behind it",
        "core/arena.cpp",
        "    if (!neighbour.shape.used()) {\n      remove_free(end,",
        "    if (neighbour.shape.used() && !neighbour.shape.used()) {\n      remove_free(end,",
        ("arena_test",),
    ),
    Mutant(
        "no-creation-lock",
        "a segment is initialised without the creation lock",
        "backends/lifecycle_backend.cpp",
        "if (const Status status = object.lock(deadline); status != Status::kOk) return status;\n"
        "  if (const Status status = object.look_again()",
        "if (deadline.passed()) return Status::kBusy;\n  if (const Status status = object.look_again()",
        ("segment_conformance_test", "segment_race_test"),
    ),
    Mutant(
        "no-look-under-the-lock",
        "whoever got the creation lock does not look whether the name still stands for the object",
        "backends/lifecycle_backend.cpp",
        "if (const Status status = object.lock(deadline); status != Status::kOk) return status;\n"
        "  if (const Status status = object.look_again(); status != Status::kOk) return status;",
        "if (const Status status = object.lock(deadline); status != Status::kOk) return status;",
        ("segment_conformance_test", "segment_race_test"),
    ),
    Mutant(
        "remove-without-destroying",
        "a segment loses its name and those who are attached are not told",
        "core/format.cpp",
        "static_cast<std::uint32_t>(HeaderState::kDestroyed),",
        "static_cast<std::uint32_t>(HeaderState::kReady),",
        ("format_test", "abi_cache_test"),
    ),
    Mutant(
        "ready-too-early",
        "a segment is ready before its locks and shards are laid out",
        "core/format.cpp",
        "  if (status == Status::kOk) status = write_tables(segment, geometry);\n",
        "  header->state.store(static_cast<std::uint32_t>(HeaderState::kReady), std::memory_order_release);\n"
        "  if (status == Status::kOk) status = write_tables(segment, geometry);\n",
        ("format_test", "torture_step_create"),
    ),
    Mutant(
        "remains-not-wiped",
        "what a creator that died left behind is taken over as it is",
        "core/format.cpp",
        "if (!blank) std::memset(segment.data() + offset, 0, kFirstPages);",
        "static_cast<void>(blank);",
        ("format_test", "torture_step_create"),
    ),
    Mutant(
        "creation-lock-outlives-its-holder",
        "the System V creation lock is not dropped when its holder dies",
        "backends/sysv/creation_lock.cpp",
        "{.sem_num = 0, .sem_op = 1, .sem_flg = SEM_UNDO}};",
        "{.sem_num = 0, .sem_op = 1, .sem_flg = 0}};",
        ("segment_race_test",),
    ),
]
