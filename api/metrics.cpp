// The full C interface: metrics.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "api/arguments.h"
#include "api/describe.h"
#include "api/following.h"
#include "api/grown_struct.h"
#include "api/guarded.h"
#include "api/handle.h"
#include "api/memstream_metrics.h"

using memstream::Cache;
using memstream::CacheStatistics;
using memstream::CacheUsage;
using memstream::fail;
using memstream::guarded;
using memstream::InFlightCalls;
using memstream::kOperations;
using memstream::kOutcomes;
using memstream::LockHolder;
using memstream::MetricsSum;
using memstream::on_segment;
using memstream::require;
using memstream::require_bytes;
using memstream::Status;
using memstream::Waiting;

namespace {

constexpr std::size_t kFirstMetricsSize = sizeof(memstream_metrics_t);
constexpr std::size_t kFirstUsageSize = sizeof(memstream_usage_t);

static_assert(static_cast<int>(memstream::Operation::kCommit) == MEMSTREAM_COMMIT);
static_assert(static_cast<int>(memstream::Outcome::kOther) == MEMSTREAM_FAILED);
static_assert(static_cast<int>(LockHolder::Kind::kProcessTable) == MEMSTREAM_LOCK_PROCESSES);
static_assert(static_cast<int>(memstream::Removal::kCleared) == MEMSTREAM_REMOVED_BY_CLEAR);

template <std::size_t kSize>
void copy(std::uint64_t (&to)[kSize], const std::uint64_t (&from)[kSize]) {
  std::copy(std::begin(from), std::end(from), to);
}

// Some outcomes are in other counters of the segment: those of gets, sets and deletes. Takes them from there.
void fill_outcomes(const MetricsSum& sum, const CacheStatistics& statistics, memstream_metrics_t* metrics) {
  std::uint64_t other_puts = 0;
  for (std::uint32_t operation = 0; operation < kOperations; ++operation) {
    std::copy_n(sum.outcomes[operation], kOutcomes, metrics->outcomes[operation]);
  }
  for (const int kind :
       {MEMSTREAM_ADD, MEMSTREAM_REPLACE, MEMSTREAM_CAS, MEMSTREAM_INCREMENT, MEMSTREAM_FULFIL, MEMSTREAM_COMMIT}) {
    other_puts += metrics->outcomes[kind][MEMSTREAM_DONE];
  }
  metrics->outcomes[MEMSTREAM_GET][MEMSTREAM_DONE] = statistics.hits;
  metrics->outcomes[MEMSTREAM_GET][MEMSTREAM_MISSED] = statistics.misses;
  metrics->outcomes[MEMSTREAM_SET][MEMSTREAM_DONE] = statistics.puts - std::min(other_puts, statistics.puts);
  metrics->outcomes[MEMSTREAM_DELETE][MEMSTREAM_DONE] = statistics.shards.counters.deletes;
}

Status fill_metrics(memstream_t& handle, memstream_metrics_t* callers_metrics) {
  const std::size_t size = callers_metrics->struct_size;
  if (!memstream::is_size_of<memstream_metrics_t>(size, kFirstMetricsSize)) {
    return fail(
        Status::kInvalid,
        fmt::format("Invalid memstream_metrics_t.struct_size {}: expected {}. Set it to sizeof before the call, "
                    "and do not use a library older than your program.",
                    size, sizeof(memstream_metrics_t)));
  }
  CacheStatistics statistics;
  MetricsSum sum;
  const Status status = on_segment(handle, [&](Cache& segment) {
    const Status summed = segment.statistics(&statistics);
    return summed == Status::kOk ? segment.metrics(&sum) : summed;
  });
  if (status != Status::kOk) return status;
  memstream_metrics_t filled{};
  filled.struct_size = size;
  fill_outcomes(sum, statistics, &filled);
  std::copy(std::begin(sum.removals), std::end(sum.removals), filled.removals);
  filled.removals[MEMSTREAM_REMOVED_EXPIRED] = statistics.shards.counters.expirations;
  filled.removals[MEMSTREAM_REMOVED_BY_DELETE] = statistics.shards.counters.deletes;
  filled.removals[MEMSTREAM_REMOVED_DAMAGED] = statistics.shards.counters.damaged;
  filled.lock_waits = sum.lock_waits;
  filled.lock_wait_ns = sum.lock_wait_ns;
  filled.longest_wait_ns = sum.longest_wait_ns;
  filled.lock_timeouts = sum.lock_timeouts;
  filled.recoveries = statistics.shards.counters.recoveries;
  filled.recovery_ns = sum.recovery_ns;
  filled.longest_recovery_ns = sum.longest_recovery_ns;
  filled.slow_reads = sum.slow_reads;
  filled.read_retries = sum.read_retries;
  filled.sample_step = sum.sample_shift == 0 ? 0 : std::uint64_t{1} << sum.sample_shift;
  filled.sampled_keys = sum.sampled_keys;
  filled.sampled_references = sum.sampled_references;
  filled.references = sum.references;
  filled.first_references = sum.first_references;
  copy(filled.evicted_age_ms, sum.evicted_age_ms);
  copy(filled.evicted_idle_ms, sum.evicted_idle_ms);
  copy(filled.get_ns, sum.get_ns);
  copy(filled.set_ns, sum.set_ns);
  copy(filled.reuse_distances, sum.reuse_distances);
  std::memcpy(callers_metrics, &filled, size);
  return Status::kOk;
}

Status fill_usage(memstream_t& handle, memstream_usage_t* callers_usage) {
  const std::size_t size = callers_usage->struct_size;
  if (!memstream::is_size_of<memstream_usage_t>(size, kFirstUsageSize)) {
    return fail(Status::kInvalid,
                fmt::format("Invalid memstream_usage_t.struct_size {}: expected {}. Set it to sizeof before the call, "
                            "and do not use a library older than your program.",
                            size, sizeof(memstream_usage_t)));
  }
  CacheUsage usage;
  if (const Status status = on_segment(handle, [&](Cache& segment) { return segment.usage(&usage); });
      status != Status::kOk) {
    return status;
  }
  const auto waiters = [&usage](Waiting what) { return usage.waiters[static_cast<std::size_t>(what)]; };
  const memstream_usage_t filled = {.struct_size = size,
                                    .rates = usage.rates,
                                    .rate_capacity = usage.rate_places,
                                    .semaphores = usage.semaphores,
                                    .locks = usage.locks,
                                    .permits = usage.permits,
                                    .holders = usage.holders,
                                    .holder_capacity = usage.holder_places,
                                    .change_waiters = waiters(Waiting::kChange),
                                    .permit_waiters = waiters(Waiting::kPermit),
                                    .lease_waiters = waiters(Waiting::kLease)};
  std::memcpy(callers_usage, &filled, size);
  return Status::kOk;
}

}  // namespace

