// memstream-torture: kills, stops and crowds processes at the worst moments and looks whether the promise of the README
// still holds.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>

#include "tests/torture/commands.h"
#include "tests/torture/operations.h"

namespace memstream::torture {

Place CommonOptions::place(const std::string& backend, const std::string& purpose) const {
  Place place{.backend = backend, .name = "torture-" + std::to_string(::getpid()) + "-" + purpose};
  place.timeout_ms *= patience;
  return place;
}

namespace {

constexpr int kWrongUsage = 2;
constexpr int kSkipped = 77;  // Every section was: ctest counts it so.

// The dynamic linker resolves every symbol at the start, so that its instructions are not among those that are stepped.
void resolve_symbols_early(char** arguments) {
  if (std::getenv("LD_BIND_NOW") != nullptr) return;
  ::setenv("LD_BIND_NOW", "1", 1);
  ::execv("/proc/self/exe", arguments);
}

int run(int argument_count, char** arguments) {
  CLI::App app(
      "Kills, stops and crowds processes at the worst moments.\n"
      "Exit code: 0 if the cache bore it, 1 for findings, 2 for wrong usage, 4 for a hang, 77 if nothing could be "
      "run.");
  app.set_help_flag();
  app.set_help_all_flag("-h,--help", "all of this");
  app.require_subcommand(1);
  app.fallthrough();
  CommonOptions common;
  std::string backend = "both";
  std::string json_path;
  app.add_option("--backend", backend, "sysv, posix or both")
      ->check(CLI::IsMember({"sysv", "posix", "both"}))
      ->capture_default_str();
  app.add_option("--seed", common.seed, "of everything that is chosen at random")->capture_default_str();
  app.add_option("--patience", common.patience, "times longer than usual that everything may take, on a busy machine")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--json", json_path, "write the report to this file too");

  StepOptions step_options;
  bool list = false;
  CLI::App* step = app.add_subcommand("step", "kill a process after every instruction of an operation");
  step->add_option("--stride", step_options.stride, "only after every so many instructions")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  step->add_option("--most-points", step_options.most_points,
                   "at most so many deaths in each operation, spread over it")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  step->add_option("--operation", step_options.operations, "this operation (may be repeated; all otherwise)");
  std::string mode = "both";
  step->add_option("--mode", mode, "a peer comes after the death (after), is at work all the time (peer), or both")
      ->check(CLI::IsMember({"after", "peer", "both"}))
      ->capture_default_str();
  step->add_flag("--list", list, "name the operations and stop");

  std::uint64_t kill_rounds = 1000;
  CLI::App* kill =
      app.add_subcommand("kill", "kill processes at random among others at work, and audit what they stored");
  kill->add_option("--rounds", kill_rounds, "deaths")->capture_default_str();

  std::uint64_t stop_rounds = 500;
  CLI::App* stop = app.add_subcommand("stop", "stop processes at random, and see that nobody takes them for dead");
  stop->add_option("--rounds", stop_rounds, "stops")->capture_default_str();

  std::uint64_t create_rounds = 100;
  CLI::App* create = app.add_subcommand("create", "let 32 processes create one segment at once, and kill some");
  create->add_option("--rounds", create_rounds, "creations")->capture_default_str();

  std::uint64_t oom_rounds = 20;
  CLI::App* oom = app.add_subcommand("oom", "let processes run out of memory, and see that the others go on");
  oom->add_option("--rounds", oom_rounds, "ends, of each kind")->capture_default_str();

  std::string checked_name = "default";
  CLI::App* check = app.add_subcommand("check", "verify every invariant of a segment that is there");
  check->add_option("--name", checked_name, "of the segment")->capture_default_str();

  try {
    app.parse(argument_count, arguments);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kWrongUsage;
  }
  if (list) {
    list_operations();
    return 0;
  }
  common.backends = backend == "both" ? std::vector<std::string>{"sysv", "posix"} : std::vector<std::string>{backend};
  if (mode != "both") step_options.only_peer = mode == "peer";
  Report report;
  if (*step) run_step(common, step_options, report);
  if (*kill) run_kill(common, kill_rounds, report);
  if (*stop) run_stop(common, stop_rounds, report);
  if (*create) run_create(common, create_rounds, report);
  if (*oom) run_oom(common, oom_rounds, report);
  if (*check) run_check(common, checked_name, report);
  report.write(json_path, app.get_subcommands().front()->get_name(), common.seed);
  if (!report.is_clean()) return 1;
  return report.is_skipped() ? kSkipped : 0;
}

}  // namespace
}  // namespace memstream::torture

int main(int argument_count, char** arguments) {
  try {
    memstream::torture::resolve_symbols_early(arguments);
    return memstream::torture::run(argument_count, arguments);
  } catch (const std::exception& error) {
    std::cerr << "memstream-torture: " << error.what() << '\n';
    return memstream::torture::kWrongUsage;
  }
}
