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
  kOwnerDied,  // Acquired; the last holder died. The caller puts things right, then calls robust_mutex_consistent().
  kTimeout,
  kUnusable  // Not a mutex (damaged bytes), or no longer recoverable.
};

// Lays a process-shared robust mutex of the normal type into blank memory.
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

// Looks for a few microseconds whether it becomes free, then sleeps: in slices, so that a wake-up lost with a killed
// holder costs a slice and not the deadline.
LockOutcome robust_mutex_lock(pthread_mutex_t* mutex, const Deadline& deadline) noexcept;

// The thread that holds the mutex, as the kernel numbers it; 0 if nobody does, or this system does not tell.
pid_t robust_mutex_owner(pthread_mutex_t* mutex) noexcept;

void robust_mutex_consistent(pthread_mutex_t* mutex) noexcept;
inline void robust_mutex_unlock(pthread_mutex_t* mutex) noexcept { pthread_mutex_unlock(mutex); }

}  // namespace memstream
