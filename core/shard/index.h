// The table of a shard: buckets that find entries, and the entries themselves. Grows one bucket at a time.
#pragma once

#include <bit>
#include <cstdint>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "core/base/shared_bytes.h"
#include "core/layout/corruption.h"
#include "core/layout/hash.h"
#include "core/layout/layout.h"

namespace memstream {

// The number of the lowest bit of a word that is not 0, as the 64 bits in which it serves as a distance: compilers
// extend the 32 bits of std::countr_zero() once more.
[[gnu::always_inline]] inline std::uint64_t lowest_bit(std::uint32_t word) noexcept {
#if defined(__x86_64__)
  std::uint64_t bit;
  asm("bsfl %1, %k0" : "=r"(bit) : "r"(word) : "cc");
  return bit;
#else
  return static_cast<std::uint64_t>(std::countr_zero(word));
#endif
}

// Linear hashing: with n cells in use there are n buckets, and adding a cell splits one of them. An entry never moves,
// so that its number can serve as a scan position. Entry numbers count runs of 32 bytes from the start of the table;
// the first three of every nine are the bucket and name no entry.
//
// Functions that change something need the shard's write lock and throw CorruptionDetected on corrupt bytes.
// The static ones are also used by readers without a lock, on numbers that they have checked.
class Index {
 public:
  explicit Index(ShardHeader* shard) noexcept : shard_(shard) {}

  static constexpr std::uint32_t bucket_of(std::uint32_t bucket_bits, std::uint32_t cells) noexcept {
    return bucket_of(bucket_bits, cells, bits_for(cells));
  }
  // As many bits as name every bucket.
  static constexpr std::uint32_t bits_for(std::uint32_t cells) noexcept {
    return ~0U >> std::countl_zero((cells - 1) | 1);
  }
  // Those bits, and one less where they name none. No branch, which would go either way.
  static constexpr std::uint32_t bucket_of(std::uint32_t bucket_bits, std::uint32_t cells,
                                           std::uint32_t mask) noexcept {
    return bucket_bits & (mask >> static_cast<std::uint32_t>((bucket_bits & mask) >= cells));
  }
  static constexpr bool names_entry(EntryId id, std::uint32_t cells) noexcept {
    // The remainder by a multiplication: as the fraction of 2^64 that id / kSlotsPerCell leaves. What rounding adds to
    // it stays below the next ninth for every id.
    constexpr std::uint64_t kFraction = ~std::uint64_t{0} / kSlotsPerCell + 1;
    return id < std::uint64_t{cells} * kSlotsPerCell && id * kFraction >= kBucketSlots * kFraction;
  }
  // As names_entry(), of a number below so many cells' kSlotsPerCell, in 32 bits: what rounding adds stays below the
  // next ninth for as many cells.
  static constexpr std::uint32_t kMostCellsInShort = 0xffff'ffff / 5 / kSlotsPerCell;
  static constexpr bool names_entry_in_short(EntryId id) noexcept {
    constexpr std::uint32_t kFraction = ~0U / kSlotsPerCell + 1;
    static_assert(kFraction * kSlotsPerCell == 5);
    return id * kFraction > ~0U / 3;
  }
  // Entry numbers in ascending order: the first that is not below `id`.
  static constexpr EntryId entry_at_or_after(EntryId id) noexcept {
    return id % kSlotsPerCell >= kBucketSlots ? id : EntryId{id / kSlotsPerCell * kSlotsPerCell + kBucketSlots};
  }

  static std::byte* table(ShardHeader* shard) noexcept {
    return reinterpret_cast<std::byte*>(shard) + kShardHeaderSize;
  }
  static Bucket& bucket(ShardHeader* shard, std::uint32_t cell) noexcept {
    return *reinterpret_cast<Bucket*>(table(shard) + std::uint64_t{cell} * sizeof(Cell));
  }
  // REQUIRES: names_entry(id, cells in use).
  static Entry& entry_unchecked(ShardHeader* shard, EntryId id) noexcept {
    return *reinterpret_cast<Entry*>(table(shard) + std::uint64_t{id} * sizeof(Entry));
  }

  static EntryId number_of(ShardHeader* shard, const Entry& entry) noexcept {
    const auto distance = static_cast<std::uint64_t>(reinterpret_cast<const std::byte*>(&entry) - table(shard));
    return EntryId{static_cast<std::uint32_t>(distance / sizeof(Entry))};
  }

