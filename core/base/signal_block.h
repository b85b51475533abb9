// Keeps signal handlers out of a critical section. One that forks there would find the mutex locked by its own thread,
// and wait for ever: fork() takes the same mutexes, so that the child finds them free.
#pragma once

#include <csignal>
#include <mutex>

namespace memstream {

// Blocks all signals for the calling thread while it lives. They stay pending.
class SignalBlock {
 public:
  SignalBlock() noexcept {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
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
