// Making room in a shard: which entries go, which blocks move, and what becomes of what they leave.
#pragma once

#include <cstdint>
#include <string>

#include "core/layout/block.h"
#include "core/layout/layout.h"
#include "core/shard/metrics.h"
#include "core/shard/shard_parts.h"
#include "core/shard/shard_types.h"
#include "core/shard/write_lock.h"

namespace memstream {

// REQUIRES for all functions: the caller holds the shard's write lock and has shut out slow readers. Those that are not
// noexcept throw CorruptionDetected on bytes that contradict one another.
class Reclaimer {
 public:
  explicit Reclaimer(const ShardParts& parts) noexcept
      : header_(parts.header),
        offset_(parts.offset),
        size_(parts.size),
        pins_(parts.pins),
        arena_(parts.arena),
        index_(parts.index),
        eviction_(parts.eviction),
        contents_(parts.contents),
        retired_(parts.retired),
        metrics_(parts.metrics),
        tags_(parts.tags),
        waits_(parts.waits) {}

  // ---- room ----

  // Returns a used block of `units`, and evicts as much as that takes. 0 only if pins or a lack of memory prevent it.
  BlockPosition make_room(Units units, std::uint64_t now_ms) MEMSTREAM_NEEDS_W;
  // A block of exactly `units`: the position of a used block without an owner, which an eviction left. 0: none yet.
  struct BlockWanted {
    Units units{0};
    BlockPosition position{};
  };
  // A free entry, for a block of so many bytes. 0 as above. An eviction may fill in `wanted`, unless it is null.
  EntryId take_entry(std::uint64_t newcomer_bytes, std::uint64_t now_ms, BlockWanted* wanted) MEMSTREAM_NEEDS_W;
  // The error when there is none: kFull, or kNoMemory where the system refused.
  Status no_room(std::uint64_t bytes) const noexcept MEMSTREAM_NEEDS_W;

  // Evicts what is worth least until the block fits. 0 if it fits nowhere yet.
  BlockPosition evict_coldest(Units units, std::uint64_t now_ms) MEMSTREAM_NEEDS_W;
  struct Window {  // Blocks in [begin, end), each of them free, or live and not held.
    BlockPosition begin;
    BlockPosition end;
  };
  static constexpr std::uint32_t kAnyLooks = ~std::uint32_t{0};
  bool find_window(Units units, std::uint64_t now_ms, std::uint32_t looks, Window* window) MEMSTREAM_NEEDS_W;
  // Takes a block from its entry, which gets another block or is evicted. False if somebody holds the block.
  bool empty_block(BlockPosition position, std::uint64_t now_ms) MEMSTREAM_NEEDS_W;

  // ---- single entries ----

  // Removes an entry. Returns the free block that its block became part of, 0 if there is none.
  BlockPosition remove_entry(const FoundEntry& found) MEMSTREAM_NEEDS_W;
  // The same to make room: counts the entry as expired or evicted.
  BlockPosition evict(const FoundEntry& found, Removal reason, std::uint64_t now_ms) MEMSTREAM_NEEDS_W;
  // For a block that its entry has let go of, with the last value of the ref. Returns what remove_entry() returns.
  BlockPosition release_block(EntryRef ref, const CheckedBlock& block) MEMSTREAM_NEEDS_W;
  // Moves a value without extras to a block that has them.
  Status give_expiry(const FoundEntry& found, std::uint64_t expires_ms, std::uint64_t now_ms) MEMSTREAM_NEEDS_W;

 private:
  bool has_only_entries_in_use() const noexcept MEMSTREAM_NEEDS_W;
  EntryId make_entry(std::uint64_t newcomer_bytes, std::uint64_t now_ms, BlockWanted* wanted) MEMSTREAM_NEEDS_W;
  BlockPosition evict_for(Units units, std::uint64_t now_ms) MEMSTREAM_NEEDS_W;
  BlockPosition clear_window(const Window& window, Units units, std::uint64_t now_ms) MEMSTREAM_NEEDS_W;
  bool relocate(const FoundEntry& found) MEMSTREAM_NEEDS_W;
  EntryRef move_to(BlockPosition position, const FoundEntry& found, std::uint64_t expires_ms) MEMSTREAM_NEEDS_W;
  bool make_wilderness(std::uint64_t bytes, std::uint64_t now_ms) MEMSTREAM_NEEDS_W;
  bool evict_one(std::uint64_t newcomer_bytes, std::uint64_t now_ms, BlockWanted* wanted) MEMSTREAM_NEEDS_W;
  bool is_over(const CheckedBlock& block, std::uint64_t now_ms) const noexcept MEMSTREAM_NEEDS_W {
    return tags_.is_over(arena_.backing(), block, now_ms);
  }
  void count_eviction(const FoundEntry& found, Removal reason, std::uint64_t now_ms) noexcept MEMSTREAM_NEEDS_W;
  EntryRef drop_entry(const FoundEntry& found) MEMSTREAM_NEEDS_W;
  void count_out(const CheckedBlock& block) noexcept MEMSTREAM_NEEDS_W;
  bool defer_free_if_pinned(EntryRef ref, const CheckedBlock& block) MEMSTREAM_NEEDS_W;
  bool evictable(BlockPosition position, const BlockShape& shape) const noexcept MEMSTREAM_NEEDS_W;
  bool is_new(BlockPosition position) const MEMSTREAM_NEEDS_W;
  std::string holders() const;
  ShardSpace& space() const noexcept { return header_->space; }

  ShardHeader* header_;
  std::uint64_t offset_;  // Of the shard in the segment, bytes.
  std::uint64_t size_;    // Of the shard, bytes.
  PinTable& pins_;
  Arena& arena_;
  Index index_;
  Eviction& eviction_;
  ShardContents& contents_;
  RetiredBlocks& retired_;
  ShardMetrics& metrics_;
  const TagTable& tags_;
  const WaitTable& waits_;
};

}  // namespace memstream
