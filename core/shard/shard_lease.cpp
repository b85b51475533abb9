// Leases: of many who miss a key at the same time, one computes it.
//
// A lease is there as long as its owner word is stored. It ends with the first write or delete of its key, by whomever;
// when its holder gives it up; when its holder has died or its time is over and somebody else takes it.
#include <iterator>

#include "core/base/shared_futex.h"
#include "core/shard/shard_operation.h"

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

Status Shard::grant_lease(const LeaseRequest& request, const Deadline& deadline, std::uint64_t now_ms,
                          std::uint64_t* token) noexcept {
  return write(Exclusion::kWriters, deadline, [&] {
    if (const FoundEntry found = find(request.key); found.id != 0) {
      const bool is_stale = request.stale_cas != 0 && cas_token(found) == request.stale_cas;
      if (!is_stale && !has_expired(found.block.expires_ms(), now_ms)) return Status::kExists;
    }
    Lease* lease = nullptr;
    if (leases_in_use() != 0) {
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
    if (lease != nullptr) end_lease(*lease);
    lease = request.owner == 0 ? nullptr : choose_lease(now_ms);
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
  });
}

// A free place; if there is none, that of a lease which nobody can fulfil any more.
Lease* Shard::choose_lease(std::uint64_t now_ms) noexcept {
  for (Lease& lease : header_->leases) {
    if (lease.owner.load(std::memory_order_relaxed) == 0) return &lease;
  }
  for (Lease& lease : header_->leases) {
    if (!lease_is_void(lease, now_ms)) continue;
    end_lease(lease);
    return &lease;
  }
  return nullptr;
}

// Whether its time is over, or its owner has left the process table. Whether an owner that stands there is alive is not
// asked here: that takes system calls, and W is held.
bool Shard::lease_is_void(const Lease& lease, std::uint64_t now_ms) const noexcept {
  return is_past(lease, now_ms) || pins_.places().owner_of(lease.owner.load(std::memory_order_relaxed)) == nullptr;
}

bool Shard::lease_stands(const Key& key, std::uint64_t owner, std::uint64_t token) const noexcept {
  const std::uint64_t number = token & kNumberMask;
  if (number == kUnplaced) return (space().leases & kCountsChanges) != 0 && token == unplaced_token(header_, key);
  if (number >= kLeasesPerShard) return false;
  const Lease& lease = header_->leases[number];
  return owner != 0 && lease.owner.load(std::memory_order_relaxed) == owner &&
         lease.token.load(std::memory_order_relaxed) == token &&
         lease.hash.load(std::memory_order_relaxed) == key.hash.value;
}

Status Shard::release_lease(const Key& key, std::uint64_t owner, std::uint64_t token,
                            const Deadline& deadline) noexcept {
  return write(Exclusion::kWriters, deadline, [&] {
    if (!lease_stands(key, owner, token)) return Status::kConflict;
    if ((token & kNumberMask) == kUnplaced) {
      ++changes_of(header_, key);
    } else {
      end_lease_of(key);
    }
    return Status::kOk;
  });
}

std::uint64_t Shard::lease_holder(const Key& key, std::uint64_t now_ms) const noexcept {
  for (const Lease& lease : header_->leases) {
    const std::uint64_t owner = lease.owner.load(std::memory_order_acquire);
    if (owner == 0 || lease.hash.load(std::memory_order_relaxed) != key.hash.value || is_past(lease, now_ms)) continue;
    return owner;
  }
  return 0;
}

std::uint64_t Shard::follow_lease(const Key& key, std::uint64_t now_ms, std::uint64_t* followed,
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
void Shard::end_lease(Lease& lease) noexcept {
  lease.owner.store(0, std::memory_order_release);
  lease.token.store(next_grant(lease.token.load(std::memory_order_relaxed)), std::memory_order_release);
  --space().leases;
  header_->lease_events.fetch_add(1, std::memory_order_release);
  futex_wake_all(header_->lease_events);
}

void Shard::end_lease_of(const Key& key) noexcept {
  if (space().leases == 0) [[likely]]
    return;
  end_marked_lease_of(key);
}

void Shard::end_marked_lease_of(const Key& key) noexcept {
  if ((space().leases & kCountsChanges) != 0) ++changes_of(header_, key);
  for (Lease& lease : header_->leases) {
    if (lease.owner.load(std::memory_order_relaxed) != 0 &&
        lease.hash.load(std::memory_order_relaxed) == key.hash.value) {
      end_lease(lease);
    }
  }
}

void Shard::end_all_leases() noexcept {
  for (std::uint32_t& changes : header_->lease_changes) ++changes;
  for (Lease& lease : header_->leases) {
    if (lease.owner.load(std::memory_order_relaxed) != 0) end_lease(lease);
  }
}

std::uint32_t Shard::leases_in_use() const noexcept { return space().leases & ~kCountsChanges; }

std::uint32_t Shard::count_leases() const noexcept {
  std::uint32_t count = 0;
  for (const Lease& lease : header_->leases) count += lease.owner.load(std::memory_order_relaxed) != 0 ? 1U : 0U;
  return count;
}

// After damage nobody knows what changed, so whoever computes without a lease has to be told that something did.
void Shard::recount_leases() noexcept {
  for (std::uint32_t& changes : header_->lease_changes) ++changes;
  space().leases = count_leases();
}

}  // namespace memstream