extern "C" {

int memstream_metrics(memstream_t* cache, memstream_metrics_t* metrics) {
  return guarded([&] {
    if (const Status status = require("cache, metrics", cache, metrics); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return fill_metrics(*cache, metrics);
  });
}

int memstream_usage(memstream_t* cache, memstream_usage_t* usage) {
  return guarded([&] {
    if (const Status status = require("cache, usage", cache, usage); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return fill_usage(*cache, usage);
  });
}

int memstream_lock_holders(memstream_t* cache, memstream_lock_holder_t* holders, size_t capacity, size_t* count) {
  return guarded([&] {
    if (const Status status = require("cache, count", cache, count); status != Status::kOk) return status;
    if (const Status status = require_bytes("holders", holders, capacity); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    std::vector<LockHolder> found;
    const Status status = on_segment(*cache, [&](Cache& segment) { return segment.lock_holders(&found); });
    if (status != Status::kOk) return status;
    for (std::size_t i = 0; i < std::min(capacity, found.size()); ++i) {
      holders[i] = {.kind = static_cast<uint32_t>(found[i].kind),
                    .shard = found[i].shard,
                    .pid = found[i].process,
                    .tid = found[i].thread,
                    .reserved = {}};
    }
    *count = found.size();
    return Status::kOk;
  });
}

uint64_t memstream_bucket_bound(size_t bucket) {
  return memstream::histogram_bound(static_cast<std::uint32_t>(std::min<std::size_t>(bucket, 1024)));
}

int memstream_hot_keys(memstream_t* cache, memstream_entry_t* entries, size_t capacity, size_t* count) {
  return guarded([&] {
    if (const Status status = require("cache, count", cache, count); status != Status::kOk) return status;
    if (const Status status = require_bytes("entries", entries, capacity); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    struct Hot {
      memstream_entry_t entry;
      std::uint64_t weight;
    };
    std::vector<Hot> found;
    const Status status = on_segment(*cache, [&](Cache& segment) {
      found.clear();
      return segment.hot_entries(
          [&](std::uint32_t shard, const memstream::ScannedEntry& scanned, std::uint64_t weight) {
            memstream::describe(segment, shard, scanned, &found.emplace_back().entry);
            found.back().weight = weight;
          });
    });
    if (status != Status::kOk) return status;
    std::sort(found.begin(), found.end(), [](const Hot& a, const Hot& b) { return a.weight > b.weight; });
    for (std::size_t i = 0; i < std::min(capacity, found.size()); ++i) entries[i] = found[i].entry;
    *count = found.size();
    return Status::kOk;
  });
}

}  // extern "C"
