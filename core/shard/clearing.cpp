// See clearing.h.
#include "core/shard/clearing.h"

#include <algorithm>
#include <cassert>

#include "core/layout/block.h"
#include "core/layout/corruption.h"
#include "core/shard/pin_snapshot.h"

namespace memstream {
namespace {

constexpr std::uint64_t kClearedAtOnce = std::uint64_t{256} << 10;  // Bytes for which one hold makes room.
constexpr std::uint32_t kLooksForAPlace = 8192;                     // At blocks, for a place where least has to move.
constexpr std::uint32_t kBlocksAtOnce = 2048;                       // Emptied in one hold ...
constexpr std::uint64_t kEmptiedAtOnce = std::uint64_t{4} << 20;    // ... and bytes of them.
constexpr std::uint64_t kCommittedAtOnce = std::uint64_t{4} << 20;  // Bytes that the system is asked for in one hold.
constexpr int kStarts = 16;  // Another one each time that somebody has begun to hold what lay in the way.

}  // namespace

Clearing::Clearing(const ShardParts& parts, Reclaimer* reclaimer, TableShrinker* shrinker, const StoreRequest& request,
                   Units units, PinSet* pins, std::uint64_t now_ms) noexcept
    : parts_(parts),
      arena_(parts.arena),
      contents_(parts.contents),
      retired_(parts.retired),
      reclaimer_(*reclaimer),
      shrinker_(*shrinker),
      request_(request),
      units_(units),
      pins_(*pins),
      now_ms_(now_ms) {}

void Clearing::give_up() noexcept {
  if (position_ != 0) pins_.release(pin_, offset_of(position_));
}

Status Clearing::clear_a_slice(PinnedBlock* reserved) {
  assert(holds_write_lock(parts_.header));
  if (position_ == 0) return begin(reserved);
  const BlockPosition position = position_;
  if (!pins_.holds(pin_, offset_of(position))) {
    return fail(Status::kCorrupt, "The shard was damaged and has been emptied; the reservation went with it.");
  }
  if (!retired_.has(position)) throw CorruptionDetected{"a reservation that is none"};
  std::uint64_t emptied_bytes = 0;
  for (std::uint32_t blocks = 0; blocks < kBlocksAtOnce && emptied_bytes < kEmptiedAtOnce; ++blocks) {
    const std::uint32_t size_units = arena_.shape(position).size_units;
    if (size_units >= units_) {
      retired_.remove(position);
      arena_.cut_to(position, static_cast<std::uint32_t>(units_));
      return keep_reserved(position, reserved);
    }
    const BlockPosition next{position + size_units};
    const bool is_used = next < arena_.heap_end() && arena_.shape(next).used();
    if (!clear_next(next)) {
      stop();
      break;
    }
    if (is_used) emptied_bytes += std::uint64_t{arena_.shape(position).size_units - size_units} * kUnitSize;
  }
  return Status::kOk;
}

// The steps before a block can grow: take a block that is free already, commit memory for it, free the retired blocks
// that nobody holds any more, and evict the entries that are worth least.
Status Clearing::begin(PinnedBlock* reserved) {
  assert(holds_write_lock(parts_.header));
  const Units units = units_;
  shrinker_.fit(request_);
  if (units * kUnitSize <= kClearedAtOnce) {
    const BlockPosition position = reclaimer_.make_room(units, now_ms_);
    return position != 0 ? keep_reserved(position, reserved) : reclaimer_.no_room(units * kUnitSize);
  }
  if (must_commit_more(units)) return Status::kOk;
  if (const BlockPosition position = arena_.allocate(units, now_ms_); position != 0) {
    return keep_reserved(position, reserved);
  }
  if (!looked_at_orphans_) {
    looked_at_orphans_ = true;
    retired_.free_all();
    return Status::kOk;
  }
  // Nothing is evicted for what cannot come in after all.
  const BlockPosition start = find_start();
  if (start == kNoStart || starts_ > kStarts) return reclaimer_.no_room(units * kUnitSize);
  if (!has_evicted_) {
    has_evicted_ = true;
    const BlockPosition position = reclaimer_.evict_coldest(units, now_ms_);
    return position != 0 ? keep_reserved(position, reserved) : Status::kOk;
  }
  if (start != kWilderness) return start_at(start);
  const Units wilderness{arena_.wilderness_bytes() / kUnitSize};
  if (must_commit_more(wilderness)) return Status::kOk;
  const BlockPosition position = arena_.allocate_from_wilderness(wilderness, now_ms_);
  return position != 0 ? start_at(position) : reclaimer_.no_room(units * kUnitSize);
}

// Whether the block would come from wilderness that is not all committed: some more of it is now.
bool Clearing::must_commit_more(Units units) {
  assert(holds_write_lock(parts_.header));
  const ShardSpace& s = space();
  const std::uint64_t bytes = units * kUnitSize;
  if (bytes > arena_.wilderness_bytes()) return false;
  const std::uint64_t from = std::uint64_t{arena_.heap_begin()} * kUnitSize - bytes;
  const std::uint64_t committed = s.heap_committed;
  if (committed <= from + kCommittedAtOnce || committed <= s.table_committed) return false;
  const std::uint64_t next = std::max(from, committed - kCommittedAtOnce);
  return arena_.commit_from(BlockPosition{static_cast<std::uint32_t>(next / kUnitSize)}, now_ms_) &&
         s.heap_committed < committed;
}

// A block from which on nothing that is held lies in the way: one where little has to move if that is found soon.
// kWilderness: where only the wilderness and the lower end of the heap together are large enough.
BlockPosition Clearing::find_start() {
  assert(holds_write_lock(parts_.header));
  Reclaimer::Window window;
  if (reclaimer_.find_window(units_, now_ms_, kLooksForAPlace, &window)) return window.begin;
  const PinSnapshot snapshot = parts_.pin_snapshot();
  const BlockPosition heap_begin = arena_.heap_begin();
  const BlockPosition heap_end = arena_.heap_end();
  const auto fits = [&](BlockPosition begin, std::uint64_t wanted) {
    return begin < heap_end && std::min(snapshot.next_confirmed(begin), heap_end) - begin >= wanted;
  };
  for (const BlockPosition begin : {std::max(BlockPosition{space().reclaim_hand}, heap_begin), heap_begin}) {
    if (fits(begin, units_)) return begin;
  }
  for (BlockPosition held = snapshot.next_confirmed(heap_begin); held < heap_end;) {
    const BlockPosition behind{held + arena_.shape(held).size_units};
    if (fits(behind, units_)) return behind;
    held = snapshot.next_confirmed(behind);
  }
  const std::uint64_t wilderness = arena_.wilderness_bytes() / kUnitSize;
  const bool is_enough = wilderness >= kMinBlockUnits && wilderness < units_ && fits(heap_begin, units_ - wilderness);
  return is_enough ? kWilderness : kNoStart;
}

// The block at `position` is the one that grows from here on. kOk without one if somebody has begun to hold it: another
// place may do.
Status Clearing::start_at(BlockPosition position) {
  assert(holds_write_lock(parts_.header));
  ++starts_;
  const BlockShape shape = arena_.shape(position);
  if (!shape.used()) {
    arena_.allocate_at(position, static_cast<std::uint32_t>(std::min<std::uint64_t>(shape.size_units, units_)));
  } else if ((shape.flags & kBlockRetired) != 0) {
    if (parts_.pins.is_pinned(position)) return Status::kOk;
    retired_.remove(position);
  } else if (contents_.owning_ref(position) != 0 && !reclaimer_.empty_block(position, now_ms_)) {
    return Status::kOk;
  }
  const BlockShape first = arena_.shape(position);
  Arena::set_shape(arena_.block(position),
                   {.size_units = first.size_units, .flags = first.flags & (kBlockUsed | kBlockPrevFree)});
  retired_.add(position, first.size_bytes());
  pin_ = pins_.claim(offset_of(position));
  if (pin_ == PinSet::kNone) {
    retired_.remove(position);
    arena_.free(position);
    return Status::kFull;
  }
  position_ = position;
  return Status::kOk;
}

// Makes the block at `position`, which lies behind the one that grows, part of that. False if somebody holds it.
bool Clearing::clear_next(BlockPosition position) {
  assert(holds_write_lock(parts_.header));
  if (position >= arena_.heap_end()) return false;
  const BlockShape shape = arena_.shape(position);
  if (!shape.used()) {
    const std::uint64_t missing = units_ - arena_.shape(position_).size_units;
    arena_.allocate_at(position, static_cast<std::uint32_t>(std::min<std::uint64_t>(shape.size_units, missing)));
  } else if (contents_.owning_ref(position) != 0) {
    if (!reclaimer_.empty_block(position, now_ms_)) return false;
  } else {
    if (parts_.pins.is_pinned(position)) return false;
    retired_.remove(position);
  }
  space().pinned_memory += std::uint64_t{arena_.join_next(position_)} * kUnitSize;
  return true;
}

// Frees the block that has grown, because a held block lies behind it.
void Clearing::stop() {
  assert(holds_write_lock(parts_.header));
  const BlockPosition position = position_;
  position_ = BlockPosition{0};
  retired_.remove(position);
  arena_.free(position);
  pins_.drop(pin_);
}

// The block at `position` becomes the reservation: used, and no retired block yet. The pin last: where damage is met
// before, nothing is left of the attempt.
Status Clearing::keep_reserved(BlockPosition position, PinnedBlock* reserved) {
  assert(holds_write_lock(parts_.header));
  const CheckedBlock block = contents_.fill(position, request_, true, now_ms_);
  retired_.add(position, block.stored_size);
  if (position_ == 0) pin_ = pins_.claim(offset_of(position));
  if (pin_ == PinSet::kNone) {
    retired_.remove(position);
    arena_.free(position);
    return Status::kFull;
  }
  reserved->pin = pin_;
  reserved->position = position;
  reserved->value = const_cast<std::byte*>(block.value);
  reserved->read = {.value_size = request_.value_size};
  is_done_ = true;
  return Status::kOk;
}

}  // namespace memstream
