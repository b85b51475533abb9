// Additions that need no locked instruction while the process has one thread.
#pragma once

#include <sys/single_threaded.h>

#include <atomic>
#include <cstdint>

namespace memstream {

// Whether the caller is the only thread of this process.
inline bool has_one_thread() noexcept { return __libc_single_threaded != 0; }

// Adds to a counter that only this process changes. With one thread nothing can come between load and store. A locked
// addition waits for all earlier stores, and would be one of the most expensive instructions of a get.
inline void add_local(std::atomic<std::uint64_t>& counter, std::uint64_t number) noexcept {
  if (has_one_thread()) {
    counter.store(counter.load(std::memory_order_relaxed) + number, std::memory_order_relaxed);
  } else {
    counter.fetch_add(number, std::memory_order_relaxed);
  }
}

}  // namespace memstream
