// How costs grow: with the entries of a cache, with the processes that use it, with the size of its segment.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace memstream::bench {

struct ScaleLimits {
  std::uint64_t most_entries = 10'000'000;
  unsigned most_processes = 64;
  std::uint64_t largest_gib = 16;
};

// Three series: 1,000 entries and ten times as many in each step; 1 process to 64 on 100,000 entries; a segment of
// 64 MiB to 16 GiB, three quarters full of values of 16 KiB. Each point has medians of `rounds`, in nanoseconds of the
// processor: a get and a put of a key drawn uniformly, a connect, a scan by entry, and the first put after a writer was
// killed, which repairs its shard. What does not fit into the free memory is left out, and named in "left_out".
nlohmann::json measure_scale(const std::string& backend, const ScaleLimits& limits, unsigned rounds);

// Bytes that a segment may take now: of the system's free memory and of /dev/shm, less what others are left.
std::uint64_t free_for_segments();

}  // namespace memstream::bench
