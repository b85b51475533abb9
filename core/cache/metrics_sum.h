// The metrics of a segment as plain numbers, summed over shards and processes.
#pragma once

#include <cstdint>

#include "core/layout/layout_metrics.h"

namespace memstream {

struct MetricsSum {
  // Without the hits, misses, puts and deletes that other counters have.
  std::uint64_t outcomes[kOperations][kOutcomes];
  std::uint64_t removals[kRemovals];
  std::uint64_t lock_waits, lock_wait_ns, longest_wait_ns, lock_timeouts;
  std::uint64_t recovery_ns, longest_recovery_ns;
  std::uint64_t slow_reads, read_retries;
  std::uint64_t sample_shift, sampled_keys, sampled_references, references, first_references;
  std::uint64_t evicted_age_ms[kAgeBuckets];
  std::uint64_t evicted_idle_ms[kAgeBuckets];
  std::uint64_t get_ns[kLatencyBuckets];
  std::uint64_t set_ns[kLatencyBuckets];
  std::uint64_t reuse_distances[kAgeBuckets];
};

}  // namespace memstream
