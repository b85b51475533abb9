// See watch_table.h.
#include "core/shard/watch_table.h"

#include <algorithm>
#include <cstring>

#include "core/base/clock.h"
#include "core/base/shared_futex.h"
#include "core/layout/layout_waits.h"
#include "core/shard/wait_table.h"

namespace memstream {

WatchTable::WatchTable(const Segment* segment, const Geometry& geometry, std::uint32_t shard) noexcept
    : segment_(segment),
      offset_(geometry.areas[kWatchArea].offset),
      area_bytes_(geometry.watches_size_bytes()),
      watched_(&reinterpret_cast<SegmentHeader*>(segment->data())->watched) {
  if (!geometry.has_watches()) return;
  std::byte* const area = segment->data() + offset_;
  head_ = reinterpret_cast<WatchHead*>(area);
  ring_ = reinterpret_cast<WatchRing*>(area + sizeof(WatchHead)) + shard;
  size_bytes_ = geometry.watch_ring_bytes();
  words_ = reinterpret_cast<std::atomic<std::uint64_t>*>(area + geometry.watch_rings_offset() + shard * size_bytes_);
}

// ---- writers ----

bool WatchTable::is_watched() const noexcept {
  if (!exists()) return false;
  std::uint64_t word = watched_->load(std::memory_order_acquire);
  for (;;) {
    const std::uint64_t until_ms = watched_until_ms(word);
    if (until_ms == 0) return false;
    if (WaitTable::is_current(until_ms, monotonic_ms())) return has_memory();
    const auto lapses = static_cast<std::uint16_t>(watch_lapses(word) + 1);
    if (watched_->compare_exchange_weak(word, watched_word(0, lapses), std::memory_order_acq_rel)) return false;
  }
}

void WatchTable::note(std::string_view key) const noexcept {
  std::uint64_t position = ring_->written.load(std::memory_order_relaxed);
  // A writer died in the middle of a record, or something wrote over it.
  if (ring_->reserved.load(std::memory_order_relaxed) != position || position % sizeof(std::uint64_t) != 0) {
    note_loss();
    position = ring_->written.load(std::memory_order_relaxed);
  }
  const std::uint64_t key_size = std::min(key.size(), kMaxKeySize);
  const std::uint64_t end = position + watch_record_size(key_size);
  // A reader that copies a word which is written from here on also sees this.
  ring_->reserved.store(end, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  word_at(position).store(key_size, std::memory_order_relaxed);
  for (std::uint64_t done = 0; done < key_size; done += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, key.data() + done, std::min<std::uint64_t>(sizeof word, key_size - done));
    position += sizeof word;
    word_at(position).store(word, std::memory_order_relaxed);
  }
  ring_->written.store(end, std::memory_order_release);
  wake_watchers();
}

// Goes further than the ring is large: every position from before is too old then.
void WatchTable::note_loss() const noexcept {
  const std::uint64_t furthest =
      std::max(ring_->written.load(std::memory_order_relaxed), ring_->reserved.load(std::memory_order_relaxed));
  const std::uint64_t position =
      (furthest + size_bytes_ + sizeof(std::uint64_t)) / sizeof(std::uint64_t) * sizeof(std::uint64_t);
  ring_->reserved.store(position, std::memory_order_release);
  ring_->written.store(position, std::memory_order_release);
  wake_watchers();
}

void WatchTable::note_change_of_all() const noexcept {
  head_->changes_of_all.fetch_add(1, std::memory_order_acq_rel);
  wake_watchers();
}

// The bit of the sleepers is taken back, so that watchers which were killed cost one wake-up and no more.
void WatchTable::wake_watchers() const noexcept {
  std::atomic_thread_fence(std::memory_order_seq_cst);  // As in prepare_sleep(): what is told comes before this load.
  std::uint32_t seen = head_->events.load(std::memory_order_relaxed);
  while ((seen & kSomebodyWaits) != 0) {
    if (!head_->events.compare_exchange_weak(seen, seen + kSomebodyWaits, std::memory_order_acq_rel)) continue;
    futex_wake_all(head_->events);
    return;
  }
}

bool WatchTable::has_memory() const noexcept {
  if (knows_memory_.load(std::memory_order_relaxed)) return true;
  if (segment_->look_for_memory(offset_, area_bytes_) == Status::kNoMemory) return false;
  knows_memory_.store(true, std::memory_order_relaxed);
  return true;
}

// ---- watchers ----

bool WatchTable::announce(std::uint64_t until_ms, std::uint16_t* lapses) const noexcept {
  std::uint64_t word = watched_->load(std::memory_order_acquire);
  for (;;) {
    const std::uint64_t noted_ms = watched_until_ms(word);
    const bool is_continuous = noted_ms != 0 && watch_lapses(word) == *lapses;
    const bool is_enough = noted_ms >= until_ms && noted_ms - until_ms <= WaitTable::kMostAnnouncedMs;
    if (is_enough ||
        watched_->compare_exchange_weak(word, watched_word(until_ms, watch_lapses(word)), std::memory_order_acq_rel)) {
      *lapses = watch_lapses(word);
      return is_continuous;
    }
  }
}

// Copies what lies between two positions, unless some of it is or may be overwritten.
bool WatchTable::copy(std::uint64_t from, std::uint64_t to, std::vector<std::uint64_t>* words) const {
  words->clear();
  if (to - from > size_bytes_ || (to | from) % sizeof(std::uint64_t) != 0) return false;
  words->resize((to - from) / sizeof(std::uint64_t));
  std::uint64_t position = from;
  for (std::uint64_t& word : *words) {
    word = word_at(position).load(std::memory_order_relaxed);
    position += sizeof word;
  }
  std::atomic_thread_fence(std::memory_order_acquire);
  return ring_->reserved.load(std::memory_order_relaxed) - from <= size_bytes_;
}

std::uint32_t WatchTable::prepare_sleep() const noexcept {
  const std::uint32_t seen = head_->events.fetch_or(kSomebodyWaits, std::memory_order_acq_rel) | kSomebodyWaits;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return seen;
}

void WatchTable::sleep(std::uint32_t seen, std::chrono::nanoseconds most) const noexcept {
  futex_wait(head_->events, seen, most);
}

}  // namespace memstream
