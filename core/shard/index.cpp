#include "core/shard/index.h"

#include <array>
#include <cstddef>
#include <limits>

#include "core/base/prefetch.h"
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

inline void Index::set_slot(Bucket& bucket, std::uint32_t slot, EntryId id, std::uint16_t tag) noexcept {
  std::atomic<std::uint64_t>& word = bucket.tags[slot / 4];
  const std::uint32_t shift = slot % 4 * 16;
  const std::uint64_t others = word.load(std::memory_order_relaxed) & ~(std::uint64_t{0xffff} << shift);
  word.store(others | std::uint64_t{tag} << shift, std::memory_order_relaxed);
  bucket.slots[slot].store(id, std::memory_order_release);
}

inline void Index::fill_slot(Bucket& bucket, std::uint32_t slot, EntryId id, const Entry& named) noexcept {
  bucket.hints[slot].store(ref_block(named.ref.load(std::memory_order_relaxed)), std::memory_order_relaxed);
  set_slot(bucket, slot, id, policy_tag(named.policy.load(std::memory_order_relaxed)));
}

inline Bucket& Index::bucket_with(const Entry& linked) const noexcept {
  return bucket(shard_, bucket_of(linked.hash.load(std::memory_order_relaxed), cells()));
}

// kNoSlot: it is in the chain.
std::uint32_t Index::slot_of(const Bucket& bucket, EntryId id) noexcept {
#if defined(__SSE2__) && !defined(MEMSTREAM_THREAD_SANITIZER)
  // With W held nobody changes them. No branch for each slot, of which every one would be a guess.
  static_assert(kBucketWidth == 8 && sizeof bucket.slots == 32);
  const auto* slots = reinterpret_cast<const __m128i*>(bucket.slots);
  const __m128i wanted = _mm_set1_epi32(static_cast<int>(id));
  const __m128i low = _mm_cmpeq_epi32(_mm_loadu_si128(slots), wanted);
  const __m128i high = _mm_cmpeq_epi32(_mm_loadu_si128(slots + 1), wanted);
  const auto fits = static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_packs_epi16(_mm_packs_epi32(low, high), low)));
  return static_cast<std::uint32_t>(std::countr_zero(fits | 1U << kBucketWidth));
#else
  std::uint32_t slot = 0;
  while (slot < kBucketWidth && bucket.slots[slot].load(std::memory_order_relaxed) != id) ++slot;
  return slot;
#endif
}

void Index::renew_hint(EntryId id) {
  const Entry& linked = entry(id);
  Bucket& target = bucket_with(linked);
  const std::uint32_t slot = slot_of(target, id);
  if (slot == kNoSlot) return;
  target.hints[slot].store(ref_block(linked.ref.load(std::memory_order_relaxed)), std::memory_order_relaxed);
}

BlockPosition Index::hint_of(EntryId id) const {
  const Bucket& target = bucket_with(entry(id));
  const std::uint32_t slot = slot_of(target, id);
  return BlockPosition{slot == kNoSlot ? 0 : target.hints[slot].load(std::memory_order_relaxed)};
}

[[gnu::always_inline]] inline void Index::link_in(Bucket& bucket, EntryId id, Entry& linked) noexcept {
  // Empty slots have no tag. No branch for each slot, of which every one would be a guess.
  for (std::uint32_t slots = matching_slots(bucket, KeyHash{0}); slots != 0; slots &= slots - 1) {
    const auto slot = static_cast<std::uint32_t>(std::countr_zero(slots)) / kBitsPerSlot;
    if (bucket.slots[slot].load(std::memory_order_relaxed) != 0) continue;
    fill_slot(bucket, slot, id, linked);
    return;
  }
  linked.next.store(bucket.overflow.load(std::memory_order_relaxed), std::memory_order_relaxed);
  bucket.overflow.store(id, std::memory_order_release);
}

void Index::link(EntryId id) {
  Entry& linked = entry(id);
  Bucket& target = bucket_with(linked);
  write_begin(target);
  link_in(target, id, linked);
  write_end(target);
}

void Index::unlink(EntryId id) {
  const Entry& linked = entry(id);
  Bucket& target = bucket_with(linked);
  if (const std::uint32_t slot = slot_of(target, id); slot != kNoSlot) {
    // The first of the chain moves up: most keys are found in the bucket's own line.
    const EntryId promoted{target.overflow.load(std::memory_order_relaxed)};
    const std::uint32_t rest = promoted == 0 ? 0 : entry(promoted).next.load(std::memory_order_relaxed);
    write_begin(target);
    if (promoted == 0) {
      clear_slot(target, slot);
    } else {
      fill_slot(target, slot, promoted, entry(promoted));
    }
    target.overflow.store(rest, std::memory_order_relaxed);
    write_end(target);
    return;
  }
  std::atomic<std::uint32_t>* link = &target.overflow;
  for (std::uint32_t steps = 0; steps <= kMaxChain; ++steps) {
    const EntryId current{link->load(std::memory_order_relaxed)};
    if (current == id) {
      write_begin(target);
      link->store(linked.next.load(std::memory_order_relaxed), std::memory_order_relaxed);
      write_end(target);
      return;
    }
    if (current == 0) break;
    link = &entry(current).next;
  }
  throw CorruptionDetected{"an entry that its bucket does not know"};
}

