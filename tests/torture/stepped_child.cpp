#include "tests/torture/stepped_child.h"

#include <sys/auxv.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>
#include <unordered_map>
#include <utility>

#include "tests/torture/cache_under_test.h"
#include "tests/torture/stepped_body.h"

namespace memstream::torture {
namespace {

long trace_call(__ptrace_request request, pid_t process_id, std::uintptr_t address, std::uintptr_t data) {
  errno = 0;
  const long result = ::ptrace(request, process_id, address, data);
  if (errno != 0) throw std::runtime_error(std::string("ptrace: ") + std::strerror(errno));
  return result;
}

// Reading the clock takes one way or another through the kernel's page in each child: no breakpoint there is sure to be
// passed.
bool is_of_the_kernel(std::uint64_t address) {
  static const std::uint64_t begin = ::getauxval(AT_SYSINFO_EHDR);
  constexpr std::uint64_t kSize = 8192;
  return address >= begin && address < begin + kSize;
}

}  // namespace

// ---- routes ----

// Remembers how often each address was passed until when, and which stops can be reached at little cost.
class Route::Finder {
 public:
  Finder() { cheap_.fill(kStart); }

  void arrive(std::uint64_t address, std::uint32_t stop) { stops_at_[address].push_back(stop); }

  // The cheapest way to the last arrival at `address` that ends with a breakpoint.
  Way by_breakpoint(std::uint64_t address, const std::vector<Way>& ways) const {
    const std::vector<std::uint32_t>& stops = stops_at_.at(address);
    const auto all = static_cast<std::uint32_t>(stops.size());
    Way best{.from = kStart, .passages = all, .cost = all};
    for (const std::uint32_t from : cheap_) {
      if (from == kStart) continue;
      const auto before = std::upper_bound(stops.begin(), stops.end(), from) - stops.begin();
      const std::uint32_t passages = all - static_cast<std::uint32_t>(before);
      const std::uint32_t cost = ways[from].cost + passages;
      if (cost < best.cost) best = {.from = from, .passages = passages, .cost = cost};
    }
    return best;
  }

  // Later stops at the same cost are better: less lies between them and what comes.
  void note(std::uint32_t stop, std::uint32_t cost) {
    for (std::size_t i = kCosts.size(); i-- > 0 && cost <= kCosts[i];) cheap_[i] = stop;
  }

 private:
  static constexpr std::array<std::uint32_t, 12> kCosts{1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64};

