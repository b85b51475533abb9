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

// Of a value, for the word of its block that has the caller's flags in its lower half. Never 0. It depends on the key,
// so that a value under another key is found too.
inline std::uint64_t checksum_word(const void* value, std::size_t size_bytes, KeyHash key) noexcept {
  const std::uint64_t upper = XXH3_64bits_withSeed(value, size_bytes, key.value) & ~std::uint64_t{0xffff'ffff};
  return upper != 0 ? upper : std::uint64_t{1} << 32;
}
constexpr std::uint64_t checksum_of_word(std::uint64_t word) noexcept { return word & ~std::uint64_t{0xffff'ffff}; }

inline std::uint64_t hash_bytes(const void* data, std::size_t size_bytes) noexcept {
  return XXH3_64bits(data, size_bytes);
}

}  // namespace memstream
