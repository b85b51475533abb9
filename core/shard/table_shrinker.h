// Giving back the memory that the table of a shard took when it had many more entries than it has now.
#pragma once

#include <cstdint>

#include "core/layout/block.h"
#include "core/shard/shard_parts.h"
#include "core/shard/shard_rebuilder.h"
#include "core/shard/shard_types.h"
#include "core/shard/write_lock.h"

namespace memstream {

// The entries of the upper cells move to free ones below, the table ends there, and everything else is rebuilt as after
// a death: buckets, free lists and hands depend on the number of cells. That costs as much as a recovery, so it happens
// at most once for a number of puts in proportion to the table.
//
// REQUIRES: the caller holds the shard's write lock, has shut out slow readers, and holds no FoundEntry and no free
// entry.
class TableShrinker {
 public:
  // REQUIRES: the rebuilder is that of the shard, and outlives this.
  TableShrinker(const ShardParts& parts, ShardRebuilder* rebuilder) noexcept
      : header_(parts.header),
        arena_(parts.arena),
        index_(parts.index),
        contents_(parts.contents),
        rebuilder_(*rebuilder) {}

  // Shrinks the table if the request's value finds no room otherwise. Throws CorruptionDetected.
  void fit(const StoreRequest& request) MEMSTREAM_NEEDS_W {
    if (index_.cells() <= space().entries) [[likely]]
      return;  // It may be six times too large, and most are not.
    shrink_for(request);
  }

 private:
  std::uint32_t cells_that_do() const noexcept MEMSTREAM_NEEDS_W;
  void shrink_for(const StoreRequest& request) MEMSTREAM_NEEDS_W;
  void move_entries_below(std::uint32_t cells) MEMSTREAM_NEEDS_W;
  void move_entry(const FoundEntry& found, EntryId to_id) MEMSTREAM_NEEDS_W;
  ShardSpace& space() const noexcept { return header_->space; }

  ShardHeader* header_;
  Arena& arena_;
  Index index_;
  ShardContents& contents_;
  ShardRebuilder& rebuilder_;
};

}  // namespace memstream
