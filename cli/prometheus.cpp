// A snapshot in the text format of Prometheus.
#include <fmt/format.h>

#include <iterator>

#include "cli/snapshot.h"

namespace memstream::cli {
namespace {

// Bounds of a histogram are powers of two from 2^first to 2^last units: the engine's buckets begin there.
struct Bounds {
  int first;
  int last;
  double unit_seconds;
};
constexpr Bounds kAges{6, 36, 1e-3};
constexpr Bounds kLatencies{6, 30, 1e-9};

class Page {
 public:
  Page(const std::string& name, const std::string& backend)
      : labels_(fmt::format("cache=\"{}\",backend=\"{}\"", name, backend)) {}

  void begin(const char* name, const char* type, const char* help) {
    name_ = name;
    text_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
  }
  template <class Number>
  void sample(Number value, const std::string& labels = "", const char* suffix = "") {
    const std::string comma = labels.empty() ? "" : ",";
    text_ += fmt::format("{}{}{{{}{}{}}} {}\n", name_, suffix, labels_, comma, labels, value);
  }
  template <class Number>
  void single(const char* name, const char* type, const char* help, Number value) {
    begin(name, type, help);
    sample(value);
  }
  // The sum is that of the middles of the engine's buckets.
  void histogram(const char* name, const char* help, Histogram histogram, const Bounds& bounds) {
    begin(name, "histogram", help);
    std::uint64_t below = 0;
    double sum = 0;
    std::size_t bucket = 0;
    for (int power = bounds.first; power <= bounds.last; ++power) {
      const std::uint64_t bound = std::uint64_t{1} << power;
      for (; bucket < histogram.size() && memstream_bucket_bound(bucket) < bound; ++bucket) below += histogram[bucket];
      sample(below, fmt::format("le=\"{}\"", static_cast<double>(bound) * bounds.unit_seconds), "_bucket");
    }
    sample(total(histogram), "le=\"+Inf\"", "_bucket");
    for (std::size_t i = 0; i < histogram.size(); ++i) {
      const double middle =
          static_cast<double>(memstream_bucket_bound(i)) / 2 + static_cast<double>(memstream_bucket_bound(i + 1)) / 2;
      sum += static_cast<double>(histogram[i]) * middle * bounds.unit_seconds;
    }
    sample(sum, "", "_sum");
    sample(total(histogram), "", "_count");
  }

  const std::string& text() const { return text_; }

