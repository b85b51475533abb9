#include "core/geometry.h"

#include <fmt/format.h>

#include <algorithm>

namespace memstream {
namespace {

constexpr std::uint64_t kBytesPerShard = std::uint64_t{32} << 20;
constexpr std::uint64_t kMinShardSize = std::uint64_t{512} << 10;
constexpr std::uint64_t kBytesPerProcessSlot = std::uint64_t{256} << 10;
constexpr std::uint64_t kMinProcessSlots = 32;
constexpr std::uint64_t kMaxProcessSlots = 2048;

std::uint64_t process_tables_end(const Geometry& geometry) {
  return page_ceil(geometry.redo_records_offset() + geometry.redo_records() * sizeof(RedoRecord));
}

std::uint64_t tables_end(const Geometry& geometry) {
  return page_ceil(geometry.thread_slots_offset + geometry.thread_slots * sizeof(ThreadSlot));
}

}  // namespace

std::uint32_t default_shards(std::uint64_t size_bytes, std::uint64_t room_bytes) noexcept {
  const std::uint64_t least = std::max<std::uint64_t>((size_bytes + kMaxShardSize - 1) / kMaxShardSize, 1);
  const std::uint64_t wanted = std::min(size_bytes, room_bytes) / kBytesPerShard;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(std::max(least, wanted), kMaxShards));
}

Status make_geometry(std::uint64_t size_bytes, std::uint32_t shards, Geometry* geometry) {
  if (size_bytes < kMinSegmentSize || size_bytes % kPageSize != 0) {
    return fail(Status::kBadSize,
                fmt::format("A segment of {} bytes is not possible: the size must be at least 1 MiB and a "
                            "multiple of {} bytes.",
                            size_bytes, kPageSize));
  }
  if (shards == 0 || shards > kMaxShards) {
    return fail(Status::kBadShards, fmt::format("{} shards are not possible: 1 to {} are.", shards, kMaxShards));
  }
  Geometry result;
  result.size_bytes = size_bytes;
  result.shards = shards;
  result.process_slots =
      static_cast<std::uint32_t>(std::clamp(size_bytes / kBytesPerProcessSlot, kMinProcessSlots, kMaxProcessSlots));
  result.thread_slots = result.process_slots;
  result.process_slots_offset = kPageSize;
  result.thread_slots_offset = process_tables_end(result);
  result.shards_offset = tables_end(result);
  result.shard_size = (size_bytes - result.shards_offset) / result.shards / kPageSize * kPageSize;
  if (result.shard_size < kMinShardSize) {
    return fail(Status::kBadShards,
                fmt::format("A segment of {} bytes cannot have {} shards: a shard needs at least {} KiB. "
                            "Use fewer shards or a larger size.",
                            size_bytes, result.shards, kMinShardSize >> 10));
  }
  if (result.shard_size > kMaxShardSize) {
    return fail(Status::kBadSize,
                fmt::format("A segment of {} bytes with {} shards is not possible: a shard holds at most {} "
                            "GiB. Use more shards (up to {}) or a smaller size.",
                            size_bytes, result.shards, (kMaxShardSize >> 30) + 1, kMaxShards));
  }
  *geometry = result;
  return Status::kOk;
}

bool geometry_is_sound(const Geometry& geometry) noexcept {
  if (geometry.shards == 0 || geometry.shards > kMaxShards || geometry.size_bytes < kMinSegmentSize) return false;
  if (geometry.process_slots == 0 || geometry.process_slots > kMaxProcessSlots) return false;
  if (geometry.thread_slots == 0 || geometry.thread_slots > kMaxProcessSlots) return false;
  if (geometry.process_slots_offset != kPageSize) return false;
  if (geometry.thread_slots_offset != process_tables_end(geometry)) return false;
  if (geometry.shards_offset != tables_end(geometry)) return false;
  if (geometry.shard_size < kMinShardSize || geometry.shard_size > kMaxShardSize) return false;
  if (geometry.shard_size % kPageSize != 0 || geometry.shards_offset > geometry.size_bytes) return false;
  return geometry.shards * geometry.shard_size <= geometry.size_bytes - geometry.shards_offset;
}

}  // namespace memstream
