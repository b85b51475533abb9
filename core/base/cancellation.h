// pthread_cancel() unwinds a thread out of whatever system call it waits in, through functions that must not throw and
// past the last catch of the C interface: the process would end. So no call of this library is a cancellation point.
#pragma once

#include <pthread.h>

namespace memstream {

// While it lives, the calling thread is not cancelled; a request waits. For the few places that make system calls in
// which a thread can be cancelled: files, sleeps. What only works on memory needs none.
class UncancelledScope {
 public:
  UncancelledScope() noexcept { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
  UncancelledScope(const UncancelledScope&) = delete;
  UncancelledScope& operator=(const UncancelledScope&) = delete;
  ~UncancelledScope() { pthread_setcancelstate(before_, nullptr); }

 private:
  int before_ = PTHREAD_CANCEL_ENABLE;
};

}  // namespace memstream
