// Commands that walk over all keys: keys, hotkeys, bigkeys, prefixes, histogram. They count no access.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <thread>

#include "cli/command.h"
#include "cli/survey.h"
#include "cli/text.h"

namespace memstream::cli {
namespace {

constexpr std::size_t kKeyWidth = 60;
constexpr std::size_t kBarWidth = 40;

std::string ttl_of(const memstream_entry_t& entry, std::uint64_t now_ms) {
  if (entry.expires_at_ms == 0) return "never";
  return format_duration(entry.expires_at_ms > now_ms ? entry.expires_at_ms - now_ms : 0);
}

std::string age_of(std::uint64_t instant_ms, std::uint64_t now_ms) {
  return format_duration(now_ms > instant_ms ? now_ms - instant_ms : 0);
}

// ---- keys ----

int list_keys(const Session& session, const std::string& pattern, std::uint64_t limit, bool is_long) {
  const Cache cache(session.target, Attach::kLook);
  const std::uint64_t now_ms = cache.stats().now_ms;
  std::uint64_t found = 0;
  Json rows = Json::array();
  Table table({"KEY", "SIZE", "GETS", "AGE", "IDLE", "TTL"});
  cache.scan([&](const memstream_entry_t& entry) {
    if (!matches(pattern, key_of(entry))) return true;
    if (limit != 0 && found == limit) return false;
    ++found;
    if (session.json) {
      rows.push_back(entry_json(entry));
    } else if (is_long) {
      table.add({printable(key_of(entry), kKeyWidth), format_size(entry.value_size), std::to_string(entry.access_count),
                 age_of(entry.created_at_ms, now_ms), age_of(entry.last_access_ms, now_ms), ttl_of(entry, now_ms)});
    } else {
      fmt::print("{}\n", printable(key_of(entry)));
    }
    return true;
  });
  if (session.json || is_long) print(session, {{"keys", rows}}, [&] { return table.render(); });
  return found != 0 ? kDone : kMissOrFinding;
}

// ---- the highest of some measure ----

int list_top(const Session& session, std::size_t limit, TopEntries::Measure measure) {
  const Cache cache(session.target, Attach::kLook);
  const std::uint64_t now_ms = cache.stats().now_ms;
  TopEntries highest(limit, measure);
  cache.scan([&](const memstream_entry_t& entry) {
    highest.add(entry);
    return true;
  });
  const std::vector<memstream_entry_t> top = highest.sorted();
  Json rows = Json::array();
  Table table({"KEY", "GETS", "SIZE", "AGE", "IDLE", "TTL"});
  for (const memstream_entry_t& entry : top) {
    rows.push_back(entry_json(entry));
    table.add({printable(key_of(entry), kKeyWidth), std::to_string(entry.access_count), format_size(entry.value_size),
               age_of(entry.created_at_ms, now_ms), age_of(entry.last_access_ms, now_ms), ttl_of(entry, now_ms)});
  }
  print(session, {{"keys", rows}}, [&] { return table.render(); });
  return top.empty() ? kMissOrFinding : kDone;
}

// ---- the hottest now ----

int list_rates(const Session& session, std::size_t limit, double seconds) {
  const Cache cache(session.target, Attach::kLook);
  const auto begin = std::chrono::steady_clock::now();
  const std::vector<memstream_entry_t> before = cache.hot_keys();
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  const std::vector<memstream_entry_t> now = cache.hot_keys();
  const double passed = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::vector<HotKey> keys = hot_keys_between(before, now, passed);
  keys.resize(std::min(limit, keys.size()));
  Json rows = Json::array();
  Table table({"KEY", "GETS/S", "GETS", "SIZE"});
  for (const HotKey& key : keys) {
    Json row = entry_json(key.entry);
    row["gets_per_s"] = key.gets_per_s;
    rows.push_back(row);
    table.add({printable(key_of(key.entry), kKeyWidth), fmt::format("{:.0f}", key.gets_per_s),
               std::to_string(key.entry.access_count), format_size(key.entry.value_size)});
  }
  print(session, {{"keys", rows}}, [&] { return table.render(); });
  return keys.empty() ? kMissOrFinding : kDone;
}

// ---- prefixes ----

int list_prefixes(const Session& session, const std::string& separator, std::size_t limit) {
  const Cache cache(session.target, Attach::kLook);
  PrefixGroups groups({separator});
  cache.scan([&](const memstream_entry_t& entry) {
    groups.add(entry);
    return true;
  });
  auto sorted = groups.sorted();
  if (limit != 0 && sorted.size() > limit) sorted.resize(limit);
  Json rows = Json::array();
  Table table({"PREFIX", "ENTRIES", "BYTES", "SHARE", "GETS"});
  for (const auto& [prefix, group] : sorted) {
    rows.push_back({{"prefix", json_text(prefix)},
                    {"entries", group.entries},
                    {"stored_bytes", group.stored_bytes},
                    {"accesses", group.accesses}});
    table.add({prefix.empty() ? "(no prefix)" : printable(prefix, kKeyWidth), std::to_string(group.entries),
               format_size(group.stored_bytes), format_share(group.stored_bytes, groups.all().stored_bytes),
               std::to_string(group.accesses)});
  }
  print(session, {{"prefixes", rows}}, [&] { return table.render(); });
  return sorted.empty() ? kMissOrFinding : kDone;
}

// ---- histogram ----

int show_histogram(const Session& session, const std::string& what) {
  const Cache cache(session.target, Attach::kLook);
  const auto of = std::find(std::begin(kSpreadNames), std::end(kSpreadNames), what) - std::begin(kSpreadNames);
  Spread spread(static_cast<Spread::Of>(of), cache.stats().now_ms);
  cache.scan([&](const memstream_entry_t& entry) {
    spread.add(entry);
    return true;
  });
  std::uint64_t largest = spread.never();
  for (const auto& [below, count] : spread.buckets()) largest = std::max(largest, count);
  std::string text;
  const auto line = [&](const std::string& label, std::uint64_t count) {
    text += fmt::format(
        "{:>12}  {:>10}  {}\n", label, count,
        bar(static_cast<double>(count) / static_cast<double>(std::max<std::uint64_t>(largest, 1)), kBarWidth));
  };
  for (const auto& [below, count] : spread.buckets()) {
    line("< " + (what == "size" ? format_size(below) : format_duration(below)), count);
  }
  if (spread.never() != 0) line("never", spread.never());
  print(session, spread.json(), [&] { return text; });
  return kDone;
}

}  // namespace

void add_key_commands(CLI::App& app, Session& session) {
  struct KeysChoices {
    std::string pattern;
    std::uint64_t limit = 0;
    bool is_long = false;
  };
  CLI::App* keys = add_look_command(app, session, "keys", "List keys, in no particular order",
                                    "  memstream keys --match 'user:*' --limit 20\n  memstream keys --long");
  const auto wanted = std::make_shared<KeysChoices>();
  keys->add_option("--match", wanted->pattern, "a shell pattern: *, ?, [a-z]");
  keys->add_option("--limit", wanted->limit, "stop after this many keys")->check(CLI::PositiveNumber);
  keys->add_flag("--long", wanted->is_long, "with size, gets, age, idle time and time to live");
  keys->callback([&session, wanted] {
    session.run = [&session, wanted] { return list_keys(session, wanted->pattern, wanted->limit, wanted->is_long); };
  });

  const auto add_top = [&](const char* name, const char* description, TopEntries::Measure measure) {
    CLI::App* top = add_look_command(app, session, name, description, fmt::format("  memstream {} --limit 20", name));
    const auto limit = std::make_shared<std::size_t>(10);
    top->add_option("--limit", *limit, "how many")->capture_default_str()->check(CLI::PositiveNumber);
    top->callback([&session, limit, measure] {
      session.run = [&session, limit, measure] { return list_top(session, *limit, measure); };
    });
    return std::pair{top, limit};
  };
  const auto [hot, hot_limit] =
      add_top("hotkeys", "List the keys with most gets", [](const memstream_entry_t& e) { return e.access_count; });
  const auto seconds = std::make_shared<double>(0);
  hot->add_option("--rate", *seconds, "rank by gets a second, watched for so many seconds; finds the keys by a sample")
      ->check(CLI::PositiveNumber);
  hot->callback([&session, limit = hot_limit, seconds] {
    session.run = [&session, limit, seconds] {
      if (*seconds > 0) return list_rates(session, *limit, *seconds);
      return list_top(session, *limit, [](const memstream_entry_t& e) { return e.access_count; });
    };
  });
  add_top("bigkeys", "List the keys with the largest values", [](const memstream_entry_t& e) { return e.value_size; });

  struct PrefixChoices {
    std::string separator = ":";
    std::size_t limit = 20;
  };
  CLI::App* prefixes = add_look_command(app, session, "prefixes", "Sum up entries and bytes by prefix",
                                        "  memstream prefixes\n  memstream prefixes --sep / --limit 5");
  const auto cut = std::make_shared<PrefixChoices>();
  prefixes->add_option("--sep", cut->separator, "where a prefix ends")->capture_default_str();
  prefixes->add_option("--limit", cut->limit, "how many")->capture_default_str()->check(CLI::PositiveNumber);
  prefixes->callback([&session, cut] {
    if (cut->separator.empty()) {
      throw CLI::ValidationError("--sep", "Invalid --sep '': expected at least one character.");
    }
    session.run = [&session, cut] { return list_prefixes(session, cut->separator, cut->limit); };
  });

  CLI::App* histogram = add_look_command(app, session, "histogram", "Show how sizes, ages or times are spread",
                                         "  memstream histogram size\n  memstream histogram idle --json");
  const auto what = std::make_shared<std::string>();
  histogram->add_option("of", *what, "size, age, ttl or idle")
      ->required()
      ->check(CLI::IsMember({"size", "age", "ttl", "idle"}));
  histogram->callback([&session, what] { session.run = [&session, what] { return show_histogram(session, *what); }; });
}

}  // namespace memstream::cli
