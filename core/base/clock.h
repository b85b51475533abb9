// Clocks. Reading a coarse clock does not enter the kernel and costs a few ns; its resolution is the timer tick (4 ms).
#pragma once

#include <chrono>
#include <cstdint>
#include <ctime>

namespace memstream {

inline std::uint64_t clock_ms(clockid_t clock) noexcept {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1000 + static_cast<std::uint64_t>(now.tv_nsec) / 1'000'000;
}

// The same value in every process of the machine; no setting of the system's time moves it.
inline std::uint64_t monotonic_ms() noexcept { return clock_ms(CLOCK_MONOTONIC_COARSE); }
inline std::uint64_t unix_ms() noexcept { return clock_ms(CLOCK_REALTIME_COARSE); }

// The instant until which one operation of one thread may wait. The time starts with the first call of end(), so that
// an operation that meets no obstacle reads no clock.
class Deadline {
 public:
  explicit Deadline(std::chrono::milliseconds timeout) noexcept : timeout_(timeout) {}

  std::chrono::steady_clock::time_point end() const noexcept {
    if (end_ == std::chrono::steady_clock::time_point{}) end_ = std::chrono::steady_clock::now() + timeout_;
    return end_;
  }
  // Moves the deadline by time that this process spent working, which does not count as waiting.
  void prolong(std::chrono::steady_clock::duration by) const noexcept { end_ = end() + by; }
  bool passed() const noexcept { return std::chrono::steady_clock::now() >= end(); }

 private:
  std::chrono::milliseconds timeout_;
  mutable std::chrono::steady_clock::time_point end_{};
};

}  // namespace memstream
