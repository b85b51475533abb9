// Keeps signal handlers out of a critical section. One that forks there would find the mutex locked by its own thread,
// and wait for ever: fork() takes the same mutexes, so that the child finds them free.
#pragma once

#include <csignal>
#include <initializer_list>
#include <mutex>

namespace memstream {

// Blocks signals for the calling thread while it lives, besides those that the thread blocks already. They stay
// pending. Those that an instruction raises itself are left as they are: the kernel ends a process that blocks them,
// and a crash handler would never see them.
class SignalBlock {
 public:
  SignalBlock() noexcept {
    sigset_t from_elsewhere;
    ::sigfillset(&from_elsewhere);
    for (const int raised_here : {SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP}) {
      ::sigdelset(&from_elsewhere, raised_here);
    }
    ::pthread_sigmask(SIG_BLOCK, &from_elsewhere, &before_);
  }
  SignalBlock(const SignalBlock&) = delete;
  SignalBlock& operator=(const SignalBlock&) = delete;
  ~SignalBlock() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

// std::lock_guard for a mutex that fork() takes too.
class ForkSafeGuard {
 public:
  explicit ForkSafeGuard(std::mutex& mutex) : guard_(mutex) {}

 private:
  SignalBlock no_signals_;  // Before the lock, and until after it.
  std::lock_guard<std::mutex> guard_;
};

}  // namespace memstream
