#include "core/base/signal_block.h"

#include <doctest/doctest.h>

#include <csignal>

namespace {

volatile std::sig_atomic_t handled = 0;

void count(int /*signal*/) { handled = handled + 1; }

class CountedSignal {
 public:
  explicit CountedSignal(int signal) : signal_(signal) {
    handled = 0;
    struct sigaction action {};
    action.sa_handler = &count;
    REQUIRE(::sigaction(signal, &action, &before_) == 0);
  }
  CountedSignal(const CountedSignal&) = delete;
  CountedSignal& operator=(const CountedSignal&) = delete;
  ~CountedSignal() { ::sigaction(signal_, &before_, nullptr); }

 private:
  int signal_;
  struct sigaction before_ {};
};

TEST_CASE("a signal from elsewhere waits for the end of the block") {
  const CountedSignal counted(SIGUSR1);
  {
    const memstream::SignalBlock no_signals;
    REQUIRE(::raise(SIGUSR1) == 0);
    CHECK(handled == 0);
  }
  CHECK(handled == 1);
}

TEST_CASE("a signal that an instruction raises reaches its handler inside the block") {
  for (const int signal : {SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP}) {
    CAPTURE(signal);
    const CountedSignal counted(signal);
    const memstream::SignalBlock no_signals;
    REQUIRE(::raise(signal) == 0);
    CHECK(handled == 1);
  }
}

TEST_CASE("a signal that the thread blocks stays blocked") {
  const CountedSignal counted(SIGTRAP);
  sigset_t trap;
  sigset_t before;
  ::sigemptyset(&trap);
  ::sigaddset(&trap, SIGTRAP);
  REQUIRE(::pthread_sigmask(SIG_BLOCK, &trap, &before) == 0);
  REQUIRE(::raise(SIGTRAP) == 0);
  { const memstream::SignalBlock no_signals; }
  CHECK(handled == 0);
  REQUIRE(::pthread_sigmask(SIG_SETMASK, &before, nullptr) == 0);
  CHECK(handled == 1);
}

}  // namespace
