// See pin_snapshot.h.
#include "core/shard/pin_snapshot.h"

#include <algorithm>
#include <new>

namespace memstream {

// Calls visit(pin, its word, offset in the shard) for every pin of a process that names a place in the shard.
template <class Visit>
void PinSnapshot::for_each_pin(Visit visit) const {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  places_.for_each(slot_count_, [&](std::atomic<std::uint64_t>& pin, const ProcessSlot&) {
    const std::uint64_t word = pin.load(std::memory_order_acquire);
    const std::uint64_t offset = word & ~kPinIsTentative;
    if (offset < shard_offset_bytes_ || offset - shard_offset_bytes_ >= shard_size_bytes_) return;
    visit(pin, word, offset - shard_offset_bytes_);
  });
}

PinSnapshot::PinSnapshot(const PinPlaces& places, std::uint32_t slot_count, std::uint64_t shard_offset_bytes,
                         std::uint64_t shard_size_bytes) noexcept
    : places_(places),
      slot_count_(slot_count),
      shard_offset_bytes_(shard_offset_bytes),
      shard_size_bytes_(shard_size_bytes) {
  try {
    for_each_pin([&](std::atomic<std::uint64_t>&, std::uint64_t word, std::uint64_t offset) {
      const std::uint32_t confirmed = (word & kPinIsTentative) == 0 ? 1 : 0;
      if (offset % kUnitSize != 0) {
        misplaced_ += confirmed;
      } else {
        held_.push_back({BlockPosition{static_cast<std::uint32_t>(offset / kUnitSize)}, confirmed, false});
      }
    });
  } catch (const std::bad_alloc&) {
    listed_ = false;
    held_.clear();
    return;
  }
  std::sort(held_.begin(), held_.end(), [](const Held& a, const Held& b) { return a.position < b.position; });
  std::size_t kept = 0;
  for (const Held& held : held_) {
    if (kept != 0 && held_[kept - 1].position == held.position) {
      held_[kept - 1].confirmed += held.confirmed;
    } else {
      held_[kept++] = held;
    }
  }
  held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(kept), held_.end());
}

PinSnapshot::Held* PinSnapshot::find(std::uint64_t offset_bytes) noexcept {
  if (offset_bytes % kUnitSize != 0) return nullptr;
  const auto position = static_cast<std::uint32_t>(offset_bytes / kUnitSize);
  const auto found = std::lower_bound(held_.begin(), held_.end(), position,
                                      [](const Held& held, std::uint32_t wanted) { return held.position < wanted; });
  return found != held_.end() && found->position == position ? &*found : nullptr;
}

bool PinSnapshot::holds(BlockPosition position) noexcept {
  const std::uint64_t offset = std::uint64_t{position} * kUnitSize;
  if (!listed_) {
    bool held = false;
    for_each_pin([&](std::atomic<std::uint64_t>&, std::uint64_t, std::uint64_t pinned) { held |= pinned == offset; });
    return held;
  }
  Held* held = find(offset);
  if (held == nullptr) return false;
  held->is_block = true;
  return true;
}

BlockPosition PinSnapshot::next_confirmed(BlockPosition from) const noexcept {
  BlockPosition next{~std::uint32_t{0}};
  if (!listed_) {
    for_each_pin([&](std::atomic<std::uint64_t>&, std::uint64_t word, std::uint64_t offset) {
      const BlockPosition position{static_cast<std::uint32_t>(offset / kUnitSize)};
      if ((word & kPinIsTentative) == 0 && position >= from) next = std::min(next, position);
    });
    return next;
  }
  for (auto held = std::lower_bound(held_.begin(), held_.end(), from,
                                    [](const Held&left, std::uint32_t wanted) { return left.position < wanted; });
       held != held_.end(); ++held) {
    if (held->confirmed != 0) return held->position;
  }
  return next;
}

std::uint32_t PinSnapshot::dangling_pins() const noexcept {
  std::uint32_t pins = misplaced_;
  for (const Held& held : held_) pins += held.is_block ? 0 : held.confirmed;
  return pins;
}

void PinSnapshot::drop_strays() noexcept {
  if (!listed_ || dangling_pins() == 0) return;
  for_each_pin([&](std::atomic<std::uint64_t>& pin, std::uint64_t word, std::uint64_t offset) {
    if ((word & kPinIsTentative) != 0) return;  // Its process is going to see that the shard has changed.
    const Held* held = find(offset);
    // Compared, for its process may have taken the place for something else meanwhile.
    if (held == nullptr || !held->is_block) pin.compare_exchange_strong(word, 0, std::memory_order_acq_rel);
  });
}

}  // namespace memstream
