// What all commands share: the options that every one has, and what main() runs.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/cache.h"
#include "cli/snapshot.h"

namespace memstream::cli {

// The choices of one run. Filled by the parser; a command's callback sets `run`.
struct Session {
  Target target;
  bool json = false;
  std::function<int()> run;  // Returns an exit code; may throw Failure.
};

// Adds a command with the options that all have, and with examples at the end of its help.
CLI::App* add_command(CLI::App& app, Session& session, const std::string& name, const std::string& description,
                      const std::string& examples);

// As add_command(), for a command that looks at a cache: with --owner.
CLI::App* add_look_command(CLI::App& app, Session& session, const std::string& name, const std::string& description,
                           const std::string& examples);

// Prints `value` as JSON, or the text that `render` makes.
void print(const Session& session, const Json& value, const std::function<std::string()>& render);

// Asks a question on the terminal; true for "y" or "yes". False where standard input is no terminal.
bool confirm(const std::string& question);

// One function for each source of commands.
void add_segment_commands(CLI::App& app, Session& session);     // ls, resize, rm, check, doctor
void add_statistics_commands(CLI::App& app, Session& session);  // stat, metrics, advise, procs
void add_key_commands(CLI::App& app, Session& session);         // keys, hotkeys, bigkeys, prefixes, histogram
void add_map_commands(CLI::App& app, Session& session);         // scan, map
void add_top_command(CLI::App& app, Session& session);          // top
void add_serve_commands(CLI::App& app, Session& session);       // serve, report
void add_limit_command(CLI::App& app, Session& session);        // limits
void add_trace_command(CLI::App& app, Session& session);        // trace
void add_near_command(CLI::App& app, Session& session);         // near
void add_tool_commands(CLI::App& app, Session& session);        // bench, completion
void add_entry_commands(CLI::App& app, Session& session);       // get, put, del, touch, incr, clear
void add_dump_commands(CLI::App& app, Session& session);        // dump, load

}  // namespace memstream::cli
