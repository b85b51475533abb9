#include "api/statistics.h"

#include <fmt/format.h>

#include <cstring>

#include "api/following.h"
#include "api/grown_struct.h"

namespace memstream {

Status fill_statistics(memstream_handle& handle, cache_stats_t* callers_stats) {
  const std::size_t size = callers_stats->struct_size;
  if (!is_size_of<cache_stats_t>(size, kFirstStatsSize)) {
    return fail(Status::kInvalid,
                fmt::format("Invalid cache_stats_t.struct_size {}: expected {} to {}. Set it to sizeof before the "
                            "call, and do not use a library older than your program.",
                            size, kFirstStatsSize, sizeof(cache_stats_t)));
  }
  CacheStatistics statistics;
  const Status status = on_segment(handle, [&](Cache& segment) { return segment.statistics(&statistics); });
  if (status != Status::kOk) return status;
  const ShardStatistics& shards = statistics.shards;
  cache_stats_t filled{};
  cache_stats_t* stats = &filled;
  stats->struct_size = size;
  stats->max_memory = statistics.max_memory;
  stats->used_memory = shards.used_memory;
  stats->table_memory = shards.table_memory;
  stats->committed_memory = shards.committed_memory;
  stats->pinned_memory = shards.pinned_memory;
  stats->value_memory = shards.value_memory;
  stats->key_memory = shards.key_memory;
  stats->max_value_size = statistics.max_value_size;
  stats->entries = shards.entries;
  stats->entry_capacity = shards.entry_capacity;
  stats->shards = statistics.shard_count;
  stats->processes = statistics.processes;
  stats->hits = statistics.hits;
  stats->misses = statistics.misses;
  stats->puts = statistics.puts;
  stats->deletes = shards.counters.deletes;
  stats->evictions = shards.counters.evictions;
  stats->expirations = shards.counters.expirations;
  stats->recoveries = shards.counters.recoveries;
  stats->damaged = shards.counters.damaged;
  stats->commit_failures = shards.counters.commit_failures;
  stats->dead_processes = statistics.dead_processes;
  stats->created_at_ms = statistics.created_unix_ms;
  stats->now_ms = statistics.now_unix_ms;
  stats->page_size = handle.page_size_bytes();
  stats->huge_pages = static_cast<std::uint64_t>(handle.huge_pages());
  stats->view_copies = statistics.view_copies;
  stats->reachable_memory = statistics.reachable_memory;
  stats->busy_shards = statistics.busy_shards;
  std::memcpy(callers_stats, stats, size);
  return Status::kOk;
}

}  // namespace memstream
