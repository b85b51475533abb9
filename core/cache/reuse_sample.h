// Estimates the hit ratio of other sizes of the cache, from a sample of keys and the time of each key's last get.
//
// SHARDS (Waldspurger and others, 2015): keys are chosen by their hash, so that every get of a sampled key is seen. The
// reuse distances of the sample, times the sampling step, are those of all keys. Here a distance is not counted
// exactly. Each sampled key knows the generation of its last get, of 128 at a time that together cover four times the
// cache; the distance is the number of keys in the generations behind it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "core/layout/hash.h"
#include "core/shard/metrics.h"

namespace memstream {

// One process's handle on the sample; safe from all threads. Touches nothing else, even if the segment is damaged.
class ReuseSample {
 public:
  static constexpr std::uint32_t kLeastShift = 7;
  static constexpr std::uint32_t kMostShift = 16;

  // A note takes up to half a microsecond, so a process makes at most this many in a second.
  static constexpr std::uint32_t kNotesPerSecond = 20'000;

  ReuseSample(const Segment& segment, const Geometry& geometry,
              std::uint32_t notes_per_second = kNotesPerSecond) noexcept;

  // Whether the sample has the key. Every get asks this. A segment without metrics samples no key.
  bool has(KeyHash hash) const noexcept { return (hash.value & mask_.load(std::memory_order_relaxed)) == 0; }

  // Notes a get of a sampled key. `live_entries` is about the number of entries in the cache. False if the key was
  // noted a moment ago: then the note cost next to nothing, and the get is not worth measuring either.
  bool note(KeyHash hash, std::uint64_t live_entries) noexcept;

  // Whether an operation on a sampled key may be measured. False while measuring has taken too much time lately.
  bool may_measure(KeyHash hash) noexcept;

  std::uint32_t shift() const noexcept;

 private:
  static constexpr std::uint32_t kWays = 8;
  static constexpr std::uint32_t kRecents = 16;
  static constexpr std::uint32_t kNear = 8;  // A note is near if the same key is among the last so many notes.
  // Each window limits what a process spends on notes. A near note costs 1, any other kNoteCost.
  static constexpr std::uint32_t kNoteCost = 16;
  static constexpr std::uint32_t kWindowMs = 250;

  struct Recent {
    std::atomic<std::uint64_t> hash{0};
    std::atomic<std::uint32_t> sequence{0};
  };

  bool is_near(KeyHash hash) noexcept;
  void spend(std::uint32_t cost) noexcept;
  bool follow_shift(KeyHash hash) noexcept;
  void raise_shift(std::uint32_t from) noexcept;
  void reference(KeyHash hash, std::uint64_t live_entries) noexcept;
  void enter_generation(std::uint32_t generation, std::uint64_t live_entries) noexcept;
  std::uint32_t keys_per_generation(std::uint64_t live_entries) const noexcept;
  std::uint64_t keys_since(std::uint32_t generation, std::uint32_t age) const noexcept;
  void count_key_out(std::uint64_t key, std::uint32_t generation) noexcept;

  SegmentMetrics& metrics_;
  std::uint32_t window_cost_;
  MetricWord* keys_ = nullptr;  // 40 bits of the hash | generation (24). 0: none.
  std::uint32_t key_count_ = 0;
  std::atomic<std::uint64_t> mask_{~std::uint64_t{0}};

  std::array<Recent, kRecents> recents_;
  std::atomic<std::uint32_t> sequence_{0};
  std::atomic<std::uint32_t> near_notes_{0};  // Those that are not counted yet.
  std::atomic<std::uint32_t> spent_{0};
  std::atomic<std::uint64_t> window_begin_ms_{0};
};

}  // namespace memstream
