// See lease_table.h.
#include "core/shard/lease_table.h"

#include <cassert>
#include <iterator>

#include "core/base/shared_futex.h"

namespace memstream {
namespace {

// A token: below kTokenShift the number of the lease, above it that of the grant. An end skips one number, so that
// followers can tell it from a takeover. A lease that found no place has kUnplaced below, above it the key's count of
// changes, and above that bits of its hash.
constexpr std::uint32_t kTokenShift = 8;
constexpr std::uint64_t kNumberMask = (std::uint64_t{1} << kTokenShift) - 1;
constexpr std::uint64_t kUnplaced = kNumberMask;
constexpr std::uint32_t kHashShift = kTokenShift + 32;

// In ShardSpace::leases: a lease has found no place, so changes of keys are counted.
constexpr std::uint32_t kCountsChanges = std::uint32_t{1} << 31;

std::uint64_t next_grant(std::uint64_t token) noexcept { return token + (std::uint64_t{1} << kTokenShift); }

std::uint32_t& changes_of(ShardHeader* header, const Key& key) noexcept {
  return header->lease_changes[key.hash.value % std::size(header->lease_changes)];
}

std::uint64_t unplaced_token(ShardHeader* header, const Key& key) noexcept {
  return key.hash.value >> kHashShift << kHashShift | std::uint64_t{changes_of(header, key)} << kTokenShift | kUnplaced;
}

bool is_past(const Lease& lease, std::uint64_t now_ms) noexcept {
  const std::uint64_t until_ms = lease.until_ms.load(std::memory_order_relaxed);
  return until_ms != 0 && until_ms <= now_ms;
}

}  // namespace

Status LeaseTable::grant(const LeaseRequest& request, std::uint64_t now_ms, std::uint64_t* token) noexcept {
  assert(holds_write_lock(header_));
  Lease* lease = nullptr;
  if (in_use() != 0) {
    for (Lease& held : header_->leases) {
      const std::uint64_t owner = held.owner.load(std::memory_order_relaxed);
      if (owner == 0 || held.hash.load(std::memory_order_relaxed) != request.key.hash.value) continue;
      if (owner != request.dead_owner && !is_past(held, now_ms)) return Status::kHeld;
      lease = &held;
    }
  }
  if (request.owner != 0 && lease != nullptr) {
    // Taken over without an end: followers go on with the new holder. If this process is killed before it has stored
    // the owner, the lease is as void as it was.
    *token = next_grant(lease->token.load(std::memory_order_relaxed));
    lease->token.store(*token, std::memory_order_release);
    lease->owner.store(request.owner, std::memory_order_release);
    lease->until_ms.store(request.until_ms, std::memory_order_release);
    return Status::kOk;
  }
  if (lease != nullptr) end(*lease);
  lease = request.owner == 0 ? nullptr : choose_place(now_ms);
  if (lease == nullptr) {
    space().leases |= kCountsChanges;
    *token = unplaced_token(header_, request.key);
    return Status::kFull;
  }
  const auto number = static_cast<std::uint64_t>(lease - header_->leases);
  *token = (next_grant(lease->token.load(std::memory_order_relaxed)) & ~kNumberMask) | number;
  lease->token.store(*token, std::memory_order_relaxed);
  lease->hash.store(request.key.hash.value, std::memory_order_relaxed);
  lease->until_ms.store(request.until_ms, std::memory_order_relaxed);
  ++space().leases;
  lease->owner.store(request.owner, std::memory_order_release);
  return Status::kOk;
}

// A free place; if there is none, that of a lease which nobody can fulfil any more.
Lease* LeaseTable::choose_place(std::uint64_t now_ms) noexcept {
  assert(holds_write_lock(header_));
  for (Lease& lease : header_->leases) {
    if (lease.owner.load(std::memory_order_relaxed) == 0) return &lease;
  }
  for (Lease& lease : header_->leases) {
    if (!is_void(lease, now_ms)) continue;
    end(lease);
    return &lease;
  }
  return nullptr;
}

// Whether its time is over, or its owner has left the process table. Whether an owner that stands there is alive is not
// asked here: that takes system calls, and W is held.
bool LeaseTable::is_void(const Lease& lease, std::uint64_t now_ms) const noexcept {
  assert(holds_write_lock(header_));
  return is_past(lease, now_ms) || places_.owner_of(lease.owner.load(std::memory_order_relaxed)) == nullptr;
}

bool LeaseTable::stands(const Key& key, std::uint64_t owner, std::uint64_t token) const noexcept {
  assert(holds_write_lock(header_));
  const std::uint64_t number = token & kNumberMask;
  if (number == kUnplaced) return (space().leases & kCountsChanges) != 0 && token == unplaced_token(header_, key);
  if (number >= kLeasesPerShard) return false;
  const Lease& lease = header_->leases[number];
  return owner != 0 && lease.owner.load(std::memory_order_relaxed) == owner &&
         lease.token.load(std::memory_order_relaxed) == token &&
         lease.hash.load(std::memory_order_relaxed) == key.hash.value;
}

Status LeaseTable::release(const Key& key, std::uint64_t owner, std::uint64_t token) noexcept {
  assert(holds_write_lock(header_));
  if (!stands(key, owner, token)) return Status::kConflict;
  if ((token & kNumberMask) == kUnplaced) {
    ++changes_of(header_, key);
  } else {
    end_of(key);
  }
  return Status::kOk;
}

std::uint64_t LeaseTable::holder(const Key& key, std::uint64_t now_ms) const noexcept {
  for (const Lease& lease : header_->leases) {
    const std::uint64_t owner = lease.owner.load(std::memory_order_acquire);
    if (owner == 0 || lease.hash.load(std::memory_order_relaxed) != key.hash.value || is_past(lease, now_ms)) continue;
    return owner;
  }
  return 0;
}

std::uint64_t LeaseTable::follow(const Key& key, std::uint64_t now_ms, std::uint64_t* followed,
                                 bool* is_over) const noexcept {
  for (const Lease& lease : header_->leases) {
    const std::uint64_t owner = lease.owner.load(std::memory_order_acquire);
    const std::uint64_t token = lease.token.load(std::memory_order_acquire);
    if (owner == 0 || lease.hash.load(std::memory_order_relaxed) != key.hash.value) continue;
    if (*followed != 0 && token != *followed && token != next_grant(*followed)) continue;
    *followed = token;
    *is_over = is_past(lease, now_ms);
    return owner;
  }
  return 0;
}

// ---- ending them ----

// The waiters are told last. If this process is killed before it tells them, they look by themselves after a while.
void LeaseTable::end(Lease& lease) noexcept {
  assert(holds_write_lock(header_));
  lease.owner.store(0, std::memory_order_release);
  lease.token.store(next_grant(lease.token.load(std::memory_order_relaxed)), std::memory_order_release);
  --space().leases;
  header_->lease_events.fetch_add(1, std::memory_order_release);
  futex_wake_all(header_->lease_events);
}

void LeaseTable::end_marked(const Key& key) noexcept {
  assert(holds_write_lock(header_));
  if ((space().leases & kCountsChanges) != 0) ++changes_of(header_, key);
  for (Lease& lease : header_->leases) {
    if (lease.owner.load(std::memory_order_relaxed) != 0 &&
        lease.hash.load(std::memory_order_relaxed) == key.hash.value) {
      end(lease);
    }
  }
}

void LeaseTable::end_all() noexcept {
  assert(holds_write_lock(header_));
  for (std::uint32_t& changes : header_->lease_changes) ++changes;
  for (Lease& lease : header_->leases) {
    if (lease.owner.load(std::memory_order_relaxed) != 0) end(lease);
  }
}

std::uint32_t LeaseTable::in_use() const noexcept {
  assert(holds_write_lock(header_));
  return space().leases & ~kCountsChanges;
}

std::uint32_t LeaseTable::count() const noexcept {
  assert(holds_write_lock(header_));
  std::uint32_t count = 0;
  for (const Lease& lease : header_->leases) count += lease.owner.load(std::memory_order_relaxed) != 0 ? 1U : 0U;
  return count;
}

void LeaseTable::recount() noexcept {
  assert(holds_write_lock(header_));
  for (std::uint32_t& changes : header_->lease_changes) ++changes;
  space().leases = count();
}

}  // namespace memstream
