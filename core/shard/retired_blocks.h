// The retired blocks of a shard: used blocks that no entry owns, because a view or a reservation holds them in place.
#pragma once

#include <cstdint>

#include "core/layout/layout.h"
#include "core/shard/arena.h"
#include "core/shard/pins.h"
#include "core/shard/write_lock.h"

namespace memstream {

// They form a ring, linked by the word that names the owner of other blocks. A pin ends without a lock, so nobody is
// told when the last one of a block does. The ring is searched when room is wanted, and when another block enters it.
//
// REQUIRES for all functions: the caller holds the shard's write lock. They throw CorruptionDetected on bytes that
// contradict one another.
class RetiredBlocks {
 public:
  // REQUIRES: arena and pins are those of the shard, and outlive this.
  RetiredBlocks(ShardHeader* header, Arena* arena, const PinTable* pins, std::uint64_t shard_offset_bytes,
                std::uint64_t shard_size_bytes) noexcept
      : header_(header),
        arena_(*arena),
        pins_(*pins),
        shard_offset_bytes_(shard_offset_bytes),
        shard_size_bytes_(shard_size_bytes) {}

  // Whether a retired block begins at `position`, as its header says.
  bool has(BlockPosition position) const MEMSTREAM_NEEDS_W;
  // The one behind it in the ring. Of two neighbours each names the other, so a walk can only return to where it began.
  BlockPosition next_of(BlockPosition position) const MEMSTREAM_NEEDS_W;
  // How many there are, as the shard notes it.
  std::uint32_t count() const noexcept MEMSTREAM_NEEDS_W { return header_->space.retired; }

  // Adds a used block. It is the last to be looked at.
  void add(BlockPosition position, std::uint64_t stored_size) MEMSTREAM_NEEDS_W;
  // The block stays in use, without an owner.
  void remove(BlockPosition position) MEMSTREAM_NEEDS_W;

  // Frees those of the next few that nobody holds any more. Bounded, for use before anything else is done about room.
  void free_some() MEMSTREAM_NEEDS_W;
  // The same for all of them.
  void free_all() MEMSTREAM_NEEDS_W;

 private:
  static constexpr std::uint32_t kFew = 2;
  static constexpr std::uint32_t kEvery = ~std::uint32_t{0};

  void link(BlockPosition position, BlockPosition next) MEMSTREAM_NEEDS_W;
  template <class IsHeld>
  void reclaim(std::uint32_t looks, const IsHeld& is_held) MEMSTREAM_NEEDS_W;
  ShardSpace& space() const noexcept { return header_->space; }

  ShardHeader* header_;
  Arena& arena_;
  const PinTable& pins_;
  std::uint64_t shard_offset_bytes_;  // In the segment.
  std::uint64_t shard_size_bytes_;
};

}  // namespace memstream
