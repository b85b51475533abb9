// A near cache of one Redis or of a cluster: the C interface of memstream_near.h, but for its checks.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "near/memstream_near.h"
#include "near/redis_connection.h"
#include "near/upstream.h"

namespace memstream::near {

// The message for memstream_near_last_error().
int fail(int status, std::string message);
const char* last_error() noexcept;

class NearCache {
 public:
  struct Settings {
    Upstream::Settings upstream;
    std::string redis_text;  // As the caller wrote it.
    std::uint64_t max_lag_ms = 1000;
    std::uint64_t local_ttl_ms = 60'000;
    std::uint64_t absent_ttl_ms = 1000;
    bool serves_stale = false;
  };
  // Checks the options. CACHE_INVALID with a message that names the one that is wrong.
  static int read_options(const memstream_near_options_t& options, Settings* settings);
  static int open(memstream_t* cache, Settings settings, std::unique_ptr<NearCache>* near);

  int get(std::string_view key, void* value, std::size_t* value_size);
  int begin(std::string_view key, void* value, std::size_t* value_size, memstream_near_fill_t* fill);
  int try_begin(std::string_view key, void* value, std::size_t* value_size, memstream_near_fill_t* fill);
  int peek(std::string_view key, void* value, std::size_t* value_size);
  int peek_stale(std::string_view key, void* value, std::size_t* value_size);
  // A value of null: absent.
  int store(std::string_view key, const std::string_view* value, std::int64_t pttl_ms, memstream_near_fill_t* fill);
  int abandon(std::string_view key, memstream_near_fill_t* fill);
  int set(std::string_view key, std::string_view value, std::uint64_t ttl_ms);
  int remove(std::string_view key);
  int invalidate(std::string_view key);
  int stats(memstream_near_stats_t* stats);
  std::string agent_error() const;
  ~NearCache() { publish_counts(); }
  NearCache(const NearCache&) = delete;
  NearCache& operator=(const NearCache&) = delete;

 private:
  using Clock = RedisConnection::Clock;
  using Counter = std::atomic<std::uint64_t>;

  NearCache(memstream_t* cache, Settings settings)
      : cache_(cache), settings_(std::move(settings)), upstream_(settings_.upstream) {}

  bool is_tracked(std::string_view key) const noexcept;
  int look_up(std::uint32_t server, std::string_view key, void* value, std::size_t* value_size,
              std::uint64_t max_lag_ms, std::uint64_t* stale_cas);
  int bypass(memstream_near_fill_t* fill);
  // Takes the token, which comes before Redis is asked, and ends a lease whose holder may not store.
  void start_fill(Node& node, std::string_view key, memstream_near_fill_t* fill);
  void join_fill(std::string_view key, std::uint64_t stale_cas, bool* look_again, memstream_near_fill_t* fill);
  int ask(std::string_view key, const Upstream::Commands& commands, std::vector<Reply>* replies);
  int unreachable(const std::string& error);
  int refused(const redisReply& reply);

  static std::uint64_t count(Counter& counter) noexcept { return counter.fetch_add(1, std::memory_order_relaxed); }
  void count_hit();
  bool is_worth_keeping(std::uint64_t token) noexcept;
  // Adds what was counted since the last time to the counts of the segment.
  void publish_counts() noexcept;

  memstream_t* cache_;
  Settings settings_;
  struct Counters {
    Counter hits{0}, fetches{0}, fills{0}, conflicts{0}, merged{0}, bypasses{0}, stale{0}, errors{0};
  };
  Counters counts_;
  Counters published_;  // What of these the segment has.
  std::atomic<std::int64_t> next_publication_ns_{0};
  std::atomic<std::uint64_t> trials_{0};
  Upstream upstream_;
};

}  // namespace memstream::near
