// Finding an entry with W held, when nothing moves: inline, since every write begins with it.
#pragma once

#include "core/shard/shard_lookup.h"

namespace memstream {

// Whether the bucket of the key is still the one that `probe` saw before W was locked. The same version means the same
// slots, as it does for a reader without a lock.
[[gnu::always_inline]] inline bool Shard::stands(const Probe& probe) const noexcept {
  return probe.bucket != nullptr && header_->seq.load(std::memory_order_relaxed) == probe.seq &&
         header_->cells.load(std::memory_order_relaxed) == probe.cells && (probe.version & 1) == 0 &&
         probe.bucket->version.load(std::memory_order_relaxed) == probe.version;
}

// Whether a found entry can be used: it has no expiry, as most, or has not expired yet. False for every entry with
// tags.
[[gnu::always_inline]] inline bool is_fresh(const FoundEntry& found, std::uint64_t now_ms) noexcept {
  if (!found.block.has_extras()) [[likely]]
    return true;
  return !may_be_over(extras_of(*found.block.header).expires_ms.load(std::memory_order_relaxed), now_ms);
}

// Whether the first entry whose tag fits has the key, in a plain block of which this process knows the memory.
[[gnu::always_inline]] inline bool Shard::find_first(const Key& key, const Probe& probe,
                                                     FoundEntry* found) const noexcept {
  const EntryId id = probe.first_id;
  if (id == 0) return false;
  if (!stands(probe)) [[unlikely]]
    return false;
  Entry& entry = Index::entry_unchecked(header_, id);
  const std::uint64_t ref = entry.ref.load(std::memory_order_relaxed);
  if (entry.hash.load(std::memory_order_relaxed) != key.hash.bucket_bits() || !ref_is_live(ref)) [[unlikely]]
    return false;
  found->entry = &entry;
  found->ref = EntryRef{ref};
  found->id = id;
  if (!check_plain_block<false>(backing(), ref_block(ref), key.bytes.size(), &found->block)) [[unlikely]]
    return false;
  if (found->block.stored_size > Backing::kStretchSize) [[unlikely]]
    return false;
  return __builtin_expect(equal_in_shared(found->block.key(), key.bytes.data(), key.bytes.size()), true);
}

// As ShardContents::find(), with the results of a look before W was locked. That function handles damage and all that
// is rare.
[[gnu::always_inline]] inline FoundEntry Shard::find_probed(const Key& key, const Probe& probe) const {
  FoundEntry first;
  if (find_first(key, probe, &first)) [[likely]]
    return first;
  // A key that the probe did not find is still absent.
  if (probe.first_id == 0 && stands(probe) && probe.bucket->overflow.load(std::memory_order_relaxed) == 0) return {};
  return contents_.find(key);
}

// As find_probed(), but an expired entry is removed and not found.
[[gnu::always_inline]] inline FoundEntry Shard::find_fresh_probed(const Key& key, const Probe& probe,
                                                                  std::uint64_t now_ms) {
  FoundEntry found = find_probed(key, probe);
  if (found.id != 0 && !is_fresh(found, now_ms)) [[unlikely]] {
    if (!tags_.is_over(backing(), found.block, now_ms)) return found;
    remove_expired(found);
    found = {};
  }
  return found;
}

}  // namespace memstream
