// Making room: entries and blocks given up one by one, and a window of the heap cleared where that leaves only gaps.
#include <algorithm>

#include "core/base/prefetch.h"
#include "core/shard/reclaimer.h"

namespace memstream {
namespace {

// A block is large if it has so many times the bytes of an average one.
constexpr std::uint64_t kLargeFactor = 4;
constexpr int kVictims = 1024;  // Entries evicted one by one before a window is cleared, at most.
// More than this part of the shard is free: then the table grows at the cost of live blocks, since entries are what is
// short, and for a block nobody goes, since all that is in its way is gaps.
constexpr std::uint64_t kSparePart = 32;
// Blocks that the search for a window looks at while it spares what is new.
constexpr std::uint32_t kSparingLooks = 8192;
// Copied in one hold of the lock at most: a larger value goes instead of moving.
constexpr std::uint64_t kMovedAtOnce = std::uint64_t{16} << 20;

// Asks for what the next eviction will change, if the hand of the small queue takes the entry that it has come to: the
// entry's bucket and its block, which lie anywhere. By the next put they are there. Whatever the words say: asking for
// a line that is not there does nothing.
inline void prefetch_next_victim(ShardHeader* header) noexcept {
  const std::uint32_t cells = header->cells.load(std::memory_order_relaxed);
  const EntryId id = Index::entry_at_or_after(EntryId{header->space.small_hand});
  if (!Index::names_entry(id, cells)) return;
  const Entry& entry = Index::entry_unchecked(header, id);
  const Bucket& bucket = Index::bucket(header, Index::bucket_of(entry.hash.load(std::memory_order_relaxed), cells));
  prefetch_line<LineUse::kWrite>(&bucket);
  prefetch_line<LineUse::kWrite>(bucket.hints);
  const std::byte* const block = reinterpret_cast<const std::byte*>(header) +
                                 std::uint64_t{ref_block(entry.ref.load(std::memory_order_relaxed))} * kUnitSize;
  prefetch_line<LineUse::kWrite>(block);
  prefetch_line<LineUse::kWrite>(block + kCacheLineSize);
}

}  // namespace

// The ref of the entry that a used block names, if it owns the block; 0 if not.
EntryRef ShardContents::owning_ref(BlockPosition position) const noexcept {
  CheckedBlock block;
  if (!check_block(backing(), position, &block)) return EntryRef{0};
  return owning_ref(owner_entry(block.owner()), position);
}

EntryRef ShardContents::owning_ref(EntryId id, BlockPosition position) const noexcept {
  if (!Index::names_entry(id, index_.cells())) return EntryRef{0};
  const EntryRef ref{Index::entry_unchecked(header_, id).ref.load(std::memory_order_relaxed)};
  return ref_is_live(ref) && ref_block(ref) == position ? ref : EntryRef{0};
}

bool Reclaimer::evictable(BlockPosition position, const BlockShape& shape) const noexcept {
  if (!shape.used()) return true;
  const EntryRef ref = contents_.owning_ref(position);
  return ref != 0 && !pins_.is_block_pinned(ref);
}

inline void Reclaimer::count_out(const CheckedBlock& block) noexcept {
  ShardSpace& s = space();
  s.used_memory -= block.stored_size;
  s.key_memory -= block.key_size;
  s.value_memory -= block.value_size;
}

// Whether an evictable() block is that of a key which was stored lately.
bool Reclaimer::is_new(BlockPosition position) const {
  const EntryId id = owner_entry(contents_.checked_block(position).owner());
  return eviction_.is_recent(id, Index::entry_unchecked(header_, id).policy.load(std::memory_order_relaxed));
}

// Frees the block that `ref`, the last value of an entry's ref, names. Returns the free block that it became part of,
// 0 if there is none.
BlockPosition Reclaimer::release_block(EntryRef ref, const CheckedBlock& block) {
  count_out(block);
  if (!defer_free_if_pinned(ref, block)) [[likely]]
    return arena_.free(ref_block(ref));
  retired_.free_some();
  return BlockPosition{0};
}

// Whether the block, whose entry has let go of it, is held. It is a retired block then.
inline bool Reclaimer::defer_free_if_pinned(EntryRef ref, const CheckedBlock& block) {
  if (!pins_.is_block_pinned(ref)) return false;
  retired_.add(ref_block(ref), block.stored_size);
  return true;
}

// The block stays used and has no owner. Returns the last value of the ref.
[[gnu::always_inline]] inline EntryRef Reclaimer::drop_entry(const FoundEntry& found) {
  const EntryRef ref{found.entry->ref.exchange(ref_empty(found.ref), std::memory_order_acq_rel)};
  index_.unlink(found.id);
  eviction_.count_out(found.entry->policy.load(std::memory_order_relaxed), found.block.stored_size);
  found.entry->policy.store(0, std::memory_order_relaxed);
  --space().entries;
  waits_.note_change(found.entry->hash, found.block.header);
  index_.give_free_entry(found.id);
  return ref;
}

// Returns what release_block() returned.
BlockPosition Reclaimer::remove_entry(const FoundEntry& found) { return release_block(drop_entry(found), found.block); }

// Removes an entry to make room, and counts it as what it was: expired or evicted.
BlockPosition Reclaimer::evict(const FoundEntry& found, Removal reason, std::uint64_t now_ms) {
  count_eviction(found, reason, now_ms);
  return remove_entry(found);
}

inline void Reclaimer::count_eviction(const FoundEntry& found, Removal reason, std::uint64_t now_ms) noexcept {
  if (is_over(found.block, now_ms)) {
    ++header_->counters.expirations;
    return;
  }
  ++header_->counters.evictions;
  const auto since = [now_ms](std::uint64_t instant) { return now_ms - std::min(instant, now_ms); };
  count(metrics_.removals[static_cast<std::uint32_t>(reason)]);
  count_in(metrics_.evicted_age_ms, since(found.block.created_ms()));
  count_in(metrics_.evicted_idle_ms, since(found.entry->last_access_ms.load(std::memory_order_relaxed)));
}

// A victim's block of exactly the wanted size that nobody holds stays used: neither its neighbours nor a list of free
// blocks is touched. A process that dies with it leaves the same bytes as one that dies before arena_.free().
bool Reclaimer::evict_one(std::uint64_t newcomer_bytes, std::uint64_t now_ms, BlockWanted* wanted) {
  const FoundEntry victim = eviction_.choose_victim(newcomer_bytes, now_ms);
  if (victim.id == 0) return false;
  prefetch_next_victim(header_);
  count_eviction(victim, Removal::kRoom, now_ms);
  const EntryRef ref = drop_entry(victim);
  if (wanted == nullptr || victim.block.stored_size != wanted->units * kUnitSize || pins_.is_block_pinned(ref)) {
    release_block(ref, victim.block);
    return true;
  }
  count_out(victim.block);
  wanted->position = ref_block(ref);
  // As in Arena::take(): a reader that sees what is written there later sees that the last owner let go of it.
  std::atomic_thread_fence(std::memory_order_release);
  return true;
}

// ---- room for a block ----

BlockPosition Reclaimer::make_room(Units units, std::uint64_t now_ms) {
  BlockPosition position = arena_.allocate(units, now_ms);
  if (position != 0) [[likely]]
    return position;
  if (space().retired != 0) {
    retired_.free_some();
    position = arena_.allocate(units, now_ms);
    if (position != 0) return position;
  }
  position = evict_for(units, now_ms);
  if (position != 0 || space().retired == 0) [[likely]]
    return position;
  // All that anybody has let go of, and what a view has taken out of a window that was being cleared.
  retired_.free_all();
  position = arena_.allocate(units, now_ms);
  return position != 0 ? position : evict_for(units, now_ms);
}

// Evicts the entries that are worth least until the block fits, or until enough bytes are free in gaps all over the
// heap. Then it clears one window, whose live blocks move to such gaps.
BlockPosition Reclaimer::evict_for(Units units, std::uint64_t now_ms) {
  const std::uint64_t bytes = units * kUnitSize;
  const std::uint64_t used_memory = space().used_memory;
  Window window;
  // Nothing is evicted for what cannot come in after all. One for one needs no such look.
  const bool is_large = bytes > kLargeFactor * (used_memory / std::max(space().entries, 1U));
  if (is_large && !find_window(units, now_ms, kAnyLooks, &window)) return BlockPosition{0};
  const BlockPosition position = evict_coldest(units, now_ms);
  if (position != 0) return position;
  return find_window(units, now_ms, kAnyLooks, &window) ? clear_window(window, units, now_ms) : BlockPosition{0};
}

// The first part of that. 0 if the block fits nowhere yet.
BlockPosition Reclaimer::evict_coldest(Units units, std::uint64_t now_ms) {
  const std::uint64_t bytes = units * kUnitSize;
  const std::uint64_t used_memory = space().used_memory;
  const std::uint64_t least_used = used_memory - std::min(bytes, used_memory);
  const std::uint64_t most_free = bytes + space().max_memory / kSparePart;
  for (int victims = 0; victims < kVictims; ++victims) {
    if (space().used_memory <= least_used || space().free_memory >= most_free) break;
    BlockWanted wanted{.units = units};
    if (!evict_one(bytes, now_ms, &wanted)) break;
    if (wanted.position != 0) return wanted.position;
    if (const BlockPosition position = arena_.allocate(units, now_ms); position != 0) return position;
  }
  return BlockPosition{0};
}

// A run of blocks that is large enough and holds nothing pinned: the one behind the largest gap, where least has to
// move, or else the first from the reclaim hand on. A new block that is larger than any gap could not move, so it is
// spared as long as another place is found soon. Looks at `looks` blocks; without a limit it may take wilderness too.
bool Reclaimer::find_window(Units units, std::uint64_t now_ms, std::uint32_t looks, Window* window) {
  const BlockPosition heap_end = arena_.heap_end();
  std::uint32_t looks_left = kSparingLooks;
  // Whether so many units from `begin` on can be cleared. The window is as far as it can.
  const auto reaches = [&](BlockPosition begin, std::uint64_t wanted, std::uint32_t gap_units) MEMSTREAM_NEEDS_W {
    BlockPosition end = begin;
    for (; end - begin < wanted && end < heap_end && looks_left != 0; --looks_left) {
      const BlockShape shape = arena_.shape(end);
      if (!evictable(end, shape) || (shape.used() && shape.size_units > gap_units && is_new(end))) break;
      end += shape.size_units;
    }
    *window = {begin, end};
    return end - begin >= wanted;
  };
  const auto found_from = [&](BlockPosition begin, std::uint32_t gap_units) MEMSTREAM_NEEDS_W {
    while (begin < heap_end && looks_left != 0) {
      if (reaches(begin, units, gap_units)) return true;
      begin = window->end < heap_end ? BlockPosition{window->end + arena_.shape(window->end).size_units} : heap_end;
    }
    return false;
  };
  const BlockPosition gap = arena_.a_largest_free();
  const std::uint32_t largest_gap = gap != 0 ? arena_.shape(gap).size_units : 0;
  if (gap != 0 && reaches(gap, units, largest_gap)) return true;
  const BlockPosition hand = std::max(BlockPosition{space().reclaim_hand}, arena_.heap_begin());
  if (found_from(hand, largest_gap) || found_from(arena_.heap_begin(), largest_gap)) return true;
  looks_left = looks;
  if (found_from(hand, heap_end) || found_from(arena_.heap_begin(), heap_end)) return true;
  if (looks != kAnyLooks) return false;
  // The heap alone has no such run: the blocks at its lower end, together with the wilderness below them, are the last
  // resort. Nothing is evicted for a wilderness that the system refuses to back.
  const std::uint64_t wilderness = arena_.wilderness_bytes() / kUnitSize;
  return wilderness < units && reaches(arena_.heap_begin(), units - wilderness, heap_end) &&
         arena_.commit_from(BlockPosition{static_cast<std::uint32_t>(window->end - units)}, now_ms);
}

// Allocates in the window. Its live blocks move to free blocks elsewhere, or are evicted if none is large enough.
BlockPosition Reclaimer::clear_window(const Window& window, Units units, std::uint64_t now_ms) {
  const auto [begin, end] = window;
  // All of it stays used until the last block has moved, so that none moves to where the window is.
  for (BlockPosition position = begin; position < end;) {
    const BlockShape shape = arena_.shape(position);
    if (!shape.used()) arena_.allocate_at(position, shape.size_units);
    position += shape.size_units;
  }
  for (BlockPosition position = begin; position < end; position += arena_.shape(position).size_units) {
    if (contents_.owning_ref(position) == 0) continue;
    const FoundEntry found = contents_.live_entry(owner_entry(contents_.checked_block(position).owner()));
    if (!is_over(found.block, now_ms) && relocate(found)) continue;
    count_eviction(found, Removal::kLargeValue, now_ms);
    const EntryRef ref = drop_entry(found);
    count_out(found.block);
    defer_free_if_pinned(ref, found.block);
  }
  BlockPosition cleared;  // The free block that the window becomes; 0 while it is none or wilderness.
  for (BlockPosition position = begin; position < end;) {
    if (retired_.has(position)) [[unlikely]] {  // Somebody has begun to view it since the window was found.
      position += arena_.shape(position).size_units;
      continue;
    }
    cleared = arena_.free(position);
    position = cleared != 0 ? BlockPosition{cleared + arena_.shape(cleared).size_units} : arena_.heap_begin();
  }
  space().reclaim_hand = cleared != 0 ? BlockPosition{cleared + arena_.shape(cleared).size_units} : arena_.heap_begin();
  if (cleared != 0 && arena_.shape(cleared).size_units >= units) {
    return arena_.allocate_at(cleared, static_cast<std::uint32_t>(units));
  }
  return arena_.allocate(units, now_ms);
}

// Takes a block from its entry, which gets another one or goes. False if somebody holds it.
bool Reclaimer::empty_block(BlockPosition position, std::uint64_t now_ms) {
  const EntryRef ref = contents_.owning_ref(position);
  if (pins_.is_block_pinned(ref)) return false;
  const FoundEntry found = contents_.live_entry(owner_entry(contents_.checked_block(position).owner()));
  if (!is_over(found.block, now_ms) && relocate(found)) return !retired_.has(position);
  count_eviction(found, Removal::kLargeValue, now_ms);
  const EntryRef last = drop_entry(found);
  count_out(found.block);
  return !defer_free_if_pinned(last, found.block);
}

// Gives an entry another block with the same contents. False if no free block is large enough, or the value too large
// to be copied under the lock. The old one stays used and has no owner.
bool Reclaimer::relocate(const FoundEntry& found) {
  const CheckedBlock& old = found.block;
  if (old.stored_size > kMovedAtOnce) return false;
  const std::uint64_t tags_size = (old.expires_ms() & kHasTags) != 0 ? sizeof(BlockTags) : 0;
  const BlockPosition position =
      arena_.allocate_from_lists(block_units_for(old.key_size, old.value_size + tags_size, old.has_extras()));
  if (position == 0) return false;
  defer_free_if_pinned(move_to(position, found, old.expires_ms()), old);
  return true;
}

// The same with the block at `position`, which is a new one, and another expiry. Returns what the ref was.
// REQUIRES: the block has room, with extras if the old one has some, or if there is an expiry.
EntryRef Reclaimer::move_to(BlockPosition position, const FoundEntry& found, std::uint64_t expires_ms) {
  const BlockContents old(found.block);
  const TagPairs tags = TagTable::pairs_of(arena_.backing(), found.block);
  const StoreRequest same{.key = {.bytes = found.block.key_text(), .hash = {}},
                          .value_size = old.value_size,
                          .expires_ms = expires_ms,
                          .caller_flags = old.caller_flags,
                          .tags = &tags};
  const CheckedBlock block =
      contents_.fill(position, same, found.block.has_extras() || expires_ms != 0, old.created_ms);
  copy_to_shared(const_cast<std::byte*>(block.value), old.value, old.value_size);
  BlockShape shape = arena_.shape(position);
  shape.flags |= std::min(old.moves + 1, kMaxMoves) << kMovesShift;
  BlockHeader& header = arena_.block(position);
  Arena::set_shape(header, shape);
  header.owner.store(owner_word(found.id, old.created_ms), std::memory_order_relaxed);
  const std::uint32_t policy = found.entry->policy.load(std::memory_order_relaxed);
  eviction_.recount(found.id, policy, policy, found.block.stored_size, block.stored_size);

  const EntryRef ref{found.entry->ref.exchange(ref_live(found.ref, position), std::memory_order_acq_rel)};

  index_.renew_hint(found.id);
  space().used_memory += block.stored_size - found.block.stored_size;
  return ref;
}

// For a block without extras: the value, which is a small one, moves to one that has them.
Status Reclaimer::give_expiry(const FoundEntry& found, std::uint64_t expires_ms, std::uint64_t now_ms) {
  const Units units = block_units_for(found.block.key_size, found.block.value_size, true);
  BlockPosition position;
  {
    const PinTable::Kept kept(&pins_, found.position());
    position = make_room(units, now_ms);
  }
  if (position == 0) return no_room(units * kUnitSize);
  eviction_.note_expiry(found);
  const EntryRef ref = move_to(position, found, expires_ms);
  if (!defer_free_if_pinned(ref, found.block)) arena_.free(found.position());
  return Status::kOk;
}

// ---- room for an entry ----

// Lets the wilderness reach `bytes` by evicting the blocks at the table's border.
bool Reclaimer::make_wilderness(std::uint64_t bytes, std::uint64_t now_ms) {
  while (arena_.wilderness_bytes() < bytes) {
    const BlockPosition position = arena_.heap_begin();
    if (position >= arena_.heap_end()) return false;
    const BlockShape shape = arena_.shape(position);
    if (!shape.used() || !evictable(position, shape)) return false;
    evict(contents_.live_entry(owner_entry(contents_.checked_block(position).owner())), Removal::kTable, now_ms);
  }
  return true;
}

// Whether the table has no cell to spare, the wilderness no room for more of them, and the heap not enough in gaps.
inline bool Reclaimer::has_only_entries_in_use() const noexcept {
  const ShardSpace& s = space();
  return index_.cells() >= s.table_cells.load(std::memory_order_relaxed) &&
         arena_.wilderness_bytes() < kTableStepSize && s.free_memory <= s.max_memory / kSparePart;
}

// A free entry: from the list, from a cell not yet used, from wilderness, from the border if the heap has room to
// spare, or from an evicted key, whose block may be `wanted`. 0 only if pins or a lack of memory stand in the way
// everywhere.
EntryId Reclaimer::take_entry(std::uint64_t newcomer_bytes, std::uint64_t now_ms, BlockWanted* wanted) {
  EntryId id = index_.take_free_entry();
  if (id != 0) return id;
  // What a full cache comes to, first.
  if (has_only_entries_in_use() && evict_one(newcomer_bytes, now_ms, wanted)) {
    id = index_.take_free_entry();
    if (id != 0) return id;
  }
  if (index_.add_cell()) return index_.take_free_entry();
  id = make_entry(newcomer_bytes, now_ms, wanted);
  if (id != 0 || space().retired == 0) [[likely]]
    return id;
  retired_.free_all();
  return make_entry(newcomer_bytes, now_ms, wanted);
}

EntryId Reclaimer::make_entry(std::uint64_t newcomer_bytes, std::uint64_t now_ms, BlockWanted* wanted) {
  const bool spare = space().free_memory > space().max_memory / kSparePart;
  if (arena_.raise_table(now_ms) || (spare && make_wilderness(kTableStepSize, now_ms) && arena_.raise_table(now_ms))) {
    index_.add_cell();
    return index_.take_free_entry();
  }
  // The blocks evicted at the border left free entries behind.
  EntryId id = index_.take_free_entry();
  if (id == 0 && evict_one(newcomer_bytes, now_ms, wanted)) id = index_.take_free_entry();
  return id;
}

}  // namespace memstream
