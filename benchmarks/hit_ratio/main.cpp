// memstream-hit-ratio: which part of the requests of a trace a cache answers, by policy and by size.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "benchmarks/hit_ratio/policy.h"
#include "benchmarks/hit_ratio/real_cache.h"

namespace memstream::bench {
namespace {

struct Options {
  std::vector<std::string> traces;    // Names of generated ones.
  std::vector<std::string> files;     // Traces in text.
  std::vector<std::string> policies;  // Empty: all.
  std::vector<double> percents = {0.1, 1, 10, 20, 40};
  std::uint32_t scale = 100'000;
  std::uint64_t seed = kDefaultSeed;
  std::uint32_t shards = 0;
  std::uint32_t object_bytes = 0;  // 0: as the trace has them.
  std::string json_path;
  bool without_real = false;
};

constexpr const char* kReal = "memstream";

std::vector<PolicyKind> choose_policies(const Options& options) {
  std::vector<PolicyKind> chosen;
  std::string names;
  std::vector<PolicyKind> policies = all_policies();
  if (options.shards != 0) policies.push_back(sharded_fifo(options.shards));
  for (PolicyKind& policy : policies) {
    names += " " + policy.name;
    const auto& wanted = options.policies;
    if (wanted.empty() || std::find(wanted.begin(), wanted.end(), policy.name) != wanted.end()) {
      chosen.push_back(std::move(policy));
    }
  }
  if (chosen.empty()) throw std::invalid_argument("no such policy; there are:" + names);
  return chosen;
}

nlohmann::json to_json(const HitRatio& ratio) { return {{"objects", ratio.objects()}, {"bytes", ratio.bytes_ratio()}}; }

nlohmann::json run_trace(const Options& options, const std::vector<PolicyKind>& policies, const Trace& trace) {
  nlohmann::json rows = nlohmann::json::object();
  const std::uint64_t footprint = trace.footprint_bytes();
  const std::vector<double> percents = trace.percent != 0 ? std::vector<double>{trace.percent} : options.percents;
  fmt::print("{}: {} requests, {} objects, {:.1f} MB\n  {:<14}", trace.name, trace.requests.size(), trace.sizes.size(),
             static_cast<double>(footprint) / 1e6, "hits, bytes %");
  for (const double percent : percents) fmt::print(" {:>13}", fmt::format("at {} %", percent));
  fmt::print("\n");
  const auto print_row = [&](const std::string& name, const auto& cell_of) {
    fmt::print("  {:<14}", name);
    nlohmann::json row = nlohmann::json::array();
    for (const double percent : percents) {
      const nlohmann::json cell = cell_of(static_cast<std::uint64_t>(static_cast<double>(footprint) * percent / 100));
      row.push_back(cell);
      fmt::print(" {:>13}", cell.is_null() ? "-"
                                           : fmt::format("{:.2f} {:.2f}", cell["objects"].get<double>() * 100,
                                                         cell["bytes"].get<double>() * 100));
    }
    fmt::print("\n");
    std::fflush(stdout);
    rows[name] = row;
  };
  for (const PolicyKind& policy : policies) {
    print_row(policy.name, [&](std::uint64_t capacity) { return to_json(simulate(policy, capacity, trace)); });
  }
  if (!options.without_real) {
    print_row(kReal, [&](std::uint64_t capacity) -> nlohmann::json {
      const std::optional<RealReplay> real = replay_through_library(capacity, trace, options.shards);
      if (!real) return nullptr;
      nlohmann::json cell = to_json(real->ratio);
      cell["capacity_bytes"] = capacity;
      cell["held_bytes"] = real->held_bytes;
      cell["segment_bytes"] = real->segment_bytes;
      return cell;
    });
  }
  return {{"trace", trace.name},           {"requests", trace.requests.size()},
          {"objects", trace.sizes.size()}, {"footprint_bytes", footprint},
          {"percents", percents},          {"policies", rows}};
}

int run(const Options& options) {
  const std::vector<PolicyKind> policies = choose_policies(options);
  nlohmann::json report = {{"traces", nlohmann::json::array()}};
  for (const std::string& file : options.files) {
    std::ifstream text(file);
    if (!text) throw std::runtime_error("cannot read " + file);
    report["traces"].push_back(run_trace(options, policies, read_trace(text, file)));
  }
  std::vector<std::string> names = options.traces;
  if (names.empty() && options.files.empty()) names = generated_names();
  for (const std::string& name : names) {
    Trace trace = generate(name, options.scale, options.seed);
    if (options.object_bytes != 0) std::fill(trace.sizes.begin(), trace.sizes.end(), options.object_bytes);
    report["traces"].push_back(run_trace(options, policies, trace));
  }
  if (!options.json_path.empty()) {
    std::ofstream file(options.json_path);
    file << report.dump(1) << '\n';
    if (!file.flush()) throw std::runtime_error("cannot write " + options.json_path);
  }
  return 0;
}

}  // namespace
}  // namespace memstream::bench

int main(int count, char** arguments) {
  using namespace memstream::bench;
  CLI::App app("Hit ratios of the library and of reference policies on a trace, by size of the cache.");
  Options options;
  app.add_option("--trace", options.traces,
                 "A generated trace: zipf, scan, lag-30 and others, as benchmarks/hit_ratio/trace.h lists them");
  app.add_option("--file", options.files, "A trace in text, lines of key,size[,ttl in requests]");
  app.add_option("--policy", options.policies, "Only this policy (may be repeated)");
  app.add_option("--percent", options.percents, "Sizes of the cache in percent of the footprint")
      ->delimiter(',')
      ->check(CLI::Range(0.001, 100.0));
  app.add_option("--scale", options.scale, "Objects of a generated trace")->check(CLI::Range(100, 10'000'000));
  app.add_option("--seed", options.seed, "Of the generated traces");
  app.add_option("--shards", options.shards,
                 "Of the library's segment (default: as it chooses); adds the policy fifo-shards, a FIFO for each")
      ->check(CLI::Range(1, 64));
  app.add_option("--object-bytes", options.object_bytes, "Key and value of each object of a generated trace")
      ->check(CLI::Range(16, 16 << 20));
  app.add_flag("--simulate-only", options.without_real, "Leave out the replay through libcache.so");
  app.add_option("--json", options.json_path, "Write the figures to this file");
  CLI11_PARSE(app, count, arguments);
  try {
    return run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "memstream-hit-ratio: {}\n", error.what());
    return 1;
  }
}
