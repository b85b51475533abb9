// The time of an access, with as few readings of the clock as possible.
#pragma once

#include <algorithm>
#include <cstdint>

namespace memstream {

// Reading the clock takes an eighth of a get, which needs it only for the instant that it leaves in the entry. While
// the gets of a process follow each other so fast that the clock stands still between them, most reuse the instant of
// the one before. So an instant may be late by kMaxReuses gets, and must never be compared with an expiry.
//
// Not safe from several threads: each has a clock of its own.
class AccessClock {
 public:
  // `read()` reads the clock.
  template <class Read>
  [[gnu::always_inline]] std::uint64_t now(Read read) noexcept {
    return take() ? instant_ : renew(read());
  }
  // Whether instant() is good for one more call.
  [[gnu::always_inline]] bool take() noexcept {
    if (--reuses_left_ >= 0) [[likely]]
      return true;
    reuses_left_ = 0;
    return false;
  }
  // What the last call of now() returned.
  std::uint64_t instant() const noexcept { return instant_; }
  // Whether the next call reads the clock.
  bool is_used_up() const noexcept { return reuses_left_ <= 0; }
  // Makes instant() good for the call that has just read the clock by now().
  void give_one() noexcept { ++reuses_left_; }
  // The next call reads the clock.
  void stop() noexcept { reuses_left_ = 0; }

 private:
  static constexpr std::int32_t kMaxReuses = 15;

  std::uint64_t renew(std::uint64_t now) noexcept {
    // The clock stood still during all these calls, so it may stand still during twice as many.
    reuses_ = now == instant_ ? std::min(2 * reuses_ + 1, kMaxReuses) : 0;
    reuses_left_ = reuses_;
    instant_ = now;
    return now;
  }

  std::uint64_t instant_ = 0;
  std::int32_t reuses_ = 0;  // How many calls the last reading of the clock was good for.
  std::int32_t reuses_left_ = 0;
};

}  // namespace memstream
