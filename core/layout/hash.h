// The hash of a key, XXH3 with the segment's secret seed, split into the parts that find an entry.
#pragma once

#include <cstdint>
#include <string_view>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace memstream {

struct KeyHash {
  std::uint64_t value;

  // Three independent parts: no bit serves two of them.
  constexpr std::uint32_t bucket_bits() const noexcept { return static_cast<std::uint32_t>(value); }
  constexpr std::uint16_t tag() const noexcept { return static_cast<std::uint16_t>(value >> 32); }
  std::uint32_t shard(std::uint32_t shards) const noexcept {
    return static_cast<std::uint32_t>((value >> 48) * shards >> 16);
  }
};

// The seed of a segment with what XXH3 makes of it for keys of 9 to 16 bytes, which is computed once.
class HashSeed {
 public:
  explicit constexpr HashSeed(std::uint64_t seed = 0) noexcept
      : value_(seed), flips_{kFirstSecret + seed, kSecondSecret - seed} {}

  std::uint64_t value() const noexcept { return value_; }
  static constexpr std::size_t kShortLeast = 9;
  static constexpr std::size_t kShortMost = 16;
  static constexpr bool is_short(std::size_t size_bytes) noexcept {
    return size_bytes - kShortLeast <= kShortMost - kShortLeast;
  }

  // What XXH3_64bits_withSeed() gives for such keys, as its specification has it: without a call, and without a branch
  // on the size. REQUIRES: is_short().
  [[gnu::always_inline]] KeyHash hash_short(std::string_view key) const noexcept {
    const std::uint64_t low = XXH_readLE64(key.data()) ^ flips_[0];
    const std::uint64_t high = XXH_readLE64(key.data() + key.size() - sizeof(std::uint64_t)) ^ flips_[1];
    __extension__ using Product = unsigned __int128;
    const Product product = static_cast<Product>(low) * high;
    const std::uint64_t mixed = key.size() + __builtin_bswap64(low) + high +
                                (static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64));
    const std::uint64_t stirred = (mixed ^ mixed >> 37) * 0x1656'6791'9e37'79f9;
    return {stirred ^ stirred >> 32};
  }

 private:
  // Words 3 and 4, and 5 and 6, of XXH3's secret, combined.
  static constexpr std::uint64_t kFirstSecret = 0x6782'737b'ea42'39b9;
  static constexpr std::uint64_t kSecondSecret = 0xaf56'bc3b'0996'523a;

  std::uint64_t value_;
  std::uint64_t flips_[2];
};

inline KeyHash hash_key(std::string_view key, const HashSeed& seed) noexcept {
  if (HashSeed::is_short(key.size())) [[likely]]
    return seed.hash_short(key);
  return {XXH3_64bits_withSeed(key.data(), key.size(), seed.value())};
}
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
