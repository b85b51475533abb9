// The bytes of a segment, continued: the metrics in area 1. docs/decisions/0020 says what is written how.
//
// Nothing here is authoritative: a death costs the last increments, damage costs wrong numbers, never access to memory
// that is not there.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "core/layout/layout_sizes.h"

namespace memstream {

inline constexpr std::uint32_t kMetricsArea = 1;

// Histograms have four buckets for each power of two, so that a bucket is at most a quarter of its values wide. Values
// up to 3 have one each.
constexpr std::uint32_t histogram_bucket(std::uint64_t value, std::uint32_t buckets) noexcept {
  if (value < 4) return static_cast<std::uint32_t>(value);
  const auto exponent = static_cast<std::uint32_t>(std::bit_width(value)) - 1;
  const std::uint32_t bucket = (exponent - 1) * 4 + static_cast<std::uint32_t>(value >> (exponent - 2) & 3);
  return bucket < buckets ? bucket : buckets - 1;
}
// The lowest value of a bucket.
constexpr std::uint64_t histogram_bound(std::uint32_t bucket) noexcept {
  if (bucket < 4) return bucket;
  return bucket / 4 < 62 ? std::uint64_t{4 + bucket % 4} << (bucket / 4 - 1) : ~std::uint64_t{0};
}

inline constexpr std::uint32_t kAgeBuckets = 160;      // ms, and keys: to 2^41.
inline constexpr std::uint32_t kLatencyBuckets = 120;  // ns: to 2 s.
using MetricWord = std::atomic<std::uint64_t>;

// An entry that was read often. Its place in the segment, and part of its hash: another key may have it by now.
struct HotEntry {
  MetricWord name;    // Part of the hash (24) | shard (8) | number of the entry (32). 0: none.
  MetricWord weight;  // How often it was noted lately.
};
inline constexpr std::uint32_t kHotEntries = 64;

inline constexpr std::uint32_t kReuseGenerations = 128;

struct SegmentMetrics {
  std::atomic<std::uint32_t> sample_shift;  // One key in 2^n is sampled.
  std::atomic<std::uint32_t> generation;    // The present one.
  MetricWord sampled_references;            // Gets of sampled keys.
  MetricWord references;                    // The same, each times 2^n: about the gets of all keys.
  MetricWord first_references;              // Of these, those of keys that the sample did not know.
  MetricWord places;                        // Of ProcessMetrics: the first 64 that were ever used, a bit each,
  MetricWord more_places;                   // and those behind.
  MetricWord hot_notes;                     // How often an entry was noted as hot.
  MetricWord trace_until_ms;  // On CLOCK_MONOTONIC_COARSE: until then somebody reads the ring of accesses. 0: nobody.
  std::atomic<std::uint32_t> keys_of_generation[kReuseGenerations];  // By number modulo that.
  MetricWord distances[kAgeBuckets];                                 // As references, by the reuse distance in keys.
  HotEntry hot[kHotEntries];
};
static_assert(sizeof(SegmentMetrics) <= kPageSize);

// Why an entry was removed, as far as ShardCounters does not say.
enum class Removal : std::uint32_t {
  kRoom,        // The policy chose it, for room.
  kLargeValue,  // It lay where a large value had to go.
  kTable,       // It lay where the table had to grow.
  kChain,       // Too many keys in its bucket.
  kCleared,     // memstream_clear().
};
inline constexpr std::uint32_t kRemovals = 8;

struct ShardMetrics {
  MetricWord removals[kRemovals];  // By Removal.
  MetricWord lock_waits;           // Times that the write lock was not free at the first try, ...
  MetricWord lock_wait_ns;         // ... for how long in total,
  MetricWord longest_wait_ns;      // ... and at most.
  MetricWord lock_timeouts;        // Of these waits, those that ended at the deadline.
  MetricWord recovery_ns;          // Time of all recoveries.
  MetricWord longest_recovery_ns;
  MetricWord slow_reads;                    // Reads that took a redo record or a lock.
  MetricWord read_retries;                  // Looks without a lock that had to be repeated.
  MetricWord evicted_age_ms[kAgeBuckets];   // Time since evicted values were stored, not those that had expired.
  MetricWord evicted_idle_ms[kAgeBuckets];  // And since they were read.
};
static_assert(sizeof(ShardMetrics) <= kPageSize);

// What was asked for. The numbers are those of the C interface.
enum class Operation : std::uint32_t {
  kGet,
  kSet,
  kAdd,
  kReplace,
  kCas,
  kIncrement,
  kDelete,
  kTouch,
  kLease,
  kFulfil,
  kCommit
};
inline constexpr std::uint32_t kOperations = 11;
enum class Outcome : std::uint32_t {
  kOk,  // Not of gets, sets and deletes, which other counters have.
  kMiss,
  kExists,
  kConflict,
  kHeld,
  kTooLarge,
  kTooSmall,
  kFull,
  kNoMemory,
  kBusy,
  kCorrupt,
  kOther,
};
inline constexpr std::uint32_t kOutcomes = 12;

struct ProcessMetrics {
  MetricWord get_ns[kLatencyBuckets];  // Of gets and sets of sampled keys.
  MetricWord set_ns[kLatencyBuckets];
  MetricWord outcomes[kOperations][kOutcomes];
  std::byte unused[96];
};
static_assert(sizeof(ProcessMetrics) == 3072);
inline constexpr std::uint32_t kMaxMetricsPlaces = 128;

}  // namespace memstream
