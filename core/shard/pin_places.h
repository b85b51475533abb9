// All places for pins in a segment: those in the slot of each process, and the chunks that processes claim when their
// slots are full.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "core/base/segment.h"
#include "core/layout/geometry.h"
#include "core/layout/layout.h"

namespace memstream {

// A chunk belongs to the process whose slot and generation its owner word names, so that it is free as soon as that
// process has left its slot: nobody has to wipe it. A process that claims it wipes it first. Tables may hold any bytes.
//
// Safe from all threads of all processes. A place has a number: first those of the caller's own slot, then those of the
// chunks.
class PinPlaces {
 public:
  static constexpr PinNumber kNone{~std::uint32_t{0}};

  PinPlaces(Segment* segment, const Geometry& geometry) noexcept;

  // ---- chunks of the caller's own process, which is in `slot` ----

  // Sets a free place to `word`, in a chunk that is claimed for it if need be. kNone if all chunks belong to others, or
  // the system gives no memory for one more.
  PinNumber claim(ProcessSlot* slot, std::uint64_t word) const noexcept;
  // The place with that number, if it is in a chunk of the process; null otherwise.
  std::atomic<std::uint64_t>* find(const ProcessSlot* slot, PinNumber number) const noexcept;
  // After the place found under that number was emptied.
  void count_out(PinNumber number) const noexcept;

  // ---- for a look at the pins of all processes ----

  // The slot of the process that an owner word names, of a chunk or a lease, if it is still in it.
  const ProcessSlot* owner_of(std::uint64_t owner) const noexcept;

  // Slots behind these have no process.
  std::uint32_t slots_in_use() const noexcept {
    return std::min(header_->slots_in_use.load(std::memory_order_relaxed), slot_count_);
  }
  const ProcessSlot& slot(std::uint32_t index) const noexcept { return slots_[index]; }
  // Chunks behind these were never claimed, and may have no memory.
  std::uint32_t chunks_in_use() const noexcept {
    const std::uint32_t in_use = header_->pin_chunks_in_use.load(std::memory_order_relaxed);
    return in_use <= known_chunks_.chunks.load(std::memory_order_relaxed) ? in_use : look_for_memory_of(in_use);
  }
  bool chunks_hold(std::uint64_t offset_bytes) const noexcept;
  // How many blocks the process in `slot` holds.
  std::uint32_t count(const ProcessSlot& slot) const noexcept;

  // Calls visit(pin, slot of its process) for every place that was used by a process in the first `slots` slots.
  template <class Visit>
  void for_each(std::uint32_t slots, const Visit& visit) const {
    for (std::uint32_t i = 0; i < std::min(slots, slot_count_); ++i) {
      if (slots_[i].pid.load(std::memory_order_relaxed) == 0) continue;
      for (std::atomic<std::uint64_t>& pin : slots_[i].pins) visit(pin, slots_[i]);
    }
    for (std::uint32_t i = 0; i < chunks_in_use(); ++i) {
      const ProcessSlot* owner = owner_of(chunks_[i].owner.load(std::memory_order_acquire));
      if (owner == nullptr || owner >= slots_ + slots) continue;
      for (std::atomic<std::uint64_t>& pin : chunks_[i].pins) visit(pin, *owner);
    }
  }

 private:
  // Those that this process knows to have memory; the header may be damaged. A copy begins with none.
  struct KnownChunks {
    KnownChunks() noexcept = default;
    KnownChunks(const KnownChunks&) noexcept : KnownChunks() {}
    std::atomic<std::uint32_t> chunks{0};
  };
  [[gnu::cold]] std::uint32_t look_for_memory_of(std::uint32_t chunks) const noexcept;

  std::uint64_t owner_word(const ProcessSlot* slot) const noexcept {
    return lease_owner_word(static_cast<std::uint32_t>(slot - slots_),
                            slot->generation.load(std::memory_order_relaxed));
  }
  PinNumber claim_in(std::uint32_t chunk, std::uint64_t word) const noexcept;
  std::uint32_t claim_chunk(std::uint64_t own) const noexcept;

  Segment* segment_;
  SegmentHeader* header_;
  ProcessSlot* slots_;
  PinChunk* chunks_;
  std::uint32_t slot_count_;
  std::uint32_t chunk_count_;
  std::uint64_t chunks_offset_;
  mutable KnownChunks known_chunks_;
};

}  // namespace memstream
