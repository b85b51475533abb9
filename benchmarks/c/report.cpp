#include "benchmarks/c/report.h"

#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace memstream::bench {
namespace {

std::string first_line(const char* path, const std::string& prefix) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, prefix.size(), prefix) == 0) return line.substr(prefix.size());
  }
  return "";
}

const Outcome* find(const std::vector<Outcome>* outcomes, const std::string& contender) {
  if (outcomes == nullptr) return nullptr;
  const auto found =
      std::find_if(outcomes->begin(), outcomes->end(), [&](const Outcome& one) { return one.contender == contender; });
  return found == outcomes->end() ? nullptr : &*found;
}

// What the ratios of a contender refer to; null if it did not take part.
const Outcome* limit_of(const std::vector<Outcome>& outcomes, const std::string& contender) {
  return find(&outcomes, contender.ends_with("-batches") ? "limit-batches" : "limit");
}

std::uint64_t without(std::uint64_t ns, std::uint64_t clock_ns) { return ns > clock_ns ? ns - clock_ns : 0; }

nlohmann::json latencies(const Histogram& histogram, std::uint64_t clock_ns) {
  if (histogram.samples == 0) return nullptr;
  return {{"p50", without(histogram.quantile(0.5), clock_ns)},
          {"p99", without(histogram.quantile(0.99), clock_ns)},
          {"p999", without(histogram.quantile(0.999), clock_ns)},
          {"max", without(histogram.max_ns, clock_ns)},
          {"samples", histogram.samples}};
}

// Latency in ns against the part of the calls that took no longer, for a plot.
nlohmann::json distribution(const Histogram& histogram, std::uint64_t clock_ns) {
  nlohmann::json points = nlohmann::json::array();
  std::uint64_t seen = 0;
  for (unsigned bucket = 0; bucket < Histogram::kOctaves * Histogram::kSubBuckets; ++bucket) {
    if (histogram.counts[bucket] == 0) continue;
    seen += histogram.counts[bucket];
    points.push_back({without(Histogram::floor_of(bucket), clock_ns),
                      static_cast<double>(seen) / static_cast<double>(histogram.samples)});
  }
  return points;
}

}  // namespace

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double ratio(const Outcome& outcome, const Outcome& denominator) {
  std::vector<double> ratios;
  for (std::size_t round = 0; round < outcome.rates.size(); ++round) {
    ratios.push_back(outcome.rates[round] / denominator.rates[round]);
  }
  return median(ratios);
}

nlohmann::json describe_machine() {
  utsname kernel{};
  ::uname(&kernel);
  std::string model = first_line("/proc/cpuinfo", "model name\t: ");
  return {
      {"processor", model},
      {"cores", ::sysconf(_SC_NPROCESSORS_ONLN)},
      {"kernel", std::string(kernel.sysname) + " " + kernel.release},
      {"load_before", first_line("/proc/loadavg", "")},
      {"transparent_huge_pages_in_shared_memory", first_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "")},
      {"compiler", MEMSTREAM_COMPILER}};
}

nlohmann::json to_json(const Cell& cell, const std::vector<Outcome>& outcomes, const std::vector<Outcome>* of_two,
                       std::uint64_t clock_ns) {
  nlohmann::json contenders = nlohmann::json::array();
  for (const Outcome& outcome : outcomes) {
    nlohmann::json one = {{"name", outcome.contender},
                          {"operations_per_second", outcome.rates},
                          {"median", median(outcome.rates)},
                          {"slowest_to_mean", median(outcome.slowest_to_mean)},
                          {"torn", outcome.torn},
                          {"get_ns", latencies(outcome.gets, clock_ns)},
                          {"put_ns", latencies(outcome.puts, clock_ns)},
                          {"get_distribution", distribution(outcome.gets, clock_ns)}};
    if (const Outcome* limit = limit_of(outcomes, outcome.contender)) one["ratio_to_limit"] = ratio(outcome, *limit);
    if (const Outcome* two = find(of_two, outcome.contender)) one["ratio_to_two_processes"] = ratio(outcome, *two);
    contenders.push_back(std::move(one));
  }
  return {{"name", cell.name()},
          {"keys", cell.data.keys},
          {"value_size", cell.data.value_size},
          {"distribution", name_of(cell.distribution)},
          {"get_percent", cell.get_percent},
          {"processes", cell.processes},
          {"contenders", std::move(contenders)}};
}

void print_table(const Cell& cell, const std::vector<Outcome>& outcomes, const std::vector<Outcome>* of_two,
                 std::uint64_t clock_ns) {
  const auto in_parts = [](const Outcome* denominator, const Outcome& outcome) {
    return denominator != nullptr ? fmt::format("{:.2f}", ratio(outcome, *denominator)) : std::string("-");
  };
  fmt::print("{}\n  {:<21} {:>9} {:>8} {:>7} {:>7} {:>8} {:>8} {:>9} {:>10} {:>7} {:>6}\n", cell.name(), "", "Mops/s",
             "spread", "limit", "of two", "p50 ns", "p99", "p99.9", "max", "slowest", "torn");
  for (const Outcome& outcome : outcomes) {
    const Histogram& calls = outcome.gets.samples != 0 ? outcome.gets : outcome.puts;
    const auto [least, most] = std::minmax_element(outcome.rates.begin(), outcome.rates.end());
    fmt::print("  {:<21} {:>9.3f} {:>7.0f}% {:>7} {:>7} {:>8} {:>8} {:>9} {:>10} {:>7.2f} {:>6}\n", outcome.contender,
               median(outcome.rates) / 1e6, (*most - *least) / median(outcome.rates) * 100,
               in_parts(limit_of(outcomes, outcome.contender), outcome),
               in_parts(find(of_two, outcome.contender), outcome), without(calls.quantile(0.5), clock_ns),
               without(calls.quantile(0.99), clock_ns), without(calls.quantile(0.999), clock_ns),
               without(calls.max_ns, clock_ns), median(outcome.slowest_to_mean), outcome.torn);
  }
}

}  // namespace memstream::bench
