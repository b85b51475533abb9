// A block as a reader sees it: every field loaded once, checked against bounds that no one else can move.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/layout.h"
#include "core/shared_bytes.h"

namespace memstream {

// The contents of a used block. The pointers lead into the segment; whether the bytes stand still is for the caller to
// know (it holds a lock or a pin) or to find out afterwards (the entry's ref is unchanged).
struct BlockContents {
  const std::byte* key = nullptr;
  const std::byte* value = nullptr;
  std::uint64_t value_size = 0;
  std::uint64_t value_offset = 0;  // From the shard's start.
  std::uint64_t stored_size = 0;   // Of the whole block.
  std::uint64_t expires_ms = 0;
  std::uint64_t created_ms = 0;
  std::uint32_t key_size = 0;
  std::uint32_t entry = 0;
  std::uint32_t caller_flags = 0;

  bool key_is(std::string_view wanted) const noexcept {
    return key_size == wanted.size() && equal_in_shared(key, wanted.data(), wanted.size());
  }
  bool expired(std::uint64_t now_ms) const noexcept { return expires_ms != 0 && expires_ms <= now_ms; }
};

inline constexpr std::uint32_t kCreatedShift = 16;
constexpr std::uint64_t created_word(std::uint64_t created_ms, std::uint32_t pins) noexcept {
  return created_ms << kCreatedShift | pins;
}
constexpr std::uint32_t created_pins(std::uint64_t word) noexcept {
  return static_cast<std::uint32_t>(word & kMaxPins);
}

constexpr std::uint64_t owner_word(std::uint32_t entry, std::uint32_t caller_flags) noexcept {
  return entry | std::uint64_t{caller_flags} << 32;
}
constexpr std::uint32_t owner_entry(std::uint64_t word) noexcept { return static_cast<std::uint32_t>(word); }
constexpr std::uint32_t owner_flags(std::uint64_t word) noexcept { return static_cast<std::uint32_t>(word >> 32); }

// False if the bytes at `position` are no used block that lies inside the shard. Safe on any bytes.
inline bool read_block(const std::byte* shard, std::uint64_t shard_size_bytes, std::uint32_t position,
                       BlockContents* contents) noexcept {
  const std::uint64_t offset = std::uint64_t{position} * kUnitSize;
  if (offset < kShardHeaderSize || offset > shard_size_bytes - sizeof(BlockHeader)) return false;
  const auto* header = reinterpret_cast<const BlockHeader*>(shard + offset);
  const BlockShape shape = BlockShape::unpack(header->shape.load(std::memory_order_relaxed));
  const std::uint64_t end = shape.end_offset(position);
  const std::uint64_t value_offset = shape.value_offset(position);
  if (!shape.used() || end > shard_size_bytes || shape.key_size > kMaxKeySize || value_offset + shape.slack > end) {
    return false;
  }
  const std::uint64_t owner = header->owner.load(std::memory_order_relaxed);
  contents->key = shard + offset + sizeof(BlockHeader);
  contents->value = shard + value_offset;
  contents->value_size = end - value_offset - shape.slack;
  contents->value_offset = value_offset;
  contents->stored_size = shape.size_bytes();
  contents->expires_ms = header->expires_ms.load(std::memory_order_relaxed);
  contents->created_ms = header->created.load(std::memory_order_relaxed) >> kCreatedShift;
  contents->key_size = shape.key_size;
  contents->entry = owner_entry(owner);
  contents->caller_flags = owner_flags(owner);
  return true;
}

}  // namespace memstream
