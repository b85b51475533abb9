// The lock of a shard: one writer, readers that announce themselves, and what happens when any of them is killed.
// docs/locking.md explains the protocol and proves it; the names here are the names there.
#pragma once

#include <cassert>
#include <cstdint>

#include "core/base/clock.h"
#include "core/base/robust_mutex.h"
#include "core/base/status.h"
#include "core/layout/layout.h"
#include "core/shard/metrics.h"
#include "core/shard/write_lock.h"

namespace memstream {

// Repairs a shard after a holder of its write lock died. Called with W held and all slow readers shut out; may be
// repeated from the start if this process dies in it too.
class ShardRecovery {
 public:
  virtual void repair_after_death() noexcept MEMSTREAM_NEEDS_W = 0;

 protected:
  ~ShardRecovery() = default;
};

// All sleeping happens on robust mutexes (W and the thread slots); the rwlocks are only ever try-locked, because a
// timed wait on one is not bounded once a holder was killed inside it.
class ShardLock {
 public:
  // `number` is the shard's in the segment.
  ShardLock(ShardHeader* shard, std::uint32_t number, ThreadSlot* thread_slots, std::uint32_t thread_slot_count,
            ShardRecovery* recovery, ShardMetrics* metrics = &unread_metrics<ShardMetrics>,
            const std::atomic<std::uint32_t>* segment_state = nullptr) noexcept
      : shard_(shard),
        number_(number),
        thread_slots_(thread_slots),
        thread_slot_count_(thread_slot_count),
        recovery_(recovery),
        metrics_(metrics),
        segment_state_(segment_state) {}

  // Lays the lock into a blank shard.
  static Status initialize(ShardHeader* shard) noexcept;

  // W: shuts out writers. kBusy at the deadline. After a holder's death the shard has been put right on return. kGone
  // if the segment was superseded: who superseded it holds W, and then requests a recovery, so that the first try
  // sees it.
  Status lock(const Deadline& deadline) noexcept {
    const LockOutcome outcome = robust_mutex_try_lock(&shard_->write_mutex);
    if (outcome == LockOutcome::kAcquired && shard_->needs_recovery.load(std::memory_order_relaxed) == 0) [[likely]]
      return Status::kOk;
    return lock_slow(outcome, deadline);
  }
  // As lock() and exclude_readers(), where nobody is in the shard and nothing is to be put right. False: W is not held,
  // and they have to do it.
  bool lock_at_once() noexcept {
    const int error = pthread_mutex_trylock(&shard_->write_mutex);
    if (error != 0 || shard_->needs_recovery.load(std::memory_order_relaxed) != 0) [[unlikely]]
      return leave_to_lock(lock_outcome_of(error));
    if (!shut_out_readers()) [[unlikely]] {
      let_readers_in_at_once();
      return leave_to_lock(LockOutcome::kAcquired);
    }
    return true;
  }
  // REQUIRES: lock_at_once() was true.
  void let_readers_in_at_once() noexcept { shard_->wait.store(0, std::memory_order_release); }
  // Whether the shard has to be put right, which lock() does. False while somebody has W.
  bool is_left_by_the_dead() noexcept;
  // Lets the next one who locks W put the shard right, as after a death. REQUIRES: W is held.
  void request_recovery() noexcept MEMSTREAM_NEEDS_W { shard_->needs_recovery.store(1, std::memory_order_seq_cst); }
  // Whether somebody sleeps until W is free. REQUIRES: W is held.
  bool is_awaited() const noexcept MEMSTREAM_NEEDS_W { return robust_mutex_is_awaited(&shard_->write_mutex); }
  // Tells clang that W is held, as it is after lock() has returned kOk. A debug build checks it.
  void assert_held() const noexcept MEMSTREAM_ASSERT_HELD(kWriteLock) { assert(holds_write_lock(shard_)); }
  void unlock() noexcept MEMSTREAM_RELEASE(kWriteLock) MEMSTREAM_NOT_ANALYSED {
    robust_mutex_unlock(&shard_->write_mutex);
  }

