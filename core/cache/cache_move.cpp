// Filling the segment that takes the place of this one: docs/decisions/0025.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <span>

#include "core/cache/cache.h"
#include "core/shard/near_counters.h"

namespace memstream {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kFewChanges = 512;        // So many are copied while no writer is let in.
constexpr int kMostPasses = 12;                 // Looks at what has changed, before writers are stopped all the same.
constexpr int kMostStops = 4;                   // How often writers are stopped in vain.
constexpr milliseconds kLongestStop{250};       // For how long, each time; and at most half of their own deadline.
constexpr std::size_t kRankedAtOnce = 256;      // Entries of the first pass that are taken together.
constexpr std::uint64_t kEntryBytes = 32 + 16;  // Of the table, for each entry.

// The write locks of all shards: those that it has are let go at its end.
class HeldShards {
 public:
  HeldShards() = default;
  HeldShards(const HeldShards&) = delete;
  HeldShards& operator=(const HeldShards&) = delete;
  ~HeldShards() { let_go(false); }

  Status hold(Shard& shard, const Deadline& deadline) noexcept {
    const Status status = shard.hold(deadline);
    if (status == Status::kOk) held_[count_++] = &shard;
    return status;
  }
  void let_go(bool superseded) noexcept {
    while (count_ != 0) held_[--count_]->let_go(superseded);
  }

 private:
  Shard* held_[kMaxShards] = {};
  std::uint32_t count_ = 0;
};

// Notes who moves the limits. A request that was counted after its limit was copied sees that, and is counted in the
// successor. Unless the move succeeds, all is as before.
class LimitMover {
 public:
  LimitMover(const std::optional<LimitTable>& limits, std::uint64_t owner) noexcept
      : limits_(limits ? &*limits : nullptr) {
    if (limits_ != nullptr) limits_->head().mover.store(owner, std::memory_order_seq_cst);
  }
  LimitMover(const LimitMover&) = delete;
  LimitMover& operator=(const LimitMover&) = delete;
  ~LimitMover() {
    if (limits_ != nullptr) limits_->head().mover.store(0, std::memory_order_seq_cst);
  }
  void keep() noexcept { limits_ = nullptr; }

 private:
  const LimitTable* limits_;
};

Status still_changing() noexcept {
  return fail(Status::kBusy,
              "Other processes changed entries faster than they could be copied; the segment is unchanged. Try again "
              "when there are fewer writes.");
}

}  // namespace

// One run of Cache::move_to().
class Cache::Move {
 public:
  Move(Cache& from, Segment& to, MoveReport* report) : from_(from), to_(to), report_(*report) {
    const auto* header = reinterpret_cast<const SegmentHeader*>(to.data());
    geometry_ = geometry_of(header->identity);
    successor_ = uuid_word(header->identity.uuid);
    shards_ = std::vector<PlacedShard>(geometry_.shards);
    for (std::uint32_t index = 0; index < geometry_.shards; ++index) {
      shards_[index].emplace(&to, geometry_, index, from.attached_.hash_seed);
    }
    taken_.resize(from.shards_.size());
  }

  Status run() {
    Status status = from_.near_table_to_move(&near_);
    if (status == Status::kOk) status = ready_near_table();
    if (status == Status::kOk) status = ready_limits();
    if (status == Status::kOk) status = check_room();
    if (status == Status::kOk) status = copy_hottest_first();
    for (int stops = 0; status == Status::kOk && stops < kMostStops; ++stops) {
      status = follow_changes();
      if (status != Status::kOk) return status;
      bool is_done = false;
      status = stop_and_finish(&is_done);
      if (status == Status::kOk && is_done) return Status::kOk;
    }
    return status == Status::kOk ? still_changing() : status;
  }

 private:
  Deadline deadline() const noexcept { return Deadline(from_.timeout_); }

  // A segment that is a near cache stays one. Also called again with all shards held: a name may have come meanwhile.
  Status ready_near_table() {
    if (near_ == nullptr || !has_near_names(*near_)) return Status::kOk;
    if (geometry_.has_near_table()) return to_.commit(geometry_.areas[kNearArea].offset, kNearAreaSize);
    return fail(Status::kBadSize,
                fmt::format("Invalid size {}: expected at least {}, since the segment is a near cache.",
                            geometry_.size_bytes, kLeastNearSegment));
  }

  // The permits of semaphores belong to slots of processes, and these are others in the successor.
  Status ready_limits() {
    if (const Status status = from_.limits_to_move(&limits_); status != Status::kOk || !limits_) return status;
    if (from_.holds_permits(*limits_)) {
      return fail(
          Status::kBusy,
          "A process holds a semaphore or a lock of the segment; the segment is unchanged. Try again when it is "
          "given back.");
    }
    if (geometry_.has_limits()) return to_.commit(geometry_.areas[kLimitArea].offset, geometry_.limits_size_bytes());
    return fail(Status::kBadSize,
                fmt::format("Invalid size {}: expected at least {}, since the segment has rate limits or semaphores.",
                            geometry_.size_bytes, kLeastLimitSegment));
  }

