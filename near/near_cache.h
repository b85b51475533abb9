// A near cache of one Redis: what the C interface of memstream_near.h does, without its checks of pointers.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "near/agent.h"
#include "near/memstream_near.h"
#include "near/redis_connection.h"

namespace memstream::near {

// The message for memstream_near_last_error().
int fail(int status, std::string message);
const char* last_error() noexcept;

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

class NearCache {
 public:
  struct Settings {
    RedisAddress redis;
    std::string redis_text;  // As the caller wrote it.
    std::vector<std::string> prefixes;
    std::chrono::milliseconds timeout{1000};
    std::uint64_t max_lag_ms = 1000;
    std::uint64_t local_ttl_ms = 60'000;
    std::uint64_t absent_ttl_ms = 1000;
    bool runs_agent = true;
    bool serves_stale = false;
  };
  // Checks the options. CACHE_INVALID with a message that names the one that is wrong.
  static int read_options(const memstream_near_options_t& options, Settings* settings);
  static int open(memstream_t* cache, Settings settings, std::unique_ptr<NearCache>* near);

  int get(std::string_view key, void* value, std::size_t* value_size);
  int begin(std::string_view key, void* value, std::size_t* value_size, memstream_near_fill_t* fill);
  // A value of null: absent.
  int store(std::string_view key, const std::string_view* value, std::int64_t pttl_ms, memstream_near_fill_t* fill);
  int abandon(std::string_view key, memstream_near_fill_t* fill);
  int set(std::string_view key, std::string_view value, std::uint64_t ttl_ms);
  int remove(std::string_view key);
  int invalidate(std::string_view key);
  int stats(memstream_near_stats_t* stats);
  std::string agent_error() const { return agent_ == nullptr ? std::string{} : agent_->error(); }

 private:
  using Clock = RedisConnection::Clock;
  using Counter = std::atomic<std::uint64_t>;

  NearCache(memstream_t* cache, Settings settings, std::uint32_t server)
      : cache_(cache), settings_(std::move(settings)), server_(server) {}

  bool is_tracked(std::string_view key) const noexcept;
  int look_up(std::string_view key, void* value, std::size_t* value_size, std::uint64_t max_lag_ms,
              std::uint64_t* stale_cas);
  int bypass(memstream_near_fill_t* fill);
  void join_fill(std::string_view key, std::uint64_t stale_cas, bool* look_again, memstream_near_fill_t* fill);
  // Sends the commands in one go, and again over a new connection if an old one turns out to be lost.
  int ask(const std::vector<RedisConnection::Words>& commands, std::vector<Reply>* replies);
  int unreachable(const std::string& error);
  int refused(const redisReply& reply);

  static void count(Counter& counter) noexcept { counter.fetch_add(1, std::memory_order_relaxed); }

  memstream_t* cache_;
  Settings settings_;
  std::uint32_t server_;
  ConnectionPool connections_;
  struct Counters {
    Counter hits{0}, fetches{0}, fills{0}, conflicts{0}, merged{0}, bypasses{0}, stale{0}, errors{0};
  } counts_;
  std::shared_ptr<Agent> agent_;
};

}  // namespace memstream::near
