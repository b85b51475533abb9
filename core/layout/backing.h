// Which bytes of a shard have memory behind them, as far as this process has seen for itself.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/base/segment.h"
#include "core/base/shared_bytes.h"
#include "core/layout/layout.h"

namespace memstream {

// Memory of a segment is given piece by piece, and touching what was never given is SIGBUS when the system has no more.
// What the shard itself says of that may be damaged, like the position that leads somewhere. So a process asks the
// system once for each stretch of a shard, at the first block there, and remembers the answer in memory of its own.
//
// Safe from all threads. A child after fork() goes on with what its parent saw: the pages are the same.
class Backing {
 public:
  static constexpr std::uint64_t kStretchSize = std::uint64_t{1} << 16;

  // May throw std::bad_alloc. REQUIRES: `segment` outlives this.
  Backing(const Segment& segment, std::uint64_t shard_offset_bytes, std::uint64_t shard_size_bytes);
  // Bytes all of which have memory, for tests.
  Backing(std::byte* shard, std::uint64_t shard_size_bytes);

  std::byte* shard() const noexcept { return shard_; }
  std::uint64_t size_bytes() const noexcept { return size_bytes_; }
  // Position behind the last block.
  std::uint32_t end() const noexcept { return end_; }

  // Whether the bytes from a position on have memory: kStretchSize of them, or all up to the shard's end. Asks the
  // system if this process does not know. REQUIRES: the position is below the shard's end.
  bool reaches(BlockPosition position) const noexcept { return knows(position) || look(position); }
  // The same of `size_bytes` bytes. REQUIRES: they end within the shard.
  bool reaches(BlockPosition position, std::uint64_t size_bytes) const noexcept {
    return reaches(position) && (size_bytes <= kStretchSize || reaches_far(position, size_bytes));
  }
  // Whether this process knows so already, without asking: a call would cost a get its registers.
  bool knows(BlockPosition position) const noexcept {
    return stretches_[stretch_of(position)].load(std::memory_order_relaxed) == kWithNext;
  }
  // The same of the position that is so many units before the end. True only of one that lies in the shard, behind its
  // header, so that this is all that is to be asked about a position of which nothing is known.
  bool knows_before_end(std::uint32_t units) const noexcept { return is_in_run(units) || knows_apart(units); }
  // The same where that takes no more than a comparison.
  bool is_in_run(std::uint32_t units) const noexcept { return is_above_now(known_units_, units - 1); }

  // Whether a table of so many cells fits the shard and has memory. And whether this process knows so already.
  bool has_cells(std::uint32_t cells) const noexcept { return knows_cells(cells) || look_at_table(cells); }
  bool knows_cells(std::uint32_t cells) const noexcept {
    return cells - 1 < known_cells_.load(std::memory_order_relaxed);
  }

 private:
  static constexpr std::uint32_t kStretchUnits = kStretchSize / kUnitSize;
  // Of a stretch: whether it has memory, and whether the one behind it has too.
  static constexpr std::uint8_t kAlone = 1;
  static constexpr std::uint8_t kWithNext = 2;

  [[gnu::cold]] bool look(BlockPosition position) const noexcept;
  [[gnu::noinline]] bool knows_apart(std::uint32_t units) const noexcept;
  [[gnu::cold]] bool reaches_far(BlockPosition position, std::uint64_t size_bytes) const noexcept;
  [[gnu::cold]] bool look_at_table(std::uint32_t cells) const noexcept;
  std::uint64_t stretch_of(BlockPosition position) const noexcept {
    return (std::uint64_t{position} + bias_units_) / kStretchUnits;
  }
  std::uint64_t begin_of(std::uint64_t stretch) const noexcept;
  bool has_stretch(std::uint64_t stretch) const noexcept;
  void note_whole(std::uint64_t stretch) const noexcept;
  bool ask(std::uint64_t begin_bytes, std::uint64_t end_bytes) const noexcept;
  std::uint64_t heap_committed() const noexcept;

  const Segment* segment_ = nullptr;
  std::byte* shard_;
  std::uint32_t end_;  // Position behind the last block.
  // So many units before the end are in stretches all of which have memory. Grows stretch by stretch.
  mutable std::atomic<std::uint32_t> known_units_{0};
  std::uint64_t offset_bytes_ = 0;  // Of the shard in the segment.
  std::uint64_t size_bytes_;
  // So that a stretch ends with the shard: the heap takes its memory from there.
  std::uint64_t bias_units_;
  std::uint32_t max_cells_;
  mutable std::atomic<std::uint32_t> known_cells_{0};
  // The lowest stretch of the heap may have memory in its upper part alone: from here on.
  mutable std::atomic<std::uint64_t> partial_begin_bytes_;
  mutable std::vector<std::atomic<std::uint8_t>> stretches_;
};

}  // namespace memstream
