// Which bytes of a shard have memory behind them, as far as this process has seen for itself.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/base/segment.h"
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

  // Whether the bytes from `left_bytes` before the shard's end on have memory: as many as a stretch has, or all up to
  // the end. REQUIRES: 0 < left_bytes <= size_bytes().
  bool reaches(std::uint64_t left_bytes) const noexcept {
    if (stretches_[(left_bytes - 1) / kStretchSize].load(std::memory_order_relaxed) == kWithNext) [[likely]]
      return true;
    return look(left_bytes);
  }
  // The same of so many bytes. REQUIRES: size_bytes <= left_bytes.
  bool reaches(std::uint64_t left_bytes, std::uint64_t size_bytes) const noexcept {
    return reaches(left_bytes) && (size_bytes <= kStretchSize || reaches_far(left_bytes, size_bytes));
  }
  // The same of what begins at a position. REQUIRES: it is below the shard's end.
  bool reaches_from(std::uint32_t position) const noexcept {
    return reaches(size_bytes_ - std::uint64_t{position} * kUnitSize);
  }

  // Whether a table of so many cells fits the shard and has memory.
  bool has_cells(std::uint32_t cells) const noexcept {
    if (cells - 1 < known_cells_.load(std::memory_order_relaxed)) [[likely]]
      return true;
    return look_at_table(cells);
  }

 private:
  // Of a stretch, counted from the shard's end: whether it has memory, and whether the one behind it has too.
  static constexpr std::uint8_t kAlone = 1;
  static constexpr std::uint8_t kWithNext = 2;

  [[gnu::cold]] bool look(std::uint64_t left_bytes) const noexcept;
  [[gnu::cold]] bool reaches_far(std::uint64_t left_bytes, std::uint64_t size_bytes) const noexcept;
  [[gnu::cold]] bool look_at_table(std::uint32_t cells) const noexcept;
  bool has_stretch(std::uint64_t stretch) const noexcept;
  bool ask(std::uint64_t begin_bytes, std::uint64_t end_bytes) const noexcept;
  std::uint64_t heap_committed() const noexcept;

  const Segment* segment_ = nullptr;
  std::byte* shard_;
  std::uint64_t offset_bytes_ = 0;  // Of the shard in the segment.
  std::uint64_t size_bytes_;
  std::uint32_t max_cells_;
  mutable std::atomic<std::uint32_t> known_cells_{0};
  // The lowest stretch of the heap may have memory in its upper part alone: from here on.
  mutable std::atomic<std::uint64_t> partial_begin_bytes_;
  std::unique_ptr<std::atomic<std::uint8_t>[]> stretches_;
};

}  // namespace memstream
