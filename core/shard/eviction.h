// Chooses the entry that a full shard evicts. docs/eviction.md explains the choice.
#pragma once

#include <cstdint>

#include "core/layout/block.h"
#include "core/layout/hash.h"
#include "core/layout/layout.h"
#include "core/shard/arena.h"
#include "core/shard/fingerprints.h"
#include "core/shard/index.h"
#include "core/shard/pins.h"
#include "core/shard/tags.h"
#include "core/shard/write_lock.h"

namespace memstream {

// Two queues hold the entries of a shard. New keys enter the small queue. The main queue takes keys that were hit
// there, keys that came back soon after they had been dropped, and others while it has room. The small queue starts
// with nearly all the room, and gives room to the main queue where it is worth more. Each hand meets its entries in
// nearly FIFO order: a freed entry is the next to be taken, behind the hand that freed it.
//
// An entry's policy word holds its queue and its hits. Its bucket holds fingerprints of dropped keys, and ShardSpace
// the rest. All of it is derived: an entry that loses it counts as one without hits.
//
// All functions but note_miss() need the shard's write lock. They throw CorruptionDetected on corrupt bytes.
class Eviction {
 public:
  // REQUIRES: index, arena, pins and tags are those of the shard, and outlive this.
  Eviction(ShardHeader* shard, const Index* index, const Arena* arena, const PinTable* pins,
           const TagTable* tags) noexcept
      : shard_(shard), index_(index), arena_(arena), pins_(pins), tags_(tags) {}

  // Notes that a get did not find its key. The only function that needs no lock.
  static void note_miss(ShardHeader* shard, Bucket& bucket, std::uint16_t tag) noexcept;

  // Returns the queue that a new key enters, as bits of the policy word of its entry `id`. If the bucket has a
  // fingerprint of the key, it is forgotten, and the border between the queues moves.
  std::uint32_t admit(KeyHash hash, EntryId id) noexcept MEMSTREAM_NEEDS_W;

  // Accounting: the entry `id`, which has this policy word, got a block of so many bytes, or lost it.
  void count_in(EntryId id, std::uint32_t policy, std::uint64_t bytes) noexcept MEMSTREAM_NEEDS_W {
    if ((policy & kSmall) != 0) space().small_memory += bytes;
    if ((policy & (kSmall | kExpires)) != 0) mark(id);
  }
  void count_out(std::uint32_t policy, std::uint64_t bytes) noexcept MEMSTREAM_NEEDS_W {
    if ((policy & kSmall) != 0) space().small_memory -= bytes;
  }
  // The same for an entry that gets another block and stays in its queue. `old_policy` and `policy` are its policy
  // words before and after.
  void recount(EntryId id, std::uint32_t old_policy, std::uint32_t policy, std::uint64_t old_bytes,
               std::uint64_t bytes) noexcept MEMSTREAM_NEEDS_W {
    if ((policy & kSmall) != 0) space().small_memory += bytes - old_bytes;
    if ((policy & ~old_policy & kExpires) != 0) mark(id);
  }

  // Marks an entry of the small queue, or one whose block expires. The hand of the small queue skips all others.
  void mark(EntryId id) noexcept MEMSTREAM_NEEDS_W {
    std::atomic<std::uint64_t>& word = Index::bucket(shard_, id / kSlotsPerCell).eviction;
    word.store(word.load(std::memory_order_relaxed) | mark_of(id), std::memory_order_relaxed);
  }
  // REQUIRES: the expiry itself is stored later. Only a get would find an expiry that eviction does not know of.
  void note_expiry(const FoundEntry& found) noexcept MEMSTREAM_NEEDS_W {
    found.entry->policy.fetch_or(kExpires, std::memory_order_relaxed);
    mark(found.id);
  }
  bool is_marked(EntryId id) const noexcept MEMSTREAM_NEEDS_W {
    return (Index::bucket(shard_, id / kSlotsPerCell).eviction.load(std::memory_order_relaxed) & mark_of(id)) != 0;
  }

  // Whether an entry with this policy word entered the small queue recently: the hand passes it once, or needs more
  // than a quarter of a round to reach it. Each newcomer is recent for at least a quarter of a round: see
  // enter_small().
  bool is_recent(EntryId id, std::uint32_t policy) const noexcept MEMSTREAM_NEEDS_W {
    if ((policy & kSmall) == 0) return false;
    const std::uint32_t end = index_->cells() * kSlotsPerCell;
    return (policy & kYoung) != 0 || ahead_of_hand(id, end) >= end / 4;
  }

