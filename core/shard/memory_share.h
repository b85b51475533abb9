// How much memory one shard may take, where the system has less for a segment than all its shards can use.
//
// Memory that a shard has taken cannot be taken from it again: a reader without a lock may be about to look at any
// block that was ever there, and a page that is gone would be a SIGBUS for it. So no shard takes what the others have a
// right to, although they may come for it much later. docs/decisions/0005-memory-for-every-shard.md has the reasons.
#pragma once

#include <cstdint>

#include "core/base/segment.h"
#include "core/layout/geometry.h"
#include "core/layout/layout.h"

namespace memstream {

// Bytes of a shard that are committed, as its header says; never more than `shard_size_bytes`.
std::uint64_t committed_bytes(const ShardSpace& space, std::uint64_t shard_size_bytes) noexcept;

class MemoryShare {
 public:
  // Of a shard that has no others beside it.
  MemoryShare() = default;
  MemoryShare(const Segment* segment, const Geometry& geometry, std::uint32_t shard) noexcept;

  // Whether enough is left for the others if the shard takes `bytes` more. Asks the system, and looks at the marks of
  // all shards without their locks: two that take at the same time may take a step too much.
  bool may_take(std::uint64_t bytes) const noexcept;

 private:
  std::uint64_t committed_bytes_of(std::uint32_t shard) const noexcept;

  const Segment* segment_ = nullptr;
  std::uint64_t shards_offset_ = 0;
  std::uint64_t shard_size_ = 0;
  std::uint32_t shards_ = 0;
  std::uint32_t own_ = 0;
};

}  // namespace memstream
