// The bytes of a segment, continued: rate limits and semaphores in area 4. docs/decisions/0028 says why.
//
// Any bytes may lie here after damage: no number of it leads to a place in memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/layout/layout_sizes.h"

namespace memstream {

inline constexpr std::uint32_t kLimitArea = 4;
// A segment below this size has no such area.
inline constexpr std::uint64_t kLeastLimitSegment = std::uint64_t{16} << 20;

// The beginning of a name, for people. Zeros follow it; damage may leave none.
inline constexpr std::uint32_t kLimitLabelWords = 3;
struct LimitLabel {
  std::atomic<std::uint64_t> words[kLimitLabelWords];
};

// ---- rate limits ----

// One key. It changes owner only once its instant has passed: nothing is lost then.
struct RateLimit {
  // The instant from which the key is as if it was never used, in ns on the segment's clock (authoritative). No value
  // comes back under another key, so an update by one compare-and-swap never meets one of those.
  std::atomic<std::uint64_t> due;
  std::atomic<std::uint64_t> key;  // Hash; changes under the lock of the bucket, while `due` is kDueClaimed.
};
inline constexpr std::uint64_t kDueClaimed = ~std::uint64_t{0};  // Gets another key, or its claimer died.

struct RateNote {
  std::atomic<std::uint64_t> reset_due;  // What `due` was before it was reset: no other key gets the place before that.
  std::atomic<std::uint64_t> interval_ns;  // What the last caller asked for, for people.
  std::atomic<std::uint64_t> burst;
  LimitLabel label;
};

// The hash of a key picks its bucket.
inline constexpr std::uint32_t kRatesPerBucket = 16;
struct RateBucket {
  RateLimit limits[kRatesPerBucket];
  RateNote notes[kRatesPerBucket];
};
static_assert(sizeof(RateBucket) == 1024);

// ---- semaphores ----

// What one process holds of one semaphore.
struct Holding {
  std::atomic<std::uint64_t> holder;  // holding_word(); 0: free; void once that process has left (authoritative).
  std::atomic<std::uint64_t> name;    // Hash; changes under the stripe's lock, while `holder` is free or void.
};
struct HoldingNote {
  std::atomic<std::uint64_t> permits;  // Of the semaphore, as the last caller named them.
  std::atomic<std::uint64_t> since_ms;
  LimitLabel label;
  std::byte unused[8];
};

// The hash of a name picks its stripe.
inline constexpr std::uint32_t kHoldingsPerStripe = 127;
struct HoldingStripe {
  std::atomic<std::uint32_t> events;       // Counts releases; waiters sleep on it.
  std::atomic<std::uint32_t> has_waiters;  // 0: a release need not wake anybody.
  std::byte unused[56];
  Holding holdings[kHoldingsPerStripe];
  HoldingNote notes[kHoldingsPerStripe];
};
static_assert(sizeof(HoldingStripe) == 2 * kPageSize);

// A process by its slot and the slot's generation, as lease_owner_word(), and in the upper 16 bits how many permits it
// holds. Slot numbers + 1 fit 16 bits.
inline constexpr std::uint32_t kHeldShift = 48;
inline constexpr std::uint64_t kOneHeld = std::uint64_t{1} << kHeldShift;
inline constexpr std::uint64_t kMostPermits = 0xffff;
constexpr std::uint64_t holding_owner(std::uint64_t word) noexcept { return word & (kOneHeld - 1); }
constexpr std::uint64_t holding_count(std::uint64_t word) noexcept { return word >> kHeldShift; }

// The area: this, then the buckets, then the stripes.
struct LimitHead {
  std::atomic<std::uint64_t> mover;    // lease_owner_word() of the process that copies the limits to a successor.
  std::atomic<std::uint32_t> is_used;  // Somebody has made sure that all of the area has memory.
  std::byte unused[52];
};
static_assert(sizeof(LimitHead) == kCacheLineSize);

}  // namespace memstream
