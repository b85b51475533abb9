// Which sizes of the cache would have which hit ratio: a sample of keys and when each was asked for last.
//
// SHARDS (Waldspurger and others, 2015): keys are chosen by their hash, so that of a sampled key every get is seen, and
// the reuse distances of the sample, times the sampling step, are those of all keys. Here a distance is not counted
// exactly. Each sampled key knows the generation of its last get, of 128 at a time that together cover four times the
// cache; the distance is the number of keys in the generations behind it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "core/layout/hash.h"
#include "core/shard/metrics.h"

namespace memstream {

// One process's handle on the sample; safe from all threads. Whatever lies in the segment, nothing else is touched.
class ReuseSample {
 public:
  static constexpr std::uint32_t kLeastShift = 7;
  static constexpr std::uint32_t kMostShift = 16;

  // A note takes up to half a microsecond: this process makes no more of them in a second than that.
  static constexpr std::uint32_t kNotesPerSecond = 20'000;

  ReuseSample(const Segment& segment, const Geometry& geometry,
              std::uint32_t notes_per_second = kNotesPerSecond) noexcept;

  // The one question that every get asks. Of a segment without metrics no key is sampled.
  bool has(KeyHash hash) const noexcept { return (hash.value & mask_.load(std::memory_order_relaxed)) == 0; }

  // Notes a get of a key that the sample has. `live_entries` is about how many the cache has now. False if it cost next
  // to nothing, since the key was asked for a moment ago: then it is not worth measuring either.
  bool note(KeyHash hash, std::uint64_t live_entries) noexcept;

  // Whether an operation on a key that the sample has may be measured: not too much time went into that lately.
  bool may_measure(KeyHash hash) noexcept;

  std::uint32_t shift() const noexcept;

 private:
  static constexpr std::uint32_t kWays = 8;
  static constexpr std::uint32_t kRecents = 16;
  static constexpr std::uint32_t kNear = 8;  // So many notes of this process ago, or less, is a moment ago.
  // What a process spends on notes is limited for each window. A near one counts 1.
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
  std::atomic<std::uint32_t> near_notes_{0};  // That are not counted yet.
  std::atomic<std::uint32_t> spent_{0};
  std::atomic<std::uint64_t> window_begin_ms_{0};
};

}  // namespace memstream