// 0 unless the chain has reached its bound.
EntryId Index::coldest_of_chain(const Bucket& bucket) const {
  std::uint32_t length = 0;
  EntryId coldest;
  std::uint64_t coldest_ms = std::numeric_limits<std::uint64_t>::max();
  EntryId id{bucket.overflow.load(std::memory_order_relaxed)};
  while (id != 0) {
    if (++length > kMaxChain) throw CorruptionDetected{"a chain that does not end"};
    const Entry& current = entry(id);
    const std::uint64_t last_access_ms = current.last_access_ms.load(std::memory_order_relaxed);
    if (last_access_ms < coldest_ms) {
      coldest_ms = last_access_ms;
      coldest = id;
    }
    id = EntryId{current.next.load(std::memory_order_relaxed)};
  }
  return length < kMaxChain ? EntryId{0} : coldest;
}

// ---- growing ----

// The cell may lie where blocks were, and a reader may still be copying one of them.
void Index::clear_cell(std::uint32_t cell) noexcept {
  static constexpr std::byte kZeros[sizeof(Cell)]{};
  copy_to_shared(table(shard_) + std::uint64_t{cell} * sizeof(Cell), kZeros, sizeof(Cell));
}

namespace {

// What a bucket is going to name, gathered so that each of its words is stored once.
class Gathered {
 public:
  void add(EntryId id, Entry& linked) noexcept {
    if (count_ == kBucketWidth) {
      linked.next.store(overflow_, std::memory_order_relaxed);
      overflow_ = id;
      return;
    }
    const std::uint64_t tag = policy_tag(linked.policy.load(std::memory_order_relaxed));
    tags_[count_ / 4] |= tag << count_ % 4 * 16;
    hints_[count_] = ref_block(linked.ref.load(std::memory_order_relaxed));
    slots_[count_++] = id;
  }

  // REQUIRES: the bucket's version is odd.
  void store_to(Bucket& bucket) const noexcept {
    for (std::uint32_t word = 0; word < std::size(tags_); ++word) {
      bucket.tags[word].store(tags_[word], std::memory_order_relaxed);
    }
    for (std::uint32_t slot = 0; slot < kBucketWidth; ++slot) {
      bucket.slots[slot].store(slots_[slot], std::memory_order_release);
    }
    for (std::uint32_t slot = 0; slot < count_; ++slot) {
      bucket.hints[slot].store(hints_[slot], std::memory_order_relaxed);
    }
    bucket.overflow.store(overflow_, std::memory_order_release);
  }

 private:
  std::uint32_t count_ = 0;
  std::uint32_t overflow_ = 0;
  std::uint64_t tags_[2] = {};
  std::uint32_t slots_[kBucketWidth] = {};
  std::uint32_t hints_[kBucketWidth] = {};
};

}  // namespace

bool Index::add_cell() {
  const std::uint32_t count = cells();
  if (count >= shard_->space.table_cells.load(std::memory_order_relaxed)) return false;
  clear_cell(count);
  split(bucket_of(count, count), count);
  for (std::uint32_t slot = kSlotsPerCell; slot-- > kBucketSlots;)
    give_free_entry(EntryId{count * kSlotsPerCell + slot});
  return true;
}

void Index::split(std::uint32_t from, std::uint32_t to) {
  Bucket& old_bucket = bucket(shard_, from);
  Bucket& new_bucket = bucket(shard_, to);
  std::array<EntryId, kBucketWidth + kMaxChain + 1> ids{};
  std::size_t count = 0;
  for (const auto& slot : old_bucket.slots) {
    const EntryId id{slot.load(std::memory_order_relaxed)};
    if (id == 0) continue;
    prefetch_line<LineUse::kWrite>(&entry_unchecked(shard_, id));  // All at the same time: their hashes are read below.
    ids[count++] = id;
  }
  for (EntryId id{old_bucket.overflow.load(std::memory_order_relaxed)}; id != 0;) {
    if (count == ids.size()) throw CorruptionDetected{"a chain that does not end"};
    ids[count++] = id;
    id = EntryId{entry(id).next.load(std::memory_order_relaxed)};
  }

  // A reader that still counts the old number of cells looks only into the old bucket, one that counts the new number
  // may look into the new one before it is filled. Both versions are odd until all is done, so that neither believes in
  // a miss, not even when this process is killed on the way.
  write_begin(old_bucket);
  write_begin(new_bucket);
  new_bucket.eviction.store(old_bucket.eviction.load(std::memory_order_relaxed) & kGhosts,
                            std::memory_order_relaxed);  // They do not say to which of the two their keys lead now.
  shard_->cells.store(to + 1, std::memory_order_release);
  Gathered stay;
  Gathered go;
  for (std::size_t i = 0; i < count; ++i) {
    Entry& moved = entry(ids[i]);
    const std::uint32_t target = bucket_of(moved.hash.load(std::memory_order_relaxed), to + 1);
    if (target != from && target != to) throw CorruptionDetected{"an entry in a bucket that is not its own"};
    (target == from ? stay : go).add(ids[i], moved);
  }
  stay.store_to(old_bucket);
  go.store_to(new_bucket);
  write_end(new_bucket);
  write_end(old_bucket);
}

// ---- free entries ----

// Reads nothing of the segment, so it ends no matter what others write there meanwhile.
void Index::empty(std::uint32_t cells) noexcept {
  std::uint32_t free_entry = 0;
  for (std::uint32_t cell = cells; cell-- > 0;) {
    clear_cell(cell);
    for (std::uint32_t slot = kSlotsPerCell; slot-- > kBucketSlots;) {
      const EntryId id{cell * kSlotsPerCell + slot};
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
      std::atomic<std::uint32_t>& policy = entry_unchecked(shard_, EntryId{cell * kSlotsPerCell + slot}).policy;
      if ((policy.load(std::memory_order_relaxed) & kSeen) != 0) policy.fetch_and(~kSeen, std::memory_order_relaxed);
    }
  }
  shard_->space.free_entry = 0;
}

}  // namespace memstream