  // Returns the entry to evict for a block of `newcomer_bytes`; the caller removes it. Looks at a bounded number of
  // entries, and returns none if it finds only pinned ones.
  FoundEntry choose_victim(std::uint64_t newcomer_bytes, std::uint64_t now_ms) MEMSTREAM_NEEDS_W;

  // Bytes that the small queue should have.
  std::uint64_t small_target() const noexcept MEMSTREAM_NEEDS_W;

  // For a rebuild: empties both queues and forgets the past, except how large the small queue should be.
  void reset() noexcept MEMSTREAM_NEEDS_W;

  // For a shard that was cleared: what it dropped before says nothing about what comes next. forget_ghosts() forgets
  // the fingerprints in a cell's bucket, forget_past() everything else.
  void forget_ghosts(std::uint32_t cell) noexcept MEMSTREAM_NEEDS_W;
  void forget_past() noexcept MEMSTREAM_NEEDS_W;

  // The value of small_target in a new shard: as much as the small queue can have.
  static constexpr std::uint64_t kAllForSmall = ~std::uint64_t{0};

 private:
  static constexpr std::uint32_t kMarkShift = 64 - kEntriesPerCell;

  // What one search for a victim has done so far.
  struct Search {
    std::uint64_t now_ms = 0;
    std::uint64_t small_target = 0;
    std::uint32_t looks = 0;  // At entries of any kind, free ones too.
    std::uint32_t moves = 0;  // To the main queue, and of the hand past young ones.
    bool looked_at_expiry = false;
  };

  static constexpr std::uint64_t mark_of(EntryId id) noexcept {
    return std::uint64_t{1} << (kMarkShift + id % kSlotsPerCell - kBucketSlots);
  }
  ShardSpace& space() const noexcept { return shard_->space; }
  std::uint64_t small_memory() const noexcept MEMSTREAM_NEEDS_W;
  // How many of `end` entries the hand of the small queue passes before it reaches this one.
  std::uint32_t ahead_of_hand(EntryId id, std::uint32_t end) const noexcept MEMSTREAM_NEEDS_W {
    const std::uint32_t hand = shard_->space.small_hand;
    return id - hand + (id < hand ? end : 0);
  }
  std::uint32_t enter_small(EntryId id) const noexcept MEMSTREAM_NEEDS_W;
  // Whether a small queue of so many bytes is as long as it can be.
  bool small_has_all(std::uint64_t target) const noexcept MEMSTREAM_NEEDS_W;
  bool ghost_hits_significant() const noexcept MEMSTREAM_NEEDS_W;
  bool small_drops_return() const noexcept MEMSTREAM_NEEDS_W;
  bool remembers_half() const noexcept MEMSTREAM_NEEDS_W;
  void adapt_target(std::uint64_t returns) noexcept MEMSTREAM_NEEDS_W;
  void settle_asks() noexcept MEMSTREAM_NEEDS_W;
  void forget_drops() noexcept MEMSTREAM_NEEDS_W;
  void take_from_small(std::uint64_t bytes, Search* search) noexcept MEMSTREAM_NEEDS_W;
  void shrink_small(std::uint64_t bytes, Search* search) noexcept MEMSTREAM_NEEDS_W;
  bool main_pays() noexcept MEMSTREAM_NEEDS_W;
  EntryId next_marked(Search* search) noexcept MEMSTREAM_NEEDS_W;
  void age_ghosts(std::uint32_t cell) noexcept MEMSTREAM_NEEDS_W;
  EntryId next_of_main(Search* search) noexcept MEMSTREAM_NEEDS_W;
  FoundEntry look_at(EntryId id) const MEMSTREAM_NEEDS_W;
  FoundEntry evict_from_small(Search* search) MEMSTREAM_NEEDS_W;
  FoundEntry evict_from_main(Search* search) MEMSTREAM_NEEDS_W;
  bool is_kept(std::uint32_t policy, std::uint64_t bytes, Search* search) noexcept MEMSTREAM_NEEDS_W;
  bool main_head_is_cold() noexcept MEMSTREAM_NEEDS_W;
  // Checks whether the main queue is still read, one sampled cell in each call.
  void probe_main(std::uint32_t turn, std::uint32_t stride) noexcept MEMSTREAM_NEEDS_W;
  void end_sweep() noexcept MEMSTREAM_NEEDS_W;
  void forget_reads() noexcept MEMSTREAM_NEEDS_W;
  const FoundEntry& drop(const FoundEntry& found, std::uint32_t policy) noexcept MEMSTREAM_NEEDS_W;

  ShardHeader* shard_;
  const Index* index_;
  const Arena* arena_;
  const PinTable* pins_;
  const TagTable* tags_;
};

}  // namespace memstream
