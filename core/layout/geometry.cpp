#include "core/layout/geometry.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <iterator>

namespace memstream {
namespace {

constexpr std::uint64_t kBytesPerShard = std::uint64_t{32} << 20;
// More shards than these only serve writers on many processors. They bound the largest value and evict each for itself:
// of a cache of 68 values, seven shards evict before it is 44 % full in 1 of 20 segments, six in 1 of 80.
constexpr std::uint64_t kFewShards = 6;
constexpr std::uint64_t kBytesPerLargeShard = (std::uint64_t{1} << 30) / kFewShards;
constexpr std::uint64_t kMinShardSize = std::uint64_t{512} << 10;
constexpr std::uint64_t kBytesPerProcessSlot = std::uint64_t{256} << 10;
constexpr std::uint64_t kMinProcessSlots = 32;
constexpr std::uint64_t kMaxProcessSlots = 2048;
constexpr std::uint64_t kBytesPerPinChunk = std::uint64_t{4} << 20;
constexpr std::uint64_t kMinPinChunks = 2;
constexpr std::uint64_t kBytesPerTagWord = std::uint64_t{4} << 10;

std::uint64_t process_tables_end(const Geometry& geometry) {
  return page_ceil(geometry.redo_records_offset() + geometry.redo_records() * sizeof(RedoRecord));
}

bool areas_are_valid(const Geometry& geometry) {
  std::uint64_t end = fixed_tables_end(geometry);
  for (const Area& area : geometry.areas) {
    if (area.size_bytes == 0) continue;
    if (area.offset % kPageSize != 0 || area.size_bytes % kPageSize != 0 || area.offset < end) return false;
    if (area.offset > geometry.shards_offset || area.size_bytes > geometry.shards_offset - area.offset) return false;
    end = area.offset + area.size_bytes;
  }
  return end <= geometry.shards_offset;
}

}  // namespace

std::uint64_t fixed_tables_end(const Geometry& geometry) noexcept {
  return page_ceil(geometry.thread_slots_offset + geometry.thread_slots * sizeof(ThreadSlot));
}

Geometry geometry_of(const SegmentIdentity& identity) noexcept {
  Geometry geometry{
      identity.size_bytes, identity.process_slots_offset, identity.thread_slots_offset, identity.shards_offset,
      identity.shard_size, identity.process_slots,        identity.thread_slots,        identity.shards};
  std::copy(std::begin(identity.areas), std::end(identity.areas), geometry.areas);
  geometry.features = identity.features;
  return geometry;
}

std::uint32_t default_shards(std::uint64_t size_bytes, std::uint64_t available_bytes) noexcept {
  const std::uint64_t least = std::max<std::uint64_t>((size_bytes + kMaxShardSize - 1) / kMaxShardSize, 1);
  const std::uint64_t usable_bytes = std::min(size_bytes, available_bytes);
  const std::uint64_t few = std::min(usable_bytes / kBytesPerShard, kFewShards);
  const std::uint64_t wanted = std::max(few, usable_bytes / kBytesPerLargeShard);
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(std::max(least, wanted), kMaxShards));
}

Status choose_shards(std::uint64_t size_bytes, std::uint64_t available_bytes, const ShardChoice& choice,
                     std::uint32_t* shards) {
  *shards = choice.shards != 0 ? choice.shards : default_shards(size_bytes, available_bytes);
  const std::uint64_t wanted = choice.max_value_bytes;
  if (wanted == 0) return Status::kOk;
  const auto limit_of = [&](std::uint32_t count) {
    Geometry geometry;
    const bool is_possible = make_geometry(size_bytes, count, &geometry) == Status::kOk;
    return is_possible ? std::min(max_value_size(geometry, kMaxKeySize), largest_max_value(size_bytes)) : 0;
  };
  std::uint32_t fitting = *shards;
  std::uint64_t limit = 0;
  for (; fitting != 0; --fitting) {
    limit = std::max(limit, limit_of(fitting));
    if (limit >= wanted) break;
  }
  if (fitting == 0) {
    return fail(
        Status::kBadMaxValue,
        fmt::format(
            "Invalid max_value {}: expected at most {} bytes, about a quarter of the segment of {} bytes. Use a larger "
            "size or a smaller max_value.",
            wanted, limit, size_bytes));
  }
  if (choice.shards != 0 && fitting != choice.shards) {
    return fail(
        Status::kBadMaxValue,
        fmt::format(
            "Invalid max_value {}: expected at most {} bytes in a segment of {} bytes with {} shards. Use {} shards or "
            "fewer, or do not choose their number.",
            wanted, limit_of(choice.shards), size_bytes, choice.shards, fitting));
  }
  *shards = fitting;
  return Status::kOk;
}

