// Rate limits, and semaphores whose permits end with their holder. docs/decisions/0028 says why nothing is exceeded.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <optional>
#include <thread>

#include "core/base/shared_futex.h"
#include "core/cache/cache.h"

namespace memstream {
namespace {

using std::chrono::milliseconds;

// How often a waiter asks whether the holders still live, because a death wakes no waiter.
constexpr milliseconds kPermitLook{50};
constexpr std::uint64_t kNsPerMs = 1'000'000;

// Owners of a name that the kernel calls dead. It was asked before the lock was taken, because that takes system calls.
class DeadOwners {
 public:
  bool has(std::uint64_t owner) const noexcept {
    return std::find(owners_.begin(), owners_.begin() + count_, owner) != owners_.begin() + count_;
  }
  void add(std::uint64_t owner) noexcept {
    if (count_ < owners_.size()) owners_[count_++] = owner;
  }
  bool are_perhaps_more() const noexcept { return count_ == owners_.size(); }

 private:
  std::array<std::uint64_t, 64> owners_{};
  std::uint32_t count_ = 0;
};

Status no_slot_for_permit() noexcept {
  return fail(Status::kProcessTableFull,
              "This process has no process slot yet, and a permit needs one. Try again later; a larger MEMSTREAM_SIZE "
              "has more slots.");
}

}  // namespace

std::uint64_t Cache::limit_now_ns() const noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const std::uint64_t ns =
      static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
  return ns - attached_.created_monotonic_ms * kNsPerMs;
}

Status Cache::limit_table(std::string_view key, std::optional<LimitTable>* table) noexcept {
  now_and_look();
  if (const Status status = usable(key); status != Status::kOk) return status;
  if (const Status status = writable(); status != Status::kOk) return status;
  const Geometry& geometry = attached_.geometry;
  if (!geometry.has_limits()) [[unlikely]] {
    return fail_without_throwing(Status::kInvalid, [&] {
      return fmt::format(
          "A segment of {} bytes has no rate limits and semaphores. Make a new one with at least {} MiB "
          "(MEMSTREAM_SIZE).",
          geometry.size_bytes, kLeastLimitSegment >> 20);
    });
  }
  table->emplace(segment_->data(), geometry);
  if (has_limit_memory_.load(std::memory_order_acquire)) [[likely]]
    return Status::kOk;
  const Status status = segment_->commit(geometry.areas[kLimitArea].offset, geometry.limits_size_bytes());
  if (status != Status::kOk) return status;
  (*table)->head().is_used.store(1, std::memory_order_release);
  has_limit_memory_.store(true, std::memory_order_release);
  return Status::kOk;
}

// ---- rate limits ----

Status Cache::limit(std::string_view key, const Rate& rate, std::uint64_t* wait_ms) noexcept {
  *wait_ms = 0;
  std::optional<LimitTable> table;
  if (const Status status = limit_table(key, &table); status != Status::kOk) return status;
  const std::uint64_t hash = make_key(key).hash.value;
  std::uint64_t wait_ns = 0;
  Status status = table->request(hash, limit_now_ns(), rate, &wait_ns);
  if (status == Status::kMiss) {
    Shard& lock = lock_of_limits(table->bucket_of(hash));
    if (const Status held = lock.hold(Deadline(timeout_)); held != Status::kOk) return held;
    status = table->begin_limit(hash, key, limit_now_ns(), rate, &wait_ns);
    lock.let_go(false);
  }
  if (status == Status::kHeld) *wait_ms = (wait_ns + kNsPerMs - 1) / kNsPerMs;
  if (status == Status::kFull) {
    return fail(Status::kFull,
                "So many keys have used up a part of their rate that there is no place for another one; the request is "
                "not counted. Use a larger MEMSTREAM_SIZE, or shorter periods.");
  }
  return status == Status::kOk ? after_counting(*table) : status;
}

Status Cache::reset_limit(std::string_view key) noexcept {
  std::optional<LimitTable> table;
  if (const Status status = limit_table(key, &table); status != Status::kOk) return status;
  const std::uint64_t hash = make_key(key).hash.value;
  Shard& lock = lock_of_limits(table->bucket_of(hash));
  if (const Status held = lock.hold(Deadline(timeout_)); held != Status::kOk) return held;
  const Status status = table->reset_limit(hash, limit_now_ns());
  lock.let_go(false);
  return status;
}

Status Cache::after_counting(const LimitTable& table) noexcept {
  const Deadline deadline(timeout_);
  for (;;) {
    std::uint64_t mover = table.head().mover.load(std::memory_order_seq_cst);
    if (const Status status = present(); status != Status::kOk || mover == 0) [[likely]]
      return status;
    if (!process_table_.owner_is_alive(mover)) {
      table.head().mover.compare_exchange_strong(mover, 0, std::memory_order_seq_cst);
      continue;
    }
    if (deadline.passed()) {
      return fail(
          Status::kBusy,
          "Another process resizes the segment and has not finished by the deadline. The request is counted. Try "
          "again, or allow more time with MEMSTREAM_TIMEOUT_MS.");
    }
    std::this_thread::sleep_for(milliseconds(1));
  }
}

// ---- semaphores ----

