// Verifies a shard: every invariant that docs/layout.md states, and derived structures against authoritative state.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/shard/shard_lock.h"
#include "core/shard/shard_parts.h"
#include "core/shard/write_lock.h"

namespace memstream {

// Works in many holds of the lock, so that none lasts longer because there are more entries. Changes nothing.
class ShardChecker {
 public:
  // REQUIRES: the lock is that of the shard, and outlives this.
  ShardChecker(const ShardParts& parts, ShardLock* lock) noexcept;

  // Appends a sentence for every invariant that does not hold. If others change a large shard between two holds of the
  // lock, three times over, sums and free blocks are left out.
  Status check(const Deadline& deadline, std::vector<std::string>* problems);

 private:
  struct Walk;
  Status walk_in_slices(Walk& walk, const Deadline& deadline);
  // With W held.
  bool check_a_slice(Walk& walk) MEMSTREAM_NEEDS_W;
  bool check_heap(Walk& walk, std::uint32_t* looks) const MEMSTREAM_NEEDS_W;
  bool check_free_lists(Walk& walk, std::uint32_t* looks) const MEMSTREAM_NEEDS_W;
  bool check_entries(Walk& walk, std::uint32_t* looks) const MEMSTREAM_NEEDS_W;
  bool check_buckets(Walk& walk, std::uint32_t* looks) const MEMSTREAM_NEEDS_W;
  bool check_free_entries(Walk& walk, std::uint32_t* looks) const MEMSTREAM_NEEDS_W;
  ShardSpace& space() const noexcept { return header_->space; }

  const ShardParts parts_;
  ShardHeader* header_;
  Arena& arena_;
  Index index_;
  ShardContents& contents_;
  ShardLock& lock_;
};

}  // namespace memstream
