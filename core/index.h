// The table of a shard: buckets that find entries, and the entries themselves. Grows one bucket at a time.
#pragma once

#include <bit>
#include <cstdint>

#include "core/damage.h"
#include "core/hash.h"
#include "core/layout.h"

namespace memstream {

// Linear hashing: with n cells in use there are n buckets, and adding a cell splits one of them. An entry never moves,
// so that its number can serve as a scan position. Entry numbers count runs of 32 bytes from the start of the table;
// the first two of every eight are the bucket and name no entry.
//
// Functions that change something need the shard's write lock and throw ShardDamage on bytes that make no sense. The
// static ones are also used by readers without a lock, on numbers that they have checked.
class Index {
 public:
  explicit Index(ShardHeader* shard) noexcept : shard_(shard) {}

  static constexpr std::uint32_t bucket_of(std::uint32_t bucket_bits, std::uint32_t cells) noexcept {
    const std::uint32_t mask = static_cast<std::uint32_t>(std::bit_ceil(std::uint64_t{cells}) - 1);
    const std::uint32_t bucket = bucket_bits & mask;
    return bucket < cells ? bucket : bucket & (mask >> 1);
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

  // Calls visit(id) for every entry of the bucket whose tag fits, then for its overflow chain, until it returns true.
  // Safe on any bytes: numbers that name no entry end the walk, and a chain is followed only so far.
  template <class Visit>
  static bool probe(ShardHeader* shard, const Bucket& bucket, std::uint16_t tag, std::uint32_t cells, Visit visit);

  // The entry that probe() would visit first, 0 if none: where the next cache line of a look-up will be. Safe on any
  // bytes.
  static std::uint32_t likely_entry(const Bucket& bucket, std::uint16_t tag, std::uint32_t cells) noexcept;

  std::uint32_t cells() const noexcept { return shard_->cells.load(std::memory_order_relaxed); }
  std::uint32_t entry_capacity() const noexcept { return cells() * kEntriesPerCell; }
  Entry& entry(std::uint32_t id) const;

  // Makes `id` findable. Its hash and the tag in its policy word must be stored.
  void link(std::uint32_t id);
  void unlink(std::uint32_t id);

  // The coldest entry of a chain that has reached its bound, 0 if the bucket of `bucket_bits` has room for one more.
  std::uint32_t overfull(std::uint32_t bucket_bits) const;

  // Takes a cell of the table's room into use and splits a bucket; six more entries are free then. False if all are in
  // use.
  bool add_cell();

  std::uint32_t take_free_entry();
  void give_free_entry(std::uint32_t id);

  // For rebuild: all buckets and the list of free entries empty.
  void reset() noexcept;

 private:
  void write_begin(Bucket& bucket) noexcept;
  void write_end(Bucket& bucket) noexcept;
  static void set_slot(Bucket& bucket, std::uint32_t slot, std::uint32_t id, std::uint16_t tag) noexcept;
  void link_in(Bucket& bucket, std::uint32_t id);
  void split(std::uint32_t from, std::uint32_t to);
  std::uint16_t tag_of(std::uint32_t id) const { return policy_tag(entry(id).policy.load(std::memory_order_relaxed)); }

  ShardHeader* shard_;
};

template <class Visit>
bool Index::probe(ShardHeader* shard, const Bucket& bucket, std::uint16_t tag, std::uint32_t cells, Visit visit) {
  constexpr std::uint64_t kOnes = 0x0001'0001'0001'0001;
  constexpr std::uint64_t kHighs = 0x8000'8000'8000'8000;
  for (std::uint32_t half = 0; half < 2; ++half) {
    const std::uint64_t difference = bucket.tags[half].load(std::memory_order_relaxed) ^ kOnes * tag;
    // Marks every lane that is zero, and perhaps the one above it: visit() compares the key anyway.
    for (std::uint64_t found = (difference - kOnes) & ~difference & kHighs; found != 0; found &= found - 1) {
      const auto lane = static_cast<std::uint32_t>(std::countr_zero(found)) / 16;
      const std::uint32_t id = bucket.slots[half * 4 + lane].load(std::memory_order_acquire);
      if (names_entry(id, cells) && visit(id)) return true;
    }
  }
  std::uint32_t id = bucket.overflow.load(std::memory_order_acquire);
  for (std::uint32_t steps = 0; id != 0 && steps <= kMaxChain; ++steps) {
    if (!names_entry(id, cells)) return false;
    if (visit(id)) return true;
    id = entry_unchecked(shard, id).next.load(std::memory_order_acquire);
  }
  return false;
}

}  // namespace memstream
