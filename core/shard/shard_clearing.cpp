// Making room for a large value in many holds of W, so that none lasts longer because the value is larger.
//
// A block grows: it is a reservation from the first hold on, used, nobody's, and pinned by the process that clears.
// What lies behind it moves or is evicted, and each block that was emptied becomes part of it by one store. Between the
// holds it is a retired block like others: a rebuild keeps it, and it is freed after its process has died.
#include "core/shard/shard_clearing.h"

#include <algorithm>
#include <thread>

#include "core/base/thread_cancel.h"
#include "core/shard/shard.h"
#include "core/shard/shard_operation.h"

namespace memstream {
namespace {

constexpr std::uint64_t kClearedAtOnce = std::uint64_t{256} << 10;  // Bytes for which one hold makes room.
constexpr std::uint32_t kLooksForAPlace = 8192;                     // At blocks, for a place where least has to move.
constexpr std::uint32_t kBlocksAtOnce = 2048;                       // Emptied in one hold ...
constexpr std::uint64_t kEmptiedAtOnce = std::uint64_t{4} << 20;    // ... and bytes of them.
constexpr std::uint64_t kCommittedAtOnce = std::uint64_t{4} << 20;  // Bytes that the system is asked for in one hold.
constexpr int kStarts = 16;  // Another one each time that somebody has begun to hold what lay in the way.
constexpr std::chrono::microseconds kPauseForOthers{20};

}  // namespace

Status Shard::reserve_in_slices(Clearing& clearing, const Deadline& deadline, PinnedBlock* reserved) noexcept {
  for (;;) {
    std::chrono::steady_clock::time_point begin{};
    const Status status = write(Exclusion::kEverybody, deadline, [&] {
      begin = std::chrono::steady_clock::now();
      const Status made = clear_a_slice(clearing, reserved);
      clearing.is_awaited = lock_.is_awaited();
      return made;
    });
    if (clearing.is_done) return status;
    if (status != Status::kOk) {
      // What has grown so far stays a retired block until somebody wants room.
      if (clearing.position != 0) clearing.pins.release(clearing.pin, offset_of(clearing.position));
      return status;
    }
    if (clearing.is_awaited) {
      // The unlock has woken a thread that needs some time to take the lock.
      const DisableCancelScope uncancelled;
      std::this_thread::sleep_for(kPauseForOthers);
    }
    deadline.prolong(std::chrono::steady_clock::now() - begin);
  }
}

// One hold's work; clearing.is_done after the last.
Status Shard::clear_a_slice(Clearing& clearing, PinnedBlock* reserved) {
  if (clearing.position == 0) return begin_clearing(clearing, reserved);
  const std::uint32_t position = clearing.position;
  if (!clearing.pins.holds(clearing.pin, offset_of(position))) {
    return fail(Status::kCorrupt, "The shard was damaged and has been emptied; the reservation went with it.");
  }
  if (!is_retired(position)) throw CorruptionDetected{"a reservation that is none"};
  std::uint64_t emptied_bytes = 0;
  for (std::uint32_t blocks = 0; blocks < kBlocksAtOnce && emptied_bytes < kEmptiedAtOnce; ++blocks) {
    const std::uint32_t size_units = arena_.shape(position).size_units;
    if (size_units >= clearing.units) {
      remove_retired(position);
      arena_.cut_to(position, static_cast<std::uint32_t>(clearing.units));
      return keep_reserved(clearing, position, reserved);
    }
    const std::uint32_t next = position + size_units;
    const bool is_used = next < arena_.heap_end() && arena_.shape(next).used();
    if (!clear_next(clearing, next)) {
      stop_clearing(clearing);
      break;
    }
    if (is_used) emptied_bytes += std::uint64_t{arena_.shape(position).size_units - size_units} * kUnitSize;
  }
  return Status::kOk;
}

// What comes before a block can grow: a block that is free already, and memory for it; the retired blocks that nobody
// holds any more; what is worth least.
Status Shard::begin_clearing(Clearing& clearing, PinnedBlock* reserved) {
  const std::uint64_t units = clearing.units;
  fit_table(clearing.request);
  if (units * kUnitSize <= kClearedAtOnce) {
    const std::uint32_t position = make_room(units, clearing.now_ms);
    return position != 0 ? keep_reserved(clearing, position, reserved) : no_room(units * kUnitSize);
  }
  if (must_commit_more(units, clearing.now_ms)) return Status::kOk;
  if (const std::uint32_t position = arena_.allocate(units, clearing.now_ms); position != 0) {
    return keep_reserved(clearing, position, reserved);
  }
  if (!clearing.looked_at_orphans) {
    clearing.looked_at_orphans = true;
    free_retired();
    return Status::kOk;
  }
  // Nothing is evicted for what cannot come in after all.
  const std::uint32_t start = find_start(units, clearing.now_ms);
  if (start == kNoStart || clearing.starts > kStarts) return no_room(units * kUnitSize);
  if (!clearing.has_evicted) {
    clearing.has_evicted = true;
    const std::uint32_t position = evict_coldest(units, clearing.now_ms);
    return position != 0 ? keep_reserved(clearing, position, reserved) : Status::kOk;
  }
  if (start != kWilderness) return start_at(clearing, start);
  const std::uint64_t wilderness = arena_.wilderness_bytes() / kUnitSize;
  if (must_commit_more(wilderness, clearing.now_ms)) return Status::kOk;
  const std::uint32_t position = arena_.allocate_from_wilderness(wilderness, clearing.now_ms);
  return position != 0 ? start_at(clearing, position) : no_room(units * kUnitSize);
}

// Whether the block would come from wilderness that is not all committed: some more of it is now.
bool Shard::must_commit_more(std::uint64_t units, std::uint64_t now_ms) {
  const ShardSpace& s = space();
  const std::uint64_t bytes = units * kUnitSize;
  if (bytes > arena_.wilderness_bytes()) return false;
  const std::uint64_t from = std::uint64_t{arena_.heap_begin()} * kUnitSize - bytes;
  const std::uint64_t committed = s.heap_committed;
  if (committed <= from + kCommittedAtOnce || committed <= s.table_committed) return false;
  const std::uint64_t next = std::max(from, committed - kCommittedAtOnce);
  return arena_.commit_from(static_cast<std::uint32_t>(next / kUnitSize), now_ms) && s.heap_committed < committed;
}

// A block from which on nothing that is held lies in the way: one where little has to move if that is found soon.
// kWilderness: where only the wilderness and the lower end of the heap together are large enough.
std::uint32_t Shard::find_start(std::uint64_t units, std::uint64_t now_ms) {
  Window window;
  if (find_window(units, now_ms, kLooksForAPlace, &window)) return window.begin;
  const PinSnapshot census = pin_snapshot();
  const std::uint32_t heap_begin = arena_.heap_begin();
  const std::uint32_t heap_end = arena_.heap_end();
  const auto fits = [&](std::uint32_t begin, std::uint64_t wanted) {
    return begin < heap_end && std::min(census.next_confirmed(begin), heap_end) - begin >= wanted;
  };
  for (const std::uint32_t begin : {std::max(space().reclaim_hand, heap_begin), heap_begin}) {
    if (fits(begin, units)) return begin;
  }
  for (std::uint32_t held = census.next_confirmed(heap_begin); held < heap_end;) {
    const std::uint32_t behind = held + arena_.shape(held).size_units;
    if (fits(behind, units)) return behind;
    held = census.next_confirmed(behind);
  }
  const std::uint64_t wilderness = arena_.wilderness_bytes() / kUnitSize;
  const bool is_enough = wilderness >= kMinBlockUnits && wilderness < units && fits(heap_begin, units - wilderness);
  return is_enough ? kWilderness : kNoStart;
}

// The block at `position` is the one that grows from here on. kOk without one if somebody has begun to hold it: another
// place may do.
Status Shard::start_at(Clearing& clearing, std::uint32_t position) {
  ++clearing.starts;
  const BlockShape shape = arena_.shape(position);
  if (!shape.used()) {
    arena_.allocate_at(position, static_cast<std::uint32_t>(std::min<std::uint64_t>(shape.size_units, clearing.units)));
  } else if ((shape.flags & kBlockRetired) != 0) {
    if (pins_.is_pinned(position)) return Status::kOk;
    remove_retired(position);
  } else if (owning_ref(position) != 0 && !empty_block(position, clearing.now_ms)) {
    return Status::kOk;
  }
  const BlockShape first = arena_.shape(position);
  Arena::set_shape(arena_.block(position),
                   {.size_units = first.size_units, .flags = first.flags & (kBlockUsed | kBlockPrevFree)});
  retire_block(position, first.size_bytes());
  clearing.pin = clearing.pins.claim(offset_of(position));
  if (clearing.pin == PinSet::kNone) {
    remove_retired(position);
    arena_.free(position);
    return Status::kFull;
  }
  clearing.position = position;
  return Status::kOk;
}

// Makes the block at `position`, which lies behind the one that grows, part of that. False if somebody holds it.
bool Shard::clear_next(Clearing& clearing, std::uint32_t position) {
  if (position >= arena_.heap_end()) return false;
  const BlockShape shape = arena_.shape(position);
  if (!shape.used()) {
    const std::uint64_t missing = clearing.units - arena_.shape(clearing.position).size_units;
    arena_.allocate_at(position, static_cast<std::uint32_t>(std::min<std::uint64_t>(shape.size_units, missing)));
  } else if (owning_ref(position) != 0) {
    if (!empty_block(position, clearing.now_ms)) return false;
  } else {
    if (pins_.is_pinned(position)) return false;
    remove_retired(position);
  }
  space().pinned_memory += std::uint64_t{arena_.join_next(clearing.position)} * kUnitSize;
  return true;
}

// Gives back what has grown, since something that is held lies behind it.
void Shard::stop_clearing(Clearing& clearing) {
  const std::uint32_t position = clearing.position;
  clearing.position = 0;
  remove_retired(position);
  arena_.free(position);
  clearing.pins.drop(clearing.pin);
}

// The block at `position` becomes the reservation: used, and no retired block yet. The pin last: where damage is met
// before, nothing is left of the attempt.
Status Shard::keep_reserved(Clearing& clearing, std::uint32_t position, PinnedBlock* reserved) {
  const CheckedBlock block = fill(position, clearing.request, true, clearing.now_ms);
  retire_block(position, block.stored_size);
  if (clearing.position == 0) clearing.pin = clearing.pins.claim(offset_of(position));
  if (clearing.pin == PinSet::kNone) {
    remove_retired(position);
    arena_.free(position);
    return Status::kFull;
  }
  reserved->pin = clearing.pin;
  reserved->position = position;
  reserved->value = const_cast<std::byte*>(block.value);
  reserved->read = {.value_size = clearing.request.value_size};
  clearing.is_done = true;
  return Status::kOk;
}

}  // namespace memstream
