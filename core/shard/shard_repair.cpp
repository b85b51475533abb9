// Putting a shard right on demand: what a writer does when it meets damage, without waiting for one that does.
#include "core/shard/shard_operation.h"

namespace memstream {

Status Shard::repair(const Deadline& deadline, RepairReport* report) {
  std::vector<std::string> problems;
  if (const Status status = check(deadline, &problems); status != Status::kOk) return status;
  report->problems += problems.size();
  if (const Status status = lock_.lock(deadline); status != Status::kOk) return status;
  lock_.assert_held();
  if (const Status status = lock_.exclude_readers(deadline); status != Status::kOk) {
    lock_.unlock();
    return status;
  }
  const std::uint64_t damaged_before = header_->counters.damaged;
  rebuilder_.begin();
  try {
    rebuilder_.rebuild();
    report->dropped_entries += header_->counters.damaged - damaged_before;
    if (geometry_.has_checksums()) report->damaged_values += remove_damaged_values();
  } catch (const CorruptionDetected&) {
    ++header_->counters.damaged;
    ++report->emptied_shards;
    rebuilder_.empty();
  }
  rebuilder_.end();
  report->entries += header_->space.entries;
  lock_.let_readers_in();
  lock_.unlock();
  return Status::kOk;
}

std::uint64_t Shard::remove_damaged_values() {
  std::uint64_t removed = 0;
  for (EntryId id = Index::entry_at_or_after(EntryId{0}); Index::names_entry(id, index_.cells());
       id = Index::entry_at_or_after(EntryId{id + 1})) {
    if (!ref_is_live(index_.entry(id).ref.load(std::memory_order_relaxed))) continue;
    const FoundEntry found = contents_.live_entry(id);
    const std::string_view bytes = found.block.key_text();
    if (contents_.is_whole({bytes, hash_key(bytes, hash_seed_)}, found.block)) continue;
    remove_damaged(found);
    ++removed;
  }
  return removed;
}

}  // namespace memstream
