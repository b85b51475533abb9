// Finds out whether the main queue is still read. Its hand may stand still for long, so nothing else would show it.
#include <algorithm>

#include "core/shard/eviction.h"
#include "core/shard/eviction_shares.h"

namespace memstream {
namespace {

constexpr std::uint32_t kLeastLooks = 32;  // Fewer looks say too little: the sweep goes on.
// A main queue is in use if one entry in kReadOneIn is read in a sweep. It is idle if fewer than one in kIdleOneIn are.
constexpr std::uint64_t kReadOneIn = 16;
constexpr std::uint64_t kIdleOneIn = 64;
constexpr std::uint32_t kMostSweeps = 1 << 16;  // Idle sweeps are counted up to here.
constexpr std::uint64_t kMissingReads = 24;     // So many are not missing by chance.

}  // namespace

// Counts the entries that were read since the last sweep looked at them, and takes hits away so that the next sweep can
// tell. An entry keeps two hits, marked by kYoung, or none.
void Eviction::probe_main(std::uint32_t turn, std::uint32_t stride) noexcept {
  ShardSpace& s = space();
  const std::uint32_t samples = std::max(index_->cells() / stride, 1U);
  const std::uint32_t sample = turn % samples;
  const EntryId first{sample * stride * kSlotsPerCell + kBucketSlots};
  for (EntryId id = first; id < first + kEntriesPerCell; ++id) {
    std::atomic<std::uint32_t>& word = Index::entry_unchecked(shard_, id).policy;
    const std::uint32_t policy = word.load(std::memory_order_relaxed);
    if ((policy & kMain) == 0) continue;
    const std::uint32_t hits = policy & kHits;
    ++s.main_looks;
    s.main_reads += hits > ((policy & kYoung) != 0 ? 2U : 0U) ? 1 : 0;
    const std::uint32_t next = (policy & ~(kHits | kYoung)) | (hits >= 2 ? 2 | kYoung : 0);
    if (next != policy) word.store(next, std::memory_order_relaxed);
  }
  if (sample + 1 == samples && s.main_looks >= kLeastLooks) end_sweep();
}

// Gives all the room to the small queue if the main queue is no longer read, while dropped keys of the small queue are
// asked for. A loop is not mistaken for that: it returns to the main queue after about the same time in each round.
void Eviction::end_sweep() noexcept {
  ShardSpace& s = space();
  const std::uint64_t looks = s.main_looks;
  const std::uint64_t reads = s.main_reads;
  s.main_looks = s.main_reads = 0;
  if (small_target() > s.used_memory / kLongPart) {
    s.idle_sweeps = 0;
    return;
  }
  const std::uint32_t idle = std::min(s.idle_sweeps, kMostSweeps) + 1;
  if (reads * kIdleOneIn > looks) {
    if (s.most_idle_sweeps != 0 || reads * kReadOneIn > looks) s.most_idle_sweeps = std::max(s.most_idle_sweeps, idle);
    s.usual_reads = static_cast<std::uint32_t>((std::uint64_t{s.usual_reads} * 3 + reads) / 4);
    s.idle_sweeps = 0;
    return;
  }
  s.idle_sweeps = idle;
  if (std::uint64_t{s.usual_reads} * idle < kMissingReads) return;
  if (s.most_idle_sweeps == 0 || idle + 1 < std::uint64_t{2} * s.most_idle_sweeps || !small_drops_return()) return;
  forget_reads();
  forget_drops();
  s.small_target = kAllForSmall;
  s.main_is_stale = 1;
}

void Eviction::forget_reads() noexcept {
  ShardSpace& s = space();
  s.main_looks = s.main_reads = s.usual_reads = s.main_is_stale = 0;
  s.idle_sweeps = s.most_idle_sweeps = 0;
}

}  // namespace memstream