Status make_geometry(std::uint64_t size_bytes, std::uint32_t shards, Geometry* geometry) {
  if (size_bytes < kMinSegmentSize || size_bytes % kPageSize != 0) {
    return fail(Status::kBadSize,
                fmt::format("Invalid size of {} bytes: expected at least 1 MiB and a multiple of {} bytes.", size_bytes,
                            kPageSize));
  }
  if (shards == 0 || shards > kMaxShards) {
    return fail(Status::kBadShards, fmt::format("Invalid number of shards {}: expected 1 to {}.", shards, kMaxShards));
  }
  Geometry result;
  result.size_bytes = size_bytes;
  result.shards = shards;
  result.process_slots =
      static_cast<std::uint32_t>(std::clamp(size_bytes / kBytesPerProcessSlot, kMinProcessSlots, kMaxProcessSlots));
  result.thread_slots = result.process_slots;
  result.process_slots_offset = kPageSize;
  result.thread_slots_offset = process_tables_end(result);
  const std::uint64_t pin_chunks =
      std::clamp<std::uint64_t>(size_bytes / kBytesPerPinChunk, kMinPinChunks, kMaxPinChunks);
  result.areas[kPinChunkArea] = {fixed_tables_end(result), pin_chunks * sizeof(PinChunk)};
  const std::uint64_t chunks_end = result.areas[kPinChunkArea].offset + result.areas[kPinChunkArea].size_bytes;
  result.areas[kMetricsArea] = {
      chunks_end, page_ceil(result.metrics_places_offset() + result.metrics_places() * sizeof(ProcessMetrics))};
  const std::uint64_t metrics_end = chunks_end + result.areas[kMetricsArea].size_bytes;
  const std::uint64_t tag_words =
      std::bit_floor(std::clamp(size_bytes / kBytesPerTagWord, kLeastTagWords, kMostTagWords));
  result.areas[kTagArea] = {metrics_end, page_ceil(tag_words * sizeof(std::uint64_t))};
  const std::uint64_t tags_end = metrics_end + result.areas[kTagArea].size_bytes;
  result.areas[kWaitArea] = {tags_end, kWaitAreaSize};
  const std::uint64_t waits_end = tags_end + result.areas[kWaitArea].size_bytes;
  if (size_bytes >= kLeastLimitSegment) result.areas[kLimitArea] = {waits_end, page_ceil(result.limits_size_bytes())};
  const std::uint64_t limits_end = waits_end + result.areas[kLimitArea].size_bytes;
  if (size_bytes >= kLeastNearSegment) result.areas[kNearArea] = {limits_end, kNearAreaSize};
  const std::uint64_t near_end = limits_end + result.areas[kNearArea].size_bytes;
  if (size_bytes >= kLeastWatchSegment) result.areas[kWatchArea] = {near_end, result.watches_size_bytes()};
  const std::uint64_t watches_end = near_end + result.areas[kWatchArea].size_bytes;
  if (size_bytes >= kLeastTraceSegment) result.areas[kTraceArea] = {watches_end, kTraceAreaSize};
  result.shards_offset = watches_end + result.areas[kTraceArea].size_bytes;
  result.shard_size = (size_bytes - result.shards_offset) / result.shards / kPageSize * kPageSize;
  if (result.shard_size < kMinShardSize) {
    return fail(Status::kBadShards,
                fmt::format("Invalid number of shards for a segment of {} bytes: {} were asked for, and a shard needs "
                            "at least {} KiB. Use fewer shards or a larger size.",
                            size_bytes, result.shards, kMinShardSize >> 10));
  }
  if (result.shard_size > kMaxShardSize) {
    return fail(Status::kBadSize,
                fmt::format("Invalid size of {} bytes with {} shards: expected at most {} GiB for each shard. Use more "
                            "shards (up to {}) or a smaller size.",
                            size_bytes, result.shards, (kMaxShardSize >> 30) + 1, kMaxShards));
  }
  *geometry = result;
  return Status::kOk;
}

bool geometry_is_valid(const Geometry& geometry) noexcept {
  if (geometry.shards == 0 || geometry.shards > kMaxShards || geometry.size_bytes < kMinSegmentSize) return false;
  if (geometry.process_slots == 0 || geometry.process_slots > kMaxProcessSlots) return false;
  if (geometry.thread_slots == 0 || geometry.thread_slots > kMaxProcessSlots) return false;
  if (geometry.process_slots_offset != kPageSize) return false;
  if (geometry.thread_slots_offset != process_tables_end(geometry)) return false;
  if (geometry.shards_offset % kPageSize != 0 || !areas_are_valid(geometry)) return false;
  if (geometry.shard_size < kMinShardSize || geometry.shard_size > kMaxShardSize) return false;
  if (geometry.shard_size % kPageSize != 0 || geometry.shards_offset > geometry.size_bytes) return false;
  return geometry.shards * geometry.shard_size <= geometry.size_bytes - geometry.shards_offset;
}

}  // namespace memstream
