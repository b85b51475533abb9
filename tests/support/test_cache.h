// Caches of the C interface for tests: handles that close themselves, and segments that are gone when the test is.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include "api/memstream.h"

namespace memstream::test {

// Which segment to open and how it is made. The backend is what MEMSTREAM_BACKEND says.
struct CacheSpec {
  std::string name;
  std::uint64_t size_bytes = 0;
  std::uint32_t shards = 0;
  std::int64_t timeout_ms = 1000;

  memstream_options_t options() const {
    memstream_options_t options;
    memstream_options_init(&options);
    options.name = name.c_str();
    options.size_bytes = size_bytes;
    options.shards = shards;
    options.timeout_ms = timeout_ms;
    return options;
  }
};

// An open cache. Every process of a test opens its own.
class OpenCache {
 public:
  // Throws std::runtime_error if it cannot be opened.
  explicit OpenCache(const CacheSpec& spec) : OpenCache(spec.options()) {}
  explicit OpenCache(const memstream_options_t& options) {
    if (memstream_open(&options, &cache_) != CACHE_OK) throw std::runtime_error(cache_last_error());
  }
  OpenCache(const OpenCache&) = delete;
  OpenCache& operator=(const OpenCache&) = delete;
  ~OpenCache() { memstream_close(cache_); }

  // The handle, to be passed to the functions of the C interface.
  operator memstream_t*() const { return cache_; }  // NOLINT(google-explicit-constructor): stands for the handle.

 private:
  memstream_t* cache_ = nullptr;
};

// The name of a segment that belongs to this test alone; whatever has that name at the end is destroyed.
class TemporarySegment {
 public:
  TemporarySegment(const std::string& purpose, std::uint64_t size_bytes, std::uint32_t shards = 0,
                   std::int64_t timeout_ms = 1000)
      : spec_{"test-" + std::to_string(::getpid()) + "-" + purpose, size_bytes, shards, timeout_ms} {}
  TemporarySegment(const TemporarySegment&) = delete;
  TemporarySegment& operator=(const TemporarySegment&) = delete;
  ~TemporarySegment() {
    const memstream_options_t options = spec_.options();
    memstream_destroy_named(&options);  // CACHE_NO_SEGMENT is as good.
  }

  const CacheSpec& spec() const { return spec_; }

 private:
  CacheSpec spec_;
};

inline cache_stats_t stats_of(memstream_t* cache) {
  cache_stats_t stats{};
  stats.struct_size = sizeof stats;
  if (memstream_stats(cache, &stats) != CACHE_OK) throw std::runtime_error(cache_last_error());
  return stats;
}

// What memstream_check() finds; empty if nothing.
inline std::string problems_of(memstream_t* cache) {
  std::uint64_t problems = 0;
  const int status = memstream_check(cache, &problems);
  if (status == CACHE_OK && problems == 0) return "";
  return std::to_string(problems) + " problems, status " + std::to_string(status) + ": " + cache_last_error();
}

// What a scan of a cache at rest adds up to.
struct ScanTotals {
  std::uint64_t entries = 0;
  std::uint64_t stored_bytes = 0;
  std::uint64_t value_bytes = 0;
  std::uint64_t key_bytes = 0;
};

// Visits every entry of the cache: visit(const memstream_entry_t&).
template <class Visit>
ScanTotals scan_all(memstream_t* cache, Visit visit) {
  ScanTotals totals;
  memstream_entry_t batch[16];
  std::uint64_t cursor = 0;
  do {
    std::size_t count = 0;
    if (memstream_scan(cache, &cursor, batch, std::size(batch), &count) != CACHE_OK) {
      throw std::runtime_error(cache_last_error());
    }
    for (std::size_t i = 0; i < count; ++i) {
      ++totals.entries;
      totals.stored_bytes += batch[i].stored_size;
      totals.value_bytes += batch[i].value_size;
      totals.key_bytes += batch[i].key_size;
      visit(std::as_const(batch[i]));
    }
  } while (cursor != 0);
  return totals;
}

// Compares the counters of a cache at rest with what a scan finds; empty if they agree.
// REQUIRES: no entry has an expiry, and nobody holds a view.
inline std::string disagreement_of_stats_and_scan(memstream_t* cache) {
  const ScanTotals found = scan_all(cache, [](const memstream_entry_t&) {});
  const cache_stats_t noted = stats_of(cache);
  const auto compare = [](const char* what, std::uint64_t stats, std::uint64_t scan) {
    if (stats == scan) return std::string();
    return std::string(what) + ": stats say " + std::to_string(stats) + ", a scan " + std::to_string(scan) + "; ";
  };
  return compare("entries", noted.entries, found.entries) +
         compare("used memory", noted.used_memory, found.stored_bytes) +
         compare("value memory", noted.value_memory, found.value_bytes) +
         compare("key memory", noted.key_memory, found.key_bytes) + compare("pinned memory", noted.pinned_memory, 0);
}

}  // namespace memstream::test
