#include "core/shard/memory_share.h"

#include <algorithm>
#include <atomic>

namespace memstream {
namespace {

// Every shard has a right to three quarters of an equal part. The last quarter goes to the shards that ask first: keys
// and large values never spread quite evenly.
constexpr std::uint64_t right_of(std::uint64_t equal_part_bytes) noexcept { return equal_part_bytes / 4 * 3; }

std::uint64_t load(const std::uint64_t& mark) noexcept {
  return std::atomic_ref(const_cast<std::uint64_t&>(mark)).load(std::memory_order_relaxed);
}

}  // namespace

std::uint64_t committed_bytes(const ShardSpace& space, std::uint64_t shard_size_bytes) noexcept {
  const std::uint64_t table_end = load(space.table_committed);
  const std::uint64_t heap_begin = load(space.heap_committed);
  if (heap_begin <= table_end || heap_begin > shard_size_bytes) return shard_size_bytes;
  return table_end + (shard_size_bytes - heap_begin);
}

MemoryShare::MemoryShare(const Segment* segment, const Geometry& geometry, std::uint32_t shard) noexcept
    : segment_(segment),
      shards_offset_(geometry.shards_offset),
      shard_size_(geometry.shard_size),
      shards_(geometry.shards),
      own_(shard) {}

std::uint64_t MemoryShare::committed_bytes_of(std::uint32_t shard) const noexcept {
  const auto* header =
      reinterpret_cast<const ShardHeader*>(segment_->data() + shards_offset_ + std::uint64_t{shard} * shard_size_);
  return committed_bytes(header->space, shard_size_);
}

bool MemoryShare::may_take(std::uint64_t bytes) const noexcept {
  if (shards_ < 2) return true;
  const std::uint64_t left = segment_->left_bytes();
  std::uint64_t committed = 0;
  for (std::uint32_t shard = 0; shard < shards_; ++shard) committed += committed_bytes_of(shard);
  if (left >= shards_ * shard_size_ - committed) return true;  // Enough for all that they can ever use.

  const std::uint64_t right = right_of((left + committed) / shards_);
  if (committed_bytes_of(own_) + bytes <= right) return true;
  std::uint64_t others = 0;
  for (std::uint32_t shard = 0; shard < shards_; ++shard) {
    if (shard != own_) others += right - std::min(right, committed_bytes_of(shard));
  }
  return bytes <= left && others <= left - bytes;
}

}  // namespace memstream
