// Sleeping on a word in shared memory until another process changes it. No lock: nobody owns the word, a wake-up that
// is lost with a killed process costs the sleeper the time it asked for, and no more.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace memstream {

// Returns when the word is no longer `seen`, when it is woken, after `most` at the latest, or for no reason.
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t seen, std::chrono::nanoseconds most) noexcept;

// Wakes all that sleep on the word, in every process.
void futex_wake_all(std::atomic<std::uint32_t>& word) noexcept;

}  // namespace memstream
