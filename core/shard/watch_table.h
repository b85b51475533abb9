// Naming keys that change, for processes that watch them: docs/decisions/0030.
//
// Each shard has a ring in area 6. A writer that has the shard's W, and finds that somebody watches, appends the key
// that it has changed. Watchers read the rings without a lock, each from a position of its own.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/base/segment.h"
#include "core/layout/geometry.h"
#include "core/layout/layout.h"

namespace memstream {

// One process's handle on the ring of one shard, and on what all rings share; used by its threads together.
class WatchTable {
 public:
  WatchTable(const Segment* segment, const Geometry& geometry, std::uint32_t shard) noexcept;
  WatchTable(const WatchTable&) = delete;
  WatchTable& operator=(const WatchTable&) = delete;

  bool exists() const noexcept { return head_ != nullptr; }

  // ---- writers ----

  // Whether somebody watches. What watchers said that have gone is taken back by this, and counted as a lapse.
  bool is_watched() const noexcept;
  // REQUIRES of these two: W of the shard is held, and is_watched() was true.
  //
  // Appends a key that has changed.
  void note(std::string_view key) const noexcept;
  // All watchers have to look again: what changed in the shard cannot be named.
  void note_loss() const noexcept;
  // The same for the whole segment, with or without W.
  void note_change_of_all() const noexcept;

  // ---- watchers; REQUIRES: the area has memory, and the segment may be written ----

  // Lets the segment say that somebody watches until `until_ms` at least. False if that was not said all the time since
  // the call that has left `*lapses`. REQUIRES: the word of the waiters says it for as long.
  bool announce(std::uint64_t until_ms, std::uint16_t* lapses) const noexcept;
  std::uint64_t changes_of_all() const noexcept { return head_->changes_of_all.load(std::memory_order_acquire); }
  std::uint64_t position() const noexcept { return ring_->written.load(std::memory_order_acquire); }
  // Calls `visit(key)` for what was appended since `*position`, and moves that. False: some of it is overwritten.
  template <class Visit>
  bool read(std::uint64_t* position, std::vector<std::uint64_t>* words, const Visit& visit) const;
  // prepare_sleep(), then a look for what has come, then sleep().
  std::uint32_t prepare_sleep() const noexcept;
  void sleep(std::uint32_t seen, std::chrono::nanoseconds most) const noexcept;
  void wake_watchers() const noexcept;

 private:
  bool has_memory() const noexcept;
  bool copy(std::uint64_t from, std::uint64_t to, std::vector<std::uint64_t>* words) const;
  std::atomic<std::uint64_t>& word_at(std::uint64_t position) const noexcept {
    return words_[position / sizeof(std::uint64_t) & (size_bytes_ / sizeof(std::uint64_t) - 1)];
  }

  const Segment* segment_;
  std::uint64_t offset_;  // Of the area in the segment ...
  std::uint64_t area_bytes_;
  std::atomic<std::uint64_t>* watched_;
  WatchHead* head_ = nullptr;  // Null if the segment has no such area. Then what follows is not set.
  WatchRing* ring_ = nullptr;
  std::atomic<std::uint64_t>* words_ = nullptr;
  std::uint64_t size_bytes_ = 0;                   // Of the ring, a power of two.
  mutable std::atomic<bool> knows_memory_{false};  // Without it writing may fail.
};

template <class Visit>
bool WatchTable::read(std::uint64_t* position, std::vector<std::uint64_t>* words, const Visit& visit) const {
  const std::uint64_t from = *position;
  const std::uint64_t to = this->position();
  *position = to;
  if (!copy(from, to, words)) return false;
  for (std::size_t at = 0; at < words->size();) {
    const std::uint64_t key_size = (*words)[at];
    const std::uint64_t record_words = watch_record_size(key_size) / sizeof(std::uint64_t);
    // Nothing but damage writes such a record.
    if (key_size == 0 || key_size > kMaxKeySize || record_words > words->size() - at) return false;
    visit(std::string_view(reinterpret_cast<const char*>(&(*words)[at + 1]), key_size));
    at += record_words;
  }
  return true;
}

}  // namespace memstream
