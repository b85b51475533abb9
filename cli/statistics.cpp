// Commands about a cache as a whole: stat, procs.
#include <fmt/format.h>
#include <signal.h>

#include <chrono>
#include <fstream>
#include <sstream>
#include <thread>

#include "cli/command.h"
#include "cli/text.h"

namespace memstream::cli {
namespace {

Json as_json(const memstream_info_t& info, const cache_stats_t& s) {
  return {{"backend", info.backend},
          {"name", info.name},
          {"time_ms", s.now_ms},
          {"created_at_ms", s.created_at_ms},
          {"read_only", info.read_only != 0},
          {"layout_version", info.layout_version},
          {"max_memory", s.max_memory},
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
          {"dead_processes", s.dead_processes},
          {"page_size", s.page_size},
          {"huge_pages", s.huge_pages}};
}

std::string render(const memstream_info_t& info, const cache_stats_t& s) {
  std::string text = fmt::format("{}:{}{}  {}, {} shards, {} processes, created {}\n\n", info.backend, info.name,
                                 info.read_only != 0 ? " (read-only)" : "", format_size(s.max_memory), s.shards,
                                 s.processes, format_instant(s.created_at_ms));
  const auto line = [&](const char* title, const std::string& rest) { text += fmt::format("{:<12}{}\n", title, rest); };
  line("hit ratio", fmt::format("{}  ({} hits, {} misses)", format_share(s.hits, s.hits + s.misses), s.hits, s.misses));
  line("entries", fmt::format("{}; keys {}, values {}; largest value {}", s.entries, format_size(s.key_memory),
                              format_size(s.value_memory), format_size(s.max_value_size)));
  line("memory", fmt::format("used {} ({}), committed {}, tables {}, pinned {}", format_size(s.used_memory),
                             format_share(s.used_memory, s.max_memory), format_size(s.committed_memory),
                             format_size(s.table_memory), format_size(s.pinned_memory)));
  line("operations",
       fmt::format("{} puts, {} deletes, {} evictions, {} expirations", s.puts, s.deletes, s.evictions, s.expirations));
  line("trouble", fmt::format("{} processes died, {} recoveries, {} damaged entries, {} times out of memory",
                              s.dead_processes, s.recoveries, s.damaged, s.commit_failures));
  return text;
}

// Rates between two looks.
std::string render_rates(const cache_stats_t& before, const cache_stats_t& now) {
  const double seconds = static_cast<double>(now.now_ms - before.now_ms) / 1000;
  const auto rate = [&](std::uint64_t from, std::uint64_t to) {
    return seconds > 0 && to >= from ? static_cast<double>(to - from) / seconds : 0.0;
  };
  const std::uint64_t hits = now.hits - before.hits;
  const std::uint64_t misses = now.misses - before.misses;
  return fmt::format("{:<20}{:>12.0f}{:>12.0f}{:>9}{:>12.0f}{:>12.0f}{:>12}{:>12}\n", format_instant(now.now_ms),
                     rate(before.hits + before.misses, now.hits + now.misses), rate(before.puts, now.puts),
                     format_share(hits, hits + misses), rate(before.evictions, now.evictions),
                     rate(before.expirations, now.expirations), now.entries, format_size(now.used_memory));
}

int watch(const Session& session, const Cache& cache, double seconds, std::uint64_t count) {
  if (!session.json) {
    fmt::print("{:<20}{:>12}{:>12}{:>9}{:>12}{:>12}{:>12}{:>12}\n", "TIME", "GETS/S", "PUTS/S", "HITS", "EVICTED/S",
               "EXPIRED/S", "ENTRIES", "USED");
  }
  cache_stats_t before = cache.stats();
  for (std::uint64_t look = 0; count == 0 || look < count; ++look) {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    const cache_stats_t now = cache.stats();
    if (session.json) {
      fmt::print("{}\n", as_json(cache.info(), now).dump());
    } else {
      fmt::print("{}", render_rates(before, now));
    }
    if (std::fflush(stdout) != 0) return kRefused;
    before = now;
  }
  return kDone;
}

int stat(const Session& session, double seconds, std::uint64_t count) {
  const Cache cache(session.target, Attach::kLook);
  if (seconds > 0) return watch(session, cache, seconds, count);
  const memstream_info_t info = cache.info();
  const cache_stats_t stats = cache.stats();
  print(session, as_json(info, stats), [&] { return render(info, stats); });
  return kDone;
}

// ---- procs ----

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

// "running", "stopped", "ended"; "?" where /proc shows nothing of it, as in another namespace.
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

int processes(const Session& session) {
  const Cache cache(session.target, Attach::kLook);
  Json rows = Json::array();
  Table table({"PID", "STATE", "GETS", "HITS", "PUTS", "VIEWS", "COMMAND"});
  for (const memstream_process_t& process : cache.processes()) {
    const std::string command = command_of(process.pid);
    const std::string condition = condition_of(process.pid);
    rows.push_back({{"pid", process.pid},
                    {"state", condition},
                    {"hits", process.hits},
                    {"misses", process.misses},
                    {"puts", process.puts},
                    {"pins", process.pins},
                    {"command", json_text(command)}});
    table.add({std::to_string(process.pid), condition, std::to_string(process.hits + process.misses),
               format_share(process.hits, process.hits + process.misses), std::to_string(process.puts),
               std::to_string(process.pins), printable(command, 60)});
  }
  print(session, {{"processes", rows}}, [&] { return table.render(); });
  return kDone;
}

}  // namespace

void add_statistics_commands(CLI::App& app, Session& session) {
  struct StatChoices {
    double seconds = 0;
    std::uint64_t count = 0;
  };
  CLI::App* command = add_command(app, session, "stat", "Show sizes, counters and the hit ratio of a cache",
                                  "  memstream stat\n  memstream stat --watch 1 --count 10");
  const auto chosen = std::make_shared<StatChoices>();
  command->add_option("--watch", chosen->seconds, "repeat every this many seconds, and print rates")
      ->check(CLI::PositiveNumber);
  command->add_option("--count", chosen->count, "with --watch: stop after this many lines")->check(CLI::PositiveNumber);
  command->callback([&session, chosen] {
    session.run = [&session, chosen] { return stat(session, chosen->seconds, chosen->count); };
  });

  CLI::App* procs = add_command(app, session, "procs", "List the attached processes", "  memstream procs --json");
  procs->callback([&session] { session.run = [&session] { return processes(session); }; });
}

}  // namespace memstream::cli
