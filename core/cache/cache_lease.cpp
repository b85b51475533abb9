// Leases: granting the right to compute a value, and waiting for the process that has it.
#include <algorithm>
#include <chrono>
#include <optional>

#include "core/base/shared_futex.h"
#include "core/cache/cache.h"

namespace memstream {
namespace {

using std::chrono::milliseconds;

// How often a waiter asks whether the holder still lives, because a death wakes no waiter.
constexpr milliseconds kLook{50};
constexpr std::uint64_t kLongestLease = std::uint64_t{1} << 46;

// Without a slot no process could tell when the holder dies.
Status no_slot_for_lease() noexcept {
  return fail(Status::kProcessTableFull,
              "This process has no process slot yet, and a lease needs one. Compute the value without a lease, or try "
              "again later; a larger MEMSTREAM_SIZE has more slots.");
}

}  // namespace

Status Cache::lease(std::string_view key, std::uint64_t stale_cas, std::uint64_t lease_ms,
                    std::uint64_t* token) noexcept {
  return noted(Operation::kLease, grant_lease(key, stale_cas, lease_ms, token));
}

Status Cache::grant_lease(std::string_view key, std::uint64_t stale_cas, std::uint64_t lease_ms,
                          std::uint64_t* token) noexcept {
  *token = 0;
  const std::uint64_t now = now_and_look();
  if (const Status status = usable(key); status != Status::kOk) return status;
  if (const Status status = writable(); status != Status::kOk) return status;
  const std::uint64_t owner = process_table_.lease_owner_of(exclusive_slot());
  if (owner == 0) return no_slot_for_lease();
  const Key hashed = make_key(key);
  Shard& shard = shard_of(hashed);
  LeaseRequest request{.key = hashed,
                       .stale_cas = stale_cas,
                       .owner = owner,
                       .until_ms = lease_ms == 0 ? 0 : now + std::min(lease_ms, kLongestLease)};
  // Asks whether the holder is alive before it takes the lock: that takes system calls, and while a value is stale
  // every reader asks.
  if (const std::uint64_t holder = shard.leases().holder(hashed, now); holder != 0) {
    if (holder == request.owner || process_table_.owner_is_alive(holder)) {
      std::uint64_t cas = 0;
      const Status there =
          shard.inspect(hashed, {Deadline(timeout_), now}, [&](const ScannedEntry& entry) { cas = entry.cas; });
      if (there != Status::kOk && there != Status::kMiss) return there;
      return there == Status::kOk && (stale_cas == 0 || cas != stale_cas) ? Status::kExists : Status::kHeld;
    }
    request.dead_owner = holder;
  }
  const Deadline deadline(timeout_);
  Status status = shard.grant_lease(request, {deadline, now}, token);
  if (status == Status::kFull) {
    // The leases of dead processes are free once these have left the process table.
    if (process_table_.clean_up(deadline) == Status::kOk) {
      status = shard.grant_lease(request, {deadline, now}, token);
    }
  }
  return status == Status::kFull ? Status::kOk : status;
}

bool Cache::wait_for_lease_event(std::atomic<std::uint32_t>& events, std::uint32_t seen, const Deadline& deadline,
                                 std::optional<CountedWaiter>* counted) noexcept {
  const std::chrono::nanoseconds left = deadline.end() - std::chrono::steady_clock::now();
  if (left <= left.zero()) return false;
  if (!*counted) counted->emplace(*this, Waiting::kLease);
  futex_wait(events, seen, std::min<std::chrono::nanoseconds>(left, kLook));
  return true;
}

Status Cache::wait_for_lease(std::string_view key, milliseconds timeout) noexcept {
  if (const Status status = usable(key); status != Status::kOk) return status;
  if (const Status status = writable(); status != Status::kOk) return status;
  const Key hashed = make_key(key);
  Shard& shard = shard_of(hashed);
  const Deadline deadline(timeout);
  std::optional<CountedWaiter> counted;
  for (;;) {
    std::atomic<std::uint32_t>& events = shard.leases().events();
    const std::uint32_t seen = events.load(std::memory_order_acquire);
    const std::uint64_t holder = shard.leases().holder(hashed, now_ms());
    if (holder == 0 || !process_table_.owner_is_alive(holder)) return Status::kOk;
    if (const Status status = present(); status != Status::kOk) return status;
    if (!wait_for_lease_event(events, seen, deadline, &counted)) return Status::kHeld;
  }
}

Status Cache::follow_lease(std::string_view key, std::uint64_t* followed, milliseconds timeout) noexcept {
  if (const Status status = usable(key); status != Status::kOk) return status;
  if (const Status status = writable(); status != Status::kOk) return status;
  const Key hashed = make_key(key);
  Shard& shard = shard_of(hashed);
  const Deadline deadline(timeout);
  std::optional<CountedWaiter> counted;
  for (;;) {
    std::atomic<std::uint32_t>& events = shard.leases().events();
    const std::uint32_t seen = events.load(std::memory_order_acquire);
    bool is_over = false;
    const std::uint64_t holder = shard.leases().follow(hashed, now_ms(), followed, &is_over);
    if (const Status status = present(); status != Status::kOk) return status;
    if (holder == 0) return Status::kOk;
    if (is_over || !process_table_.owner_is_alive(holder)) return Status::kMiss;
    if (!wait_for_lease_event(events, seen, deadline, &counted)) return Status::kHeld;
  }
}

Status Cache::release_lease(std::string_view key, std::uint64_t token) noexcept {
  if (const Status status = usable(key); status != Status::kOk) return status;
  if (const Status status = writable(); status != Status::kOk) return status;
  if (token == 0) return Status::kConflict;  // Of no lease: there is none to look for.
  const Key hashed = make_key(key);
  const std::uint64_t owner = process_table_.lease_owner_of(exclusive_slot());
  if (owner == 0) return no_slot_for_lease();
  return shard_of(hashed).release_lease(hashed, owner, token, Deadline(timeout_));
}

}  // namespace memstream
