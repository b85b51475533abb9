// memstream-costs: what does not happen in every operation. "memory" and "cold"; figures as JSON and as text.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <exception>
#include <fstream>
#include <nlohmann/json.hpp>

#include "benchmarks/c/interrupt.h"
#include "benchmarks/c/report.h"
#include "benchmarks/costs/cold.h"
#include "benchmarks/costs/memory.h"
#include "benchmarks/costs/scale.h"
#include "benchmarks/support/scratch.h"

namespace memstream::bench {
namespace {

void print(const nlohmann::json& one) {
  fmt::print("  {:<16}", one["store"].get<std::string>());
  for (const auto& [name, value] : one.items()) {
    if (name == "store") continue;
    if (value.is_number()) fmt::print(" {} {:.6g}", name, value.get<double>());
    if (value.is_array()) {
      for (const auto& stretch : value) {
        fmt::print(" {}:{:.3f}", stretch["value_size"].get<std::uint64_t>(), stretch["live_share"].get<double>());
      }
    }
  }
  fmt::print("\n");
}

struct Options {
  std::vector<std::string> backends;
  std::uint64_t megabytes = 256;
  unsigned entries = 1'000'000;
  unsigned rounds = 5;
  ScaleLimits scale;
  std::string json_path;
};

void measure_memory(const Options& options, nlohmann::json* report) {
  const Scratch scratch("costs");
  const auto add = [&](const char* part, nlohmann::json one) {
    print(one);
    (*report)[part].push_back(std::move(one));
  };
  fmt::print("memory beside keys and values, {} MiB of 13-byte keys and 64-byte values\n", options.megabytes);
  for (const std::string& backend : options.backends) {
    add("overhead", measure_overhead(backend, options.megabytes << 20));
  }
  add("overhead", measure_memcached_overhead(options.megabytes << 20, scratch.path()));
  fmt::print("live part of the heap while sizes shift, at the end of each stretch\n");
  for (const std::string& backend : options.backends) {
    add("shifting_sizes", measure_shifting_sizes(backend, options.megabytes << 20));
  }
}

void measure_cold(const Options& options, nlohmann::json* report) {
  fmt::print("what happens once\n");
  for (const std::string& backend : options.backends) {
    for (nlohmann::json one :
         {measure_connecting(backend, options.rounds * 4), measure_rebuild(backend, options.entries, options.rounds)}) {
      print(one);
      (*report)["cold"].push_back(std::move(one));
    }
  }
}

void measure_growth(const Options& options, nlohmann::json* report) {
  for (const std::string& backend : options.backends) {
    const nlohmann::json measured = measure_scale(backend, options.scale, options.rounds);
    for (const auto& point : measured["points"]) (*report)["scale"].push_back(point);
    for (const auto& words : measured["left_out"]) (*report)["left_out"].push_back(words);
  }
}

}  // namespace
}  // namespace memstream::bench

int main(int count, char** arguments) {
  using namespace memstream::bench;
  CLI::App app("What does not happen in every operation: memory for an item, connecting, recovering.");
  Options options;
  app.fallthrough();  // The options may follow the subcommand.
  auto* memory = app.add_subcommand("memory", "Overhead per item, beside memcached; live part of the heap");
  auto* cold = app.add_subcommand("cold", "Connect, create, first get, rebuild of a shard");
  auto* scale = app.add_subcommand("scale", "Get, put, connect, scan, recovery by entries, processes, size of segment");
  scale->add_option("--most-entries", options.scale.most_entries, "Most entries of a cache")
      ->check(CLI::Range(1000, 10'000'000))
      ->capture_default_str();
  scale->add_option("--most-processes", options.scale.most_processes, "Most processes of a cache")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  scale->add_option("--largest-gib", options.scale.largest_gib, "Largest segment in GiB")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.require_subcommand(1);
  app.add_option("--backend", options.backends, "Only this backend (may be repeated)");
  app.add_option("--megabytes", options.megabytes, "Size of the caches for \"memory\"")->check(CLI::Range(16, 65'536));
  app.add_option("--entries", options.entries, "Entries of the shard that is rebuilt")
      ->check(CLI::Range(1000, 10'000'000));
  app.add_option("--rounds", options.rounds, "Measurements that a median is taken of")->check(CLI::Range(1, 100));
  app.add_option("--json", options.json_path, "Write the figures to this file");
  CLI11_PARSE(app, count, arguments);
  if (options.backends.empty()) options.backends.emplace_back("posix");
  if (app.get_option("--backend")->empty()) options.backends.emplace_back("sysv");
  note_interrupts();
  try {
    nlohmann::json report = {{"machine", describe_machine()}};
    if (memory->parsed()) measure_memory(options, &report);
    if (cold->parsed()) measure_cold(options, &report);
    if (scale->parsed()) measure_growth(options, &report);
    if (!options.json_path.empty()) {
      std::ofstream file(options.json_path);
      file << report.dump(1) << '\n';
      if (!file.flush()) throw std::runtime_error("cannot write " + options.json_path);
    }
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "memstream-costs: {}\n", error.what());
    return 1;
  }
}
