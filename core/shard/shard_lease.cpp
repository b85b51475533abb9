// Leases under the write lock; the table itself is in lease_table.h.
#include <algorithm>

#include "core/shard/shard_operation.h"

namespace memstream {

Status Shard::grant_lease(const LeaseRequest& request, const OpContext& context, std::uint64_t* token) noexcept {
  return write(Exclusion::kWriters, context.deadline, [&]() MEMSTREAM_NEEDS_W {
    if (const FoundEntry found = contents_.find(request.key); found.id != 0) {
      const bool is_stale = request.stale_cas != 0 && cas_token(found) == request.stale_cas;
      if (!is_stale && !tags_.is_over(backing(), found.block, context.now_ms)) return Status::kExists;
    }
    return leases_.grant(request, context.now_ms, token);
  });
}

Status Shard::release_lease(const Key& key, std::uint64_t owner, std::uint64_t token,
                            const Deadline& deadline) noexcept {
  return write(Exclusion::kWriters, deadline, [&]() MEMSTREAM_NEEDS_W { return leases_.release(key, owner, token); });
}

Status Shard::pass_write_lock(const Deadline& deadline) noexcept {
  return write(Exclusion::kWriters, deadline, []() MEMSTREAM_NEEDS_W { return Status::kOk; });
}

void Shard::mend_after_death(const Deadline& deadline) noexcept {
  // If readers are in the way, the next call or the next writer does it.
  if (lock_.is_left_by_the_dead()) static_cast<void>(pass_write_lock(deadline));
}

Status Shard::reap(const Deadline& deadline, const std::function<bool(std::uint64_t owner)>& is_alive,
                   ReapReport* report) noexcept {
  std::uint64_t recoveries = 0;
  std::uint64_t pinned_bytes = 0;
  copy_from_shared(&recoveries, &header_->counters.recoveries, sizeof recoveries);
  copy_from_shared(&pinned_bytes, &header_->space.pinned_memory, sizeof pinned_bytes);
  return write(Exclusion::kWriters, deadline, [&]() MEMSTREAM_NEEDS_W {
    report->leases += leases_.end_of_dead(is_alive);
    retired_.free_all();
    report->locks += header_->counters.recoveries - recoveries;
    report->freed_bytes += pinned_bytes - std::min(pinned_bytes, space().pinned_memory);
    return Status::kOk;
  });
}

}  // namespace memstream
