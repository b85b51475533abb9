// Blocks held in place: what is to be done under W for views, reservations, and what they leave behind.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/base/process_names.h"
#include "core/shard/shard_clearing.h"
#include "core/shard/shard_lookup.h"
#include "core/shard/shard_operation.h"

namespace memstream {

// ---- retired blocks: used blocks that no entry owns ----

// They form a ring, linked by the words that say of others whose they are. A pin ends without a lock, so that nobody is
// told when the last one does: the ring is looked at when room is wanted, and when another block comes to it.

// Whether a retired block stands at `position`, as its header says.
bool Shard::is_retired(std::uint32_t position) const { return (arena_.shape(position).flags & kBlockRetired) != 0; }

// Of two neighbours each names the other. So a walk cannot come back to anywhere but where it began.
std::uint32_t Shard::next_retired(std::uint32_t position) const {
  if (!is_retired(position)) throw CorruptionDetected{"a ring of retired blocks with something else in it"};
  const std::uint32_t next = link_next(arena_.block(position).owner.load(std::memory_order_relaxed));
  if (!is_retired(next) || link_previous(arena_.block(next).owner.load(std::memory_order_relaxed)) != position) {
    throw CorruptionDetected{"a ring of retired blocks that is not linked both ways"};
  }
  return next;
}

// The last to be looked at.
void Shard::retire_block(std::uint32_t position, std::uint64_t stored_size) {
  // Whoever reads without a lock what is written to the header here sees that the entry has let go of it.
  std::atomic_thread_fence(std::memory_order_release);
  ShardSpace& s = space();
  BlockHeader& header = arena_.block(position);
  const std::uint32_t next = s.retired_hand != 0 ? s.retired_hand : position;
  std::uint32_t previous = position;
  if (next != position) {
    if (!is_retired(next)) throw CorruptionDetected{"a ring of retired blocks with something else in it"};
    previous = link_previous(arena_.block(next).owner.load(std::memory_order_relaxed));
  }
  BlockShape shape = arena_.shape(position);
  shape.flags |= kBlockRetired;
  Arena::set_shape(header, shape);
  header.owner.store(links_word(next, previous), std::memory_order_relaxed);
  if (next == position) {
    s.retired_hand = position;
  } else {
    link_retired(previous, position);
    link_retired(position, next);
  }
  ++s.retired;
  s.pinned_memory += stored_size;
}

// Lets one follow the other.
void Shard::link_retired(std::uint32_t position, std::uint32_t next) {
  const auto set = [&](std::uint32_t at, bool is_first) {
    if (!is_retired(at)) throw CorruptionDetected{"a ring of retired blocks with something else in it"};
    std::atomic<std::uint64_t>& word = arena_.block(at).owner;
    const std::uint64_t links = word.load(std::memory_order_relaxed);
    word.store(is_first ? links_word(next, link_previous(links)) : links_word(link_next(links), position),
               std::memory_order_relaxed);
  };
  set(position, true);
  set(next, false);
}

// The block stays, used and nobody's.
void Shard::remove_retired(std::uint32_t position) {
  ShardSpace& s = space();
  const std::uint32_t next = next_retired(position);
  if (s.retired == 0) throw CorruptionDetected{"a ring of retired blocks that nobody counted"};
  link_retired(link_previous(arena_.block(position).owner.load(std::memory_order_relaxed)), next);
  if (s.retired_hand == position) s.retired_hand = next != position ? next : 0;
  const Arena::HeapBlock block = arena_.look_at(position);
  BlockShape shape = block.shape;
  shape.flags &= ~kBlockRetired;
  Arena::set_shape(*block.header, shape);
  block.header->owner.store(owner_word(0, 0), std::memory_order_relaxed);
  --s.retired;
  s.pinned_memory -= shape.size_bytes();
}

// Frees those of the next `looks` retired blocks for which `is_held(position)` is false. However many are counted, it
// ends where it comes back to the first that stays.
template <class IsHeld>
void Shard::reclaim_retired(std::uint32_t looks, const IsHeld& is_held) {
  ShardSpace& s = space();
  if ((s.retired == 0) != (s.retired_hand == 0))
    throw CorruptionDetected{"a ring of retired blocks that was not counted"};
  std::uint32_t first_kept = 0;
  for (std::uint32_t left = std::min(looks, s.retired); left != 0; --left) {
    const std::uint32_t position = s.retired_hand;
    if (position == first_kept) throw CorruptionDetected{"a ring of retired blocks with fewer than are counted"};
    s.retired_hand = next_retired(position);
    if (is_held(position)) {
      if (first_kept == 0) first_kept = position;
      continue;
    }
    remove_retired(position);
    arena_.free(position);
  }
  if (looks == kEveryRetired && s.retired_hand != first_kept) {
    throw CorruptionDetected{"a ring of retired blocks with more than are counted"};
  }
}

void Shard::free_some_retired() {
  reclaim_retired(kRetiredChecks, [this](std::uint32_t position) { return pins_.is_pinned(position); });
}

void Shard::free_retired() {
  if (space().retired <= kRetiredChecks) {
    return reclaim_retired(kEveryRetired, [this](std::uint32_t position) { return pins_.is_pinned(position); });
  }
  PinSnapshot census(pins_.places(), pins_.places().slots_in_use(), offset_, size_);
  reclaim_retired(kEveryRetired, [&](std::uint32_t position) { return census.holds(position); });
}

// ---- who holds what ----

// The processes that hold most of the shard, for the error of one who finds no room.
std::string Shard::holders() const {
  constexpr std::size_t kNamed = 4;
  std::map<std::uint32_t, std::set<std::uint32_t>> blocks_of;  // Positions by pid: a block may be held many times.
  const PinPlaces& places = pins_.places();
  places.for_each(places.slots_in_use(), [&](const std::atomic<std::uint64_t>& pin, const ProcessSlot& slot) {
    const std::uint64_t offset = (pin.load(std::memory_order_acquire) & ~kPinIsTentative) - offset_;
    if (offset >= size_) return;
    blocks_of[slot.pid.load(std::memory_order_relaxed)].insert(static_cast<std::uint32_t>(offset / kUnitSize));
  });
  struct Holder {
    std::uint64_t bytes;
    std::uint32_t pid;
    std::size_t blocks;
  };
  std::vector<Holder> holders;
  for (const auto& [pid, positions] : blocks_of) {
    holders.push_back({0, pid, positions.size()});
    for (const std::uint32_t position : positions) {
      CheckedBlock block;
      if (check_block(backing(), position, &block)) holders.back().bytes += block.stored_size;
    }
  }
  std::sort(holders.begin(), holders.end(), [](const Holder& a, const Holder& b) { return a.bytes > b.bytes; });
  std::string text = fmt::format("Of the {} bytes of this shard", size_);
  for (std::size_t i = 0; i < std::min(holders.size(), kNamed); ++i) {
    text += fmt::format("{} {} holds {} bytes in {} blocks", i == 0 ? "" : ",",
                        describe_process(static_cast<pid_t>(holders[i].pid)), holders[i].bytes, holders[i].blocks);
  }
  if (holders.size() > kNamed) text += fmt::format(", {} others hold less", holders.size() - kNamed);
  return text;
}

// ---- views ----

// As pin(), with W: for a key that is being written, or whose shard is.
Status Shard::pin_locked(const Key& key, PinSet& pins, const Deadline& deadline, std::uint64_t accessed_at_ms,
                         std::uint64_t now_ms, PinnedBlock* pinned) noexcept {
  return write(Exclusion::kWriters, deadline, [&] {
    const FoundEntry found = find(key);
    if (found.id == 0 || has_expired(found.block.expires_ms(), now_ms)) return Status::kMiss;
    const std::uint64_t offset = offset_of(found.position());
    pinned->pin = pins.claim(offset | kPinIsTentative);
    if (pinned->pin == PinSet::kNone) return Status::kFull;
    // With W nobody gives the block up; whoever does later sees bit and pin, since he had W after this.
    found.entry->ref.fetch_or(kPinnedHint, std::memory_order_relaxed);
    pins.validate(pinned->pin, offset);
    describe_pinned(found, pinned);
    record_access(*found.entry, accessed_at_ms);
    return Status::kOk;
  });
}

// ---- reservations: retired blocks that are going to have an owner ----

Status Shard::reserve(const Key& key, std::uint64_t value_size, PinSet& pins, const Deadline& deadline,
                      std::uint64_t now_ms, PinnedBlock* reserved) noexcept {
  const StoreRequest request{.key = key, .value_size = value_size};
  if (const Status status = check_size(request); status != Status::kOk) return status;
  // With extras: what the value is going to have of them is not known before the commit.
  const std::uint64_t units = block_units_for(key.bytes.size(), value_size, true);
  Clearing clearing{.request = request, .units = units, .pins = pins, .now_ms = now_ms};
  return reserve_in_slices(clearing, deadline, reserved);
}

Status Shard::commit(const StoreRequest& request, const PinnedBlock& reserved, PinSet& pins, const Deadline& deadline,
                     std::uint64_t now_ms) noexcept {
  const std::uint32_t position = reserved.position;
  const bool was_held = pins.holds(reserved.pin, offset_of(position));
  const std::uint64_t seq = header_->seq.load(std::memory_order_relaxed);
  return write(Exclusion::kEverybody, deadline, [&] {
    const FoundEntry found = find_fresh(request.key, now_ms);
    if (found.id != 0 && found.position() == position) {
      // Run once more after damage was met behind the commit itself: it stands.
      pins.release(reserved.pin, offset_of(position));
      end_lease_of(request.key);
      return Status::kOk;
    }
    if (!pins.holds(reserved.pin, offset_of(position))) {
      if (!was_held || !was_rebuilt_since(seq)) return Status::kBadHandle;
      return fail(Status::kCorrupt,
                  "The shard was damaged and has been emptied, and the reservation is lost. Reserve again.");
    }
    const CheckedBlock filled = checked_block(position);
    Status status = admit(request, found);
    if (!filled.key_is(request.key.bytes) || filled.value_size != request.value_size) {
      status = fail(Status::kCorrupt,
                    "Other bytes were written over the reservation, and its value is lost. Reserve again.");
    }
    const std::uint32_t new_id = status == Status::kOk && found.id == 0 ? take_entry(filled.stored_size, now_ms) : 0;
    if (status == Status::kOk && found.id == 0 && new_id == 0) status = no_room(sizeof(Entry));
    remove_retired(position);
    if (status == Status::kOk) {
      const Arena::HeapBlock block = arena_.look_at(position);
      BlockShape shape = block.shape;
      shape.flags = (shape.flags & ((1U << kCreatedShift) - 1)) | created_flags(now_ms);
      Arena::set_shape(*block.header, shape);
      set_extras(*block.header, request);
      publish(position, filled, request, found, new_id, now_ms, true);
    } else {
      arena_.free(position);
    }
    pins.drop(reserved.pin);
    return status;
  });
}

}  // namespace memstream
