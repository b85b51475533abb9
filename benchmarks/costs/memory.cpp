#include "benchmarks/costs/memory.h"

#include <libmemcached/memcached.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "benchmarks/c/interrupt.h"
#include "benchmarks/c/server.h"
#include "benchmarks/support/open_cache.h"

namespace memstream::bench {
namespace {

constexpr std::uint64_t kKeySize = 13;
constexpr std::uint64_t kValueSize = 64;
constexpr std::uint64_t kLook = 4096;  // Items stored between two looks at the statistics.

nlohmann::json overhead(const std::string& store, std::uint64_t size_bytes, std::uint64_t items) {
  const double payload = static_cast<double>(items * (kKeySize + kValueSize));
  return {{"store", store},
          {"size_bytes", size_bytes},
          {"items", items},
          {"overhead_bytes_per_item", (static_cast<double>(size_bytes) - payload) / static_cast<double>(items)}};
}

std::uint64_t memcached_number(memcached_st* connection, const char* name) {
  memcached_return_t outcome = MEMCACHED_SUCCESS;
  memcached_stat_st* stats = memcached_stat(connection, nullptr, &outcome);
  if (outcome != MEMCACHED_SUCCESS) throw std::runtime_error("memcached_stat failed");
  char* text = memcached_stat_get_value(connection, stats, name, &outcome);
  const std::uint64_t number = text == nullptr ? 0 : std::strtoull(text, nullptr, 10);
  std::free(text);
  memcached_stat_free(connection, stats);
  return number;
}

}  // namespace

nlohmann::json measure_overhead(const std::string& backend, std::uint64_t size_bytes) {
  OpenCache cache(backend, size_bytes);
  const char value[kValueSize] = {};
  std::uint64_t number = 0;
  // Twice as many as fit at first: what the border between table and heap settles at counts, not the first eviction.
  const std::uint64_t most = 2 * size_bytes / (kKeySize + kValueSize + 83);
  while (number < most) {
    stop_if_interrupted();
    for (std::uint64_t i = 0; i < kLook; ++i) cache.set(user_key(number++), value, sizeof value);
  }
  const cache_stats_t stats = cache.stats();
  if (stats.evictions == 0) throw std::runtime_error("the cache was not full");
  return overhead("memstream-" + backend, size_bytes, stats.entries);
}

nlohmann::json measure_memcached_overhead(std::uint64_t size_bytes, const std::string& scratch) {
  const Server server({"memcached", "-s", scratch + "/memcached", "-m", std::to_string(size_bytes >> 20), "-t", "1",
                       "-u", "nobody", "-a", "0777"},
                      scratch + "/memcached");
  memcached_st* connection = memcached_create(nullptr);
  const std::shared_ptr<memcached_st> owner(connection, memcached_free);
  if (memcached_server_add_unix_socket(connection, server.socket().c_str()) != MEMCACHED_SUCCESS) {
    throw std::runtime_error("cannot connect to memcached");
  }
  memcached_behavior_set(connection, MEMCACHED_BEHAVIOR_NOREPLY, 1);
  memcached_behavior_set(connection, MEMCACHED_BEHAVIOR_BUFFER_REQUESTS, 1);
  const char value[kValueSize] = {};
  std::uint64_t number = 0;
  do {
    stop_if_interrupted();
    for (std::uint64_t i = 0; i < kLook * 16; ++i) {
      const std::string key = user_key(number++);
      const memcached_return_t outcome = memcached_set(connection, key.data(), key.size(), value, sizeof value, 0, 0);
      if (outcome != MEMCACHED_SUCCESS && outcome != MEMCACHED_BUFFERED)
        throw std::runtime_error("memcached_set failed");
    }
    memcached_flush_buffers(connection);
  } while (memcached_number(connection, "evictions") == 0 && number < size_bytes / kValueSize);
  return overhead("memcached", size_bytes, memcached_number(connection, "curr_items"));
}

nlohmann::json measure_shifting_sizes(const std::string& backend, std::uint64_t size_bytes) {
  OpenCache cache(backend, size_bytes);
  const std::vector<char> value(100 << 10);
  nlohmann::json stretches = nlohmann::json::array();
  double least = 1;
  std::uint64_t number = 0;
  for (const std::size_t value_size :
       {std::size_t{64}, std::size_t{1} << 10, std::size_t{100} << 10, std::size_t{1} << 10, std::size_t{64}}) {
    // One and a half times the size of the cache, in at least sixty steps.
    const std::uint64_t items = size_bytes * 3 / 2 / (value_size + 96);
    const std::uint64_t step = std::max<std::uint64_t>(1, items / 60);
    double share = 1;
    for (std::uint64_t stored = 0; stored < items; stored += step) {
      stop_if_interrupted();
      for (std::uint64_t i = 0; i < step; ++i) cache.set(user_key(number++), value.data(), value_size);
      const cache_stats_t stats = cache.stats();
      share = static_cast<double>(stats.used_memory) / static_cast<double>(stats.max_memory - stats.table_memory);
      if (stats.evictions != 0) least = std::min(least, share);
    }
    stretches.push_back({{"value_size", value_size}, {"live_share", share}});
  }
  return {{"store", "memstream-" + backend}, {"least_live_share", least}, {"stretches", stretches}};
}

}  // namespace memstream::bench