  std::unordered_map<std::uint64_t, std::vector<std::uint32_t>> stops_at_;
  std::array<std::uint32_t, kCosts.size()> cheap_{};  // The latest stop that costs at most that.
};

Route::Route(const Trace& trace) : trace_(trace) {
  Finder finder;
  ways_.reserve(trace.size());
  for (std::uint32_t stop = 0; stop < trace.size(); ++stop) {
    // A repeated string instruction stops at every repetition when it is stepped, but only once at a breakpoint.
    const bool arrives = stop == 0 || trace[stop] != trace[stop - 1];
    Way way{.from = stop - 1, .passages = 0, .cost = stop == 0 ? kStart : ways_.back().cost + 1};
    if (arrives) arrivals_.push_back(stop);
    if (arrives && (stop == 0 || !is_of_the_kernel(trace[stop]))) {
      finder.arrive(trace[stop], stop);
      if (const Way other = finder.by_breakpoint(trace[stop], ways_); other.cost < way.cost) way = other;
    }
    ways_.push_back(way);
    if (arrives) finder.note(stop, way.cost);
  }
}

std::vector<Route::Leg> Route::legs(std::size_t instruction) const {
  std::vector<Leg> legs;
  std::uint32_t steps = 0;
  for (auto stop = static_cast<std::uint32_t>(arrivals_[instruction]); stop != kStart; stop = ways_[stop].from) {
    if (ways_[stop].passages == 0) {
      ++steps;
      continue;
    }
    legs.push_back({.address = trace_[stop], .passages = ways_[stop].passages, .steps = std::exchange(steps, 0)});
  }
  std::reverse(legs.begin(), legs.end());
  return legs;
}

// ---- children ----

SteppedChild::SteppedChild(const std::function<void()>& begin, const std::function<void()>& run)
    : process_id_(::fork()) {
  if (process_id_ < 0) throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
  if (process_id_ == 0) {
    ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    be_stepped(begin, run);
  }
  if (wait_for_stop() != Stop::kTrap) throw Finding("the child did not come to the beginning of its operation");
}

SteppedChild::~SteppedChild() { kill(); }

bool SteppedChild::go(const std::vector<Route::Leg>& legs) {
  bool from_start = true;
  for (const Route::Leg& leg : legs) {
    if (!pass(leg, std::exchange(from_start, false))) return false;
  }
  return true;
}

bool SteppedChild::pass(const Route::Leg& leg, bool from_start) {
  // Where the child stands now it has arrived already.
  std::uint32_t passages = from_start && instruction_pointer() == leg.address ? 1 : 0;
  for (; passages < leg.passages; ++passages) {
    if (run_to(leg.address) == Stop::kEnd) return false;
  }
  for (std::uint32_t steps = 0; steps < leg.steps; ++steps) {
    if (step() == Stop::kEnd) return false;
  }
  return true;
}

void SteppedChild::finish() {
  while (resume() != Stop::kEnd) {
  }
}

void SteppedChild::kill() {
  if (process_id_ < 0) return;
  const pid_t process_id = std::exchange(process_id_, -1);
  ::kill(process_id, SIGKILL);
  int status = 0;
  while (::waitpid(process_id, &status, 0) == process_id && !WIFSIGNALED(status) && !WIFEXITED(status)) {
  }
}

SteppedChild::Stop SteppedChild::step() {
  trace_call(PTRACE_SINGLESTEP, process_id_, 0, 0);
  return wait_for_stop();
}

SteppedChild::Stop SteppedChild::resume() {
  trace_call(PTRACE_CONT, process_id_, 0, 0);
  return wait_for_stop();
}

SteppedChild::Stop SteppedChild::wait_for_stop() {
  int status = 0;
  if (::waitpid(process_id_, &status, 0) != process_id_) throw std::runtime_error("waitpid: no such child");
  if (WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP) return Stop::kTrap;
  if (WIFSTOPPED(status) && WSTOPSIG(status) == SIGILL) return Stop::kEnd;
  if (!WIFSTOPPED(status)) process_id_ = -1;
  throw Finding(unexpected_end(status));
}

std::uint64_t SteppedChild::instruction_pointer() const {
  return static_cast<std::uint64_t>(trace_call(PTRACE_PEEKUSER, process_id_, offsetof(user, regs.rip), 0));
}

// To the next arrival at `address`. The breakpoint is an instruction in the child's own copy of the code: the
// processor's debug registers are without effect in some virtual machines, and nothing says so.
SteppedChild::Stop SteppedChild::run_to(std::uint64_t address) {
  constexpr std::uintptr_t kBreakpoint = 0xcc;  // int3
  while (instruction_pointer() == address) {    // Off it, and all of a repeated one.
    if (step() == Stop::kEnd) return Stop::kEnd;
  }
  const auto code = static_cast<std::uintptr_t>(trace_call(PTRACE_PEEKTEXT, process_id_, address, 0));
  trace_call(PTRACE_POKETEXT, process_id_, address, (code & ~std::uintptr_t{0xff}) | kBreakpoint);
  const Stop stop = resume();
  trace_call(PTRACE_POKETEXT, process_id_, address, code);
  if (stop == Stop::kTrap) trace_call(PTRACE_POKEUSER, process_id_, offsetof(user, regs.rip), address);
  return stop;
}

}  // namespace memstream::torture
