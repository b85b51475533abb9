#include "tests/torture/stepped_child.h"

#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>
#include <string>
#include <unordered_map>
#include <utility>

#include "tests/torture/cache_under_test.h"

namespace memstream::torture {
namespace {

constexpr int kBodyFailed = 3;

long trace_call(__ptrace_request request, pid_t process_id, std::uintptr_t address, std::uintptr_t data) {
  errno = 0;
  const long result = ::ptrace(request, process_id, address, data);
  if (errno != 0) throw std::runtime_error(std::string("ptrace: ") + std::strerror(errno));
  return result;
}

constexpr std::uintptr_t debug_register(std::size_t number) {
  return offsetof(user, u_debugreg) + number * sizeof(user::u_debugreg[0]);
}

// The two marks raise different signals, so that no further question is needed at each stop.
[[gnu::noinline]] void mark_begin() { asm volatile("int3" ::: "memory"); }
[[gnu::noinline]] void mark_end() { asm volatile("ud2" ::: "memory"); }

}  // namespace

Route::Route(const Trace& trace) {
  legs_.reserve(trace.size());
  std::unordered_map<std::uint64_t, std::uint32_t> passages;
  std::uint64_t previous = 0;
  for (const std::uint64_t address : trace) {
    // A repeated string instruction stops at every repetition when it is stepped, but only once at a breakpoint.
    const bool arrives = address != previous;
    previous = address;
    if (arrives) {
      ++passages[address];
      arrivals_.push_back(legs_.size());
    }
    Leg leg{.address = address, .passages = passages[address], .steps = 0};
    if (!legs_.empty() && (!arrives || legs_.back().passages + legs_.back().steps + 1 < leg.passages)) {
      leg = legs_.back();
      ++leg.steps;
    }
    legs_.push_back(leg);
  }
}

SteppedChild::SteppedChild(const std::function<void()>& begin, const std::function<void()>& run)
    : process_id_(::fork()) {
  if (process_id_ < 0) throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
  if (process_id_ == 0) {
    try {
      ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
      begin();
      mark_begin();
      run();
      mark_end();
    } catch (const std::exception&) {
      ::_exit(kBodyFailed);
    }
    ::_exit(0);
  }
  if (wait_for_stop() != Stop::kTrap) throw Finding("the child did not come to the beginning of its operation");
}

SteppedChild::~SteppedChild() { kill(); }

Trace SteppedChild::walk_to_end() {
  Trace trace;
  do {
    trace.push_back(instruction_pointer());
  } while (step() != Stop::kEnd);
  return trace;
}

bool SteppedChild::go(const Route::Leg& leg) {
  set_breakpoint(leg.address);
  // A breakpoint where the child stands now would not be noticed: it has passed there already.
  std::uint32_t passages = instruction_pointer() == leg.address ? 1 : 0;
  for (; passages < leg.passages; ++passages) {
    if (resume() == Stop::kEnd) return false;
  }
  clear_breakpoint();
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
  if (WIFSTOPPED(status)) throw Finding(std::string("the child got the signal ") + ::strsignal(WSTOPSIG(status)));
  process_id_ = -1;
  throw Finding("the operation failed in the child, exit code " + std::to_string(WEXITSTATUS(status)));
}

std::uint64_t SteppedChild::instruction_pointer() const {
  return static_cast<std::uint64_t>(trace_call(PTRACE_PEEKUSER, process_id_, offsetof(user, regs.rip), 0));
}

void SteppedChild::set_breakpoint(std::uint64_t address) {
  trace_call(PTRACE_POKEUSER, process_id_, debug_register(0), address);
  trace_call(PTRACE_POKEUSER, process_id_, debug_register(7), 1);  // Execution, one byte, this process.
}

void SteppedChild::clear_breakpoint() { trace_call(PTRACE_POKEUSER, process_id_, debug_register(7), 0); }

}  // namespace memstream::torture
