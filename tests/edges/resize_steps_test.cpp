// A resizer killed at each of its system calls, and at instructions around its commit: what is left is one whole
// segment, the old one or the new one.
#include <doctest/doctest.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <string>
#include <vector>

#include "tests/support/scale.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

#if defined(__x86_64__)

constexpr std::uint64_t kSizes[] = {2 << 20, 3 << 20};
constexpr int kKeys = 40;
constexpr int kPointsAroundCommit = 30;
constexpr int kMostInstructions = 120'000;  // About twice as many as in front of the commit.

int resize(memstream_t* cache) {
  memstream_info_t info{};
  info.struct_size = sizeof info;
  if (memstream_info(cache, &info) != CACHE_OK) return -1;
  memstream_resize_report_t report{};
  report.struct_size = sizeof report;
  return memstream_resize(cache, info.size_bytes == kSizes[0] ? kSizes[1] : kSizes[0], &report);
}

std::uint64_t size_of(memstream_t* cache) {
  memstream_info_t info{};
  info.struct_size = sizeof info;
  REQUIRE(memstream_info(cache, &info) == CACHE_OK);
  return info.size_bytes;
}

// A child that resizes, stopped before it begins. Killed at the end.
class Resizer {
 public:
  explicit Resizer(const CacheSpec& spec) : id_(::fork()) {
    if (id_ == 0) {
      try {
        const OpenCache own(spec);
        ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
        ::raise(SIGSTOP);
        ::_exit(resize(own) == CACHE_OK ? 0 : 1);
      } catch (...) {
        ::_exit(2);
      }
    }
    REQUIRE(id_ > 0);
    REQUIRE(::waitpid(id_, &state_, 0) == id_);
    REQUIRE(WIFSTOPPED(state_));
    REQUIRE(::ptrace(PTRACE_SETOPTIONS, id_, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) == 0);
  }
  Resizer(const Resizer&) = delete;
  Resizer& operator=(const Resizer&) = delete;
  ~Resizer() { kill(); }

  // Lets it run to the next entry or exit of a system call. False if it ended before.
  bool to_system_call() { return go_on(PTRACE_SYSCALL); }
  bool one_instruction() { return go_on(PTRACE_SINGLESTEP); }
  // Whether the next instruction is a system call.
  bool is_before_system_call() const {
    user_regs_struct registers{};
    if (::ptrace(PTRACE_GETREGS, id_, nullptr, &registers) != 0) return true;
    const long text = ::ptrace(PTRACE_PEEKTEXT, id_, registers.rip, nullptr);
    return (text & 0xffff) == 0x050f;
  }
  void kill() {
    if (is_over_) return;
    is_over_ = true;
    ::kill(id_, SIGKILL);
    while (::waitpid(id_, &state_, 0) == id_ && WIFSTOPPED(state_)) {
    }
  }
  bool has_succeeded() const { return is_over_ && WIFEXITED(state_) && WEXITSTATUS(state_) == 0; }

 private:
  bool go_on(__ptrace_request how) {
    if (::ptrace(how, id_, nullptr, nullptr) != 0 || ::waitpid(id_, &state_, 0) != id_) return false;
    is_over_ = WIFEXITED(state_) || WIFSIGNALED(state_);
    return !is_over_;
  }

  pid_t id_;
  int state_ = 0;
  bool is_over_ = false;
};

std::string key_of(int i) { return "key-" + std::to_string(i); }

