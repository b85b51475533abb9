#include "core/cache/processes.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "core/base/identity.h"
#include "core/base/process_names.h"
#include "core/base/robust_mutex.h"

namespace memstream {

// The registry needs no repair after a holder's death: a slot is entered and left by the single store of its pid, and a
// half-done clean-up after a dead process is repeated.
Status ProcessTable::lock(const Deadline& deadline) noexcept {
  switch (robust_mutex_lock(&header_->registry_mutex, deadline)) {
    case LockOutcome::kOwnerDied:
      robust_mutex_consistent(&header_->registry_mutex);
      return Status::kOk;
    case LockOutcome::kAcquired:
      return Status::kOk;
    case LockOutcome::kTimeout:
      return fail_without_throwing(Status::kBusy, [&] {
        return fmt::format(
            "The process table is busy: {} held its lock until the deadline. Try again, or allow more time with "
            "MEMSTREAM_TIMEOUT_MS.",
            describe_process(robust_mutex_owner(&header_->registry_mutex)));
      });
    case LockOutcome::kUnusable:
      break;
  }
  return fail(Status::kCorrupt, "The lock of the process table is damaged. Destroy the segment and connect again.");
}

void ProcessTable::unlock() noexcept { robust_mutex_unlock(&header_->registry_mutex); }

// Each process takes the first free slot, so that all slots behind one that was never used are free.
std::span<ProcessSlot> ProcessTable::used() const noexcept {
  std::uint32_t used = 0;
  while (used < count_ && (slots_[used].generation.load(std::memory_order_relaxed) != 0 ||
                           slots_[used].pid.load(std::memory_order_relaxed) != 0)) {
    ++used;
  }
  return {slots_, used};
}

// kTaken: no slot is free.
ProcessMarks::Outcome ProcessTable::enter(std::uint64_t start_time, ProcessSlot** entered) noexcept {
  for (std::uint32_t i = 0; i < count_; ++i) {
    ProcessSlot& slot = slots_[i];
    if (slot.pid.load(std::memory_order_acquire) != 0) continue;
    const ProcessMarks::Outcome outcome = marks_.set(i);
    // An empty slot whose mark is set: the process that has just left it has not cleared the mark yet.
    if (outcome == ProcessMarks::Outcome::kTaken) continue;
    if (outcome != ProcessMarks::Outcome::kSet) return outcome;
    slot.counters.hits.store(0, std::memory_order_relaxed);
    slot.counters.misses.store(0, std::memory_order_relaxed);
    slot.counters.puts.store(0, std::memory_order_relaxed);
    for (auto& waiters : slot.waiters) waiters.store(0, std::memory_order_relaxed);
    for (auto& pin : slot.pins) pin.store(0, std::memory_order_relaxed);
    slot.pins_used.store(0, std::memory_order_relaxed);
    // Before the pid: leases of the process that had the slot last are void from here on.
    slot.generation.fetch_add(1, std::memory_order_relaxed);
    slot.start_time.store(start_time, std::memory_order_relaxed);
    slot.image.store(program_image(), std::memory_order_relaxed);
    // Before the first pin. A process that dies here leaves a number that is too large, until the next one leaves the
    // table.
    if (header_->slots_in_use.load(std::memory_order_relaxed) <= i) {
      header_->slots_in_use.store(i + 1, std::memory_order_relaxed);
    }
    slot.pid.store(static_cast<std::uint32_t>(getpid()), std::memory_order_release);
    *entered = &slot;
    return outcome;
  }
  return ProcessMarks::Outcome::kTaken;
}

Status ProcessTable::claim(const Deadline& deadline, ProcessSlot** slot) {
  *slot = nullptr;
  const std::uint64_t start_time = own_start_time();
  if (const Status status = lock(deadline); status != Status::kOk) return status;
  retire_former_programs();
  ProcessMarks::Outcome outcome = enter(start_time, slot);
  if (outcome == ProcessMarks::Outcome::kTaken) {
    retire_dead();
    outcome = enter(start_time, slot);
  }
  const int error = errno;
  unlock();
  if (*slot != nullptr) return Status::kOk;
  errno = error;
  if (outcome != ProcessMarks::Outcome::kTaken) return ProcessMarks::explain(outcome);
  return fail_without_throwing(Status::kProcessTableFull, [&] {
    return fmt::format(
        "All {} process slots of the segment are taken by live processes. Close some, or create the segment with a "
        "larger MEMSTREAM_SIZE, which has more.",
        count_);
  });
}

Status ProcessTable::give_back(const Deadline& deadline, ProcessSlot* slot) {
  if (const Status status = lock(deadline); status != Status::kOk) return status;
  retire(slot);
  marks_.clear(number_of(slot));
  unlock();
  return Status::kOk;
}

Status ProcessTable::clean_up(const Deadline& deadline) {
  if (const Status status = lock(deadline); status != Status::kOk) return status;
  retire_dead();
  unlock();
  return Status::kOk;
}

void ProcessTable::retire(ProcessSlot* slot) noexcept {
  for (auto& pin : slot->pins) pin.store(0, std::memory_order_release);
  header_->retired.hits.fetch_add(slot->counters.hits.exchange(0, std::memory_order_relaxed),
                                  std::memory_order_relaxed);
  header_->retired.misses.fetch_add(slot->counters.misses.exchange(0, std::memory_order_relaxed),
                                    std::memory_order_relaxed);
  header_->retired.puts.fetch_add(slot->counters.puts.exchange(0, std::memory_order_relaxed),
                                  std::memory_order_relaxed);
  slot->pid.store(0, std::memory_order_release);
  std::uint32_t in_use = std::min(header_->slots_in_use.load(std::memory_order_relaxed), count_);
  while (in_use > 0 && slots_[in_use - 1].pid.load(std::memory_order_relaxed) == 0) --in_use;
  header_->slots_in_use.store(in_use, std::memory_order_relaxed);
}

void ProcessTable::retire_dead() noexcept {
  for (ProcessSlot& slot : used()) {
    if (slot.pid.load(std::memory_order_acquire) == 0 || marks_.may_be_set(number_of(&slot))) continue;
    reaped_processes_.fetch_add(1, std::memory_order_relaxed);
    if (places_ != nullptr) reaped_pins_.fetch_add(places_->count(slot), std::memory_order_relaxed);
    retire(&slot);
    header_->dead_processes.fetch_add(1, std::memory_order_relaxed);
  }
}

// A process keeps its marks through exec(). No program uses the slots of the former one any more.
void ProcessTable::retire_former_programs() noexcept {
  const auto own_pid = static_cast<std::uint32_t>(getpid());
  for (ProcessSlot& slot : used()) {
    if (slot.pid.load(std::memory_order_acquire) != own_pid) continue;
    if (slot.image.load(std::memory_order_relaxed) == program_image() || !marks_.is_own(number_of(&slot))) continue;
    retire(&slot);
    marks_.clear(number_of(&slot));
    header_->dead_processes.fetch_add(1, std::memory_order_relaxed);
  }
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
  return slot.pid.load(std::memory_order_acquire) != 0 &&
         slot.generation.load(std::memory_order_acquire) == lease_owner_generation(owner) &&
         marks_.may_be_set(static_cast<std::uint32_t>(index));
}

std::uint32_t ProcessTable::pid_of(std::uint64_t owner) const noexcept {
  const std::uint64_t index = lease_owner_slot(owner);
  if (index >= count_) return 0;
  const ProcessSlot& slot = slots_[index];
  const std::uint32_t pid = slot.pid.load(std::memory_order_acquire);
  return slot.generation.load(std::memory_order_acquire) == lease_owner_generation(owner) ? pid : 0;
}

std::array<std::uint64_t, kWaitingKinds> ProcessTable::waiters() const noexcept {
  std::array<std::uint64_t, kWaitingKinds> sum{};
  for (const ProcessSlot& slot : used()) {
    if (slot.pid.load(std::memory_order_acquire) == 0) continue;
    std::array<std::uint64_t, kWaitingKinds> own{};
    for (std::uint32_t kind = 0; kind < kWaitingKinds; ++kind) {
      own[kind] = slot.waiters[kind].load(std::memory_order_relaxed);
    }
    // The kernel is asked only about processes with waiters.
    const bool counts = own != std::array<std::uint64_t, kWaitingKinds>{} && marks_.may_be_set(number_of(&slot));
    for (std::uint32_t kind = 0; counts && kind < kWaitingKinds; ++kind) sum[kind] += own[kind];
  }
  return sum;
}

// A child has its parent's image and another pid.
bool ProcessTable::are_of_one_process(const ProcessSlot& one, const ProcessSlot& other) noexcept {
  return one.pid.load(std::memory_order_acquire) == other.pid.load(std::memory_order_acquire) &&
         one.image.load(std::memory_order_relaxed) == other.image.load(std::memory_order_relaxed);
}

std::uint64_t ProcessTable::count() const noexcept {
  std::uint64_t processes = 0;
  const std::span<ProcessSlot> slots = used();
  for (auto slot = slots.begin(); slot != slots.end(); ++slot) {
    if (slot->pid.load(std::memory_order_acquire) == 0) continue;
    const bool is_first = std::none_of(slots.begin(), slot,
                                       [&](const ProcessSlot& earlier) { return are_of_one_process(earlier, *slot); });
    processes += is_first ? 1 : 0;
  }
  return processes;
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
