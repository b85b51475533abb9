// What an item costs in memory, and how much of a full cache is live.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace memstream::bench {

// (size of the segment - bytes of keys and values) / items, full of 13-byte keys and 64-byte values.
nlohmann::json measure_overhead(const std::string& backend, std::uint64_t size_bytes);

// The same for `memcached -m`, with the socket of its server in `scratch`.
nlohmann::json measure_memcached_overhead(std::uint64_t size_bytes, const std::string& scratch);

// The part of the heap (the shards without their tables) that is in live blocks, while values of 64 bytes, 1 KiB,
// 100 KiB, 1 KiB and 64 bytes come one after the other: the least that was seen once the cache was full, and at the end
// of each stretch.
nlohmann::json measure_shifting_sizes(const std::string& backend, std::uint64_t size_bytes);

}  // namespace memstream::bench
