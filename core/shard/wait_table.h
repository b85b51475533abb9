// Sleeping until an entry changes: docs/decisions/0026.
//
// A waiter says that it waits, takes W once, looks at the entry, and sleeps. A writer that has W changes the entry, and
// loads one word of the segment's header: nobody waits as long as it is 0. Either the writer has W later than the
// waiter, and sees that somebody waits, or the waiter sees the change.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "core/base/segment.h"
#include "core/layout/geometry.h"
#include "core/layout/layout.h"

namespace memstream {

class WaitTable {
 public:
  // No sleep is longer: so long a waiter may miss what a killed writer has changed.
  static constexpr std::chrono::milliseconds kSlice{50};

  WaitTable(Segment* segment, const Geometry& geometry) noexcept
      : awaited_until_ms_(&reinterpret_cast<SegmentHeader*>(segment->data())->awaited_until_ms),
        words_(geometry.has_wait_words()
                   ? reinterpret_cast<WaitWords*>(segment->data() + geometry.areas[kWaitArea].offset)->words
                   : nullptr) {}

  bool exists() const noexcept { return words_ != nullptr; }

  // ---- writers ----

  // Wakes all that wait for a key of that hash (KeyHash::bucket_bits()). REQUIRES: W is held, and a reader without a
  // lock sees the change.
  [[gnu::always_inline]] void note_change(const std::atomic<std::uint32_t>& hash) const noexcept {
    if (is_awaited()) [[unlikely]]
      wake(hash.load(std::memory_order_relaxed));
  }
  [[gnu::always_inline]] void note_change(std::uint32_t hash) const noexcept {
    if (is_awaited()) [[unlikely]]
      wake(hash);
  }
  // For a change of many entries together, with or without W: a segment that gets a successor, an invalidated tag.
  [[gnu::cold]] void note_change_of_all() const noexcept;

  // ---- waiters; REQUIRES: exists(), and the segment may be written ----

  // Each change of such a key by a process that locks W later wakes the caller. Take W, look at the entry, then
  // sleep().
  std::uint32_t announce(std::uint32_t hash) const noexcept;
  // Returns when a change has come since announce() has returned `seen`, or after `most`, or for no reason.
  void sleep(std::uint32_t hash, std::uint32_t seen, std::chrono::nanoseconds most) const noexcept;

 private:
  [[gnu::always_inline]] bool is_awaited() const noexcept {
    return awaited_until_ms_->load(std::memory_order_relaxed) != 0;
  }
  [[gnu::cold, gnu::noinline]] void wake(std::uint32_t hash) const noexcept;
  void end_old_announcement() const noexcept;
  void wake_word(std::atomic<std::uint32_t>& word) const noexcept;
  std::atomic<std::uint32_t>& word_of(std::uint32_t hash) const noexcept { return words_[hash % kWaitWords]; }

  std::atomic<std::uint64_t>* awaited_until_ms_;
  std::atomic<std::uint32_t>* words_;
};

}  // namespace memstream
