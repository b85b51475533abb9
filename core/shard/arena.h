// The heap of a shard: blocks, free lists, and the wilderness that it shares with the table below it.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/base/segment.h"
#include "core/layout/backing.h"
#include "core/layout/corruption.h"
#include "core/layout/layout.h"
#include "core/shard/memory_share.h"

namespace memstream {

// A segregated-fit allocator with immediate coalescing, constant time apart from commits (the model is TLSF).
//
// Invariants, true between any two instructions, because a process may be killed there:
//   - From heap_begin the blocks follow one another without a gap to heap_end: each size is changed by one store, and
//     only after the header that the store uncovers has been written.
//   - A block that is handed out is marked used; whether anybody owns it is for the entries and pins to say.
// The free lists and the "previous is free" marks are derived; reset_free_lists() and insert_free() make them again.
//
// All functions need the shard's write lock. They throw CorruptionDetected when they meet corrupt bytes, or bytes that
// lead to where there is no memory.
class Arena {
 public:
  Arena(ShardHeader* shard, std::uint64_t shard_offset_bytes, std::uint64_t shard_size_bytes, Segment* segment,
        const MemoryShare& share = {})
      : shard_(shard),
        shard_offset_bytes_(shard_offset_bytes),
        shard_size_bytes_(shard_size_bytes),
        heap_end_{static_cast<std::uint32_t>(shard_size_bytes / kUnitSize)},
        segment_(segment),
        backing_(*segment, shard_offset_bytes, shard_size_bytes),
        share_(share) {}

  // A used block of at least `units`, or 0 if neither the free lists nor the wilderness have room. Its shape carries
  // only size and flags.
  BlockPosition allocate(Units units, std::uint64_t now_ms);

  // As allocate(), from the free lists alone: the wilderness stays as it is.
  BlockPosition allocate_from_lists(Units units);

  // As allocate(), from the free block at `position`. REQUIRES: it is free and holds `units`.
  BlockPosition allocate_at(BlockPosition position, std::uint32_t units);

  // As allocate(), from the wilderness alone.
  BlockPosition allocate_from_wilderness(Units units, std::uint64_t now_ms);

  // Adds the block behind a used block to it. REQUIRES: that one is used, and nobody's. Returns how many units it had.
  std::uint32_t join_next(BlockPosition position);
  // Cuts a used block down to `units`; what is too small for a block of its own stays.
  void cut_to(BlockPosition position, std::uint32_t units);

  // A free block of the list of the largest ones, 0 if no block is free.
  BlockPosition a_largest_free() const;

  // Frees a used block. Returns the free block that it is now part of, or 0 if it went to the wilderness.
  BlockPosition free(BlockPosition position);

  // Makes the memory from `position` up to the heap safe to write. False if the system refuses.
  bool commit_from(BlockPosition position, std::uint64_t now_ms) {
    return commit_heap(std::uint64_t{position} * kUnitSize, now_ms);
  }

  // Turns one step of wilderness into table room. False if it is too small or cannot be committed.
  bool raise_table(std::uint64_t now_ms);

  // From the shard's start.
  std::uint64_t table_end_bytes() const noexcept {
    return kShardHeaderSize + std::uint64_t{space().table_cells.load(std::memory_order_relaxed)} * sizeof(Cell);
  }

  // Bytes between table and heap.
  std::uint64_t wilderness_bytes() const noexcept {
    return std::uint64_t{heap_begin()} * kUnitSize - table_end_bytes();
  }

  BlockPosition heap_begin() const noexcept {
    return BlockPosition{space().heap_begin.load(std::memory_order_relaxed)};
  }
  // From the size of the shard, which nobody can change, and not from the word that notes it.
  BlockPosition heap_end() const noexcept { return heap_end_; }

  const Backing& backing() const noexcept { return backing_; }

  // The block's header and shape, checked against the heap's bounds and its memory.
  BlockHeader& block(BlockPosition position) const {
    if (position < heap_begin() || position > heap_end() - kMinBlockUnits)
      throw CorruptionDetected{"a block out of bounds"};
    if (!backing_.reaches(position)) throw CorruptionDetected{"a block without memory"};
    return *reinterpret_cast<BlockHeader*>(base() + std::uint64_t{position} * kUnitSize);
  }
  BlockShape shape(BlockPosition position) const { return look_at(position).shape; }
  // Both, read and checked once.
  struct HeapBlock {
    BlockPosition position;
    BlockHeader* header = nullptr;
    BlockShape shape;
  };
  HeapBlock look_at(BlockPosition position) const {
    BlockHeader& header = block(position);
    const auto shape = BlockShape::unpack(header.shape.load(std::memory_order_relaxed));
    if (shape.size_units < kMinBlockUnits || shape.size_units > heap_end() - position) {
      throw CorruptionDetected{"a block of impossible size"};
    }
    return {position, &header, shape};
  }
  static void set_shape(BlockHeader& header, const BlockShape& shape) noexcept {
    header.shape.store(shape.pack(), std::memory_order_release);
  }

  // For damaged records of commits: committing twice is harmless, but relying on memory that was never given is
  // not.
  void forget_commits() noexcept;

  // For a new shard: memory for its first blocks, so that none starves where others have taken all there is. A refusal
  // means nothing yet.
  void commit_first_step() noexcept;

  // For rebuild: forget all free blocks, then name each one (already coalesced, its shape stored).
  void reset_free_lists() noexcept;
  void insert_free(BlockPosition position, std::uint32_t units) { insert_free(position, block(position), units); }

 private:
  ShardSpace& space() const noexcept { return shard_->space; }
  FreeLists& lists() const noexcept { return shard_->free_lists; }
  std::byte* base() const noexcept { return reinterpret_cast<std::byte*>(shard_); }

  // Where the free block that ends at `position` says its size. Atomic, since a reader may still be copying the value
  // that was there before.
  std::atomic_ref<std::uint32_t> size_mark_before(BlockPosition position) const {
    if (!backing_.reaches(BlockPosition{position - 1})) throw CorruptionDetected{"a block without memory"};
    return std::atomic_ref(*(reinterpret_cast<std::uint32_t*>(base() + std::uint64_t{position} * kUnitSize) - 1));
  }

  HeapBlock find_free(std::uint32_t units) const;
  BlockPosition take(const HeapBlock& found, std::uint32_t units);
  void remove_free(BlockPosition position, const BlockHeader& removed, std::uint32_t units);
  void insert_free(BlockPosition position, BlockHeader& header, std::uint32_t units);
  // As insert_free(), where the block behind it has the mark that this one is free.
  void insert_marked(BlockPosition position, BlockHeader& header, std::uint32_t units);
  void mark_next(BlockPosition next_position, bool previous_is_free);
  void keep_hand_on_a_block(BlockPosition begin, BlockPosition end, BlockPosition moved_to) noexcept;
  bool commit_heap(std::uint64_t from_bytes, std::uint64_t now_ms);
  bool is_refused_for_now(std::uint64_t now_ms) const noexcept;
  void commit_table_in_proportion(std::uint64_t heap_step_bytes);
  bool commit_table(std::uint64_t to_bytes, std::uint64_t now_ms);
  bool commit(std::uint64_t from_bytes, std::uint64_t to_bytes) noexcept;
  void note_commit_failure(std::uint64_t now_ms) noexcept;

  ShardHeader* shard_;
  std::uint64_t shard_offset_bytes_;
  std::uint64_t shard_size_bytes_;
  BlockPosition heap_end_;
  Segment* segment_;
  Backing backing_;
  MemoryShare share_;
};

}  // namespace memstream
