// memstream-bench: throughput and latency of MemStream beside its alternatives, with real processes.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
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

struct Filled {
  std::string name;
  std::unique_ptr<Prepared> store;
};

std::vector<Filled> fill_stores(const std::vector<Contender>& contenders, const Environment& environment,
                                const DataSet& data) {
  std::vector<Filled> stores;
  for (const Contender& contender : contenders) {
    stores.push_back({contender.name, contender.prepare(environment, data)});
  }
  return stores;
}

// A cell and what each store came to in it, over all fillings.
struct Measured {
  Cell cell;
  std::vector<Outcome> outcomes;
};

// All cells of one data set and one number of processes: each store has its own workers, and the rounds of all stores
// alternate, so that whatever happens to the machine happens to all of them. `finish` is told of each cell, or empty.
void run_cells(const Plan& plan, const std::vector<Filled>& stores, const Draws& draws, std::span<Measured> cells,
               const std::function<void(const Measured&)>& finish) {
  std::vector<std::unique_ptr<Crowd>> crowds;
  for (const Filled& filled : stores) {
    const Cell& first = cells.front().cell;
    crowds.push_back(std::make_unique<Crowd>(*filled.store, first.data, first.processes, draws));
  }
  for (Measured& measured : cells) {
    auto& [cell, outcomes] = measured;
    outcomes.resize(stores.size());
    for (unsigned round = 0; round <= plan.rounds; ++round) {
      for (std::size_t i = 0; i < stores.size(); ++i) {
        const Round done = crowds[i]->run({cell.distribution, cell.get_percent, round}, plan.duration);
        outcomes[i].torn += done.torn;
        if (round == 0) continue;  // Warms up.
        outcomes[i].rates.push_back(done.operations_per_second);
        outcomes[i].slowest_to_mean.push_back(done.slowest_to_mean);
      }
    }
    for (std::size_t i = 0; i < stores.size(); ++i) {
      outcomes[i].contender = stores[i].name;
      crowds[i]->take_latencies(&outcomes[i].gets, &outcomes[i].puts);
      if (outcomes[i].torn != 0 && !stores[i].store->may_tear()) {
        throw std::runtime_error(
            fmt::format("{}: {} torn values in {}", stores[i].name, outcomes[i].torn, cell.name()));
      }
    }
    if (finish) finish(measured);
  }
}

// All cells of one data set. Where the pages of a store come to lie in memory is chance, and all rounds of one filling
// share it: so the stores are filled anew as often as the plan says. The last filling finishes each cell.
void run_data_set(const Plan& plan, const Environment& environment, const DataSet& data,
                  const std::function<void(const Measured&)>& finish) {
  const Draws draws(data.keys);
  std::vector<std::vector<Measured>> by_processes;
  for (const unsigned processes : plan.processes()) {
    std::vector<Measured> measured;
    for (const Cell& cell : plan.cells_of(data, processes)) measured.push_back({cell, {}});
    if (!measured.empty()) by_processes.push_back(std::move(measured));
  }
  for (unsigned left = plan.fills; left-- > 0;) {
    const std::vector<Filled> stores = fill_stores(plan.contenders, environment, data);
    for (std::vector<Measured>& cells : by_processes) {
      run_cells(plan, stores, draws, cells, left == 0 ? finish : nullptr);
    }
  }
}

int run(const Plan& plan, const std::string& json_path) {
  const Scratch scratch("bench");
  const Environment environment{scratch.path(), fmt::format("bench-{}", ::getpid())};
  const std::uint64_t clock_ns = measure_clock();
  nlohmann::json report = {{"machine", describe_machine()}, {"fills", plan.fills},
                           {"rounds", plan.rounds},         {"round_ms", plan.duration.count()},
                           {"clock_ns", clock_ns},          {"cells", nlohmann::json::array()}};
  const auto finish = [&](const Measured& measured) {
    print_table(measured.cell, measured.outcomes, clock_ns);
    std::fflush(stdout);
    report["cells"].push_back(to_json(measured.cell, measured.outcomes, clock_ns));
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
