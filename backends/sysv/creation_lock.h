// The creation lock of System V names: a semaphore that exists only while somebody creates or removes a segment.
#pragma once

#include <sys/types.h>

#include "core/base/clock.h"
#include "core/base/segment.h"

namespace memstream {

// Held from acquire() to the destructor. Its value is 1 while it is held, by an operation with SEM_UNDO, which the
// kernel undoes when the holder dies. A new semaphore has the value 0, which means free, so it needs no first value.
//
// A holder releases the lock by removing the semaphore, as its last step. That keeps exclusion: a second semaphore can
// have this key only after the first was removed, only a holder removes it, and it does nothing under the lock after
// that. The kernel wakes the processes that wait for the removed semaphore (EIDRM), and they look the name up again.
// Nothing is left of the lock unless its holder was killed. The next process that creates or removes the segment then
// takes and removes that semaphore.
class CreationLock {
 public:
  CreationLock() noexcept = default;
  CreationLock(CreationLock&& other) noexcept;
  CreationLock& operator=(CreationLock&& other) noexcept;
  ~CreationLock();

  // kBusy at the deadline; kGone if the semaphore was removed meanwhile: look the name up again.
  static Status acquire(key_t key, const SegmentSpec& spec, const Deadline& deadline, CreationLock* lock);

 private:
  explicit CreationLock(int semaphore_id) noexcept : semaphore_id_(semaphore_id) {}

  int semaphore_id_ = -1;
};

}  // namespace memstream
