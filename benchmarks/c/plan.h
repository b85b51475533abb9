// What one run measures: which cells, with which contenders, how often and how long.
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <string>
#include <vector>

#include "benchmarks/c/contender.h"

namespace memstream::bench {

struct PlanOptions {
  bool quick = false;
  bool full = false;
  bool yardstick = false;
  std::string backend{};                  // "": both.
  std::vector<std::string> contenders{};  // Names; empty: all.
  std::vector<std::string> cells{};       // Filters such as "size=64/processes=2"; empty: all.
  unsigned fills = 1;
  unsigned rounds = 0;  // 0: as quick, full or yardstick have it.
  unsigned round_ms = 0;
  bool by_processor_time = false;
};

void add_plan_options(CLI::App* app, PlanOptions* options);

struct Plan {
  std::vector<Contender> contenders;
  std::vector<Cell> cells;
  unsigned fills = 0;   // How often every store is made and filled anew.
  unsigned rounds = 0;  // Of each contender, after each filling.
  std::chrono::milliseconds duration{0};
  bool by_processor_time = false;

  std::vector<DataSet> data_sets() const;
  std::vector<unsigned> processes_of(const DataSet& data) const;
  // The cells of a data set, those together that differ in the number of processes alone.
  std::vector<std::vector<Cell>> groups_of(const DataSet& data) const;
};

// Whether every part of the filter ("size=64/processes=2") is a part of the cell's name.
bool cell_matches(const std::string& filter, const Cell& cell);

// Throws std::invalid_argument for a filter that leaves nothing.
Plan make_plan(const PlanOptions& options);

}  // namespace memstream::bench
