// Reading: one key, and many in one call.
#include <algorithm>
#include <array>
#include <bit>
#include <optional>
#include <span>

#include "core/cache/cache_lookup.h"

namespace memstream {
namespace {

// Keys whose cache lines are under way together in a read: about as many as the processor has places for.
constexpr std::size_t kReadGroup = 16;
constexpr std::uint64_t kValueAlignment = 16;

}  // namespace

GetResult Cache::get_slow(std::string_view key, std::byte* buffer, std::uint64_t capacity, bool is_large) noexcept {
  const OperationScope scope(slow_read_);
  if (const Status status = lockable(); status != Status::kOk) return {status, {}};
  const Key hashed = make_key(key);
  const GetResult got = is_large && !has_checksums()
                            ? get_large(hashed, buffer, capacity, {Deadline(timeout_), now_ms()})
                            : get_hashed(hashed, buffer, capacity, {Deadline(timeout_), now_ms()});
  count_read(got.status);
  if (got.status != Status::kOk && got.status != Status::kMiss) note_outcome(Operation::kGet, got.status);
  return got;
}

GetResult Cache::get_sampled(std::string_view key, std::byte* buffer, std::uint64_t capacity, bool wants_all) noexcept {
  const Key hashed = make_key(key);
  std::optional<Stopwatch> took;
  if (note_get(hashed)) took.emplace();
  const GetResult got = answer(hashed, buffer, capacity, wants_all);
  if (took) {
    ProcessMetrics* const own = own_->metrics.load(std::memory_order_relaxed);
    if (own != nullptr) count_in(own->get_ns, took->ns());
  }
  trace_read(hashed, got.status, got.read.value_size);
  return got;
}

GetResult Cache::get_hashed(const Key& key, std::byte* buffer, std::uint64_t capacity,
                            const OpContext& context) noexcept {
  for (;;) {
    GetResult got = shard_of(key).get(key, room_for(buffer, capacity), context);
    const bool is_large = got.status == Status::kOk && !read_only_ && got.read.value_size >= ReadBuffer::kLarge;
    if (is_large) got = get_large(key, buffer, capacity, context);
    if (got.status != Status::kOk || !has_checksums()) return got;
    // Of the copy, which nobody else can change.
    const std::uint64_t checksum = checksum_word(buffer, got.read.value_size, key.hash);
    if (checksum == checksum_of_word(got.read.caller_flags)) return got;
    const Status status = drop_damaged(key, context.deadline);
    if (status != Status::kOk || context.deadline.passed()) return {status != Status::kOk ? status : Status::kMiss, {}};
  }
}

// Pins the block, copies outside every lock, lets go: a large read holds up no writer. When nothing more can be pinned
// it copies in place like a small one.
GetResult Cache::get_large(const Key& key, std::byte* buffer, std::uint64_t capacity,
                           const OpContext& context) noexcept {
  PinSet pins(exclusive_slot(), pin_places_);
  PinnedBlock pinned;
  Shard& shard = shard_of(key);
  Status status = shard.pin(
      key, pins, context.deadline, context.now_ms, [&] { return context.now_ms; }, &pinned);
  if (status == Status::kFull) return shard.get(key, {buffer, capacity}, context);
  if (status != Status::kOk) return {status, {}};
  if (pinned.read.value_size > capacity) {
    status = Status::kTooSmall;
  } else {
    copy_from_shared(buffer, pinned.value, pinned.read.value_size);
  }
  pins.release(pinned.pin, shard.offset_of(pinned.position));
  return {status, pinned.read};
}

Status Cache::exists(std::string_view key) noexcept {
  const std::uint64_t now = now_and_look();
  if (const Status status = usable(key); status != Status::kOk) return status;
  if (const Status status = lockable(); status != Status::kOk) return status;
  const Key hashed = make_key(key);
  return shard_of(hashed).inspect(hashed, {Deadline(timeout_), now}, {});
}

Status Cache::stamp(std::string_view key, const Deadline& deadline, std::uint64_t* stamp) noexcept {
  const std::uint64_t now = now_and_look();
  if (const Status status = present(); status != Status::kOk) return status;
  if (const Status status = usable(key); status != Status::kOk) return status;
  if (const Status status = lockable(); status != Status::kOk) return status;
  const Key hashed = make_key(key);
  return shard_of(hashed).stamp(hashed, {deadline, now}, stamp);
}

Status Cache::inspect(std::string_view key,
                      const std::function<void(std::uint32_t shard, const ScannedEntry&)>& visit) noexcept {
  const std::uint64_t now = now_and_look();
  if (const Status status = usable(key); status != Status::kOk) return status;
  if (const Status status = lockable(); status != Status::kOk) return status;
  const Key hashed = make_key(key);
  const std::uint32_t shard = hashed.hash.shard(attached_.geometry.shards);
  return shards_[shard]->inspect(hashed, {Deadline(timeout_), now},
                                 [&](const ScannedEntry& entry) { visit(shard, entry); });
}

// ---- many keys ----

// The looks of a whole group go on side by side: each step asks for the cache lines of the next.
Status Cache::get_many(BatchWork& work, const Deadline& deadline, BatchBuffer* room) noexcept {
  const std::span<BatchItem> items = work.filled();
  const Key* const keys = work.keys();
  std::size_t usable_items = 0;
  Status failure = begin_batch(work, false, &usable_items);
  if (usable_items == 0) return failure;
  const std::uint64_t now = now_ms();
  const auto same_now = [now] { return now; };
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;
  struct LookInShard {
    Shard* shard;  // Null: none was begun.
    Shard::Probe probe;
  };
  std::array<LookInShard, kReadGroup> probes;
  for (std::size_t begin = 0; begin < items.size(); begin += kReadGroup) {
    const std::span<BatchItem> group = items.subspan(begin, std::min(kReadGroup, items.size() - begin));
    std::uint32_t sampled = 0;  // A bit for each.
    for (std::size_t i = 0; i < group.size(); ++i) {
      probes[i].shard = nullptr;
      if (group[i].status != Status::kOk) continue;
      if (sample_.has(keys[begin + i].hash)) [[unlikely]] {
        note_get(keys[begin + i]);
        sampled |= 1U << i;
      }
      Shard& shard = shard_of(keys[begin + i]);
      if (!shard.probe_start<false>(keys[begin + i], &probes[i].probe)) continue;
      probes[i].shard = &shard;
    }
    for (std::size_t i = 0; i < group.size(); ++i) {
      if (probes[i].shard == nullptr) continue;
      probes[i].shard->probe_bucket<LineUse::kRead>(keys[begin + i], &probes[i].probe);
    }
    for (std::size_t i = 0; i < group.size(); ++i) {
      BatchItem& item = group[i];
      if (item.status != Status::kOk) continue;
      const Key& key = keys[begin + i];
      std::byte* to = room->data + room->used_bytes;
      const std::uint64_t left = room->size_bytes - room->used_bytes;
      GetResult got;
      const auto outcome =
          probes[i].shard == nullptr
              ? Shard::FastGet::kUnsettled
              : probes[i].shard->finish_get(key, &probes[i].probe, {to, left, copy_below_, true, leaves_large_}, now,
                                            same_now, &got);
      if (outcome != Shard::FastGet::kAnswered) [[unlikely]] {
        got = outcome == Shard::FastGet::kLarge && !has_checksums() ? get_large(key, to, left, {deadline, now})
                                                                    : get_hashed(key, to, left, {deadline, now});
        if (got.status != Status::kOk && got.status != Status::kMiss) note_outcome(Operation::kGet, got.status);
      }
      item.status = got.status;
      item.read = got.read;
      if (item.failed()) failure = item.status;
      if (item.status == Status::kMiss) ++misses;
      if (item.status != Status::kOk && item.status != Status::kTooSmall) continue;
      const std::uint64_t taken = (item.read.value_size + kValueAlignment - 1) / kValueAlignment * kValueAlignment;
      room->needed_bytes += taken;
      if (item.status != Status::kOk) continue;
      ++hits;
      item.value = to;
      room->used_bytes += std::min(taken, left);
    }
    for (; sampled != 0; sampled &= sampled - 1) {
      const auto i = static_cast<std::size_t>(std::countr_zero(sampled));
      trace_read(keys[begin + i], group[i].status, group[i].read.value_size);
    }
  }
  count_reads(hits, misses);
  return failure;
}

}  // namespace memstream
