#include "core/robust_mutex.h"

#include <algorithm>
#include <chrono>

#include "core/shared_bytes.h"

namespace memstream {
namespace {

constexpr std::chrono::milliseconds kSlice{50};

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
  return fail_errno(Status::kOsError, call, "", error, "The C library must support robust, process-shared mutexes.");
}

LockOutcome robust_mutex_lock(pthread_mutex_t* mutex, const Deadline& deadline) noexcept {
  LockOutcome outcome = robust_mutex_try_lock(mutex);
  while (outcome == LockOutcome::kTimeout) {
    const auto end = deadline.end();
    const auto left = end - std::chrono::steady_clock::now();
    if (left <= left.zero()) break;
    outcome = lock_outcome_of(lock_for_a_slice(mutex, std::min<std::chrono::nanoseconds>(left, kSlice)));
  }
  return outcome;
}

void robust_mutex_consistent(pthread_mutex_t* mutex) noexcept { pthread_mutex_consistent(mutex); }

}  // namespace memstream