  // REQUIRES: all shards are held, and the caller is noted as the mover.
  Status move_limits() {
    const LimitTable to(to_.data(), geometry_);
    to.head().is_used.store(1, std::memory_order_relaxed);
    if (to.copy_limits(*limits_, from_.limit_now_ns()) == Status::kOk) return Status::kOk;
    return fail(Status::kBadSize,
                fmt::format("Invalid size {}: expected one with room for the rate limits in use. Choose a larger one, "
                            "or try again when fewer keys are limited.",
                            geometry_.size_bytes));
  }

  // Both segments exist for a while. What the new one gets no memory for it would evict.
  Status check_room() {
    std::uint64_t used = 0;
    for (auto& shard : from_.shards_) {
      ShardStatistics one{};
      if (const Status status = shard->statistics(deadline(), &one); status != Status::kOk) return status;
      used += one.used_memory + one.table_memory;
    }
    const std::uint64_t needed = std::min<std::uint64_t>(used, geometry_.size_bytes);
    const std::uint64_t left = to_.left_bytes();
    if (left >= needed) return Status::kOk;
    return fail(Status::kNoMemory,
                fmt::format("The new segment needs {} bytes while the old one is still there, and the system has {} "
                            "left. Free some, mount /dev/shm larger, or remove entries before.",
                            needed, left));
  }

  Status copy_hottest_first() {
    std::vector<RankedEntry> ranked;
    for (auto& shard : from_.shards_) {
      std::uint32_t next = 0;
      do {
        HeldShards held;
        if (const Status status = held.hold(*shard, deadline()); status != Status::kOk) return status;
        shard->rank(&next, &ranked);
      } while (next != 0);
    }
    std::sort(ranked.begin(), ranked.end(),
              [](const RankedEntry& a, const RankedEntry& b) { return a.order < b.order; });
    // What cannot fit is not copied: the new segment would have to evict others for it.
    const std::uint64_t most = geometry_.shards * geometry_.shard_size / 16 * 15;
    std::uint64_t bytes = 0;
    const auto fits = [&](const RankedEntry& entry) { return (bytes += entry.bytes + kEntryBytes) <= most; };
    const auto end = std::find_if_not(ranked.begin(), ranked.end(), fits);
    for (std::size_t begin = 0, size = static_cast<std::size_t>(end - ranked.begin()); begin < size;
         begin += kRankedAtOnce) {
      const std::span<RankedEntry> part(ranked.data() + begin, std::min(kRankedAtOnce, size - begin));
      if (const Status status = copy_ranked(part); status != Status::kOk) return status;
    }
    // The others count as taken: they are copied if they change.
    for (auto entry = end; entry != ranked.end(); ++entry) {
      HeldShards held;
      Shard& shard = *from_.shards_[entry->shard];
      if (const Status status = held.hold(shard, deadline()); status != Status::kOk) return status;
      shard.take(entry->id, taken_[entry->shard], &batch_);
      TakenEntries& taken = taken_[entry->shard];
      if (entry->id < taken.entries.size()) taken.entries[entry->id].hash = 0;
      batch_.clear();
    }
    return Status::kOk;
  }

  Status copy_ranked(std::span<RankedEntry> part) {
    for (const RankedEntry& entry : part) {
      HeldShards held;
      if (const Status status = held.hold(*from_.shards_[entry.shard], deadline()); status != Status::kOk)
        return status;
      from_.shards_[entry.shard]->take(entry.id, taken_[entry.shard], &batch_);
      held.let_go(false);
      if (!batch_.has_enough()) continue;
      if (const Status status = put_batch(); status != Status::kOk) return status;
    }
    return put_batch();
  }

  // Until few entries change during one pass.
  Status follow_changes() {
    for (int pass = 0; pass < kMostPasses; ++pass) {
      ++report_.passes;
      std::size_t changes = 0;
      for (std::size_t index = 0; index < from_.shards_.size(); ++index) {
        std::uint32_t next = 0;
        do {
          {
            HeldShards held;
            if (const Status status = held.hold(*from_.shards_[index], deadline()); status != Status::kOk)
              return status;
            from_.shards_[index]->take_changed(&next, taken_[index], &batch_);
          }
          changes += batch_.entries.size() + batch_.gone.size();
          if (const Status status = finish_batch(false); status != Status::kOk) return status;
        } while (next != 0);
      }
      if (changes <= kFewChanges) break;
    }
    return Status::kOk;
  }

