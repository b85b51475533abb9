// The word Bucket::eviction: marks of the cell's entries (6) | which fingerprint was asked for (3) | fingerprints of
// dropped keys (55). Changed under W, but for the fingerprint that was asked for: readers note that without a lock.
#pragma once

#include <bit>
#include <cstdint>

#include "core/layout/layout.h"

namespace memstream {

inline constexpr std::uint64_t kGhosts = ~std::uint64_t{0} >> kEntriesPerCell;  // All but the marks.

// Fingerprints: five of 11 bits in a word, the newest lowest; 0 is none. The lowest bit of each says which queue
// dropped the key, the others are of the tag of its hash.
inline constexpr std::uint32_t kGhostBits = 11;
inline constexpr std::uint64_t kLowestBits = 1 | 1ULL << 11 | 1ULL << 22 | 1ULL << 33 | 1ULL << 44;
inline constexpr std::uint32_t kGhostsPerBucket = 5;
inline constexpr std::uint64_t kGhostMask = (std::uint64_t{1} << kGhostsPerBucket * kGhostBits) - 1;
// Above them three bits: the number of the one that a get has met since, from 1 on; 0: none. It is counted once.
inline constexpr std::uint32_t kAskedShift = kGhostsPerBucket * kGhostBits;
inline constexpr std::uint64_t kAskedMask = std::uint64_t{7} << kAskedShift;
inline constexpr std::uint64_t kOldestAsked = std::uint64_t{kGhostsPerBucket} << kAskedShift;
static_assert((kGhostMask | kAskedMask) == kGhosts);

constexpr std::uint64_t ghost_of(std::uint16_t tag) noexcept {
  const std::uint64_t bits = tag >> (16 - kGhostBits) & ~1U;
  return bits != 0 ? bits : 2;
}

// Where the fingerprint of a key with this tag begins among `ghosts`, in bits; kAskedShift if it is not there.
constexpr std::uint32_t find_ghost(std::uint64_t ghosts, std::uint16_t tag) noexcept {
  // All compared at once: what is equal, the queue's bit apart, becomes 0, and that borrows its highest bit.
  const std::uint64_t differences = (ghosts ^ ghost_of(tag) * kLowestBits) & kGhostMask & ~kLowestBits;
  const std::uint64_t equal = (differences - kLowestBits) & ~differences & (kLowestBits << (kGhostBits - 1));
  if (equal == 0) [[likely]]
    return kAskedShift;
  return static_cast<std::uint32_t>(std::countr_zero(equal)) / kGhostBits * kGhostBits;
}

constexpr std::uint64_t asked_bits(std::uint32_t shift) noexcept {
  return std::uint64_t{shift / kGhostBits + 1} << kAskedShift;
}

}  // namespace memstream
