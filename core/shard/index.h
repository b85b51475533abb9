// The table of a shard: buckets that find entries, and the entries themselves. Grows one bucket at a time.
#pragma once

#include <bit>
#include <cstdint>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "core/layout/corruption.h"
#include "core/layout/hash.h"
#include "core/layout/layout.h"

namespace memstream {

// Linear hashing: with n cells in use there are n buckets, and adding a cell splits one of them. An entry never moves,
// so that its number can serve as a scan position. Entry numbers count runs of 32 bytes from the start of the table;
// the first three of every nine are the bucket and name no entry.
//
// Functions that change something need the shard's write lock and throw CorruptionDetected on bytes that make no sense.
// The static ones are also used by readers without a lock, on numbers that they have checked.
class Index {
 public:
  explicit Index(ShardHeader* shard) noexcept : shard_(shard) {}

  static constexpr std::uint32_t bucket_of(std::uint32_t bucket_bits, std::uint32_t cells) noexcept {
    // As many bits as name every bucket, and one less where they name none. No branch, which would go either way.
    const std::uint32_t mask = ~0U >> std::countl_zero((cells - 1) | 1);
    return bucket_bits & (mask >> static_cast<std::uint32_t>((bucket_bits & mask) >= cells));
  }
  static constexpr bool names_entry(std::uint32_t id, std::uint32_t cells) noexcept {
    return id / kSlotsPerCell < cells && id % kSlotsPerCell >= kBucketSlots;
  }
  // Entry numbers in ascending order: the first that is not below `id`.
  static constexpr std::uint32_t entry_at_or_after(std::uint32_t id) noexcept {
    return id % kSlotsPerCell >= kBucketSlots ? id : id / kSlotsPerCell * kSlotsPerCell + kBucketSlots;
  }

  static std::byte* table(ShardHeader* shard) noexcept {
    return reinterpret_cast<std::byte*>(shard) + kShardHeaderSize;
  }
  static Bucket& bucket(ShardHeader* shard, std::uint32_t cell) noexcept {
    return *reinterpret_cast<Bucket*>(table(shard) + std::uint64_t{cell} * sizeof(Cell));
  }
  // REQUIRES: names_entry(id, cells in use).
  static Entry& entry_unchecked(ShardHeader* shard, std::uint32_t id) noexcept {
    return *reinterpret_cast<Entry*>(table(shard) + std::uint64_t{id} * sizeof(Entry));
  }

  // The entries of a bucket whose tag fits, and those of its overflow chain. Both are safe on any bytes: a slot that
  // names no entry is left out, a chain ends there, and it is followed only so far.
  class InSlots {
   public:
    InSlots() noexcept = default;
    InSlots(const Bucket& bucket, std::uint16_t tag, std::uint32_t cells) noexcept
        : bucket_(&bucket), cells_(cells), slots_(matching_slots(bucket, tag)) {}

    // Where the block of the next one is, as the bucket has it; anything if there is none. No branch.
    std::uint32_t hint() const noexcept {
      constexpr std::uint32_t kLastSlot = 1U << (kBucketWidth - 1) * kBitsPerSlot;
      const auto slot = static_cast<std::uint32_t>(std::countr_zero(slots_ | kLastSlot)) / kBitsPerSlot;
      return bucket_->hints[slot].load(std::memory_order_relaxed);
    }
    // The next one, 0 at the end.
    std::uint32_t next() noexcept {
      while (slots_ != 0) {
        const auto slot = static_cast<std::uint32_t>(std::countr_zero(slots_)) / kBitsPerSlot;
        slots_ &= slots_ - 1;
        const std::uint32_t id = bucket_->slots[slot].load(std::memory_order_acquire);
        if (names_entry(id, cells_)) return id;
      }
      return 0;
    }

   private:
    const Bucket* bucket_ = nullptr;
    std::uint32_t cells_ = 0;
    std::uint32_t slots_ = 0;
  };
  class InChain {
   public:
    InChain(ShardHeader* shard, const Bucket& bucket, std::uint32_t cells) noexcept
        : shard_(shard), link_(&bucket.overflow), cells_(cells) {}

