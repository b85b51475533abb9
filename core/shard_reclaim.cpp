// Making room: entries and blocks given up one by one, or a window of the heap cleared for one large value.
#include <algorithm>

#include "core/shard.h"

namespace memstream {
namespace {

// A block larger than so many average ones is not made by evicting one entry after another, which would free many small
// gaps all over the heap, but by clearing one window.
constexpr std::uint64_t kWindowFactor = 4;
constexpr int kVictims = 8;  // Entries evicted one by one before a window is cleared.
// The table grows at the cost of live blocks only if more than this part of the shard is free: then entries are what is
// short.
constexpr std::uint64_t kSparePart = 32;

}  // namespace

// Whether the entry that a used block names is the one that owns it.
bool Shard::owned(std::uint32_t position) const noexcept {
  CheckedBlock block;
  if (!check_block(base(), size_, position, &block)) return false;
  const std::uint32_t id = owner_entry(block.owner());
  if (!Index::names_entry(id, index_.cells())) return false;
  const std::uint64_t ref = Index::entry_unchecked(header_, id).ref.load(std::memory_order_relaxed);
  return ref_is_live(ref) && ref_block(ref) == position;
}

bool Shard::evictable(std::uint32_t position, const BlockShape& shape) const noexcept {
  return !shape.used() || (pins_of(position) == 0 && owned(position));
}

// The block of an entry that has let go of it. Returns the free block that it became part of, 0 if there is none.
std::uint32_t Shard::give_up_block(std::uint32_t position, const CheckedBlock& block) {
  ShardSpace& s = space();
  s.used_memory -= block.stored_size;
  s.key_memory -= block.key_size;
  s.value_memory -= block.value_size;
  if (created_pins(block.header->created.load(std::memory_order_relaxed)) == 0) return arena_.free(position);
  s.pinned_memory += block.stored_size;  // The last unpin frees it.
  return 0;
}

// Returns what give_up_block() returned.
std::uint32_t Shard::remove_entry(const FoundEntry& found) {
  found.entry->ref.store(ref_empty(found.ref), std::memory_order_release);
  index_.unlink(found.id);
  eviction_.count_out(found.entry->policy.load(std::memory_order_relaxed), found.block.stored_size);
  found.entry->policy.store(0, std::memory_order_relaxed);
  --space().entries;
  index_.give_free_entry(found.id);
  return give_up_block(found.position(), found.block);
}

// Removes an entry to make room, and counts it as what it was: expired or evicted.
std::uint32_t Shard::evict(const FoundEntry& found, std::uint64_t now_ms) {
  const bool expired = has_expired(found.block.expires_ms(), now_ms);
  ++(expired ? header_->counters.expirations : header_->counters.evictions);
  return remove_entry(found);
}

bool Shard::evict_one(std::uint64_t newcomer_bytes, std::uint64_t now_ms) {
  const FoundEntry victim = eviction_.choose_victim(newcomer_bytes, now_ms);
  if (victim.id == 0) return false;
  evict(victim, now_ms);
  return true;
}

// ---- room for a block ----

// A used block of `units`, whatever has to go for it. 0 only if pins or a lack of memory stand in the way everywhere.
std::uint32_t Shard::make_room(std::uint64_t units, std::uint64_t now_ms) {
  std::uint32_t position = arena_.allocate(units, now_ms);
  if (position != 0) [[likely]]
    return position;
  const std::uint64_t average_size = space().used_memory / std::max(space().entries, 1U);
  if (units * kUnitSize <= kWindowFactor * average_size) {
    for (int victims = 0; position == 0 && victims < kVictims && evict_one(units * kUnitSize, now_ms); ++victims) {
      position = arena_.allocate(units, now_ms);
    }
  }
  return position != 0 ? position : reclaim_window(units, now_ms);
}

// Clears the first run of blocks, from the reclaim hand on, that is large enough and holds nothing pinned.
std::uint32_t Shard::reclaim_window(std::uint64_t units, std::uint64_t now_ms) {
  const std::uint32_t heap_end = arena_.heap_end();
  std::uint32_t begin = std::max(space().reclaim_hand, arena_.heap_begin());
  for (int rounds = 0; rounds < 2; ++rounds, begin = arena_.heap_begin()) {
    std::uint32_t position = begin;
    while (position < heap_end) {
      const BlockShape shape = arena_.shape(position);
      position += shape.size_units;
      if (!evictable(position - shape.size_units, shape)) begin = position;
      if (position - begin >= units) return evict_window(begin, position, units, now_ms);
    }
  }
  // The heap alone has no such run: the blocks at its lower end, together with the wilderness below them, are the last
  // resort. Nothing is evicted for a wilderness that the system refuses to back.
  begin = arena_.heap_begin();
  std::uint32_t end = begin;
  const std::uint64_t wilderness = arena_.wilderness_bytes() / kUnitSize;
  while (end - begin + wilderness < units && end < heap_end && evictable(end, arena_.shape(end))) {
    end += arena_.shape(end).size_units;
  }
  if (end - begin + wilderness < units || !arena_.commit_from(static_cast<std::uint32_t>(end - units), now_ms))
    return 0;
  return evict_window(begin, end, units, now_ms);
}

// Evicts what lives in [begin, end) and allocates there. REQUIRES: each block in it is evictable().
std::uint32_t Shard::evict_window(std::uint32_t begin, std::uint32_t end, std::uint64_t units, std::uint64_t now_ms) {
  std::uint32_t cleared = 0;  // The free block that the window becomes; 0 while it is none or wilderness.
  for (std::uint32_t position = begin; position < end;) {
    if (arena_.shape(position).used()) {
      cleared = evict(live_entry(owner_entry(checked_block(position).owner())), now_ms);
    } else {
      cleared = position;
    }
    position = cleared != 0 ? cleared + arena_.shape(cleared).size_units : arena_.heap_begin();
  }
  space().reclaim_hand = cleared != 0 ? cleared + arena_.shape(cleared).size_units : arena_.heap_begin();
  if (cleared != 0 && arena_.shape(cleared).size_units >= units) {
    return arena_.allocate_at(cleared, static_cast<std::uint32_t>(units));
  }
  return arena_.allocate(units, now_ms);
}

// ---- room for an entry ----

// Lets the wilderness reach `bytes` by evicting the blocks at the table's border.
bool Shard::make_wilderness(std::uint64_t bytes, std::uint64_t now_ms) {
  while (arena_.wilderness_bytes() < bytes) {
    const std::uint32_t position = arena_.heap_begin();
    if (position >= arena_.heap_end()) return false;
    const BlockShape shape = arena_.shape(position);
    if (!shape.used() || !evictable(position, shape)) return false;
    evict(live_entry(owner_entry(checked_block(position).owner())), now_ms);
  }
  return true;
}

// A free entry: from the list, from a cell not yet used, from wilderness, from the border if the heap has room to
// spare, or from an evicted key.
std::uint32_t Shard::take_entry(std::uint64_t newcomer_bytes, std::uint64_t now_ms) {
  std::uint32_t id = index_.take_free_entry();
  if (id != 0) return id;
  if (index_.add_cell()) return index_.take_free_entry();
  const bool spare = space().free_memory > space().max_memory / kSparePart;
  if (arena_.raise_table(now_ms) || (spare && make_wilderness(kPageSize, now_ms) && arena_.raise_table(now_ms))) {
    index_.add_cell();
    return index_.take_free_entry();
  }
  // What was evicted at the border left its entries behind.
  id = index_.take_free_entry();
  if (id == 0 && evict_one(newcomer_bytes, now_ms)) id = index_.take_free_entry();
  return id;
}

}  // namespace memstream
