// memstream near: the agent of a near cache as a program. It loads libmemstream_near.so when it runs, so that the other
// commands need no hiredis.
#include <dlfcn.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <utility>

#include "cli/command.h"
#include "cli/text.h"
#include "near/memstream_near.h"

namespace memstream::cli {
namespace {

constexpr const char* kLibrary = "libmemstream_near.so.1";

// Its functions, as the header declares them.
struct NearLibrary {
  decltype(&memstream_near_open) open = nullptr;
  decltype(&memstream_near_close) close = nullptr;
  decltype(&memstream_near_stats) stats = nullptr;
  decltype(&memstream_near_last_error) last_error = nullptr;
  decltype(&memstream_near_agent_error) agent_error = nullptr;
};

template <class Function>
void find(void* library, const char* name, Function* function) {
  void* const found = dlsym(library, name);
  if (found == nullptr)
    throw Failure(CACHE_OS_ERROR, fmt::format("{} is of another version: it has no {}. Install the "
                                              "one of this release.",
                                              kLibrary, name));
  *function = reinterpret_cast<Function>(found);
}

// It lies beside libcache.so, in a build tree and where it is installed.
NearLibrary load_library() {
  Dl_info cache{};
  std::string beside;
  if (dladdr(reinterpret_cast<const void*>(&memstream_open), &cache) != 0 && cache.dli_fname != nullptr) {
    beside = cache.dli_fname;
    beside = beside.substr(0, beside.rfind('/') + 1) + kLibrary;
  }
  void* library = beside.empty() ? nullptr : dlopen(beside.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* const reason = dlerror();  // NOLINT(concurrency-mt-unsafe): before there are threads.
    throw Failure(CACHE_OS_ERROR, fmt::format("{} cannot be loaded: {}. Install hiredis (Debian: libhiredis0.14), and "
                                              "that library beside libcache.so.",
                                              kLibrary, reason == nullptr ? "unknown" : reason));
  }
  NearLibrary functions;
  find(library, "memstream_near_open", &functions.open);
  find(library, "memstream_near_close", &functions.close);
  find(library, "memstream_near_stats", &functions.stats);
  find(library, "memstream_near_last_error", &functions.last_error);
  find(library, "memstream_near_agent_error", &functions.agent_error);
  return functions;
}

struct NearChoices {
  std::string redis;
  bool is_cluster = false;
  std::vector<std::string> prefixes;
  std::string max_lag = "1s";
  std::string user;
  std::string password_file;
};

// "500ms", "1s", "1.5s".
std::uint64_t parse_time(const std::string& text) {
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, number);
  const std::string unit(stopped, end);
  const double ms = number * (unit == "s" ? 1000 : 1);
  const bool is_time = error == std::errc{} && (unit == "s" || unit == "ms") && ms >= 250 && ms <= 3'600'000;
  if (is_time) return static_cast<std::uint64_t>(ms);
  throw CLI::ValidationError("--max-lag",
                             fmt::format("Invalid --max-lag {}: expected 250ms to 3600s.", in_quotes(text)));
}

// Other users can see arguments, so a password is never an argument.
std::string read_password(const NearChoices& choices) {
  if (choices.password_file.empty()) {
    const char* const value = std::getenv("MEMSTREAM_NEAR_PASSWORD");  // NOLINT(concurrency-mt-unsafe): as above.
    return value == nullptr ? std::string{} : value;
  }
  std::ifstream file(choices.password_file);
  std::string password;
  if (!std::getline(file, password) || password.empty()) {
    throw Failure(CACHE_INVALID, fmt::format("Invalid --password-file {}: expected a file that begins with a line "
                                             "with the password.",
                                             path_in_quotes(choices.password_file)));
  }
  return password;
}

// The state of the agent, as one line of the log shows it.
struct State {
  std::string name;
  std::string message;
  bool operator==(const State& other) const { return name == other.name && message == other.message; }
};

State state_of(const memstream_near_stats_t& stats, const std::string& redis, const std::string& error,
               std::uint64_t max_lag_ms) {
  const auto own = static_cast<std::uint32_t>(getpid());
  if (!error.empty())
    return {"lost", fmt::format("Redis at {} cannot be followed: {}. Trying again", path_in_quotes(redis), error)};
  if (stats.agent_pid != 0 && stats.agent_pid != own)
    return {"waiting", fmt::format("process {} is the agent; this one takes over when it ends", stats.agent_pid)};
  if (stats.is_agent == 0 || stats.lag_ms == kNeverHeard) return {"connecting", "Redis is asked for its invalidations"};
  if (stats.lag_ms > max_lag_ms) return {"behind", "Redis was not heard in time: readers ask it themselves"};
  return {"following", "this process is the agent"};
}

void report(const Session& session, const State& state) {
  const auto now =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch());
  const auto now_ms = static_cast<std::uint64_t>(now.count());
  if (session.json) {
    fmt::print("{}\n", Json{{"time_ms", now_ms}, {"state", state.name}, {"message", json_text(state.message)}}.dump());
  } else {
    fmt::print("{} {}: {}\n", format_instant(now_ms), state.name, state.message);
  }
  if (std::fflush(stdout) != 0) throw Failure(CACHE_OS_ERROR, "Writing the log failed. Check where the output goes.");
}

