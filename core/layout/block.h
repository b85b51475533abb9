// A block as a reader sees it: each field loaded once, and checked against bounds that no other process can move.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "core/base/shared_bytes.h"
#include "core/layout/backing.h"
#include "core/layout/layout.h"
#include "core/layout/layout_tags.h"

namespace memstream {

// The `owner` of a block that no entry owns: where its free list goes on from it, or the ring of the retired blocks.
constexpr std::uint64_t links_word(BlockPosition next, BlockPosition previous) noexcept {
  return next | std::uint64_t{previous} << 32;
}
constexpr BlockPosition link_next(std::uint64_t word) noexcept {
  return BlockPosition{static_cast<std::uint32_t>(word)};
}
constexpr BlockPosition link_previous(std::uint64_t word) noexcept {
  return BlockPosition{static_cast<std::uint32_t>(word >> 32)};
}

// Of a block that was written at `created_ms`, whose upper part stands in the flags of its shape.
constexpr std::uint64_t owner_word(EntryId entry, std::uint64_t created_ms) noexcept {
  return entry | std::min(created_ms, kLastCreatedMs) << 32;
}
constexpr std::uint32_t created_flags(std::uint64_t created_ms) noexcept {
  return static_cast<std::uint32_t>(std::min(created_ms, kLastCreatedMs) >> 32) << kCreatedShift;
}
constexpr std::uint64_t created_of(std::uint64_t owner, std::uint32_t flags) noexcept {
  return owner >> 32 | std::uint64_t{flags >> kCreatedShift} << 32;
}
constexpr EntryId owner_entry(std::uint64_t word) noexcept { return EntryId{static_cast<std::uint32_t>(word)}; }

// Of a block that has them.
inline BlockExtras& extras_of(BlockHeader& header) noexcept { return *reinterpret_cast<BlockExtras*>(&header + 1); }
inline const BlockExtras& extras_of(const BlockHeader& header) noexcept {
  return *reinterpret_cast<const BlockExtras*>(&header + 1);
}

// A used block, as far as the first word of its header describes it. Both key and value lie inside the shard; whether
// the bytes stand still, the caller knows (it holds a lock or a pin) or finds out afterwards (the entry's ref
// is unchanged). Each function that needs one of the other words loads it, once.
struct CheckedBlock {
  const BlockHeader* header = nullptr;
  const std::byte* value = nullptr;
  std::uint64_t value_size = 0;
  std::uint64_t stored_size = 0;  // Of the whole block.
  std::uint32_t key_size = 0;
  std::uint32_t flags = 0;
  std::uint64_t key_start = 0;  // From the header on.

  bool has_extras() const noexcept { return (flags & kBlockExtras) != 0; }
  const std::byte* key() const noexcept { return reinterpret_cast<const std::byte*>(header) + key_start; }
  std::string_view key_text() const noexcept { return {reinterpret_cast<const char*>(key()), key_size}; }
  bool key_is(std::string_view wanted) const noexcept {
    return key_size == wanted.size() && equal_in_shared(key(), wanted.data(), wanted.size());
  }
  // The whole word, with kHasTags; instant_of() removes that. Without extras this loads the bytes that lie in their
  // place and masks them. That costs less than a branch that goes either way.
  std::uint64_t expires_ms() const noexcept {
    return extras_of(*header).expires_ms.load(std::memory_order_relaxed) & if_extras();
  }
  // With the checksum above them.
  std::uint64_t caller_flags() const noexcept {
    return extras_of(*header).caller_flags.load(std::memory_order_relaxed) & if_extras();
  }
  std::uint64_t created_ms() const noexcept { return created_of(owner(), flags); }
  std::uint64_t owner() const noexcept { return header->owner.load(std::memory_order_relaxed); }
  std::uint64_t value_start() const noexcept {
    return static_cast<std::uint64_t>(value - reinterpret_cast<const std::byte*>(header));
  }
  // Whether the value begins where the key ends, as small ones do, and not at a multiple of 64 bytes behind that.
  bool value_is_unaligned() const noexcept { return value_start() == unaligned_value_start(); }
  std::uint64_t unaligned_value_start() const noexcept {
    return (key_start + key_size + kUnitSize - 1) / kUnitSize * kUnitSize;
  }
  // Since the value was written.
  std::uint32_t moves() const noexcept { return BlockShape{.flags = flags}.moves(); }

