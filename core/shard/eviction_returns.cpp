// What a shard remembers of dropped keys, how many of them come back, and how that moves the border between the queues.
#include <algorithm>

#include "core/shard/eviction.h"
#include "core/shard/eviction_shares.h"

namespace memstream {
namespace {

// Five fingerprints of nine bits: one new key in a hundred meets one by chance. Returns count as more than chance from
// two and a half times as many on, one for each kDropsForAReturn drops.
constexpr std::uint64_t kDropsForAReturn = 40;
constexpr std::uint64_t kChanceReturns = 5;  // So many returns never count: few drops say little.
constexpr std::uint64_t kPriorDrops = 16;
// If fewer than one in so many drops of the small queue come back, fingerprints must reach further.
constexpr std::uint64_t kFewReturnsPart = 25;
constexpr std::uint32_t kFewReturnsEvidencePart = 4;  // Once one entry in so many was dropped.
// The small queue grows only if its drops return more often than those of the main queue, by more than this part.
// Otherwise chance would fill it where both are worth the same.
constexpr std::uint64_t kChancePart = 8;
// How far one return moves the border, in blocks of average size: the ratio of the returns of the two queues. It is at
// most kMostTimes, and one more than the entries divided by kMostTimesPart.
constexpr std::uint64_t kMostTimes = 16;
constexpr std::uint64_t kMostTimesPart = 64;

// Gets of dropped keys that one search for a victim takes into account, for each queue.
constexpr std::uint32_t kMostAsks = 64;
constexpr std::uint64_t kMainAsk = std::uint64_t{1} << 32;

}  // namespace

// Most free entries lie behind the hand that freed them. One that lies close before the hand of the small queue would
// have no time there.
inline std::uint32_t Eviction::enter_small(EntryId id) const noexcept {
  const std::uint32_t end = index_->cells() * kSlotsPerCell;
  return space().small_hand != 0 && ahead_of_hand(id, end) < end / 2 ? kSmall | kYoung : kSmall;
}

std::uint32_t Eviction::admit(KeyHash hash, EntryId id) noexcept {
  Bucket& bucket = Index::bucket(shard_, Index::bucket_of(hash.bucket_bits(), index_->cells()));
  const std::uint64_t word = bucket.eviction.load(std::memory_order_relaxed);
  const std::uint32_t shift = find_ghost(word, hash.tag());
  if (shift == kAskedShift) [[likely]]
    return enter_small(id);
  const bool from_main = (word >> shift & 1) != 0;
  bucket.eviction.store(without_ghost(word, shift), std::memory_order_relaxed);

  ShardSpace& s = space();
  const bool was_asked = (word & kAskedMask) == asked_bits(shift);
  // The key makes room for itself in the queue that it enters, which pays the debt of its get.
  if (was_asked && !from_main && s.main_debt != 0) --s.main_debt;
  const bool counts = is_evidence(word, shift, hash.tag()) && !was_asked;
  if (counts) ++(from_main ? s.main_returns : s.small_returns);
  if (!ghost_hits_significant()) return enter_small(id);
  if (counts) adapt_target(1);
  // A key that the main queue dropped does not go straight back: in a loop it would push out the key that is asked for
  // next. Nor does a key that returns after more than a round of a main queue with most of the room: all entries there
  // are asked for sooner.
  const bool is_late = !is_recent_ghost(word, shift) && small_target() <= s.used_memory / kLongPart;
  return from_main || is_late ? enter_small(id) : kMain;
}

// Another thread may change the word meanwhile, and a writer may miss this change. Then a get is counted twice, or not
// at all.
void Eviction::note_miss(ShardHeader* shard, Bucket& bucket, std::uint16_t tag) noexcept {
  std::uint64_t word = bucket.eviction.load(std::memory_order_relaxed);
  const std::uint32_t shift = find_ghost(word, tag);
  if (shift == kAskedShift || !is_evidence(word, shift, tag)) [[likely]]
    return;
  const std::uint64_t asked = (word & ~kAskedMask) | asked_bits(shift);
  if (asked == word || !bucket.eviction.compare_exchange_strong(word, asked, std::memory_order_relaxed)) return;
  shard->space.asks.fetch_add((word >> shift & 1) != 0 ? kMainAsk : 1, std::memory_order_relaxed);
}

// Does what admit() does for keys that are stored again. Nobody has stored these, but the main queue must also show how
// many of its drops come back. So it gives up one entry for each of them.
void Eviction::settle_asks() noexcept {
  ShardSpace& s = space();
  if (s.asks.load(std::memory_order_relaxed) == 0) [[likely]]
    return;
  const std::uint64_t asks = s.asks.exchange(0, std::memory_order_relaxed);
  const std::uint32_t of_small = std::min(static_cast<std::uint32_t>(asks), kMostAsks);
  const std::uint32_t of_main = std::min(static_cast<std::uint32_t>(asks >> 32), kMostAsks);
  s.small_returns += of_small;
  s.main_returns += of_main;
  if (!ghost_hits_significant()) return;
  adapt_target(of_small + of_main);
  if (!small_has_all(small_target())) s.main_debt = std::min(s.main_debt, s.entries) + of_small;
}

// Whether more dropped keys come back than fingerprints match by chance.
bool Eviction::ghost_hits_significant() const noexcept {
  const ShardSpace& s = space();
  return (std::uint64_t{s.small_returns} + s.main_returns) * kDropsForAReturn >
         std::uint64_t{s.small_drops} + s.main_drops + kChanceReturns * kDropsForAReturn;
}

// The same for the small queue alone: whether a longer one might help.
bool Eviction::small_drops_return() const noexcept {
  const ShardSpace& s = space();
  return std::uint64_t{s.small_returns} * kDropsForAReturn >
         std::uint64_t{s.small_drops} + kChanceReturns * kDropsForAReturn;
}

// Whether only half of the keys that the small queue drops leave a fingerprint. Where few of them come back, although
// the queue could be longer, they may come back later than the fingerprints reach.
bool Eviction::remembers_half() const noexcept {
  const ShardSpace& s = space();
  return s.small_drops > s.entries / kFewReturnsEvidencePart &&
         std::uint64_t{s.small_returns} * kFewReturnsPart < s.small_drops && !small_has_all(s.small_target);
}

// Gives room to the queue whose drops return more often: the larger the difference, the more room.
void Eviction::adapt_target(std::uint64_t returns) noexcept {
  ShardSpace& s = space();
  // Returns per drop of each queue, times a common factor. With few drops a single return is chance.
  const std::uint64_t small = std::uint64_t{s.small_returns} * (std::uint64_t{s.main_drops} + kPriorDrops);
  const std::uint64_t main = std::uint64_t{s.main_returns} * (std::uint64_t{s.small_drops} + kPriorDrops);
  const auto step = [&](std::uint64_t more, std::uint64_t less) {
    const std::uint64_t block = s.used_memory / std::max(s.entries, 1U);
    const std::uint64_t most = std::min(kMostTimes, s.entries / kMostTimesPart + 1);
    const std::uint64_t times = std::clamp<std::uint64_t>(more / std::max<std::uint64_t>(less, 1), 1, most);
    return returns * block * times;
  };
  const std::uint64_t target = small_target();
  if (small > main + main / kChancePart) {
    s.small_target = target + step(small, main);
    // Keys dropped while the queue was shorter say nothing about a queue that has all the room.
    if (!small_has_all(target) && small_has_all(s.small_target)) forget_drops();
  } else if (small <= main) {
    s.small_target = target - std::min(target, step(main, small));
  }
}

void Eviction::forget_drops() noexcept {
  ShardSpace& s = space();
  s.small_drops = s.small_returns = s.small_read = s.main_drops = s.main_returns = 0;
}

}  // namespace memstream
