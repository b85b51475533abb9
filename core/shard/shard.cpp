// A process's handle on a shard, and the layout of a blank one.
#include "core/shard/shard.h"

#include <fmt/format.h>

namespace memstream {

Shard::Shard(Segment* segment, const Geometry& geometry, std::uint32_t index, std::uint64_t hash_seed)
    : header_(reinterpret_cast<ShardHeader*>(segment->data() + geometry.shard_offset(index))),
      number_(index),
      offset_(geometry.shard_offset(index)),
      size_(geometry.shard_size),
      hash_seed_(hash_seed),
      read_only_(segment->access() == Access::kReadOnly),
      geometry_(geometry),
      redo_records_(reinterpret_cast<RedoRecord*>(segment->data() + geometry.redo_records_offset())),
      pins_(PinPlaces(segment, geometry), offset_),
      arena_(header_, offset_, size_, segment, MemoryShare(segment, geometry, index)),
      index_(header_),
      eviction_(header_, &index_, &arena_, &pins_),
      lock_(header_, index, reinterpret_cast<ThreadSlot*>(segment->data() + geometry.thread_slots_offset),
            geometry.thread_slots, this) {}

Status Shard::initialize(bool is_committed) noexcept {
  if (const Status status = ShardLock::initialize(header_); status != Status::kOk) return status;
  space().table_committed = is_committed ? size_ : kShardHeaderSize + kPageSize;
  space().heap_committed = size_;
  make_blank();
  arena_.commit_first_step();
  return Status::kOk;
}

bool Shard::bounds_are_valid() const noexcept {
  const ShardSpace& s = space();
  const std::uint32_t cells = index_.cells();
  const std::uint32_t table_cells = s.table_cells.load(std::memory_order_relaxed);
  const std::uint64_t table_end = kShardHeaderSize + std::uint64_t{table_cells} * sizeof(Cell);
  const std::uint64_t heap_begin = std::uint64_t{arena_.heap_begin()} * kUnitSize;
  return cells != 0 && cells <= table_cells && backing().has_cells(table_cells) && table_cells % kTableStepCells == 0 &&
         heap_begin >= table_end && heap_begin <= size_ && s.heap_end == arena_.heap_end() && header_->index == number_;
}

// Marks that claim too little cost a commit of what is committed already.
bool Shard::commits_are_valid() const noexcept {
  return space().table_committed <= size_ && space().heap_committed <= size_;
}

Status Shard::no_room(std::uint64_t bytes) const noexcept {
  const bool refused = header_->counters.commit_failures != 0 && arena_.wilderness_bytes() >= kPageSize;
  if (refused) {
    return fail_without_throwing(Status::kNoMemory, [&] {
      return fmt::format(
          "No memory for {} bytes: the machine or the container gives this segment no more. Free memory, or enlarge "
          "/dev/shm or the container's limit.",
          bytes);
    });
  }
  return fail_without_throwing(Status::kFull, [&] {
    return fmt::format(
        "No memory for {} bytes: views and reservations pin all that could be evicted. {}. Release some, or use a "
        "larger MEMSTREAM_SIZE.",
        bytes, holders());
  });
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
