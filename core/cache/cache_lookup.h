// A get from end to end, inline: everything around the look-up in the shard.
#pragma once

#include "core/base/local_counter.h"
#include "core/cache/cache.h"
#include "core/shard/quick_get.h"
#include "core/shard/shard_lookup.h"

namespace memstream {

inline void Cache::count_reads(std::uint64_t hits, std::uint64_t misses) noexcept {
  ProcessSlot* own = slot();
  if (own == nullptr) return;
  if (hits != 0) add_local(own->counters.hits, hits);
  if (misses != 0) add_local(own->counters.misses, misses);
}

// Counts a get that found its key, or missed.
inline void Cache::count_read(Status status) noexcept {
  count_reads(status == Status::kOk ? 1 : 0, status == Status::kMiss ? 1 : 0);
}

// Passes no address of a local variable to another function, so that all of them stay in registers.
[[gnu::always_inline]] inline GetResult Cache::get(std::string_view key, std::byte* buffer, std::uint64_t capacity,
                                                   bool wants_all) noexcept {
  if (!is_possible(key) || is_gone()) [[unlikely]]
    return {why_unusable(key), {}};
  const Key hashed = make_key(key);
  if (sample_.has(hashed.hash)) [[unlikely]]
    return get_sampled(key, buffer, capacity, wants_all);
  return answer(hashed, buffer, capacity, wants_all);
}

[[gnu::always_inline]] inline GetResult Cache::answer(const Key& hashed, std::byte* buffer, std::uint64_t capacity,
                                                      bool wants_all) noexcept {
  const auto now = [this] { return now_ms(); };
  const auto noted = [this] { return access_instant(); };
  GetResult got;
  const ReadBuffer read_room{buffer, capacity, copy_below_, wants_all, leaves_large_};
  const Shard::FastGet outcome = shard_of(hashed).try_get_fast(hashed, read_room, noted, now, &got);
  if (outcome != Shard::FastGet::kAnswered) [[unlikely]]
    return get_slow(hashed.bytes, buffer, capacity, outcome == Shard::FastGet::kLarge);
  // Each outcome counts and returns for itself, instead of through count_read(): 20 to 30 instructions less.
  if (got.status == Status::kMiss) {
    if (ProcessSlot* own = slot(); own != nullptr) [[likely]] {
      add_local(own->counters.misses, 1);
      return {Status::kMiss, {}};
    }
  } else if (ProcessSlot* own = slot(); own != nullptr) [[likely]] {
    add_local(own->counters.hits, 1);
    return got;
  }
  got.status = uncounted(got.status);
  return got;
}

// While the access clock is good for a call, this process has a slot, and so may write to the segment.
template <bool kWantsAll>
[[gnu::always_inline]] inline Shard::QuickAnswer Cache::get_quickly(AccessClock& clock, std::string_view key,
                                                                    std::byte* buffer, const std::size_t* capacity,
                                                                    ReadResult* read, Entry** entry) noexcept {
  if (!is_now(*state_.load(std::memory_order_relaxed), static_cast<std::uint32_t>(HeaderState::kReady)) ||
      !clock.take()) [[unlikely]]
    return Shard::QuickAnswer::kNone;
  const Key hashed = make_key(key);
  if (sample_.has(hashed.hash)) [[unlikely]]
    return Shard::QuickAnswer::kNone;
  return shard_of(hashed).template get_quickly<kWantsAll>(hashed, buffer, capacity, read, entry);
}

inline void Cache::renew_quick(AccessClock& clock) noexcept {
  if (!clock.is_used_up()) return;
  static_cast<void>(access_instant(clock));
  if (is_inside()) clock.give_one();
}

// There was a slot when the get began. A child that a signal handler has forked since has none, and its read is not
// counted.
template <Threads kThreads>
[[gnu::always_inline]] inline void Cache::note_quick_hit(const AccessClock& clock, Entry& entry) noexcept {
  // The pointer to the clock of the only thread is made again: keeping it would take a register from the look-up.
  const AccessClock& own = kThreads == Threads::kOne ? own_->access_clock : clock;
  if (Shard::note_access(entry, own.instant())) [[unlikely]]
    note_hot(entry);
  if (ProcessSlot* const slot = own_->slot.load(std::memory_order_relaxed); slot != nullptr) [[likely]]
    count_quickly<kThreads>(slot->counters.hits);
}

template <Threads kThreads>
[[gnu::always_inline]] inline void Cache::note_quick_miss() noexcept {
  if (ProcessSlot* const slot = own_->slot.load(std::memory_order_relaxed); slot != nullptr) [[likely]]
    count_quickly<kThreads>(slot->counters.misses);
}

template <Threads kThreads>
[[gnu::always_inline]] inline void Cache::count_quickly(std::atomic<std::uint64_t>& counter) noexcept {
  if constexpr (kThreads == Threads::kOne) {
    add_unlocked(counter, std::uint64_t{1});
  } else {
    counter.fetch_add(1, std::memory_order_relaxed);
  }
}

}  // namespace memstream
