// The creation lock of System V names: a semaphore that exists only while somebody creates or removes a segment.
#pragma once

#include <sys/types.h>

#include "core/base/clock.h"
#include "core/base/segment.h"

namespace memstream {

// Held from acquire() to the destructor. Its value is 1 while it is held, by an operation with SEM_UNDO: the kernel
// takes it back when the holder dies. The value 0 of a new semaphore is "free", so that there is no moment between
// making the semaphore and giving it a first value.
//
// Who releases the lock does so by removing the semaphore, as its last act. That keeps exclusion: a second semaphore
// can have this key only after the first was removed, only a holder removes it, and it does nothing under the lock
// after that. Who waited for the removed semaphore is woken (EIDRM) and looks the name up again. So nothing is left of
// the lock, except by a holder that was killed; the next one to create or remove the segment takes and removes that
// semaphore.
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
