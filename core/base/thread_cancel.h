// Keeps pthread_cancel() out of this library. It would unwind a thread out of a waiting system call, through noexcept
// functions and past the last catch of the C interface, and end the process. No call of this library is a cancellation
// point.
#pragma once

#include <pthread.h>

namespace memstream {

// Disables cancellation of the calling thread while it lives; a request stays pending. Use it around system calls that
// are cancellation points, such as file access and sleeps. Code that only works on memory does not need it.
class DisableCancelScope {
 public:
  DisableCancelScope() noexcept { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
  DisableCancelScope(const DisableCancelScope&) = delete;
  DisableCancelScope& operator=(const DisableCancelScope&) = delete;
  ~DisableCancelScope() { pthread_setcancelstate(before_, nullptr); }

 private:
  int before_ = PTHREAD_CANCEL_ENABLE;
};

}  // namespace memstream
