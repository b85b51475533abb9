// Rebuilding a shard from the truth: the refs of the entries, the headers of the blocks they name, the borders, the
// pins.
//
// Everything else is made anew. The truth is only read (damaged entries excepted), so that a second death in here, at
// any instruction, changes nothing: the next process begins again.
#include <fmt/format.h>

#include <algorithm>

#include "core/shard.h"

namespace memstream {
namespace {

// How far a rebuild's walk asks ahead: for about as many lines as the processor waits for at once.
constexpr std::uint32_t kBlocksAhead = 12;

}  // namespace

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
  return fail_without_throwing(Status::kCorrupt, [&] {
    return fmt::format(
        "Shard {} was damaged beyond repair ({}) and has been emptied; the other shards are as they were. Something "
        "wrote into the segment.",
        number_, damage.what);
  });
}

void Shard::rebuild() {
  rebuild_borders();
  finish_overwrite();
  ShardSpace& s = space();
  s.used_memory = s.key_memory = s.value_memory = s.pinned_memory = 0;
  s.entries = 0;
  s.commit_retry_ms = 0;
  index_.reset();
  eviction_.reset();
  arena_.reset_free_lists();
  rebuild_heap();
  rebuild_entries();
  s.leases = count_leases();
  s.reclaim_hand = arena_.heap_begin();
}

void Shard::rebuild_borders() {
  ShardSpace& s = space();
  header_->index = number_;
  s.max_memory = size_;
  s.heap_end = arena_.heap_end();
  if (!borders_are_sound()) throw ShardDamage{"borders of table and heap that cannot be"};
  if (!commits_are_sound()) forget_commits();
}

// Committing twice is harmless; believing in memory that was never given is not.
void Shard::forget_commits() noexcept {
  ShardSpace& s = space();
  s.table_committed = kShardHeaderSize + std::uint64_t{s.table_cells.load(std::memory_order_relaxed)} * sizeof(Cell);
  s.heap_committed = size_;
}

// Walks the heap from border to border: blocks that an entry or a pin names stay, the rest becomes free runs.
void Shard::rebuild_heap() {
  for (std::uint32_t cell = 0; cell < index_.cells(); ++cell) {
    for (std::uint32_t slot = kBucketSlots; slot < kSlotsPerCell; ++slot) {
      Entry& entry = index_.entry(cell * kSlotsPerCell + slot);
      if ((entry.policy.load(std::memory_order_relaxed) & kSeen) != 0) {
        entry.policy.fetch_and(~kSeen, std::memory_order_relaxed);
      }
    }
  }
  PinCensus census = pin_census();
  std::uint32_t run = arena_.heap_begin();
  std::uint32_t ahead = run;
  for (std::uint32_t i = 0; i < kBlocksAhead; ++i) ahead = prefetch_rebuild(ahead);
  for (std::uint32_t position = run; position < arena_.heap_end();) {
    ahead = prefetch_rebuild(ahead);
    const BlockShape shape = arena_.shape(position);
    const std::uint32_t next = position + shape.size_units;
    if (shape.used() && rebuild_block(position, census.count(position))) {
      close_free_run(run, position);
      run = next;
    }
    position = next;
  }
  close_free_run(run, arena_.heap_end());
  census.drop_strays();
}

// Asks for the lines of bucket and entry of the block at `position`, which lie anywhere in the table. Returns the
// position of the block behind it.
std::uint32_t Shard::prefetch_rebuild(std::uint32_t position) const {
  if (position >= arena_.heap_end()) return position;
  const std::uint32_t next = position + arena_.shape(position).size_units;
  BlockContents block;
  if (index_.cells() == 0 || !read_block(base(), size_, position, &block)) return next;
  const KeyHash hash = hash_key({reinterpret_cast<const char*>(block.key), block.key_size}, hash_seed_);
  prefetch_line<LineUse::kWrite>(&Index::bucket(header_, Index::bucket_of(hash.bucket_bits(), index_.cells())));
  if (Index::names_entry(block.entry, index_.cells())) {
    prefetch_line<LineUse::kWrite>(&Index::entry_unchecked(header_, block.entry));
  }
  return next;
}