 private:
  std::string labels_;
  std::string name_;
  std::string text_;
};

std::string quoted(const char* text) {
  std::string quoted;
  for (const char* at = text; *at != '\0'; ++at) {
    if (*at == '"' || *at == '\\') quoted += '\\';
    quoted += static_cast<unsigned char>(*at) < ' ' ? '?' : *at;
  }
  return quoted;
}

// Caches with other prefixes may have the same name of a server: its number tells them apart.
void add_near(Page& page, const NearSnapshot& near) {
  for (const NearCount& count : kNearCounts) {
    page.single(fmt::format("memstream_near_{}_total", count.name).c_str(), "counter", count.help,
                near.counts.*count.count);
  }
  const auto add = [&](const char* name, const char* type, const char* help, auto value_of) {
    page.begin(name, type, help);
    for (std::size_t i = 0; i < near.servers.size(); ++i) {
      page.sample(value_of(near.servers[i]),
                  fmt::format("server=\"{}\",number=\"{}\"", quoted(near.servers[i].label), i));
    }
  };
  using Server = memstream_near_core_state_t;
  add("memstream_near_lag_seconds", "gauge", "Since the server was heard; +Inf: never.", [](const Server& server) {
    return server.lag_ms == kNeverHeard ? std::string("+Inf")
                                        : fmt::format("{}", static_cast<double>(server.lag_ms) / 1000);
  });
  add("memstream_near_agent_pid", "gauge", "Process with the agent of the server; 0: none.",
      [](const Server& server) { return server.agent_pid; });
  add("memstream_near_epochs_total", "counter", "Times at which all copies of the server ended.",
      [](const Server& server) { return server.advances; });
  add("memstream_near_invalidations_total", "counter", "Keys of the server that changed.",
      [](const Server& server) { return server.invalidations; });
  add("memstream_near_subscriptions_total", "counter", "Connections that agents have made to hear the server.",
      [](const Server& server) { return server.subscriptions; });
}

double seconds(std::uint64_t ns) { return static_cast<double>(ns) * 1e-9; }

}  // namespace

std::string as_prometheus(const Snapshot& snapshot) {
  const cache_stats_t& s = snapshot.stats;
  const memstream_metrics_t& m = snapshot.metrics;
  Page page(snapshot.name, snapshot.backend);
  page.begin("memstream_commands_total", "counter", "Calls by command and status.");
  for (std::size_t kind = 0; kind < std::size(kOperationNames); ++kind) {
    for (std::size_t outcome = 0; outcome < std::size(kOutcomeNames); ++outcome) {
      // Those that come first are always there, so that a rate can be taken from the first one on.
      if (m.outcomes[kind][outcome] == 0 && outcome > MEMSTREAM_MISSED) continue;
      page.sample(m.outcomes[kind][outcome],
                  fmt::format("command=\"{}\",status=\"{}\"", kOperationNames[kind], kOutcomeNames[outcome]));
    }
  }
  page.begin("memstream_evicted_total", "counter", "Entries evicted although their time had not come, by cause.");
  for (std::size_t i = 0; i < kEvictionCauses; ++i) {
    page.sample(m.removals[i], fmt::format("cause=\"{}\"", kRemovalNames[i]));
  }
  page.begin("memstream_removed_total", "counter", "Entries removed for another reason, by cause.");
  for (std::size_t i = kEvictionCauses; i < std::size(kRemovalNames); ++i) {
    page.sample(m.removals[i], fmt::format("cause=\"{}\"", kRemovalNames[i]));
  }
  page.single("memstream_invalidations_total", "counter", "Invalidations of a tag.", snapshot.invalidations);
  const memstream_usage_t& u = snapshot.usage;
  page.single("memstream_rate_limits", "gauge", "Keys that have used up a part of their rate.", u.rates);
  page.single("memstream_rate_limit_capacity", "gauge", "Places for such keys.", u.rate_capacity);
  page.single("memstream_semaphores", "gauge", "Semaphores of which a process holds a permit.", u.semaphores);
  page.single("memstream_locks", "gauge", "Locks that a process holds.", u.locks);
  page.single("memstream_permits", "gauge", "Permits of semaphores and locks that processes hold.", u.permits);
  page.single("memstream_permit_holders", "gauge", "Places taken: one for each name that a handle holds.", u.holders);
  page.single("memstream_permit_holder_capacity", "gauge", "Places for holders.", u.holder_capacity);
  page.begin("memstream_waiters", "gauge", "Threads that sleep, by what they wait for.");
  page.sample(u.change_waiters, "for=\"change\"");
  page.sample(u.permit_waiters, "for=\"permit\"");
  page.sample(u.lease_waiters, "for=\"lease\"");
  page.single("memstream_entries", "gauge", "Live entries.", s.entries);
  page.single("memstream_current_bytes", "gauge", "Bytes of live entries and of tables.",
              s.used_memory + s.table_memory);
  page.single("memstream_limit_bytes", "gauge", "Bytes of the segment.", s.max_memory);
  page.single("memstream_reachable_bytes", "gauge", "Bytes of it that the system can give.", s.reachable_memory);
  page.single("memstream_committed_bytes", "gauge", "Bytes that the system has given.", s.committed_memory);
  page.single("memstream_pinned_bytes", "gauge", "Bytes that only views and reservations keep.", s.pinned_memory);
  page.single("memstream_attached_processes", "gauge", "Processes that are attached and alive.", s.processes);
  page.single("memstream_dead_processes_total", "counter", "Processes that ended without leaving.", s.dead_processes);
  page.single("memstream_commit_failures_total", "counter", "Times the system refused memory.", s.commit_failures);
  page.single("memstream_view_copies_total", "counter", "Views that were copied for lack of a pin.", s.view_copies);
  page.single("memstream_lock_waits_total", "counter", "Waits for the lock of a shard.", m.lock_waits);
  page.single("memstream_lock_wait_seconds_total", "counter", "Time of these waits.", seconds(m.lock_wait_ns));
  page.single("memstream_lock_wait_longest_seconds", "gauge", "The longest of them.", seconds(m.longest_wait_ns));
  page.single("memstream_lock_timeouts_total", "counter", "Waits that ended at the deadline.", m.lock_timeouts);
  page.single("memstream_recoveries_total", "counter", "Repairs of a shard after a death.", m.recoveries);
  page.single("memstream_recovery_seconds_total", "counter", "Time of these repairs.", seconds(m.recovery_ns));
  page.single("memstream_slow_reads_total", "counter", "Reads that took a lock or a redo record.", m.slow_reads);
  page.single("memstream_read_retries_total", "counter", "Looks that had to be repeated.", m.read_retries);
  page.histogram("memstream_eviction_age_seconds", "Time since evicted values were stored.", m.evicted_age_ms, kAges);
  page.histogram("memstream_eviction_idle_seconds", "Time since evicted entries were read.", m.evicted_idle_ms, kAges);
  page.histogram("memstream_get_duration_seconds", "Time of gets of sampled keys.", m.get_ns, kLatencies);
  page.histogram("memstream_set_duration_seconds", "Time of stores of sampled keys.", m.set_ns, kLatencies);
  const Curve curve = curve_of(snapshot);
  if (!curve.points.empty()) {
    page.begin("memstream_estimated_hit_ratio", "gauge", "Hit ratio at another size, from a sample, by factor.");
    for (const CurvePoint& point : curve.points) {
      page.sample(point.hit_ratio, fmt::format("factor=\"{}\"", point.factor));
    }
  }
  if (!snapshot.near.servers.empty()) add_near(page, snapshot.near);
  return page.text();
}

}  // namespace memstream::cli
