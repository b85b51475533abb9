// A child process that is walked to an exact instruction and killed there.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace memstream::torture {

// The stops of one run, in order, by address. Children forked from one parent have the same address space, so that a
// trace of one serves for the next.
using Trace = std::vector<std::uint64_t>;

// Forks a child that does what a SteppedChild does and notes its own way to the end of `run`, where it ends. Nobody
// stops it: the signals of its single steps take half of the time that a debugger's stops take.
Trace trace_of(const std::function<void()>& begin, const std::function<void()>& run);

// Says for each instruction of a trace how to get there with few stops: run to the k-th passage over an address that is
// rarely passed, from there to the m-th passage over another, ..., and step the rest. Each stop costs some 20
// microseconds where the machine is a virtual one; walking to each of n instructions would take n * n / 2 of them.
class Route {
 public:
  explicit Route(const Trace& trace);

  struct Leg {
    std::uint64_t address = 0;   // Of a breakpoint.
    std::uint32_t passages = 0;  // How often it is reached.
    std::uint32_t steps = 0;     // From there.
  };
  std::vector<Leg> legs(std::size_t instruction) const;
  std::uint64_t address(std::size_t instruction) const { return trace_[arrivals_[instruction]]; }
  // A repeated string instruction counts once, however often it stopped.
  std::size_t instructions() const { return arrivals_.size(); }

 private:
  static constexpr std::uint32_t kStart = ~std::uint32_t{0};
  // How a stop of the trace is reached with the fewest stops in all: from the stop before, or by a breakpoint.
  struct Way {
    std::uint32_t from = kStart;  // Stop of the trace.
    std::uint32_t passages = 0;   // 0: one step.
    std::uint32_t cost = 0;
  };
  class Finder;

  const Trace trace_;
  std::vector<Way> ways_;              // One for each stop of the trace.
  std::vector<std::size_t> arrivals_;  // The stops at which an instruction begins.
};

class SteppedChild {
 public:
  // Forks. The child calls `begin`, stops, and when it is let go calls `run` and stops again.
  SteppedChild(const std::function<void()>& begin, const std::function<void()>& run);
  SteppedChild(const SteppedChild&) = delete;
  SteppedChild& operator=(const SteppedChild&) = delete;
  ~SteppedChild();  // Kills.

  // Goes to where `legs` lead. False if the child came to the end of `run` before, as it may where timing decides.
  bool go(const std::vector<Route::Leg>& legs);
  bool is_at(std::uint64_t address) const { return instruction_pointer() == address; }
  // Lets it run to the end.
  void finish();
  // Ends it where it stands, and waits until the kernel has let go of its locks.
  void kill();

  pid_t process_id() const { return process_id_; }

 private:
  enum class Stop { kTrap, kEnd };
  Stop step();
  bool pass(const Route::Leg& leg, bool from_start);
  Stop resume();
  Stop wait_for_stop();
  std::uint64_t instruction_pointer() const;
  Stop run_to(std::uint64_t address);

  pid_t process_id_ = -1;
};

}  // namespace memstream::torture
