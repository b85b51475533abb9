// The agent of a server: a thread that hears which keys change there, and carries that out in the segment.
// docs/decisions/0024 has the proof that relies on the order of its steps.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "api/memstream_near_core.h"
#include "near/redis_connection.h"
#include "near/slots.h"

namespace memstream::near {

// A thread that is started meanwhile gets none of the signals that the program expects elsewhere. Those that an
// instruction raises itself stay as they are, for the program's crash handler.
class SignalsFromElsewhereBlocked {
 public:
  SignalsFromElsewhereBlocked() noexcept {
    sigset_t from_elsewhere;
    ::sigfillset(&from_elsewhere);
    for (const int raised_here : {SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP}) {
      ::sigdelset(&from_elsewhere, raised_here);
    }
    ::pthread_sigmask(SIG_BLOCK, &from_elsewhere, &before_);
  }
  SignalsFromElsewhereBlocked(const SignalsFromElsewhereBlocked&) = delete;
  SignalsFromElsewhereBlocked& operator=(const SignalsFromElsewhereBlocked&) = delete;
  ~SignalsFromElsewhereBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_{};
};

class Agent {
 public:
  struct Settings {
    memstream_t* cache = nullptr;  // Outlives the agent.
    std::uint32_t server = 0;
    RedisAddress redis;
    std::vector<std::string> prefixes;  // Empty: all keys.
    std::chrono::milliseconds timeout{1000};
    bool is_of_cluster = false;  // Then it speaks only for the slots that the server says are its own.
  };

  // The agent of that server over that cache handle, which all near caches of the process share: the segment takes them
  // for one process. Null if the system gives it no thread or descriptor; errno says why.
  static std::shared_ptr<Agent> of(const Settings& settings);
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;
  // Gives the role up. In a child of the process that started it there is no thread to wait for.
  ~Agent();

  bool is_subscribed() const noexcept { return is_subscribed_.load(std::memory_order_relaxed); }
  std::uint64_t subscriptions() const noexcept { return subscriptions_.load(std::memory_order_relaxed); }
  // Why there is no subscription; empty if there is one, or if another process has the role.
  std::string error() const;

 private:
  using Clock = RedisConnection::Clock;

  explicit Agent(Settings settings) : settings_(std::move(settings)) {}
  static std::shared_ptr<Agent> start(Settings settings);
  void run();
  bool leads() noexcept { return memstream_near_core_lead(settings_.cache, settings_.server) == CACHE_OK; }
  // False as soon as the agent is to stop.
  bool sleep(std::chrono::milliseconds time) const;
  std::unique_ptr<RedisConnection> connect();
  // False, and the error is set, if the answer is not of the kind that is wanted. `rule`: the ACL rule that allows it.
  bool ask(RedisConnection& connection, const RedisConnection::Words& command, int wanted, std::string_view rule,
           Reply* reply);
  // What is there to follow.
  struct Subscription {
    std::unique_ptr<RedisConnection> messages;
    std::unique_ptr<RedisConnection> questions;  // A subscribed connection takes none. Of a cluster only.
    OwnView view;                                // What the server has said before the epoch began, and since then.
  };
  std::optional<Subscription> subscribe();
  // Until the connection is lost, the role has passed on, or the agent is to stop.
  void follow(Subscription& subscription);
  // Whether the server still is what it was; the epoch has been advanced if it lost slots. None: it cannot tell now.
  std::optional<bool> verify(Subscription& subscription);
  bool carry_out(const redisReply& message);
  void set_error(std::string error);

  Settings settings_;
  int stop_fd_ = -1;
  pid_t process_ = 0;
  std::unique_ptr<std::thread> thread_;
  std::atomic<bool> is_subscribed_{false};
  std::atomic<std::uint64_t> subscriptions_{0};
  mutable std::mutex error_mutex_;
  std::string error_;
};

}  // namespace memstream::near
