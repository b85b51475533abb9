// Commands about a cache as a whole: stat, metrics, advise, procs.
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <sstream>
#include <thread>

#include "cli/command.h"
#include "cli/snapshot.h"
#include "cli/text.h"

namespace memstream::cli {
namespace {

std::string share_of_causes(const memstream_metrics_t& metrics) {
  std::string text;
  for (std::size_t cause = 0; cause < kEvictionCauses; ++cause) {
    if (metrics.removals[cause] == 0) continue;
    text += fmt::format("{}{} for {}", text.empty() ? "" : ", ", metrics.removals[cause], kRemovalNames[cause]);
  }
  return text.empty() ? "none" : text;
}

std::string quantiles(Histogram histogram, const std::function<std::string(std::uint64_t)>& format) {
  if (total(histogram) == 0) return "not sampled yet";
  return fmt::format("median {}, 99 % {}, 99.9 % {}", format(*quantile(histogram, 0.5)),
                     format(*quantile(histogram, 0.99)), format(*quantile(histogram, 0.999)));
}

std::string render(const Snapshot& snapshot) {
  const cache_stats_t& s = snapshot.stats;
  const memstream_metrics_t& m = snapshot.metrics;
  const memstream_usage_t& u = snapshot.usage;
  std::string text = fmt::format("{}:{}{}  {}, {} shards, {} processes, created {}\n\n", snapshot.backend,
                                 snapshot.name, snapshot.read_only ? " (read-only)" : "", format_size(s.max_memory),
                                 s.shards, s.processes, format_instant(s.created_at_ms));
  const auto line = [&](const char* title, const std::string& rest) { text += fmt::format("{:<12}{}\n", title, rest); };
  const auto time = [](std::uint64_t ns) { return format_nanoseconds(ns); };
  line("hit ratio", fmt::format("{}  ({} hits, {} misses)", format_share(s.hits, s.hits + s.misses), s.hits, s.misses));
  line("entries", fmt::format("{}; keys {}, values {}; largest value {}", s.entries, format_size(s.key_memory),
                              format_size(s.value_memory), format_size(s.max_value_size)));
  line("memory", fmt::format("used {} ({}), committed {}, tables {}, pinned {}", format_size(s.used_memory),
                             format_share(s.used_memory, s.max_memory), format_size(s.committed_memory),
                             format_size(s.table_memory), format_size(s.pinned_memory)));
  line("operations",
       fmt::format("{} puts, {} deletes, {} evictions, {} expirations", s.puts, s.deletes, s.evictions, s.expirations));
  if (snapshot.invalidations != 0) line("tags", fmt::format("{} invalidations", snapshot.invalidations));
  if (u.rate_capacity != 0) {
    line("limits", fmt::format("{} of {} rates, {} semaphores, {} locks; {} permits in {} of {} places", u.rates,
                               u.rate_capacity, u.semaphores, u.locks, u.permits, u.holders, u.holder_capacity));
  }
  line("waiters", fmt::format("{} for a change, {} for a permit, {} for a lease", u.change_waiters, u.permit_waiters,
                              u.lease_waiters));
  line("evictions", share_of_causes(m));
  if (const auto idle = quantile(m.evicted_idle_ms, 0.5)) {
    line("", fmt::format("half of them not read for {} or less, stored {} ago or less", format_duration(*idle),
                         format_duration(quantile(m.evicted_age_ms, 0.5).value_or(0))));
  }
  line("get", quantiles(m.get_ns, time));
  line("set", quantiles(m.set_ns, time));
  line("locks",
       fmt::format("{} waits, {} in total, the longest {}; {} timeouts; {} slow reads, {} retries", m.lock_waits,
                   time(m.lock_wait_ns), time(m.longest_wait_ns), m.lock_timeouts, m.slow_reads, m.read_retries));
  line("trouble", fmt::format("{} processes died, {} recoveries ({}), {} damaged entries, {} times out of memory",
                              s.dead_processes, s.recoveries, time(m.recovery_ns), s.damaged, s.commit_failures));
  const memstream_near_core_counts_t& near = snapshot.near.counts;
  if (!snapshot.near.servers.empty()) {
    line("near cache",
         fmt::format("{} hits, {} fills, {} conflicts, {} merged, {} bypasses, {} stale, {} errors", near.hits,
                     near.fills, near.conflicts, near.merged, near.bypasses, near.stale, near.errors));
  }
  for (const memstream_near_core_state_t& server : snapshot.near.servers) {
    const std::string agent = server.agent_pid == 0 ? "no agent" : fmt::format("agent {}", server.agent_pid);
    const std::string heard =
        server.lag_ms == kNeverHeard ? "never heard" : fmt::format("heard {} ago", format_duration(server.lag_ms));
    line("", fmt::format("{}: {}, {}, {} invalidations, {} epochs, {} subscriptions", printable(server.label, 60),
                         agent, heard, server.invalidations, server.advances, server.subscriptions));
  }
  return text;
}

std::string render(const Snapshot& now, const Interval& interval) {
  return fmt::format("{:<20}{:>12.0f}{:>12.0f}{:>9}{:>12.0f}{:>12.0f}{:>12}{:>12}\n", format_instant(now.stats.now_ms),
                     interval.gets_per_s, interval.puts_per_s, format_share(interval.hits, interval.gets),
                     interval.evictions_per_s, interval.expirations_per_s, now.stats.entries,
                     format_size(now.stats.used_memory));
}

int watch(const Session& session, const Cache& cache, double seconds, std::uint64_t count) {
  if (!session.json) {
    fmt::print("{:<20}{:>12}{:>12}{:>9}{:>12}{:>12}{:>12}{:>12}\n", "TIME", "GETS/S", "PUTS/S", "HITS", "EVICTED/S",
               "EXPIRED/S", "ENTRIES", "USED");
  }
  Snapshot before = take_snapshot(cache);
  for (std::uint64_t look = 0; count == 0 || look < count; ++look) {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    Snapshot now = take_snapshot(cache);
    if (session.json) {
      fmt::print("{}\n", as_json(now).dump());
    } else {
      fmt::print("{}", render(now, between(before, now)));
    }
    if (std::fflush(stdout) != 0) return kRefused;
    before = std::move(now);
  }
  return kDone;
}

int stat(const Session& session, double seconds, std::uint64_t count) {
  const Cache cache(session.target, Attach::kLook);
  if (seconds > 0) return watch(session, cache, seconds, count);
  const Snapshot snapshot = take_snapshot(cache);
  print(session, as_json(snapshot), [&] { return render(snapshot); });
  return kDone;
}

// ---- metrics, advise ----

int show_metrics(const Session& session) {
  const Cache cache(session.target, Attach::kLook);
  const Snapshot snapshot = take_snapshot(cache);
  print(session, as_json(snapshot), [&] { return as_prometheus(snapshot); });
  return kDone;
}

int advise(const Session& session) {
  const Cache cache(session.target, Attach::kLook);
  const Snapshot snapshot = take_snapshot(cache);
  const Curve curve = curve_of(snapshot);
  const std::vector<Advice> advice = advice_for(snapshot);
  Json json = {{"curve", as_json(snapshot)["curve"]}, {"advice", Json::array()}};
  for (const Advice& one : advice) json["advice"].push_back({{"what", one.what}, {"why", one.why}});
  print(session, json, [&] {
    std::string text;
    if (!curve.points.empty()) {
      Table table({"SIZE", "HITS", ""});
      for (const CurvePoint& point : curve.points) {
        table.add({format_size(point.size_bytes), fmt::format("{:.1f} %", 100 * point.hit_ratio),
                   fmt::format("{:<40}", bar(point.hit_ratio, 40))});
      }
      text = table.render() + '\n';
    }
    for (const Advice& one : advice) text += fmt::format("{}\n    {}\n", one.what, one.why);
    return text;
  });
  return kDone;
}

// ---- procs ----

}  // namespace

std::string command_of(std::uint32_t pid) {
  std::ifstream file(fmt::format("/proc/{}/cmdline", pid), std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  std::string command = text.str();
  for (char& character : command) {
    if (character == '\0') character = ' ';
  }
  while (!command.empty() && command.back() == ' ') command.pop_back();
  return command;
}

std::string condition_of(std::uint32_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text;
  std::getline(file, text);
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos || name_end + 2 >= text.size()) {
    return kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH ? "ended" : "?";
  }
  const char state = text[name_end + 2];
  return state == 'T' || state == 't' ? "stopped" : state == 'Z' || state == 'X' ? "ended" : "running";
}

namespace {

// A sentence that says what dead processes held.
std::string story_of(const memstream_reap_report_t& report) {
  const bool is_nothing = (report.processes | report.pins | report.leases | report.locks | report.freed_bytes) == 0;
  if (is_nothing) return "Dead processes held nothing.\n";
  return fmt::format("Freed what dead processes held: {} process slots, {} views, {} leases, {} locks, {}.\n",
                     report.processes, report.pins, report.leases, report.locks, format_size(report.freed_bytes));
}

int processes(const Session& session, bool reaps) {
  const Cache cache(session.target, reaps ? Attach::kWrite : Attach::kLook);
  memstream_reap_report_t report{};
  report.struct_size = sizeof report;
  if (reaps) require_ok(memstream_reap(cache.get(), &report));
  const std::vector<memstream_process_t> processes = cache.processes();
  const std::vector<memstream_lock_holder_t> locks = cache.locks();
  Table table({"PID", "STATE", "GETS", "HITS", "PUTS", "VIEWS", "HOLDS", "COMMAND"});
  for (const memstream_process_t& process : processes) {
    table.add({std::to_string(process.pid), condition_of(process.pid), std::to_string(process.hits + process.misses),
               format_share(process.hits, process.hits + process.misses), std::to_string(process.puts),
               std::to_string(process.pins), locks_of(locks, process.pid), printable(command_of(process.pid), 60)});
  }
  Json all = {{"processes", processes_json(processes, locks)}, {"locks", Json::array()}};
  std::string others;  // Locks of processes that have no slot, or none that this process can tell.
  for (const memstream_lock_holder_t& lock : locks) {
    all["locks"].push_back(lock_json(lock));
    if (std::none_of(processes.begin(), processes.end(), [&](const auto& one) { return one.pid == lock.pid; })) {
      others += lock.pid == 0 ? fmt::format("Thread {}", lock.tid)
                              : fmt::format("Process {} ({})", lock.pid, condition_of(lock.pid));
      others += fmt::format(" holds the {}.\n", name_of(lock));
    }
  }
  if (reaps) {
    all["reaped"] = {{"processes", report.processes},
                     {"pins", report.pins},
                     {"leases", report.leases},
                     {"locks", report.locks},
                     {"freed_bytes", report.freed_bytes}};
  }
  print(session, all, [&] { return (reaps ? story_of(report) : "") + table.render() + others; });
  return kDone;
}

}  // namespace

void add_statistics_commands(CLI::App& app, Session& session) {
  struct StatChoices {
    double seconds = 0;
    std::uint64_t count = 0;
  };
  CLI::App* command = add_look_command(app, session, "stat", "Show sizes, counters and the hit ratio of a cache",
                                       "  memstream stat\n  memstream stat --watch 1 --count 10");
  const auto chosen = std::make_shared<StatChoices>();
  command->add_option("--watch", chosen->seconds, "repeat every this many seconds, and print rates")
      ->check(CLI::PositiveNumber);
  command->add_option("--count", chosen->count, "with --watch: stop after this many lines")->check(CLI::PositiveNumber);
  command->callback([&session, chosen] {
    session.run = [&session, chosen] { return stat(session, chosen->seconds, chosen->count); };
  });

  CLI::App* metrics = add_look_command(app, session, "metrics", "Print all metrics in the text format of Prometheus",
                                       "  memstream metrics > /var/lib/node_exporter/memstream.prom");
  metrics->callback([&session] { session.run = [&session] { return show_metrics(session); }; });

  CLI::App* advisor =
      add_look_command(app, session, "advise", "Estimate the hit ratio of other sizes, and find problems",
                       "  memstream advise --name sessions");
  advisor->callback([&session] { session.run = [&session] { return advise(session); }; });

  CLI::App* procs = add_look_command(app, session, "procs", "List the attached processes",
                                     "  memstream procs --json\n  memstream procs --reap");
  const auto reaps = std::make_shared<bool>(false);
  procs->add_flag("--reap", *reaps, "free what dead processes hold, and say what that was");
  procs->callback([&session, reaps] { session.run = [&session, reaps] { return processes(session, *reaps); }; });
}

}  // namespace memstream::cli
