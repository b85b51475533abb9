// memstream trace: a sample of the accesses, in a file that simulators of caches read.
#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>
#include <iterator>
#include <limits>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "api/memstream_metrics.h"
#include "cli/command.h"
#include "cli/file.h"
#include "cli/text.h"

namespace memstream::cli {
namespace {

constexpr timespec kPause{0, 2'000'000};
constexpr std::size_t kAtOnce = 4096;
constexpr std::size_t kMostAccesses = std::size_t{1} << 26;  // 2 GiB of them.

struct TraceChoices {
  std::string file;
  double seconds = 10;
  std::uint64_t step = 0;  // 0: that of the sample.
  std::string format;      // "": by the name of the file.
};

struct Trace {
  std::vector<memstream_access_t> accesses;
  std::uint64_t lost = 0;
  std::uint64_t gaps = 0;
  std::uint64_t step = 1;
};

bool is_in_sample(std::uint64_t key_hash, std::uint64_t step) { return (key_hash >> 32 & (step - 1)) == 0; }

// SIGINT and SIGTERM end a trace early, from when it is made.
class Interruption {
 public:
  Interruption() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  }
  // False if there was one.
  bool pause() const { return sigtimedwait(&signals_, nullptr, &kPause) < 0; }

 private:
  sigset_t signals_{};
};

// The hashes of a segment mean nothing in its successor.
void require_same(const memstream_info_t& before, const memstream_info_t& now) {
  if (std::memcmp(before.uuid, now.uuid, sizeof before.uuid) == 0) return;
  throw Failure(CACHE_GONE, "The segment was resized or made again during the trace. Trace again.");
}

Trace collect(const Cache& cache, const TraceChoices& choices) {
  const memstream_info_t info = cache.info();
  Trace trace;
  memstream_trace_t state{};
  state.struct_size = sizeof state;
  std::vector<memstream_access_t> some(kAtOnce);
  const Interruption interruption;
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(choices.seconds);
  for (bool is_first = true; is_first || std::chrono::steady_clock::now() < end; is_first = false) {
    std::size_t count = 0;
    require_ok(memstream_trace(cache.get(), &state, some.data(), some.size(), &count));
    if (is_first && choices.step != 0 && choices.step < state.sample_step) {
      throw Failure(CACHE_INVALID, fmt::format("Invalid --sample {}: expected at least {}, which is the step of the "
                                               "cache's own sample. Leave it out, or use that.",
                                               choices.step, state.sample_step));
    }
    trace.accesses.insert(trace.accesses.end(), some.begin(), some.begin() + static_cast<std::ptrdiff_t>(count));
    if (trace.accesses.size() > kMostAccesses) {
      throw Failure(CACHE_NO_MEMORY, "The trace is too long. Use fewer --seconds, or a larger --sample.");
    }
    if (count < some.size() && !interruption.pause()) break;
  }
  require_same(info, cache.info());
  trace.lost = state.lost;
  trace.gaps = state.gaps;
  // The sample may have become smaller meanwhile: what is left of its keys are all accesses to them.
  trace.step = std::max(choices.step, state.sample_step);
  std::erase_if(trace.accesses, [&](const memstream_access_t& one) { return !is_in_sample(one.key_hash, trace.step); });
  return trace;
}

void append(std::string* bytes, std::uint64_t number, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) *bytes += static_cast<char>(number >> 8 * i & 0xff);
}

struct Written {
  std::string bytes;
  std::size_t accesses = 0;
  std::size_t without_size = 0;
};

