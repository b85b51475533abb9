// Blocks held in place: what views and reservations need the write lock for.
#include <chrono>
#include <thread>

#include "core/base/thread_cancel.h"
#include "core/shard/clearing.h"
#include "core/shard/shard_lookup.h"
#include "core/shard/shard_operation.h"

namespace memstream {
namespace {

constexpr std::chrono::microseconds kPauseForOthers{20};

}  // namespace

// ---- views ----

// As pin(), with W: for a key that is being written, or whose shard is.
Status Shard::pin_locked(const Key& key, PinSet& pins, std::uint64_t accessed_at_ms, const OpContext& context,
                         PinnedBlock* pinned) noexcept {
  return write(Exclusion::kWriters, context.deadline, [&]() MEMSTREAM_NEEDS_W {
    const FoundEntry found = contents_.find(key);
    if (found.id == 0 || tags_.is_over(backing(), found.block, context.now_ms)) return Status::kMiss;
    const std::uint64_t offset = offset_of(found.position());
    pinned->pin = pins.claim(offset | kPinIsTentative);
    if (pinned->pin == PinSet::kNone) return Status::kFull;
    // W is held, so nobody gives the block up. A later holder of W sees both the bit and the pin.
    found.entry->ref.fetch_or(kPinnedHint, std::memory_order_relaxed);
    pins.validate(pinned->pin, offset);
    describe_pinned(found, pinned);
    pinned->read.expires_ms = instant_of(pinned->read.expires_ms);
    record_access(*found.entry, accessed_at_ms);
    return Status::kOk;
  });
}

// ---- reservations: retired blocks that are going to have an owner ----

Status Shard::reserve(const Key& key, std::uint64_t value_size, PinSet& pins, const OpContext& context,
                      PinnedBlock* reserved, bool has_tags) noexcept {
  const StoreRequest request{.key = key, .value_size = value_size};
  const StoreRequest stored{.key = key, .value_size = value_size, .expires_ms = has_tags ? kHasTags : 0};
  if (const Status status = check_size(stored); status != Status::kOk) return status;
  // With extras: what the value is going to have of them is not known before the commit.
  const Units units = block_units_for(key.bytes.size(), stored.value_and_tags_size(), true);
  Clearing clearing(parts(), &reclaimer_, &table_shrinker_, request, units, &pins, context.now_ms);
  for (;;) {
    std::chrono::steady_clock::time_point begin{};
    bool is_awaited = false;
    const Status status = write(Exclusion::kEverybody, context.deadline, [&]() MEMSTREAM_NEEDS_W {
      begin = std::chrono::steady_clock::now();
      const Status made = clearing.clear_a_slice(reserved);
      is_awaited = lock_.is_awaited();
      return made;
    });
    if (clearing.is_done()) return status;
    if (status != Status::kOk) {
      clearing.give_up();
      return status;
    }
    if (is_awaited) {
      // The unlock has woken a thread that needs some time to take the lock.
      const DisableCancelScope uncancelled;
      std::this_thread::sleep_for(kPauseForOthers);
    }
    context.deadline.prolong(std::chrono::steady_clock::now() - begin);
  }
}

Status Shard::commit_reservation(const StoreRequest& request, const PinnedBlock& reserved, PinSet& pins,
                                 const OpContext& context) noexcept {
  const BlockPosition position = reserved.position;
  const bool was_held = pins.holds(reserved.pin, offset_of(position));
  const std::uint64_t seq = header_->seq.load(std::memory_order_relaxed);
  return write(Exclusion::kEverybody, context.deadline, [&]() MEMSTREAM_NEEDS_W {
    const FoundEntry found = find_fresh(request.key, context.now_ms);
    if (found.id != 0 && found.position() == position) {
      // Run once more after damage was met behind the commit itself: it stands.
      pins.release(reserved.pin, offset_of(position));
      leases_.end_of(request.key);
      return Status::kOk;
    }
    if (!pins.holds(reserved.pin, offset_of(position))) {
      // A rebuild or an emptied shard changes the sequence.
      if (!was_held || header_->seq.load(std::memory_order_relaxed) == seq) return Status::kBadHandle;
      return fail(Status::kCorrupt,
                  "The shard was damaged and has been emptied, and the reservation is lost. Reserve again.");
    }
    const CheckedBlock filled = contents_.checked_block(position);
    Status status = check_mode(request, found);
    const std::uint64_t room = filled.stored_size - filled.value_start();
    if (!filled.key_is(request.key.bytes) || filled.value_size != request.value_size ||
        room < request.value_and_tags_size()) {
      status = fail(Status::kCorrupt,
                    "Other bytes were written over the reservation, and its value is lost. Reserve again.");
    }
    const EntryId new_id = status == Status::kOk && found.id == 0
                               ? reclaimer_.take_entry(filled.stored_size, context.now_ms, nullptr)
                               : EntryId{0};
    if (status == Status::kOk && found.id == 0 && new_id == 0) status = reclaimer_.no_room(sizeof(Entry));
    retired_.remove(position);
    if (status == Status::kOk) {
      const Arena::HeapBlock block = arena_.look_at(position);
      BlockShape shape = block.shape;
      shape.flags = (shape.flags & ((1U << kCreatedShift) - 1)) | created_flags(context.now_ms);
      Arena::set_shape(*block.header, shape);
      ShardContents::set_extras(*block.header, request);
      publish(position, filled, request, found, new_id, context.now_ms, true);
    } else {
      arena_.free(position);
    }
    pins.drop(reserved.pin);
    return status;
  });
}

}  // namespace memstream