  // Shuts out slow readers: `wait` keeps away those that come; for those that are there the rwlock in use is taken too.
  // REQUIRES: W is held. Leaves W held, also after an error.
  Status exclude_readers(const Deadline& deadline) noexcept MEMSTREAM_NEEDS_W {
    has_rwlock_ = false;
    if (shut_out_readers()) [[likely]]
      return Status::kOk;
    return wait_for_readers(shard_->epoch.load(std::memory_order_relaxed), deadline);
  }
  void let_readers_in() noexcept MEMSTREAM_NEEDS_W {
    if (has_rwlock_) [[unlikely]]
      pthread_rwlock_unlock(&shard_->rw[shard_->epoch.load(std::memory_order_relaxed) & 1]);
    shard_->wait.store(0, std::memory_order_release);
  }

  // Runs `read()` while no writer is in the shard: announced in a thread slot, or under W when that does not come
  // about.
  template <class Read>
  Status read_shared(const Deadline& deadline, Read read) noexcept;

 private:
  // A slow reader's claim: a locked thread slot, a place in the count beside the rwlock, and the rwlock itself.
  struct Registration {
    ThreadSlot* slot = nullptr;
    std::atomic<std::uint16_t>* count = nullptr;
    pthread_rwlock_t* rw = nullptr;
  };
  Registration register_reader() noexcept;
  static void unregister_reader(const Registration& registration) noexcept;
  ThreadSlot* lock_any_slot() const noexcept;

  // Keeps away readers that come. False if some may be there. REQUIRES: W is held.
  bool shut_out_readers() noexcept {
    // Raised first, looked second: a reader that comes either sees `wait` or is seen here.
    shard_->wait.store(1, std::memory_order_seq_cst);
    const std::uint64_t epoch = shard_->epoch.load(std::memory_order_relaxed);
    return shard_->announced[epoch & 1].load(std::memory_order_seq_cst) == 0;
  }
  // Of a lock that was tried: gives it up, so that lock() meets what was met. Returns false.
  [[gnu::cold]] bool leave_to_lock(LockOutcome outcome) noexcept;
  // What lock() and exclude_readers() do when the first try did not succeed.
  Status lock_slow(LockOutcome outcome, const Deadline& deadline) noexcept;
  Status wait_for_readers(std::uint64_t epoch, const Deadline& deadline) noexcept MEMSTREAM_NEEDS_W;

  LockOutcome wait_for_writer(const Deadline& deadline) noexcept;
  bool is_superseded() const noexcept;
  Status recover(const Deadline& deadline) noexcept MEMSTREAM_NEEDS_W;
  Status switch_epoch(const Deadline& deadline) noexcept MEMSTREAM_NEEDS_W;
  bool announced_are_dead(std::uint64_t epoch) noexcept;
  bool slot_is_live(ThreadSlot& slot, std::uint64_t up_to_epoch) const noexcept;
  bool any_slot_is_live(std::uint64_t up_to_epoch) const noexcept;
  pid_t reader_thread(std::uint64_t up_to_epoch) const noexcept;
  bool wait_for_slots(std::uint64_t up_to_epoch, const Deadline& deadline) const noexcept;

  ShardHeader* shard_;
  std::uint32_t number_;
  ThreadSlot* thread_slots_;
  std::uint32_t thread_slot_count_;
  ShardRecovery* recovery_;
  ShardMetrics* metrics_;
  const std::atomic<std::uint32_t>* segment_state_;  // SegmentHeader::state; null where there is no segment.
  // Both for the holder of W.
  bool has_rwlock_ = false;
  std::uint32_t contended_writes_ = 0;  // Writes that found readers announced.
};

template <class Read>
Status ShardLock::read_shared(const Deadline& deadline, Read read) noexcept {
  const Registration registration = register_reader();
  if (registration.rw != nullptr) {
    read();
    unregister_reader(registration);
    return Status::kOk;
  }
  if (const Status status = lock(deadline); status != Status::kOk) return status;
  assert_held();
  read();
  unlock();
  return Status::kOk;
}

}  // namespace memstream
