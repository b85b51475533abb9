// The hash of a key: XXH3 with the segment's secret seed, taken apart into the parts that find an entry.
#pragma once

#include <cstdint>
#include <string_view>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace memstream {

struct KeyHash {
  std::uint64_t value;

  // Three independent parts: no bit serves two of them.
  std::uint32_t bucket_bits() const noexcept { return static_cast<std::uint32_t>(value); }
  std::uint16_t tag() const noexcept { return static_cast<std::uint16_t>(value >> 32); }
  std::uint32_t shard(std::uint32_t shards) const noexcept {
    return static_cast<std::uint32_t>((value >> 48) * shards >> 16);
  }
};

inline KeyHash hash_key(std::string_view key, std::uint64_t seed) noexcept {
  return {XXH3_64bits_withSeed(key.data(), key.size(), seed)};
}

inline std::uint64_t hash_bytes(const void* data, std::size_t size_bytes) noexcept {
  return XXH3_64bits(data, size_bytes);
}

}  // namespace memstream
