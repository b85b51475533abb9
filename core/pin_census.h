// Which blocks of a shard are held, by how many pins: one look at the process table instead of one for every block.
#pragma once

#include <cstdint>
#include <vector>

#include "core/layout.h"

namespace memstream {

// Taken under the shard's write lock, under which no pin of the shard's blocks comes or goes. A process slot may hold
// any bytes. When this process has no memory for the list, each count looks at the whole process table.
class PinCensus {
 public:
  PinCensus(ProcessSlot* slots, std::uint32_t slot_count, std::uint64_t shard_offset_bytes,
            std::uint64_t shard_size_bytes) noexcept;

  // Pins on the block at `position`. The block is taken for one that there is.
  std::uint32_t count(std::uint32_t position) noexcept;

  // Pins that name no block which count() was asked about, or lie between two units.
  std::uint32_t strays() const noexcept;
  // Takes those out of the process table: released later, they would free what is not theirs.
  void drop_strays() noexcept;

 private:
  struct Held {
    std::uint32_t position;
    std::uint32_t pins;
    bool is_block;
  };

  template <class Visit>
  void for_each_pin(Visit visit) const;
  Held* find(std::uint64_t offset_bytes) noexcept;

  ProcessSlot* slots_;
  std::uint32_t slot_count_;
  std::uint64_t shard_offset_bytes_;
  std::uint64_t shard_size_bytes_;
  bool listed_ = true;  // False without memory for `held_`.
  std::uint32_t misplaced_ = 0;
  std::vector<Held> held_;  // Ascending.
};

}  // namespace memstream
