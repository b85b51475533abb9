// Rebuilding a shard from the truth: the refs of the entries, the headers of the blocks they name, the borders, the
// pins.
//
// Everything else is made anew. The truth is only read (damaged entries excepted), so that a second death in here, at
// any instruction, changes nothing: the next process begins again.
#include <fmt/format.h>

#include <algorithm>

#include "core/shard.h"

namespace memstream {

void Shard::recover() noexcept {
  repair_after_damage();
  ++header_->counters.recoveries;
}

void Shard::repair_after_damage() noexcept {
  header_->seq.store(header_->seq.load(std::memory_order_relaxed) | 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  try {
    rebuild();
  } catch (const ShardDamage&) {
    ++header_->counters.damaged;
    empty();
  }
  header_->seq.store(header_->seq.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

Status Shard::give_up(const ShardDamage& damage) noexcept {
  header_->seq.store(header_->seq.load(std::memory_order_relaxed) | 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  ++header_->counters.damaged;
  empty();
  header_->seq.store(header_->seq.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  try {
    return fail(Status::kCorrupt,
                fmt::format("Shard {} was damaged beyond repair ({}) and has been emptied; the other shards "
                            "are as they were. Something wrote into the segment.",
                            header_->index, damage.what));
  } catch (...) {
    return Status::kCorrupt;
  }
}

void Shard::rebuild() {
  rebuild_borders();
  ShardSpace& s = space();
  s.used_memory = s.key_memory = s.value_memory = s.pinned_memory = 0;
  s.entries = 0;
  s.commit_retry_ms = 0;
  index_.reset();
  arena_.reset_free_lists();
  rebuild_heap();
  rebuild_entries();
  rebuild_pins();
  s.leases = count_leases();
  s.eviction_hand = 0;
  s.reclaim_hand = arena_.heap_begin();
}

void Shard::rebuild_borders() {
  ShardSpace& s = space();
  s.max_memory = size_;
  s.heap_end = static_cast<std::uint32_t>(size_ / kUnitSize);
  const std::uint32_t cells = index_.cells();
  const std::uint32_t table_cells = s.table_cells.load(std::memory_order_relaxed);
  const std::uint64_t heap_begin = std::uint64_t{arena_.heap_begin()} * kUnitSize;
  if (cells == 0 || cells > table_cells || table_cells > max_cells_) throw ShardDamage{"a table of impossible size"};
  const std::uint64_t table_end = kShardHeaderSize + std::uint64_t{table_cells} * sizeof(Cell);
  if (heap_begin < table_end || heap_begin > size_) throw ShardDamage{"a heap of impossible size"};
  // Committing twice is harmless; believing in memory that was never given is not.
  if (s.table_committed < table_end || s.table_committed > size_) s.table_committed = table_end / kPageSize * kPageSize;
  if (s.heap_committed > size_) s.heap_committed = size_;
}

// Walks the heap from border to border: blocks that an entry or a pin names stay, the rest becomes free runs.
void Shard::rebuild_heap() {
  for (std::uint32_t cell = 0; cell < index_.cells(); ++cell) {
    for (std::uint32_t slot = kBucketSlots; slot < kSlotsPerCell; ++slot) {
      index_.entry(cell * kSlotsPerCell + slot).policy.fetch_and(~kSeen, std::memory_order_relaxed);
    }
  }
  std::uint32_t run = arena_.heap_begin();
  for (std::uint32_t position = run; position < arena_.heap_end();) {
    const std::uint32_t next = position + arena_.shape(position).size_units;
    if (rebuild_block(position)) {
      close_free_run(run, position);
      run = next;
    }
    position = next;
  }
  close_free_run(run, arena_.heap_end());
}

// True if the block stays; the entry that owns it is linked and the counters include it then.
bool Shard::rebuild_block(std::uint32_t position) {
  BlockHeader& header = arena_.block(position);
  BlockShape shape = arena_.shape(position);
  if (!shape.used()) return false;
  BlockContents block;
  ShardSpace& s = space();
  if (!owned(position) || !read_block(base(), size_, position, &block)) {
    const std::uint32_t pins = count_pins(position);
    if (pins == 0) return false;
    const std::uint64_t created_ms = header.created.load(std::memory_order_relaxed) >> kCreatedShift;
    header.created.store(created_word(created_ms, std::min(pins, kMaxPins)), std::memory_order_relaxed);
    s.pinned_memory += shape.size_bytes();
  } else {
    Entry& entry = index_.entry(block.entry);
    const KeyHash hash = hash_key({reinterpret_cast<const char*>(block.key), block.key_size}, hash_seed_);
    const std::uint32_t marks = entry.policy.load(std::memory_order_relaxed) & kReferenced;
    if (block.key_size == 0 || index_.overfull(hash.bucket_bits()) != 0) return false;
    entry.hash.store(hash.bucket_bits(), std::memory_order_relaxed);
    entry.policy.store(policy_word(hash.tag()) | marks | kSeen | (block.expires_ms != 0 ? kExpires : 0),
                       std::memory_order_relaxed);
    index_.link(block.entry);
    header.created.store(created_word(block.created_ms, 0), std::memory_order_relaxed);
    ++s.entries;
    s.used_memory += block.stored_size;
    s.key_memory += block.key_size;
    s.value_memory += block.value_size;
  }
  shape.flags &= ~kBlockPrevFree;
  Arena::set_shape(header, shape);
  return true;
}

// A stretch that nobody owns becomes one free block, or wilderness if it lies at the border.
void Shard::close_free_run(std::uint32_t begin, std::uint32_t end) {
  if (begin == end) return;
  if (begin == arena_.heap_begin()) {
    space().heap_begin.store(end, std::memory_order_release);
    return;
  }
  Arena::set_shape(arena_.block(begin), {.size_units = end - begin});
  arena_.insert_free(begin, end - begin);
}

// Entries that name no block that the walk met are damaged and go; empty ones become free.
void Shard::rebuild_entries() {
  for (std::uint32_t cell = index_.cells(); cell-- > 0;) {
    for (std::uint32_t slot = kSlotsPerCell; slot-- > kBucketSlots;) {
      const std::uint32_t id = cell * kSlotsPerCell + slot;
      Entry& entry = index_.entry(id);
      const std::uint64_t ref = entry.ref.load(std::memory_order_relaxed);
      const bool seen = (entry.policy.fetch_and(~kSeen, std::memory_order_relaxed) & kSeen) != 0;
      if (ref_is_live(ref) && seen) continue;
      if (ref_is_live(ref)) {
        entry.ref.store(ref_empty(ref), std::memory_order_release);
        ++header_->counters.damaged;
      }
      index_.give_free_entry(id);
    }
  }
}

// Counts the pins anew in the blocks that are owned; the walk has counted those of the others.
void Shard::rebuild_pins() {
  for (std::uint32_t slot = 0; slot < geometry_.process_slots; ++slot) {
    if (process_slots_[slot].pid.load(std::memory_order_relaxed) == 0) continue;
    for (const auto& pin : process_slots_[slot].pins) {
      const std::uint64_t offset = pin.load(std::memory_order_relaxed);
      if (offset < offset_ || offset >= offset_ + size_) continue;
      const auto position = static_cast<std::uint32_t>((offset - offset_) / kUnitSize);
      if (!owned(position)) continue;
      std::atomic<std::uint64_t>& created = arena_.block(position).created;
      created.store(created.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
  }
}

std::uint32_t Shard::count_pins(std::uint32_t position) const noexcept {
  std::uint32_t count = 0;
  for (std::uint32_t slot = 0; slot < geometry_.process_slots; ++slot) {
    if (process_slots_[slot].pid.load(std::memory_order_relaxed) == 0) continue;
    for (const auto& pin : process_slots_[slot].pins) {
      count += pin.load(std::memory_order_relaxed) == offset_of(position) ? 1U : 0U;
    }
  }
  return count;
}

// The shard as it was when it was new. For a blank one, and for one whose truth is lost.
void Shard::empty() noexcept {
  ShardSpace& s = space();
  s.leases = count_leases();
  s.used_memory = s.key_memory = s.value_memory = s.pinned_memory = 0;
  s.entries = 0;
  s.free_entry = 0;
  s.eviction_hand = 0;
  s.commit_retry_ms = 0;
  s.max_memory = size_;
  s.heap_end = static_cast<std::uint32_t>(size_ / kUnitSize);
  s.reclaim_hand = s.heap_end;
  header_->cells.store(0, std::memory_order_release);
  s.table_cells.store(kTableStepCells, std::memory_order_release);
  s.heap_begin.store(s.heap_end, std::memory_order_release);
  arena_.reset_free_lists();
  while (index_.add_cell()) {
  }
}

}  // namespace memstream
