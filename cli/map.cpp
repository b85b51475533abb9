// Commands that show where things lie: scan, a part of the entries at a time; map, the segment drawn.
#include <fmt/format.h>

#include <algorithm>

#include "cli/command.h"
#include "cli/survey.h"
#include "cli/text.h"

namespace memstream::cli {
namespace {

// ---- scan ----

int scan(const Session& session, std::uint64_t cursor, std::size_t count, const std::string& pattern) {
  const Cache cache(session.target, Attach::kLook);
  std::vector<memstream_entry_t> entries(count);
  std::size_t found = 0;
  require_ok(memstream_scan(cache.get(), &cursor, entries.data(), entries.size(), &found));
  entries.resize(found);
  std::erase_if(entries, [&](const memstream_entry_t& entry) { return !matches(pattern, key_of(entry)); });
  Json keys = Json::array();
  for (const memstream_entry_t& entry : entries) keys.push_back(json_text(key_of(entry)));
  print(session, {{"cursor", cursor}, {"keys", keys}}, [&] {
    std::string text;
    for (const memstream_entry_t& entry : entries) text += printable(key_of(entry)) + '\n';
    return text + fmt::format("next: {}\n", cursor);
  });
  return kDone;
}

// ---- map ----

constexpr std::size_t kRowCells = 64;

struct Map {
  std::vector<BlockRange> blocks;  // In order.
  std::uint64_t size_bytes = 0;
  std::uint64_t live_bytes = 0;
  std::uint64_t largest_gap_bytes = 0;  // Between two live blocks.
};

Map make_map(const Cache& cache) {
  Map map;
  map.size_bytes = cache.stats().max_memory;
  cache.scan([&](const memstream_entry_t& entry) {
    map.blocks.push_back(block_of(entry, map.size_bytes));
    map.live_bytes += entry.stored_size;
    return true;
  });
  std::sort(map.blocks.begin(), map.blocks.end(),
            [](const BlockRange& a, const BlockRange& b) { return a.begin < b.begin; });
  for (std::size_t i = 1; i < map.blocks.size(); ++i) {
    const std::uint64_t end = map.blocks[i - 1].end;
    if (map.blocks[i].begin > end) map.largest_gap_bytes = std::max(map.largest_gap_bytes, map.blocks[i].begin - end);
  }
  return map;
}

int draw(const Session& session, std::size_t rows) {
  const Cache cache(session.target, Attach::kLook);
  const Map map = make_map(cache);
  const cache_stats_t stats = cache.stats();
  FillMap cells(map.size_bytes, rows * kRowCells);
  for (const BlockRange& block : map.blocks) cells.add(block);
  const std::vector<double> fill = cells.parts();
  const std::uint64_t rest =
      map.size_bytes - std::min(map.size_bytes, map.live_bytes + stats.table_memory + stats.pinned_memory);
  const Json json = {{"size_bytes", map.size_bytes},
                     {"live_bytes", map.live_bytes},
                     {"table_bytes", stats.table_memory},
                     {"pinned_bytes", stats.pinned_memory},
                     {"other_bytes", rest},
                     {"largest_gap_bytes", map.largest_gap_bytes},
                     {"max_value_size", stats.max_value_size},
                     {"fill", fill}};
  print(session, json, [&] {
    constexpr std::string_view kShades = ".:-=+*%#";
    std::string text;
    for (std::size_t cell = 0; cell < fill.size(); ++cell) {
      const double part = fill[cell];
      text += part == 0 ? ' ' : kShades[std::min(kShades.size() - 1, static_cast<std::size_t>(part * 8))];
      if ((cell + 1) % kRowCells == 0) text.insert(text.size() - kRowCells, "|"), text += "|\n";
    }
    return text +
           fmt::format(
               "Each cell is {}; {} is all live, blank has nothing live.\n"
               "live {} ({}), tables {}, pinned {}, headers and free {}\n"
               "The largest gap between values has {}. A value may have {}; the cache evicts and moves for it.\n",
               format_size(map.size_bytes / fill.size()), kShades.back(), format_size(map.live_bytes),
               format_share(map.live_bytes, map.size_bytes), format_size(stats.table_memory),
               format_size(stats.pinned_memory), format_size(rest), format_size(map.largest_gap_bytes),
               format_size(stats.max_value_size));
  });
  return kDone;
}

}  // namespace

void add_map_commands(CLI::App& app, Session& session) {
  struct ScanChoices {
    std::uint64_t cursor = 0;
    std::size_t count = 100;
    std::string pattern;
  };
  CLI::App* scanning =
      add_look_command(app, session, "scan", "List a part of the keys, and where the next part begins",
                       "  memstream scan\n  memstream scan --cursor 8192 --count 1000 --match 'user:*'");
  const auto part = std::make_shared<ScanChoices>();
  scanning->add_option("--cursor", part->cursor, "0, or what the last call printed as next");
  scanning->add_option("--count", part->count, "how many keys to look at, at most")
      ->capture_default_str()
      ->check(CLI::Range(1, 100'000));
  scanning->add_option("--match", part->pattern, "keys that match this shell pattern");
  scanning->callback([&session, part] {
    session.run = [&session, part] { return scan(session, part->cursor, part->count, part->pattern); };
  });

  CLI::App* map = add_look_command(app, session, "map", "Draw the segment: where values lie, and the largest gap",
                                   "  memstream map\n  memstream map --rows 32");
  const auto rows = std::make_shared<std::size_t>(16);
  map->add_option("--rows", *rows, "lines of 64 cells")->capture_default_str()->check(CLI::Range(1, 1000));
  map->callback([&session, rows] { session.run = [&session, rows] { return draw(session, *rows); }; });
}

}  // namespace memstream::cli
