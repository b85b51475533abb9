// Where things lie in a segment: computed by the creator, checked and copied by everyone who attaches.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "core/base/status.h"
#include "core/layout/layout.h"
#include "core/layout/layout_limits.h"
#include "core/layout/layout_metrics.h"
#include "core/layout/layout_near.h"
#include "core/layout/layout_tags.h"
#include "core/layout/layout_trace.h"
#include "core/layout/layout_waits.h"
#include "core/layout/layout_watches.h"

namespace memstream {

// A private copy of the segment's geometry. Once checked it is never read from shared memory again, so that no later
// write by anyone can lead a reader out of the mapping.
struct Geometry {
  std::uint64_t size_bytes = 0;
  std::uint64_t process_slots_offset = 0;
  std::uint64_t thread_slots_offset = 0;
  std::uint64_t shards_offset = 0;
  std::uint64_t shard_size = 0;  // A multiple of the page size, the same for every shard.
  std::uint32_t process_slots = 0;
  std::uint32_t thread_slots = 0;
  std::uint32_t shards = 0;
  Area areas[kAreas] = {};
  std::uint32_t features = 0;

  constexpr bool has_checksums() const noexcept { return (features & kFeatureChecksums) != 0; }
  constexpr std::uint32_t pin_chunks() const noexcept {
    return static_cast<std::uint32_t>(
        std::min<std::uint64_t>(areas[kPinChunkArea].size_bytes / sizeof(PinChunk), kMaxPinChunks));
  }

  // Whether the segment has metrics: an area that is as large as its tables. SegmentMetrics first, then these.
  constexpr bool has_metrics() const noexcept {
    return areas[kMetricsArea].size_bytes >= metrics_places_offset() + metrics_places() * sizeof(ProcessMetrics);
  }
  constexpr std::uint64_t shard_metrics_offset() const noexcept { return sizeof(SegmentMetrics); }
  constexpr std::uint64_t sampled_keys_offset() const noexcept {
    return shard_metrics_offset() + shards * sizeof(ShardMetrics);
  }
  constexpr std::uint32_t sampled_keys() const noexcept {
    return static_cast<std::uint32_t>(std::bit_floor(std::clamp<std::uint64_t>(size_bytes >> 12, 512, 8192)));
  }
  constexpr std::uint64_t metrics_places_offset() const noexcept {
    const std::uint64_t end = sampled_keys_offset() + sampled_keys() * sizeof(MetricWord);
    return (end + kPageSize - 1) / kPageSize * kPageSize;
  }
  constexpr std::uint32_t metrics_places() const noexcept {
    return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(size_bytes >> 20, 4, kMaxMetricsPlaces));
  }

  // Words of the area of tags, a power of two; 0 if the segment has none.
  constexpr std::uint64_t tag_words() const noexcept {
    const std::uint64_t words = std::bit_floor(areas[kTagArea].size_bytes / sizeof(std::uint64_t));
    return words < 2 ? 0 : std::min(words, kMostTagWords);
  }

  constexpr bool has_wait_words() const noexcept { return areas[kWaitArea].size_bytes >= kWaitAreaSize; }

  // Whether the segment has limits: LimitHead first, then these.
  constexpr bool has_limits() const noexcept { return areas[kLimitArea].size_bytes >= limits_size_bytes(); }
  constexpr std::uint32_t rate_buckets() const noexcept {
    return static_cast<std::uint32_t>(std::bit_floor(std::clamp<std::uint64_t>(size_bytes >> 19, 32, 4096)));
  }
  constexpr std::uint32_t holding_stripes() const noexcept {
    return static_cast<std::uint32_t>(std::bit_floor(std::clamp<std::uint64_t>(size_bytes >> 22, 4, 64)));
  }
  constexpr std::uint64_t holdings_offset() const noexcept {
    return sizeof(LimitHead) + rate_buckets() * sizeof(RateBucket);
  }
  constexpr std::uint64_t limits_size_bytes() const noexcept {
    return holdings_offset() + holding_stripes() * sizeof(HoldingStripe);
  }

  constexpr bool has_trace() const noexcept { return areas[kTraceArea].size_bytes >= kTraceAreaSize; }

  constexpr bool has_near_table() const noexcept { return areas[kNearArea].size_bytes >= kNearAreaSize; }

  // Whether the segment names keys that change: WatchHead first, then a WatchRing for each shard, then their bytes.
  constexpr bool has_watches() const noexcept { return areas[kWatchArea].size_bytes >= watches_size_bytes(); }
  constexpr std::uint64_t watch_ring_bytes() const noexcept {
    return std::bit_floor(
        std::clamp<std::uint64_t>(size_bytes / 512 / std::max(shards, 1U), kLeastWatchRing, kMostWatchRing));
  }
  constexpr std::uint64_t watch_rings_offset() const noexcept {
    const std::uint64_t end = sizeof(WatchHead) + shards * sizeof(WatchRing);
    return (end + kPageSize - 1) / kPageSize * kPageSize;
  }
  constexpr std::uint64_t watches_size_bytes() const noexcept {
    return watch_rings_offset() + shards * watch_ring_bytes();
  }

