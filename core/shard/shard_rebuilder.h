// Rebuilding a shard from what is authoritative in it.
#pragma once

#include <cstdint>

#include "core/base/status.h"
#include "core/layout/corruption.h"
#include "core/shard/shard_lock.h"
#include "core/shard/shard_parts.h"
#include "core/shard/write_lock.h"

namespace memstream {

// Authoritative are the refs of the entries, the headers of the blocks that they name, the borders, and the pins.
// Everything else is made again from them. A rebuild only reads them, apart from damaged entries, so a second death at
// any instruction changes nothing: the next process starts over.
//
// REQUIRES for all functions: the caller holds the shard's write lock and has shut out slow readers. A new shard, which
// no other process knows, needs no lock.
class ShardRebuilder final : public ShardRecovery {
 public:
  explicit ShardRebuilder(const ShardParts& parts) noexcept;

  // After a holder of the lock died: as repair(), and counted.
  void repair_after_death() noexcept MEMSTREAM_NEEDS_W override;
  // Rebuilds the shard, or empties it where nothing can be rebuilt.
  void repair() noexcept MEMSTREAM_NEEDS_W;
  // Empties the shard, whose damage a rebuild did not end. Returns the error for the caller of the operation.
  Status reset_after_corruption(const CorruptionDetected& damage) noexcept MEMSTREAM_NEEDS_W;

  // ---- the steps, for those that do something between them ----

  // Readers without a lock see either this, or nothing of what follows. A reader that pins a block without a lock sees
  // this, or its pin is seen from here on.
  void begin() noexcept MEMSTREAM_NEEDS_W;
  void end() noexcept MEMSTREAM_NEEDS_W;
  // Between begin() and end(). Throws CorruptionDetected if nothing can be rebuilt; then empty() is left.
  void rebuild() MEMSTREAM_NEEDS_W;
  // For a shard whose authoritative state is lost: removes every key. Leases stay, and all pins on blocks end.
  void empty() noexcept MEMSTREAM_NEEDS_W;
  // Makes the shard what it is when it is new. Looks at no process: in a new segment that took longer than all else.
  void make_blank() noexcept MEMSTREAM_NEEDS_W;

 private:
  struct Block;
  struct Group;
  void check_borders() MEMSTREAM_NEEDS_W;
  void walk_heap() MEMSTREAM_NEEDS_W;
  BlockPosition look_ahead(BlockPosition position, Group* group) const MEMSTREAM_NEEDS_W;
  void prefetch_chains(const Group& group) const noexcept MEMSTREAM_NEEDS_W;
  bool keep_block(const Block& met, bool is_held) MEMSTREAM_NEEDS_W;
  bool keep_entry(const Block& met) MEMSTREAM_NEEDS_W;
  void walk_entries() MEMSTREAM_NEEDS_W;
  void close_free_run(BlockPosition begin, BlockPosition end) MEMSTREAM_NEEDS_W;
  bool was_moving(EntryId id, EntryRef ref) const noexcept MEMSTREAM_NEEDS_W;
  ShardSpace& space() const noexcept { return header_->space; }
  const Backing& backing() const noexcept { return arena_.backing(); }

  const ShardParts parts_;
  ShardHeader* header_;
  Arena& arena_;
  Index index_;
  Eviction& eviction_;
  ShardContents& contents_;
};

}  // namespace memstream