// libCacheSim's oracleGeneral: what was asked for, and when it is asked for again. A miss has the size of the value
// that was stored or found next, or else last.
Written as_oracle(const Trace& trace) {
  std::vector<const memstream_access_t*> reads;
  std::vector<std::uint64_t> sizes;
  std::unordered_map<std::uint64_t, std::uint64_t> known;
  const auto size_of = [&known](const memstream_access_t& access) {
    if (access.what != MEMSTREAM_ACCESS_MISS) known[access.key_hash] = access.size;
    const auto found = known.find(access.key_hash);
    return found == known.end() ? 0 : found->second;
  };
  for (auto access = trace.accesses.rbegin(); access != trace.accesses.rend(); ++access) {
    const std::uint64_t size = size_of(*access);
    if (access->what == MEMSTREAM_ACCESS_STORE) continue;
    reads.push_back(&*access);
    sizes.push_back(size);
  }
  std::reverse(reads.begin(), reads.end());
  std::reverse(sizes.begin(), sizes.end());
  known.clear();
  std::size_t read = 0;
  for (const memstream_access_t& access : trace.accesses) {
    const std::uint64_t size = size_of(access);
    if (access.what == MEMSTREAM_ACCESS_STORE) continue;
    if (sizes[read] == 0) sizes[read] = size;
    ++read;
  }
  Written written;
  const std::uint64_t begin_ms = trace.accesses.empty() ? 0 : trace.accesses.front().time_ms;
  std::vector<std::size_t> kept;
  for (std::size_t i = 0; i < reads.size(); ++i) {
    if (sizes[i] != 0) kept.push_back(i);
  }
  written.without_size = reads.size() - kept.size();
  written.accesses = kept.size();
  std::vector<std::int64_t> next(kept.size(), -1);
  std::unordered_map<std::uint64_t, std::int64_t> later;
  for (std::size_t i = kept.size(); i-- > 0;) {
    const auto [place, is_last] = later.try_emplace(reads[kept[i]]->key_hash, static_cast<std::int64_t>(i) + 1);
    if (is_last) continue;
    next[i] = place->second;
    place->second = static_cast<std::int64_t>(i) + 1;
  }
  for (std::size_t i = 0; i < kept.size(); ++i) {
    const memstream_access_t& access = *reads[kept[i]];
    append(&written.bytes, (access.time_ms - std::min(access.time_ms, begin_ms)) / 1000, 4);
    append(&written.bytes, access.key_hash, 8);
    append(&written.bytes, std::min<std::uint64_t>(sizes[kept[i]], std::numeric_limits<std::uint32_t>::max()), 4);
    append(&written.bytes, static_cast<std::uint64_t>(next[i]), 8);
  }
  return written;
}

Written as_csv(const Trace& trace) {
  constexpr const char* kNames[] = {"", "hit", "miss", "store"};
  Written written{"time,key-hash,size,op\n", trace.accesses.size(), 0};
  for (const memstream_access_t& access : trace.accesses) {
    const char* const name = access.what < std::size(kNames) ? kNames[access.what] : "";
    written.bytes += fmt::format("{},{},{},{}\n", access.time_ms, access.key_hash, access.size, name);
  }
  return written;
}

int trace(const Session& session, const TraceChoices& choices) {
  const Cache cache(session.target, Attach::kWrite);
  require_writable(choices.file);
  const Trace found = collect(cache, choices);
  const bool is_csv = choices.format.empty() ? choices.file.ends_with(".csv") : choices.format == "csv";
  const Written written = is_csv ? as_csv(found) : as_oracle(found);
  write_file(choices.file, written.bytes);
  const Json json = {{"file", json_text(choices.file)},
                     {"format", is_csv ? "csv" : "oracle"},
                     {"accesses", written.accesses},
                     {"lost", found.lost},
                     {"gaps", found.gaps},
                     {"without_size", written.without_size},
                     {"sample", found.step}};
  print(session, json, [&] {
    std::string text = fmt::format("Wrote {} accesses of one key in {} to {}.\n", written.accesses, found.step,
                                   printable(choices.file));
    if (found.lost != 0) text += fmt::format("{} were lost: use a machine that is less busy.\n", found.lost);
    if (found.gaps != 0)
      text += fmt::format("The trace was interrupted {} times for more than a second.\n", found.gaps);
    if (written.without_size != 0) {
      text += fmt::format("Left out {} misses of values that nobody stored.\n", written.without_size);
    }
    return text;
  });
  return kDone;
}

}  // namespace

void add_trace_command(CLI::App& app, Session& session) {
  CLI::App* const command = add_command(app, session, "trace", "Write a sample of the accesses for cache simulators",
                                        "  memstream trace cache.oracleGeneral --seconds 60\n"
                                        "  memstream trace cache.csv --sample 1024");
  const auto choices = std::make_shared<TraceChoices>();
  command->add_option("file", choices->file, "the file to write; CSV if its name ends in .csv")->required();
  command->add_option("--seconds", choices->seconds, "how long; Ctrl-C ends it before, and writes what there is")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 86'400.0));
  command
      ->add_option("--sample", choices->step, "one key in N: a power of two, at least the step of the cache's sample")
      ->check(CLI::Validator(
          [](const std::string& text) {
            std::uint64_t step = 0;
            const bool is_number = CLI::detail::lexical_cast(text, step);
            return is_number && std::has_single_bit(step) && step <= std::uint64_t{1} << 31
                       ? ""
                       : "Invalid --sample " + in_quotes(text) + ": expected a power of two, up to 2147483648.";
          },
          ""));
  command->add_option("--format", choices->format, "oracle or csv")->check(CLI::IsMember({"oracle", "csv"}));
  command->callback([&session, choices] { session.run = [&session, choices] { return trace(session, *choices); }; });
}

}  // namespace memstream::cli
