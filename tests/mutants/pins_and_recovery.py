"""Mutants of pins, of the lock and of what puts a shard right after a death."""

from mutant import Mutant

MUTANTS = [
    Mutant(
        "pin-without-viewed-bit",
        "a view does not say in the ref that there is one",
        "core/shard/shard_lookup.h",
        "if (!ref_has_pinned_hint(ref))\n      "
        "entry->ref.compare_exchange_strong(ref, ref | kPinnedHint, std::memory_order_acq_rel);",
        "static_cast<void>(ref);",
        ("shard_pins_test",),
    ),
    Mutant(
        "pin-without-a-fence",
        "a pin may become visible to others after the last look at the ref",
        "core/shard/shard_lookup.h",
        "    std::atomic_thread_fence(std::memory_order_seq_cst);\n    std::uint64_t ref = candidate.ref;",
        "    std::uint64_t ref = candidate.ref;",
        ("view_race_test",),
    ),
    Mutant(
        "pin-believed-unseen",
        "a pin counts although the entry has let go of the block before it was set",
        "core/shard/shard_lookup.h",
        "  if (outcome == Lookup::kFound && did == Pinned::kPinned) [[likely]] {",
        "  if (did == Pinned::kPinned) [[likely]] {",
        ("shard_pins_test",),
    ),
    Mutant(
        "new-pins-do-not-count",
        "a pin that is not confirmed yet holds nothing",
        "core/shard/pins.h",
        "if ((slot.pins[pin].load(std::memory_order_acquire) & ~kPinIsTentative) == offset_bytes) return true;",
        "if (slot.pins[pin].load(std::memory_order_acquire) == offset_bytes) return true;",
        ("shard_pins_test",),
    ),
    Mutant(
        "only-the-first-pin-counts",
        "who asks whether a block is held looks at one pin of each process",
        "core/shard/pins.h",
        "const std::uint32_t used = std::min(slot.pins_used.load(std::memory_order_relaxed), kPinsPerProcess);",
        "const std::uint32_t used = std::min(slot.pins_used.load(std::memory_order_relaxed), 1U);",
        ("shard_pins_test",),
    ),
    Mutant(
        "place-not-noted",
        "a process takes a place for a pin without saying that it uses that one, too",
        "core/shard/pins.h",
        "pin + 1, std::memory_order_relaxed)) {",
        "1, std::memory_order_relaxed)) {\n      if (used != 0) break;",
        ("shard_pins_test",),
    ),
    Mutant(
        "release-of-another",
        "a pin ends although it holds another block",
        "core/shard/pins.h",
        "    if (!holds(pin, offset_bytes)) return false;\n",
        "    if (slot_ == nullptr || pin >= kPinsPerProcess) return false;\n",
        ("abi_memstream_test",),
    ),
    Mutant(
        "live-and-marked-orphan",
        "a reservation that becomes a value goes on being marked as nobody's",
        "core/shard/retired_blocks.cpp",
        "  shape.flags &= ~kBlockRetired;\n",
        "",
        ("shard_pins_test",),
    ),
    Mutant(
        "rebuild-keeps-orphan-marks",
        "a rebuild believes that a live block is nobody's",
        "core/shard/shard_rebuilder.cpp",
        "~(kBlockPrevFree | kBlockRetired)",
        "~kBlockPrevFree",
        ("shard_rebuild_test",),
    ),
    Mutant(
        "commit-in-32-bits",
        "of a reservation the upper part of the instant of its commit is lost",
        "core/shard/shard_pins.cpp",
        " | created_flags(context.now_ms);",
        ";",
        ("shard_test",),
    ),
    Mutant(
        "orphans-never-freed",
        "the block of a replaced value is not freed when its last view has ended",
        "core/shard/retired_blocks.cpp",
        "    if (is_held(position)) {\n",
        "    if (is_held(position) || true) {\n",
        ("shard_retired_test",),
    ),
    Mutant(
        "orphans-not-freed-for-room",
        "room is refused although views that have ended would give it",
        "core/shard/shard_reclaim.cpp",
        "  retired_.free_all();\n  position = arena_",
        "  position = arena_",
        ("shard_retired_test",),
    ),
    Mutant(
        "committed-without-the-bit",
        "a reservation becomes a value, and its ref does not say that somebody holds it",
        "core/shard/shard_write.cpp",
        "ref_live(old_ref, position) | (is_pinned ? kPinnedHint : 0);",
        "ref_live(old_ref, position) | (is_pinned ? 0 : 0);",
        ("shard_pins_test",),
    ),
    Mutant(
        "window-frees-what-is-viewed",
        "a block in a window is freed although a view of it has begun since the window was found",
        "core/shard/shard_reclaim.cpp",
        "    if (retired_.has(position)) [[unlikely]] {",
        "    if (false) {",
        ("shard_pins_race_test",),
    ),
    Mutant(
        "token-with-the-viewed-bit",
        "a view changes the token of the value",
        "core/shard/cas_token.h",
        "((generation - moves) & kGenerationMask)",
        "(generation - moves)",
        ("shard_pins_test",),
    ),
    Mutant(
        "reservation-visible",
        "a reservation is the value of its key before it is committed",
        "core/shard/shard_pins.cpp",
        "    if (clearing.is_done()) return status;\n",
        "    if (clearing.is_done()) {\n"
        "      return write(Exclusion::kEverybody, context.deadline, [&] {\n"
        "        const FoundEntry found = contents_.find(key);\n"
        "        const CheckedBlock block = contents_.checked_block(reserved->position);\n"
        "        const std::uint32_t new_id =\n"
        "            found.id != 0 ? 0 : reclaimer_.take_entry(block.stored_size, context.now_ms, nullptr);\n"
        "        publish(reserved->position, block, request, found, new_id, context.now_ms, false);\n"
        "        return Status::kOk;\n"
        "      });\n"
        "    }\n",
        ("shard_pins_test",),
    ),
    Mutant(
        "clearing-in-one-hold",
        "room for a large value is made in one hold of the lock",
        "core/shard/clearing.cpp",
        "blocks < kBlocksAtOnce && emptied_bytes < kEmptiedAtOnce",
        "true",
        ("hold_time_test",),
    ),
    Mutant(
        "clearing-unpinned",
        "nothing holds the block that grows between two slices of clearing",
        "core/shard/clearing.cpp",
        "  retired_.add(BlockPosition{position}, first.size_bytes());\n  pin_ = pins_.claim(offset_of(position));\n",
        "  retired_.add(BlockPosition{position}, first.size_bytes());\n  pin_ = PinNumber{0};\n",
        ("hold_time_test",),
    ),
    Mutant(
        "check-in-one-hold",
        "a check looks at a whole shard in one hold of the lock",
        "core/shard/shard_checker.cpp",
        "kLooksAtOnce = 2048;",
        "kLooksAtOnce = 1U << 30;",
        ("hold_time_test",),
    ),
    Mutant(
        "check-of-what-changes",
        "a check adds up what others changed between its slices",
        "core/shard/shard_checker.cpp",
        "if (state.seq != walk.state.seq || state.bytes != walk.state.bytes) return false;",
        "if (state.seq != walk.state.seq) return false;",
        ("hold_time_test",),
    ),
    Mutant(
        "large-copy-after-unpin",
        "a large get lets the block go before it has copied it",
        "core/cache/cache_read.cpp",
        "  if (pinned.read.value_size > capacity) {",
        "  pins.release(pinned.pin, shard.offset_of(pinned.position));\n  if (pinned.read.value_size > capacity) {",
        ("histories",),
    ),
    Mutant(
        "pins-of-the-dead-stay",
        "the slot of a dead process is freed and its pins stay",
        "core/cache/processes.cpp",
        "  for (auto& pin : slot->pins) pin.store(0, std::memory_order_release);\n",
        "",
        ("processes_test",),
    ),
    Mutant(
        "leaving-hides-the-others",
        "whoever leaves the process table takes the pins of others out of sight",
        "core/cache/processes.cpp",
        "slots_[in_use - 1].pid.load(std::memory_order_relaxed) == 0) --in_use;",
        "slots_[in_use - 1].pid.load(std::memory_order_relaxed) >= 0) --in_use;",
        ("processes_test",),
    ),
    Mutant(
        "no-recovery",
        "whoever finds the lock's owner dead does not rebuild",
        "core/shard/shard_lock.cpp",
        "    recovery_->repair_after_death();\n",
        "",
        ("shard_lock_test", "shard_rebuild_test"),
    ),
    Mutant(
        "no-recovery-flag",
        "a recovery that gives up at its deadline leaves nothing that says so",
        "core/shard/shard_lock.cpp",
        "  shard_->needs_recovery.store(1, std::memory_order_seq_cst);\n  shard_->wait",
        "  shard_->wait",
        ("shard_lock_test",),
    ),
    Mutant(
        "never-consistent",
        "a mutex whose owner died is unlocked without being made consistent",
        "core/shard/shard_lock.cpp",
        "  robust_mutex_consistent(&shard_->write_mutex);\n",
        "",
        ("shard_lock_test",),
    ),
    Mutant(
        "no-new-epoch",
        "a recovery goes on with the rwlock that the dead writer may have left locked",
        "core/shard/shard_lock.cpp",
        "const Status status = switch_epoch(deadline);\n  if (status == Status::kOk) {\n    recovery_",
        "const Status status = deadline.passed() ? Status::kBusy : Status::kOk;\n"
        "  if (status == Status::kOk) {\n    recovery_",
        ("shard_lock_test",),
    ),
    Mutant(
        "no-seq-in-rebuild",
        "readers without a lock are not told that the shard is being rebuilt",
        "core/shard/shard_rebuilder.cpp",
        "header_->seq.store(header_->seq.load(std::memory_order_relaxed) | 1, std::memory_order_relaxed);",
        "header_->seq.store(header_->seq.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);",
        ("shard_rebuild_test", "shard_conditions_test"),
    ),
    Mutant(
        "wait-ignored",
        "slow readers come in although a writer waits for them to go",
        "core/shard/shard_lock.cpp",
        "if (shard_->wait.load(std::memory_order_seq_cst) == 0 &&\n          shard_->needs_recovery",
        "if (shard_->needs_recovery",
        ("shard_lock_test",),
    ),
    Mutant(
        "living-readers-taken-for-dead",
        "a writer does not ask whether the reader in its way is alive",
        "core/shard/shard_lock.cpp",
        "    case LockOutcome::kTimeout:\n      break;\n  }\n  // Somebody alive has the slot",
        "    case LockOutcome::kTimeout:\n      return false;\n  }\n  // Somebody alive has the slot",
        ("shard_lock_test",),
    ),
    Mutant(
        "count-of-the-dead-stays",
        "the count that a dead reader left in the rwlock is never cleared",
        "core/shard/shard_lock.cpp",
        "if (!backoff.spinning() && !any_slot_is_live(current)) {",
        "if (backoff.spinning() && !any_slot_is_live(current) && deadline.passed()) {",
        ("shard_lock_test",),
    ),
    Mutant(
        "readers-not-excluded",
        "a writer that meets a slow reader goes on beside it",
        "core/shard/shard_lock.h",
        "    return wait_for_readers(epoch, deadline);\n",
        "    return deadline.passed() ? wait_for_readers(epoch, deadline) : Status::kOk;\n",
        ("shard_lock_test",),
    ),
    Mutant(
        "wait-not-raised",
        "a writer that meets no slow reader says nothing to those that come",
        "core/shard/shard_lock.h",
        "    shard_->wait.store(1, std::memory_order_seq_cst);\n",
        "",
        ("shard_lock_step_test", "shard_lock_test"),
    ),
    Mutant(
        "writer-looks-first",
        "a writer looks for slow readers before it says that none may come",
        "core/shard/shard_lock.h",
        """    shard_->wait.store(1, std::memory_order_seq_cst);
    const std::uint64_t epoch = shard_->epoch.load(std::memory_order_relaxed);
    if (shard_->announced[epoch & 1].load(std::memory_order_seq_cst) == 0) [[likely]]
      return Status::kOk;
""",
        """    const std::uint64_t epoch = shard_->epoch.load(std::memory_order_relaxed);
    const bool nobody_reads = shard_->announced[epoch & 1].load(std::memory_order_seq_cst) == 0;
    shard_->wait.store(1, std::memory_order_seq_cst);
    if (nobody_reads) [[likely]]
      return Status::kOk;
""",
        ("shard_lock_step_test",),
    ),
    Mutant(
        "wait-raised-late",
        "that a writer shuts out readers is seen only some time after it has looked for them",
        "core/shard/shard_lock.h",
        "    shard_->wait.store(1, std::memory_order_seq_cst);\n",
        "    shard_->wait.store(1, std::memory_order_release);\n",
        ("shard_lock_race_test",),
    ),
    Mutant(
        "reader-looks-first",
        "a slow reader looks whether a writer is there before it counts itself",
        "core/shard/shard_lock.cpp",
        """      registration.count->fetch_add(1, std::memory_order_seq_cst);
      pthread_rwlock_t* rw = &shard_->rw[epoch & 1];
      if (shard_->wait.load(std::memory_order_seq_cst) == 0 &&
""",
        """      const bool nobody_writes = shard_->wait.load(std::memory_order_seq_cst) == 0;
      registration.count->fetch_add(1, std::memory_order_seq_cst);
      pthread_rwlock_t* rw = &shard_->rw[epoch & 1];
      if (nobody_writes &&
""",
        ("shard_lock_step_test",),
    ),
    Mutant(
        "reader-not-counted",
        "a slow reader is in no count that a writer looks at",
        "core/shard/shard_lock.cpp",
        """      registration.count = &shard_->announced[epoch & 1];
      registration.count->fetch_add(1, std::memory_order_seq_cst);
""",
        "",
        ("shard_lock_step_test", "shard_lock_test"),
    ),
    Mutant(
        "count-not-laid-anew",
        "a new epoch begins with the count of those that died in the one before the last",
        "core/shard/shard_lock.cpp",
        "  shard_->announced[(epoch + 1) & 1].store(0, std::memory_order_relaxed);\n",
        "",
        ("shard_lock_test",),
    ),
    Mutant(
        "count-believed-for-ever",
        "no writer asks whether the readers that are counted are alive",
        "core/shard/shard_lock.cpp",
        "return ++contended_writes_ % kMeetingsPerLook == 0 && !any_slot_is_live(epoch);",
        "return ++contended_writes_ == 0 && !any_slot_is_live(epoch);",
        ("shard_lock_test",),
    ),
    Mutant(
        "spin-without-end",
        "whoever finds a mutex taken looks at it for as long as it is",
        "core/base/robust_mutex.cpp",
        "for (int looks = 0; looks < kSpinLooks; ++looks) {",
        "for (;;) {",
        ("shard_lock_test",),
    ),
    Mutant(
        "lease-ends-in-silence",
        "who waits for a lease is not woken when it ends",
        "core/shard/lease_table.cpp",
        "  header_->lease_events.fetch_add(1, std::memory_order_release);\n  futex_wake_all(header_->lease_events);\n",
        "  header_->lease_events.fetch_add(1, std::memory_order_release);\n",
        ("lease_kill_test",),
    ),
    Mutant(
        "clear-keeps-the-leases",
        "a lease stands while clear removes what its value is made of",
        "core/shard/shard_write.cpp",
        "      if (next == 0) leases_.end_all();\n      const std::uint64_t end =",
        "      const std::uint64_t end =",
        ("lease_test",),
    ),
    Mutant(
        "end-taken-for-a-takeover",
        "who follows a lease that was ended goes on with the next one",
        "core/shard/lease_table.cpp",
        "  lease.token.store(next_grant(lease.token.load(std::memory_order_relaxed)), std::memory_order_release);\n",
        "",
        ("lease_test",),
    ),
    Mutant(
        "unplaced-lease-outlives-a-write",
        "a lease that found no place stands although its key was written",
        "core/shard/lease_table.cpp",
        "  if ((space().leases & kCountsChanges) != 0) ++changes_of(header_, key);\n",
        "",
        ("lease_test",),
    ),
    Mutant(
        "chunk-not-wiped",
        "who claims a chunk finds the pins of its last owner in it",
        "core/shard/pin_places.cpp",
        "    for (std::atomic<std::uint64_t>& pin : chunk.pins) pin.store(0, std::memory_order_relaxed);\n",
        "",
        ("pin_places_test",),
    ),
    Mutant(
        "chunk-of-the-living-claimed",
        "a process claims a chunk whose owner is attached",
        "core/shard/pin_places.cpp",
        "    if (owner_of(owner & ~kIsBeingWiped) != nullptr) continue;\n",
        "",
        ("pin_places_test",),
    ),
    Mutant(
        "chunk-of-the-dead-holds",
        "what a process held in chunks stays held after it has left",
        "core/shard/pin_places.cpp",
        "    if (owner_of(chunk.owner.load(std::memory_order_acquire)) == nullptr) continue;\n",
        "",
        ("pin_places_test",),
    ),
]
