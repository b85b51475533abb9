// The subcommands of memstream-torture. Each adds its sections to the report.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/torture/cache_under_test.h"
#include "tests/torture/report.h"

namespace memstream::torture {

struct CommonOptions {
  std::vector<std::string> backends;
  std::uint64_t seed = 1;
  std::uint32_t patience = 1;  // Every deadline is so many times longer.

  // A name of this process alone.
  Place place(const std::string& backend, const std::string& purpose) const;
};

struct StepOptions {
  std::uint64_t stride = 1;
  std::uint64_t most_points = 1'000'000;  // Of an operation: the stride is larger where there would be more.
  std::vector<std::string> operations;    // Empty: all.
  std::optional<bool> only_peer;          // With a peer at work, or without; both if not said.
};
void run_step(const CommonOptions& common, const StepOptions& options, Report& report);
void list_operations();

void run_kill(const CommonOptions& common, std::uint64_t rounds, Report& report);
void run_stop(const CommonOptions& common, std::uint64_t rounds, Report& report);
void run_create(const CommonOptions& common, std::uint64_t rounds, Report& report);
void run_oom(const CommonOptions& common, std::uint64_t rounds, Report& report);
void run_check(const CommonOptions& common, const std::string& name, Report& report);

}  // namespace memstream::torture