int run_agent(const Session& session, const NearChoices& choices) {
  const std::uint64_t max_lag_ms = parse_time(choices.max_lag);
  const std::string password = read_password(choices);
  if (!choices.user.empty() && password.empty()) {
    throw Failure(CACHE_INVALID, fmt::format("Invalid --user {}: expected a password too. Set MEMSTREAM_NEAR_PASSWORD, "
                                             "or name a --password-file.",
                                             in_quotes(choices.user)));
  }
  const std::string redis = choices.redis.empty() ? "127.0.0.1:6379" : choices.redis;
  // Threads inherit this: only the loop below takes the signals.
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);

  const NearLibrary library = load_library();
  const Cache cache(session.target, Attach::kCreate);
  std::vector<const char*> prefixes;
  for (const std::string& prefix : choices.prefixes) prefixes.push_back(prefix.c_str());
  memstream_near_options_t options{};
  options.struct_size = sizeof options;
  options.redis = redis.c_str();
  options.user = choices.user.empty() ? nullptr : choices.user.c_str();
  options.password = password.empty() ? nullptr : password.c_str();
  options.prefixes = prefixes.data();
  options.prefix_count = prefixes.size();
  options.max_lag_ms = max_lag_ms;
  options.flags = choices.is_cluster ? MEMSTREAM_NEAR_CLUSTER : 0;
  memstream_near_t* opened = nullptr;
  if (const int status = library.open(cache.get(), &options, &opened); status != CACHE_OK) {
    throw Failure(status, library.last_error());
  }
  const std::unique_ptr<memstream_near_t, decltype(library.close)> near(opened, library.close);

  State known;
  std::uint64_t epochs = 0;
  for (;;) {
    memstream_near_stats_t stats{};
    stats.struct_size = sizeof stats;
    if (const int status = library.stats(near.get(), &stats); status != CACHE_OK) {
      throw Failure(status, library.last_error());
    }
    State state = state_of(stats, redis, library.agent_error(near.get()), max_lag_ms);
    // It connects in less time than a look takes, as a rule: only what lasts is worth a line.
    if (state.name == "connecting" && known.name.empty()) state = known;
    if (!(state == known)) report(session, state);
    if (state.name == "following" && known.name == "following" && stats.epochs != epochs) {
      report(session, {"epoch", fmt::format("{} of them ended, so all older copies are over", stats.epochs - epochs)});
    }
    epochs = stats.epochs;
    known = std::move(state);
    constexpr timespec kLook{.tv_sec = 0, .tv_nsec = 100'000'000};
    const int signal = sigtimedwait(&ends, nullptr, &kLook);
    if (signal > 0) {
      report(session, {"ended", fmt::format("by {}", signal == SIGTERM  ? "SIGTERM"
                                                     : signal == SIGINT ? "SIGINT"
                                                                        : "SIGHUP")});
      return kDone;
    }
  }
}

}  // namespace

void add_near_command(CLI::App& app, Session& session) {
  CLI::App* command = add_command(app, session, "near", "Keep a near cache of Redis current: be its agent",
                                  "  memstream near --redis 127.0.0.1:6379 --prefix user: --max-lag 1s\n"
                                  "  memstream near --cluster --redis 10.0.0.1:6379,10.0.0.2:6379 --name near");
  const auto choices = std::make_shared<NearChoices>();
  command->add_option("--redis", choices->redis,
                      "HOST:PORT, [IPV6]:PORT or unix:/PATH (127.0.0.1:6379); of a cluster some nodes, with commas");
  command->add_flag("--cluster", choices->is_cluster, "--redis names nodes of a cluster");
  command->add_option("--prefix", choices->prefixes, "which keys are cached; may be repeated; all without it");
  command->add_option("--max-lag", choices->max_lag, "beyond it readers ask Redis, as 500ms or 1s")
      ->capture_default_str();
  command->add_option("--user", choices->user, "for AUTH; the password is in MEMSTREAM_NEAR_PASSWORD");
  command->add_option("--password-file", choices->password_file, "a file with the password in its first line");
  command->parse_complete_callback([choices] { static_cast<void>(parse_time(choices->max_lag)); });
  command->callback(
      [&session, choices] { session.run = [&session, choices] { return run_agent(session, *choices); }; });
}

}  // namespace memstream::cli
