// See retired_blocks.h.
#include "core/shard/retired_blocks.h"

#include <algorithm>
#include <cassert>

#include "core/layout/block.h"
#include "core/layout/corruption.h"
#include "core/shard/pin_snapshot.h"

namespace memstream {

bool RetiredBlocks::has(BlockPosition position) const {
  assert(holds_write_lock(header_));
  return (arena_.shape(position).flags & kBlockRetired) != 0;
}

BlockPosition RetiredBlocks::next_of(BlockPosition position) const {
  assert(holds_write_lock(header_));
  if (!has(position)) throw CorruptionDetected{"a ring of retired blocks with something else in it"};
  const BlockPosition next = link_next(arena_.block(position).owner.load(std::memory_order_relaxed));
  if (!has(next) || link_previous(arena_.block(next).owner.load(std::memory_order_relaxed)) != position) {
    throw CorruptionDetected{"a ring of retired blocks that is not linked both ways"};
  }
  return next;
}

void RetiredBlocks::add(BlockPosition position, std::uint64_t stored_size) {
  assert(holds_write_lock(header_));
  // A reader without a lock that sees what is written to the header here also sees that the entry has let go of it.
  std::atomic_thread_fence(std::memory_order_release);
  ShardSpace& s = space();
  BlockHeader& header = arena_.block(position);
  const BlockPosition next = s.retired_hand != 0 ? BlockPosition{s.retired_hand} : position;
  BlockPosition previous = position;
  if (next != position) {
    if (!has(next)) throw CorruptionDetected{"a ring of retired blocks with something else in it"};
    previous = link_previous(arena_.block(next).owner.load(std::memory_order_relaxed));
  }
  BlockShape shape = arena_.shape(position);
  shape.flags |= kBlockRetired;
  Arena::set_shape(header, shape);
  header.owner.store(links_word(next, previous), std::memory_order_relaxed);
  if (next == position) {
    s.retired_hand = position;
  } else {
    link(previous, position);
    link(position, next);
  }
  ++s.retired;
  s.pinned_memory += stored_size;
}

// Makes `next` follow `position`.
void RetiredBlocks::link(BlockPosition position, BlockPosition next) {
  assert(holds_write_lock(header_));
  const auto set = [&](BlockPosition at, bool is_first) MEMSTREAM_NEEDS_W {
    if (!has(at)) throw CorruptionDetected{"a ring of retired blocks with something else in it"};
    std::atomic<std::uint64_t>& word = arena_.block(at).owner;
    const std::uint64_t links = word.load(std::memory_order_relaxed);
    word.store(is_first ? links_word(next, link_previous(links)) : links_word(link_next(links), position),
               std::memory_order_relaxed);
  };
  set(position, true);
  set(next, false);
}

void RetiredBlocks::remove(BlockPosition position) {
  assert(holds_write_lock(header_));
  ShardSpace& s = space();
  const BlockPosition next = next_of(position);
  if (s.retired == 0) throw CorruptionDetected{"a ring of retired blocks that nobody counted"};
  link(link_previous(arena_.block(position).owner.load(std::memory_order_relaxed)), next);
  if (s.retired_hand == position) s.retired_hand = next != position ? next : BlockPosition{0};
  const Arena::HeapBlock block = arena_.look_at(position);
  BlockShape shape = block.shape;
  shape.flags &= ~kBlockRetired;
  Arena::set_shape(*block.header, shape);
  block.header->owner.store(owner_word(EntryId{0}, 0), std::memory_order_relaxed);
  --s.retired;
  s.pinned_memory -= shape.size_bytes();
}

// Frees those of the next `looks` retired blocks for which `is_held(position)` is false. However many are counted, it
// ends where it comes back to the first that stays.
template <class IsHeld>
void RetiredBlocks::reclaim(std::uint32_t looks, const IsHeld& is_held) {
  assert(holds_write_lock(header_));
  ShardSpace& s = space();
  if ((s.retired == 0) != (s.retired_hand == 0))
    throw CorruptionDetected{"a ring of retired blocks that was not counted"};
  BlockPosition first_kept;
  for (std::uint32_t left = std::min(looks, s.retired); left != 0; --left) {
    const BlockPosition position{s.retired_hand};
    if (position == first_kept) throw CorruptionDetected{"a ring of retired blocks with fewer than are counted"};
    s.retired_hand = next_of(position);
    if (is_held(position)) {
      if (first_kept == 0) first_kept = position;
      continue;
    }
    remove(position);
    arena_.free(position);
  }
  if (looks == kEvery && s.retired_hand != first_kept) {
    throw CorruptionDetected{"a ring of retired blocks with more than are counted"};
  }
}

void RetiredBlocks::free_some() {
  assert(holds_write_lock(header_));
  reclaim(kFew, [this](BlockPosition position) MEMSTREAM_NEEDS_W { return pins_.is_pinned(position); });
}

void RetiredBlocks::free_all() {
  assert(holds_write_lock(header_));
  if (space().retired <= kFew) {
    return reclaim(kEvery, [this](BlockPosition position) MEMSTREAM_NEEDS_W { return pins_.is_pinned(position); });
  }
  PinSnapshot snapshot(pins_.places(), pins_.places().slots_in_use(), shard_offset_bytes_, shard_size_bytes_);
  reclaim(kEvery, [&](BlockPosition position) { return snapshot.holds(position); });
}

}  // namespace memstream
