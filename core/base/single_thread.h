// Additions that need no locked instruction while the process has one thread.
#pragma once

#include <sys/single_threaded.h>

#include <atomic>
#include <cstdint>

namespace memstream {

// Whether nobody but the caller runs in this process: threads come and go by pthread_create() and its end.
inline bool has_one_thread() noexcept { return __libc_single_threaded != 0; }

// Adds to a counter that only this process changes. With one thread nobody can come between load and store; a locked
// addition, which waits for every store before it, is one of the dearest instructions of a get.
inline void add_in_process(std::atomic<std::uint64_t>& counter, std::uint64_t number) noexcept {
  if (has_one_thread()) {
    counter.store(counter.load(std::memory_order_relaxed) + number, std::memory_order_relaxed);
  } else {
    counter.fetch_add(number, std::memory_order_relaxed);
  }
}

}  // namespace memstream
