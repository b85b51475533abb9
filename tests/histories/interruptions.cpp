// See Interruptions in client.h.
#include <sched.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <ctime>

#include "tests/histories/client.h"

namespace memstream::histories {
namespace {

constexpr std::uint64_t kShortStretchUs = 40;
constexpr std::uint64_t kLongStretchUs = 1000;

volatile std::sig_atomic_t dies_at_next = 0;
volatile std::sig_atomic_t interrupts = 0;
std::uint64_t random_state = 1;

std::uint64_t next_random() {
  random_state = random_state * 6'364'136'223'846'793'005ULL + 1'442'695'040'888'963'407ULL;
  return random_state >> 40;
}

// One interruption at a time: a periodic timer that fires again before the handler is done would leave no instruction
// to the process.
void interrupt_after(std::uint64_t microseconds) {
  const itimerval timer{.it_interval = {.tv_sec = 0, .tv_usec = 0},
                        .it_value = {.tv_sec = 0, .tv_usec = static_cast<suseconds_t>(microseconds)}};
  ::setitimer(ITIMER_REAL, &timer, nullptr);
}

// Gives the core away, or sleeps for a while, so that others come far while this process stands where it stands.
void interrupt(int) {
  if (interrupts == 0) return;
  if (dies_at_next != 0) ::kill(::getpid(), SIGKILL);
  const int error = errno;
  if (next_random() % 4 == 0) {
    const timespec pause{.tv_sec = 0, .tv_nsec = static_cast<long>(next_random() % 60'000)};
    ::nanosleep(&pause, nullptr);
  } else {
    ::sched_yield();
  }
  // Most stretches are so short that a machine with much else to do may not come to run the process in them at all: now
  // and then there is a long one, or a client that holds a lock would keep the others beyond their deadline.
  interrupt_after(1 + next_random() % (next_random() % 8 == 0 ? kLongStretchUs : kShortStretchUs));
  errno = error;
}

}  // namespace

Interruptions::Interruptions(std::uint64_t seed) {
  random_state = seed;
  struct sigaction action {};
  action.sa_handler = interrupt;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGALRM, &action, nullptr);
  interrupts = 1;
  interrupt_after(1);
}

Interruptions::~Interruptions() {
  interrupts = 0;
  interrupt_after(0);
}

void Interruptions::die_soon() {
  dies_at_next = 1;
  interrupt_after(1 + next_random() % kShortStretchUs);
}

}  // namespace memstream::histories
