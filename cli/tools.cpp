// Commands beside the cache: bench, how fast this machine is; completion, for the shell.
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <random>

#include "cli/command.h"
#include "cli/text.h"

namespace memstream::cli {
namespace {

// ---- bench ----

struct BenchChoices {
  std::size_t processes = 1;
  std::size_t value_size = 64;
  std::uint64_t keys = 100'000;
  double seconds = 1;
};

// A cache that only this process uses; its segment is destroyed with this object.
class OwnCache {
 public:
  OwnCache(const Target& target, std::uint64_t size_bytes) : owner_(getpid()) {
    const std::string name = fmt::format("bench-{}", owner_);
    memstream_options_t options;
    memstream_options_init(&options);
    options.name = name.c_str();
    options.size_bytes = size_bytes;
    if (!target.backend.empty()) options.backend = target.backend.c_str();
    require_ok(memstream_open(&options, &handle_));
  }
  OwnCache(const OwnCache&) = delete;
  OwnCache& operator=(const OwnCache&) = delete;
  ~OwnCache() {
    if (getpid() == owner_) memstream_destroy(handle_);
    memstream_close(handle_);
  }
  memstream_t* get() const noexcept { return handle_; }

 private:
  pid_t owner_;
  memstream_t* handle_ = nullptr;
};

// Calls `operation(number of a key)` until the time is over, and counts.
template <class Operation>
double rate_of(const BenchChoices& choices, const Operation& operation) {
  std::minstd_rand random(static_cast<std::minstd_rand::result_type>(getpid()));
  constexpr std::uint64_t kCallsPerLook = 256;
  const auto begin = std::chrono::steady_clock::now();
  std::uint64_t calls = 0;
  double passed = 0;
  do {
    for (std::uint64_t i = 0; i < kCallsPerLook; ++i) operation(random() % choices.keys);
    calls += kCallsPerLook;
    passed = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  } while (passed < choices.seconds);
  return static_cast<double>(calls) / passed;
}

// The total rate of so many processes at the same time. They report through pipes.
template <class Operation>
double rate_of_all(const BenchChoices& choices, const Operation& operation) {
  std::vector<std::pair<pid_t, int>> children;
  for (std::size_t i = 0; i < choices.processes; ++i) {
    int ends[2];
    if (pipe(ends) != 0) throw Failure(CACHE_OS_ERROR, "pipe() failed. Raise the limit of open files (ulimit -n).");
    const pid_t child = fork();
    if (child < 0) throw Failure(CACHE_OS_ERROR, "fork() failed. Use fewer --processes.");
    if (child == 0) {
      const double rate = rate_of(choices, operation);
      _exit(write(ends[1], &rate, sizeof rate) == sizeof rate ? 0 : 1);
    }
    close(ends[1]);
    children.emplace_back(child, ends[0]);
  }
  double sum = 0;
  bool has_all = true;
  for (const auto& [child, end] : children) {
    double rate = 0;
    has_all = read(end, &rate, sizeof rate) == sizeof rate && has_all;
    close(end);
    waitpid(child, nullptr, 0);
    sum += rate;
  }
  if (!has_all) throw Failure(CACHE_OS_ERROR, "A process of the benchmark ended early. Look for it in dmesg.");
  return sum;
}

int bench(const Session& session, const BenchChoices& choices) {
  const std::uint64_t needed = choices.keys * (choices.value_size + 128) * 5 / 4;
  const OwnCache cache(session.target, std::max<std::uint64_t>(needed, std::uint64_t{8} << 20));
  const std::string value(choices.value_size, 'v');
  const auto set = [&](std::uint64_t key) {
    require_ok(memstream_set(cache.get(), &key, sizeof key, value.data(), value.size(), 0, 0));
  };
  for (std::uint64_t key = 0; key < choices.keys; ++key) set(key);
  const auto get = [&](std::uint64_t key) {
    thread_local std::string room(choices.value_size, '\0');
    std::size_t size = room.size();
    require_ok(memstream_get(cache.get(), &key, sizeof key, room.data(), &size, nullptr));
  };
  const double gets = rate_of_all(choices, get);
  const double sets = rate_of_all(choices, set);
  const Json json = {{"processes", choices.processes}, {"keys", choices.keys}, {"value_size", choices.value_size},
                     {"seconds", choices.seconds},     {"gets_per_s", gets},   {"sets_per_s", sets}};
  print(session, json, [&] {
    return fmt::format("{} processes, {} keys, values of {}\n{:>12.0f} gets a second\n{:>12.0f} sets a second\n",
                       choices.processes, choices.keys, format_size(choices.value_size), gets, sets);
  });
  return kDone;
}

// ---- completion ----

// What can follow the name of the program or of a command.
std::string words_of(const CLI::App& app) {
  std::string words;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) words += "--" + name + ' ';
  }
  for (const CLI::App* command : app.get_subcommands({})) words += command->get_name() + ' ';
  return words;
}

std::string completion_for(const CLI::App& app) {
  std::string text =
      "# Completion of memstream for bash: source <(memstream completion)\n"
      "_memstream() {\n"
      "    local words command=${COMP_WORDS[1]}\n"
      "    if ((COMP_CWORD == 1)); then command=; fi\n"
      "    case $command in\n";
  for (const CLI::App* command : app.get_subcommands({})) {
    text += fmt::format("        {}) words=\"{}\" ;;\n", command->get_name(), words_of(*command));
  }
  text += fmt::format("        *) words=\"{}\" ;;\n", words_of(app));
  return text +
         "    esac\n"
         "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\")\n"
         "}\n"
         "complete -o default -F _memstream memstream\n";
}

}  // namespace

void add_tool_commands(CLI::App& app, Session& session) {
  CLI::App* benchmark = add_command(app, session, "bench", "Measure gets and sets in a cache of its own",
                                    "  memstream bench --processes 2 --value-size 1000");
  const auto choices = std::make_shared<BenchChoices>();
  benchmark->add_option("--processes", choices->processes, "how many at the same time")
      ->capture_default_str()
      ->check(CLI::Range(1, 64));
  benchmark->add_option("--value-size", choices->value_size, "bytes of each value")
      ->capture_default_str()
      ->check(CLI::Range(0, 1 << 20));
  benchmark->add_option("--keys", choices->keys, "how many")->capture_default_str()->check(CLI::Range(1, 10'000'000));
  benchmark->add_option("--seconds", choices->seconds, "how long each part takes")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  benchmark->callback([&session, choices] { session.run = [&session, choices] { return bench(session, *choices); }; });

  CLI::App* completion =
      add_command(app, session, "completion", "Print the completion for bash", "  source <(memstream completion)");
  completion->callback([&app, &session] {
    session.run = [&app, &session] {
      const std::string text = completion_for(app);
      print(session, {{"bash", text}}, [&] { return text; });
      return kDone;
    };
  });
}

}  // namespace memstream::cli
