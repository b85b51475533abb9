#include "core/shard/shard_lock.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <chrono>
#include <functional>
#include <thread>

#include "core/base/pause.h"
#include "core/base/process_names.h"
#include "core/base/thread_cancel.h"

namespace memstream {
namespace {

constexpr int kAnnounceTries = 3;
constexpr std::uint32_t kMeetingsPerLook = 256;
constexpr int kSpins = 64;  // Tries before the first sleep: a slow reader holds the lock for microseconds.

// Gives way to the thread that it waits for: first by spinning, then in sleeps that grow to 1 ms.
class Backoff {
 public:
  void pause() noexcept {
    if (++count_ <= kSpins) {
      pause_processor();
      return;
    }
    const DisableCancelScope uncancelled;
    const int doublings = std::min(count_ - kSpins, 7);
    std::this_thread::sleep_for(std::chrono::microseconds(8 << doublings));
  }
  bool spinning() const noexcept { return count_ < kSpins; }

 private:
  int count_ = 0;
};

Status rwlock_init(pthread_rwlock_t* lock) noexcept {
  pthread_rwlockattr_t attributes;
  const char* call = "pthread_rwlockattr_init";
  int error = pthread_rwlockattr_init(&attributes);
  if (error == 0) {
    call = "pthread_rwlockattr_setpshared";
    error = pthread_rwlockattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    if (error == 0) {
      call = "pthread_rwlock_init";
      error = pthread_rwlock_init(lock, &attributes);
    }
    pthread_rwlockattr_destroy(&attributes);
  }
  if (error == 0) return Status::kOk;
  return fail_errno(Status::kOsError, call, "", error, "Use a C library with process-shared locks.");
}

// `tid`: the thread that stands in the way, 0 if that is not known.
Status busy(std::uint32_t shard, pid_t tid, const char* what) noexcept {
  return fail_without_throwing(Status::kBusy, [&] {
    return fmt::format(
        "Shard {} is busy: {} {} until the deadline. Try again, or allow more time with MEMSTREAM_TIMEOUT_MS.", shard,
        describe_process(tid), what);
  });
}

}  // namespace

Status ShardLock::initialize(ShardHeader* shard) noexcept {
  if (const Status status = robust_mutex_init(&shard->write_mutex); status != Status::kOk) return status;
  for (pthread_rwlock_t& lock : shard->rw) {
    if (const Status status = rwlock_init(&lock); status != Status::kOk) return status;
  }
  return Status::kOk;
}

// ---- writers ----

Status ShardLock::lock_slow(LockOutcome outcome, const Deadline& deadline) noexcept {
  if (outcome == LockOutcome::kTimeout) outcome = wait_for_writer(deadline);
  switch (outcome) {
    case LockOutcome::kAcquired:
      if (shard_->needs_recovery.load(std::memory_order_relaxed) == 0) [[likely]]
        return Status::kOk;
      break;
    case LockOutcome::kOwnerDied:
      break;
    case LockOutcome::kTimeout:
      return busy(number_, robust_mutex_owner(&shard_->write_mutex), "held its write lock");
    case LockOutcome::kUnusable:
      return fail(Status::kCorrupt, "The write lock of a shard is damaged. Destroy the segment and connect again.");
  }
  assert_held();
  if (is_superseded()) [[unlikely]] {
    // Whatever a holder left half done, nobody is to read or repair it. The flag stays for the next one.
    shard_->needs_recovery.store(1, std::memory_order_seq_cst);
    robust_mutex_consistent(&shard_->write_mutex);
    unlock();
    return fail(Status::kGone, "The segment was resized. Connect again to use its successor.");
  }
  const Status status = recover(deadline);
  if (status != Status::kOk) unlock();
  return status;
}

bool ShardLock::leave_to_lock(LockOutcome outcome) noexcept {
  if (outcome == LockOutcome::kOwnerDied) {
    // The flag first: without it nobody would know once the mutex is consistent.
    shard_->needs_recovery.store(1, std::memory_order_seq_cst);
    robust_mutex_consistent(&shard_->write_mutex);
  }
  if (outcome == LockOutcome::kOwnerDied || outcome == LockOutcome::kAcquired) {
    robust_mutex_unlock(&shard_->write_mutex);
  }
  return false;
}

bool ShardLock::is_left_by_the_dead() noexcept {
  const LockOutcome outcome = robust_mutex_try_lock(&shard_->write_mutex);
  if (outcome == LockOutcome::kTimeout || outcome == LockOutcome::kUnusable) return false;
  const bool is_left =
      outcome == LockOutcome::kOwnerDied || shard_->needs_recovery.load(std::memory_order_relaxed) != 0;
  leave_to_lock(outcome);
  return is_left;
}

bool ShardLock::is_superseded() const noexcept {
  return segment_state_ != nullptr &&
         segment_state_->load(std::memory_order_acquire) == static_cast<std::uint32_t>(HeaderState::kSuperseded);
}

LockOutcome ShardLock::wait_for_writer(const Deadline& deadline) noexcept {
  const Stopwatch waited;
  const LockOutcome outcome = robust_mutex_lock(&shard_->write_mutex, deadline);
  const std::uint64_t ns = waited.ns();
  count(metrics_->lock_waits);
  count(metrics_->lock_wait_ns, ns);
  count_longest(metrics_->longest_wait_ns, ns);
  if (outcome == LockOutcome::kTimeout) count(metrics_->lock_timeouts);
  return outcome;
}

Status ShardLock::recover(const Deadline& deadline) noexcept {
  assert(holds_write_lock(shard_));
  // From here on the flag says what the mutex said. If this process is killed or gives up at its deadline, the next
  // holder of the lock starts over.
  const Stopwatch took;
  shard_->needs_recovery.store(1, std::memory_order_seq_cst);
  shard_->wait.store(1, std::memory_order_seq_cst);
  const Status status = switch_epoch(deadline);
  if (status == Status::kOk) {
    recovery_->repair_after_death();
    const std::uint64_t ns = took.ns();
    count(metrics_->recovery_ns, ns);
    count_longest(metrics_->longest_recovery_ns, ns);
    shard_->wait.store(0, std::memory_order_seq_cst);
    shard_->needs_recovery.store(0, std::memory_order_seq_cst);
  }
  // Last of all. Harmless when the mutex was consistent and only the flag stood.
  robust_mutex_consistent(&shard_->write_mutex);
  return status;
}

Status ShardLock::wait_for_readers(std::uint64_t epoch, const Deadline& deadline) noexcept {
  assert(holds_write_lock(shard_));
  Backoff backoff;
  Status status = Status::kOk;
  std::uint64_t current = epoch;
  if (announced_are_dead(epoch)) {
    status = switch_epoch(deadline);
    current = shard_->epoch.load(std::memory_order_relaxed);
  }
  while (status == Status::kOk && pthread_rwlock_trywrlock(&shard_->rw[current & 1]) != 0) {
    if (!backoff.spinning() && !any_slot_is_live(current)) {
      // A reader may have left its slot since the rwlock was tried. Readers leave the rwlock first.
      if (pthread_rwlock_trywrlock(&shard_->rw[current & 1]) == 0) break;
      // Nobody alive reads: the count was left by a reader that died. A fresh rwlock replaces the one it spoilt.
      // One that is busy even so is damaged, or somebody spoils each new one: no reason to go on for ever.
      if (current == epoch || !deadline.passed()) {
        status = switch_epoch(deadline);
        if (status != Status::kOk) break;
        current = shard_->epoch.load(std::memory_order_relaxed);
        continue;
      }
    }
    if (deadline.passed()) {
      status = busy(number_, reader_thread(current), "was reading it");
      break;
    }
    backoff.pause();
  }
  has_rwlock_ = status == Status::kOk;
  if (status != Status::kOk) shard_->wait.store(0, std::memory_order_seq_cst);
  return status;
}

// A reader that died between its two changes of the count sends writers to the rwlock for ever. Whether it did takes a
// look at every slot, so that only some writes ask.
bool ShardLock::announced_are_dead(std::uint64_t epoch) noexcept {
  return ++contended_writes_ % kMeetingsPerLook == 0 && !any_slot_is_live(epoch);
}

Status ShardLock::switch_epoch(const Deadline& deadline) noexcept {
  assert(holds_write_lock(shard_));
  const std::uint64_t epoch = shard_->epoch.load(std::memory_order_relaxed);
  // The rwlock that is about to be initialised again was last used one epoch ago.
  if (epoch > 0 && !wait_for_slots(epoch - 1, deadline)) {
    return busy(number_, reader_thread(epoch - 1), "was reading it");
  }
  if (const Status status = rwlock_init(&shard_->rw[(epoch + 1) & 1]); status != Status::kOk) return status;
  shard_->announced[(epoch + 1) & 1].store(0, std::memory_order_relaxed);
  shard_->epoch.store(epoch + 1, std::memory_order_seq_cst);
  if (!wait_for_slots(epoch, deadline)) return busy(number_, reader_thread(epoch), "was reading it");
  return Status::kOk;
}

bool ShardLock::slot_is_live(ThreadSlot& slot, std::uint64_t up_to_epoch) const noexcept {
  switch (robust_mutex_try_lock(&slot.mutex)) {
    case LockOutcome::kOwnerDied:
      slot.hold.store(0, std::memory_order_seq_cst);
      robust_mutex_consistent(&slot.mutex);
      [[fallthrough]];
    case LockOutcome::kAcquired:
      robust_mutex_unlock(&slot.mutex);
      return false;
    case LockOutcome::kUnusable:
      return false;
    case LockOutcome::kTimeout:
      break;
  }
  // Somebody alive has the slot; 0 means that it has not said yet what it is going to read.
  const std::uint64_t hold = slot.hold.load(std::memory_order_seq_cst);
  return hold == 0 || (hold_shard(hold) == number_ && hold_epoch(hold) <= up_to_epoch);
}

bool ShardLock::any_slot_is_live(std::uint64_t up_to_epoch) const noexcept {
  return std::any_of(thread_slots_, thread_slots_ + thread_slot_count_,
                     [&](ThreadSlot& slot) { return slot_is_live(slot, up_to_epoch); });
}

// A thread that has a live slot, for a message; 0 if there is none any more.
pid_t ShardLock::reader_thread(std::uint64_t up_to_epoch) const noexcept {
  for (std::uint32_t i = 0; i < thread_slot_count_; ++i) {
    const pid_t owner = robust_mutex_owner(&thread_slots_[i].mutex);
    if (owner != 0 && slot_is_live(thread_slots_[i], up_to_epoch)) return owner;
  }
  return 0;
}

bool ShardLock::wait_for_slots(std::uint64_t up_to_epoch, const Deadline& deadline) const noexcept {
  for (std::uint32_t i = 0; i < thread_slot_count_; ++i) {
    Backoff backoff;
    while (slot_is_live(thread_slots_[i], up_to_epoch)) {
      if (deadline.passed()) return false;
      backoff.pause();
    }
  }
  return true;
}

// ---- slow readers ----

ThreadSlot* ShardLock::lock_any_slot() const noexcept {
  const auto start = static_cast<std::uint32_t>(std::hash<std::thread::id>{}(std::this_thread::get_id()) ^
                                                static_cast<std::size_t>(getpid()));
  for (std::uint32_t i = 0; i < thread_slot_count_; ++i) {
    ThreadSlot& slot = thread_slots_[(start + i) % thread_slot_count_];
    switch (robust_mutex_try_lock(&slot.mutex)) {
      case LockOutcome::kOwnerDied:
        slot.hold.store(0, std::memory_order_seq_cst);
        robust_mutex_consistent(&slot.mutex);
        return &slot;
      case LockOutcome::kAcquired:
        return &slot;
      case LockOutcome::kTimeout:
      case LockOutcome::kUnusable:
        break;
    }
  }
  return nullptr;
}

ShardLock::Registration ShardLock::register_reader() noexcept {
  Backoff backoff;
  for (int tries = 0; tries < kAnnounceTries; ++tries) {
    ThreadSlot* slot = lock_any_slot();
    if (slot == nullptr) return {};
    const std::uint64_t epoch = shard_->epoch.load(std::memory_order_seq_cst);
    slot->hold.store(hold_word(number_, epoch), std::memory_order_seq_cst);
    Registration registration{slot};
    // Announced first, looked second: a writer that switches the epoch either sees the registration or is seen here.
    if (shard_->epoch.load(std::memory_order_seq_cst) == epoch) {
      // And counted first, looked second: a writer that shuts readers out either sees the count or is seen here.
      registration.count = &shard_->announced[epoch & 1];
      registration.count->fetch_add(1, std::memory_order_seq_cst);
      pthread_rwlock_t* rw = &shard_->rw[epoch & 1];
      if (shard_->wait.load(std::memory_order_seq_cst) == 0 &&
          shard_->needs_recovery.load(std::memory_order_seq_cst) == 0 && pthread_rwlock_tryrdlock(rw) == 0) {
        registration.rw = rw;
        // Looked again: a writer may have switched the epoch, given up at its deadline while this registration stood,
        // and lowered `wait`, all since the first look. This rwlock shuts out nobody then.
        if (shard_->epoch.load(std::memory_order_seq_cst) == epoch) return registration;
      }
    }
    unregister_reader(registration);
    backoff.pause();
  }
  return {};
}

void ShardLock::unregister_reader(const Registration& registration) noexcept {
  if (registration.rw != nullptr) pthread_rwlock_unlock(registration.rw);
  if (registration.count != nullptr) registration.count->fetch_sub(1, std::memory_order_seq_cst);
  registration.slot->hold.store(0, std::memory_order_seq_cst);
  robust_mutex_unlock(&registration.slot->mutex);
}

}  // namespace memstream
