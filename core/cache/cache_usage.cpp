// What is in use at one moment: places of limits, permits, waiters, locks; and which keys are asked for.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

#include "core/base/identity.h"
#include "core/base/process_names.h"
#include "core/base/robust_mutex.h"
#include "core/cache/cache.h"

namespace memstream {

Status Cache::usage(CacheUsage* usage) {
  *usage = {};
  look_around();
  if (const Status status = present(); status != Status::kOk) return status;
  usage->waiters = process_table_.waiters();
  const Geometry& geometry = attached_.geometry;
  if (!geometry.has_limits()) return Status::kOk;
  usage->rate_places = std::uint64_t{geometry.rate_buckets()} * kRatesPerBucket;
  usage->holder_places = std::uint64_t{geometry.holding_stripes()} * kHoldingsPerStripe;
  const std::optional<LimitTable> table = readable_limits();
  if (!table) return Status::kOk;
  table->for_each_rate(limit_now_ns(), [&](std::uint64_t, const RateNote&) { ++usage->rates; });
  std::vector<std::pair<std::uint64_t, std::uint64_t>> held;  // Names, with the permits that they have in total.
  table->for_each_holding([&](std::uint64_t word, std::uint64_t name, const HoldingNote& note) {
    if (!process_table_.owner_is_alive(holding_owner(word))) return;
    ++usage->holders;
    usage->permits += holding_count(word);
    held.emplace_back(name, note.permits.load(std::memory_order_relaxed));
  });
  std::sort(held.begin(), held.end());
  for (auto one = held.begin(); one != held.end(); ++one) {
    // Callers should name the same number; of several the largest counts.
    if (std::next(one) != held.end() && std::next(one)->first == one->first) continue;
    ++(one->second == 1 ? usage->locks : usage->semaphores);
  }
  return Status::kOk;
}

Status Cache::lock_holders(std::vector<LockHolder>* holders) {
  holders->clear();
  look_around();
  if (const Status status = present(); status != Status::kOk) return status;
  const auto add = [&](LockHolder::Kind kind, std::uint64_t shard, pthread_mutex_t& mutex) {
    const pid_t thread = robust_mutex_owner(&mutex);
    if (thread == 0) return;
    holders->push_back({.kind = kind,
                        .shard = static_cast<std::uint32_t>(shard),
                        .process = holder_process(thread),
                        .thread = static_cast<std::uint32_t>(thread)});
  };
  const Geometry& geometry = attached_.geometry;
  for (std::uint32_t i = 0; i < geometry.shards; ++i) {
    auto& shard = *reinterpret_cast<ShardHeader*>(segment_->data() + geometry.shard_offset(i));
    add(LockHolder::Kind::kWrite, i, shard.write_mutex);
  }
  auto* const slots = reinterpret_cast<ThreadSlot*>(segment_->data() + geometry.thread_slots_offset);
  for (ThreadSlot& slot : std::span(slots, geometry.thread_slots)) {
    const std::uint64_t hold = slot.hold.load(std::memory_order_relaxed);
    if (hold_shard(hold) < geometry.shards) add(LockHolder::Kind::kRead, hold_shard(hold), slot.mutex);
  }
  add(LockHolder::Kind::kProcessTable, 0, header()->registry_mutex);
  return Status::kOk;
}

Status Cache::trace(AccessTrace::Cursor* cursor, std::span<TracedAccess> accesses, std::size_t* count,
                    std::uint32_t* shift) noexcept {
  *count = 0;
  now_and_look();
  if (const Status status = present(); status != Status::kOk) return status;
  if (const Status status = writable(); status != Status::kOk) return status;
  const Geometry& geometry = attached_.geometry;
  if (!geometry.has_trace() || !geometry.has_metrics()) {
    return fail_without_throwing(Status::kInvalid, [&] {
      return fmt::format(
          "This segment of {} bytes cannot be traced: it has less than {} MiB, or another version of the library made "
          "it. Make a new one with at least {} MiB (MEMSTREAM_SIZE).",
          geometry.size_bytes, kLeastTraceSegment >> 20, kLeastTraceSegment >> 20);
    });
  }
  const Status status = segment_->commit(geometry.areas[kTraceArea].offset, kTraceAreaSize);
  if (status != Status::kOk) return status;
  trace_.keep_on(cursor);
  *count = trace_.read(cursor, accesses);
  *shift = sample_.shift();
  return Status::kOk;
}

// The numbers in locks are those of one pid namespace. There, the table knows a process by its first thread's number,
// also where /proc hides it.
std::uint32_t Cache::holder_process(pid_t thread) const noexcept {
  if (own_namespace("/proc/self/ns/pid") == header()->pid_namespace.load(std::memory_order_relaxed)) {
    if (const pid_t process = process_of_thread(thread); process != 0) return static_cast<std::uint32_t>(process);
  }
  const std::span<const ProcessSlot> slots = process_table_.used();
  const bool is_known = std::any_of(slots.begin(), slots.end(), [thread](const ProcessSlot& slot) {
    return slot.pid.load(std::memory_order_relaxed) == static_cast<std::uint32_t>(thread);
  });
  return is_known ? static_cast<std::uint32_t>(thread) : 0;
}

}  // namespace memstream
