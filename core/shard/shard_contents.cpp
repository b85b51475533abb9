// See shard_contents.h. What every write uses is in shard_write.cpp and shard_reclaim.cpp, beside its callers.
#include "core/shard/shard_contents.h"

#include <cassert>

namespace memstream {

bool ShardContents::bounds_are_valid() const noexcept {
  assert(holds_write_lock(header_));
  const ShardSpace& s = space();
  const std::uint64_t shard_size = geometry_.shard_size;
  const std::uint32_t cells = index_.cells();
  const std::uint32_t table_cells = s.table_cells.load(std::memory_order_relaxed);
  const std::uint64_t table_end = kShardHeaderSize + std::uint64_t{table_cells} * sizeof(Cell);
  const std::uint64_t heap_begin = std::uint64_t{arena_.heap_begin()} * kUnitSize;
  return cells != 0 && cells <= table_cells && backing().has_cells(table_cells) && table_cells % kTableStepCells == 0 &&
         heap_begin >= table_end && heap_begin <= shard_size && s.heap_end == arena_.heap_end() &&
         header_->index == number_;
}

// Marks that claim too little cost a commit of what is committed already.
bool ShardContents::commits_are_valid() const noexcept {
  assert(holds_write_lock(header_));
  return space().table_committed <= geometry_.shard_size && space().heap_committed <= geometry_.shard_size;
}

void ShardContents::look_at_bounds() {
  if (!bounds_are_valid() || !commits_are_valid()) throw CorruptionDetected{"borders of table and heap that cannot be"};
  known_table_cells_ = space().table_cells.load(std::memory_order_relaxed);
  least_heap_begin_ = static_cast<std::uint32_t>((arena_.table_end_bytes() + kUnitSize - 1) / kUnitSize);
}

}  // namespace memstream