Status Cache::acquire(std::string_view name, std::uint64_t permits, milliseconds timeout,
                      std::uint64_t* permit) noexcept {
  *permit = 0;
  std::optional<LimitTable> table;
  if (const Status status = limit_table(name, &table); status != Status::kOk) return status;
  const std::uint64_t owner = process_table_.lease_owner_of(exclusive_slot());
  if (owner == 0) return no_slot_for_permit();
  const std::uint64_t hash = make_key(name).hash.value;
  HoldingStripe& stripe = table->stripe(table->stripe_of(hash));
  Shard& lock = lock_of_limits(table->stripe_of(hash));
  const Deadline deadline(timeout);
  bool has_cleaned_up = false;
  std::optional<CountedWaiter> counted;
  for (bool is_first = true;; is_first = false) {
    const std::uint32_t seen = stripe.events.load(std::memory_order_seq_cst);
    if (!is_first) stripe.has_waiters.store(1, std::memory_order_seq_cst);
    DeadOwners dead;
    const std::uint64_t held = table->held(hash, [&](std::uint64_t holder) {
      const bool is_alive = holder == owner || process_table_.owner_is_alive(holder);
      if (!is_alive) dead.add(holder);
      return is_alive;
    });
    if (held < permits) {
      if (const Status status = lock.hold(Deadline(timeout_)); status != Status::kOk) return status;
      const Status status = table->take(hash, name, permits, owner, now_ms(), [&](std::uint64_t holder) {
        return holder == owner || (pin_places_.owner_of(holder) != nullptr && !dead.has(holder));
      });
      lock.let_go(false);
      if (status == Status::kOk) *permit = owner;
      if (status == Status::kOk) return status;
      // What dead processes hold is free once they have left the process table.
      const bool is_for_the_dead = status == Status::kFull || dead.are_perhaps_more();
      if (is_for_the_dead && !has_cleaned_up && process_table_.clean_up(Deadline(timeout_)) == Status::kOk) {
        has_cleaned_up = true;
        continue;
      }
      if (status == Status::kFull) {
        return fail(Status::kFull,
                    "Too many processes hold semaphores for one more. Give some back, or use a larger MEMSTREAM_SIZE.");
      }
    }
    if (const Status status = present(); status != Status::kOk) return status;
    const std::chrono::nanoseconds left = deadline.end() - std::chrono::steady_clock::now();
    if (left <= left.zero()) return Status::kHeld;
    // A first wait looks once more, now that releases wake it.
    if (is_first) continue;
    if (!counted) counted.emplace(*this, Waiting::kPermit);
    futex_wait(stripe.events, seen, std::min<std::chrono::nanoseconds>(left, kPermitLook));
  }
}

Status Cache::give_back(std::string_view name, std::uint64_t permit) noexcept {
  std::optional<LimitTable> table;
  if (const Status status = limit_table(name, &table); status != Status::kOk) return status;
  const std::uint64_t owner = process_table_.lease_owner_of(exclusive_slot());
  return permit == 0 || permit != owner ? Status::kConflict : table->give_back(make_key(name).hash.value, owner);
}

Status Cache::count_held(std::string_view name, std::uint64_t* held) noexcept {
  *held = 0;
  std::optional<LimitTable> table;
  if (const Status status = limit_table(name, &table); status != Status::kOk) return status;
  *held = table->held(make_key(name).hash.value,
                      [&](std::uint64_t holder) { return process_table_.owner_is_alive(holder); });
  return Status::kOk;
}

std::optional<LimitTable> Cache::readable_limits() const noexcept {
  const Geometry& geometry = attached_.geometry;
  if (!geometry.has_limits()) return std::nullopt;
  if (segment_->look_for_memory(geometry.areas[kLimitArea].offset, geometry.limits_size_bytes()) == Status::kNoMemory)
    return std::nullopt;
  return LimitTable(segment_->data(), geometry);
}

Status Cache::limits(std::vector<LimitInfo>* limits) {
  limits->clear();
  look_around();
  if (const Status status = present(); status != Status::kOk) return status;
  const std::optional<LimitTable> table = readable_limits();
  if (!table) return Status::kOk;
  const std::uint64_t now_ns = limit_now_ns();
  table->for_each_rate(now_ns, [&](std::uint64_t due, const RateNote& note) {
    const std::uint64_t interval_ns = std::max<std::uint64_t>(note.interval_ns.load(std::memory_order_relaxed), 1);
    LimitInfo info;
    info.used = (due - now_ns + interval_ns - 1) / interval_ns;
    info.most = note.burst.load(std::memory_order_relaxed);
    info.interval_ns = interval_ns;
    info.restored_in_ms = (due - now_ns + kNsPerMs - 1) / kNsPerMs;
    info.label = text_of(note.label);
    limits->push_back(info);
  });
  const std::uint64_t now = now_ms();
  table->for_each_holding([&](std::uint64_t word, std::uint64_t, const HoldingNote& note) {
    LimitInfo info;
    info.pid = process_table_.pid_of(holding_owner(word));
    if (info.pid == 0 || !process_table_.owner_is_alive(holding_owner(word))) return;
    info.used = holding_count(word);
    info.most = note.permits.load(std::memory_order_relaxed);
    const std::uint64_t since = note.since_ms.load(std::memory_order_relaxed);
    info.held_for_ms = now - std::min(now, since);
    info.label = text_of(note.label);
    limits->push_back(info);
  });
  return Status::kOk;
}

// ---- another size ----

Status Cache::limits_to_move(std::optional<LimitTable>* table) noexcept {
  const Geometry& geometry = attached_.geometry;
  table->reset();
  if (!geometry.has_limits()) return Status::kOk;
  if (const Status status = segment_->commit(geometry.areas[kLimitArea].offset, kPageSize); status != Status::kOk)
    return status;
  table->emplace(segment_->data(), geometry);
  if ((*table)->head().is_used.load(std::memory_order_acquire) == 0) table->reset();
  return Status::kOk;
}

}  // namespace memstream
