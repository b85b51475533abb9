#include "benchmarks/c/plan.h"

#include <algorithm>
#include <sstream>
#include <stdexcept>

namespace memstream::bench {
namespace {

// No data set is larger than this: there are fewer keys where the values are large, so that all contenders can be full
// at the same time.
constexpr std::uint64_t kMaxDataBytes = std::uint64_t{1200} << 20;
constexpr std::uint64_t kMaxQuickBytes = std::uint64_t{128} << 20;

std::vector<Cell> cells_of_size(std::uint32_t keys, std::uint32_t value_size, bool full) {
  const std::uint64_t most = (full ? kMaxDataBytes : kMaxQuickBytes) / (value_size + kKeySize);
  const DataSet data{static_cast<std::uint32_t>(std::min<std::uint64_t>(keys, most)), value_size};
  const std::vector<unsigned> processes = full ? std::vector<unsigned>{1, 2, 4, 16} : std::vector<unsigned>{1, 2};
  const std::vector<Distribution> distributions =
      full ? std::vector{Distribution::kUniform, Distribution::kZipf} : std::vector{Distribution::kZipf};
  std::vector<Cell> cells;
  for (const unsigned count : processes) {
    for (const Distribution distribution : distributions) {
      for (const unsigned get_percent : {100U, 95U, 50U, 0U}) cells.push_back({data, distribution, get_percent, count});
    }
  }
  return cells;
}

std::vector<Cell> all_cells(bool full) {
  std::vector<Cell> cells;
  const auto add = [&](std::uint32_t keys, std::uint32_t value_size) {
    const std::vector<Cell> more = cells_of_size(keys, value_size, full);
    cells.insert(cells.end(), more.begin(), more.end());
  };
  add(100'000, 64);
  if (full) add(1'000'000, 64);
  add(100'000, 1024);
  if (full) add(1'000'000, 1024);
  add(100'000, 64 << 10);
  add(100'000, 1 << 20);
  return cells;
}

// Those of the table that says which part of the limit MemStream has: gets by size, number and distribution of keys,
// and shares of puts; more processes than cores last.
std::vector<Cell> yardstick_cells() {
  constexpr auto kZipf = Distribution::kZipf;
  std::vector<Cell> cells;
  const auto add = [&](DataSet data, Distribution distribution, unsigned get_percent, std::vector<unsigned> processes) {
    for (const unsigned count : processes) cells.push_back({data, distribution, get_percent, count});
  };
  for (const DataSet data : {DataSet{100'000, 64}, DataSet{100'000, 1024}, DataSet{1'000'000, 64}}) {
    add(data, kZipf, 100, {1, 2});
    add(data, Distribution::kUniform, 100, {1, 2});
    if (data.keys == 100'000) add(data, kZipf, 0, {2});
  }
  add({100'000, 64}, kZipf, 50, {2});
  add({100'000, 64}, kZipf, 95, {2, 4, 16});
  add({1'000, 64}, kZipf, 100, {1});
  return cells;
}

std::vector<Cell> cells_of(const PlanOptions& options) {
  return options.yardstick ? yardstick_cells() : all_cells(options.full);
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, '/');) parts.push_back(part);
  return parts;
}

template <class T>
std::vector<T> without_repeats(std::vector<T> values) {
  std::vector<T> kept;
  for (const T& value : values) {
    if (std::find(kept.begin(), kept.end(), value) == kept.end()) kept.push_back(value);
  }
  return kept;
}

// The yardsticks, MemStream through its small interface, and the fastest of the other libraries.
const std::vector<std::string> kYardstickContenders = {
    "limit", "fenced", "seqlock", "memstream-posix-cache", "memstream-sysv-cache", "tdb"};

std::vector<Contender> choose_contenders(const PlanOptions& options) {
  const std::vector<std::string>& wanted =
      options.yardstick && options.contenders.empty() ? kYardstickContenders : options.contenders;
  std::vector<Contender> chosen;
  std::string names;
  for (Contender& contender : all_contenders()) {
    names += " " + contender.name;
    const bool is_wanted = wanted.empty() || std::find(wanted.begin(), wanted.end(), contender.name) != wanted.end();
    const bool other_backend = !options.backend.empty() && contender.name.starts_with("memstream-") &&
                               !contender.name.starts_with("memstream-" + options.backend);
    if (is_wanted && !other_backend) chosen.push_back(std::move(contender));
  }
  if (!options.backend.empty() && names.find("memstream-" + options.backend) == std::string::npos) {
    throw std::invalid_argument("there is no backend '" + options.backend + "'; there are:" + names);
  }
  if (chosen.empty()) throw std::invalid_argument("no such contender; there are:" + names);
  return chosen;
}

}  // namespace

void add_plan_options(CLI::App* app, PlanOptions* options) {
  auto* quick =
      app->add_flag("--quick", options->quick, "100,000 keys, Zipf, 1 and 2 processes, 3 short rounds (the default)");
  auto* full = app->add_flag("--full", options->full, "Every cell, 5 rounds; needs a quiet machine with 24 GiB");
  auto* yardstick = app->add_flag("--yardstick", options->yardstick,
                                  "The cells and contenders of the table beside the limit, 5 rounds of 100 ms");
  full->excludes(quick);
  yardstick->excludes(quick)->excludes(full);
  app->add_option("--backend", options->backend, "Only this backend of MemStream");
  app->add_option("--contender", options->contenders, "Only this contender (may be repeated)");
  app->add_option("--cell", options->cells, "Only cells with these parts, as in size=64/processes=2 (may be repeated)");
  app->add_option("--fills", options->fills,
                  "Make and fill every store anew so often: all rounds of one filling share its luck")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app->add_option("--rounds", options->rounds, "Rounds of each contender in each cell, after each filling")
      ->check(CLI::Range(1, 1000));
  app->add_flag("--processor-time", options->by_processor_time,
                "Operations by second of the processor, not of the clock on the wall: for a machine that others use");
  app->add_option("--round-ms", options->round_ms, "Duration of a round")->check(CLI::Range(1, 60'000));
}

bool cell_matches(const std::string& filter, const Cell& cell) {
  const std::vector<std::string> has = split(cell.name());
  const std::vector<std::string> wants = split(filter);
  return std::all_of(wants.begin(), wants.end(),
                     [&](const std::string& want) { return std::find(has.begin(), has.end(), want) != has.end(); });
}

Plan make_plan(const PlanOptions& options) {
  Plan plan;
  plan.contenders = choose_contenders(options);
  plan.fills = options.fills;
  plan.by_processor_time = options.by_processor_time;
  plan.rounds = options.rounds != 0 ? options.rounds : options.full || options.yardstick ? 5 : 3;
  const unsigned usual_ms = options.full ? 200 : options.yardstick ? 100 : 50;
  plan.duration = std::chrono::milliseconds(options.round_ms != 0 ? options.round_ms : usual_ms);
  for (const Cell& cell : cells_of(options)) {
    const bool is_wanted =
        options.cells.empty() || std::any_of(options.cells.begin(), options.cells.end(),
                                             [&](const auto& filter) { return cell_matches(filter, cell); });
    if (is_wanted) plan.cells.push_back(cell);
  }
  if (plan.cells.empty()) {
    throw std::invalid_argument("no such cell; one is called " + cells_of(options).front().name());
  }
  return plan;
}

std::vector<DataSet> Plan::data_sets() const {
  std::vector<DataSet> sets;
  for (const Cell& cell : cells) sets.push_back(cell.data);
  return without_repeats(sets);
}

std::vector<unsigned> Plan::processes_of(const DataSet& data) const {
  std::vector<unsigned> counts;
  for (const Cell& cell : cells) {
    if (cell.data == data) counts.push_back(cell.processes);
  }
  return without_repeats(counts);
}

std::vector<std::vector<Cell>> Plan::groups_of(const DataSet& data) const {
  std::vector<std::vector<Cell>> groups;
  for (const Cell& cell : cells) {
    if (cell.data != data) continue;
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const std::vector<Cell>& group) {
      return group.front().distribution == cell.distribution && group.front().get_percent == cell.get_percent;
    });
    (same != groups.end() ? *same : groups.emplace_back()).push_back(cell);
  }
  return groups;
}

}  // namespace memstream::bench
