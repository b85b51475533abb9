// A near cache as one process of many has it, for tests.
#pragma once

#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

#include "near/memstream_near.h"
#include "tests/support/test_cache.h"

namespace memstream::test {

inline constexpr std::uint64_t kSize = 16 << 20;

inline memstream_near_options_t options_for(const char* redis, std::uint64_t flags = 0) {
  memstream_near_options_t options{};
  options.struct_size = sizeof options;
  options.redis = redis;
  options.max_lag_ms = 600;
  options.timeout_ms = 500;
  options.flags = flags;
  return options;
}

inline bool becomes_true(const std::function<bool()>& condition,
                         std::chrono::milliseconds limit = std::chrono::milliseconds(10'000)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

// A near cache as one process of many has it.
class Near {
 public:
  Near(const CacheSpec& spec, const memstream_near_options_t& options) : cache_(spec) {
    if (memstream_near_open(cache_, &options, &near_) != CACHE_OK) {
      throw std::runtime_error(memstream_near_last_error());
    }
  }
  Near(const CacheSpec& spec, const std::string& redis, std::uint64_t flags = 0)
      : Near(spec, options_for(redis.c_str(), flags)) {}
  Near(const Near&) = delete;
  Near& operator=(const Near&) = delete;
  ~Near() { memstream_near_close(near_); }
  operator memstream_near_t*() const { return near_; }  // NOLINT(google-explicit-constructor): stands for the handle.
  memstream_t* cache() const { return cache_; }

  // The value, or the number of the status.
  std::string get(std::string_view key, std::size_t capacity = 200'000) const {
    std::string room(capacity, '\0');
    std::size_t size = room.size();
    const int status = memstream_near_get(near_, key.data(), key.size(), room.data(), &size);
    return status == CACHE_OK ? room.substr(0, size) : "status " + std::to_string(status);
  }
  int set(std::string_view key, std::string_view value, std::uint64_t ttl_ms = 0) const {
    return memstream_near_set(near_, key.data(), key.size(), value.data(), value.size(), ttl_ms);
  }
  int remove(std::string_view key) const { return memstream_near_delete(near_, key.data(), key.size()); }
  memstream_near_stats_t stats() const {
    memstream_near_stats_t stats{};
    stats.struct_size = sizeof stats;
    if (memstream_near_stats(near_, &stats) != CACHE_OK) throw std::runtime_error(memstream_near_last_error());
    return stats;
  }
  // Stores it and waits until it is a copy. The echo of the write, which ends a copy, is heard before.
  void have(std::string_view key, std::string_view value) const {
    REQUIRE(set(key, value) == CACHE_OK);
    const auto written = std::chrono::steady_clock::now();
    REQUIRE(becomes_true([&] {
      using std::chrono::milliseconds;
      const auto passed = std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - written);
      return stats().lag_ms < static_cast<std::uint64_t>(passed.count());  // UINT64_MAX: nothing was ever heard.
    }));
    REQUIRE(becomes_true([&] {
      const std::uint64_t hits = stats().hits;
      return get(key) == value && stats().hits > hits;
    }));
  }
  bool is_current() const { return stats().lag_ms < 400; }
  void wait_until_current() const {
    REQUIRE(becomes_true([this] { return is_current(); }));
  }

 private:
  OpenCache cache_;
  memstream_near_t* near_ = nullptr;
};

inline const std::string kAbsent = "status 1";
inline const std::string kUnreachable = "status -200";

}  // namespace memstream::test
