// Caches for measurements. A segment is destroyed with the object that created it.
#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "api/memstream.h"

namespace memstream::bench {

inline void require_ok(int status, const char* call) {
  if (status == CACHE_OK) [[likely]]
    return;
  throw std::runtime_error(fmt::format("{}: {}", call, cache_last_error()));
}

// Options for a segment. The texts must outlive them.
inline memstream_options_t options_of(const char* backend, const std::string& name, std::uint64_t size_bytes) {
  memstream_options_t options;
  memstream_options_init(&options);
  options.backend = backend;
  options.name = name.c_str();
  options.size_bytes = size_bytes;
  return options;
}

// Creates a segment, and destroys it at the end.
class CreatedCache {
 public:
  explicit CreatedCache(const memstream_options_t& options) {
    require_ok(memstream_open(&options, &cache_), "memstream_open");
  }
  CreatedCache(const CreatedCache&) = delete;
  CreatedCache& operator=(const CreatedCache&) = delete;
  ~CreatedCache() {
    memstream_destroy(cache_);
    memstream_close(cache_);
  }
  memstream_t* handle() const noexcept { return cache_; }

 private:
  memstream_t* cache_ = nullptr;
};

// A further handle on a segment that exists.
class JoinedCache {
 public:
  explicit JoinedCache(memstream_options_t options) {
    options.flags |= MEMSTREAM_OPEN_EXISTING;
    require_ok(memstream_open(&options, &cache_), "memstream_open");
  }
  JoinedCache(const JoinedCache&) = delete;
  JoinedCache& operator=(const JoinedCache&) = delete;
  ~JoinedCache() { memstream_close(cache_); }
  memstream_t* handle() const noexcept { return cache_; }

 private:
  memstream_t* cache_ = nullptr;
};

class OpenCache {
 public:
  // `shards` 0: as the library chooses. `suffix` tells the caches of one process apart.
  OpenCache(const std::string& backend, std::uint64_t size_bytes, std::uint32_t shards = 0,
            const std::string& suffix = "0")
      : backend_(backend),
        name_(fmt::format("measured-{}-{}", ::getpid(), suffix)),
        options_(with_shards(options_of(backend_.c_str(), name_, size_bytes), shards)),
        cache_(options_) {}

  memstream_t* handle() const noexcept { return cache_.handle(); }
  const memstream_options_t& options() const noexcept { return options_; }

  void set(const std::string& key, const void* value, std::size_t value_size) const {
    require_ok(memstream_set(handle(), key.data(), key.size(), value, value_size, 0, 0), "memstream_set");
  }
  cache_stats_t stats() const {
    cache_stats_t stats{};
    stats.struct_size = sizeof stats;
    require_ok(memstream_stats(handle(), &stats), "memstream_stats");
    return stats;
  }

 private:
  static memstream_options_t with_shards(memstream_options_t options, std::uint32_t shards) {
    options.shards = shards;
    return options;
  }

  std::string backend_;
  std::string name_;
  memstream_options_t options_;
  CreatedCache cache_;
};

inline std::string user_key(std::uint64_t number) { return fmt::format("user:{:08}", number); }

}  // namespace memstream::bench
