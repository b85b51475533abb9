"""Mutants of reading, writing and making room."""

from mutant import Mutant

MUTANTS = [
    Mutant(
        "no-second-look-at-ref",
        "a fast read accepts its copy without looking at the ref again",
        "core/shard/shard_lookup.h",
        "const bool moved = !is_same_ref(candidate.entry->ref.load(std::memory_order_relaxed), candidate.ref);",
        "const bool moved = false;",
        ("histories",),
    ),
    Mutant(
        "believe-every-miss",
        "a fast read believes a miss without asking whether bucket and number of buckets stood still",
        "core/shard/shard_lookup.h",
        "const bool stood_still = (version & 1) == 0 &&",
        "const bool stood_still = version == version ||",
        ("shard_conditions_test", "histories"),
    ),
    Mutant(
        "ignore-odd-version",
        "a fast read believes a miss in a bucket that is in the middle of a change",
        "core/shard/shard_lookup.h",
        "(version & 1) == 0 && probe->bucket->version",
        "probe->bucket->version",
        ("shard_conditions_test", "histories"),
    ),
    Mutant(
        "read-during-rebuild",
        "a fast read does not look whether the shard is being rebuilt",
        "core/shard/shard_lookup.h",
        "if ((probe->seq & 1) != 0 || !(kAsks",
        "if (!(kAsks",
        ("shard_conditions_test", "histories"),
    ),
    Mutant(
        "expiry-ignored-by-get",
        "a get brings values whose time has come",
        "core/shard/shard_lookup.h",
        "if (expires_ms != 0 && has_expired(expires_ms, now_ms())) return CopyOutcome::kExpired;",
        "if (expires_ms != 0 && has_expired(expires_ms, 0)) return CopyOutcome::kExpired;",
        ("shard_test",),
    ),
    Mutant(
        "expiry-by-noted-instant",
        "a get compares an expiry with the instant that it notes, which may be of earlier gets",
        "core/cache/cache_lookup.h",
        "try_get_fast(hashed, read_room, noted, now, &got)",
        "try_get_fast(hashed, read_room, noted, noted, &got)",
        ("access_clock_test",),
    ),
    Mutant(
        "view-expiry-by-noted-instant",
        "a view compares an expiry with the instant that it notes, which may be of earlier views",
        "core/shard/shard_lookup.h",
        "if (expires_ms != 0 && has_expired(expires_ms, now_ms())) return;",
        "if (expires_ms != 0 && has_expired(expires_ms, accessed_at_ms)) return;",
        ("access_clock_test",),
    ),
    Mutant(
        "plain-block-beyond-the-shard",
        "a get believes that a block ends where its first word says",
        "core/layout/block.h",
        "  if (size_units > left) return false;\n",
        "",
        ("block_test",),
    ),
    Mutant(
        "plain-block-in-the-header",
        "a get takes what stands in the shard's header for a block",
        "core/layout/block.h",
        "left - 1 >= backing.end() - kShardHeaderSize / kUnitSize ||",
        "left - 1 >= backing.end() ||",
        ("block_test",),
    ),
    Mutant(
        "extras-where-there-are-none",
        "of a value without expiry and flags a part of the key is taken for them",
        "core/layout/block.h",
        "return has_extras() ? ~std::uint64_t{0} : 0;",
        "return ~std::uint64_t{0};",
        ("shard_test",),
    ),
    Mutant(
        "created-in-32-bits",
        "the upper part of the instant at which a value was written is lost",
        "core/shard/shard_write.cpp",
        "  shape.flags |= created_flags(created_ms);\n",
        "",
        ("shard_test",),
    ),
    Mutant(
        "touch-evicts-its-value",
        "a value that moves to a block with room for an expiry may be evicted for that block",
        "core/shard/shard_reclaim.cpp",
        "    const PinTable::Kept kept(&pins_, found.position());\n",
        "",
        ("shard_touch_test",),
    ),
    Mutant(
        "touch-leaks-the-old-block",
        "the block that a value leaves when it gets an expiry is never free again",
        "core/shard/shard_reclaim.cpp",
        "  if (!defer_free_if_pinned(ref, found.block)) arena_.free(found.position());\n",
        "  defer_free_if_pinned(ref, found.block);\n",
        ("shard_touch_test",),
    ),
    Mutant(
        "touch-frees-what-is-viewed",
        "the block that a value leaves when it gets an expiry is freed under whoever views it",
        "core/shard/shard_reclaim.cpp",
        "  if (!defer_free_if_pinned(ref, found.block)) arena_.free(found.position());\n",
        "  static_cast<void>(ref);\n  arena_.free(found.position());\n",
        ("shard_touch_test",),
    ),
    Mutant(
        "noted-instant-for-ever",
        "a process whose gets follow each other fast notes the same instant in all of them",
        "core/cache/access_clock.h",
        "if (--reuses_left_ >= 0) [[likely]]",
        "if (reuses_left_ > 0) [[likely]]",
        ("access_clock_test",),
    ),
    Mutant(
        "expiry-ignored-by-writers",
        "add, touch and increment meet entries whose time has come",
        "core/shard/shard_find.h",
        "expires_ms.load(std::memory_order_relaxed), now_ms);",
        "expires_ms.load(std::memory_order_relaxed), 0);",
        ("shard_test",),
    ),
    Mutant(
        "cas-token-not-compared",
        "compare-and-set succeeds with any token",
        "core/shard/shard_write.cpp",
        "return cas_token(found) == request.cas ? Status::kOk",
        "return cas_token(found) != 0 ? Status::kOk",
        ("shard_conditions_test", "histories"),
    ),
    Mutant(
        "commit-before-value",
        "the ref is stored before the value is copied",
        "core/shard/shard_write.cpp",
        """  copy_to_shared(const_cast<std::byte*>(block.value), request.value, request.value_size);
  publish_inline(position, block, request, found, new_id, now_ms, false);
  return Status::kOk;""",
        """  publish_inline(position, block, request, found, new_id, now_ms, false);
  copy_to_shared(const_cast<std::byte*>(block.value), request.value, request.value_size);
  return Status::kOk;""",
        ("histories",),
    ),
    Mutant(
        "generation-stands-still",
        "a ref is stored without a new generation",
        "core/shard/shard_write.cpp",
        "const std::uint64_t ref = ref_live(old_ref, position) |",
        "const std::uint64_t ref = ref_live(old_ref - (std::uint64_t{1} << 32), position) |",
        ("histories",),
    ),
    Mutant(
        "free-before-commit",
        "a replace frees the old block before it stores the new ref",
        "core/shard/shard_write.cpp",
        """  old_ref = entry.ref.exchange(ref, std::memory_order_acq_rel);

  ShardSpace& s = space();
  s.used_memory += block.stored_size;
  s.key_memory += block.key_size;
  s.value_memory += block.value_size;
  if (replaces) {
    index_.renew_hint(id);
    reclaimer_.release_block(old_ref, old_block);
  } else {""",
        """  if (replaces) reclaimer_.release_block(old_ref, old_block);
  old_ref = entry.ref.exchange(ref, std::memory_order_acq_rel);

  ShardSpace& s = space();
  s.used_memory += block.stored_size;
  s.key_memory += block.key_size;
  s.value_memory += block.value_size;
  if (replaces) {
    index_.renew_hint(id);
  } else {""",
        ("torture_step_put", "histories"),
    ),
    Mutant(
        "free-before-delete",
        "a delete frees the block before it empties the ref",
        "core/shard/shard_reclaim.cpp",
        "{ return release_block(drop_entry(found), found.block); }",
        """{
  const std::uint32_t given_up = release_block(found.ref, found.block);
  drop_entry(found);
  return given_up;
}""",
        ("torture_step_delete", "histories"),
    ),
    Mutant(
        "hit-carries",
        "the fourth hit of an entry carries into the bit beside the hits",
        "core/shard/shard_lookup.h",
        "if ((next & kHits) != 0) [[likely]]",
        "",
        ("eviction_test",),
    ),
    Mutant(
        "main-drop-returns-to-main",
        "a key that the main queue dropped goes straight back to it, so that a loop pushes out what it needs next",
        "core/shard/eviction_returns.cpp",
        "return from_main || is_late ? enter_small(id) : kMain;",
        "return is_late ? enter_small(id) : kMain;",
        ("eviction_border_test",),
    ),
    Mutant(
        "late-return-to-main",
        "a key that comes back later than all that the main queue has pushes out one of those",
        "core/shard/eviction_returns.cpp",
        "return from_main || is_late ? enter_small(id) : kMain;",
        "return from_main ? enter_small(id) : kMain;",
        ("eviction_border_test",),
    ),
    Mutant(
        "main-hand-ages-nothing",
        "whatever comes back counts as if it came within a round of the main queue",
        "core/shard/eviction.cpp",
        "    if (id % kSlotsPerCell == kBucketSlots) age_ghosts(id / kSlotsPerCell);\n",
        "",
        ("eviction_border_test",),
    ),
    Mutant(
        "main-gives-way-with-hits",
        "what the small queue drops pushes out of the main one what is still asked for",
        "core/shard/eviction.cpp",
        "  if ((policy & kHits) == 0) {\n    space().main_hand = id;",
        "  if (true) {\n    space().main_hand = id;",
        ("eviction_border_test",),
    ),
    Mutant(
        "loop-takes-no-hits",
        "in a loop the main queue never gives way, whether it is still asked for or not",
        "core/shard/eviction.cpp",
        "  if (!small_drops_return()) word.store(policy - 1, std::memory_order_relaxed);\n",
        "",
        ("eviction_border_test",),
    ),
    Mutant(
        "loop-replaces-all",
        "in a loop as much goes to the main queue as elsewhere, so that nothing lasts until its turn",
        "core/shard/eviction.cpp",
        "(small_drops_return() ? kOneIn : kOneInOfALoop)",
        "kOneIn",
        ("eviction_border_test",),
    ),
    Mutant(
        "chance-returns-believed",
        "a new key that meets another one's fingerprint goes to the main queue although nothing ever comes back",
        "core/shard/eviction_returns.cpp",
        "  if (!ghost_hits_significant()) return enter_small(id);\n",
        "",
        ("eviction_border_test",),
    ),
    Mutant(
        "promotion-keeps-its-bytes",
        "what moves to the main queue still counts as memory of the small one",
        "core/shard/eviction.cpp",
        "  count_out(policy, found.block.stored_size);\n  return {};",
        "  return {};",
        ("eviction_test", "shard_full_test"),
    ),
    Mutant(
        "no-time-before-the-hand",
        "a new key whose entry lies right before the hand of the small queue is dropped at once",
        "core/shard/eviction_returns.cpp",
        "return space().small_hand != 0 && ahead_of_hand(id, end) < end / 2 ?",
        "return space().small_hand != 0 && ahead_of_hand(id, end) > end ?",
        ("eviction_test",),
    ),
    Mutant(
        "rebuild-forgets-the-queues",
        "after a rebuild every entry is of the small queue",
        "core/shard/shard_rebuilder.cpp",
        "((policy & kMain) != 0 ? kMain : kSmall)",
        "kSmall",
        ("eviction_test",),
    ),
    Mutant(
        "small-entries-unmarked",
        "the hand of the small queue does not come to its entries",
        "core/shard/eviction.h",
        "if ((policy & (kSmall | kExpires)) != 0) mark(id);",
        "if ((policy & kExpires) != 0) mark(id);",
        ("eviction_test",),
    ),
    Mutant(
        "evict-what-is-pinned",
        "the blocks that views and reservations hold are evicted with the others",
        "core/shard/shard_reclaim.cpp",
        "  return ref != 0 && !pins_.is_block_pinned(ref);",
        "  return ref != 0;",
        ("shard_pins_test", "shard_full_test"),
    ),
    Mutant(
        "free-what-is-pinned",
        "a replaced or deleted block is freed although somebody holds it",
        "core/shard/shard_reclaim.cpp",
        "  if (!pins_.is_block_pinned(ref)) return false;\n",
        "  if (!pins_.is_block_pinned(ref) || block.key_size != 0) return false;\n",
        ("shard_pins_test",),
    ),
    Mutant(
        "free-by-the-ref-of-the-look",
        "whether a replaced block was viewed is asked of the ref before the new value was filled",
        "core/shard/shard_write.cpp",
        "    reclaimer_.release_block(old_ref, old_block);",
        "    reclaimer_.release_block(found.ref, old_block);",
        ("shard_overwrite_race_test",),
    ),
    Mutant(
        "evict-one-that-is-held",
        "the hands of eviction take entries whose values are viewed",
        "core/shard/eviction.cpp",
        "    if (pins_->is_block_pinned(found.ref)) continue;\n",
        "",
        ("eviction_test",),
    ),
    Mutant(
        "bucket-seen-before-the-lock",
        "a writer believes in what it saw of a bucket before it had the lock, although the bucket has changed",
        "core/shard/shard_find.h",
        "         probe.bucket->version.load(std::memory_order_relaxed) == probe.version;",
        "         probe.bucket->version.load(std::memory_order_relaxed) != ~probe.version;",
        ("histories",),
    ),
    Mutant(
        "victims-block-of-any-size",
        "a newcomer gets the block of its victim whether it fits or not",
        "core/shard/shard_reclaim.cpp",
        "victim.block.stored_size != wanted->units * kUnitSize || pins_",
        "pins_",
        ("shard_full_test",),
    ),
]
