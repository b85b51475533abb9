// A process's handle on a shard, and the layout of a blank one.
#include "core/shard/shard.h"

#include <chrono>

#include "core/shard/shard_checker.h"

namespace memstream {

Shard::Shard(Segment* segment, const Geometry& geometry, std::uint32_t index, std::uint64_t hash_seed)
    : header_(reinterpret_cast<ShardHeader*>(segment->data() + geometry.shard_offset(index))),
      number_(index),
      offset_(geometry.shard_offset(index)),
      size_(geometry.shard_size),
      hash_seed_(hash_seed),
      read_only_(segment->access() == Access::kReadOnly),
      geometry_(geometry),
      segment_metrics_(metrics_of_segment(*segment, geometry)),
      metrics_(metrics_of_shard(*segment, geometry, index)),
      surely_fits_(max_value_size(geometry, kMaxKeySize) - sizeof(BlockTags)),
      waits_(segment, geometry, index),
      pins_(PinPlaces(segment, geometry), offset_),
      tags_(segment, geometry),
      arena_(header_, offset_, size_, segment, MemoryShare(segment, geometry, index)),
      index_(header_),
      eviction_(header_, &index_, &arena_, &pins_, &tags_),
      contents_(header_, index, geometry_, arena_),
      leases_(header_, pins_.places()),
      retired_(header_, &arena_, &pins_, offset_, size_),
      redo_(header_, reinterpret_cast<RedoRecord*>(segment->data() + geometry.redo_records_offset()), geometry_,
            arena_),
      reclaimer_(parts()),
      rebuilder_(parts()),
      table_shrinker_(parts(), &rebuilder_),
      lock_(header_, index, reinterpret_cast<ThreadSlot*>(segment->data() + geometry.thread_slots_offset),
            geometry.thread_slots, &rebuilder_, &metrics_,
            &reinterpret_cast<const SegmentHeader*>(segment->data())->state) {}

ShardParts Shard::parts() noexcept {
  return {header_,   number_,   offset_, size_,    hash_seed_, geometry_, pins_, arena_, index_,
          eviction_, contents_, leases_, retired_, redo_,      metrics_,  tags_, waits_};
}

Status Shard::check(const Deadline& deadline, std::vector<std::string>* problems) {
  return ShardChecker(parts(), &lock_).check(deadline, problems);
}

Status Shard::initialize(bool is_committed) noexcept {
  if (const Status status = ShardLock::initialize(header_); status != Status::kOk) return status;
  if (const Status status = lock_.lock(Deadline(std::chrono::milliseconds(0))); status != Status::kOk) return status;
  lock_.assert_held();
  space().table_committed = is_committed ? size_ : kShardHeaderSize + kPageSize;
  space().heap_committed = size_;
  rebuilder_.make_blank();
  arena_.commit_first_step();
  lock_.unlock();
  return Status::kOk;
}

Status damaged_value(bool read_only) noexcept {
  if (read_only) {
    return fail(Status::kCorrupt,
                "The value does not fit its checksum: something wrote over it. Open the cache for writing to drop it, "
                "or run memstream check --repair.");
  }
  return fail(Status::kCorrupt,
              "The value did not fit its checksum: something wrote over it. Its entry was dropped. Store the value "
              "again, and run memstream check --repair to look for more.");
}

ShardStatistics& ShardStatistics::operator+=(const ShardStatistics& other) noexcept {
  max_memory += other.max_memory;
  used_memory += other.used_memory;
  pinned_memory += other.pinned_memory;
  key_memory += other.key_memory;
  value_memory += other.value_memory;
  table_memory += other.table_memory;
  committed_memory += other.committed_memory;
  entries += other.entries;
  entry_capacity += other.entry_capacity;
  counters.deletes += other.counters.deletes;
  counters.evictions += other.counters.evictions;
  counters.expirations += other.counters.expirations;
  counters.recoveries += other.counters.recoveries;
  counters.damaged += other.counters.damaged;
  counters.commit_failures += other.counters.commit_failures;
  return *this;
}

}  // namespace memstream
