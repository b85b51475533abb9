// Counting outcomes, and summing up the metrics of all processes and shards.
#include <algorithm>

#include "core/cache/cache.h"

namespace memstream {
namespace {

Outcome outcome_of(Status status) noexcept {
  switch (status) {
    case Status::kOk:
      return Outcome::kOk;
    case Status::kMiss:
      return Outcome::kMiss;
    case Status::kExists:
      return Outcome::kExists;
    case Status::kConflict:
      return Outcome::kConflict;
    case Status::kHeld:
      return Outcome::kHeld;
    case Status::kTooLarge:
      return Outcome::kTooLarge;
    case Status::kTooSmall:
      return Outcome::kTooSmall;
    case Status::kFull:
      return Outcome::kFull;
    case Status::kNoMemory:
      return Outcome::kNoMemory;
    case Status::kBusy:
      return Outcome::kBusy;
    case Status::kCorrupt:
      return Outcome::kCorrupt;
    default:
      return Outcome::kOther;
  }
}

void add(std::uint64_t* sum, const MetricWord& word) noexcept { *sum += word.load(std::memory_order_relaxed); }
void keep_longest(std::uint64_t* longest, const MetricWord& word) noexcept {
  *longest = std::max(*longest, word.load(std::memory_order_relaxed));
}
template <std::size_t kSize>
void add(std::uint64_t (&sums)[kSize], const MetricWord (&words)[kSize]) noexcept {
  for (std::size_t i = 0; i < kSize; ++i) add(&sums[i], words[i]);
}

void add(MetricsSum* sum, const ShardMetrics& shard) noexcept {
  add(sum->removals, shard.removals);
  add(&sum->lock_waits, shard.lock_waits);
  add(&sum->lock_wait_ns, shard.lock_wait_ns);
  keep_longest(&sum->longest_wait_ns, shard.longest_wait_ns);
  add(&sum->lock_timeouts, shard.lock_timeouts);
  add(&sum->recovery_ns, shard.recovery_ns);
  keep_longest(&sum->longest_recovery_ns, shard.longest_recovery_ns);
  add(&sum->slow_reads, shard.slow_reads);
  add(&sum->read_retries, shard.read_retries);
  add(sum->evicted_age_ms, shard.evicted_age_ms);
  add(sum->evicted_idle_ms, shard.evicted_idle_ms);
}

void add(MetricsSum* sum, const SegmentMetrics& segment) noexcept {
  sum->sample_shift = std::clamp<std::uint64_t>(segment.sample_shift.load(std::memory_order_relaxed),
                                                ReuseSample::kLeastShift, ReuseSample::kMostShift);
  for (const auto& keys : segment.keys_of_generation) sum->sampled_keys += keys.load(std::memory_order_relaxed);
  add(&sum->sampled_references, segment.sampled_references);
  add(&sum->references, segment.references);
  add(&sum->first_references, segment.first_references);
  add(sum->reuse_distances, segment.distances);
}

void add(MetricsSum* sum, const ProcessMetrics& place) noexcept {
  for (std::uint32_t operation = 0; operation < kOperations; ++operation) {
    add(sum->outcomes[operation], place.outcomes[operation]);
  }
  add(sum->get_ns, place.get_ns);
  add(sum->set_ns, place.set_ns);
}

bool has_bit(const SegmentMetrics& segment, std::uint32_t place) noexcept {
  const MetricWord& word = place < 64 ? segment.places : segment.more_places;
  return (word.load(std::memory_order_relaxed) >> place % 64 & 1) != 0;
}

}  // namespace

void Cache::note_outcome(Operation operation, Status status) noexcept {
  ProcessMetrics* own = own_->metrics.load(std::memory_order_relaxed);
  if (own == nullptr) return;
  count(own->outcomes[static_cast<std::uint32_t>(operation)][static_cast<std::uint32_t>(outcome_of(status))]);
}

bool Cache::note_get(const Key& key) noexcept {
  return sample_.note(key.hash, shard_of(key).about_entries() * attached_.geometry.shards);
}

void Cache::trace_read(const Key& key, Status status, std::uint64_t size) noexcept {
  if (status == Status::kMiss) trace_.note(key.hash, AccessKind::kMiss, 0);
  if (status == Status::kOk || status == Status::kTooSmall) trace_.note(key.hash, AccessKind::kHit, size);
}

// A process that gets no memory for its metrics works without them.
void Cache::claim_metrics(std::uint32_t slot) noexcept {
  own_->metrics.store(nullptr, std::memory_order_relaxed);
  const Geometry& geometry = attached_.geometry;
  if (!geometry.has_metrics()) return;
  const std::uint32_t place = slot % geometry.metrics_places();
  const std::uint64_t offset = geometry.areas[kMetricsArea].offset + geometry.metrics_places_offset() +
                               std::uint64_t{place} * sizeof(ProcessMetrics);
  SegmentMetrics& segment = metrics_of_segment(*segment_, geometry);
  if (!has_bit(segment, place)) {
    if (segment_->commit(offset, sizeof(ProcessMetrics)) != Status::kOk) return;
    (place < 64 ? segment.places : segment.more_places)
        .fetch_or(std::uint64_t{1} << place % 64, std::memory_order_relaxed);
  } else if (segment_->look_for_memory(offset, sizeof(ProcessMetrics)) == Status::kNoMemory) {
    return;  // The bit was damage.
  }
  own_->metrics.store(reinterpret_cast<ProcessMetrics*>(segment_->data() + offset), std::memory_order_relaxed);
}

const std::byte* Cache::readable_metrics() const noexcept {
  const Geometry& geometry = attached_.geometry;
  if (!geometry.has_metrics()) return nullptr;
  const std::uint64_t offset = geometry.areas[kMetricsArea].offset;
  if (segment_->look_for_memory(offset, geometry.metrics_places_offset()) == Status::kNoMemory) return nullptr;
  return segment_->data() + offset;
}

Status Cache::metrics(MetricsSum* sum) noexcept {
  look_around();
  if (const Status status = present(); status != Status::kOk) return status;
  *sum = {};
  const std::byte* const area = readable_metrics();
  if (area == nullptr) return Status::kOk;
  const Geometry& geometry = attached_.geometry;
  const auto& segment = *reinterpret_cast<const SegmentMetrics*>(area);
  add(sum, segment);
  const auto* shards = reinterpret_cast<const ShardMetrics*>(area + geometry.shard_metrics_offset());
  for (std::uint32_t i = 0; i < geometry.shards; ++i) add(sum, shards[i]);
  const auto* places = reinterpret_cast<const ProcessMetrics*>(area + geometry.metrics_places_offset());
  for (std::uint32_t i = 0; i < geometry.metrics_places(); ++i) {
    const auto offset = static_cast<std::uint64_t>(reinterpret_cast<const std::byte*>(places + i) - segment_->data());
    if (!has_bit(segment, i) || segment_->look_for_memory(offset, sizeof *places) == Status::kNoMemory) continue;
    add(sum, places[i]);
  }
  return Status::kOk;
}

void Cache::note_hot(const Entry& entry) noexcept {
  const auto place = static_cast<std::uint64_t>(reinterpret_cast<const std::byte*>(&entry) - segment_->data());
  const Geometry& geometry = attached_.geometry;
  shards_[(place - geometry.shards_offset) / geometry.shard_size]->note_hot_entry(entry);
}

Status Cache::hot_entries(
    const std::function<void(std::uint32_t shard, const ScannedEntry&, std::uint64_t weight)>& visit) noexcept {
  look_around();
  if (const Status status = present(); status != Status::kOk) return status;
  if (const Status status = lockable(); status != Status::kOk) return status;
  const std::byte* const area = readable_metrics();
  if (area == nullptr) return Status::kOk;
  for (const HotEntry& hot : reinterpret_cast<const SegmentMetrics*>(area)->hot) {
    const std::uint64_t name = hot.name.load(std::memory_order_relaxed);
    const std::uint32_t shard = hot_shard(name);
    if (name == 0 || shard >= attached_.geometry.shards) continue;
    const Status status = shards_[shard]->inspect_entry(
        hot_entry(name), {Deadline(timeout_), now_ms()}, [name](std::uint32_t hash) { return is_hot_hash(name, hash); },
        [&](const ScannedEntry& entry) { visit(shard, entry, hot.weight.load(std::memory_order_relaxed)); });
    if (status != Status::kOk && status != Status::kMiss) return status;
  }
  return Status::kOk;
}

}  // namespace memstream
