#include "core/processes.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "core/cancellation.h"
#include "core/identity.h"
#include "core/robust_mutex.h"

namespace memstream {
namespace {

constexpr std::chrono::milliseconds kPause{1};

}  // namespace

// The registry needs no repair after a holder's death: a slot is entered and left by the single store of its pid, and
// what was half done for a dead process is done again.
Status ProcessTable::lock(const Deadline& deadline) noexcept {
  switch (robust_mutex_lock(&header_->registry_mutex, deadline)) {
    case LockOutcome::kOwnerDied:
      robust_mutex_consistent(&header_->registry_mutex);
      return Status::kOk;
    case LockOutcome::kAcquired:
      return Status::kOk;
    case LockOutcome::kTimeout:
      return fail(Status::kBusy,
                  "The process table was busy until the deadline. Try again, or allow more time with "
                  "MEMSTREAM_TIMEOUT_MS.");
    case LockOutcome::kUnusable:
      break;
  }
  return fail(Status::kCorrupt, "The lock of the process table is damaged. Destroy the segment and connect again.");
}

void ProcessTable::unlock() noexcept { robust_mutex_unlock(&header_->registry_mutex); }

// Runs `attempt()` with the table locked, again and again while it is busy and the deadline has not passed. In between
// the table is free: who waits for a shard to drop a pin in it must not keep out those who come.
template <class Attempt>
Status ProcessTable::with_table(const Deadline& deadline, const Attempt& attempt) {
  for (;;) {
    if (const Status status = lock(deadline); status != Status::kOk) return status;
    const Status status = attempt();
    unlock();
    if (status != Status::kBusy || deadline.passed()) return status;
    const UncancelledScope uncancelled;
    std::this_thread::sleep_for(kPause);
  }
}

// Each process takes the first slot that is free, so that behind one which nobody ever had there is none.
std::span<ProcessSlot> ProcessTable::used() const noexcept {
  std::uint32_t used = 0;
  while (used < count_ && (slots_[used].generation.load(std::memory_order_relaxed) != 0 ||
                           slots_[used].pid.load(std::memory_order_relaxed) != 0)) {
    ++used;
  }
  return {slots_, used};
}

ProcessSlot* ProcessTable::enter(std::uint64_t start_time) noexcept {
  for (std::uint32_t i = 0; i < count_; ++i) {
    ProcessSlot& slot = slots_[i];
    if (slot.pid.load(std::memory_order_acquire) != 0) continue;
    slot.counters.hits.store(0, std::memory_order_relaxed);
    slot.counters.misses.store(0, std::memory_order_relaxed);
    slot.counters.puts.store(0, std::memory_order_relaxed);
    for (auto& pin : slot.pins) pin.store(0, std::memory_order_relaxed);
    // Before the pid: leases of whoever had the slot last are void from here on.
    slot.generation.fetch_add(1, std::memory_order_relaxed);
    slot.start_time.store(start_time, std::memory_order_relaxed);
    slot.pid.store(static_cast<std::uint32_t>(getpid()), std::memory_order_release);
    return &slot;
  }
  return nullptr;
}

Status ProcessTable::claim(const Deadline& deadline, const DropPin& drop_pin, ProcessSlot** slot) {
  // Without it the slot could never be told from that of a later process with this pid.
  std::uint64_t start_time = 0;
  if (const Status status = own_start_time(&start_time); status != Status::kOk) return status;
  own_start_time_.store(start_time, std::memory_order_relaxed);
  const Status status = with_table(deadline, [&] {
    *slot = enter(start_time);
    if (*slot != nullptr) return Status::kOk;
    const Status cleaned_up = retire_dead(drop_pin);
    *slot = enter(start_time);
    if (*slot != nullptr) return Status::kOk;
    return cleaned_up == Status::kOk ? Status::kProcessTableFull : cleaned_up;
  });
  if (status != Status::kProcessTableFull) return status;
  return fail_without_throwing(Status::kProcessTableFull, [&] {
    return fmt::format(
        "All {} process slots of the segment are taken by live processes. Close some, or create the segment with a "
        "larger MEMSTREAM_SIZE, which has more.",
        count_);
  });
}

Status ProcessTable::give_back(const Deadline& deadline, const DropPin& drop_pin, ProcessSlot* slot) {
  return with_table(deadline, [&] { return retire(slot, drop_pin); });
}

Status ProcessTable::clean_up(const Deadline& deadline, const DropPin& drop_pin) {
  return with_table(deadline, [&] { return retire_dead(drop_pin); });
}

Status ProcessTable::retire(ProcessSlot* slot, const DropPin& drop_pin) {
  for (std::uint32_t pin = 0; pin < kPinsPerProcess; ++pin) {
    const std::uint64_t offset = slot->pins[pin].load(std::memory_order_acquire);
    if (offset == 0) continue;
    if (const Status status = drop_pin(slot, pin, offset); status != Status::kOk) return status;
  }
  header_->retired.hits.fetch_add(slot->counters.hits.exchange(0, std::memory_order_relaxed),
                                  std::memory_order_relaxed);
  header_->retired.misses.fetch_add(slot->counters.misses.exchange(0, std::memory_order_relaxed),
                                    std::memory_order_relaxed);
  header_->retired.puts.fetch_add(slot->counters.puts.exchange(0, std::memory_order_relaxed),
                                  std::memory_order_relaxed);
  slot->pid.store(0, std::memory_order_release);
  return Status::kOk;
}

// One whose pins cannot be dropped now keeps no other one in the table.
Status ProcessTable::retire_dead(const DropPin& drop_pin) {
  Status first_failure = Status::kOk;
  const pid_t own_pid = getpid();
  const std::uint64_t own_start_time = own_start_time_.load(std::memory_order_relaxed);
  for (ProcessSlot& slot : used()) {
    const auto pid = static_cast<pid_t>(slot.pid.load(std::memory_order_acquire));
    const std::uint64_t start_time = slot.start_time.load(std::memory_order_relaxed);
    const bool is_own = pid == own_pid && start_time == own_start_time;  // No need to ask the kernel.
    if (pid == 0 || is_own || process_is_alive(pid, start_time)) continue;
    if (const Status status = retire(&slot, drop_pin); status != Status::kOk) {
      if (first_failure == Status::kOk) first_failure = status;
      continue;
    }
    header_->dead_processes.fetch_add(1, std::memory_order_relaxed);
  }
  return first_failure;
}

std::uint64_t ProcessTable::lease_owner_of(const ProcessSlot* slot) const noexcept {
  if (slot == nullptr) return 0;
  return lease_owner_word(number_of(slot), slot->generation.load(std::memory_order_relaxed));
}

// `owner` was loaded with acquire: the pid seen here is its own or a later one, and then the generation tells.
bool ProcessTable::owner_is_alive(std::uint64_t owner) const noexcept {
  const std::uint64_t index = lease_owner_slot(owner);
  if (index >= count_) return false;
  const ProcessSlot& slot = slots_[index];
  const auto pid = static_cast<pid_t>(slot.pid.load(std::memory_order_acquire));
  const std::uint64_t start_time = slot.start_time.load(std::memory_order_relaxed);
  return pid != 0 && slot.generation.load(std::memory_order_acquire) == lease_owner_generation(owner) &&
         process_is_alive(pid, start_time);
}

ProcessCounts ProcessTable::sum() const noexcept {
  ProcessCounts sum;
  const auto add = [&](const ProcessCounters& counters) {
    sum.hits += counters.hits.load(std::memory_order_relaxed);
    sum.misses += counters.misses.load(std::memory_order_relaxed);
    sum.puts += counters.puts.load(std::memory_order_relaxed);
  };
  add(header_->retired);
  for (const ProcessSlot& slot : used()) {
    if (slot.pid.load(std::memory_order_acquire) != 0) add(slot.counters);
  }
  return sum;
}

}  // namespace memstream
