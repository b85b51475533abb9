// The pins of one process: which blocks it holds in place. Pins are the truth; the counts in the blocks follow from
// them.
#pragma once

#include <cstdint>

#include "core/layout.h"

namespace memstream {

// Places for pins in a process slot. Safe from all threads of the process.
class PinSet {
 public:
  static constexpr std::uint32_t kNone = kPinsPerProcess;

  explicit PinSet(ProcessSlot* slot) noexcept : slot_(slot) {}

  // Notes that the block at `offset_bytes` of the segment is held. kNone if all places are taken.
  // REQUIRES: the write lock of the block's shard is held.
  std::uint32_t claim(std::uint64_t offset_bytes) noexcept {
    if (slot_ == nullptr) return kNone;
    for (std::uint32_t pin = 0; pin < kPinsPerProcess; ++pin) {
      std::uint64_t expected = 0;
      if (slot_->pins[pin].load(std::memory_order_relaxed) == 0 &&
          slot_->pins[pin].compare_exchange_strong(expected, offset_bytes, std::memory_order_acq_rel)) {
        return pin;
      }
    }
    return kNone;
  }

  // REQUIRES: as claim().
  void drop(std::uint32_t pin) noexcept { slot_->pins[pin].store(0, std::memory_order_release); }

  // Without the write lock, for a pin that holds nothing: nobody else is deprived of a place that he has claimed since.
  void forget(std::uint32_t pin, std::uint64_t offset_bytes) noexcept {
    slot_->pins[pin].compare_exchange_strong(offset_bytes, 0, std::memory_order_acq_rel);
  }

  bool holds(std::uint32_t pin, std::uint64_t offset_bytes) const noexcept {
    return slot_ != nullptr && pin < kPinsPerProcess &&
           slot_->pins[pin].load(std::memory_order_acquire) == offset_bytes;
  }

 private:
  ProcessSlot* slot_;
};

}  // namespace memstream