    std::uint32_t next() noexcept {
      const std::uint32_t id = link_->load(std::memory_order_acquire);
      if (id == 0 || steps_++ > kMaxChain || !names_entry(id, cells_)) return 0;
      link_ = &entry_unchecked(shard_, id).next;
      return id;
    }

   private:
    ShardHeader* shard_;
    const std::atomic<std::uint32_t>* link_;
    std::uint32_t cells_;
    std::uint32_t steps_ = 0;
  };

  std::uint32_t cells() const noexcept { return shard_->cells.load(std::memory_order_relaxed); }
  std::uint32_t entry_capacity() const noexcept { return cells() * kEntriesPerCell; }
  Entry& entry(std::uint32_t id) const {
    if (!names_entry(id, cells())) throw CorruptionDetected{"an entry out of bounds"};
    return entry_unchecked(shard_, id);
  }

  // Makes `id` findable. Its hash and the tag in its policy word must be stored.
  void link(std::uint32_t id);
  void unlink(std::uint32_t id);
  // After a linked entry got another block.
  void renew_hint(std::uint32_t id);
  // Where the bucket says that the block of a linked entry is. 0 if it says nothing: those of a chain have no hint.
  std::uint32_t hint_of(std::uint32_t id) const;

  // The coldest entry of a chain that has reached its bound, 0 if the bucket of `bucket_bits` has room for one more.
  std::uint32_t overfull(std::uint32_t bucket_bits) const;

  // Takes a cell of the table's room into use and splits a bucket; six more entries are free then. False if all are in
  // use.
  bool add_cell();

  std::uint32_t take_free_entry();
  void give_free_entry(std::uint32_t id);

  // A table of `cells` cells without a key, all entries of which are free, in place of the one that there was.
  void empty(std::uint32_t cells) noexcept;

  // For rebuild: all buckets and the list of free entries empty, and no entry seen by the walk.
  void reset() noexcept;

 private:
  static constexpr std::uint32_t kNoSlot = kBucketWidth;
  static std::uint32_t slot_of(const Bucket& bucket, std::uint32_t id) noexcept;
  // The slots whose tag fits, each as the lower of its two bits: empty ones too if the tag is 0.
  static constexpr std::uint32_t kBitsPerSlot = 2;
  static std::uint32_t matching_slots(const Bucket& bucket, std::uint16_t tag) noexcept;

  void write_begin(Bucket& bucket) noexcept;
  void write_end(Bucket& bucket) noexcept;
  // Leaves the hint, which says nothing then.
  static void clear_slot(Bucket& bucket, std::uint32_t slot) noexcept { set_slot(bucket, slot, 0, 0); }
  static void set_slot(Bucket& bucket, std::uint32_t slot, std::uint32_t id, std::uint16_t tag) noexcept;
  void fill_slot(Bucket& bucket, std::uint32_t slot, std::uint32_t id);
  Bucket& bucket_with(std::uint32_t id) const;
  void link_in(Bucket& bucket, std::uint32_t id);
  void clear_cell(std::uint32_t cell) noexcept;
  void split(std::uint32_t from, std::uint32_t to);

  ShardHeader* shard_;
};

inline std::uint32_t Index::matching_slots(const Bucket& bucket, std::uint16_t tag) noexcept {
  constexpr std::uint32_t kLowerBits = 0x5555;
  const std::uint64_t low = bucket.tags[0].load(std::memory_order_relaxed);
  const std::uint64_t high = bucket.tags[1].load(std::memory_order_relaxed);
#if defined(__SSE2__)
  const __m128i tags = _mm_set_epi64x(static_cast<long long>(high), static_cast<long long>(low));
  const __m128i fits = _mm_cmpeq_epi16(tags, _mm_set1_epi16(static_cast<short>(tag)));
  return static_cast<std::uint32_t>(_mm_movemask_epi8(fits)) & kLowerBits;
#else
  std::uint32_t found = 0;
  for (std::uint32_t slot = 0; slot < kBucketWidth; ++slot) {
    const std::uint64_t word = slot < kBucketWidth / 2 ? low : high;
    const bool fits = static_cast<std::uint16_t>(word >> slot % (kBucketWidth / 2) * 16) == tag;
    found |= static_cast<std::uint32_t>(fits) << slot * kBitsPerSlot;
  }
  return found & kLowerBits;
#endif
}

}  // namespace memstream
