"""Mutants of reading, writing and making room."""

from mutant import Mutant

MUTANTS = [
    Mutant(
        "no-second-look-at-ref",
        "a fast read accepts its copy without looking at the ref again",
        "core/shard_lookup.h",
        "const bool moved = candidate.entry->ref.load(std::memory_order_relaxed) != candidate.ref;",
        "const bool moved = false;",
        ("histories",),
    ),
    Mutant(
        "believe-every-miss",
        "a fast read believes a miss without asking whether bucket and number of buckets stood still",
        "core/shard_lookup.h",
        "const bool stood_still = (version & 1) == 0 &&",
        "const bool stood_still = version == version ||",
        ("shard_conditions_test", "histories"),
    ),
    Mutant(
        "ignore-odd-version",
        "a fast read believes a miss in a bucket that is in the middle of a change",
        "core/shard_lookup.h",
        "(version & 1) == 0 && bucket.version",
        "bucket.version",
        ("shard_conditions_test", "histories"),
    ),
    Mutant(
        "read-during-rebuild",
        "a fast read does not look whether the shard is being rebuilt",
        "core/shard_lookup.h",
        "if ((seq & 1) != 0 || cells == 0",
        "if (cells == 0",
        ("shard_conditions_test", "histories"),
    ),
    Mutant(
        "expiry-ignored-by-get",
        "a get brings values whose time has come",
        "core/shard_lookup.h",
        "if (has_expired(expires_ms, now_ms)) return Took::kExpired;",
        "if (has_expired(expires_ms, 0)) return Took::kExpired;",
        ("shard_test",),
    ),
    Mutant(
        "expiry-ignored-by-writers",
        "add, touch and increment meet entries whose time has come",
        "core/shard_write.cpp",
        ".expired(now_ms)) return id;\n  remove_entry(id);",
        ".expired(0)) return id;\n  remove_entry(id);",
        ("shard_test",),
    ),
    Mutant(
        "cas-token-not-compared",
        "compare-and-set succeeds with any token",
        "core/shard_write.cpp",
        "return cas_token(id, ref) == request.cas ? Status::kOk",
        "return cas_token(id, ref) != 0 ? Status::kOk",
        ("shard_test", "histories"),
    ),
    Mutant(
        "commit-before-value",
        "the ref is stored before the value is copied",
        "core/shard_write.cpp",
        """  copy_to_shared(const_cast<std::byte*>(contents(position).value), request.value, request.value_size);
  publish(position, request.key, id, new_id, now_ms);
  return Status::kOk;""",
        """  publish(position, request.key, id, new_id, now_ms);
  copy_to_shared(const_cast<std::byte*>(contents(position).value), request.value, request.value_size);
  return Status::kOk;""",
        ("histories",),
    ),
    Mutant(
        "overwrite-in-place",
        "a value of the same size is written over the old one",
        "core/shard_write.cpp",
        "  const std::uint64_t units = block_units_for(request.key.bytes.size(), request.value_size);\n"
        "  const std::uint32_t new_id",
        """  if (id != 0) {
    const BlockContents old = contents(ref_block(index_.entry(id).ref.load(std::memory_order_relaxed)));
    if (old.value_size == request.value_size) {
      copy_to_shared(const_cast<std::byte*>(old.value), request.value, request.value_size);
      return Status::kOk;
    }
  }
  const std::uint64_t units = block_units_for(request.key.bytes.size(), request.value_size);
  const std::uint32_t new_id""",
        ("shard_test", "histories"),
    ),
    Mutant(
        "generation-stands-still",
        "a ref is stored without a new generation",
        "core/shard_write.cpp",
        "entry.ref.store(ref_live(old_ref, position), std::memory_order_release);",
        "entry.ref.store(ref_live(old_ref - (std::uint64_t{1} << 32), position), std::memory_order_release);",
        ("shard_test", "histories"),
    ),
    Mutant(
        "free-before-commit",
        "a replace frees the old block before it stores the new ref",
        "core/shard_write.cpp",
        """  entry.ref.store(ref_live(old_ref, position), std::memory_order_release);

  ShardSpace& s = space();
  s.used_memory += block.stored_size;
  s.key_memory += block.key_size;
  s.value_memory += block.value_size;
  ++header_->counters.puts;
  if (replaces) {
    const std::uint32_t old_position = ref_block(old_ref);
    give_up_block(old_position, contents(old_position));
  } else {""",
        """  if (replaces) {
    const std::uint32_t old_position = ref_block(old_ref);
    give_up_block(old_position, contents(old_position));
  }
  entry.ref.store(ref_live(old_ref, position), std::memory_order_release);

  ShardSpace& s = space();
  s.used_memory += block.stored_size;
  s.key_memory += block.key_size;
  s.value_memory += block.value_size;
  ++header_->counters.puts;
  if (!replaces) {""",
        ("torture_step_put", "histories"),
    ),
    Mutant(
        "free-before-delete",
        "a delete frees the block before it empties the ref",
        "core/shard_reclaim.cpp",
        """  entry.ref.store(ref_empty(ref), std::memory_order_release);
  index_.unlink(id);
  --space().entries;
  index_.give_free_entry(id);
  return give_up_block(position, block);""",
        """  const std::uint32_t given_up = give_up_block(position, block);
  entry.ref.store(ref_empty(ref), std::memory_order_release);
  index_.unlink(id);
  --space().entries;
  index_.give_free_entry(id);
  return given_up;""",
        ("torture_step_delete", "histories"),
    ),
    Mutant(
        "evict-what-is-pinned",
        "the blocks that views and reservations hold are evicted with the others",
        "core/shard_reclaim.cpp",
        "return !shape.used() || (pins_of(position) == 0 && owned(position));",
        "return !shape.used() || owned(position);",
        ("shard_pins_test", "shard_full_test"),
    ),
    Mutant(
        "free-what-is-pinned",
        "a replaced or deleted block is freed although somebody holds it",
        "core/shard_reclaim.cpp",
        "if (pins_of(position) == 0) return arena_.free(position);",
        "return arena_.free(position);",
        ("shard_pins_test",),
    ),
]
