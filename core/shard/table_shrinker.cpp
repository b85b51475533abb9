// See table_shrinker.h.
#include "core/shard/table_shrinker.h"

#include <algorithm>
#include <cassert>

#include "core/layout/corruption.h"

namespace memstream {
namespace {

constexpr std::uint64_t kRoomPerEntry = 2;  // Entries that the smaller table holds, for each that there is.
constexpr std::uint64_t kWorthIt = 32;      // A gain of less than this part of the shard is none.

}  // namespace

// Cells of the table that would do: as many as there are if that is not much less.
std::uint32_t TableShrinker::cells_that_do() const noexcept {
  assert(holds_write_lock(header_));
  const std::uint64_t cells = index_.cells();
  const std::uint64_t needed = kRoomPerEntry * space().entries / kEntriesPerCell + 1;
  const std::uint64_t steps = (needed + kTableStepCells - 1) / kTableStepCells;
  const std::uint64_t smaller = steps * kTableStepCells;
  const bool is_worth_it = smaller <= cells / 2 && (cells - smaller) * sizeof(Cell) >= space().max_memory / kWorthIt;
  return static_cast<std::uint32_t>(is_worth_it ? smaller : cells);
}

void TableShrinker::shrink_for(const StoreRequest& request) {
  assert(holds_write_lock(header_));
  const Units units = block_units_for(request.key.bytes.size(), request.value_and_tags_size(), true);
  const BlockPosition free = arena_.a_largest_free();
  const std::uint64_t largest = free != 0 ? arena_.shape(free).size_units : 0;
  if (std::max(largest, arena_.wilderness_bytes() / kUnitSize) >= units) return;
  const std::uint32_t cells = cells_that_do();
  if (cells == index_.cells()) return;
  rebuilder_.begin();
  move_entries_below(cells);
  header_->cells.store(cells, std::memory_order_release);
  space().table_cells.store(cells, std::memory_order_release);
  rebuilder_.rebuild();
  rebuilder_.end();
}

// Leaves no live entry in the cells from `cells` on.
void TableShrinker::move_entries_below(std::uint32_t cells) {
  assert(holds_write_lock(header_));
  const std::uint32_t end = cells * kSlotsPerCell;
  EntryId free_id;
  for (EntryId id{end}; id < index_.cells() * kSlotsPerCell; ++id) {
    id = Index::entry_at_or_after(id);
    if (!ref_is_live(index_.entry(id).ref.load(std::memory_order_relaxed))) continue;
    do {
      free_id = Index::entry_at_or_after(EntryId{free_id + 1});
      if (free_id >= end) throw CorruptionDetected{"more live entries than are counted"};
    } while (ref_is_live(index_.entry(free_id).ref.load(std::memory_order_relaxed)));
    move_entry(contents_.live_entry(id), free_id);
  }
}

// Gives the block of an entry to the free entry `to_id`. A process that dies on the way leaves two entries that name
// the block. The block names one of them, and a rebuild keeps that one.
void TableShrinker::move_entry(const FoundEntry& found, EntryId to_id) {
  assert(holds_write_lock(header_));
  Entry& to = index_.entry(to_id);
  to.hash.store(found.entry->hash.load(std::memory_order_relaxed), std::memory_order_relaxed);
  to.last_access_ms.store(found.entry->last_access_ms.load(std::memory_order_relaxed), std::memory_order_relaxed);
  to.access_count.store(found.entry->access_count.load(std::memory_order_relaxed), std::memory_order_relaxed);
  to.policy.store(found.entry->policy.load(std::memory_order_relaxed), std::memory_order_relaxed);
  // As if it had been viewed: somebody may set that bit in the old ref until this has changed.
  const std::uint64_t empty = to.ref.load(std::memory_order_relaxed);
  to.ref.store(ref_live(empty, found.position()) | kPinnedHint, std::memory_order_release);
  std::atomic<std::uint64_t>& owner = arena_.block(found.position()).owner;
  const std::uint64_t created = owner.load(std::memory_order_relaxed) >> 32;
  owner.store(created << 32 | to_id, std::memory_order_release);
  found.entry->ref.store(ref_empty(found.ref), std::memory_order_release);
}

}  // namespace memstream
