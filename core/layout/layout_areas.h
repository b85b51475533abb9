// The bytes of a segment, continued: the optional tables between its thread slots and its first shard.
// docs/decisions/0001 says what gets a table here.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/layout/layout_sizes.h"

namespace memstream {

// Names a process by its slot and the slot's generation: void as soon as that process has left the slot.
constexpr std::uint64_t lease_owner_word(std::uint32_t process_slot, std::uint32_t generation) noexcept {
  return (std::uint64_t{process_slot} + 1) << 32 | generation;
}
constexpr std::uint64_t lease_owner_slot(std::uint64_t owner) noexcept { return (owner >> 32) - 1; }
constexpr std::uint32_t lease_owner_generation(std::uint64_t owner) noexcept {
  return static_cast<std::uint32_t>(owner);
}

// Where such a table lies. Its number never changes its meaning.
struct Area {
  std::uint64_t offset;      // From the segment's start.
  std::uint64_t size_bytes;  // 0: the segment has no such table.
};
inline constexpr std::uint32_t kAreas = 8;
inline constexpr std::uint32_t kPinChunkArea = 0;

// More pins of a process that has no free place in its slot.
inline constexpr std::uint32_t kPinsPerChunk = 504;
inline constexpr std::uint32_t kMaxPinChunks = 256;
struct PinChunk {
  std::atomic<std::uint64_t>
      owner;  // lease_owner_word() of the process that claimed it; void once it has left (authoritative).
  std::atomic<std::uint32_t> taken;  // Places that are in use, at least: without any nobody looks at the pins.
  std::byte unused[52];
  std::atomic<std::uint64_t> pins[kPinsPerChunk];  // As in ProcessSlot (authoritative).
};
static_assert(sizeof(PinChunk) == kPageSize && offsetof(PinChunk, pins) == kCacheLineSize);

}  // namespace memstream
