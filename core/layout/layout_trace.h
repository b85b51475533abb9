// The bytes of a segment, continued: the ring of accesses in area 7, for those who trace. docs/decisions/0031 says why.
//
// Any bytes may lie here after damage: the worst is an access that nobody made.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/layout/layout_sizes.h"

namespace memstream {

inline constexpr std::uint32_t kTraceArea = 7;
// A segment below this size has no such area.
inline constexpr std::uint64_t kLeastTraceSegment = std::uint64_t{16} << 20;

enum class AccessKind : std::uint32_t { kHit = 1, kMiss = 2, kStore = 3 };
inline constexpr std::uint32_t kAccessBits = 4;

// Its writer may be killed, stopped or overtaken between any two stores. So a reader believes a record only if its seal
// fits.
struct TraceRecord {
  std::atomic<std::uint64_t> hash;  // Of the key.
  std::atomic<std::uint64_t> what;  // Instant in ms on the segment's clock << kAccessBits | AccessKind.
  std::atomic<std::uint64_t> size;  // Of the value; 0 for a miss.
  std::atomic<std::uint64_t> seal;  // trace_seal() of the number of the access and the words above.
};
inline constexpr std::uint32_t kTraceRecords = 2046;

struct TraceRing {
  std::atomic<std::uint64_t> next;  // Number of the next access. The record of number n is n modulo kTraceRecords.
  std::byte unused[56];
  TraceRecord records[kTraceRecords];
};
inline constexpr std::uint64_t kTraceAreaSize = sizeof(TraceRing);
static_assert(kTraceAreaSize == 16 * kPageSize);

constexpr std::uint64_t trace_seal(std::uint64_t number, std::uint64_t hash, std::uint64_t what,
                                   std::uint64_t size) noexcept {
  std::uint64_t seal = 0x9e37'79b9'7f4a'7c15;
  for (const std::uint64_t word : {number, hash, what, size}) {
    seal = (seal ^ word) * 0xff51'afd7'ed55'8ccd;
    seal ^= seal >> 32;
  }
  return seal;
}

}  // namespace memstream
