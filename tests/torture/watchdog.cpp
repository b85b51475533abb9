#include "tests/torture/watchdog.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>

namespace memstream::torture {
namespace {

// The handler may use nothing that allocates.
std::array<char, 256> sentence;

void report_hang(int) {
  static_cast<void>(::write(STDERR_FILENO, sentence.data(), ::strnlen(sentence.data(), sentence.size())) == 0);
  ::_exit(kHangExitCode);
}

}  // namespace

Watchdog::Watchdog(std::chrono::seconds limit) : limit_(limit) {
  struct sigaction action {};
  action.sa_handler = report_hang;
  ::sigaction(SIGALRM, &action, nullptr);
  rearm("beginning");
}

Watchdog::~Watchdog() { ::alarm(0); }

void Watchdog::rearm(const std::string& doing) {
  const std::string text = "FINDING: a hang while " + doing + "\n";
  sentence.fill('\0');
  std::copy_n(text.begin(), std::min(text.size(), sentence.size() - 1), sentence.begin());
  ::alarm(static_cast<unsigned>(limit_.count()));
}

}  // namespace memstream::torture
