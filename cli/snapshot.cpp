#include "cli/snapshot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <numeric>

#include "cli/text.h"

namespace memstream::cli {
namespace {

constexpr std::array kFactors{0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0};
constexpr std::uint64_t kLeastReferences = 1000;  // Sampled gets below which no curve is shown.
constexpr std::uint64_t kLeastKeys = 30;          // And sampled keys.

// The lowest value behind those of a bucket.
double bucket_end(std::size_t bucket) { return static_cast<double>(memstream_bucket_bound(bucket + 1)); }
double bucket_begin(std::size_t bucket) { return static_cast<double>(memstream_bucket_bound(bucket)); }

double percent(double ratio) { return 100 * ratio; }

// Bytes of the segment for each entry. A cache that has never evicted is not full yet.
double bytes_per_entry(const cache_stats_t& stats) {
  if (stats.entries == 0) return 0;
  const std::uint64_t bytes = stats.evictions != 0 ? stats.max_memory : stats.used_memory + stats.table_memory;
  return static_cast<double>(bytes) / static_cast<double>(stats.entries);
}

Json histogram_json(Histogram histogram) {
  Json buckets = Json::array();
  for (std::size_t i = 0; i < histogram.size(); ++i) {
    if (histogram[i] != 0) buckets.push_back({{"from", memstream_bucket_bound(i)}, {"count", histogram[i]}});
  }
  Json json = {{"count", total(histogram)}, {"buckets", buckets}};
  for (const auto& [title, part] : {std::pair{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}}) {
    if (const auto value = quantile(histogram, part)) json[title] = *value;
  }
  return json;
}

// Names that a cluster or a use of the segment holds without an agent are no servers: nothing was ever heard of them.
NearSnapshot take_near(const Cache& cache) {
  NearSnapshot near;
  memstream_near_core_state_t state{};
  state.struct_size = sizeof state;
  for (std::uint32_t server = 0; require_ok(memstream_near_core_look(cache.get(), server, &state)) == CACHE_OK;
       ++server) {
    if (state.epoch != 0 || state.agent_pid != 0) near.servers.push_back(state);
  }
  near.counts.struct_size = sizeof near.counts;
  require_ok(memstream_near_core_counts(cache.get(), &near.counts));
  return near;
}

Json as_json(const NearSnapshot& near) {
  Json json = Json::object();
  for (const NearCount& count : kNearCounts) json[count.name] = near.counts.*count.count;
  Json servers = Json::array();
  for (const memstream_near_core_state_t& server : near.servers) {
    servers.push_back({{"name", json_text(server.label)},
                       {"agent_pid", server.agent_pid},
                       {"lag_ms", server.lag_ms == kNeverHeard ? Json(nullptr) : Json(server.lag_ms)},
                       {"epoch", server.epoch},
                       {"epochs", server.advances},
                       {"invalidations", server.invalidations},
                       {"subscriptions", server.subscriptions}});
  }
  json["servers"] = servers;
  return json;
}

}  // namespace

Snapshot take_snapshot(const Cache& cache) {
  Snapshot snapshot;
  const memstream_info_t info = cache.info();
  snapshot.backend = info.backend;
  snapshot.name = info.name;
  snapshot.read_only = info.read_only != 0;
  snapshot.layout_version = info.layout_version;
  snapshot.stats = cache.stats();
  snapshot.metrics.struct_size = sizeof snapshot.metrics;
  require_ok(memstream_metrics(cache.get(), &snapshot.metrics));
  require_ok(memstream_invalidations(cache.get(), &snapshot.invalidations));
  snapshot.usage.struct_size = sizeof snapshot.usage;
  require_ok(memstream_usage(cache.get(), &snapshot.usage));
  snapshot.processes = cache.processes();
  snapshot.locks = cache.locks();
  snapshot.near = take_near(cache);
  return snapshot;
}

Interval between(const Snapshot& before, const Snapshot& now) {
  const auto grown = [](std::uint64_t from, std::uint64_t to) { return to - std::min(from, to); };
  Interval interval;
  interval.seconds = static_cast<double>(grown(before.stats.now_ms, now.stats.now_ms)) / 1000;
  const auto rate = [&](std::uint64_t from, std::uint64_t to) {
    return interval.seconds > 0 ? static_cast<double>(grown(from, to)) / interval.seconds : 0;
  };
  interval.hits = grown(before.stats.hits, now.stats.hits);
  interval.gets = interval.hits + grown(before.stats.misses, now.stats.misses);
  interval.gets_per_s = rate(0, interval.gets);
  interval.puts_per_s = rate(before.stats.puts, now.stats.puts);
  interval.deletes_per_s = rate(before.stats.deletes, now.stats.deletes);
  interval.evictions_per_s = rate(before.stats.evictions, now.stats.evictions);
  interval.expirations_per_s = rate(before.stats.expirations, now.stats.expirations);
  return interval;
}

std::vector<HotKey> hot_keys_between(const std::vector<memstream_entry_t>& before,
                                     const std::vector<memstream_entry_t>& now, double seconds) {
  std::vector<HotKey> keys;
  for (const memstream_entry_t& entry : now) {
    const auto was = std::find_if(before.begin(), before.end(),
                                  [&](const memstream_entry_t& one) { return key_of(one) == key_of(entry); });
    // One that was removed and stored again counts from the start.
    if (was == before.end() || was->access_count > entry.access_count) continue;
    const auto gets = static_cast<double>(entry.access_count - was->access_count);
    keys.push_back({entry, seconds > 0 ? gets / seconds : 0});
  }
  std::stable_sort(keys.begin(), keys.end(),
                   [](const HotKey& a, const HotKey& b) { return a.gets_per_s > b.gets_per_s; });
  return keys;
}

// ---- histograms ----

std::uint64_t total(Histogram histogram) {
  return std::accumulate(histogram.begin(), histogram.end(), std::uint64_t{0});
}

std::optional<std::uint64_t> quantile(Histogram histogram, double part) {
  const std::uint64_t all = total(histogram);
  if (all == 0) return std::nullopt;
  const auto wanted =
      std::max<std::uint64_t>(static_cast<std::uint64_t>(std::ceil(part * static_cast<double>(all))), 1);
  std::uint64_t below = 0;
  std::size_t bucket = 0;
  for (; bucket + 1 < histogram.size(); ++bucket) {
    below += histogram[bucket];
    if (below >= wanted) break;
  }
  return memstream_bucket_bound(bucket + 1) - 1;
}

// ---- the curve ----

// A few keys have many gets, so the sample sees too many or too few. The difference goes to the shortest distances,
// because these keys are the hottest (SHARDS-adj).
double hit_ratio_of(const memstream_metrics_t& metrics, std::uint64_t gets, double entries) {
  if (gets == 0) return 0;
  double hits = static_cast<double>(gets) - static_cast<double>(metrics.references);
  for (std::size_t bucket = 0; bucket < std::size(metrics.reuse_distances); ++bucket) {
    const double begin = bucket_begin(bucket);
    if (begin >= entries) break;
    const double part = std::min(1.0, (entries - begin) / (bucket_end(bucket) - begin));
    hits += part * static_cast<double>(metrics.reuse_distances[bucket]);
  }
  return std::clamp(hits / static_cast<double>(gets), 0.0, 1.0);
}

Curve curve_of(const Snapshot& snapshot) {
  Curve curve;
  const cache_stats_t& stats = snapshot.stats;
  const double each = bytes_per_entry(stats);
  const memstream_metrics_t& metrics = snapshot.metrics;
  if (each == 0 || metrics.sampled_references < kLeastReferences || metrics.sampled_keys < kLeastKeys) return curve;
  curve.error = 1 / std::sqrt(static_cast<double>(metrics.sampled_keys));
  for (const double factor : kFactors) {
    const double size = factor * static_cast<double>(stats.max_memory);
    curve.points.push_back(
        {factor, static_cast<std::uint64_t>(size), hit_ratio_of(metrics, stats.hits + stats.misses, size / each)});
  }
  return curve;
}

// ---- processes ----

std::string name_of(const memstream_lock_holder_t& lock) {
  if (lock.kind == MEMSTREAM_LOCK_PROCESSES) return "lock of the process table";
  return fmt::format("{} lock of shard {}", lock.kind == MEMSTREAM_LOCK_WRITE ? "write" : "read", lock.shard);
}

std::string locks_of(const std::vector<memstream_lock_holder_t>& locks, std::uint32_t pid) {
  std::string names;
  for (const memstream_lock_holder_t& lock : locks) {
    if (lock.pid == pid) names += (names.empty() ? "" : ", ") + name_of(lock);
  }
  return names.empty() ? "-" : names;
}

Json processes_json(const std::vector<memstream_process_t>& processes,
                    const std::vector<memstream_lock_holder_t>& locks) {
  Json rows = Json::array();
  for (const memstream_process_t& process : processes) {
    Json holds = Json::array();
    for (const memstream_lock_holder_t& lock : locks) {
      if (lock.pid == process.pid) holds.push_back(name_of(lock));
    }
    rows.push_back({{"pid", process.pid},
                    {"state", condition_of(process.pid)},
                    {"hits", process.hits},
                    {"misses", process.misses},
                    {"puts", process.puts},
                    {"pins", process.pins},
                    {"holds", holds},
                    {"command", json_text(command_of(process.pid))}});
  }
  return rows;
}

Json lock_json(const memstream_lock_holder_t& lock) {
  const char* const kind = lock.kind == MEMSTREAM_LOCK_WRITE  ? "write"
                           : lock.kind == MEMSTREAM_LOCK_READ ? "read"
                                                              : "processes";
  Json json = {{"lock", kind}, {"pid", lock.pid}, {"tid", lock.tid}};
  if (lock.kind != MEMSTREAM_LOCK_PROCESSES) json["shard"] = lock.shard;
  return json;
}

// ---- advice ----

std::vector<Advice> advice_for(const Snapshot& snapshot) {
  std::vector<Advice> advice;
  const cache_stats_t& stats = snapshot.stats;
  const memstream_metrics_t& metrics = snapshot.metrics;
  const Curve curve = curve_of(snapshot);
  const auto ratio_at = [&](double factor) {
    const auto point = std::find_if(curve.points.begin(), curve.points.end(),
                                    [factor](const CurvePoint& one) { return one.factor == factor; });
    return point->hit_ratio;
  };
  if (!curve.points.empty()) {
    const double gain = ratio_at(2) - ratio_at(1);
    const double loss = ratio_at(1) - ratio_at(0.5);
    advice.push_back({fmt::format("Twice the memory ({}): {:.1f} points more hits. Half of it: {:.1f} points fewer.",
                                  format_size(2 * stats.max_memory), percent(gain), percent(loss)),
                      fmt::format("Reuse distances of {} sampled keys; the ratios are good to {:.1f} points.",
                                  metrics.sampled_keys, percent(curve.error))});
    if (stats.evictions == 0) {
      advice.push_back({"The cache has never evicted: more memory changes nothing now.",
                        fmt::format("It uses {} of {}.", format_size(stats.used_memory + stats.table_memory),
                                    format_size(stats.max_memory))});
    }
  } else {
    advice.push_back({"Too little was sampled to say what another size would do.",
                      fmt::format("{} gets of sampled keys so far, {} are needed, of {} keys. Ask again later.",
                                  metrics.sampled_references, kLeastReferences, kLeastKeys)});
  }
  if (const auto idle = quantile(metrics.evicted_idle_ms, 0.5)) {
    advice.push_back(
        {fmt::format("Half of the evicted entries had not been read for {} or less.", format_duration(*idle)),
         "A cache that evicts what was read seconds ago is too small for its load."});
  }
  const std::uint64_t evictions = stats.evictions;
  if (const std::uint64_t large = metrics.removals[MEMSTREAM_REMOVED_FOR_LARGE]; large * 4 > evictions && large != 0) {
    advice.push_back({fmt::format("Large values evicted {} of {} entries.", large, evictions),
                      "Each needs a window of the heap. Split them, or keep them in a cache of their own."});
  }
  std::uint64_t too_large = 0;
  std::uint64_t full = 0;
  for (const auto& outcomes : metrics.outcomes) {
    too_large += outcomes[MEMSTREAM_TOO_LARGE];
    full += outcomes[MEMSTREAM_FULL];
  }
  if (too_large != 0) {
    advice.push_back({fmt::format("{} values were refused as too large.", too_large),
                      fmt::format("The limit is {}. MEMSTREAM_MAX_VALUE raises it in a new segment.",
                                  format_size(stats.max_value_size))});
  }
  if (full != 0) {
    advice.push_back({fmt::format("{} values were refused because views pin too much.", full),
                      "Release views earlier, or use a larger MEMSTREAM_SIZE."});
  }
  if (stats.reachable_memory < stats.max_memory) {
    advice.push_back({fmt::format("The system can give {} of {}.", format_size(stats.reachable_memory),
                                  format_size(stats.max_memory)),
                      "Enlarge /dev/shm, or create the segment with a smaller MEMSTREAM_SIZE."});
  }
  if (metrics.longest_wait_ns > 100'000'000) {
    advice.push_back(
        {fmt::format("A caller waited {} for a lock.", format_duration(metrics.longest_wait_ns / 1'000'000)),
         "memstream procs shows who is stopped; a process that is stopped keeps its lock."});
  }
  return advice;
}

// ---- JSON ----

Json as_json(const Snapshot& snapshot) {
  const cache_stats_t& s = snapshot.stats;
  const memstream_metrics_t& m = snapshot.metrics;
  Json json = {{"backend", snapshot.backend},
               {"name", snapshot.name},
               {"time_ms", s.now_ms},
               {"created_at_ms", s.created_at_ms},
               {"read_only", snapshot.read_only},
               {"layout_version", snapshot.layout_version},
               {"max_memory", s.max_memory},
               {"reachable_memory", s.reachable_memory},
               {"used_memory", s.used_memory},
               {"table_memory", s.table_memory},
               {"committed_memory", s.committed_memory},
               {"pinned_memory", s.pinned_memory},
               {"value_memory", s.value_memory},
               {"key_memory", s.key_memory},
               {"max_value_size", s.max_value_size},
               {"entries", s.entries},
               {"entry_capacity", s.entry_capacity},
               {"shards", s.shards},
               {"busy_shards", s.busy_shards},
               {"processes", s.processes},
               {"hits", s.hits},
               {"misses", s.misses},
               {"puts", s.puts},
               {"deletes", s.deletes},
               {"evictions", s.evictions},
               {"expirations", s.expirations},
               {"recoveries", s.recoveries},
               {"damaged", s.damaged},
               {"commit_failures", s.commit_failures},
               {"view_copies", s.view_copies},
               {"dead_processes", s.dead_processes},
               {"page_size", s.page_size},
               {"huge_pages", s.huge_pages}};
  Json operations = Json::object();
  for (std::size_t kind = 0; kind < std::size(kOperationNames); ++kind) {
    for (std::size_t outcome = 0; outcome < std::size(kOutcomeNames); ++outcome) {
      const std::uint64_t number = m.outcomes[kind][outcome];
      if (number != 0) operations[kOperationNames[kind]][kOutcomeNames[outcome]] = number;
    }
  }
  Json removals = Json::object();
  for (std::size_t cause = 0; cause < std::size(kRemovalNames); ++cause) {
    removals[kRemovalNames[cause]] = m.removals[cause];
  }
  json["operations"] = operations;
  json["removals"] = removals;
  json["invalidations"] = snapshot.invalidations;
  json["locks"] = {{"waits", m.lock_waits},
                   {"wait_ns", m.lock_wait_ns},
                   {"longest_wait_ns", m.longest_wait_ns},
                   {"timeouts", m.lock_timeouts}};
  const memstream_usage_t& u = snapshot.usage;
  json["limits"] = {{"rates", u.rates},
                    {"rate_capacity", u.rate_capacity},
                    {"semaphores", u.semaphores},
                    {"locks", u.locks},
                    {"permits", u.permits},
                    {"holders", u.holders},
                    {"holder_capacity", u.holder_capacity}};
  json["waiters"] = {{"change", u.change_waiters}, {"permit", u.permit_waiters}, {"lease", u.lease_waiters}};
  json["recovery_ns"] = m.recovery_ns;
  json["longest_recovery_ns"] = m.longest_recovery_ns;
  json["slow_reads"] = m.slow_reads;
  json["read_retries"] = m.read_retries;
  json["evicted_age_ms"] = histogram_json(m.evicted_age_ms);
  json["evicted_idle_ms"] = histogram_json(m.evicted_idle_ms);
  json["get_ns"] = histogram_json(m.get_ns);
  json["set_ns"] = histogram_json(m.set_ns);
  const Curve curve = curve_of(snapshot);
  Json points = Json::array();
  for (const CurvePoint& point : curve.points) {
    points.push_back({{"factor", point.factor}, {"size_bytes", point.size_bytes}, {"hit_ratio", point.hit_ratio}});
  }
  json["curve"] = {{"points", points},
                   {"error", curve.error},
                   {"sample_step", m.sample_step},
                   {"sampled_keys", m.sampled_keys},
                   {"sampled_references", m.sampled_references}};
  if (!snapshot.near.servers.empty()) json["near"] = as_json(snapshot.near);
  return json;
}

}  // namespace memstream::cli
