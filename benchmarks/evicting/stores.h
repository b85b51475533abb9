// Caches of a fixed size that evict, and what their workers do: fill an empty one, store new keys in a full one, and
// get keys of which not all fit, each miss followed by a put.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "benchmarks/c/crowd.h"

namespace memstream::bench {

// An empty cache, all of whose memory is still to be touched.
struct Bounds {
  std::uint64_t size_bytes;  // Of the cache, everything included.
  std::uint32_t value_size;

  // So many items fit into every one of the caches without an eviction.
  std::uint64_t items_that_fit() const noexcept { return size_bytes / (value_size + 13 + 128); }
  // No cache holds more than this.
  std::uint64_t most_items() const noexcept { return size_bytes / (value_size + 13 + 24); }
  // Four times what fits: the keys that are got or put.
  DataSet data() const noexcept { return {static_cast<std::uint32_t>(4 * items_that_fit()), value_size}; }
};

struct BoundedCache {
  std::string name;
  std::unique_ptr<Prepared> (*make)(const std::string& tag, const Bounds& bounds);
};

// "limit", "memstream-posix", "memstream-sysv".
std::vector<BoundedCache> bounded_caches();

}  // namespace memstream::bench