 private:
  std::uint64_t if_extras() const noexcept { return has_extras() ? ~std::uint64_t{0} : 0; }
};

// Whether a block with this expiry word has expired, or has tags: those make the word a negative number. So one
// comparison says of all other blocks that they are good, and TagTable::is_over() tells of these.
constexpr bool may_be_over(std::uint64_t expiry_word, std::uint64_t now_ms) noexcept {
  return expiry_word != 0 && static_cast<std::int64_t>(expiry_word) <= static_cast<std::int64_t>(now_ms);
}

// False if the bytes at `position` are no used block that lies inside the shard, where it has memory. Safe on any
// bytes. Without kAsks also false if this process does not know yet that the start of the block has memory. The caller
// then checks the memory beyond Backing::kStretchSize from there.
template <bool kAsks = true>
inline bool check_block(const Backing& backing, BlockPosition position, CheckedBlock* block) noexcept {
  const std::byte* const shard = backing.shard();
  const std::uint64_t shard_size_bytes = backing.size_bytes();
  const std::uint64_t offset = std::uint64_t{position} * kUnitSize;
  if (offset < kShardHeaderSize || offset > shard_size_bytes - kMinBlockUnits * kUnitSize) return false;
  if (kAsks ? !backing.reaches(position) : !backing.knows(position)) return false;
  const auto* header = reinterpret_cast<const BlockHeader*>(shard + offset);
  const BlockShape shape = BlockShape::unpack(header->shape.load(std::memory_order_relaxed));
  const std::uint64_t size = shape.size_bytes();
  const std::uint64_t value_start = shape.value_start(position);
  if (!shape.used() || size > shard_size_bytes - offset || shape.key_size > kMaxKeySize ||
      value_start + shape.slack > size || (kAsks && !backing.reaches(position, size))) {
    return false;
  }
  block->header = header;
  block->value = shard + offset + value_start;
  block->value_size = size - value_start - shape.slack;
  block->stored_size = size;
  block->key_size = shape.key_size;
  block->flags = shape.flags;
  block->key_start = shape.key_start();
  return true;
}

// A used block whose value begins right behind the key, as small ones do, in which a key of a known size stands.
struct PlainBlock {
  const BlockHeader* header = nullptr;
  std::uint64_t key_start = 0;    // From the header on.
  std::uint64_t value_start = 0;  // From the header on.
  std::uint64_t size = 0;         // Of the whole block.
  std::uint64_t value_size = 0;
  std::uint64_t word = 0;  // The first one.
  std::uint64_t rest = 0;  // Its upper half, without what was known of it.

