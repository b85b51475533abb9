// The bytes of a segment, continued: the blocks of a shard's heap.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/layout/layout_sizes.h"
#include "core/layout/strong_types.h"

namespace memstream {

inline constexpr std::uint32_t kBlockUsed = 1;          // Otherwise free.
inline constexpr std::uint32_t kBlockPrevFree = 2;      // The block before it is free; its last 4 bytes are its size.
inline constexpr std::uint32_t kBlockAligned = 4;       // The value starts at a multiple of 64 bytes instead of 16.
inline constexpr std::uint32_t kBlockExtras = 8;        // BlockExtras lie behind the header.
inline constexpr std::uint32_t kBlockRetired = 16;      // No entry owns it: only pins keep it.
inline constexpr std::uint32_t kMovesShift = 5;         // Five bits: how often the value has moved ...
inline constexpr std::uint32_t kMaxMoves = 31;          // ... since it was written, counted up to 31.
inline constexpr std::uint32_t kCreatedShift = 10;      // Four bits: the upper part of when it was written.
inline constexpr std::size_t kAlignedValueSize = 4096;  // Values from here on are aligned to 64 bytes.
inline constexpr std::uint32_t kMinBlockUnits = 2;

// Lies before key and value. Two words instead of fields, so that readers without a lock can load each one once.
struct BlockHeader {
  std::atomic<std::uint64_t> shape;  // size in units (32) | flags (14) | slack bytes (7) | key size (11)
  // Of a live block: entry (32) | when it was written, ms on the segment's clock, lower part (32). Of a retired block
  // or a free one: next (32) | previous (32).
  std::atomic<std::uint64_t> owner;
};
static_assert(sizeof(BlockHeader) == kUnitSize);

// What most values do not need. It follows the header of those that use any of it, and of those that are large enough
// for 16 more bytes not to matter. A block that has it can get an expiry without moving.
struct BlockExtras {
  std::atomic<std::uint64_t> expires_ms;  // On the segment's clock; 0: never. Above the instant kHasTags.
  // Above those 32 bits the checksum of the value; in a segment without checksums the epoch of a near cache. 0: none.
  std::atomic<std::uint64_t> caller_flags;
};
static_assert(sizeof(BlockHeader) + sizeof(BlockExtras) == kMinBlockUnits * kUnitSize);

// The time of writing has 36 bits: after about two years of a segment all later values get the last instant.
inline constexpr std::uint64_t kLastCreatedMs = (std::uint64_t{1} << 36) - 1;

// The first word of a block, taken apart.
struct BlockShape {
  std::uint32_t size_units = 0;
  std::uint32_t flags = 0;
  std::uint32_t slack = 0;  // Bytes behind the value that belong to the block.
  std::uint32_t key_size = 0;

  static constexpr std::uint32_t kFlagsMask = 0x3fff;
  static constexpr std::uint32_t kSlackShift = 46;
  static constexpr std::uint32_t kKeySizeShift = 53;

  static constexpr BlockShape unpack(std::uint64_t word) noexcept {
    return {static_cast<std::uint32_t>(word), static_cast<std::uint32_t>(word >> 32 & kFlagsMask),
            static_cast<std::uint32_t>(word >> kSlackShift & 0x7f), static_cast<std::uint32_t>(word >> kKeySizeShift)};
  }
  constexpr std::uint64_t pack() const noexcept {
    return size_units | std::uint64_t{flags} << 32 | std::uint64_t{slack} << kSlackShift |
           std::uint64_t{key_size} << kKeySizeShift;
  }
  constexpr bool used() const noexcept { return (flags & kBlockUsed) != 0; }
  constexpr bool has_extras() const noexcept { return (flags & kBlockExtras) != 0; }
  constexpr std::uint32_t moves() const noexcept { return flags >> kMovesShift & kMaxMoves; }
  constexpr std::uint64_t size_bytes() const noexcept { return std::uint64_t{size_units} * kUnitSize; }
  // Where key and value start in a block at `position` units, in bytes from the block's start.
  constexpr std::uint64_t key_start() const noexcept {
    static_assert(std::uint64_t{kBlockExtras} * 2 == sizeof(BlockExtras));
    return sizeof(BlockHeader) + std::uint64_t{flags & kBlockExtras} * 2;
  }
  constexpr std::uint64_t value_start(BlockPosition position) const noexcept {
    const std::uint64_t key_end = key_start() + key_size;
    if ((flags & kBlockAligned) == 0) [[likely]]
      return (key_end + kUnitSize - 1) & ~(kUnitSize - 1);
    const std::uint64_t offset = std::uint64_t{position} * kUnitSize;
    return ((offset + key_end + kCacheLineSize - 1) & ~(kCacheLineSize - 1)) - offset;
  }
};

}  // namespace memstream
