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
    return has_one_thread() && take() ? instant_ : renew(read());
  }
  // Whether instant() is good for one more call. REQUIRES: has_one_thread().
  [[gnu::always_inline]] bool take() noexcept {
    if (--reuses_left_ >= 0) [[likely]]
      return true;
    reuses_left_ = 0;
    return false;
  }
  // What the last call of now() brought.
  std::uint64_t instant() const noexcept { return instant_; }
  // Whether the next call reads the clock.
  bool is_used_up() const noexcept { return reuses_left_ <= 0; }
  // Makes instant() good for the call that has just read the clock by now(). REQUIRES: has_one_thread().
  void give_one() noexcept { ++reuses_left_; }
  // The next call reads the clock.
  void stop() noexcept { reuses_left_ = 0; }

 private:
  static constexpr std::int32_t kMaxReuses = 15;

  std::uint64_t renew(std::uint64_t now) noexcept {
    if (!has_one_thread()) return now;
    // It stood still over all of them: over twice as many it may too.
    reuses_ = now == instant_ ? std::min(2 * reuses_ + 1, kMaxReuses) : 0;
    reuses_left_ = reuses_;
    instant_ = now;
    return now;
  }

  std::uint64_t instant_ = 0;
  std::int32_t reuses_ = 0;  // What the last reading of the clock was good for.
  std::int32_t reuses_left_ = 0;
};

}  // namespace memstream
