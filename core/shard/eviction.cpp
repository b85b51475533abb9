#include "core/shard/eviction.h"

#include <algorithm>
#include <bit>

#include "core/shard/eviction_shares.h"

namespace memstream {
namespace {

constexpr std::uint32_t kLooks = 4096;   // Entries of any kind that one search looks at ...
constexpr std::uint32_t kSpares = 64;    // ... and those with hits that it spares: then the coldest of them goes.
constexpr std::uint32_t kMoves = 64;     // Entries that one search passes or moves to the main queue ...
constexpr std::uint32_t kFillMoves = 8;  // ... and those of them that had no hits.
// One in so many entries that the small queue would drop goes to the main queue instead, if that has room. kOneIn is
// the usual number. kOneInOfALoop holds where no dropped key comes back: keys that are read in a loop must last until
// their turn.
constexpr std::uint32_t kOneIn = 20;
constexpr std::uint32_t kOneInOfALoop = 128;
constexpr std::uint64_t kGrowthPart = 16;   // The small queue grows fast while it lacks more than this part of all.
constexpr std::uint32_t kFewEntries = 512;  // With fewer entries, chance looks like a loop.
constexpr std::uint32_t kLeastDrops = 64;   // Each queue counts at least so many drops, however few entries there are.

// One cell in kSampleStride is sampled for reads of the main queue, after as many drops. So a sweep takes one drop for
// each cell of the table. A small table has at least kLeastSamples samples, or all its cells.
constexpr std::uint32_t kSampleStride = 64;
constexpr std::uint32_t kLeastSamples = 16;
constexpr std::uint32_t kLeastPeriod = 4;  // Drops between two looks, however small the table is.

// Where nothing comes back, and fewer than one entry in so many was read before it left, the main queue takes what
// there is: in a loop, a part that stays is worth more than a whole that never stays.
constexpr std::uint64_t kReadPart = 16;
constexpr std::uint32_t kEvidencePart = 4;  // One entry in so many must have been dropped before that counts.
constexpr std::uint64_t kAllMarks = (1 << kEntriesPerCell) - 1;

}  // namespace

std::uint64_t Eviction::small_memory() const noexcept { return std::min(space().small_memory, space().used_memory); }

std::uint64_t Eviction::small_target() const noexcept {
  const std::uint64_t percent = space().used_memory / 100;  // Divided first: damage may have left any bytes there.
  return std::clamp(space().small_target, percent * kLeastSmall, percent * kMostSmall);
}

bool Eviction::small_has_all(std::uint64_t target) const noexcept {
  return target >= space().used_memory / 100 * kMostSmall;
}

void Eviction::reset() noexcept {
  ShardSpace& s = space();
  s.small_memory = 0;
  s.small_hand = s.main_hand = s.small_left = 0;
  s.small_drops = s.small_returns = s.main_drops = s.main_returns = s.small_read = s.main_debt = 0;
  s.asks.store(0, std::memory_order_relaxed);
  forget_reads();
}

void Eviction::forget_ghosts(std::uint32_t cell) noexcept {
  std::atomic<std::uint64_t>& word = Index::bucket(shard_, cell).eviction;
  word.store(word.load(std::memory_order_relaxed) & ~kGhosts, std::memory_order_relaxed);
}

void Eviction::forget_past() noexcept {
  ShardSpace& s = space();
  s.small_target = kAllForSmall;
  s.small_drops = s.small_returns = s.main_drops = s.main_returns = s.small_read = s.main_debt = 0;
  s.asks.store(0, std::memory_order_relaxed);
  forget_reads();
  // The free entries are in ascending order. What others have put meanwhile keeps its place before the hands.
  if (s.entries == 0) s.small_hand = s.main_hand = s.small_left = 0;
}

inline void Eviction::take_from_small(std::uint64_t bytes, Search* search) noexcept {
  space().small_target = search->small_target - std::min(search->small_target, bytes);
  search->small_target = small_target();
}

// Gives the main queue the room of an entry that leaves the small queue unread, where no dropped key is ever asked for.
// Where dropped keys are asked for although the small queue has all the room, the main queue gets all of it in one
// step: such keys come back only after more than the whole cache has passed.
inline void Eviction::shrink_small(std::uint64_t bytes, Search* search) noexcept {
  ShardSpace& s = space();
  if (s.small_drops < s.entries / kEvidencePart || s.small_read * kReadPart >= s.small_drops) return;
  if (!ghost_hits_significant()) {
    take_from_small(bytes, search);
  } else if (small_has_all(search->small_target) && s.entries >= kFewEntries) {
    s.small_target = 0;
    forget_drops();
  }
  search->small_target = small_target();
}

// ---- what goes ----

// The next marked entry from the hand of the small queue on, 0 if `search` has looked at enough. Some are of the main
// queue: its hand may stand still for long, so this hand also looks at entries that expire.
inline EntryId Eviction::next_marked(Search* search) noexcept {
  const std::uint32_t cells = index_->cells();
  std::uint32_t cell = space().small_hand / kSlotsPerCell;
  std::uint32_t first = std::max(space().small_hand % kSlotsPerCell, kBucketSlots) - kBucketSlots;
  if (cell >= cells) cell = first = 0;
  std::uint32_t looks = search->looks;
  while (looks < kLooks) {
    const std::uint64_t marks = Index::bucket(shard_, cell).eviction.load(std::memory_order_relaxed) >> kMarkShift &
                                (kAllMarks << first & kAllMarks);
    if (marks != 0) {
      search->looks = looks + 1;
      const EntryId id{cell * kSlotsPerCell + kBucketSlots + static_cast<std::uint32_t>(std::countr_zero(marks))};
      space().small_hand = id + 1;
      return id;
    }
    first = 0;
    do {
      if (++cell >= cells) cell = 0;
      looks += kEntriesPerCell;
    } while (Index::bucket(shard_, cell).eviction.load(std::memory_order_relaxed) <= kGhosts && looks < kLooks);
  }
  search->looks = kLooks;
  space().small_hand = cell * kSlotsPerCell;
  return EntryId{0};
}

// The hand of the main queue has reached a cell: the fingerprints in its bucket count as late from now on.
inline void Eviction::age_ghosts(std::uint32_t cell) noexcept {
  std::atomic<std::uint64_t>& word = Index::bucket(shard_, cell).eviction;
  const std::uint64_t before = word.load(std::memory_order_relaxed);
  if ((before & kRecentMask) != 0) word.store(before & ~kRecentMask, std::memory_order_relaxed);
}

// The next entry of the main queue from its hand on, 0 if `search` has looked at enough.
inline EntryId Eviction::next_of_main(Search* search) noexcept {
  EntryId id{space().main_hand};
  for (; search->looks < kLooks; ++id) {
    ++search->looks;
    id = Index::entry_at_or_after(id);
    if (!Index::names_entry(id, index_->cells())) id = EntryId{kBucketSlots};
    if (id % kSlotsPerCell == kBucketSlots) age_ghosts(id / kSlotsPerCell);
    if ((Index::entry_unchecked(shard_, id).policy.load(std::memory_order_relaxed) & kMain) == 0) continue;
    space().main_hand = id + 1;
    return id;
  }
  space().main_hand = id;
  return EntryId{0};
}

[[gnu::always_inline]] inline FoundEntry Eviction::look_at(EntryId id) const {
  FoundEntry found{.entry = &Index::entry_unchecked(shard_, id), .ref = {}, .id = id, .block = {}};
  found.ref = EntryRef{found.entry->ref.load(std::memory_order_relaxed)};
  if (!ref_is_live(found.ref) || !check_block(arena_->backing(), found.position(), &found.block)) {
    throw CorruptionDetected{"an entry without a block in a queue"};
  }
  return found;
}

// The next entry of the small queue, if it must go. None if it moved to the main queue or is pinned.
[[gnu::always_inline]] inline FoundEntry Eviction::evict_from_small(Search* search) {
  const EntryId id = next_marked(search);
  if (id == 0) return {};
  std::atomic<std::uint32_t>& word = Index::entry_unchecked(shard_, id).policy;
  const std::uint32_t policy = word.load(std::memory_order_relaxed);
  if ((policy & kYoung) != 0 && search->moves < kMoves) {
    ++search->moves;
    word.store(policy & ~kYoung, std::memory_order_relaxed);
    return {};
  }
  if ((policy & kSmall) == 0) {
    if ((policy & kExpires) == 0) {
      std::atomic<std::uint64_t>& marks = Index::bucket(shard_, id / kSlotsPerCell).eviction;
      marks.store(marks.load(std::memory_order_relaxed) & ~mark_of(id), std::memory_order_relaxed);
      return {};
    }
    // An entry of the main queue. Its block costs one more cache line: one for each search is enough.
    if (search->looked_at_expiry) return {};
    search->looked_at_expiry = true;
  }
  const FoundEntry found = look_at(id);
  if (pins_->is_block_pinned(found.ref)) return {};
  if ((policy & kExpires) != 0 && tags_->is_over(arena_->backing(), found.block, search->now_ms)) return found;
  if ((policy & kSmall) == 0) return {};
  if (!is_kept(policy, found.block.stored_size, search)) return drop(found, policy);
  ++search->moves;
  word.store((policy & ~(kSmall | kYoung | kHits)) | kMain, std::memory_order_relaxed);
  count_out(policy, found.block.stored_size);
  return {};
}

// Whether an entry that leaves the small queue goes to the main queue.
[[gnu::always_inline]] inline bool Eviction::is_kept(std::uint32_t policy, std::uint64_t bytes,
                                                     Search* search) noexcept {
  if (search->moves >= kMoves) return false;
  const std::uint32_t hits = policy & kHits;
  if (hits != 0) {
    ++space().small_read;
    if (search->small_target <= space().used_memory / kLongPart) return true;
    // An entry that was read often takes its room to the main queue, until the drops of that queue show their worth.
    if (hits == kHits && space().main_drops < kLeastDrops) take_from_small(bytes, search);
    if (hits > 1) return true;
  } else if (search->moves == 0) {
    shrink_small(bytes, search);
  }
  // The main queue is filled before anything is dropped, and keeps what it has: that is what helps in a loop.
  if (search->moves < kFillMoves && small_memory() >= search->small_target + bytes) return true;
  // A main queue with a hundredth of the room shows nothing.
  if (small_has_all(search->small_target)) return false;
  const std::uint32_t left = ++space().small_left;
  const std::uint32_t stride = std::bit_floor(std::clamp(index_->cells() / kLeastSamples, 1U, kSampleStride));
  const std::uint32_t period = std::max(stride, kLeastPeriod);
  if (left % period == 0) {
    probe_main(left / period, stride);
    search->small_target = small_target();
  }
  return left % (small_drops_return() ? kOneIn : kOneInOfALoop) == 0 && main_head_is_cold();
}

// Whether the next entry of the main queue has no hits. It goes when the small queue has its part.
bool Eviction::main_head_is_cold() noexcept {
  Search search{.looks = kLooks - kSpares};
  const EntryId id = next_of_main(&search);
  if (id == 0) return true;
  std::atomic<std::uint32_t>& word = Index::entry_unchecked(shard_, id).policy;
  const std::uint32_t policy = word.load(std::memory_order_relaxed);
  if ((policy & kHits) == 0) {
    space().main_hand = id;
    return true;
  }
  // Where nothing else takes hits from the main queue, all its entries would keep theirs for ever.
  if (!small_drops_return()) word.store(policy - 1, std::memory_order_relaxed);
  return false;
}

// The next entry of the main queue without hits. Entries with hits go round again with one hit less.
FoundEntry Eviction::evict_from_main(Search* search) {
  FoundEntry coldest;
  std::uint32_t fewest = kHits + 1;
  const bool is_stale = space().main_is_stale != 0;
  for (std::uint32_t spared = 0; spared < kSpares;) {
    const EntryId id = next_of_main(search);
    if (id == 0) break;
    Entry& entry = Index::entry_unchecked(shard_, id);
    const std::uint32_t policy = entry.policy.load(std::memory_order_relaxed);
    const std::uint32_t hits = is_stale ? 0 : policy & kHits;
    if (hits != 0) {
      ++spared;
      entry.policy.store(policy - 1, std::memory_order_relaxed);
      if (hits >= fewest && (policy & kExpires) == 0) continue;
    }
    const FoundEntry found = look_at(id);
    if (pins_->is_block_pinned(found.ref)) continue;
    if ((policy & kExpires) != 0 && tags_->is_over(arena_->backing(), found.block, search->now_ms)) return found;
    if (hits == 0) {
      coldest = found;
      break;
    }
    if (hits < fewest) {
      fewest = hits;
      coldest = found;
    }
  }
  if (coldest.id == 0) return coldest;
  // While the small queue grows fast, its new entries take the places that this hand frees. The oldest of them are
  // those that this hand meets next.
  if (small_memory() + space().used_memory / kGrowthPart < search->small_target) {
    space().small_hand = coldest.id + 1;
  } else {
    space().main_is_stale = 0;
  }
  // An entry that nobody read leaves no fingerprint, so those of the small queue's drops stay.
  return is_stale ? coldest : drop(coldest, kMain);
}

// Remembers the key of an entry that is evicted before it expires.
[[gnu::always_inline]] inline const FoundEntry& Eviction::drop(const FoundEntry& found, std::uint32_t policy) noexcept {
  const bool from_main = (policy & kMain) != 0;
  const std::uint32_t hash = found.entry->hash.load(std::memory_order_relaxed);
  const std::uint16_t tag = policy_tag(found.entry->policy.load(std::memory_order_relaxed));
  ShardSpace& s = space();
  const bool is_sparse = remembers_half();
  const auto turn = static_cast<std::uint32_t>(std::uint64_t{s.small_left} >> std::bit_width(s.entries));
  if (from_main || !is_sparse || is_in_half(tag, turn)) {
    std::atomic<std::uint64_t>& word = Index::bucket(shard_, Index::bucket_of(hash, index_->cells())).eviction;
    const std::uint64_t before = word.load(std::memory_order_relaxed) & ~kSparse;
    word.store(with_ghost(before | (is_sparse ? kSparse : 0), ghost_of(tag) | (from_main ? 1 : 0)),
               std::memory_order_relaxed);
  }

  if (from_main) {
    if (++s.main_drops < s.entries / 4 + kLeastDrops) return found;
    for (std::uint32_t* count : {&s.main_drops, &s.main_returns}) *count /= 2;
  } else {
    if (++s.small_drops < std::uint64_t{2} * s.entries + kLeastDrops) return found;
    for (std::uint32_t* count : {&s.small_drops, &s.small_returns, &s.small_read}) *count /= 2;
  }
  return found;
}

// Whether the next victim comes from the main queue, to pay a debt that settle_asks() counted.
inline bool Eviction::main_pays() noexcept {
  ShardSpace& s = space();
  if (s.main_debt == 0) [[likely]]
    return false;
  s.main_debt = small_memory() < s.used_memory ? s.main_debt - 1 : 0;
  return small_memory() < s.used_memory;
}

[[gnu::flatten]] FoundEntry Eviction::choose_victim(std::uint64_t newcomer_bytes, std::uint64_t now_ms) {
  const bool pays = main_pays();  // First: a put that follows its get takes back the debt of that get.
  settle_asks();
  Search search{.now_ms = now_ms, .small_target = small_target()};
  if (pays) {
    if (const FoundEntry victim = evict_from_main(&search); victim.id != 0) return victim;
    search.looks = 0;
  }
  // The newcomer counts, less half a block: so the small queue comes as near to its target as few large blocks allow.
  // Otherwise rounding could keep the small queue below its target for ever, to the gain of the main queue.
  const std::uint64_t half_block = space().used_memory / std::max(space().entries, 1U) / 2;
  const std::uint64_t newcomer = newcomer_bytes - std::min(newcomer_bytes, half_block);
  while (small_memory() != 0 && small_memory() + newcomer > search.small_target && search.looks < kLooks) {
    if (const FoundEntry victim = evict_from_small(&search); victim.id != 0) return victim;
  }
  search.looks = 0;
  if (const FoundEntry victim = evict_from_main(&search); victim.id != 0) return victim;
  // The main queue has nothing that can go: take anything that can go from the small one.
  search.looks = 0;
  search.moves = kMoves;
  while (search.looks < kLooks) {
    if (const FoundEntry victim = evict_from_small(&search); victim.id != 0) return victim;
  }
  return {};
}

}  // namespace memstream
