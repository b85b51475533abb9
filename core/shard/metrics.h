// Finds the metrics of a segment for the code that writes them: docs/decisions/0020.
#pragma once

#include <chrono>
#include <cstdint>

#include "core/base/segment.h"
#include "core/layout/geometry.h"

namespace memstream {

// Takes the metrics of a segment that has none, or that must not be written. Nothing reads it, and no writer
// has to check.
template <class Metrics>
inline constinit Metrics unread_metrics{};

template <class Metrics>
Metrics& metrics_at(const Segment& segment, const Geometry& geometry, std::uint64_t offset_in_area) noexcept {
  if (!geometry.has_metrics() || segment.access() == Access::kReadOnly) return unread_metrics<Metrics>;
  return *reinterpret_cast<Metrics*>(segment.data() + geometry.areas[kMetricsArea].offset + offset_in_area);
}
inline SegmentMetrics& metrics_of_segment(const Segment& segment, const Geometry& geometry) noexcept {
  return metrics_at<SegmentMetrics>(segment, geometry, 0);
}
inline ShardMetrics& metrics_of_shard(const Segment& segment, const Geometry& geometry, std::uint32_t shard) noexcept {
  return metrics_at<ShardMetrics>(segment, geometry, geometry.shard_metrics_offset() + shard * sizeof(ShardMetrics));
}

inline void count(MetricWord& word, std::uint64_t number = 1) noexcept {
  word.fetch_add(number, std::memory_order_relaxed);
}
inline void count_longest(MetricWord& word, std::uint64_t number) noexcept {
  std::uint64_t longest = word.load(std::memory_order_relaxed);
  while (longest < number && !word.compare_exchange_weak(longest, number, std::memory_order_relaxed)) {
  }
}
template <std::uint32_t kBuckets>
void count_in(MetricWord (&histogram)[kBuckets], std::uint64_t value, std::uint64_t number = 1) noexcept {
  count(histogram[histogram_bucket(value, kBuckets)], number);
}

// How long something takes.
class Stopwatch {
 public:
  std::uint64_t ns() const noexcept {
    return static_cast<std::uint64_t>(std::chrono::nanoseconds(std::chrono::steady_clock::now() - begin_).count());
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

// ---- hot entries ----

// The name of an entry in SegmentMetrics, and what it says. After damage, or when another key has the entry, anything.
constexpr std::uint64_t hot_name(std::uint32_t shard, EntryId entry, std::uint32_t hash) noexcept {
  return std::uint64_t{hash} << 40 | std::uint64_t{shard & 0xff} << 32 | entry;
}
constexpr EntryId hot_entry(std::uint64_t name) noexcept { return EntryId{static_cast<std::uint32_t>(name)}; }
constexpr std::uint32_t hot_shard(std::uint64_t name) noexcept { return static_cast<std::uint32_t>(name >> 32 & 0xff); }
constexpr bool is_hot_hash(std::uint64_t name, std::uint32_t hash) noexcept { return name >> 40 == (hash & 0xff'ffff); }

// Notes an access of an entry that was read often before. What is noted more often pushes out what was noted once.
void note_hot(SegmentMetrics& metrics, std::uint64_t name) noexcept;

}  // namespace memstream
