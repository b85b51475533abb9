// Many keys of one shard: one hold of the lock for several writes.
#include "core/base/touch_source.h"
#include "core/shard/shard_lookup.h"
#include "core/shard/shard_operation.h"

namespace memstream {

// Runs `operation(item)` for every item in one hold of the lock. After damage was repaired it goes on with the item
// that met it: those before it are done.
template <class Operation>
void Shard::write_many(BatchOrder order, Status* statuses, const Deadline& deadline, Operation operation) noexcept {
  std::size_t next = 0;
  const Status status = write(Exclusion::kEverybody, deadline, [&]() MEMSTREAM_NEEDS_W {
    for (; next < order.size(); ++next) statuses[order[next]] = operation(order[next]);
    return Status::kOk;
  });
  // No lock, or a shard that had to be emptied: what is left was not done.
  for (; next < order.size(); ++next) statuses[order[next]] = status;
}

// With W held: what a write of one key alone has looked at before. Others' steps have asked for the lines.
[[gnu::always_inline]] inline Shard::Probe Shard::probe_of(const Key& key) const noexcept {
  Probe probe;
  if (probe_start<false>(key, &probe)) [[likely]]
    probe_bucket<LineUse::kWrite>(key, &probe);
  return probe;
}

void Shard::store_many(const StoreRequest* requests, BatchOrder order, Status* statuses,
                       const OpContext& context) noexcept {
  for (const std::uint8_t item : order) touch_source(requests[item].value, requests[item].value_size);
  write_many(order, statuses, context.deadline, [&](std::uint8_t item) MEMSTREAM_NEEDS_W {
    if (const Status status = check_size(requests[item]); status != Status::kOk) return status;
    return store_one(requests[item], context.now_ms);
  });
}

void Shard::remove_many(const Key* keys, BatchOrder order, Status* statuses, const OpContext& context) noexcept {
  write_many(order, statuses, context.deadline, [&](std::uint8_t item) MEMSTREAM_NEEDS_W {
    return remove_key(keys[item], probe_of(keys[item]), context.now_ms);
  });
}

}  // namespace memstream
