// Calls that go on in the segment that took the place of another: after `memstream resize`, callers notice nothing.
#pragma once

#include "api/handle.h"

namespace memstream {

// Runs `operation(cache)`, and once more for each successor of a segment that had been superseded. What returns kGone
// has changed nothing.
// REQUIRES: the call is counted in handle.calls_in_flight().
template <class Operation>
[[gnu::always_inline]] inline Status on_segment(memstream_handle& handle, const Operation& operation) {
  for (;;) {
    Cache& cache = handle.cache();
    const Status status = operation(cache);
    if (status != Status::kGone) [[likely]]
      return status;
    if (const Status followed = handle.follow(cache); followed != Status::kOk) return followed;
  }
}

}  // namespace memstream
