"""Mutants of overwriting a value in its own block, by a redo record."""

from mutant import Mutant

MUTANTS = [
    Mutant(
        "overwrite-without-record",
        "a value of the same size is written over the old one, with no record and under the same ref",
        "core/shard/shard_overwrite.cpp",
        "          if (overwrite(request, first, now_ms)) [[likely]]\n            return Status::kOk;",
        """          copy_to_shared(const_cast<std::byte*>(first.block.value), request.value, request.value_size);
          if (first.block.value_size == request.value_size) return Status::kOk;""",
        ("shard_overwrite_race_test", "torture_step_put", "histories"),
    ),
    Mutant(
        "overwrite-before-busy-ref",
        "the block is written before the entry has the ref that says so",
        "core/shard/shard_overwrite.cpp",
        "  std::uint64_t unviewed = found.ref;\n",
        """  RedoLog::apply(redo, const_cast<BlockHeader&>(*old.header), const_cast<std::byte*>(old.value),
                 request.value_size);
  std::uint64_t unviewed = found.ref;
""",
        ("torture_step_put", "shard_overwrite_race_test"),
    ),
    Mutant(
        "overwrite-before-record-is-whole",
        "the entry has the ref of an overwriting before the value stands in the record",
        "core/shard/shard_overwrite.cpp",
        """  copy_to_shared(redo.value, request.value, request.value_size);
  header_->redo.store(request.redo, std::memory_order_release);

  // The commit: a recovery that finds this ref carries the record out. No reader may see a new byte of the block before
  // it. A view begins by changing the ref, and only where it is live.
  std::uint64_t unviewed = found.ref;
  if (!found.entry->ref.compare_exchange_strong(unviewed, ref, std::memory_order_acq_rel)) [[unlikely]] {
    header_->redo.store(0, std::memory_order_release);
    return false;
  }
""",
        """  header_->redo.store(request.redo, std::memory_order_release);

  std::uint64_t unviewed = found.ref;
  if (!found.entry->ref.compare_exchange_strong(unviewed, ref, std::memory_order_acq_rel)) [[unlikely]] {
    header_->redo.store(0, std::memory_order_release);
    return false;
  }
  copy_to_shared(redo.value, request.value, request.value_size);
""",
        ("torture_step_put", "shard_overwrite_race_test"),
    ),
    Mutant(
        "overwrite-between-blocks-of-two-kinds",
        "a value with an expiry overwrites one whose block has no room for it",
        "core/shard/shard_overwrite.cpp",
        "  if (found.block.has_extras() != request.has_extras() || (found",
        "  if ((found",
        ("shard_overwrite_test",),
    ),
    Mutant(
        "record-of-the-other-kind",
        "a recovery believes a record that says extras of a block without, and the other way round",
        "core/shard/shard_overwrite.cpp",
        "shape.has_extras() != block.has_extras() ||",
        "",
        ("shard_overwrite_test",),
    ),
    Mutant(
        "overwrite-leaves-extras",
        "expiry and flags stay those of the value that was overwritten",
        "core/shard/shard_overwrite.cpp",
        """    copy(extras.expires_ms, redo.extras.expires_ms);
    copy(extras.caller_flags, redo.extras.caller_flags);
""",
        "    static_cast<void>(extras);\n",
        ("shard_overwrite_test",),
    ),
    Mutant(
        "overwrite-in-32-bits",
        "the upper part of the instant at which a value was overwritten is lost",
        "core/shard/shard_overwrite.cpp",
        " | created_flags(now_ms),",
        ",",
        ("shard_overwrite_test",),
    ),
    Mutant(
        "record-not-named",
        "the shard does not say which record is being carried out",
        "core/shard/shard_overwrite.cpp",
        "  header_->redo.store(request.redo, std::memory_order_release);\n",
        "",
        ("torture_step_put",),
    ),
    Mutant(
        "finish-not-told",
        "the shard still names the record when the overwriting has ended",
        "core/shard/shard_overwrite.cpp",
        "  found.entry->ref.store(ref_finished(ref), std::memory_order_release);\n"
        "  header_->redo.store(0, std::memory_order_release);\n",
        "  found.entry->ref.store(ref_finished(ref), std::memory_order_release);\n",
        ("shard_overwrite_test",),
    ),
    Mutant(
        "recovery-finishes-nothing",
        "a recovery does not finish what a dead writer was overwriting",
        "core/shard/shard_rebuilder.cpp",
        "  parts_.redo.finish();\n",
        "",
        ("shard_overwrite_test", "torture_step_put"),
    ),
    Mutant(
        "finished-before-written",
        "a recovery gives the entry its ref before it has written the block",
        "core/shard/shard_overwrite.cpp",
        "if (ref_is_overwritten(ref) && find(id, EntryRef{ref}, &found)) {\n",
        "if (ref_is_overwritten(ref) && find(id, EntryRef{ref}, &found)) {\n"
        "      entry.ref.store(ref_finished(ref), std::memory_order_release);\n",
        ("torture_step_overwriting",),
    ),
    Mutant(
        "record-not-settled",
        "whoever takes over the slot of a process that died overwriting a value writes to its record at once",
        "core/cache/cache.cpp",
        "last >= shards_.size() || shards_[last]->replay_redo(record, Deadline(timeout_)) == Status::kOk;",
        "last >= shards_.size() || shards_[last].has_value();",
        ("cache_overwrite_test",),
    ),
    Mutant(
        "unsettled-record-used",
        "a record that a busy shard may still be in need of is written to all the same",
        "core/cache/cache.cpp",
        "own_->redo_record = is_settled ? record + 1 : 0;",
        "own_->redo_record = is_settled || shards_[last].has_value() ? record + 1 : 0;",
        ("cache_overwrite_test",),
    ),
    Mutant(
        "shard-not-recorded",
        "a record does not say in which shard it was last used",
        "core/shard/shard_overwrite.cpp",
        "redo.shard.store(number_, std::memory_order_relaxed);",
        "redo.shard.store(0, std::memory_order_relaxed);",
        ("cache_overwrite_test",),
    ),
    Mutant(
        "one-record-for-all",
        "every process overwrites by the record of the first slot",
        "core/cache/cache.cpp",
        "replay_redo(process_table_.number_of(entered));",
        "replay_redo(0);",
        ("cache_overwrite_test",),
    ),
    Mutant(
        "record-of-two-threads",
        "two threads of a process use its record at once",
        "core/cache/cache.h",
        "return taken.exchange(true, std::memory_order_acquire) ? 0 : record;",
        "return record;",
        ("cache_overwrite_test",),
    ),
    Mutant(
        "record-not-looked-at-twice",
        "a value is taken from a record without a look whether it was still being carried out after the copy",
        "core/shard/shard_read.cpp",
        "return entry.ref.load(std::memory_order_relaxed) == ref &&\n           header_->seq",
        "return header_->seq",
        ("shard_overwrite_race_test",),
    ),
    Mutant(
        "record-of-another-ref",
        "a record is believed without a look at the ref that it is about",
        "core/shard/shard_overwrite.cpp",
        "if (redo.ref.load(std::memory_order_acquire) != ref || redo.entry",
        "if (redo.entry",
        ("shard_overwrite_test",),
    ),
    Mutant(
        "record-of-another-entry",
        "a record is believed without a look at the entry that it is about",
        "core/shard/shard_overwrite.cpp",
        "!= ref || redo.entry.load(std::memory_order_relaxed) != id) return false;",
        "!= ref) return false;",
        ("shard_overwrite_test",),
    ),
    Mutant(
        "overwrite-what-is-pinned",
        "a value is overwritten although a view shows it",
        "core/shard/shard_overwrite.cpp",
        " && !ref_has_pinned_hint(found.ref);\n",
        ";\n",
        ("shard_overwrite_test", "abi_memstream_test"),
    ),
    Mutant(
        "overwrite-without-looking-again",
        "a value is overwritten although a view of it has begun since it was found",
        "core/shard/shard_overwrite.cpp",
        "  if (!found.entry->ref.compare_exchange_strong(unviewed, ref, std::memory_order_acq_rel)) [[unlikely]] {",
        "  found.entry->ref.store(ref, std::memory_order_release);\n  if (unviewed == 0) {",
        ("shard_overwrite_race_test",),
    ),
    Mutant(
        "overwritten-taken-for-absent",
        "a reader takes a key whose value is being overwritten for one that is not there",
        "core/shard/shard_lookup.h",
        "return ref_is_overwritten(ref) ? Lookup::kUnstable : Lookup::kAbsent;",
        "return Lookup::kAbsent;",
        ("shard_overwrite_test", "histories"),
    ),
    Mutant(
        "scan-skips-the-overwritten",
        "a scan without a lock leaves out the keys whose values are being overwritten",
        "core/shard/shard_read.cpp",
        "    if (!redo_.find(id, EntryRef{ref}, &found)) return false;\n    block =",
        "    if (!redo_.find(id, EntryRef{ref}, &found) || found.record != nullptr) return false;\n" "    block =",
        ("shard_overwrite_test",),
    ),
    Mutant(
        "overwriting-keeps-value-memory",
        "the memory of values does not follow the size of one that is overwritten",
        "core/shard/shard_overwrite.cpp",
        "  if (old.value_size != request.value_size) space().value_memory += request.value_size - old.value_size;\n",
        "",
        ("shard_overwrite_test",),
    ),
    Mutant(
        "overwriting-is-no-hit",
        "overwriting a value does not count as a hit, and eviction does not learn of its expiry",
        "core/shard/shard_overwrite.cpp",
        "  if (policy != old_policy) {",
        "  if (policy == 0) {",
        ("shard_overwrite_test",),
    ),
    Mutant(
        "overwriting-keeps-the-lease",
        "overwriting a value does not end the lease of its key",
        "core/shard/shard_overwrite.cpp",
        "  leases_.end_of(request.key);\n",
        "",
        ("cache_overwrite_test",),
    ),
    Mutant(
        "overwriting-keeps-the-generation",
        "the ref has the same generation before and after its value is overwritten",
        "core/shard/shard_overwrite.cpp",
        "const std::uint64_t ref = ref_overwritten(found.ref);",
        "const std::uint64_t ref = found.ref & ~kLiveBit;",
        ("shard_overwrite_test", "histories"),
    ),
    Mutant(
        "tiny-value-in-a-large-block",
        "a value much smaller than its block takes all of it for good",
        "core/shard/shard_overwrite.cpp",
        "return slack_of(request, found) < kSpareBytes &&",
        "return slack_of(request, found) < found.block.stored_size &&",
        ("shard_overwrite_test",),
    ),
]
