// The bytes of a segment, continued: what a near cache in front of Redis keeps in area 5. docs/decisions/0024 says why
// nothing stale is served.
//
// Any bytes may lie here after damage: no number of it leads to a place in memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/layout/layout_sizes.h"

namespace memstream {

inline constexpr std::uint32_t kNearArea = 5;
inline constexpr std::uint32_t kNearCounters = 4096;
inline constexpr std::uint32_t kNearMasters = 64;
// A segment below this size has no such area.
inline constexpr std::uint64_t kLeastNearSegment = std::uint64_t{16} << 20;

// A server whose values entries are copies of. One cache line; a get loads from it and nobody writes to it often.
struct NearMaster {
  // On the segment's clock: all that its writers did before has been carried out here. 0: never yet. It only grows.
  std::atomic<std::uint64_t> heard_ms;
  std::atomic<std::uint32_t> epoch;  // That entries must carry to be served. 0: there were none yet. It only grows.
  std::atomic<std::uint32_t> subscriptions;  // That its agents have made.
  std::atomic<std::uint64_t> name;           // Hash of the name by which it was claimed; 0: free.
  std::atomic<std::uint64_t> invalidations;
  std::atomic<std::uint64_t> advances;  // Of the epoch.
  std::atomic<std::uint64_t> agent;     // lease_owner_word() of the process that has the agent's role; 0: nobody.
  std::atomic<std::uint64_t> agent_ms;  // When it was last active, on the segment's clock.
  std::byte unused1[8];
};
static_assert(sizeof(NearMaster) == kCacheLineSize);

// What all processes of the segment have counted, each a little behind.
struct NearCounts {
  std::atomic<std::uint64_t> hits, fetches, fills, conflicts, merged, bypasses, stale, errors;
};
static_assert(sizeof(NearCounts) == kCacheLineSize);

// The beginning of a server's name, for people. Zeros follow it; damage may leave none.
struct NearLabel {
  static constexpr std::uint32_t kWords = 6;
  std::atomic<std::uint64_t> words[kWords];
};

struct NearTable {
  std::atomic<std::uint32_t> epochs;  // The last that any master was given.
  std::byte unused[60];
  NearMaster masters[kNearMasters];
  // By hash of the key: how often it, or another one of that hash, was invalidated; and near_unread_of().
  std::atomic<std::uint32_t> counters[kNearCounters];
  NearCounts counts;
  NearLabel labels[kNearMasters];
};
static_assert(offsetof(NearTable, masters) == kCacheLineSize);
inline constexpr std::uint64_t kNearAreaSize = (sizeof(NearTable) + kPageSize - 1) / kPageSize * kPageSize;
static_assert(kNearAreaSize == 6 * kPageSize);

// The epoch of an entry stands above the flags of its caller, where other segments have a checksum.
constexpr std::uint64_t near_epoch_word(std::uint32_t epoch) noexcept { return std::uint64_t{epoch} << 32; }
constexpr std::uint32_t near_epoch_of(std::uint64_t caller_flags) noexcept {
  return static_cast<std::uint32_t>(caller_flags >> 32);
}

// A counter's upper bits say how often in a row a copy was removed that nobody had read. They belong to all keys of the
// counter; a copy that was read takes all of it back.
inline constexpr std::uint32_t kNearUnreadShift = 28;
inline constexpr std::uint32_t kNearMostUnread = 15;
constexpr std::uint32_t near_unread_of(std::uint32_t counter) noexcept { return counter >> kNearUnreadShift; }

// How far the first epoch of a segment lies behind the last one of the segment whose place it takes. That one may give
// a few more while its users go over.
inline constexpr std::uint32_t kNearEpochsOfSegment = 1 << 20;

// Whether one epoch follows another, also where the numbers have begun again.
constexpr bool is_later_epoch(std::uint32_t epoch, std::uint32_t than) noexcept {
  return static_cast<std::int32_t>(epoch - than) > 0;
}

}  // namespace memstream