  // Behind the process slots; the process in slot n has record n, if there is one.
  constexpr std::uint32_t redo_records() const noexcept { return std::min(process_slots, kMaxRedoRecords); }
  constexpr std::uint64_t redo_records_offset() const noexcept {
    return process_slots_offset + process_slots * sizeof(ProcessSlot);
  }

  constexpr std::uint64_t shard_offset(std::uint32_t shard) const noexcept {
    return shards_offset + shard * shard_size;
  }
};

constexpr std::uint64_t page_floor(std::uint64_t bytes) noexcept { return bytes / kPageSize * kPageSize; }
constexpr std::uint64_t page_ceil(std::uint64_t bytes) noexcept { return page_floor(bytes + kPageSize - 1); }

// The table of a new shard: as many cells as fit a page, which is also the step by which it grows.
inline constexpr std::uint32_t kTableStepCells = kPageSize / sizeof(Cell);
inline constexpr std::uint64_t kTableStepSize = kTableStepCells * sizeof(Cell);

// How many shards a new segment has if nobody says, 1 to 64: about one per 32 MiB of what it can ever hold, which is no
// more than `available_bytes` (Segment::available_bytes); beyond six, one per sixth of a GiB; and as many as the size
// needs. So a value may take nearly a twelfth of a segment of up to 1 GiB.
std::uint32_t default_shards(std::uint64_t size_bytes, std::uint64_t available_bytes) noexcept;

// What the creator of a segment asks for; 0: the default.
struct ShardChoice {
  std::uint32_t shards = 0;
  std::uint64_t max_value_bytes = 0;  // The shards must hold such a value, whatever its key.
};

// How many shards a new segment gets: those that were chosen, or as many of the default as hold the largest value.
// kBadMaxValue if that is more than a quarter of the segment, or more than the chosen shards hold.
Status choose_shards(std::uint64_t size_bytes, std::uint64_t available_bytes, const ShardChoice& choice,
                     std::uint32_t* shards);

// What a segment's identity says, unchecked.
Geometry geometry_of(const SegmentIdentity& identity) noexcept;

// Where the tables end that every segment has: what lies behind, up to the shards, has memory only where it is used.
std::uint64_t fixed_tables_end(const Geometry& geometry) noexcept;

// Geometry of a new segment.
// kBadSize if the size is below 1 MiB, not a multiple of the page size or more than the shards can hold; kBadShards if
// there would be none or more than 64, or a shard would be smaller than half a MiB.
Status make_geometry(std::uint64_t size_bytes, std::uint32_t shards, Geometry* geometry);

// True if the parts lie one behind the other, inside `geometry.size_bytes`, at the places where make_geometry puts
// them; of areas, that they are whole pages, in order, between thread slots and shards.
bool geometry_is_valid(const Geometry& geometry) noexcept;

// Largest block, in bytes, that a shard accepts: two of them fit beside the smallest table.
constexpr std::uint64_t max_block_size(const Geometry& geometry) noexcept {
  const std::uint64_t room = geometry.shard_size - kShardHeaderSize - 2 * kPageSize;
  return room / 2 / kUnitSize * kUnitSize;
}

// Bytes of a block up to where a value can begin.
constexpr std::uint64_t key_end_for(std::uint64_t key_size, bool has_extras) noexcept {
  const std::uint64_t key_start = sizeof(BlockHeader) + (has_extras ? sizeof(BlockExtras) : 0);
  return (key_start + key_size + kUnitSize - 1) / kUnitSize * kUnitSize;
}

// Units of the block that a value needs, with room to align the value, and the bytes it must have at least.
constexpr Units block_units_for(std::uint64_t key_size, std::uint64_t value_size, bool has_extras) noexcept {
  const std::uint64_t key_end = key_end_for(key_size, has_extras);
  const std::uint64_t alignment_room = value_size >= kAlignedValueSize ? kCacheLineSize - kUnitSize : 0;
  return Units{(key_end + alignment_room + value_size + kUnitSize - 1) / kUnitSize};
}

// Largest value that a put accepts with a key of `key_size` bytes.
constexpr std::uint64_t max_value_size(const Geometry& geometry, std::uint64_t key_size) noexcept {
  return max_block_size(geometry) - key_end_for(key_size, true) - (kCacheLineSize - kUnitSize);
}

// Largest value that the creator of a segment of `size_bytes` may ask for.
constexpr std::uint64_t largest_max_value(std::uint64_t size_bytes) noexcept { return size_bytes / 4; }

}  // namespace memstream
