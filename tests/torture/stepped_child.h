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

// Says for each instruction of a trace how to get there with few stops: run to the k-th passage over an address that is
// rarely passed, and step from there. Walking to each of n instructions one by one would take n * n / 2 stops.
class Route {
 public:
  explicit Route(const Trace& trace);

  struct Leg {
    std::uint64_t address = 0;   // Of a breakpoint.
    std::uint32_t passages = 0;  // How often it is reached.
    std::uint32_t steps = 0;     // From there.
  };
  const Leg& leg(std::size_t instruction) const { return legs_[arrivals_[instruction]]; }
  // A repeated string instruction counts once, however often it stopped.
  std::size_t instructions() const { return arrivals_.size(); }

 private:
  std::vector<Leg> legs_;              // One for each stop of the trace.
  std::vector<std::size_t> arrivals_;  // The stops at which an instruction begins.
};

class SteppedChild {
 public:
  // Forks. The child calls `begin`, stops, and when it is let go calls `run` and stops again.
  SteppedChild(const std::function<void()>& begin, const std::function<void()>& run);
  SteppedChild(const SteppedChild&) = delete;
  SteppedChild& operator=(const SteppedChild&) = delete;
  ~SteppedChild();  // Kills.

  // Walks to the end of `run` and notes the way.
  Trace walk_to_end();
  // Goes to where `leg` leads. False if the child came to the end of `run` before, as it may where timing decides.
  bool go(const Route::Leg& leg);
  // Lets it run to the end.
  void finish();
  // Ends it where it stands, and waits until the kernel has let go of its locks.
  void kill();

  pid_t process_id() const { return process_id_; }

 private:
  enum class Stop { kTrap, kEnd };
  Stop step();
  Stop resume();
  Stop wait_for_stop();
  std::uint64_t instruction_pointer() const;
  void set_breakpoint(std::uint64_t address);
  void clear_breakpoint();

  pid_t process_id_ = -1;
};

}  // namespace memstream::torture