  // Stops the writers, copies what has changed since, and commits. Not done if that took too long.
  Status stop_and_finish(bool* is_done) {
    const Deadline until(std::min(kLongestStop, from_.timeout_ / 2));
    const Stopwatch stopped;
    HeldShards held;
    for (auto& shard : from_.shards_) {
      const Status status = held.hold(*shard, until);
      if (status == Status::kBusy) return Status::kOk;
      if (status != Status::kOk) return status;
    }
    for (std::size_t index = 0; index < from_.shards_.size(); ++index) {
      std::uint32_t next = 0;
      do {
        from_.shards_[index]->take_changed(&next, taken_[index], &batch_);
        if (const Status status = finish_batch(true); status != Status::kOk) return status;
        if (until.passed()) return Status::kOk;
      } while (next != 0);
    }
    std::sort(came_back_.begin(), came_back_.end());
    came_back_.erase(std::unique(came_back_.begin(), came_back_.end()), came_back_.end());
    gone_ = came_back_;
    if (const Status status = finish_batch(true); status != Status::kOk) return status;
    if (from_.is_gone()) return from_.why_gone();
    if (const Status status = ready_near_table(); status != Status::kOk) return status;
    if (near_ != nullptr && has_near_names(*near_)) move_near_table(*near_, near_table_of(to_.data(), geometry_));
    if (const Status status = ready_limits(); status != Status::kOk) return status;
    LimitMover mover(limits_, from_.process_table_.lease_owner_of(from_.exclusive_slot()));
    if (limits_) {
      if (const Status status = move_limits(); status != Status::kOk) return status;
    }
    // The commit. A process that is killed before it leaves this segment, and the locks to be repaired; after it the
    // other one.
    from_.header()->successor.store(successor_, std::memory_order_release);
    from_.header()->state.store(static_cast<std::uint32_t>(HeaderState::kSuperseded), std::memory_order_seq_cst);
    mover.keep();
    held.let_go(true);
    from_.shards_[0]->waits().note_change_of_all();
    report_.stopped_ns = stopped.ns();
    *is_done = true;
    return Status::kOk;
  }

  // What the batch has, and what it says has gone. `is_stopped`: this process has the lock of all shards.
  Status finish_batch(bool is_stopped) {
    if (const Status status = put_batch(); status != Status::kOk) return status;
    for (const std::uint64_t hash : gone_) {
      const KeyHash key_hash{hash};
      Shard& to = *shards_[key_hash.shard(geometry_.shards)];
      const std::string text = to.find_hash(key_hash, deadline());
      if (text.empty()) continue;
      const Key key{text, key_hash};
      Shard& from = *from_.shards_[key_hash.shard(from_.attached_.geometry.shards)];
      bool is_there = false;
      if (is_stopped) {
        is_there = from.has_key(key);
      } else {
        HeldShards held;
        if (const Status status = held.hold(from, deadline()); status != Status::kOk) return status;
        is_there = from.has_key(key);
      }
      if (is_there) {
        // Under another number now, which this process may not have met yet, and may meet empty again. So nothing it
        // keeps leads to the key: only with the writers stopped the answer stays true.
        if (!is_stopped) came_back_.push_back(hash);
        continue;
      }
      const Status status = to.remove(key, {deadline_, 0});
      if (status != Status::kOk && status != Status::kMiss) return status;
    }
    gone_.clear();
    return Status::kOk;
  }

  Status put_batch() {
    for (const MovingEntry& entry : batch_.entries) {
      const Key key{batch_.key_of(entry), KeyHash{entry.hash}};
      Shard& to = *shards_[key.hash.shard(geometry_.shards)];
      const Status status = to.put_moved(key, entry, batch_.value_of(entry), deadline());
      if (status == Status::kTooLarge) {
        // An older value may be there.
        const Status removed = to.remove(key, {deadline_, 0});
        if (removed != Status::kOk && removed != Status::kMiss) return removed;
      } else if (status != Status::kOk) {
        return status;
      }
      ++report_.copies;
    }
    gone_.insert(gone_.end(), batch_.gone.begin(), batch_.gone.end());
    batch_.clear();
    return Status::kOk;
  }

  Cache& from_;
  Segment& to_;
  MoveReport& report_;
  Geometry geometry_;
  std::uint64_t successor_ = 0;
  const NearTable* near_ = nullptr;
  std::optional<LimitTable> limits_;
  std::vector<PlacedShard> shards_;
  std::vector<TakenEntries> taken_;
  MovingBatch batch_;
  std::vector<std::uint64_t> gone_;
  std::vector<std::uint64_t> came_back_;
  Deadline deadline_{std::chrono::hours(1)};  // Of the new segment's locks, which nobody else takes.
};

Status Cache::move_to(Segment& successor, MoveReport* report) {
  look_around();
  if (const Status status = present(); status != Status::kOk) return status;
  if (const Status status = writable(); status != Status::kOk) return status;
  return Move(*this, successor, report).run();
}

}  // namespace memstream
