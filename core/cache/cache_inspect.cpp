// Looking at a cache as a whole: scans, statistics, processes, the checker.
#include <algorithm>

#include "core/cache/cache.h"

namespace memstream {
namespace {

constexpr std::uint64_t cursor_of(std::uint32_t shard, std::uint32_t next) noexcept {
  return std::uint64_t{shard} << 32 | next;
}

}  // namespace

Status Cache::scan(std::uint64_t* cursor,
                   const std::function<bool(std::uint32_t shard, const ScannedEntry&)>& visit) noexcept {
  look_around();
  if (const Status status = present(); status != Status::kOk) return status;
  if (const Status status = lockable(); status != Status::kOk) return status;
  auto shard = static_cast<std::uint32_t>(*cursor >> 32);
  auto next = static_cast<std::uint32_t>(*cursor);
  bool stopped = false;
  while (shard < attached_.geometry.shards && !stopped) {
    const auto visit_one = [&](const ScannedEntry& entry) {
      stopped = !visit(shard, entry);
      return !stopped;
    };
    // By reference: a copy of it inside std::function would take memory, which may not be there.
    const Status status = shards_[shard]->scan(&next, {Deadline(timeout_), now_ms()}, std::cref(visit_one));
    if (status != Status::kOk) return status;
    if (next == 0 && !stopped) ++shard;
  }
  *cursor = shard < attached_.geometry.shards ? cursor_of(shard, next) : 0;
  return Status::kOk;
}

Status Cache::statistics(CacheStatistics* statistics) noexcept {
  look_around();
  if (const Status status = present(); status != Status::kOk) return status;
  if (const Status status = lockable(); status != Status::kOk) return status;
  *statistics = {};
  // One for all shards: statistics that explain why others wait must not themselves wait for each shard.
  const Deadline deadline(timeout_);
  if (!read_only()) {
    const Status status = process_table_.clean_up(deadline);
    if (status != Status::kOk && status != Status::kBusy) return status;
  }
  ShardStatistics& sum = statistics->shards;
  for (auto& shard : shards_) {
    ShardStatistics one{};
    const Status status = shard->statistics(deadline, &one);
    if (status != Status::kOk && status != Status::kBusy) return status;
    if (status == Status::kBusy) ++statistics->busy_shards;
    sum += one;
  }
  statistics->processes = process_table_.count();
  const ProcessCounts counts = process_table_.sum();
  statistics->hits = counts.hits;
  statistics->misses = counts.misses;
  statistics->puts = counts.puts;
  statistics->max_memory = attached_.geometry.size_bytes;
  statistics->reachable_memory = std::min<std::uint64_t>(attached_.geometry.size_bytes, segment_->available_bytes());
  statistics->max_value_size = max_value_size(attached_.geometry, 1);
  statistics->shard_count = attached_.geometry.shards;
  statistics->view_copies = header()->view_copies.load(std::memory_order_relaxed);
  statistics->dead_processes = header()->dead_processes.load(std::memory_order_relaxed);
  statistics->created_unix_ms = to_unix_ms(0);
  statistics->now_unix_ms = to_unix_ms(now_ms());
  return Status::kOk;
}

Status Cache::prefault() noexcept {
  if (const Status status = present(); status != Status::kOk) return status;
  if (const Status status = lockable(); status != Status::kOk) return status;
  const Deadline deadline(timeout_);
  const Status tables = segment_->prefault(0, fixed_tables_end(attached_.geometry));
  if (tables != Status::kOk) return tables;
  if (const Geometry& geometry = attached_.geometry; geometry.has_metrics()) {
    const Status metrics = segment_->prefault(geometry.areas[kMetricsArea].offset, geometry.metrics_places_offset());
    if (metrics != Status::kOk) return metrics;
  }
  const Status chunks = segment_->prefault(attached_.geometry.areas[kPinChunkArea].offset,
                                           std::uint64_t{pin_places_.chunks_in_use()} * sizeof(PinChunk));
  if (chunks != Status::kOk) return chunks;
  for (auto& shard : shards_) {
    if (const Status status = shard->prefault(deadline, *segment_); status != Status::kOk) return status;
  }
  return Status::kOk;
}

Status Cache::processes(std::vector<ProcessInfo>* processes) {
  look_around();
  if (const Status status = present(); status != Status::kOk) return status;
  if (const Status status = lockable(); status != Status::kOk) return status;
  if (!read_only()) {
    const Status status = process_table_.clean_up(Deadline(timeout_));
    if (status != Status::kOk && status != Status::kBusy) return status;
  }
  processes->clear();
  std::vector<const ProcessSlot*> first_slots;  // Of the processes found so far.
  for (const ProcessSlot& slot : process_table_.used()) {
    const std::uint32_t pid = slot.pid.load(std::memory_order_acquire);
    if (pid == 0) continue;
    const auto found = std::find_if(first_slots.begin(), first_slots.end(), [&](const ProcessSlot* first) {
      return ProcessTable::are_of_one_process(*first, slot);
    });
    const auto index = static_cast<std::size_t>(found - first_slots.begin());
    if (found == first_slots.end()) {
      first_slots.push_back(&slot);
      processes->push_back({.pid = pid, .start_time = slot.start_time.load(std::memory_order_relaxed)});
    }
    ProcessInfo& info = (*processes)[index];
    info.hits += slot.counters.hits.load(std::memory_order_relaxed);
    info.misses += slot.counters.misses.load(std::memory_order_relaxed);
    info.puts += slot.counters.puts.load(std::memory_order_relaxed);
    info.pins += pin_places_.count(slot);
  }
  return Status::kOk;
}

Status Cache::check(std::vector<std::string>* problems) {
  look_around();
  if (const Status status = present(); status != Status::kOk) return status;
  if (const Status status = writable(); status != Status::kOk) return status;
  for (auto& shard : shards_) {
    if (const Status status = shard->check(Deadline(timeout_), problems); status != Status::kOk) return status;
  }
  return Status::kOk;
}

Status Cache::reap(ReapReport* report) {
  look_around();
  if (const Status status = present(); status != Status::kOk) return status;
  if (const Status status = writable(); status != Status::kOk) return status;
  const Deadline deadline(timeout_);
  if (const Status status = process_table_.clean_up(deadline); status != Status::kOk) return status;
  const auto is_alive = [this](std::uint64_t owner) { return process_table_.owner_is_alive(owner); };
  for (auto& shard : shards_) {
    if (const Status status = shard->reap(deadline, is_alive, report); status != Status::kOk) return status;
  }
  report->processes = process_table_.reaped_processes();
  report->pins = process_table_.reaped_pins();
  return Status::kOk;
}

Status Cache::repair(RepairReport* report) {
  look_for_name();
  if (const Status status = present(); status != Status::kOk) return status;
  if (const Status status = writable(); status != Status::kOk) return status;
  for (auto& shard : shards_) {
    if (const Status status = shard->repair(Deadline(timeout_), report); status != Status::kOk) return status;
  }
  return Status::kOk;
}

}  // namespace memstream