  // The entries of a bucket whose tag fits, and those of its overflow chain. Both are safe on any bytes: a slot that
  // names no entry is left out, a chain ends there, and it is followed only so far.
  class InSlots {
   public:
    InSlots() noexcept = default;
    InSlots(const Bucket& bucket, KeyHash hash, std::uint32_t cells) noexcept
        : bucket_(&bucket), cells_(cells), slots_(matching_slots(bucket, hash)) {}
    InSlots(const Bucket& bucket, std::uint16_t tag, std::uint32_t cells) noexcept
        : InSlots(bucket, KeyHash{std::uint64_t{tag} << 32}, cells) {}

    // Where the block of the next one is, as the bucket has it; anything if there is none. No branch.
    BlockPosition hint() const noexcept {
      constexpr std::uint32_t kLastSlot = 1U << (kBucketWidth - 1) * kBitsPerSlot;
      const auto slot = static_cast<std::uint32_t>(std::countr_zero(slots_ | kLastSlot)) / kBitsPerSlot;
      return BlockPosition{bucket_->hints[slot].load(std::memory_order_relaxed)};
    }
    // The next one, 0 at the end.
    EntryId next() noexcept {
      while (slots_ != 0) {
        const auto slot = static_cast<std::uint32_t>(std::countr_zero(slots_)) / kBitsPerSlot;
        slots_ &= slots_ - 1;
        const EntryId id{bucket_->slots[slot].load(std::memory_order_acquire)};
        if (names_entry(id, cells_)) return id;
      }
      return EntryId{0};
    }

   private:
    const Bucket* bucket_ = nullptr;
    std::uint32_t cells_ = 0;
    std::uint32_t slots_ = 0;
  };
  // The first slot of a bucket whose tag fits: the entry that it names, not checked yet, and where the bucket says that
  // the block is. False if there is none.
  [[gnu::always_inline]] static bool first_in_slots(const Bucket& bucket, KeyHash hash, EntryId* id,
                                                    std::uint64_t* hint) noexcept {
    const std::uint32_t slots = matching_slots(bucket, hash);
    if (__builtin_expect(slots == 0, false)) return false;
    // A slot's lower bit is twice its number: half of the distance in bytes.
    static_assert(kBitsPerSlot * sizeof(std::uint16_t) == sizeof(bucket.slots[0]));
    static_assert(sizeof(bucket.slots[0]) == sizeof(bucket.hints[0]));
    const std::uint64_t distance = lowest_bit(slots);
    const auto at = [distance](const std::atomic<std::uint32_t>* first) -> const std::atomic<std::uint32_t>& {
      return *reinterpret_cast<const std::atomic<std::uint32_t>*>(reinterpret_cast<const std::uint16_t*>(first) +
                                                                  distance);
    };
    *id = EntryId{at(bucket.slots).load(std::memory_order_acquire)};
    *hint = at(bucket.hints).load(std::memory_order_relaxed);
    return true;
  }
  static bool has_in_slots(const Bucket& bucket, KeyHash hash) noexcept { return matching_slots(bucket, hash) != 0; }
  class InChain {
   public:
    InChain(ShardHeader* shard, const Bucket& bucket, std::uint32_t cells) noexcept
        : shard_(shard), link_(&bucket.overflow), cells_(cells) {}

