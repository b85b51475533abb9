// memstream limits: the rate limits and semaphores that are in use.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "api/memstream_limits.h"
#include "cli/command.h"
#include "cli/snapshot.h"
#include "cli/text.h"

namespace memstream::cli {
namespace {

std::vector<memstream_limit_info_t> limits_of(const Cache& cache) {
  std::vector<memstream_limit_info_t> limits(64);
  for (;;) {
    std::size_t count = 0;
    require_ok(memstream_limits(cache.get(), limits.data(), limits.size(), &count));
    const bool had_room = count <= limits.size();
    limits.resize(count);
    if (had_room) break;
  }
  // Holders first, then the rates that take longest.
  std::sort(limits.begin(), limits.end(), [](const memstream_limit_info_t& a, const memstream_limit_info_t& b) {
    if (a.kind != b.kind) return a.kind == MEMSTREAM_LIMIT_PERMITS;
    return a.restored_in_ms > b.restored_in_ms;
  });
  return limits;
}

std::string describe_use(const memstream_limit_info_t& limit) {
  if (limit.kind == MEMSTREAM_LIMIT_RATE) {
    return fmt::format("one per {}; restored in {}", format_nanoseconds(limit.interval_ns),
                       format_duration(limit.restored_in_ms));
  }
  return fmt::format("for {} by {} ({}) {}", format_duration(limit.held_for_ms), limit.pid, condition_of(limit.pid),
                     command_of(limit.pid));
}

int show(const Session& session) {
  const Cache cache(session.target, Attach::kLook);
  Json rates = Json::array();
  Json permits = Json::array();
  Table table({"NAME", "KIND", "USED", "OF", "USE"});
  for (const memstream_limit_info_t& limit : limits_of(cache)) {
    const std::string_view name = limit.label;
    const bool is_rate = limit.kind == MEMSTREAM_LIMIT_RATE;
    Json row{{"name", json_text(name)}, {"used", limit.used}};
    if (is_rate) {
      row.update({{"burst", limit.most}, {"interval_ns", limit.interval_ns}, {"restored_in_ms", limit.restored_in_ms}});
    } else {
      row.update({{"permits", limit.most},
                  {"pid", limit.pid},
                  {"state", condition_of(limit.pid)},
                  {"held_for_ms", limit.held_for_ms}});
    }
    (is_rate ? rates : permits).push_back(row);
    table.add({printable(name),
               is_rate           ? "rate"
               : limit.most == 1 ? "lock"
                                 : "semaphore",
               fmt::format("{}", limit.used), fmt::format("{}", limit.most), describe_use(limit)});
  }
  const bool is_empty = rates.empty() && permits.empty();
  print(session, {{"rates", rates}, {"permits", permits}}, [&] {
    return is_empty ? std::string("No rate is used up in part, and nobody holds a semaphore or a lock.\n")
                    : table.render();
  });
  return 0;
}

}  // namespace

void add_limit_command(CLI::App& app, Session& session) {
  CLI::App* const limits = add_command(app, session, "limits", "List the rate limits, semaphores and locks in use",
                                       "  memstream limits\n  memstream limits --json");
  limits->callback([&session] { session.run = [&session] { return show(session); }; });
}

}  // namespace memstream::cli
