// The pins of the processes: which blocks each holds in place. A pin is a hazard pointer: a reader sets it without a
// lock when it begins to look at a block, and a writer sees it before it gives the block up. docs/locking.md says why
// no pin is missed.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "core/base/local_counter.h"
#include "core/layout/layout.h"
#include "core/shard/pin_places.h"
#include "core/shard/write_lock.h"

namespace memstream {

// The places for pins of one process, the caller's own: those in its slot, and then chunks. Safe from all its threads.
class PinSet {
 public:
  static constexpr PinNumber kNone = PinPlaces::kNone;

  // `slot` null: a process that has none, and no places.
  PinSet(ProcessSlot* slot, const PinPlaces& places) noexcept : slot_(slot), places_(places) {}

  // Takes a place for the block at `offset_bytes` of the segment; kNone if there is none left. A caller that cannot be
  // sure that the block stands adds kPinIsTentative to the offset, issues a sequentially consistent fence, checks
  // whether the entry still has the block, and then calls validate() or drop().
  PinNumber claim(std::uint64_t offset_bytes) noexcept {
    if (slot_ == nullptr) return kNone;
    for (PinNumber pin{0}; pin < kPinsPerProcess; ++pin) {
      std::atomic<std::uint64_t>& place = slot_->pins[pin];
      if (place.load(std::memory_order_relaxed) != 0) continue;
      if (slot_->pins_used.load(std::memory_order_relaxed) <= pin) [[unlikely]]
        use(pin);
      std::uint64_t free = 0;
      if (has_one_thread()) {
        place.store(offset_bytes, std::memory_order_release);
      } else if (!place.compare_exchange_strong(free, offset_bytes, std::memory_order_acq_rel)) {
        continue;
      }
      return pin;
    }
    return places_.claim(slot_, offset_bytes);
  }

  // REQUIRES, as drop(): `pin` was claimed and is held.
  void validate(PinNumber pin, std::uint64_t offset_bytes) noexcept {
    place_of(pin)->store(offset_bytes, std::memory_order_relaxed);
  }

  // All reads of the block happen before this.
  void drop(PinNumber pin) noexcept {
    place_of(pin)->store(0, std::memory_order_release);
    if (pin >= kPinsPerProcess) [[unlikely]]
      places_.count_out(pin);
  }

  // As drop(), by one of those who may try. False if the pin holds another block, or none.
  bool release(PinNumber pin, std::uint64_t offset_bytes) noexcept {
    if (!holds(pin, offset_bytes)) return false;
    if (!has_one_thread()) {
      if (!place_of(pin)->compare_exchange_strong(offset_bytes, 0, std::memory_order_acq_rel)) return false;
      if (pin >= kPinsPerProcess) [[unlikely]]
        places_.count_out(pin);
      return true;
    }
    drop(pin);
    return true;
  }

  // As release(), of a place in `slot` itself. False also if the pin is in none of these.
  static bool release_from_slot(ProcessSlot* slot, PinNumber pin, std::uint64_t offset_bytes) noexcept {
    if (pin >= kPinsPerProcess) return false;
    std::atomic<std::uint64_t>& place = slot->pins[pin];
    if (!has_one_thread()) return place.compare_exchange_strong(offset_bytes, 0, std::memory_order_acq_rel);
    if (place.load(std::memory_order_acquire) != offset_bytes) return false;
    place.store(0, std::memory_order_release);
    return true;
  }

  bool holds(PinNumber pin, std::uint64_t offset_bytes) const noexcept {
    if (slot_ == nullptr) return false;
    const std::atomic<std::uint64_t>* place = place_of(pin);
    return place != nullptr && place->load(std::memory_order_acquire) == offset_bytes;
  }

 private:
  [[gnu::cold]] void use(PinNumber pin) noexcept {
    std::uint32_t used = slot_->pins_used.load(std::memory_order_relaxed);
    while (used <= pin && !slot_->pins_used.compare_exchange_weak(used, pin + 1, std::memory_order_relaxed)) {
    }
  }

  // Null if the pin is in no chunk of this process.
  std::atomic<std::uint64_t>* place_of(PinNumber pin) const noexcept {
    return pin < kPinsPerProcess ? &slot_->pins[pin] : places_.find(slot_, pin);
  }

  ProcessSlot* slot_;
  const PinPlaces& places_;
};

// The pins of all processes on the blocks of one shard. Nothing is written; a process slot may hold any bytes.
class PinTable {
 public:
  PinTable(const PinPlaces& places, std::uint64_t shard_offset_bytes) noexcept
      : places_(places), shard_offset_bytes_(shard_offset_bytes) {}

  const PinPlaces& places() const noexcept { return places_; }

  // Whether a process holds the block at `position`. One line is looked at for each process that is attached, all of
  // them independently.
  // REQUIRES: W of the shard is held. "No" is final only if no entry names the block any more.
  bool is_pinned(BlockPosition position) const noexcept MEMSTREAM_NEEDS_W {
    const std::uint64_t offset_bytes = shard_offset_bytes_ + std::uint64_t{position} * kUnitSize;
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const std::uint32_t in_use = places_.slots_in_use();
    for (std::uint32_t i = 0; i < in_use; ++i) {
      const ProcessSlot& slot = places_.slot(i);
      const std::uint32_t used = std::min(slot.pins_used.load(std::memory_order_relaxed), kPinsPerProcess);
      for (std::uint32_t pin = 0; pin < used; ++pin) {
        if ((slot.pins[pin].load(std::memory_order_acquire) & ~kPinIsTentative) == offset_bytes) return true;
      }
    }
    return places_.chunks_in_use() != 0 && places_.chunks_hold(offset_bytes);
  }

  // The same of the block that `ref` names, or named until now: known at once if nobody has viewed it.
  bool is_block_pinned(EntryRef ref) const noexcept MEMSTREAM_NEEDS_W {
    return (ref_has_pinned_hint(ref) && is_pinned(ref_block(ref))) || ref_block(ref) == kept_;
  }

  // As long as it lives, the block at `position` counts as held by the holder of W: it has the value that room is made
  // for.
  class Kept {
   public:
    Kept(PinTable* pins, BlockPosition position) noexcept : pins_(pins) { pins->kept_ = position; }
    ~Kept() { pins_->kept_ = BlockPosition{0}; }
    Kept(const Kept&) = delete;
    Kept& operator=(const Kept&) = delete;

   private:
    PinTable* pins_;
  };

 private:
  PinPlaces places_;
  std::uint64_t shard_offset_bytes_;
  BlockPosition kept_;  // 0: none.
};

}  // namespace memstream
