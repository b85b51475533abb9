// Leases under the write lock; the table itself is in lease_table.h.
#include "core/shard/shard_operation.h"

namespace memstream {

Status Shard::grant_lease(const LeaseRequest& request, const OpContext& context, std::uint64_t* token) noexcept {
  return write(Exclusion::kWriters, context.deadline, [&]() MEMSTREAM_NEEDS_W {
    if (const FoundEntry found = contents_.find(request.key); found.id != 0) {
      const bool is_stale = request.stale_cas != 0 && cas_token(found) == request.stale_cas;
      if (!is_stale && !has_expired(found.block.expires_ms(), context.now_ms)) return Status::kExists;
    }
    return leases_.grant(request, context.now_ms, token);
  });
}

Status Shard::release_lease(const Key& key, std::uint64_t owner, std::uint64_t token,
                            const Deadline& deadline) noexcept {
  return write(Exclusion::kWriters, deadline, [&]() MEMSTREAM_NEEDS_W { return leases_.release(key, owner, token); });
}

}  // namespace memstream
