// Ends the program with a sentence when what it waits for does not come: a hang is a finding too, and nothing else can
// report it.
#pragma once

#include <chrono>
#include <string>

namespace memstream::torture {

inline constexpr int kHangExitCode = 4;

// One at a time in a process. While it lives, the process ends after `limit` unless rearm() is called before.
class Watchdog {
 public:
  explicit Watchdog(std::chrono::seconds limit);
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog();

  // Begins to count anew, for what `doing` says.
  void rearm(const std::string& doing);

 private:
  std::chrono::seconds limit_;
};

}  // namespace memstream::torture
