// The bytes of a segment, continued: area 6 names the keys that changed lately, for processes that watch them.
// docs/decisions/0030 says why no change is lost.
//
// Any bytes may lie here after damage: no number of it leads to a place outside the area.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/layout/layout_sizes.h"

namespace memstream {

inline constexpr std::uint32_t kWatchArea = 6;
// A segment below this size has no such area.
inline constexpr std::uint64_t kLeastWatchSegment = std::uint64_t{16} << 20;

struct WatchHead {
  std::atomic<std::uint32_t> events;  // Watchers sleep on it; bit 0 and the count above it as in WaitWords.
  std::byte unused1[4];
  std::atomic<std::uint64_t> changes_of_all;  // Changes that name no key: invalidated tags, a successor.
  std::byte unused2[48];
};
static_assert(sizeof(WatchHead) == kCacheLineSize);

// Of one shard; changes under its write lock. Positions count the bytes of all records that there ever were: they are
// multiples of 8 and only grow. A position modulo the size of the ring, a power of two, is its place there.
struct WatchRing {
  std::atomic<std::uint64_t> reserved;  // A record may be half written up to here ...
  std::atomic<std::uint64_t> written;   // ... and all are whole up to here. Both are the same while nobody writes.
  std::byte unused[48];
};
static_assert(sizeof(WatchRing) == kCacheLineSize);

// A record: a word with the size of the key, and the key in as many words as it takes, the last filled up with zeros.
constexpr std::uint64_t watch_record_size(std::uint64_t key_size) noexcept { return 8 + (key_size + 7) / 8 * 8; }

inline constexpr std::uint64_t kLeastWatchRing = kPageSize;
inline constexpr std::uint64_t kMostWatchRing = std::uint64_t{256} << 10;

// SegmentHeader::watched: the instant until which somebody watches (48 bits) | how often that has lapsed (16).
inline constexpr std::uint32_t kWatchLapseBits = 16;
constexpr std::uint64_t watched_word(std::uint64_t until_ms, std::uint16_t lapses) noexcept {
  return until_ms << kWatchLapseBits | lapses;
}
constexpr std::uint64_t watched_until_ms(std::uint64_t word) noexcept { return word >> kWatchLapseBits; }
constexpr std::uint16_t watch_lapses(std::uint64_t word) noexcept { return static_cast<std::uint16_t>(word); }

}  // namespace memstream