  const std::byte* bytes() const noexcept { return reinterpret_cast<const std::byte*>(header); }
  bool has_extras() const noexcept { return (rest & kBlockExtras) != 0; }
  std::uint32_t flags() const noexcept {
    return static_cast<std::uint32_t>(rest + kBlockUsed) & BlockShape::kFlagsMask;
  }
};

// How far match_plain_block() goes.
enum class PlainLook {
  kAsks,
  kKnows,   // Also false where check_block() without kAsks is.
  kBriefly  // Also false of a block with extras, or one that Backing::is_in_run() is not true of.
};

// Five bounds in one word: where the block is, that it is used, its key's size, that its value begins behind that, and
// that all of it lies in the shard. Safe on any bytes. For a block larger than Backing::kStretchSize, the caller checks
// whether the rest has memory.
template <PlainLook kLook>
[[gnu::always_inline]] inline bool match_plain_block(const Backing& backing, std::uint64_t position,
                                                     std::uint64_t key_size, PlainBlock* block) noexcept {
  // At the shard's end nothing is left, behind it more than the shard has.
  const std::uint32_t left = backing.end() - static_cast<std::uint32_t>(position);
  if (!(kLook == PlainLook::kBriefly ? backing.is_in_run(left) : backing.knows_before_end(left))) [[unlikely]] {
    if (kLook != PlainLook::kAsks || left - 1 >= backing.end() - kShardHeaderSize / kUnitSize ||
        !backing.reaches(BlockPosition{static_cast<std::uint32_t>(position)}))
      return false;
  }
  block->header = reinterpret_cast<const BlockHeader*>(backing.shard() + position * kUnitSize);
  const std::uint64_t word = block->header->shape.load(std::memory_order_relaxed);
  block->word = word;
  // Without the key's size and the mark of a used block, slack and other flags are all that is left of the upper half.
  // Another size, or no mark, leaves a bit that is not theirs.
  constexpr std::uint32_t kKeySizeShift = BlockShape::kKeySizeShift - 32;
  constexpr std::uint32_t kSlackShift = BlockShape::kSlackShift - 32;
  block->rest = (word >> 32) - (key_size << kKeySizeShift) - kBlockUsed;
  constexpr bool kExtras = kLook != PlainLook::kBriefly;
  constexpr std::uint32_t kRefused = kBlockUsed | kBlockAligned | (kExtras ? 0 : kBlockExtras);
  if ((static_cast<std::uint32_t>(block->rest) & (~0U << kKeySizeShift | kRefused)) != 0) [[unlikely]]
    return false;
  // By a branch, which the processor guesses, and not by the word: so that it goes on to the key and to all lines of
  // the value while it still waits for the first one of the block.
  std::uint64_t key_start = sizeof(BlockHeader);
  if (kExtras && block->has_extras()) [[unlikely]] {
    key_start += sizeof(BlockExtras);
    asm volatile("" : "+r"(key_start));  // Or the compiler makes a sum of it.
  }
  const auto size_units = static_cast<std::uint32_t>(word);
  if (size_units > left) return false;
  block->key_start = key_start;
  block->value_start = key_start + ((key_size + kUnitSize - 1) & ~(kUnitSize - 1));
  block->size = std::uint64_t{size_units} * kUnitSize;
  block->value_size = block->size - (block->rest >> kSlackShift) - block->value_start;
  return static_cast<std::int64_t>(block->value_size) >= 0;  // Or the block ends before its value begins.
}

// As check_block(), for readers who know the size of the key: all that is known of the first word is compared at once.
// For plain blocks only; others are for check_block(). The caller checks the memory beyond Backing::kStretchSize from
// the start of the block.
template <bool kAsks = true>
inline bool check_plain_block(const Backing& backing, BlockPosition position, std::uint64_t key_size,
                              CheckedBlock* block) noexcept {
  PlainBlock plain;
  if (!match_plain_block < kAsks ? PlainLook::kAsks : PlainLook::kKnows > (backing, position, key_size, &plain))
    return false;
  block->header = plain.header;
  block->value = plain.bytes() + plain.value_start;
  block->value_size = plain.value_size;
  block->stored_size = plain.size;
  block->key_size = static_cast<std::uint32_t>(key_size);
  block->flags = plain.flags();
  block->key_start = plain.key_start;
  return true;
}

// An entry that was found: its ref as it was, and the block that this names. `id` 0: none was.
struct FoundEntry {
  Entry* entry = nullptr;
  EntryRef ref;
  EntryId id;
  CheckedBlock block;

  BlockPosition position() const noexcept { return ref_block(ref); }
};

// All that a used block says. The pointers lead into the segment.
struct BlockContents {
  const std::byte* key = nullptr;
  const std::byte* value = nullptr;
  std::uint64_t value_size = 0;
  std::uint64_t stored_size = 0;  // Of the whole block.
  std::uint64_t expires_ms = 0;
  std::uint64_t created_ms = 0;
  std::uint32_t key_size = 0;
  std::uint32_t moves = 0;
  EntryId entry;
  std::uint64_t caller_flags = 0;  // With the checksum above them.
  bool has_tags = false;

  BlockContents() = default;
  explicit BlockContents(const CheckedBlock& block) noexcept
      : key(block.key()),
        value(block.value),
        value_size(block.value_size),
        stored_size(block.stored_size),
        expires_ms(instant_of(block.expires_ms())),
        created_ms(block.created_ms()),
        key_size(block.key_size),
        moves(block.moves()),
        entry(owner_entry(block.owner())),
        caller_flags(block.caller_flags()),
        has_tags((block.expires_ms() & kHasTags) != 0) {}

  bool key_is(std::string_view wanted) const noexcept {
    return key_size == wanted.size() && equal_in_shared(key, wanted.data(), wanted.size());
  }
};

// As check_block(), with all that the block says.
inline bool read_block(const Backing& backing, BlockPosition position, BlockContents* contents) noexcept {
  CheckedBlock block;
  if (!check_block(backing, position, &block)) return false;
  *contents = BlockContents(block);
  return true;
}

}  // namespace memstream
