// memstream: looks at caches and acts on them from the shell. docs/cli.md.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <string_view>

#include "cli/command.h"
#include "cli/text.h"

namespace memstream::cli {

CLI::App* add_command(CLI::App& app, Session& session, const std::string& name, const std::string& description,
                      const std::string& examples) {
  CLI::App* command = app.add_subcommand(name, description);
  command->footer("Examples:\n" + examples);
  command->add_option("--name", session.target.name, "which cache (MEMSTREAM_NAME)");
  command->add_option("--backend", session.target.backend, "posix or sysv (MEMSTREAM_BACKEND)");
  command->add_option("--timeout-ms", session.target.timeout_ms, "longest wait for a lock (MEMSTREAM_TIMEOUT_MS)");
  command->add_flag("--json", session.json, "print JSON");
  return command;
}

CLI::App* add_look_command(CLI::App& app, Session& session, const std::string& name, const std::string& description,
                           const std::string& examples) {
  CLI::App* command = add_command(app, session, name, description, examples);
  command->add_option("--owner", session.target.owner, "look at the cache of this user, by name or number")
      ->check(CLI::Validator(
          [](const std::string& owner) {
            return owner.empty() ? "Invalid --owner '': expected the name or number of a user." : "";
          },
          ""));
  return command;
}

void print(const Session& session, const Json& value, const std::function<std::string()>& render) {
  if (session.json) {
    fmt::print("{}\n", value.dump(2));
  } else {
    fmt::print("{}", render());
  }
}

bool confirm(const std::string& question) {
  if (isatty(STDIN_FILENO) == 0) return false;
  fmt::print(stderr, "{} [y/N] ", question);
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "yes";
}

namespace {

int report(int exit_code, const std::string& message) {
  fmt::print(stderr, "memstream: {}\n", message);
  return exit_code;
}

// A message of the parser, which repeats words of the command line as they are: without what a terminal obeys, and with
// long words cut.
std::string shown(std::string message, int argc, const char* const* argv) {
  std::vector<std::string_view> words;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    words.push_back(word);
    if (const std::size_t equals = word.find('='); equals != word.npos) words.push_back(word.substr(equals + 1));
  }
  // The longest first: a word may be a part of another one.
  std::stable_sort(words.begin(), words.end(), [](auto one, auto other) { return one.size() > other.size(); });
  for (const std::string_view word : words) {
    const std::string safe = in_quotes(word);
    if (word.size() + 2 == safe.size()) continue;  // Nothing to hide, so only the apostrophes came.
    for (std::size_t at = message.find(word); at != message.npos; at = message.find(word, at + safe.size())) {
      message.replace(at, word.size(), safe);
    }
  }
  return message;
}

int run(int argc, char** argv) {
  CLI::App app("Inspects and changes MemStream caches.", "memstream");
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string(cache_version()));
  app.footer("Exit codes: 0 done, 1 miss or finding, 2 usage, 3 segment does not exist, 4 refused or corrupt.");
  Session session;
  add_segment_commands(app, session);
  add_statistics_commands(app, session);
  add_key_commands(app, session);
  add_entry_commands(app, session);
  add_dump_commands(app, session);
  add_map_commands(app, session);
  add_limit_command(app, session);
  add_trace_command(app, session);
  add_near_command(app, session);
  add_tool_commands(app, session);
  add_top_command(app, session);
  add_serve_commands(app, session);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream message;
    const int code = app.exit(error, std::cout, message);
    fmt::print(stderr, "{}", shown(message.str(), argc, argv));
    return code == 0 ? kDone : kUsage;
  }
  try {
    const int exit_code = session.run();
    // What was printed has to reach the reader: a full disk is an error.
    if (std::fflush(stdout) != 0)
      return report(kRefused, "Writing the output failed. Check the free space of the disk.");
    return exit_code;
  } catch (const Failure& failure) {
    return report(failure.exit_code(), failure.what());
  } catch (const std::invalid_argument& error) {
    return report(kUsage, error.what());
  } catch (const std::exception& error) {
    return report(kRefused, error.what());
  }
}

}  // namespace
}  // namespace memstream::cli

int main(int argc, char** argv) {
  try {
    return memstream::cli::run(argc, argv);
  } catch (...) {  // No memory for the options, or no way to write a message.
    std::fputs("memstream: The command stopped: no memory, or standard error takes no text. Free some memory.\n",
               stderr);
    return memstream::cli::kRefused;
  }
}
