// The time of an access, read from the clock as seldom as that can be done.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/base/local_counter.h"

namespace memstream {

// Reading the clock takes an eighth of a get, which needs it for no more than the instant that it leaves in the entry.
// While the gets of a process follow each other so fast that the clock stands still between them, most take the instant
// of the one before. For what may come late by kMaxReuses gets, never for what is compared with an expiry.
// Not safe from several threads, but then each call reads the clock.
class AccessClock {
 public:
  // `read()` reads the clock.
  template <class Read>
  [[gnu::always_inline]] std::uint64_t now(Read read) noexcept {
    if (reuses_left_ != 0 && has_one_thread()) {
      --reuses_left_;
      return instant_;
    }
    return renew(read());
  }

 private:
  static constexpr std::uint32_t kMaxReuses = 15;

  std::uint64_t renew(std::uint64_t now) noexcept {
    if (!has_one_thread()) return now;
    // It stood still over all of them: over twice as many it may too.
    reuses_ = now == instant_ ? std::min(2 * reuses_ + 1, kMaxReuses) : 0;
    reuses_left_ = reuses_;
    instant_ = now;
    return now;
  }

  std::uint64_t instant_ = 0;
  std::uint32_t reuses_ = 0;  // What the last reading of the clock was good for.
  std::uint32_t reuses_left_ = 0;
};

}  // namespace memstream
