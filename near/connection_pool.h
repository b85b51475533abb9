// Idle connections to one Redis server, which all threads of a process share.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "near/redis_connection.h"

namespace memstream::near {

// How often this process is a child of a child of the one that loaded the library.
std::uint64_t forks() noexcept;

// Idle connections to Redis. A child of fork() has none of its parent's: it leaves them alone, since another thread may
// have been in the middle of a change, and so also never answers to a question of its parent.
class ConnectionPool {
 public:
  ConnectionPool() : own_(new Idle) {}
  ConnectionPool(const ConnectionPool&) = delete;
  ConnectionPool& operator=(const ConnectionPool&) = delete;
  ~ConnectionPool();

  // Null if there is none.
  std::unique_ptr<RedisConnection> take();
  void give(std::unique_ptr<RedisConnection> connection);

 private:
  static constexpr std::size_t kMostIdle = 64;
  struct Idle {
    std::uint64_t process = 0;  // As forks() counts them.
    std::mutex mutex;
    std::vector<std::unique_ptr<RedisConnection>> connections;
  };
  Idle& idle();

  std::atomic<Idle*> own_;
};

}  // namespace memstream::near
