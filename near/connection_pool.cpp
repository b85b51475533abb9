#include "near/connection_pool.h"

#include <pthread.h>

#include <utility>

namespace memstream::near {
namespace {

std::atomic<std::uint64_t> fork_count{0};
[[maybe_unused]] const int is_registered = ::pthread_atfork(nullptr, nullptr, [] { ++fork_count; });

}  // namespace

std::uint64_t forks() noexcept { return fork_count.load(std::memory_order_relaxed); }

ConnectionPool::~ConnectionPool() {
  Idle* const own = own_.load(std::memory_order_relaxed);
  if (own->process == forks()) delete own;
}

ConnectionPool::Idle& ConnectionPool::idle() {
  Idle* own = own_.load(std::memory_order_acquire);
  const std::uint64_t process = forks();
  if (own->process == process) [[likely]]
    return *own;
  auto fresh = std::make_unique<Idle>();
  fresh->process = process;
  if (own_.compare_exchange_strong(own, fresh.get(), std::memory_order_acq_rel)) return *fresh.release();
  return *own;
}

std::unique_ptr<RedisConnection> ConnectionPool::take() {
  Idle& own = idle();
  const std::lock_guard<std::mutex> guard(own.mutex);
  if (own.connections.empty()) return nullptr;
  std::unique_ptr<RedisConnection> connection = std::move(own.connections.back());
  own.connections.pop_back();
  return connection;
}

void ConnectionPool::give(std::unique_ptr<RedisConnection> connection) {
  Idle& own = idle();
  const std::lock_guard<std::mutex> guard(own.mutex);
  if (own.connections.size() < kMostIdle) own.connections.push_back(std::move(connection));
}

}  // namespace memstream::near