// True if the used block stays: an entry owns it, which is linked and counted then, or somebody holds it.
bool Shard::rebuild_block(std::uint32_t position, std::uint32_t pins) {
  BlockHeader& header = arena_.block(position);
  BlockShape shape = arena_.shape(position);
  BlockContents block;
  const bool makes_sense = read_block(base(), size_, position, &block);
  const bool lives = makes_sense && owned(position) && rebuild_entry(block);
  if (!lives && pins == 0) return false;
  if (!lives) space().pinned_memory += shape.size_bytes();
  const std::uint64_t created_ms = header.created.load(std::memory_order_relaxed) >> kCreatedShift;
  header.created.store(created_word(created_ms, std::min(pins, kMaxPins)), std::memory_order_relaxed);
  shape.flags &= ~kBlockPrevFree;
  // Whoever holds it has its address; of what its sizes say nothing can be believed.
  if (!makes_sense) shape = {.size_units = shape.size_units, .flags = kBlockUsed};
  Arena::set_shape(header, shape);
  return true;
}

// Makes the entry that owns a block findable. False if the key has no place here: it belongs to another shard, another
// entry has it already, its bucket is full.
bool Shard::rebuild_entry(const BlockContents& block) {
  const std::string_view bytes(reinterpret_cast<const char*>(block.key), block.key_size);
  const Key key{bytes, hash_key(bytes, hash_seed_)};
  if (bytes.empty() || key.hash.shard(geometry_.shards) != number_ || find(key).id != 0 ||
      index_.overfull(key.hash.bucket_bits()) != 0) {
    return false;
  }
  Entry& entry = index_.entry(block.entry);
  const std::uint32_t policy = entry.policy.load(std::memory_order_relaxed);
  const std::uint32_t kept = (policy & kHits) | ((policy & kMain) != 0 ? kMain : kSmall);
  const std::uint32_t expires = block.expires_ms != 0 ? kExpires : 0;
  entry.hash.store(key.hash.bucket_bits(), std::memory_order_relaxed);
  entry.policy.store(policy_word(key.hash.tag()) | kept | expires | kSeen, std::memory_order_relaxed);
  index_.link(block.entry);
  ShardSpace& s = space();
  ++s.entries;
  s.used_memory += block.stored_size;
  s.key_memory += block.key_size;
  s.value_memory += block.value_size;
  eviction_.count_in(block.entry, kept | expires, block.stored_size);
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
      if (ref_is_live(ref) || ref_is_overwritten(ref)) {
        entry.ref.store(ref_empty(ref), std::memory_order_release);
        ++header_->counters.damaged;
      }
      entry.policy.store(0, std::memory_order_relaxed);
      index_.give_free_entry(id);
    }
  }
}

// The shard as it was when it was new. For a blank one, and for one whose truth is lost.
void Shard::empty() noexcept {
  ShardSpace& s = space();
  s.leases = count_leases();
  s.used_memory = s.key_memory = s.value_memory = s.pinned_memory = 0;
  s.entries = 0;
  s.free_entry = 0;
  eviction_.reset();
  s.commit_retry_ms = 0;
  s.max_memory = size_;
  s.heap_end = arena_.heap_end();
  s.reclaim_hand = s.heap_end;
  header_->cells.store(0, std::memory_order_release);
  s.table_cells.store(kTableStepCells, std::memory_order_release);
  s.heap_begin.store(s.heap_end, std::memory_order_release);
  header_->index = number_;
  header_->redo.store(0, std::memory_order_release);
  if (!commits_are_sound()) forget_commits();
  arena_.reset_free_lists();
  while (index_.add_cell()) {
  }
  pin_census().drop_strays();
}

}  // namespace memstream
