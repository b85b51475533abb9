"""Mutants of pins, of the lock and of what puts a shard right after a death."""

from mutant import Mutant

MUTANTS = [
    Mutant(
        "count-before-pin",
        "a pin is counted in its block before it is recorded in the process slot",
        "core/shard_pins.cpp",
        """  pinned->pin = pins.claim(offset_of(position));
  if (pinned->pin == PinSet::kNone) return Status::kFull;
  header.created.store(created + 1, std::memory_order_relaxed);""",
        """  header.created.store(created + 1, std::memory_order_relaxed);
  pinned->pin = pins.claim(offset_of(position));
  if (pinned->pin == PinSet::kNone) return Status::kFull;""",
        ("shard_pins_test",),
    ),
    Mutant(
        "pin-not-recorded",
        "a pin is counted and recorded nowhere that survives a death",
        "core/shard_pins.cpp",
        "if (pinned->pin == PinSet::kNone) return Status::kFull;",
        "if (pinned->pin == PinSet::kNone) return Status::kFull;\n  pins.drop(pinned->pin);",
        ("shard_pins_test",),
    ),
    Mutant(
        "last-unpin-frees-nothing",
        "the block of a replaced value is not freed with its last pin",
        "core/shard_pins.cpp",
        "if (created_pins(created) != 0 || owned(position)) return;",
        "return;",
        ("shard_pins_test",),
    ),
    Mutant(
        "release-without-lock",
        "a pin is let go without the write lock",
        "core/shard_pins.cpp",
        """  return write(Exclusion::kWriters, deadline, [&] {
    // After damage was met, the pin has gone with a first run, or with a shard that had to be emptied.
    if (!pins.holds(pin, offset_of(position))) {
      return was_held && was_rebuilt_since(seq) ? Status::kOk : Status::kBadHandle;
    }
    let_go(position, pins, pin);
    return Status::kOk;
  });""",
        """  static_cast<void>(deadline);
  static_cast<void>(was_held && was_rebuilt_since(seq));
  try {
    if (!pins.holds(pin, offset_of(position))) return Status::kBadHandle;
    let_go(position, pins, pin);
    return Status::kOk;
  } catch (const ShardDamage&) {
    return Status::kCorrupt;
  }""",
        ("histories",),
    ),
    Mutant(
        "reservation-visible",
        "a reservation is the value of its key before it is committed",
        "core/shard_pins.cpp",
        "    reserved->read = {.value_size = value_size};",
        "    reserved->read = {.value_size = value_size};\n"
        "    const FoundEntry found = find(key);\n"
        "    const std::uint32_t new_id = found.id != 0 ? 0 : take_entry(block.stored_size, now_ms);\n"
        "    publish(position, block, request, found, new_id, now_ms);",
        ("shard_pins_test",),
    ),
    Mutant(
        "large-copy-after-unpin",
        "a large get lets the block go before it has copied it",
        "core/cache_read.cpp",
        "  if (pinned.read.value_size > room_bytes) {",
        "  end_pin(shard, pinned.position, pinned.pin, deadline);\n  if (pinned.read.value_size > room_bytes) {",
        ("histories",),
    ),
    Mutant(
        "pins-of-the-dead-stay",
        "the slot of a dead process is freed and its pins stay counted",
        "core/processes.cpp",
        "if (const Status status = drop_pin(slot, pin, offset); status != Status::kOk) return status;",
        "slot->pins[pin].store(0, std::memory_order_relaxed);",
        ("format_test", "kill_test"),
    ),
    Mutant(
        "dead-behind-a-busy-one-stay",
        "while the pins of one dead process cannot be dropped nobody else is taken out of the table",
        "core/processes.cpp",
        "if (first_failure == Status::kOk) first_failure = status;\n      continue;",
        "return status;",
        ("processes_test",),
    ),
    Mutant(
        "table-locked-while-waiting",
        "the process table stays locked while a shard is waited for that the dead have pins in",
        "core/processes.cpp",
        "    const Status status = attempt();\n    unlock();\n",
        "    Status status = attempt();\n"
        "    while (status == Status::kBusy && !deadline.passed()) status = attempt();\n"
        "    unlock();\n",
        ("processes_test",),
    ),
    Mutant(
        "dead-never-noticed",
        "every process counts as alive for ever",
        "core/processes.cpp",
        "if (pid == 0 || is_own || process_is_alive(",
        "if (pid >= 0 || is_own || process_is_alive(",
        ("processes_test",),
    ),
    Mutant(
        "own-pid-lives",
        "an earlier process that had the pid of this one counts as alive",
        "core/processes.cpp",
        "pid == own_pid && start_time == own_start_time;",
        "pid == own_pid;",
        ("processes_test",),
    ),
    Mutant(
        "fork-keeps-the-slot",
        "a forked child goes on in its parent's process slot",
        "core/cache.cpp",
        "membership_.store(Membership::kOutside, std::memory_order_release);",
        "static_cast<void>(membership_);",
        ("cache_overwrite_test", "abi_cache_test"),
    ),
    Mutant(
        "no-recovery",
        "whoever finds the lock's owner dead does not rebuild",
        "core/shard_lock.cpp",
        "    recovery_->recover();\n",
        "",
        ("shard_lock_test", "shard_rebuild_test"),
    ),
    Mutant(
        "no-recovery-flag",
        "a recovery that gives up at its deadline leaves nothing that says so",
        "core/shard_lock.cpp",
        "  shard_->needs_recovery.store(1, std::memory_order_seq_cst);\n  shard_->wait",
        "  shard_->wait",
        ("shard_lock_test",),
    ),
    Mutant(
        "never-consistent",
        "a mutex whose owner died is unlocked without being made consistent",
        "core/shard_lock.cpp",
        "  robust_mutex_consistent(&shard_->write_mutex);\n",
        "",
        ("shard_lock_test",),
    ),
    Mutant(
        "no-new-epoch",
        "a recovery goes on with the rwlock that the dead writer may have left locked",
        "core/shard_lock.cpp",
        "const Status status = switch_epoch(deadline);\n  if (status == Status::kOk) {\n    recovery_",
        "const Status status = deadline.passed() ? Status::kBusy : Status::kOk;\n"
        "  if (status == Status::kOk) {\n    recovery_",
        ("shard_lock_test",),
    ),
    Mutant(
        "no-seq-in-rebuild",
        "readers without a lock are not told that the shard is being rebuilt",
        "core/shard_rebuild.cpp",
        """void Shard::repair_after_damage() noexcept {
  header_->seq.store(header_->seq.load(std::memory_order_relaxed) | 1, std::memory_order_relaxed);""",
        """void Shard::repair_after_damage() noexcept {
  header_->seq.store(header_->seq.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);""",
        ("shard_rebuild_test", "shard_conditions_test"),
    ),
    Mutant(
        "wait-ignored",
        "slow readers come in although a writer waits for them to go",
        "core/shard_lock.cpp",
        "if (shard_->wait.load(std::memory_order_seq_cst) == 0 &&\n          shard_->needs_recovery",
        "if (shard_->needs_recovery",
        ("shard_lock_test",),
    ),
    Mutant(
        "living-readers-taken-for-dead",
        "a writer does not ask whether the reader in its way is alive",
        "core/shard_lock.cpp",
        "    case LockOutcome::kTimeout:\n      break;\n  }\n  // Somebody alive has the slot",
        "    case LockOutcome::kTimeout:\n      return false;\n  }\n  // Somebody alive has the slot",
        ("shard_lock_test",),
    ),
    Mutant(
        "count-of-the-dead-stays",
        "the count that a dead reader left in the rwlock is never cleared",
        "core/shard_lock.cpp",
        "if (!backoff.spinning() && !any_slot_is_live(current)) {",
        "if (backoff.spinning() && !any_slot_is_live(current) && deadline.passed()) {",
        ("shard_lock_test",),
    ),
    Mutant(
        "readers-not-excluded",
        "a writer that meets a slow reader goes on beside it",
        "core/shard_lock.h",
        "    return wait_for_readers(epoch, deadline);\n",
        "    return deadline.passed() ? wait_for_readers(epoch, deadline) : Status::kOk;\n",
        ("shard_lock_test",),
    ),
    Mutant(
        "wait-not-raised",
        "a writer that meets no slow reader says nothing to those that come",
        "core/shard_lock.h",
        "    shard_->wait.store(1, std::memory_order_seq_cst);\n",
        "",
        ("shard_lock_step_test", "shard_lock_test"),
    ),
    Mutant(
        "writer-looks-first",
        "a writer looks for slow readers before it says that none may come",
        "core/shard_lock.h",
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
        "core/shard_lock.h",
        "    shard_->wait.store(1, std::memory_order_seq_cst);\n",
        "    shard_->wait.store(1, std::memory_order_release);\n",
        ("shard_lock_race_test",),
    ),
    Mutant(
        "reader-looks-first",
        "a slow reader looks whether a writer is there before it counts itself",
        "core/shard_lock.cpp",
        """      announcement.count->fetch_add(1, std::memory_order_seq_cst);
      pthread_rwlock_t* rw = &shard_->rw[epoch & 1];
      if (shard_->wait.load(std::memory_order_seq_cst) == 0 &&
""",
        """      const bool nobody_writes = shard_->wait.load(std::memory_order_seq_cst) == 0;
      announcement.count->fetch_add(1, std::memory_order_seq_cst);
      pthread_rwlock_t* rw = &shard_->rw[epoch & 1];
      if (nobody_writes &&
""",
        ("shard_lock_step_test",),
    ),
    Mutant(
        "reader-not-counted",
        "a slow reader is in no count that a writer looks at",
        "core/shard_lock.cpp",
        """      announcement.count = &shard_->announced[epoch & 1];
      announcement.count->fetch_add(1, std::memory_order_seq_cst);
""",
        "",
        ("shard_lock_step_test", "shard_lock_test"),
    ),
    Mutant(
        "count-not-laid-anew",
        "a new epoch begins with the count of those that died in the one before the last",
        "core/shard_lock.cpp",
        "  shard_->announced[(epoch + 1) & 1].store(0, std::memory_order_relaxed);\n",
        "",
        ("shard_lock_test",),
    ),
    Mutant(
        "count-believed-for-ever",
        "no writer asks whether the readers that are counted are alive",
        "core/shard_lock.cpp",
        "return ++meetings_ % kMeetingsPerLook == 0 && !any_slot_is_live(epoch);",
        "return ++meetings_ == 0 && !any_slot_is_live(epoch);",
        ("shard_lock_test",),
    ),
    Mutant(
        "spin-without-end",
        "whoever finds a mutex taken looks at it for as long as it is",
        "core/robust_mutex.cpp",
        "for (int looks = 0; looks < kLooks; ++looks) {",
        "for (;;) {",
        ("shard_lock_test",),
    ),
    Mutant(
        "lease-ends-in-silence",
        "who waits for a lease is not woken when it ends",
        "core/shard_lease.cpp",
        "  header_->lease_events.fetch_add(1, std::memory_order_release);\n  futex_wake_all(header_->lease_events);\n",
        "  header_->lease_events.fetch_add(1, std::memory_order_release);\n",
        ("lease_kill_test",),
    ),
]
