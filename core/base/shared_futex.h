// Sleeps on a word in shared memory until another process changes it. Nobody owns the word, so this is no lock. If a
// killed process loses a wake-up, the sleeper loses at most the time it asked for.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace memstream {

// Returns when the word differs from `seen`, on a wake-up, or after `most`. Spurious returns are possible.
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t seen, std::chrono::nanoseconds most) noexcept;

// Wakes every sleeper on the word, in all processes.
void futex_wake_all(std::atomic<std::uint32_t>& word) noexcept;

}  // namespace memstream
