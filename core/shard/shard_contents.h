// What a shard holds according to its authoritative words: borders, entries, and the blocks that they name.
#pragma once

#include <cstdint>

#include "core/layout/block.h"
#include "core/layout/corruption.h"
#include "core/layout/geometry.h"
#include "core/layout/hash.h"
#include "core/layout/layout.h"
#include "core/shard/arena.h"
#include "core/shard/index.h"
#include "core/shard/shard_types.h"
#include "core/shard/write_lock.h"

namespace memstream {

// Finds entries and blocks for the holder of the shard's write lock, while nothing moves. The functions that are not
// noexcept throw CorruptionDetected on bytes that contradict one another.
// REQUIRES for all: the caller holds W.
class ShardContents {
 public:
  // REQUIRES: geometry and arena belong to the shard with this number, and outlive this.
  ShardContents(ShardHeader* header, std::uint32_t number, const Geometry& geometry, Arena& arena) noexcept
      : header_(header), number_(number), geometry_(geometry), arena_(arena), index_(header) {}

  // Everything else relies on these two: whether the words for the borders of table and heap, and for the committed
  // memory, can be true. They cannot change while W is held.
  bool bounds_are_valid() const noexcept MEMSTREAM_NEEDS_W;
  bool commits_are_valid() const noexcept MEMSTREAM_NEEDS_W;
  void require_valid_bounds() MEMSTREAM_NEEDS_W {
    if (!bounds_are_known()) [[unlikely]]
      look_at_bounds();
  }

  // The same by a few comparisons, as long as the table has the room that it had when this process saw it last.
  bool bounds_are_known() const noexcept MEMSTREAM_NEEDS_W {
    const ShardSpace& s = space();
    const std::uint32_t heap_begin = s.heap_begin.load(std::memory_order_relaxed);
    return s.table_cells.load(std::memory_order_relaxed) == known_table_cells_ &&
           index_.cells() - 1 < known_table_cells_ && heap_begin >= least_heap_begin_ &&
           heap_begin <= arena_.heap_end() && s.heap_end == arena_.heap_end() && header_->index == number_ &&
           s.table_committed <= geometry_.shard_size && s.heap_committed <= geometry_.shard_size;
  }

  // The entry of a key; its id is 0 if there is none.
  FoundEntry find(const Key& key) const MEMSTREAM_NEEDS_W;
  // REQUIRES: the entry is live; throws if it is not.
  FoundEntry live_entry(EntryId id) const MEMSTREAM_NEEDS_W;
  CheckedBlock checked_block(BlockPosition position) const MEMSTREAM_NEEDS_W {
    CheckedBlock block;
    if (!check_block(backing(), position, &block)) throw CorruptionDetected{"a live entry whose block makes no sense"};
    return block;
  }
  // The ref of the entry that owns the used block; 0 if no entry does.
  EntryRef owning_ref(BlockPosition position) const noexcept MEMSTREAM_NEEDS_W;
  // The same if the entry `id` owns it.
  EntryRef owning_ref(EntryId id, BlockPosition position) const noexcept MEMSTREAM_NEEDS_W;

  // The checksum that the value should have, as StoreRequest::caller_flags has it; 0 where values have none.
  std::uint64_t checksum_for(const Key& key, const std::byte* value, std::uint64_t size_bytes) const noexcept {
    return geometry_.has_checksums() ? checksum_word(value, size_bytes, key.hash) : 0;
  }
  // Whether the value has the checksum that is stored with it, or needs none.
  bool is_whole(const Key& key, const CheckedBlock& block) const noexcept MEMSTREAM_NEEDS_W {
    return !geometry_.has_checksums() ||
           checksum_of_word(block.caller_flags()) == checksum_for(key, block.value, block.value_size);
  }

  // Writes all of a block but its value and its owner.
  CheckedBlock fill(BlockPosition position, const StoreRequest& request, bool has_extras,
                    std::uint64_t created_ms) MEMSTREAM_NEEDS_W;
  // The same without a call; shard_write.cpp alone can use it.
  CheckedBlock fill_inline(BlockPosition position, const StoreRequest& request, bool has_extras,
                           std::uint64_t created_ms) MEMSTREAM_NEEDS_W;
  // REQUIRES: the block has extras; with tags, so much slack behind its value.
  static void set_extras(BlockHeader& header, const StoreRequest& request) noexcept;

 private:
  [[gnu::cold]] void look_at_bounds() MEMSTREAM_NEEDS_W;
  ShardSpace& space() const noexcept { return header_->space; }
  const Backing& backing() const noexcept { return arena_.backing(); }

  ShardHeader* header_;
  std::uint32_t number_;  // Of the shard in the segment.
  const Geometry& geometry_;
  Arena& arena_;
  Index index_;
  // For the holder of W: what look_at_bounds() has found in order.
  std::uint32_t known_table_cells_ = 0;
  std::uint32_t least_heap_begin_ = 0;  // Where a table of so many cells ends, in units.
};

}  // namespace memstream
