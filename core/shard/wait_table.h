// Sleeping until an entry changes: docs/decisions/0026.
//
// A waiter says that it waits, takes W once, looks at the entry, and sleeps. A writer that has W changes the entry, and
// loads one word of the segment's header: nobody waits as long as it is 0. Either the writer has W later than the
// waiter, and sees that somebody waits, or the waiter sees the change.
//
// Processes that watch which keys change (core/shard/watch_table.h) announce themselves by the same word.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string_view>

#include "core/base/segment.h"
#include "core/layout/geometry.h"
#include "core/layout/layout.h"
#include "core/shard/watch_table.h"

namespace memstream {

class WaitTable {
 public:
  // No sleep is longer: so long a waiter may miss what a killed writer has changed.
  static constexpr std::chrono::milliseconds kSlice{50};

  // What announcements may say at most.
  static constexpr std::uint64_t kMostAnnouncedMs = 2000;

  WaitTable(Segment* segment, const Geometry& geometry, std::uint32_t shard) noexcept
      : awaited_until_ms_(&reinterpret_cast<SegmentHeader*>(segment->data())->awaited_until_ms),
        words_(geometry.has_wait_words()
                   ? reinterpret_cast<WaitWords*>(segment->data() + geometry.areas[kWaitArea].offset)->words
                   : nullptr),
        watches_(segment, geometry, shard) {}

  bool exists() const noexcept { return words_ != nullptr; }

  // ---- writers ----

  // Wakes all that wait for a key of that hash (KeyHash::bucket_bits()), and names the key to those that watch. `block`
  // is the key's, whole still. REQUIRES: W is held, and a reader without a lock sees the change.
  [[gnu::always_inline]] void note_change(const std::atomic<std::uint32_t>& hash,
                                          const BlockHeader* block) const noexcept {
    if (is_awaited()) [[unlikely]]
      wake(hash.load(std::memory_order_relaxed), block);
  }
  [[gnu::always_inline]] void note_change(std::uint32_t hash, const BlockHeader* block) const noexcept {
    if (is_awaited()) [[unlikely]]
      wake(hash, block);
  }
  void note_change(std::uint32_t hash, std::string_view key) const noexcept {
    if (is_awaited()) [[unlikely]]
      wake(hash, key);
  }
  // Whoever watches has to look again: keys of the shard may have changed, and nobody can name them. REQUIRES: W is
  // held.
  [[gnu::cold]] void note_loss() const noexcept;
  // For a change of many entries together, with or without W: a segment that gets a successor, an invalidated tag.
  [[gnu::cold]] void note_change_of_all() const noexcept;

  // ---- waiters; REQUIRES: exists(), and the segment may be written ----

  // Each change of such a key by a process that locks W later wakes the caller. Take W, look at the entry, then
  // sleep().
  std::uint32_t announce(std::uint32_t hash) const noexcept;
  // Returns when a change has come since announce() has returned `seen`, or after `most`, or for no reason.
  void sleep(std::uint32_t hash, std::uint32_t seen, std::chrono::nanoseconds most) const noexcept;

  // ---- watchers; REQUIRES: watches().exists() and has memory, and the segment may be written ----

  const WatchTable& watches() const noexcept { return watches_; }
  // Each change by a process that locks the shard's W later is noted for the next 750 ms. False if it was not so all
  // the time since the call that has left `*lapses`, or at first: pass W of every shard, then look at what is watched.
  bool announce_watch(std::uint16_t* lapses) const noexcept;

  // Whether the instant is what somebody has announced lately. Another value is of those that have gone, or damage.
  static bool is_current(std::uint64_t until_ms, std::uint64_t now_ms) noexcept {
    return until_ms >= now_ms && until_ms - now_ms <= kMostAnnouncedMs;
  }

 private:
  [[gnu::always_inline]] bool is_awaited() const noexcept {
    return awaited_until_ms_->load(std::memory_order_relaxed) != 0;
  }
  [[gnu::cold, gnu::noinline]] void wake(std::uint32_t hash, const BlockHeader* block) const noexcept;
  [[gnu::cold, gnu::noinline]] void wake(std::uint32_t hash, std::string_view key) const noexcept;
  bool raise_announcement(std::uint64_t least_ms, std::uint64_t wanted_ms, std::uint64_t* until_ms) const noexcept;
  void end_old_announcement() const noexcept;
  void wake_word(std::atomic<std::uint32_t>& word) const noexcept;
  std::atomic<std::uint32_t>& word_of(std::uint32_t hash) const noexcept { return words_[hash % kWaitWords]; }

  std::atomic<std::uint64_t>* awaited_until_ms_;
  std::atomic<std::uint32_t>* words_;
  WatchTable watches_;
};

}  // namespace memstream