    EntryId next() noexcept {
      const EntryId id{link_->load(std::memory_order_acquire)};
      if (id == 0 || steps_++ > kMaxChain || !names_entry(id, cells_)) return EntryId{0};
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
  Entry& entry(EntryId id) const {
    if (!names_entry(id, cells())) throw CorruptionDetected{"an entry out of bounds"};
    return entry_unchecked(shard_, id);
  }

  // Makes `id` findable. Its hash and the tag in its policy word must be stored.
  void link(EntryId id);
  void unlink(EntryId id);
  // After a linked entry got another block.
  void renew_hint(EntryId id);
  // Where the bucket says that the block of a linked entry is. 0 if it says nothing: those of a chain have no hint.
  BlockPosition hint_of(EntryId id) const;

  // The coldest entry of a chain that has reached its bound, 0 if the bucket of `bucket_bits` has room for one more.
  EntryId overfull(std::uint32_t bucket_bits) const {
    const Bucket& full = bucket(shard_, bucket_of(bucket_bits, cells()));
    return full.overflow.load(std::memory_order_relaxed) == 0 ? EntryId{0} : coldest_of_chain(full);
  }

  // Takes a cell of the table's room into use and splits a bucket; six more entries are free then. False if all are in
  // use.
  bool add_cell();

  EntryId take_free_entry() {
    const EntryId id{shard_->space.free_entry};
    if (id == 0) return id;
    const Entry& taken = entry(id);
    if (ref_is_live(taken.ref.load(std::memory_order_relaxed)))
      throw CorruptionDetected{"a live entry in the list of free ones"};
    shard_->space.free_entry = taken.next.load(std::memory_order_relaxed);
    return id;
  }
  void give_free_entry(EntryId id) {
    entry(id).next.store(shard_->space.free_entry, std::memory_order_relaxed);
    shard_->space.free_entry = id;
  }

  // A table of `cells` cells without a key, all entries of which are free, in place of the one that there was.
  void empty(std::uint32_t cells) noexcept;

  // For rebuild: all buckets and the list of free entries empty, and no entry seen by the walk.
  void reset() noexcept;

 private:
  static constexpr std::uint32_t kNoSlot = kBucketWidth;
  EntryId coldest_of_chain(const Bucket& bucket) const;
  static std::uint32_t slot_of(const Bucket& bucket, EntryId id) noexcept;
  // The slots whose tag fits a hash, each as the lower of its two bits: empty ones too if the tag is 0.
  static constexpr std::uint32_t kBitsPerSlot = 2;
  static std::uint32_t matching_slots(const Bucket& bucket, KeyHash hash) noexcept;

  void write_begin(Bucket& bucket) noexcept;
  void write_end(Bucket& bucket) noexcept;
  // Leaves the hint, which says nothing then.
  static void clear_slot(Bucket& bucket, std::uint32_t slot) noexcept { set_slot(bucket, slot, EntryId{0}, 0); }
  static void set_slot(Bucket& bucket, std::uint32_t slot, EntryId id, std::uint16_t tag) noexcept;
  static void fill_slot(Bucket& bucket, std::uint32_t slot, EntryId id, const Entry& named) noexcept;
  Bucket& bucket_with(const Entry& linked) const noexcept;
  static void link_in(Bucket& bucket, EntryId id, Entry& linked) noexcept;
  void clear_cell(std::uint32_t cell) noexcept;
  void split(std::uint32_t from, std::uint32_t to);

  ShardHeader* shard_;
};

inline std::uint32_t Index::matching_slots(const Bucket& bucket, KeyHash hash) noexcept {
  constexpr std::uint32_t kLowerBits = 0x5555;
#if defined(__SSE2__) && !defined(MEMSTREAM_THREAD_SANITIZER)
  // Both words in one load, which may bring halves of two moments: a tag only says which entry to look at, and a miss
  // counts only if the bucket's version stood still.
  const __m128i tags = _mm_loadu_si128(reinterpret_cast<const __m128i*>(&bucket.tags));
  static_assert(KeyHash{std::uint64_t{0xabcd} << 32}.tag() == 0xabcd, "the third of the hash's four parts");
  const __m128i parts = _mm_cvtsi64_si128(static_cast<long long>(hash.value));
  const __m128i tag = _mm_shufflelo_epi16(parts, _MM_SHUFFLE(2, 2, 2, 2));
  const __m128i fits = _mm_cmpeq_epi16(tags, _mm_unpacklo_epi64(tag, tag));
  return static_cast<std::uint32_t>(_mm_movemask_epi8(fits)) & kLowerBits;
#else
  const std::uint64_t low = bucket.tags[0].load(std::memory_order_relaxed);
  const std::uint64_t high = bucket.tags[1].load(std::memory_order_relaxed);
  std::uint32_t found = 0;
  for (std::uint32_t slot = 0; slot < kBucketWidth; ++slot) {
    const std::uint64_t word = slot < kBucketWidth / 2 ? low : high;
    const bool fits = static_cast<std::uint16_t>(word >> slot % (kBucketWidth / 2) * 16) == hash.tag();
    found |= static_cast<std::uint32_t>(fits) << slot * kBitsPerSlot;
  }
  return found & kLowerBits;
#endif
}

}  // namespace memstream
