// The parts that a shard is made of, as the classes see them that check, rebuild or clear all of it.
#pragma once

#include <cstdint>

#include "core/layout/geometry.h"
#include "core/layout/layout.h"
#include "core/shard/arena.h"
#include "core/shard/eviction.h"
#include "core/shard/index.h"
#include "core/shard/lease_table.h"
#include "core/shard/metrics.h"
#include "core/shard/pin_snapshot.h"
#include "core/shard/pins.h"
#include "core/shard/redo_log.h"
#include "core/shard/retired_blocks.h"
#include "core/shard/shard_contents.h"
#include "core/shard/wait_table.h"
#include "core/shard/write_lock.h"

namespace memstream {

// All belong to one Shard, which outlives every holder of this.
struct ShardParts {
  ShardHeader* header;
  std::uint32_t number;  // Of the shard in the segment.
  std::uint64_t offset;  // Of the shard in the segment, bytes.
  std::uint64_t size;    // Of the shard, bytes.
  std::uint64_t hash_seed;
  const Geometry& geometry;
  PinTable& pins;
  Arena& arena;
  Index& index;
  Eviction& eviction;
  ShardContents& contents;
  LeaseTable& leases;
  RetiredBlocks& retired;
  RedoLog& redo;
  ShardMetrics& metrics;
  const TagTable& tags;
  const WaitTable& waits;

  ShardSpace& space() const noexcept { return header->space; }
  std::byte* base() const noexcept { return reinterpret_cast<std::byte*>(header); }
  // Of all processes. REQUIRES: the caller holds the shard's write lock.
  PinSnapshot pin_snapshot() const noexcept MEMSTREAM_NEEDS_W {
    return {pins.places(), geometry.process_slots, offset, size};
  }
};

}  // namespace memstream
