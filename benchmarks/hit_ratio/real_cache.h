// A trace replayed through libcache.so: what it hits is read, what it misses is stored.
#pragma once

#include <cstdint>
#include <optional>

#include "benchmarks/hit_ratio/policy.h"

namespace memstream::bench {

struct RealReplay {
  HitRatio ratio;
  std::uint64_t held_bytes = 0;  // Keys and values in the cache at the end.
  std::uint64_t segment_bytes = 0;
};

// In a segment that holds about `capacity_bytes` of keys and values besides what they cost. Nothing if that would be
// smaller than a segment can be. `shards` 0: as the library chooses. Throws std::runtime_error for whatever the library
// refuses.
std::optional<RealReplay> replay_through_library(std::uint64_t capacity_bytes, const Trace& trace,
                                                 std::uint32_t shards = 0);

}  // namespace memstream::bench
