// The leases of a shard: when many callers miss a key at the same time, one of them computes its value.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/base/status.h"
#include "core/layout/layout.h"
#include "core/shard/pin_places.h"
#include "core/shard/shard_types.h"
#include "core/shard/write_lock.h"

namespace memstream {

// A lease exists as long as its owner word is stored. It ends with the first write or delete of its key, no matter by
// which process; when its holder gives it up; and when its holder has died or its time is over and another takes it.
//
// holder(), follow() and events() take no lock. REQUIRES for all others: the caller holds the shard's write lock.
class LeaseTable {
 public:
  // REQUIRES: the places belong to the segment of the shard, and outlive this.
  LeaseTable(ShardHeader* header, const PinPlaces& places) noexcept : header_(header), places_(places) {}

  // kHeld if an owner that is alive has the lease; kFull if there is no place for another lease, or no owner: the token
  // stands then until the key changes, and keeps nobody away.
  // REQUIRES: the key has no entry, or only one that the request calls stale.
  Status grant(const LeaseRequest& request, std::uint64_t now_ms, std::uint64_t* token) noexcept MEMSTREAM_NEEDS_W;
  // Ends a lease without a value; kConflict if the owner no longer holds it.
  Status release(const Key& key, std::uint64_t owner, std::uint64_t token) noexcept MEMSTREAM_NEEDS_W;
  // Whether the owner may still store the key's value under this token.
  bool stands(const Key& key, std::uint64_t owner, std::uint64_t token) const noexcept MEMSTREAM_NEEDS_W;

  // The owner of the key's lease, dead or alive; 0: nobody.
  std::uint64_t holder(const Key& key, std::uint64_t now_ms) const noexcept;
  // The same for the lease `*followed` and for those that take it over; 0: it was ended. `*followed` 0: any of the key.
  std::uint64_t follow(const Key& key, std::uint64_t now_ms, std::uint64_t* followed, bool* is_over) const noexcept;
  // A word that changes with every lease of the shard that ends. Load it before holder(), and wait on it after.
  std::atomic<std::uint32_t>& events() const noexcept { return header_->lease_events; }

  // Ends the lease of the key, no matter whose it is: a write must not be followed by a value computed before it.
  void end_of(const Key& key) noexcept MEMSTREAM_NEEDS_W {
    if (header_->space.leases == 0) [[likely]]
      return;
    end_marked(key);
  }
  void end_all() noexcept MEMSTREAM_NEEDS_W;
  // Ends those of owners that are dead, and returns how many these were.
  template <class IsAlive>
  std::uint32_t end_of_dead(const IsAlive& is_alive) noexcept MEMSTREAM_NEEDS_W {
    std::uint32_t ended = 0;
    for (Lease& lease : header_->leases) {
      const std::uint64_t owner = lease.owner.load(std::memory_order_relaxed);
      if (owner == 0 || is_alive(owner)) continue;
      end(lease);
      ++ended;
    }
    return ended;
  }

  // How many there are, by the shard's count and by a look at each place.
  std::uint32_t in_use() const noexcept MEMSTREAM_NEEDS_W;
  std::uint32_t count() const noexcept MEMSTREAM_NEEDS_W;
  // After damage nobody knows which keys changed, so every process that computes without a lease is told that its own
  // did.
  void recount() noexcept MEMSTREAM_NEEDS_W;

 private:
  Lease* choose_place(std::uint64_t now_ms) noexcept MEMSTREAM_NEEDS_W;
  bool is_void(const Lease& lease, std::uint64_t now_ms) const noexcept MEMSTREAM_NEEDS_W;
  void end(Lease& lease) noexcept MEMSTREAM_NEEDS_W;
  void end_marked(const Key& key) noexcept MEMSTREAM_NEEDS_W;
  ShardSpace& space() const noexcept { return header_->space; }

  ShardHeader* header_;
  const PinPlaces& places_;
};

}  // namespace memstream