// One of each kind: a small value, one that is pinned to be copied, one that expires.
void fill(memstream_t* cache) {
  for (int i = 0; i < kKeys; ++i) {
    const std::string value(i == 7 ? 50'000 : 20 + static_cast<std::size_t>(i) * 11, static_cast<char>('a' + i % 26));
    REQUIRE(memstream_set(cache, key_of(i).data(), key_of(i).size(), value.data(), value.size(),
                          i % 5 == 0 ? 3'600'000 : 0, static_cast<std::uint32_t>(i)) == CACHE_OK);
  }
}

// What a survivor finds: every entry, a segment that can be written, and none beside it after the next resize.
void check_survivor(memstream_t* cache, int round) {
  for (int i = 0; i < kKeys; ++i) {
    CAPTURE(i);
    std::string value(60'000, '\0');
    std::size_t size = value.size();
    memstream_meta_t meta{};
    REQUIRE(memstream_get(cache, key_of(i).data(), key_of(i).size(), value.data(), &size, &meta) == CACHE_OK);
    CHECK(size == (i == 7 ? 50'000 : 20 + static_cast<std::size_t>(i) * 11));
    CHECK(value.substr(0, size) == std::string(size, static_cast<char>('a' + i % 26)));
    CHECK(meta.flags == static_cast<std::uint32_t>(i));
    CHECK((meta.expires_at_ms != 0) == (i % 5 == 0));
  }
  const std::string written = std::to_string(round);
  REQUIRE(memstream_set(cache, "written", 7, written.data(), written.size(), 0, 0) == CACHE_OK);
  CHECK(problems_of(cache) == "");
}

// So that each child goes the same way: the first size, and nothing beside the segment that a dead one has left.
void begin_anew(memstream_t* cache) {
  do {
    REQUIRE(resize(cache) == CACHE_OK);
  } while (size_of(cache) != kSizes[0]);
  REQUIRE(resize(cache) == CACHE_OK);
  REQUIRE(resize(cache) == CACHE_OK);
}

std::size_t segments_of(memstream_t* cache, const std::string& name) {
  memstream_info_t info{};
  info.struct_size = sizeof info;
  REQUIRE(memstream_info(cache, &info) == CACHE_OK);
  std::vector<memstream_segment_t> segments(256);
  std::size_t count = 0;
  REQUIRE(memstream_segments(info.backend, segments.data(), sizeof segments[0], segments.size(), &count) == CACHE_OK);
  std::size_t found = 0;
  for (std::size_t i = 0; i < std::min(count, segments.size()); ++i) {
    if (std::string(segments[i].name).starts_with(name)) ++found;
  }
  return found;
}

// How many system calls and instructions a resizer takes is not the same each time: it looks at what else is on the
// machine. So a point that one does not reach is where it has ended.
int go_to_system_call(Resizer& resizer, int call) {
  int done = 0;
  while (done < call && resizer.to_system_call()) ++done;
  return done;
}

struct Outcomes {
  int old_ones = 0;
  int new_ones = 0;
};

// Kills resizers between a system call and the next one. None if too many instructions lie between them: it is not the
// commit that does.
Outcomes kill_around_commit(memstream_t* cache, const CacheSpec& spec, int calls_before_commit) {
  int instructions = 0;
  {
    begin_anew(cache);
    Resizer resizer(spec);
    go_to_system_call(resizer, calls_before_commit);
    while (instructions < kMostInstructions && resizer.one_instruction() && !resizer.is_before_system_call()) {
      ++instructions;
    }
  }
  Outcomes outcomes;
  if (instructions == kMostInstructions) return outcomes;
  const auto check_point = [&](int point) {
    CAPTURE(point);
    begin_anew(cache);
    Resizer resizer(spec);
    go_to_system_call(resizer, calls_before_commit);
    for (int step = 0; step < point && resizer.one_instruction();) ++step;
    resizer.kill();
    check_survivor(cache, point);
    ++(size_of(cache) == kSizes[0] ? outcomes.old_ones : outcomes.new_ones);
  };
  for (int i = 0; i < kPointsAroundCommit; ++i) check_point(instructions * i / kPointsAroundCommit);
  // The last of them are the commit, and the locks that are let go.
  for (int i = 0; i < 2 * kPointsAroundCommit; ++i) check_point(std::max(0, instructions - i));
  return outcomes;
}

TEST_CASE("a resizer killed at any system call, or around its commit, leaves one whole segment") {
  const TemporarySegment segment("resize-steps", kSizes[0], 0, 5000);
  const OpenCache cache(segment.spec());
  fill(cache);
  int calls_before_commit = -1;
  int calls = 0;
  int new_ones = 0;
  // Every one of them at full scale.
  const int stride = scaled(100) >= 100 ? 1 : 7;
  for (int call = 0;; call += stride) {
    CAPTURE(call);
    begin_anew(cache);
    Resizer resizer(segment.spec());
    const int done = go_to_system_call(resizer, call);
    resizer.kill();
    check_survivor(cache, call);
    if (size_of(cache) == kSizes[0]) {
      calls_before_commit = call;
    } else {
      ++new_ones;
    }
    if (done < call) {
      CHECK(resizer.has_succeeded());
      break;
    }
    calls = call;
  }
  CHECK(calls > 20);
  REQUIRE(calls_before_commit > 10);
  CHECK(new_ones > 0);

  if (stride == 1) {
    // The commit lies behind the last system call after which nothing had changed, or beside it: not every resizer
    // takes as many of them.
    Outcomes outcomes;
    for (const int more : {0, -1, 1}) {
      outcomes = kill_around_commit(cache, segment.spec(), calls_before_commit + more);
      if (outcomes.old_ones > 0 && outcomes.new_ones > 0) break;
    }
    if (outcomes.old_ones == 0 || outcomes.new_ones == 0) MESSAGE("no resizer was killed right at its commit");
  }
  REQUIRE(resize(cache) == CACHE_OK);
  CHECK(segments_of(cache, segment.spec().name) == 1);
}

#endif

}  // namespace
}  // namespace memstream::test
