// A number for what stands under a key, so that a look at several keys can tell that none of them changed meanwhile:
// docs/decisions/0032.
#include <atomic>

#include "core/shard/shard_lookup.h"

namespace memstream {
namespace {

// Another part of a stamp. One that differs makes another stamp; two that do may cancel out in one case of 2^64.
std::uint64_t fold(std::uint64_t stamp, std::uint64_t part) noexcept {
  stamp = (stamp ^ part) * 0x9e37'79b9'7f4a'7c15ULL;
  return stamp ^ stamp >> 32;
}

}  // namespace

// Of the bucket, and of the ref of each entry in it that may have the key. All of these only grow, or never return to a
// value that they had. kUnsettledStamp while they change.
std::uint64_t Shard::stamp_of_index(const Key& key) const noexcept {
  Probe probe;
  if (!probe_start<true>(key, &probe)) return kUnsettledStamp;
  probe_bucket<LineUse::kRead>(key, &probe);
  if ((probe.version & 1) != 0) return kUnsettledStamp;
  std::uint64_t stamp = fold(fold(fold(1, probe.seq), probe.cells), probe.version);
  const auto take = [&](EntryId id) {
    const Entry& entry = Index::entry_unchecked(header_, id);
    if (entry.hash.load(std::memory_order_acquire) != key.hash.bucket_bits()) return;
    stamp = fold(fold(stamp, id), entry.ref.load(std::memory_order_acquire) & ~kPinnedHint);
  };
  for (EntryId id{probe.first_id}; id != 0; id = probe.in_slots.next()) take(id);
  Index::InChain in_chain(header_, *probe.bucket, probe.cells);
  for (EntryId id = in_chain.next(); id != 0; id = in_chain.next()) take(id);
  return stamp;
}

Status Shard::stamp(const Key& key, const OpContext& context, std::uint64_t* stamp) noexcept {
  std::atomic_thread_fence(std::memory_order_acquire);  // What was read before this call was read before the stamp.
  const std::uint64_t of_index = stamp_of_index(key);
  // The time of an entry ends without a change of the index. What is unsettled for good, this look repairs.
  const Status status = inspect(key, context, {});
  if (status != Status::kOk && status != Status::kMiss) return status;
  *stamp = of_index == kUnsettledStamp ? kUnsettledStamp : fold(of_index, status == Status::kOk ? 1 : 0);
  return Status::kOk;
}

}  // namespace memstream
