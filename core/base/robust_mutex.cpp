#include "core/base/robust_mutex.h"

#include <linux/futex.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>

#include "core/base/pause.h"
#include "core/base/shared_bytes.h"

namespace memstream {
namespace {

constexpr std::chrono::milliseconds kSlice{50};

// A hold of a shard takes about 0.1 µs, a sleep and wake-up about 10 µs. So a thread that finds a mutex taken first
// looks again for a few microseconds. It looks seldom and without writing, since each look takes the holder's line.
constexpr int kSpinLooks = 40;
constexpr int kPausesPerLook = 3;

LockOutcome spin(pthread_mutex_t* mutex) noexcept {
  const std::atomic_ref<int> word(mutex->__data.__lock);
  for (int looks = 0; looks < kSpinLooks; ++looks) {
    for (int pauses = 0; pauses < kPausesPerLook; ++pauses) pause_processor();
    const bool is_held = (word.load(std::memory_order_relaxed) & FUTEX_TID_MASK) != 0;
    if (is_held) continue;
    const LockOutcome outcome = robust_mutex_try_lock(mutex);
    if (outcome != LockOutcome::kTimeout) return outcome;
  }
  return LockOutcome::kTimeout;
}

int lock_for_a_slice(pthread_mutex_t* mutex, std::chrono::nanoseconds slice) noexcept {
  // A clock that nobody can set. The thread sanitizer of GCC 12 does not know pthread_mutex_clocklock and would take
  // the mutex for unlocked, so under it alone the settable clock serves.
#ifdef MEMSTREAM_THREAD_SANITIZER
  constexpr clockid_t kClock = CLOCK_REALTIME;
#else
  constexpr clockid_t kClock = CLOCK_MONOTONIC;
#endif
  timespec until{};
  clock_gettime(kClock, &until);
  const auto nanoseconds = until.tv_nsec + slice.count();
  until.tv_sec += static_cast<time_t>(nanoseconds / 1'000'000'000);
  until.tv_nsec = static_cast<long>(nanoseconds % 1'000'000'000);
#ifdef MEMSTREAM_THREAD_SANITIZER
  return pthread_mutex_timedlock(mutex, &until);
#else
  return pthread_mutex_clocklock(mutex, kClock, &until);
#endif
}

}  // namespace

Status robust_mutex_init(pthread_mutex_t* mutex) noexcept {
  pthread_mutexattr_t attributes;
  const char* call = "pthread_mutexattr_init";
  int error = pthread_mutexattr_init(&attributes);
  if (error == 0) {
    call = "pthread_mutexattr_setpshared";
    error = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    if (error == 0) {
      call = "pthread_mutexattr_setrobust";
      error = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    }
    if (error == 0) {
      call = "pthread_mutex_init";
      error = pthread_mutex_init(mutex, &attributes);
    }
    pthread_mutexattr_destroy(&attributes);
  }
  if (error == 0) return Status::kOk;
  return fail_errno(Status::kOsError, call, "", error, "Use a C library with robust, process-shared mutexes.");
}

LockOutcome robust_mutex_lock(pthread_mutex_t* mutex, const Deadline& deadline) noexcept {
  LockOutcome outcome = robust_mutex_try_lock(mutex);
  if (outcome == LockOutcome::kTimeout && !deadline.passed()) outcome = spin(mutex);
  while (outcome == LockOutcome::kTimeout) {
    const auto end = deadline.end();
    const auto left = end - std::chrono::steady_clock::now();
    if (left <= left.zero()) break;
    outcome = lock_outcome_of(lock_for_a_slice(mutex, std::min<std::chrono::nanoseconds>(left, kSlice)));
  }
  return outcome;
}

pid_t robust_mutex_owner(pthread_mutex_t* mutex) noexcept {
  const std::atomic_ref<int> word(mutex->__data.__lock);
  return word.load(std::memory_order_relaxed) & FUTEX_TID_MASK;
}

bool robust_mutex_is_mine(pthread_mutex_t* mutex) noexcept {
  // The number that the C library writes into a lock. A child that was cloned past it has that of its parent there, so
  // the kernel's would be the wrong one.
  clockid_t clock = 0;
  if (::pthread_getcpuclockid(::pthread_self(), &clock) != 0) return false;
  return robust_mutex_owner(mutex) == ~(clock >> 3);
}

bool robust_mutex_is_awaited(pthread_mutex_t* mutex) noexcept {
  const std::atomic_ref<int> word(mutex->__data.__lock);
  return (static_cast<unsigned>(word.load(std::memory_order_relaxed)) & FUTEX_WAITERS) != 0;
}

void robust_mutex_consistent(pthread_mutex_t* mutex) noexcept { pthread_mutex_consistent(mutex); }

}  // namespace memstream
