// memstream-histories: records what concurrent clients do to a cache and are told, some of them killed at work, and
// decides for each history whether it is linearizable.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "tests/histories/client.h"
#include "tests/histories/linearizability.h"
#include "tests/histories/recording.h"

namespace memstream::histories {
namespace {

using nlohmann::ordered_json;

constexpr std::size_t kMostFindings = 10;  // More of the same say no more, and each costs its time.

struct Totals {
  std::uint64_t histories = 0;
  std::uint64_t operations = 0;
  std::uint64_t deaths = 0;
  std::uint64_t unknown = 0;
  std::uint64_t recoveries = 0;
  std::uint64_t evictions = 0;
  std::uint64_t configurations = 0;
  std::vector<std::string> findings;
};

void run_one(const RecordingPlan& plan, Totals& totals) {
  const Recording recording = record_history(plan);
  ++totals.histories;
  totals.operations += recording.history.size();
  totals.deaths += recording.deaths;
  totals.unknown += recording.unknown;
  totals.recoveries += recording.recoveries;
  totals.evictions += recording.evictions;
  std::string finding = recording.complaint;
  const Judgement judgement = check_history(recording.history, plan.keys, {.evicts = plan.evicts});
  totals.configurations += judgement.configurations;
  if (judgement.verdict == Verdict::kNot) finding += judgement.explanation;
  if (judgement.verdict == Verdict::kUndecided) finding += "the search did not come to an end";
  if (!finding.empty()) totals.findings.push_back(fmt::format("history {}: {}", plan.seed, finding));
}

Totals run(RecordingPlan plan, std::uint64_t histories) {
  Totals totals;
  const std::uint64_t first_seed = plan.seed;
  for (; totals.histories < histories && totals.findings.size() < kMostFindings; ++plan.seed) run_one(plan, totals);
  if (plan.evicts && totals.evictions == 0 && totals.findings.empty()) {
    totals.findings.push_back("nothing was evicted, so that these histories say nothing about eviction");
  }
  fmt::print(
      "{:5}  {} histories from seed {}  {} operations  {} clients killed  {} outcomes unknown  {} recoveries  "
      "{} evictions  {} configurations  findings {}\n",
      plan.backend, totals.histories, first_seed, totals.operations, totals.deaths, totals.unknown, totals.recoveries,
      totals.evictions, totals.configurations, totals.findings.size());
  for (const std::string& finding : totals.findings) fmt::print("FINDING: {}\n", finding);
  std::fflush(stdout);
  return totals;
}

ordered_json json_of(const RecordingPlan& plan, const Totals& totals) {
  return {{"backend", plan.backend},
          {"clients", plan.clients},
          {"operations", plan.operations},
          {"keys", plan.keys},
          {"evicts", plan.evicts},
          {"seed", plan.seed},
          {"histories", totals.histories},
          {"operations_in_all", totals.operations},
          {"clients_killed", totals.deaths},
          {"outcomes_unknown", totals.unknown},
          {"recoveries", totals.recoveries},
          {"evictions", totals.evictions},
          {"configurations", totals.configurations},
          {"findings", totals.findings}};
}

int run(int argument_count, char** arguments) {
  CLI::App app(
      "Records histories of concurrent clients and checks that each is linearizable; exit code 1 if one is not.");
  RecordingPlan plan;
  std::uint64_t histories = 100;
  std::string backend = "both";
  std::string json_path;
  app.add_option("--histories", histories, "how many, on each backend")->capture_default_str();
  app.add_option("--clients", plan.clients, "processes")->check(CLI::Range(1U, kMostClients))->capture_default_str();
  app.add_option("--operations", plan.operations, "of each client")
      ->check(CLI::Range(1U, kMostOperations - 1))
      ->capture_default_str();
  app.add_option("--keys", plan.keys, "that all clients share")->check(CLI::Range(1U, 1000U))->capture_default_str();
  app.add_option("--deaths", plan.most_deaths, "clients killed at work in one history, at most")->capture_default_str();
  app.add_flag("--evict", plan.evicts, "in a cache that is too small: a key may vanish at any moment");
  app.add_option("--backend", backend, "sysv, posix or both")
      ->check(CLI::IsMember({"sysv", "posix", "both"}))
      ->capture_default_str();
  app.add_option("--seed", plan.seed, "of the first history; the next ones follow")->capture_default_str();
  app.add_option("--json", json_path, "write the figures to this file too");
  CLI11_PARSE(app, argument_count, arguments);

  ordered_json report = ordered_json::array();
  bool is_clean = true;
  for (const std::string& one : backend == "both" ? std::vector<std::string>{"sysv", "posix"} : std::vector{backend}) {
    plan.backend = one;
    const Totals totals = run(plan, histories);
    is_clean = is_clean && totals.findings.empty();
    report.push_back(json_of(plan, totals));
  }
  if (!json_path.empty()) {
    std::ofstream file(json_path);
    if (!(file << report.dump(2) << '\n')) throw std::runtime_error("cannot write " + json_path);
  }
  return is_clean ? 0 : 1;
}

}  // namespace
}  // namespace memstream::histories

int main(int argument_count, char** arguments) {
  try {
    return memstream::histories::run(argument_count, arguments);
  } catch (const std::exception& error) {
    std::cerr << "memstream-histories: " << error.what() << '\n';
    return 2;
  }
}
