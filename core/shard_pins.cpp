// Blocks held in place: views, reservations, and the copying of large values outside every lock.
#include "core/shard_lookup.h"

namespace memstream {

// Notes the pin in the process slot first (truth), then counts it in the block (derived).
Status Shard::hold(std::uint32_t position, PinSet& pins, PinnedBlock* pinned) {
  BlockHeader& header = arena_.block(position);
  const std::uint64_t created = header.created.load(std::memory_order_relaxed);
  if (created_pins(created) == kMaxPins) return Status::kFull;
  pinned->position = position;
  pinned->pin = pins.claim(offset_of(position));
  if (pinned->pin == PinSet::kNone) return Status::kFull;
  header.created.store(created + 1, std::memory_order_relaxed);
  return Status::kOk;
}

// The reverse: the process slot first, then the count, and with the last one the block. A pin whose block went when a
// damaged shard was emptied is merely dropped.
void Shard::let_go(std::uint32_t position, PinSet& pins, std::uint32_t pin) {
  CheckedBlock block;
  const bool stands = position >= arena_.heap_begin() && check_block(base(), size_, position, &block);
  pins.drop(pin);
  if (!stands || pins_of(position) == 0) return;
  BlockHeader& header = arena_.block(position);
  const std::uint64_t created = header.created.load(std::memory_order_relaxed) - 1;
  header.created.store(created, std::memory_order_relaxed);
  if (created_pins(created) != 0 || owned(position)) return;
  space().pinned_memory -= arena_.shape(position).size_bytes();
  arena_.free(position);
}

Status Shard::reserve(const Key& key, std::uint64_t value_size, PinSet& pins, const Deadline& deadline,
                      std::uint64_t now_ms, PinnedBlock* reserved) noexcept {
  const StoreRequest request{.key = key, .value_size = value_size};
  if (const Status status = check_size(request); status != Status::kOk) return status;
  return write(Exclusion::kEverybody, deadline, [&] {
    const std::uint64_t units = block_units_for(key.bytes.size(), value_size);
    const std::uint32_t position = make_room(units, now_ms);
    if (position == 0) return no_room(units * kUnitSize);
    const CheckedBlock block = fill(position, request, now_ms);
    if (hold(position, pins, reserved) != Status::kOk) {
      arena_.free(position);
      return Status::kFull;
    }
    space().pinned_memory += block.stored_size;
    reserved->value = const_cast<std::byte*>(block.value);
    reserved->read = {.value_size = value_size};
    return Status::kOk;
  });
}

Status Shard::commit(const StoreRequest& request, const PinnedBlock& reserved, PinSet& pins, const Deadline& deadline,
                     std::uint64_t now_ms) noexcept {
  const bool was_held = pins.holds(reserved.pin, offset_of(reserved.position));
  const std::uint64_t seq = header_->seq.load(std::memory_order_relaxed);
  return write(Exclusion::kEverybody, deadline, [&] {
    const FoundEntry found = find_fresh(request.key, now_ms);
    if (found.id != 0 && found.position() == reserved.position) {
      // Run once more after damage was met behind the commit itself: it stands.
      let_go(reserved.position, pins, reserved.pin);
      end_lease_of(request.key);
      return Status::kOk;
    }
    if (!pins.holds(reserved.pin, offset_of(reserved.position))) {
      if (!was_held || !was_rebuilt_since(seq)) return Status::kBadHandle;
      return fail(Status::kCorrupt, "The shard was damaged and has been emptied; the reservation went with it.");
    }
    const CheckedBlock filled = checked_block(reserved.position);
    Status status = admit(request, found);
    if (!filled.key_is(request.key.bytes) || filled.value_size != request.value_size) {
      status = fail(Status::kCorrupt, "Something wrote over the reservation; its value is lost.");
    }
    const std::uint32_t new_id = status == Status::kOk && found.id == 0 ? take_entry(filled.stored_size, now_ms) : 0;
    if (status == Status::kOk && found.id == 0 && new_id == 0) status = no_room(sizeof(Entry));
    if (status == Status::kOk) {
      BlockHeader& header = arena_.block(reserved.position);
      const std::uint32_t held = created_pins(header.created.load(std::memory_order_relaxed));
      header.owner.store(owner_word(0, request.caller_flags), std::memory_order_relaxed);
      header.expires_ms.store(request.expires_ms, std::memory_order_relaxed);
      header.created.store(created_word(now_ms, held), std::memory_order_relaxed);
      space().pinned_memory -= filled.stored_size;
      publish(reserved.position, filled, request, found, new_id, now_ms);
    }
    let_go(reserved.position, pins, reserved.pin);
    return status;
  });
}

Status Shard::unpin(std::uint32_t position, PinSet& pins, std::uint32_t pin, const Deadline& deadline) noexcept {
  // As prefetch_write() does. Whatever the position says: asking for a line that is not there does nothing.
  prefetch_lock();
  prefetch_line<LineUse::kWrite>(base() + std::uint64_t{position} * kUnitSize);
  const bool was_held = pins.holds(pin, offset_of(position));
  const std::uint64_t seq = header_->seq.load(std::memory_order_relaxed);
  return write(Exclusion::kWriters, deadline, [&] {
    // After damage was met, the pin has gone with a first run, or with a shard that had to be emptied.
    if (!pins.holds(pin, offset_of(position))) {
      return was_held && was_rebuilt_since(seq) ? Status::kOk : Status::kBadHandle;
    }
    let_go(position, pins, pin);
    return Status::kOk;
  });
}

}  // namespace memstream
