// What a run found out, as a table for people and as JSON for the plots.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "benchmarks/c/histogram.h"
#include "benchmarks/c/workload.h"

namespace memstream::bench {

// One contender in one cell.
struct Outcome {
  std::string contender;
  std::vector<double> rates;            // Operations per second, by round of each filling.
  std::vector<double> slowest_to_mean;  // The same.
  std::uint64_t torn = 0;
  Histogram gets{};
  Histogram puts{};
};

double median(std::vector<double> values);

// The median over the rounds of this contender's rate in parts of the other's rate in the same round.
double ratio(const Outcome& outcome, const Outcome& denominator);

// The processor, the cores, the kernel, the load before the run: what figures cannot be read without.
nlohmann::json describe_machine();

// REQUIRES: `outcomes` is not empty. Ratios are to the contender "limit" where it took part, and of a contender whose
// name ends in "-batches" to "limit-batches". `clock_ns` is what timing a call costs, and is taken off each latency.
// `of_two`: what the same contenders came to in the same rounds with two processes, null if that was not measured.
nlohmann::json to_json(const Cell& cell, const std::vector<Outcome>& outcomes, const std::vector<Outcome>* of_two,
                       std::uint64_t clock_ns);
void print_table(const Cell& cell, const std::vector<Outcome>& outcomes, const std::vector<Outcome>* of_two,
                 std::uint64_t clock_ns);

}  // namespace memstream::bench
