#include "core/layout/backing.h"

#include <algorithm>

#include "core/base/shared_bytes.h"
#include "core/layout/geometry.h"

namespace memstream {
namespace {

constexpr std::uint32_t cells_in(std::uint64_t shard_bytes) noexcept {
  return static_cast<std::uint32_t>((shard_bytes - kShardHeaderSize) / sizeof(Cell));
}

constexpr std::uint64_t bias_of(std::uint64_t shard_bytes) noexcept {
  return (Backing::kStretchSize - shard_bytes % Backing::kStretchSize) % Backing::kStretchSize / kUnitSize;
}

constexpr std::uint64_t stretches_in(std::uint64_t bytes) noexcept {
  return (bytes + Backing::kStretchSize - 1) / Backing::kStretchSize;
}

}  // namespace

Backing::Backing(const Segment& segment, std::uint64_t shard_offset_bytes, std::uint64_t shard_size_bytes)
    : segment_(&segment),
      shard_(segment.data() + shard_offset_bytes),
      end_(static_cast<std::uint32_t>(shard_size_bytes / kUnitSize)),
      offset_bytes_(shard_offset_bytes),
      size_bytes_(shard_size_bytes),
      bias_units_(bias_of(shard_size_bytes)),
      max_cells_(cells_in(shard_size_bytes)),
      partial_begin_bytes_(shard_size_bytes),
      stretches_(stretches_in(shard_size_bytes)) {}

Backing::Backing(std::byte* shard, std::uint64_t shard_size_bytes)
    : shard_(shard),
      end_(static_cast<std::uint32_t>(shard_size_bytes / kUnitSize)),
      size_bytes_(shard_size_bytes),
      bias_units_(bias_of(shard_size_bytes)),
      max_cells_(cells_in(shard_size_bytes)),
      known_cells_(max_cells_),
      partial_begin_bytes_(shard_size_bytes),
      stretches_(stretches_in(shard_size_bytes)) {
  for (std::atomic<std::uint8_t>& stretch : stretches_) stretch = kWithNext;
  known_units_ = end_ - static_cast<std::uint32_t>(kShardHeaderSize / kUnitSize);
}

// What the shard says of it. Only a hint: where the heap has less memory than a stretch, and where nobody else tells.
std::uint64_t Backing::heap_committed() const noexcept {
  std::uint64_t committed = 0;
  copy_from_shared(&committed, &reinterpret_cast<const ShardHeader*>(shard_)->space.heap_committed, sizeof committed);
  return committed;
}

bool Backing::ask(std::uint64_t begin_bytes, std::uint64_t end_bytes) const noexcept {
  switch (segment_->look_for_memory(offset_bytes_ + begin_bytes, end_bytes - begin_bytes)) {
    case Status::kOk:
      return true;
    case Status::kNoMemory:
      return false;
    default:  // A filter of system calls keeps the answer back: what the shard says has to do.
      return begin_bytes >= heap_committed();
  }
}

// The first stretch is short, if the shard is no multiple of one.
std::uint64_t Backing::begin_of(std::uint64_t stretch) const noexcept {
  return stretch == 0 ? 0 : stretch * kStretchSize - bias_units_ * kUnitSize;
}

bool Backing::has_stretch(std::uint64_t stretch) const noexcept {
  if (stretches_[stretch].load(std::memory_order_relaxed) != 0) return true;
  const std::uint64_t begin = begin_of(stretch);
  const std::uint64_t end = begin_of(stretch + 1);
  // Not below what the heap has taken: asking takes memory where there was none.
  if (const std::uint64_t least = page_floor(heap_committed()); least > begin && least < end) return false;
  if (!ask(begin, end)) return false;
  stretches_[stretch].store(kAlone, std::memory_order_relaxed);
  return true;
}

bool Backing::knows_apart(std::uint32_t units) const noexcept {
  return units - 1 < end_ - kShardHeaderSize / kUnitSize && knows(BlockPosition{end_ - units});
}

// REQUIRES: it has memory, and so has the one behind it. Threads that do this at the same time may each lose what the
// other notes of the units before the end; then the stretches tell.
void Backing::note_whole(std::uint64_t stretch) const noexcept {
  stretches_[stretch].store(kWithNext, std::memory_order_relaxed);
  std::uint64_t first = stretch_of(BlockPosition{end_ - known_units_.load(std::memory_order_relaxed)});
  while (first != 0 && stretches_[first - 1].load(std::memory_order_relaxed) == kWithNext) --first;
  const std::uint64_t begin_bytes = std::max<std::uint64_t>(begin_of(first), kShardHeaderSize);
  known_units_.store(end_ - static_cast<std::uint32_t>(begin_bytes / kUnitSize), std::memory_order_relaxed);
}

bool Backing::look(BlockPosition position) const noexcept {
  const std::uint64_t stretch = stretch_of(position);
  const std::uint64_t end = begin_of(stretch + 1);
  if (end < size_bytes_ && !has_stretch(stretch + 1)) return false;
  if (has_stretch(stretch)) {
    note_whole(stretch);
    return true;
  }
  const std::uint64_t wanted = page_floor(std::uint64_t{position} * kUnitSize);
  const std::uint64_t least = page_floor(heap_committed());
  const std::uint64_t known = partial_begin_bytes_.load(std::memory_order_relaxed);
  const auto is_here = [&](std::uint64_t bytes) { return bytes <= wanted && bytes >= begin_of(stretch); };
  if (is_here(known)) return true;
  const std::uint64_t begin = is_here(least) ? least : wanted;
  if (!ask(begin, end)) return false;
  partial_begin_bytes_.store(begin, std::memory_order_relaxed);
  return true;
}

bool Backing::reaches_far(BlockPosition position, std::uint64_t size_bytes) const noexcept {
  const std::uint64_t end = position + size_bytes / kUnitSize;
  for (std::uint64_t at = position; at < end; at += kStretchUnits) {
    if (!reaches(BlockPosition{static_cast<std::uint32_t>(at)})) return false;
  }
  return true;
}

bool Backing::look_at_table(std::uint32_t cells) const noexcept {
  if (cells == 0 || cells > max_cells_) return false;
  const auto end_of = [](std::uint64_t count) { return page_ceil(kShardHeaderSize + count * sizeof(Cell)); };
  const std::uint32_t known = known_cells_.load(std::memory_order_relaxed);
  const std::uint64_t begin = known == 0 ? 0 : end_of(known);
  const std::uint64_t end = std::min(end_of(cells), size_bytes_);
  if (end > begin && segment_->look_for_memory(offset_bytes_ + begin, end - begin) == Status::kNoMemory) return false;
  // All cells that lie in the pages that were looked at.
  const auto whole = static_cast<std::uint32_t>((end - kShardHeaderSize) / sizeof(Cell));
  known_cells_.store(std::max(cells, whole), std::memory_order_relaxed);
  return true;
}

}  // namespace memstream
