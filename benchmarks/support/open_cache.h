// A cache of its own for one measurement; its segment goes with it.
#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "api/memstream.h"

namespace memstream::bench {

inline void require_ok(int status, const char* call) {
  if (status != CACHE_OK) throw std::runtime_error(fmt::format("{}: {}", call, cache_last_error()));
}

class OpenCache {
 public:
  // `shards` 0: as the library chooses. `suffix` tells the caches of one process apart.
  OpenCache(const std::string& backend, std::uint64_t size_bytes, std::uint32_t shards = 0,
            const std::string& suffix = "0")
      : backend_(backend), name_(fmt::format("measured-{}-{}", ::getpid(), suffix)) {
    memstream_options_init(&options_);
    options_.backend = backend_.c_str();
    options_.name = name_.c_str();
    options_.size_bytes = size_bytes;
    options_.shards = shards;
    require_ok(memstream_open(&options_, &cache_), "memstream_open");
  }
  OpenCache(const OpenCache&) = delete;
  OpenCache& operator=(const OpenCache&) = delete;
  ~OpenCache() {
    memstream_destroy(cache_);
    memstream_close(cache_);
  }

  memstream_t* handle() const noexcept { return cache_; }
  const memstream_options_t& options() const noexcept { return options_; }

  void set(const std::string& key, const void* value, std::size_t value_size) const {
    require_ok(memstream_set(cache_, key.data(), key.size(), value, value_size, 0, 0), "memstream_set");
  }
  cache_stats_t stats() const {
    cache_stats_t stats{};
    stats.struct_size = sizeof stats;
    require_ok(memstream_stats(cache_, &stats), "memstream_stats");
    return stats;
  }

 private:
  std::string backend_;
  std::string name_;
  memstream_options_t options_{};
  memstream_t* cache_ = nullptr;
};

inline std::string user_key(std::uint64_t number) { return fmt::format("user:{:08}", number); }

}  // namespace memstream::bench
