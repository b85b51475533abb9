// Which blocks of a shard are held: one look at the process table instead of one for every block.
#pragma once

#include <cstdint>
#include <vector>

#include "core/layout/layout.h"
#include "core/shard/pin_places.h"

namespace memstream {

// The holder of the shard's write lock takes it. A block that it does not list has no pin, if no entry owned the block
// then (PinTable says why). A block that it lists may have lost its pin since. A process slot may hold any bytes. When
// this process has no memory for the list, each question looks at the whole process table.
class PinSnapshot {
 public:
  // Of the processes in the first `slot_count` slots.
  PinSnapshot(const PinPlaces& places, std::uint32_t slot_count, std::uint64_t shard_offset_bytes,
              std::uint64_t shard_size_bytes) noexcept;

  // Whether anybody holds the block at `position`, which is taken for one that there is.
  bool holds(BlockPosition position) noexcept;

  // The first position from `from` on that a confirmed pin names; the largest number if there is none.
  BlockPosition next_confirmed(BlockPosition from) const noexcept;

  // Pins that name no block which holds() was asked about, or lie between two units. New ones do not count.
  std::uint32_t dangling_pins() const noexcept;
  // Takes those out of the process table, so that the owner of a lost reservation learns that it is gone.
  void drop_strays() noexcept;

 private:
  struct Held {
    BlockPosition position;
    std::uint32_t confirmed;  // Pins that are not new.
    bool is_block;
  };

  template <class Visit>
  void for_each_pin(Visit visit) const;
  Held* find(std::uint64_t offset_bytes) noexcept;

  const PinPlaces& places_;
  std::uint32_t slot_count_;
  std::uint64_t shard_offset_bytes_;
  std::uint64_t shard_size_bytes_;
  bool listed_ = true;  // False without memory for `held_`.
  std::uint32_t misplaced_ = 0;
  std::vector<Held> held_;  // Ascending.
};

}  // namespace memstream
