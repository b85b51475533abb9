// A mutex in shared memory whose holder may be killed. All sleeping in this library happens on one of these.
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include <cerrno>

#include "core/base/clock.h"
#include "core/base/status.h"

namespace memstream {

enum class LockOutcome {
  kAcquired,
  kOwnerDied,  // Acquired; the last holder died. The caller repairs the data, then calls robust_mutex_consistent().
  kTimeout,
  kUnusable  // Not a mutex (damaged bytes), or no longer recoverable.
};

// Constructs a process-shared robust mutex of the normal type in zeroed memory.
Status robust_mutex_init(pthread_mutex_t* mutex) noexcept;

constexpr LockOutcome lock_outcome_of(int error) noexcept {
  switch (error) {
    case 0:
      return LockOutcome::kAcquired;
    case EOWNERDEAD:
      return LockOutcome::kOwnerDied;
    case EBUSY:
    case ETIMEDOUT:
      return LockOutcome::kTimeout;
    default:
      return LockOutcome::kUnusable;
  }
}

inline LockOutcome robust_mutex_try_lock(pthread_mutex_t* mutex) noexcept {
  return lock_outcome_of(pthread_mutex_trylock(mutex));
}

// Spins for a few microseconds, then sleeps in slices: if a killed holder loses a wake-up, the waiter loses one slice
// and not its whole deadline.
LockOutcome robust_mutex_lock(pthread_mutex_t* mutex, const Deadline& deadline) noexcept;

// The kernel's id of the thread that holds the mutex; 0 if it is free or the system does not tell.
pid_t robust_mutex_owner(pthread_mutex_t* mutex) noexcept;

// Whether the calling thread holds the mutex; true if the system does not tell. For assertions.
bool robust_mutex_is_mine(pthread_mutex_t* mutex) noexcept;

// Whether a thread may sleep until the mutex is free. REQUIRES: the caller holds it.
bool robust_mutex_is_awaited(pthread_mutex_t* mutex) noexcept;

void robust_mutex_consistent(pthread_mutex_t* mutex) noexcept;
inline void robust_mutex_unlock(pthread_mutex_t* mutex) noexcept { pthread_mutex_unlock(mutex); }

}  // namespace memstream
