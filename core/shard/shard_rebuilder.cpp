// See shard_rebuilder.h.
#include "core/shard/shard_rebuilder.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>

#include "core/base/prefetch.h"

namespace memstream {
namespace {

constexpr std::uint64_t kAhead = 1 << 10;  // Bytes. By itself the processor reads on to the end of a page only.

}  // namespace

// A block that a rebuild's walk comes to.
struct ShardRebuilder::Block {
  BlockPosition position;
  BlockShape shape;
  bool is_valid = false;  // It is used, and what its header says is possible. Only then what follows is set.
  CheckedBlock block;
  KeyHash hash;
};

// Bucket and entry of a block lie anywhere in the table. The walk asks for those of a group at once, while it still has
// the group before it to do: the processor then looks up several of their pages together.
struct ShardRebuilder::Group {
  std::uint32_t count = 0;
  std::array<Block, 16> blocks;
};

ShardRebuilder::ShardRebuilder(const ShardParts& parts) noexcept
    : parts_(parts),
      header_(parts.header),
      arena_(parts.arena),
      index_(parts.index),
      eviction_(parts.eviction),
      contents_(parts.contents) {}

void ShardRebuilder::begin() noexcept {
  assert(holds_write_lock(header_));
  header_->seq.store(header_->seq.load(std::memory_order_relaxed) | 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

void ShardRebuilder::end() noexcept {
  assert(holds_write_lock(header_));
  header_->seq.store(header_->seq.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  parts_.waits.note_loss();  // What the dead holder of W changed, and what a rebuild does not keep.
}

void ShardRebuilder::repair_after_death() noexcept {
  assert(holds_write_lock(header_));
  repair();
  ++header_->counters.recoveries;
}

void ShardRebuilder::repair() noexcept {
  assert(holds_write_lock(header_));
  begin();
  try {
    rebuild();
  } catch (const CorruptionDetected&) {
    ++header_->counters.damaged;
    empty();
  }
  end();
}

Status ShardRebuilder::reset_after_corruption(const CorruptionDetected& damage) noexcept {
  assert(holds_write_lock(header_));
  begin();
  ++header_->counters.damaged;
  empty();
  end();
  return fail_without_throwing(Status::kCorrupt, [&] {
    return fmt::format(
        "Shard {} was damaged beyond repair ({}) and has been emptied; the other shards are unchanged. Find the "
        "program that wrote into the segment, and store the values again.",
        parts_.number, damage.what);
  });
}

void ShardRebuilder::rebuild() {
  assert(holds_write_lock(header_));
  check_borders();
  parts_.redo.finish();
  ShardSpace& s = space();
  s.used_memory = s.key_memory = s.value_memory = s.pinned_memory = 0;
  s.entries = 0;
  s.retired_hand = s.retired = 0;
  s.commit_retry_ms = 0;
  index_.reset();
  eviction_.reset();
  arena_.reset_free_lists();
  walk_heap();
  walk_entries();
  parts_.leases.recount();
  s.reclaim_hand = arena_.heap_begin();
}

void ShardRebuilder::check_borders() {
  assert(holds_write_lock(header_));
  ShardSpace& s = space();
  header_->index = parts_.number;
  s.max_memory = parts_.size;
  s.heap_end = arena_.heap_end();
  if (!contents_.bounds_are_valid()) throw CorruptionDetected{"borders of table and heap that cannot be"};
  if (!contents_.commits_are_valid()) arena_.forget_commits();
}

// Walks the heap from border to border: blocks that an entry or a pin names stay, the rest becomes free runs.
void ShardRebuilder::walk_heap() {
  assert(holds_write_lock(header_));
  PinSnapshot snapshot = parts_.pin_snapshot();
  BlockPosition run = arena_.heap_begin();
  std::array<Group, 2> groups;
  BlockPosition ahead = look_ahead(run, &groups[0]);
  for (std::uint32_t i = 0; groups[i % 2].count != 0; ++i) {
    const Group& group = groups[i % 2];
    prefetch_chains(group);
    ahead = look_ahead(ahead, &groups[(i + 1) % 2]);
    for (std::uint32_t k = 0; k < group.count; ++k) {
      const Block& met = group.blocks[k];
      if (!met.shape.used() || !keep_block(met, snapshot.holds(met.position))) continue;
      close_free_run(run, met.position);
      run = BlockPosition{met.position + met.shape.size_units};
    }
  }
  close_free_run(run, arena_.heap_end());
  snapshot.drop_strays();
}

// Reads the blocks from `position` on and asks for their buckets and entries. Returns where the next group begins.
BlockPosition ShardRebuilder::look_ahead(BlockPosition position, Group* group) const {
  assert(holds_write_lock(header_));
  group->count = 0;
  while (group->count < group->blocks.size() && position < arena_.heap_end()) {
    Block& met = group->blocks[group->count++];
    const std::byte* const further = parts_.base() + std::uint64_t{position} * kUnitSize + kAhead;
    prefetch_line<LineUse::kWrite>(further);
    prefetch_line<LineUse::kWrite>(further + kCacheLineSize);
    met.position = position;
    met.shape = arena_.shape(position);
    met.is_valid = index_.cells() != 0 && check_block(backing(), position, &met.block);
    if (met.is_valid) met.hash = hash_key(met.block.key_text(), parts_.hash_seed);
    position += met.shape.size_units;
  }
  for (std::uint32_t k = 0; k < group->count; ++k) {
    const Block& met = group->blocks[k];
    if (!met.is_valid) continue;
    const Bucket& bucket = Index::bucket(header_, Index::bucket_of(met.hash.bucket_bits(), index_.cells()));
    prefetch_line<LineUse::kWrite>(&bucket);
    prefetch_line<LineUse::kWrite>(bucket.hints);
    const EntryId id = owner_entry(met.block.owner());
    if (Index::names_entry(id, index_.cells())) prefetch_line<LineUse::kWrite>(&Index::entry_unchecked(header_, id));
  }
  return position;
}

// The buckets have come by now, and name the first entries of their chains.
void ShardRebuilder::prefetch_chains(const Group& group) const noexcept {
  assert(holds_write_lock(header_));
  for (std::uint32_t k = 0; k < group.count; ++k) {
    if (!group.blocks[k].is_valid) continue;
    const std::uint32_t bucket = Index::bucket_of(group.blocks[k].hash.bucket_bits(), index_.cells());
    const EntryId id{Index::bucket(header_, bucket).overflow.load(std::memory_order_relaxed)};
    if (id != 0) prefetch_line<LineUse::kRead>(&Index::entry_unchecked(header_, id));
  }
}

// True if the used block stays: an entry owns it, which is linked and counted then, or somebody holds it.
bool ShardRebuilder::keep_block(const Block& met, bool is_held) {
  assert(holds_write_lock(header_));
  const bool lives =
      met.is_valid && contents_.owning_ref(owner_entry(met.block.owner()), met.position) != 0 && keep_entry(met);
  if (!lives && !is_held) return false;
  BlockHeader& header = arena_.block(met.position);
  BlockShape shape = met.shape;
  shape.flags &= ~(kBlockPrevFree | kBlockRetired);
  // Its holder has its address, so it stays where it is. Its sizes contradict one another, so none of them is kept.
  if (!met.is_valid) shape = {.size_units = shape.size_units, .flags = kBlockUsed};
  Arena::set_shape(header, shape);
  if (!lives) parts_.retired.add(met.position, shape.size_bytes());
  return true;
}

// Makes the entry that owns a block findable. False if the key has no place here: it belongs to another shard, another
// entry has it already, its bucket is full.
bool ShardRebuilder::keep_entry(const Block& met) {
  assert(holds_write_lock(header_));
  const CheckedBlock& block = met.block;
  const Key key{block.key_text(), met.hash};
  if (key.bytes.empty() || key.hash.shard(parts_.geometry.shards) != parts_.number || contents_.find(key).id != 0 ||
      index_.overfull(key.hash.bucket_bits()) != 0) {
    return false;
  }
  const EntryId id = owner_entry(block.owner());
  Entry& entry = index_.entry(id);
  const std::uint32_t policy = entry.policy.load(std::memory_order_relaxed);
  const std::uint32_t kept = (policy & kHits) | ((policy & kMain) != 0 ? kMain : kSmall);
  const std::uint32_t expires = block.expires_ms() != 0 ? kExpires : 0;
  entry.hash.store(key.hash.bucket_bits(), std::memory_order_relaxed);
  entry.policy.store(policy_word(key.hash.tag()) | kept | expires | kSeen, std::memory_order_relaxed);
  index_.link(id);
  ShardSpace& s = space();
  ++s.entries;
  s.used_memory += block.stored_size;
  s.key_memory += block.key_size;
  s.value_memory += block.value_size;
  eviction_.count_in(id, kept | expires, block.stored_size);
  return true;
}

// A stretch that nobody owns becomes one free block, or wilderness if it lies at the border.
void ShardRebuilder::close_free_run(BlockPosition begin, BlockPosition end) {
  assert(holds_write_lock(header_));
  if (begin == end) return;
  if (begin == arena_.heap_begin()) {
    space().heap_begin.store(end, std::memory_order_release);
    return;
  }
  Arena::set_shape(arena_.block(begin), {.size_units = end - begin});
  arena_.insert_free(begin, end - begin);
}

// Entries that name no block that the walk met are damaged and go; empty ones become free.
void ShardRebuilder::walk_entries() {
  assert(holds_write_lock(header_));
  for (std::uint32_t cell = index_.cells(); cell-- > 0;) {
    const std::byte* const further = Index::table(header_) + std::uint64_t{cell} * sizeof(Cell) - kAhead;
    for (std::size_t offset = sizeof(Bucket); offset < sizeof(Cell); offset += kCacheLineSize) {
      prefetch_line<LineUse::kWrite>(further + offset);
    }
    for (std::uint32_t slot = kSlotsPerCell; slot-- > kBucketSlots;) {
      const EntryId id{cell * kSlotsPerCell + slot};
      Entry& entry = index_.entry(id);
      const std::uint64_t ref = entry.ref.load(std::memory_order_relaxed);
      const std::uint32_t policy = entry.policy.load(std::memory_order_relaxed);
      if (ref_is_live(ref) && (policy & kSeen) != 0) {
        entry.policy.store(policy & ~kSeen, std::memory_order_relaxed);  // A reader's note between them may get lost.
        continue;
      }
      if (ref_is_live(ref) || ref_is_overwritten(ref)) {
        if (!was_moving(id, EntryRef{ref})) ++header_->counters.damaged;
        entry.ref.store(ref_empty(ref), std::memory_order_release);
      }
      entry.policy.store(0, std::memory_order_relaxed);
      index_.give_free_entry(id);
    }
  }
}

// Whether the block of a live entry that a rebuild has not met belongs to another one now: a process died while it
// moved the entry.
bool ShardRebuilder::was_moving(EntryId id, EntryRef ref) const noexcept {
  assert(holds_write_lock(header_));
  CheckedBlock block;
  if (!ref_is_live(ref) || !check_block(backing(), ref_block(ref), &block)) return false;
  const EntryId owner = owner_entry(block.owner());
  if (owner == id || contents_.owning_ref(owner, ref_block(ref)) == 0) return false;
  // Both are of one key. With another's block it would be damage.
  return index_.entry(owner).hash.load(std::memory_order_relaxed) ==
         index_.entry(id).hash.load(std::memory_order_relaxed);
}

void ShardRebuilder::empty() noexcept {
  assert(holds_write_lock(header_));
  make_blank();
  parts_.leases.recount();
  parts_.pin_snapshot().drop_strays();
}

void ShardRebuilder::make_blank() noexcept {
  assert(holds_write_lock(header_));
  ShardSpace& s = space();
  s.used_memory = s.key_memory = s.value_memory = s.pinned_memory = 0;
  s.entries = 0;
  s.retired_hand = s.retired = 0;
  eviction_.reset();
  s.small_target = Eviction::kAllForSmall;
  s.commit_retry_ms = 0;
  s.max_memory = parts_.size;
  s.heap_end = arena_.heap_end();
  s.reclaim_hand = s.heap_end;
  s.table_cells.store(kTableStepCells, std::memory_order_release);
  s.heap_begin.store(s.heap_end, std::memory_order_release);
  header_->index = parts_.number;
  header_->redo.store(0, std::memory_order_release);
  if (!contents_.commits_are_valid()) arena_.forget_commits();
  arena_.reset_free_lists();
  index_.empty(kTableStepCells);
}

}  // namespace memstream
