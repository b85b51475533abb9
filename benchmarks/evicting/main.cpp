// memstream-evicting: what a cache costs that is being filled, or is full.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "benchmarks/c/interrupt.h"
#include "benchmarks/c/report.h"
#include "benchmarks/evicting/stores.h"

namespace memstream::bench {
namespace {

constexpr std::uint32_t kSeed = 20240229;  // Of who comes after whom.

struct Options {
  std::uint64_t megabytes = 256;
  unsigned fills = 3;
  unsigned rounds = 3;
  unsigned round_ms = 150;
  bool by_processor_time = false;
  std::string json_path;
};

struct Kind {
  const char* name;
  Order order;
};
const Kind kKinds[] = {
    {"puts of new keys", {Distribution::kUniform, 0, 0, false, true}},
    {"get or put, Zipf", {Distribution::kZipf, 0, 0}},
    {"get or put, uniform", {Distribution::kUniform, 0, 0}},
};
constexpr const char* kFilling = "filling an empty cache";

// By kind of access, then by cache.
struct Measured {
  std::map<std::string, std::vector<Outcome>> outcomes;
  std::map<std::string, std::vector<std::vector<double>>> hit_ratios;
};

std::vector<std::size_t> shuffled(std::size_t count, std::mt19937* random) {
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::shuffle(order.begin(), order.end(), *random);
  return order;
}

// One filling of every cache, then rounds in which caches and kinds of access take turns.
void measure(const Options& options, const Bounds& bounds, unsigned processes, std::mt19937* random,
             Measured* measured) {
  const std::vector<BoundedCache> caches = bounded_caches();
  const DataSet data = bounds.data();
  static const Draws none(1);  // The workers draw for themselves.
  std::vector<std::unique_ptr<Prepared>> stores(caches.size());
  std::vector<std::unique_ptr<Crowd>> crowds(caches.size());
  const auto note = [&](const std::string& kind, std::size_t which, const Round& round) {
    auto& outcomes = measured->outcomes[kind];
    outcomes.resize(caches.size());
    outcomes[which].contender = caches[which].name;
    outcomes[which].rates.push_back(round.operations_per_second);
    auto& hit_ratios = measured->hit_ratios[kind];
    hit_ratios.resize(caches.size());
    hit_ratios[which].push_back(round.hit_ratio);
  };
  const std::chrono::milliseconds by_count{0};
  for (const std::size_t which : shuffled(caches.size(), random)) {
    stores[which] = caches[which].make(fmt::format("evicting-{}", ::getpid()), bounds);
    crowds[which] = std::make_unique<Crowd>(*stores[which], data, processes, none);
    note(kFilling, which,
         crowds[which]->run(
             {Distribution::kUniform, 0, 0, options.by_processor_time, true, bounds.items_that_fit() / processes},
             by_count));
    crowds[which]->run({Distribution::kUniform, 0, 0, false, true, bounds.most_items() / processes}, by_count);
  }
  // Warms up by count: the cache then holds what the kind of access leaves in it, not what the one before it did.
  for (const Kind& kind : kKinds) {
    const std::chrono::milliseconds duration{options.round_ms};
    for (unsigned round = 0; round <= options.rounds; ++round) {
      for (const std::size_t which : shuffled(caches.size(), random)) {
        Order order = kind.order;
        order.by_processor_time = options.by_processor_time;
        if (round == 0) order.puts = 2 * bounds.most_items() / processes;
        const Round done = crowds[which]->run(order, round == 0 ? by_count : duration);
        if (round != 0) note(kind.name, which, done);
      }
    }
  }
}

nlohmann::json report_on(const std::string& kind, const Bounds& bounds, unsigned processes, const Measured& measured) {
  const std::vector<Outcome>& outcomes = measured.outcomes.at(kind);
  nlohmann::json contenders = nlohmann::json::array();
  fmt::print("{}, {} B, {} process{}\n  {:<16} {:>8} {:>8} {:>7} {:>6}\n", kind, bounds.value_size, processes,
             processes > 1 ? "es" : "", "", "Mops/s", "ns", "limit", "hits");
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    const double rate = median(outcomes[i].rates);
    const double hits = median(measured.hit_ratios.at(kind)[i]);
    contenders.push_back({{"name", outcomes[i].contender},
                          {"operations_per_second", outcomes[i].rates},
                          {"median", rate},
                          {"ns_of_a_process", 1e9 * processes / rate},
                          {"ratio_to_limit", ratio(outcomes[i], outcomes.front())},
                          {"hit_ratio", hits}});
    fmt::print("  {:<16} {:>8.3f} {:>8.0f} {:>7.2f} {:>6.3f}\n", outcomes[i].contender, rate / 1e6,
               1e9 * processes / rate, ratio(outcomes[i], outcomes.front()), hits);
  }
  return {{"access", kind},
          {"value_size", bounds.value_size},
          {"processes", processes},
          {"contenders", std::move(contenders)}};
}

void run(const Options& options) {
  nlohmann::json report = {{"machine", describe_machine()},
                           {"megabytes", options.megabytes},
                           {"fills", options.fills},
                           {"rounds", options.rounds},
                           {"round_ms", options.round_ms},
                           {"by_processor_time", options.by_processor_time},
                           {"evicting", nlohmann::json::array()}};
  std::mt19937 random(kSeed);
  for (const std::uint32_t value_size : {64U, 1024U}) {
    const Bounds bounds{options.megabytes << 20, value_size};
    for (const unsigned processes : {1U, 2U}) {
      Measured measured;
      for (unsigned fill = 0; fill < options.fills; ++fill) measure(options, bounds, processes, &random, &measured);
      report["evicting"].push_back(report_on(kFilling, bounds, processes, measured));
      for (const Kind& kind : kKinds) {
        report["evicting"].push_back(report_on(kind.name, bounds, processes, measured));
      }
      std::fflush(stdout);
    }
  }
  if (options.json_path.empty()) return;
  std::ofstream file(options.json_path);
  file << report.dump(1) << '\n';
  if (!file.flush()) throw std::runtime_error("cannot write " + options.json_path);
}

}  // namespace
}  // namespace memstream::bench

int main(int count, char** arguments) {
  using namespace memstream::bench;
  CLI::App app(
      "A cache that is being filled, and one that is full: MemStream beside sets of eight without any policy.");
  Options options;
  app.add_option("--megabytes", options.megabytes, "Size of each cache")
      ->check(CLI::Range(16, 4096))
      ->capture_default_str();
  app.add_option("--fills", options.fills, "Make and fill every cache anew so often")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  app.add_option("--rounds", options.rounds, "Rounds of each kind after each filling")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  app.add_option("--round-ms", options.round_ms, "Duration of a round")
      ->check(CLI::Range(1, 60'000))
      ->capture_default_str();
  app.add_flag("--processor-time", options.by_processor_time,
               "Operations by second of the processor, not of the clock on the wall: for a machine that others use");
  app.add_option("--json", options.json_path, "Write the figures to this file");
  CLI11_PARSE(app, count, arguments);
  note_interrupts();
  try {
    run(options);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "memstream-evicting: {}\n", error.what());
    return 1;
  }
}
