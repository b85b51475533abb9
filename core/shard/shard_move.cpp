// Giving entries to the segment that takes the place of this one, and taking them there: docs/decisions/0025.
#include <algorithm>
#include <bit>

#include "core/shard/shard_operation.h"

namespace memstream {
namespace {

constexpr std::uint32_t kMoveStretch = 16384;  // Entry numbers looked at in one hold of the lock.

// Changes with each write of the entry, also with a touch, which changes the expiry alone. Never 0 of a live entry.
std::uint64_t stamp_of(std::uint64_t ref, std::uint64_t expires_ms) noexcept {
  return (ref & ~kPinnedHint) ^ expires_ms * 0x9e37'79b9'7f4a'7c15ULL;
}

// The hottest have the lowest: what eviction gives up last.
std::uint64_t order_of(std::uint32_t policy, std::uint64_t last_access_ms) noexcept {
  const std::uint64_t hits = std::min(policy & kHits, 2U);
  const std::uint64_t chances = 2 * hits + ((policy & kMain) != 0 ? 1 : 0);
  return (5 - chances) << 56 | (~last_access_ms & 0xff'ffff'ffff'ffff);
}

}  // namespace

Status Shard::hold(const Deadline& deadline) noexcept {
  for (bool is_repaired = false;; is_repaired = true) {
    if (const Status status = lock_.lock(deadline); status != Status::kOk) return status;
    lock_.assert_held();
    try {
      contents_.require_valid_bounds();
      return Status::kOk;
    } catch (const CorruptionDetected&) {
      lock_.unlock();
      if (is_repaired) break;
    }
    const Status repaired = write(Exclusion::kEverybody, deadline, [&]() MEMSTREAM_NEEDS_W { return Status::kOk; });
    if (repaired != Status::kOk) return repaired;
  }
  return fail(Status::kCorrupt, "A shard is damaged. Run memstream check --repair, and try again.");
}

void Shard::let_go(bool superseded) noexcept {
  lock_.assert_held();
  if (superseded) lock_.request_recovery();
  lock_.unlock();
}

void Shard::rank(std::uint32_t* next, std::vector<RankedEntry>* ranked) const {
  const std::uint32_t end = header_->cells.load(std::memory_order_relaxed) * kSlotsPerCell;
  EntryId id{*next};
  for (const std::uint32_t stop = std::min(end, id + kMoveStretch); id < stop; ++id) {
    if (!Index::names_entry(id, end / kSlotsPerCell)) continue;
    const Entry& entry = Index::entry_unchecked(header_, id);
    const std::uint64_t ref = entry.ref.load(std::memory_order_relaxed);
    CheckedBlock block;
    if (!ref_is_live(ref) || !check_block(backing(), ref_block(ref), &block)) continue;
    ranked->push_back(
        {order_of(entry.policy.load(std::memory_order_relaxed), entry.last_access_ms.load(std::memory_order_relaxed)),
         block.stored_size, number_, id});
  }
  *next = id < end ? id : 0;
}

void Shard::take(EntryId id, TakenEntries& taken, MovingBatch* batch) const {
  const std::uint32_t cells = header_->cells.load(std::memory_order_relaxed);
  if (id >= taken.entries.size()) taken.entries.resize(std::size_t{cells} * kSlotsPerCell);
  if (!Index::names_entry(id, cells)) return;
  TakenEntries::Taken& was = taken.entries[id];
  const Entry& entry = Index::entry_unchecked(header_, id);
  const std::uint64_t ref = entry.ref.load(std::memory_order_relaxed);
  const std::uint32_t policy = entry.policy.load(std::memory_order_relaxed);
  CheckedBlock block;
  const bool is_live = ref_is_live(ref) && was.stamp != stamp_of(ref, 0)
                           ? check_block(backing(), ref_block(ref), &block)
                           : ref_is_live(ref);
  std::uint64_t expires_ms = 0;
  if (is_live && (policy & kExpires) != 0 && block.header == nullptr) {
    if (!check_block(backing(), ref_block(ref), &block)) return;
  }
  if (block.header != nullptr) expires_ms = block.expires_ms();
  // The successor counts invalidations for itself, so entries with tags stay behind.
  const bool goes = is_live && (expires_ms & kHasTags) == 0;
  const std::uint64_t stamp = goes ? stamp_of(ref, expires_ms) : 0;
  if (stamp == was.stamp) return;
  std::uint64_t hash = 0;
  if (goes) {
    hash = hash_key(block.key_text(), hash_seed_).value;
    const MovingEntry moving{.hash = hash,
                             .begin = batch->bytes.size(),
                             .value_size = block.value_size,
                             .expires_ms = expires_ms,
                             .created_ms = block.created_ms(),
                             .caller_flags = block.caller_flags(),
                             .last_access_ms = entry.last_access_ms.load(std::memory_order_relaxed),
                             .access_count = entry.access_count.load(std::memory_order_relaxed),
                             .hits = policy & kHits,
                             .key_size = block.key_size};
    batch->gone.reserve(batch->gone.size() + 1);
    batch->bytes.resize(moving.begin + block.key_size + block.value_size);
    batch->entries.push_back(moving);
    std::byte* const bytes = batch->bytes.data() + moving.begin;
    copy_from_shared(bytes, block.key(), block.key_size);
    copy_from_shared(bytes + block.key_size, block.value, block.value_size);
  }
  if (was.hash != 0 && was.hash != hash) batch->gone.push_back(was.hash);
  was = {stamp, hash};
}

void Shard::take_changed(std::uint32_t* next, TakenEntries& taken, MovingBatch* batch) const {
  // A table that has shrunk since has fewer; those that were behind are looked at as entries that are not there.
  const std::uint32_t end = std::max(header_->cells.load(std::memory_order_relaxed) * kSlotsPerCell,
                                     static_cast<std::uint32_t>(taken.entries.size()));
  const std::uint32_t cells = header_->cells.load(std::memory_order_relaxed);
  EntryId id{*next};
  for (std::uint32_t looked = 0; id < end && looked < kMoveStretch && !batch->has_enough(); ++id, ++looked) {
    if (id < cells * kSlotsPerCell) {
      take(id, taken, batch);
    } else if (taken.entries[id].hash != 0) {
      batch->gone.push_back(taken.entries[id].hash);
      taken.entries[id] = {};
    }
  }
  *next = id < end ? id : 0;
}

bool Shard::has_key(const Key& key) const noexcept {
  lock_.assert_held();
  try {
    const FoundEntry found = contents_.find(key);
    return found.id != 0 && (found.block.expires_ms() & kHasTags) == 0;
  } catch (const CorruptionDetected&) {
    return false;
  }
}

std::string Shard::find_hash(KeyHash hash, const Deadline& deadline) {
  std::string key;
  if (hold(deadline) != Status::kOk) return key;
  const std::uint32_t cells = header_->cells.load(std::memory_order_relaxed);
  const Bucket& bucket = Index::bucket(header_, Index::bucket_of(hash.bucket_bits(), cells));
  const auto look = [&](EntryId id) {
    const Entry& entry = Index::entry_unchecked(header_, id);
    const std::uint64_t ref = entry.ref.load(std::memory_order_relaxed);
    CheckedBlock block;
    if (entry.hash.load(std::memory_order_relaxed) != hash.bucket_bits() || !ref_is_live(ref) ||
        !check_block(backing(), ref_block(ref), &block) || hash_key(block.key_text(), hash_seed_).value != hash.value) {
      return false;
    }
    key = block.key_text();
    return true;
  };
  try {
    bool is_found = false;
    Index::InSlots in_slots(bucket, hash.tag(), cells);
    for (EntryId id = in_slots.next(); id != 0 && !is_found; id = in_slots.next()) is_found = look(id);
    Index::InChain in_chain(header_, bucket, cells);
    for (EntryId id = in_chain.next(); id != 0 && !is_found; id = in_chain.next()) is_found = look(id);
  } catch (...) {
    let_go(false);
    throw;
  }
  let_go(false);
  return key;
}

Status Shard::put_moved(const Key& key, const MovingEntry& entry, const std::byte* value,
                        const Deadline& deadline) noexcept {
  const StoreRequest request{.key = key,
                             .value = value,
                             .value_size = entry.value_size,
                             .expires_ms = entry.expires_ms,
                             .caller_flags = entry.caller_flags};
  if (const Status status = check_size(request); status != Status::kOk) return status;
  return write(Exclusion::kWriters, deadline, [&]() MEMSTREAM_NEEDS_W {
    table_shrinker_.fit(request);
    const Status status = store_in_new_block(request, contents_.find(key), entry.created_ms);
    if (status != Status::kOk) return status;
    const FoundEntry stored = contents_.find(key);
    if (stored.id == 0) throw CorruptionDetected{"an entry that was stored and is not there"};
    stored.entry->last_access_ms.store(entry.last_access_ms, std::memory_order_relaxed);
    stored.entry->access_count.store(entry.access_count, std::memory_order_relaxed);
    stored.entry->policy.fetch_or(entry.hits, std::memory_order_relaxed);
    return status;
  });
}

}  // namespace memstream
