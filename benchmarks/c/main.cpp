// memstream-bench: throughput and latency of MemStream beside its alternatives, with real processes.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#include "benchmarks/c/contender.h"
#include "benchmarks/c/crowd.h"
#include "benchmarks/c/interrupt.h"
#include "benchmarks/c/plan.h"
#include "benchmarks/c/report.h"
#include "benchmarks/c/worker.h"
#include "benchmarks/support/scratch.h"

namespace memstream::bench {
namespace {

// What it costs to time a call: the median of many that are empty.
std::uint64_t measure_clock() {
  Histogram histogram{};
  for (int i = 0; i < 100'000; ++i) {
    const std::uint64_t before = now_ns();
    histogram.add(now_ns() - before);
  }
  return histogram.quantile(0.5);
}

constexpr std::uint32_t kSeed = 20240229;  // Of who comes after whom.

struct Filled {
  std::string name;
  std::unique_ptr<Prepared> store;
};

// The numbers from 0 on, in any order.
std::vector<std::size_t> shuffled(std::size_t count, std::mt19937* random) {
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::shuffle(order.begin(), order.end(), *random);
  return order;
}

// In another order each time: who comes first gets the scattered pages, and who comes last those that lie together.
std::vector<Filled> fill_stores(const std::vector<Contender>& contenders, const Environment& environment,
                                const DataSet& data, std::mt19937* random) {
  std::vector<Filled> stores(contenders.size());
  for (const std::size_t i : shuffled(stores.size(), random)) {
    stores[i] = {contenders[i].name, contenders[i].prepare(environment, data)};
  }
  return stores;
}

// A cell and what each store came to in it, over all fillings.
struct Measured {
  Cell cell;
  std::vector<Outcome> outcomes;
};

// The workers of every store, by number of processes.
using Crowds = std::map<unsigned, std::vector<std::unique_ptr<Crowd>>>;

Crowds start_crowds(const std::vector<Filled>& stores, const Draws& draws, const DataSet& data,
                    const std::vector<unsigned>& processes) {
  Crowds crowds;
  for (const unsigned count : processes) {
    for (const Filled& filled : stores) {
      crowds[count].push_back(std::make_unique<Crowd>(*filled.store, data, count, draws));
    }
  }
  return crowds;
}

// Cells that differ in the number of processes alone. The rounds of all numbers and all stores alternate, so that
// whatever happens to the machine happens to all of them; in another order each time, since who comes after whom finds
// its own lines in the processor's caches or not: with the limit always first the others came to some percent less.
void run_cells(const Plan& plan, const std::vector<Filled>& stores, Crowds& crowds, std::mt19937* random,
               std::vector<Measured>* cells) {
  for (unsigned round = 0; round <= plan.rounds; ++round) {
    for (const std::size_t which : shuffled(cells->size(), random)) {
      auto& [cell, outcomes] = cells->at(which);
      outcomes.resize(stores.size());
      for (const std::size_t i : shuffled(stores.size(), random)) {
        Crowd& crowd = *crowds.at(cell.processes)[i];
        const Round done =
            crowd.run({cell.distribution, cell.get_percent, round, plan.by_processor_time}, plan.duration);
        outcomes[i].torn += done.torn;
        if (round == 0) continue;  // Warms up.
        outcomes[i].rates.push_back(done.operations_per_second);
        outcomes[i].slowest_to_mean.push_back(done.slowest_to_mean);
      }
    }
  }
  for (auto& [cell, outcomes] : *cells) {
    for (std::size_t i = 0; i < stores.size(); ++i) {
      outcomes[i].contender = stores[i].name;
      crowds.at(cell.processes)[i]->take_latencies(&outcomes[i].gets, &outcomes[i].puts);
      if (outcomes[i].torn != 0 && !stores[i].store->may_tear()) {
        throw std::runtime_error(
            fmt::format("{}: {} torn values in {}", stores[i].name, outcomes[i].torn, cell.name()));
      }
    }
  }
}

// All cells of one data set. Where the pages of a store come to lie in memory is chance, and all rounds of one filling
// share it: so the stores are filled anew as often as the plan says. `finish` is told of what differs in the number of
// processes alone, after the last filling.
void run_data_set(const Plan& plan, const Environment& environment, const DataSet& data,
                  const std::function<void(const std::vector<Measured>&)>& finish) {
  const Draws draws(data.keys);
  std::mt19937 random(kSeed);
  std::vector<std::vector<Measured>> groups;
  for (const std::vector<Cell>& cells : plan.groups_of(data)) {
    groups.emplace_back();
    for (const Cell& cell : cells) groups.back().push_back({cell, {}});
  }
  for (unsigned left = plan.fills; left-- > 0;) {
    const std::vector<Filled> stores = fill_stores(plan.contenders, environment, data, &random);
    Crowds crowds = start_crowds(stores, draws, data, plan.processes_of(data));
    for (std::vector<Measured>& cells : groups) {
      run_cells(plan, stores, crowds, &random, &cells);
      if (left == 0) finish(cells);
    }
  }
}

int run(const Plan& plan, const std::string& json_path) {
  const Scratch scratch("bench");
  const Environment environment{scratch.path(), fmt::format("bench-{}", ::getpid())};
  const std::uint64_t clock_ns = measure_clock();
  nlohmann::json report = {
      {"machine", describe_machine()},     {"fills", plan.fills},  {"rounds", plan.rounds},
      {"round_ms", plan.duration.count()}, {"clock_ns", clock_ns}, {"by_processor_time", plan.by_processor_time},
      {"cells", nlohmann::json::array()}};
  const auto finish = [&](const std::vector<Measured>& cells) {
    const std::vector<Outcome>* of_two = nullptr;
    for (const Measured& measured : cells) {
      if (measured.cell.processes == 2) of_two = &measured.outcomes;
    }
    for (const Measured& measured : cells) {
      print_table(measured.cell, measured.outcomes, of_two, clock_ns);
      report["cells"].push_back(to_json(measured.cell, measured.outcomes, of_two, clock_ns));
    }
    std::fflush(stdout);
  };
  for (const DataSet& data : plan.data_sets()) run_data_set(plan, environment, data, finish);
  if (!json_path.empty()) {
    std::ofstream file(json_path);
    file << report.dump(1) << '\n';
    if (!file.flush()) throw std::runtime_error("cannot write " + json_path);
  }
  return 0;
}

}  // namespace
}  // namespace memstream::bench

int main(int count, char** arguments) {
  using namespace memstream::bench;
  CLI::App app("Throughput and latency of MemStream beside its alternatives, with real processes.");
  PlanOptions options;
  std::string json_path;
  add_plan_options(&app, &options);
  app.add_option("--json", json_path, "Write everything that was measured to this file");
  CLI11_PARSE(app, count, arguments);
  note_interrupts();
  try {
    return run(make_plan(options), json_path);
  } catch (const std::exception& error) {
    fmt::print(stderr, "memstream-bench: {}\n", error.what());
    return 1;
  }
}
