// Many keys of one shard: one hold of the lock for several writes, and cache lines asked for before they are needed.
#include "core/shard.h"

namespace memstream {

// Runs `operation(item)` for every item in one hold of the lock. After damage was repaired it goes on with the item
// that met it: those before it are done.
template <class Operation>
void Shard::write_many(BatchOrder order, Status* statuses, const Deadline& deadline, Operation operation) noexcept {
  std::size_t next = 0;
  const Status status = write(Exclusion::kEverybody, deadline, [&] {
    for (; next < order.size(); ++next) statuses[order[next]] = operation(order[next]);
    return Status::kOk;
  });
  // No lock, or a shard that had to be emptied: what is left was not done.
  for (; next < order.size(); ++next) statuses[order[next]] = status;
}

void Shard::store_many(const StoreRequest* requests, BatchOrder order, Status* statuses, const Deadline& deadline,
                       std::uint64_t now_ms) noexcept {
  write_many(order, statuses, deadline, [&](std::uint8_t item) {
    if (const Status status = check_size(requests[item]); status != Status::kOk) return status;
    return store_if_admitted(requests[item], now_ms);
  });
}

void Shard::remove_many(const Key* keys, BatchOrder order, Status* statuses, const Deadline& deadline,
                        std::uint64_t now_ms) noexcept {
  write_many(order, statuses, deadline, [&](std::uint8_t item) { return remove_key(keys[item], now_ms); });
}

void Shard::prefetch_bucket(const Key& key) const noexcept {
  const std::uint32_t cells = header_->cells.load(std::memory_order_relaxed);
  if (cells == 0 || cells > max_cells_) return;
  __builtin_prefetch(&Index::bucket(header_, Index::bucket_of(key.hash.bucket_bits(), cells)));
}

std::uint32_t Shard::prefetch_entry(const Key& key) const noexcept {
  const std::uint32_t cells = header_->cells.load(std::memory_order_relaxed);
  if (cells == 0 || cells > max_cells_) return 0;
  const Bucket& bucket = Index::bucket(header_, Index::bucket_of(key.hash.bucket_bits(), cells));
  const std::uint32_t id = Index::InSlots(bucket, key.hash.tag(), cells).next();
  if (id != 0) __builtin_prefetch(&Index::entry_unchecked(header_, id));
  return id;
}

void Shard::prefetch_block(std::uint32_t likely_entry) const noexcept {
  if (likely_entry == 0) return;
  const std::uint64_t ref = Index::entry_unchecked(header_, likely_entry).ref.load(std::memory_order_relaxed);
  const std::uint64_t offset = std::uint64_t{ref_block(ref)} * kUnitSize;
  if (!ref_is_live(ref) || offset > size_ - sizeof(BlockHeader)) return;
  // Header and key, and the line behind them, in which a small value lies.
  __builtin_prefetch(base() + offset);
  if (offset + kCacheLineSize < size_) __builtin_prefetch(base() + offset + kCacheLineSize);
}

}  // namespace memstream
