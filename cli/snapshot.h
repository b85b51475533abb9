// Everything that is known of a cache at one moment, and what follows from it. Only this module computes the numbers
// that the commands, their JSON and the Prometheus metrics show.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "api/memstream_metrics.h"
#include "api/memstream_near_core.h"
#include "cli/cache.h"

namespace memstream::cli {

using Json = nlohmann::ordered_json;

// What the segment knows as a near cache of Redis. Without servers it is none.
struct NearSnapshot {
  std::vector<memstream_near_core_state_t> servers;
  memstream_near_core_counts_t counts{};
};

struct Snapshot {
  std::string backend;
  std::string name;
  bool read_only = false;
  std::uint32_t layout_version = 0;
  cache_stats_t stats{};
  memstream_metrics_t metrics{};
  std::uint64_t invalidations = 0;  // Of tags.
  memstream_usage_t usage{};
  std::vector<memstream_process_t> processes;
  std::vector<memstream_lock_holder_t> locks;
  NearSnapshot near;
};

// Throws Failure.
Snapshot take_snapshot(const Cache& cache);

// What happened between two snapshots of one cache. Counters that went backwards count 0.
struct Interval {
  double seconds = 0;
  double gets_per_s = 0;
  double puts_per_s = 0;
  double deletes_per_s = 0;
  double evictions_per_s = 0;
  double expirations_per_s = 0;
  std::uint64_t hits = 0;
  std::uint64_t gets = 0;
};
Interval between(const Snapshot& before, const Snapshot& now);

// A hot key with the rate of its gets between two looks at it.
struct HotKey {
  memstream_entry_t entry{};
  double gets_per_s = 0;
};
// The keys of `now` that were the same entry `seconds` before, the fastest first.
std::vector<HotKey> hot_keys_between(const std::vector<memstream_entry_t>& before,
                                     const std::vector<memstream_entry_t>& now, double seconds);

// ---- histograms of the engine ----

using Histogram = std::span<const std::uint64_t>;

std::uint64_t total(Histogram histogram);
// The value below which this part of the counted values lies; none for an empty histogram. At most a quarter too high.
std::optional<std::uint64_t> quantile(Histogram histogram, double part);

// ---- the miss-ratio curve ----

// The hit ratio that the cache would have at another size, estimated from the sample.
struct CurvePoint {
  double factor = 1;  // Of the present size.
  std::uint64_t size_bytes = 0;
  double hit_ratio = 0;
};
struct Curve {
  std::vector<CurvePoint> points;  // Empty: too little was sampled.
  double error = 0;                // Two standard deviations of each ratio, at most.
};
Curve curve_of(const Snapshot& snapshot);
// The hit ratio of a cache of `entries` entries that evicts the coldest.
double hit_ratio_of(const memstream_metrics_t& metrics, std::uint64_t gets, double entries);

// ---- processes ----

// What /proc knows of a process: its command line, and whether it is "running", "stopped" or "ended"; "?" where
// /proc shows nothing of it, as in another namespace.
std::string command_of(std::uint32_t pid);
std::string condition_of(std::uint32_t pid);

// "write lock of shard 3".
std::string name_of(const memstream_lock_holder_t& lock);
// What a process holds, "-" if nothing.
std::string locks_of(const std::vector<memstream_lock_holder_t>& locks, std::uint32_t pid);
// Each process with what /proc knows of it and the names of the locks that it holds.
Json processes_json(const std::vector<memstream_process_t>& processes,
                    const std::vector<memstream_lock_holder_t>& locks);
Json lock_json(const memstream_lock_holder_t& lock);

// ---- what follows ----

struct Advice {
  std::string what;
  std::string why;
};
std::vector<Advice> advice_for(const Snapshot& snapshot);

// Names of operations, outcomes and causes, as all outputs spell them.
inline constexpr const char* kOperationNames[] = {"get",    "set",   "add",   "replace", "cas",   "incr",
                                                  "delete", "touch", "lease", "fulfil",  "commit"};
inline constexpr const char* kOutcomeNames[] = {"ok",        "miss", "exists",    "conflict", "held",    "too_large",
                                                "too_small", "full", "no_memory", "busy",     "corrupt", "failed"};
inline constexpr const char* kRemovalNames[] = {"room",  "large_value", "table",  "chain",
                                                "clear", "expired",     "delete", "damaged"};
inline constexpr std::size_t kEvictionCauses = 4;  // The first ones of these.

// In the order of outputs.
struct NearCount {
  const char* name;
  std::uint64_t memstream_near_core_counts_t::*count;
  const char* help;
};
inline constexpr NearCount kNearCounts[] = {
    {"hits", &memstream_near_core_counts_t::hits, "Gets of a near cache that the segment answered."},
    {"fetches", &memstream_near_core_counts_t::fetches, "Questions to Redis."},
    {"fills", &memstream_near_core_counts_t::fills, "Answers of Redis that were stored."},
    {"conflicts", &memstream_near_core_counts_t::conflicts, "Answers that were not, since their key had changed."},
    {"merged", &memstream_near_core_counts_t::merged, "Misses that waited for the fetch of another caller."},
    {"bypasses", &memstream_near_core_counts_t::bypasses, "Gets that asked Redis and stored nothing."},
    {"stale", &memstream_near_core_counts_t::stale, "Copies served beyond the bound while Redis was out of reach."},
    {"errors", &memstream_near_core_counts_t::errors, "Questions that Redis did not answer, or by an error."}};

// Of a lag that has no end: the server was never heard.
inline constexpr std::uint64_t kNeverHeard = ~std::uint64_t{0};

// A cache that is no near cache has no member "near".
Json as_json(const Snapshot& snapshot);

// The text format of Prometheus, version 0.0.4.
std::string as_prometheus(const Snapshot& snapshot);

}  // namespace memstream::cli
