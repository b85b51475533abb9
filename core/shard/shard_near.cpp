// What a shard compares before it stores a copy of a value of another server.
#include "core/shard/near_counters.h"
#include "core/shard/shard_find.h"
#include "core/shard/shard_operation.h"

namespace memstream {

// An invalidation counts before it deletes, and deletes under W. So it is seen here, or it deletes what is stored.
bool Shard::is_fill_valid(KeyHash hash, std::uint64_t token) const noexcept {
  const NearTable& near = near_table_of(reinterpret_cast<std::byte*>(header_) - offset_, geometry_);
  return near.counters[near_counter_number(hash)].load(std::memory_order_seq_cst) == static_cast<std::uint32_t>(token);
}

Status Shard::remove_copy(const Key& key, const OpContext& context, bool* was_read) noexcept {
  Probe probe;
  prefetch_write(key, &probe);
  return write(Exclusion::kEverybody, context.deadline, [&]() MEMSTREAM_NEEDS_W {
    const FoundEntry found = find_fresh_probed(key, probe, context.now_ms);
    *was_read = found.id != 0 && found.entry->access_count.load(std::memory_order_relaxed) != 0;
    return remove_key(key, probe, context.now_ms);
  });
}

}  // namespace memstream
