// Making room for a large value in many holds of the write lock, so that none lasts longer because the value is larger.
#pragma once

#include <cstdint>

#include "core/base/status.h"
#include "core/shard/pins.h"
#include "core/shard/reclaimer.h"
#include "core/shard/shard_parts.h"
#include "core/shard/shard_types.h"
#include "core/shard/table_shrinker.h"
#include "core/shard/write_lock.h"

namespace memstream {

// A block grows: from the first hold on it is a reservation, used, without an owner, and pinned by the process that
// clears. What lies behind it moves or is evicted, and each block that was emptied joins it by one store. Between the
// holds it is a retired block like others: a rebuild keeps it, and it is freed after its process has died.
class Clearing {
 public:
  // For the block that `request` needs, of so many units. REQUIRES: all of them outlive this.
  Clearing(const ShardParts& parts, Reclaimer* reclaimer, TableShrinker* shrinker, const StoreRequest& request,
           Units units, PinSet* pins, std::uint64_t now_ms) noexcept;

  // One hold's work; is_done() after the last. Throws CorruptionDetected.
  // REQUIRES: the caller holds the shard's write lock and has shut out slow readers.
  Status clear_a_slice(PinnedBlock* reserved) MEMSTREAM_NEEDS_W;
  bool is_done() const noexcept { return is_done_; }
  // After a failure: what has grown so far stays a retired block until a process wants room. Needs no lock.
  void give_up() noexcept;

 private:
  static constexpr BlockPosition kNoStart{0};
  static constexpr BlockPosition kWilderness{1};  // No block begins there.

  Status begin(PinnedBlock* reserved) MEMSTREAM_NEEDS_W;
  bool must_commit_more(Units units) MEMSTREAM_NEEDS_W;
  BlockPosition find_start() MEMSTREAM_NEEDS_W;
  Status start_at(BlockPosition position) MEMSTREAM_NEEDS_W;
  bool clear_next(BlockPosition position) MEMSTREAM_NEEDS_W;
  void stop() MEMSTREAM_NEEDS_W;
  Status keep_reserved(BlockPosition position, PinnedBlock* reserved) MEMSTREAM_NEEDS_W;
  std::uint64_t offset_of(BlockPosition position) const noexcept {
    return parts_.offset + std::uint64_t{position} * kUnitSize;
  }
  ShardSpace& space() const noexcept { return parts_.space(); }

  const ShardParts parts_;
  Arena& arena_;
  ShardContents& contents_;
  RetiredBlocks& retired_;
  Reclaimer& reclaimer_;
  TableShrinker& shrinker_;
  const StoreRequest& request_;  // What the block is for.
  Units units_;                  // That it needs.
  PinSet& pins_;
  std::uint64_t now_ms_;
  BlockPosition position_;  // Of the block that grows, 0: none yet. And its pin.
  PinNumber pin_ = PinSet::kNone;
  int starts_ = 0;
  bool looked_at_orphans_ = false;
  bool has_evicted_ = false;
  bool is_done_ = false;
};

}  // namespace memstream
