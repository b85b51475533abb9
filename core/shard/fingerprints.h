// The word Bucket::eviction: marks of the cell's entries (6) | unused (1) | whether fingerprints are sparse (1) | how
// many of them are recent (3) | which of them was asked for (3) | fingerprints of dropped keys (50). Changed under W,
// but for which was asked for: readers note that without a lock.
#pragma once

#include <bit>
#include <cstdint>

#include "core/layout/layout.h"

namespace memstream {

inline constexpr std::uint64_t kGhosts = ~std::uint64_t{0} >> kEntriesPerCell;  // All but the marks.

// Fingerprints: five of 10 bits in a word, the newest lowest; 0 is none. The lowest bit of each says which queue
// dropped the key, the others are of the tag of its hash.
inline constexpr std::uint32_t kGhostBits = 10;
inline constexpr std::uint64_t kLowestBits = 1 | 1ULL << 10 | 1ULL << 20 | 1ULL << 30 | 1ULL << 40;
inline constexpr std::uint32_t kGhostsPerBucket = 5;
inline constexpr std::uint64_t kGhostMask = (std::uint64_t{1} << kGhostsPerBucket * kGhostBits) - 1;
// Above them three bits: the number of the one that a get has met since, from 1 on; 0: none. It is counted once.
inline constexpr std::uint32_t kAskedShift = kGhostsPerBucket * kGhostBits;
inline constexpr std::uint64_t kAskedMask = std::uint64_t{7} << kAskedShift;
inline constexpr std::uint64_t kOldestAsked = std::uint64_t{kGhostsPerBucket} << kAskedShift;
// Above those how many, of the newest, came since the hand of the main queue last passed the cell.
inline constexpr std::uint32_t kRecentShift = kAskedShift + 3;
inline constexpr std::uint64_t kOneRecent = std::uint64_t{1} << kRecentShift;
inline constexpr std::uint64_t kRecentMask = 7 * kOneRecent;
// Above those whether the newest came while only half of the keys left one: they reach back twice as far then.
inline constexpr std::uint64_t kSparse = std::uint64_t{1} << (kRecentShift + 3);
// Of the sparse ones so many, the newest, are of keys that a longer small queue might have kept until now.
inline constexpr std::uint32_t kSparseInReach = 3;
static_assert((kGhostMask | kAskedMask | kRecentMask | kSparse) < kGhosts && kGhostsPerBucket < 8);

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

// Whether the fingerprint that begins there came since the hand of the main queue last passed.
constexpr bool is_recent_ghost(std::uint64_t word, std::uint32_t shift) noexcept {
  return shift / kGhostBits < (word & kRecentMask) >> kRecentShift;
}

// Whether a key that meets it says something about the queues. What no small queue could have kept says nothing of it.
// Of those that are not recent every other one says something, as a bit of the tag decides that no fingerprint has.
constexpr bool is_evidence(std::uint64_t word, std::uint32_t shift, std::uint16_t tag) noexcept {
  if ((word >> shift & 1) != 0) return true;
  if ((word & kSparse) != 0 && shift >= kSparseInReach * kGhostBits) return false;
  return is_recent_ghost(word, shift) || (tag & 1) != 0;
}

// Whether a key with this tag leaves a fingerprint while only half of them do. The halves take turns.
constexpr bool is_in_half(std::uint16_t tag, std::uint32_t turn) noexcept { return ((tag >> 1 ^ turn) & 1) != 0; }

// The word with another fingerprint, which is the newest. Its marks stay.
constexpr std::uint64_t with_ghost(std::uint64_t word, std::uint64_t ghost) noexcept {
  // The one that was asked for is one further now, or has been forgotten.
  const std::uint64_t asked = word & kAskedMask;
  const std::uint64_t moved = asked != 0 && asked < kOldestAsked ? asked + (std::uint64_t{1} << kAskedShift) : 0;
  const std::uint64_t recent = word & kRecentMask;
  const std::uint64_t more = recent < kGhostsPerBucket * kOneRecent ? recent + kOneRecent : recent;
  return (word & ~kGhosts) | (word & kSparse) | more | moved | (word << kGhostBits & kGhostMask) | ghost;
}

// The word without the fingerprint that begins there, and with none that was asked for.
constexpr std::uint64_t without_ghost(std::uint64_t word, std::uint32_t shift) noexcept {
  const std::uint64_t ghosts = word & kGhostMask;
  const std::uint64_t newer = ghosts & ((std::uint64_t{1} << shift) - 1);
  const std::uint64_t older = (ghosts >> shift >> kGhostBits) << shift;
  const std::uint64_t recent = (word & kRecentMask) - (is_recent_ghost(word, shift) ? kOneRecent : 0);
  return (word & ~kGhosts) | (word & kSparse) | recent | older | newer;
}

}  // namespace memstream
