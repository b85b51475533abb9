#include "core/shard/index.h"

#include <array>
#include <cstddef>
#include <limits>

#include "core/base/shared_bytes.h"
#include "core/shard/fingerprints.h"

namespace memstream {

// A reader that saw a bucket in the middle of a change must not conclude that a key is missing: the version is odd from
// before the first store to after the last.
void Index::write_begin(Bucket& bucket) noexcept {
  bucket.version.store(bucket.version.load(std::memory_order_relaxed) | 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
}

void Index::write_end(Bucket& bucket) noexcept {
  bucket.version.store(bucket.version.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}

void Index::set_slot(Bucket& bucket, std::uint32_t slot, std::uint32_t id, std::uint16_t tag) noexcept {
  std::atomic<std::uint64_t>& word = bucket.tags[slot / 4];
  const std::uint32_t shift = slot % 4 * 16;
  const std::uint64_t others = word.load(std::memory_order_relaxed) & ~(std::uint64_t{0xffff} << shift);
  word.store(others | std::uint64_t{tag} << shift, std::memory_order_relaxed);
  bucket.slots[slot].store(id, std::memory_order_release);
}

void Index::fill_slot(Bucket& bucket, std::uint32_t slot, std::uint32_t id) {
  const Entry& named = entry(id);
  bucket.hints[slot].store(ref_block(named.ref.load(std::memory_order_relaxed)), std::memory_order_relaxed);
  set_slot(bucket, slot, id, policy_tag(named.policy.load(std::memory_order_relaxed)));
}

Bucket& Index::bucket_with(std::uint32_t id) const {
  return bucket(shard_, bucket_of(entry(id).hash.load(std::memory_order_relaxed), cells()));
}

// kNoSlot: it is in the chain.
std::uint32_t Index::slot_of(const Bucket& bucket, std::uint32_t id) noexcept {
  std::uint32_t slot = 0;
  while (slot < kBucketWidth && bucket.slots[slot].load(std::memory_order_relaxed) != id) ++slot;
  return slot;
}

void Index::renew_hint(std::uint32_t id) {
  Bucket& target = bucket_with(id);
  const std::uint32_t slot = slot_of(target, id);
  if (slot == kNoSlot) return;
  target.hints[slot].store(ref_block(entry(id).ref.load(std::memory_order_relaxed)), std::memory_order_relaxed);
}

std::uint32_t Index::hint_of(std::uint32_t id) const {
  const Bucket& target = bucket_with(id);
  const std::uint32_t slot = slot_of(target, id);
  return slot == kNoSlot ? 0 : target.hints[slot].load(std::memory_order_relaxed);
}

void Index::link_in(Bucket& bucket, std::uint32_t id) {
  // Empty slots have no tag. No branch for each slot, of which every one would be a guess.
  for (std::uint32_t slots = matching_slots(bucket, KeyHash{0}); slots != 0; slots &= slots - 1) {
    const auto slot = static_cast<std::uint32_t>(std::countr_zero(slots)) / kBitsPerSlot;
    if (bucket.slots[slot].load(std::memory_order_relaxed) != 0) continue;
    fill_slot(bucket, slot, id);
    return;
  }
  entry(id).next.store(bucket.overflow.load(std::memory_order_relaxed), std::memory_order_relaxed);
  bucket.overflow.store(id, std::memory_order_release);
}

void Index::link(std::uint32_t id) {
  Bucket& target = bucket_with(id);
  write_begin(target);
  link_in(target, id);
  write_end(target);
}

void Index::unlink(std::uint32_t id) {
  Bucket& target = bucket_with(id);
  if (const std::uint32_t slot = slot_of(target, id); slot != kNoSlot) {
    // The first of the chain moves up: most keys are found in the bucket's own line.
    const std::uint32_t promoted = target.overflow.load(std::memory_order_relaxed);
    const std::uint32_t rest = promoted == 0 ? 0 : entry(promoted).next.load(std::memory_order_relaxed);
    write_begin(target);
    if (promoted == 0) {
      clear_slot(target, slot);
    } else {
      fill_slot(target, slot, promoted);
    }
    target.overflow.store(rest, std::memory_order_relaxed);
    write_end(target);
    return;
  }
  std::atomic<std::uint32_t>* link = &target.overflow;
  for (std::uint32_t steps = 0; steps <= kMaxChain; ++steps) {
    const std::uint32_t current = link->load(std::memory_order_relaxed);
    if (current == id) {
      write_begin(target);
      link->store(entry(id).next.load(std::memory_order_relaxed), std::memory_order_relaxed);
      write_end(target);
      return;
    }
    if (current == 0) break;
    link = &entry(current).next;
  }
  throw CorruptionDetected{"an entry that its bucket does not know"};
}

std::uint32_t Index::overfull(std::uint32_t bucket_bits) const {
  std::uint32_t length = 0;
  std::uint32_t coldest = 0;
  std::uint64_t coldest_ms = std::numeric_limits<std::uint64_t>::max();
  std::uint32_t id = bucket(shard_, bucket_of(bucket_bits, cells())).overflow.load(std::memory_order_relaxed);
  while (id != 0) {
    if (++length > kMaxChain) throw CorruptionDetected{"a chain that does not end"};
    const Entry& current = entry(id);
    const std::uint64_t last_access_ms = current.last_access_ms.load(std::memory_order_relaxed);
    if (last_access_ms < coldest_ms) {
      coldest_ms = last_access_ms;
      coldest = id;
    }
    id = current.next.load(std::memory_order_relaxed);
  }
  return length < kMaxChain ? 0 : coldest;
}

// ---- growing ----

// The cell may lie where blocks were, and a reader may still be copying one of them.
void Index::clear_cell(std::uint32_t cell) noexcept {
  static constexpr std::byte kZeros[sizeof(Cell)]{};
  copy_to_shared(table(shard_) + std::uint64_t{cell} * sizeof(Cell), kZeros, sizeof(Cell));
}

bool Index::add_cell() {
  const std::uint32_t count = cells();
  if (count >= shard_->space.table_cells.load(std::memory_order_relaxed)) return false;
  clear_cell(count);
  split(bucket_of(count, count), count);
  for (std::uint32_t slot = kSlotsPerCell; slot-- > kBucketSlots;) give_free_entry(count * kSlotsPerCell + slot);
  return true;
}

void Index::split(std::uint32_t from, std::uint32_t to) {
  Bucket& old_bucket = bucket(shard_, from);
  Bucket& new_bucket = bucket(shard_, to);
  std::array<std::uint32_t, kBucketWidth + kMaxChain + 1> ids{};
  std::size_t count = 0;
  for (const auto& slot : old_bucket.slots) {
    const std::uint32_t id = slot.load(std::memory_order_relaxed);
    if (id != 0) ids[count++] = id;
  }
  for (std::uint32_t id = old_bucket.overflow.load(std::memory_order_relaxed); id != 0;) {
    if (count == ids.size()) throw CorruptionDetected{"a chain that does not end"};
    ids[count++] = id;
    id = entry(id).next.load(std::memory_order_relaxed);
  }

  // A reader that still counts the old number of cells looks only into the old bucket, one that counts the new number
  // may look into the new one before it is filled. Both versions are odd until all is done, so that neither believes in
  // a miss, not even when this process is killed on the way.
  write_begin(old_bucket);
  write_begin(new_bucket);
  new_bucket.eviction.store(old_bucket.eviction.load(std::memory_order_relaxed) & kGhosts,
                            std::memory_order_relaxed);  // They do not say to which of the two their keys lead now.
  for (std::uint32_t slot = 0; slot < kBucketWidth; ++slot) clear_slot(old_bucket, slot);
  old_bucket.overflow.store(0, std::memory_order_relaxed);
  shard_->cells.store(to + 1, std::memory_order_release);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t target = bucket_of(entry(ids[i]).hash.load(std::memory_order_relaxed), to + 1);
    if (target != from && target != to) throw CorruptionDetected{"an entry in a bucket that is not its own"};
    link_in(target == from ? old_bucket : new_bucket, ids[i]);
  }
  write_end(new_bucket);
  write_end(old_bucket);
}

// ---- free entries ----

std::uint32_t Index::take_free_entry() {
  const std::uint32_t id = shard_->space.free_entry;
  if (id == 0) return 0;
  const Entry& taken = entry(id);
  if (ref_is_live(taken.ref.load(std::memory_order_relaxed)))
    throw CorruptionDetected{"a live entry in the list of free ones"};
  shard_->space.free_entry = taken.next.load(std::memory_order_relaxed);
  return id;
}

void Index::give_free_entry(std::uint32_t id) {
  entry(id).next.store(shard_->space.free_entry, std::memory_order_relaxed);
  shard_->space.free_entry = id;
}

// Reads nothing of the segment: whatever anybody writes into it meanwhile, this comes to its end.
void Index::empty(std::uint32_t cells) noexcept {
  std::uint32_t free_entry = 0;
  for (std::uint32_t cell = cells; cell-- > 0;) {
    clear_cell(cell);
    for (std::uint32_t slot = kSlotsPerCell; slot-- > kBucketSlots;) {
      const std::uint32_t id = cell * kSlotsPerCell + slot;
      entry_unchecked(shard_, id).next.store(free_entry, std::memory_order_relaxed);
      free_entry = id;
    }
  }
  shard_->space.free_entry = free_entry;
  shard_->cells.store(cells, std::memory_order_release);
}

void Index::reset() noexcept {
  for (std::uint32_t cell = 0; cell < cells(); ++cell) {
    Bucket& current = bucket(shard_, cell);
    write_begin(current);
    for (std::uint32_t slot = 0; slot < kBucketWidth; ++slot) clear_slot(current, slot);
    current.overflow.store(0, std::memory_order_relaxed);
    current.eviction.store(0, std::memory_order_relaxed);
    write_end(current);
    for (std::uint32_t slot = kBucketSlots; slot < kSlotsPerCell; ++slot) {
      std::atomic<std::uint32_t>& policy = entry_unchecked(shard_, cell * kSlotsPerCell + slot).policy;
      if ((policy.load(std::memory_order_relaxed) & kSeen) != 0) policy.fetch_and(~kSeen, std::memory_order_relaxed);
    }
  }
  shard_->space.free_entry = 0;
}

}  // namespace memstream
