// How an operation that changes a shard is run: locked, and once more after damage was put right.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/shard/shard.h"

namespace memstream {

// A block that is larger than the value needs is kept as long as allocating would give none that fits better.
inline constexpr std::uint64_t kSpareBytes = kMinBlockUnits * kUnitSize;

// The policy word of an entry that has got another value.
inline std::uint32_t policy_of_write(std::uint32_t old_policy, const StoreRequest& request) noexcept {
  // A write counts as a hit, and does not change the queue.
  return policy_word(request.key.hash.tag()) | (request.expires_ms != 0 ? kExpires : 0) |
         (old_policy & (kSmall | kMain | kYoung)) | std::min((old_policy & kHits) + 1, kHits);
}

// Runs `operation()` under W and, for Exclusion::kEverybody, with slow readers shut out. An operation that meets damage
// is undone by rebuilding the shard, and run once more, as `again()`; if it fails again the shard is emptied.
template <class Operation, class Again>
[[gnu::always_inline]] inline Status Shard::write(Exclusion exclusion, const Deadline& deadline, Operation operation,
                                                  Again again) noexcept {
  Status status = lock_.lock(deadline);
  if (status != Status::kOk) return status;
  lock_.assert_held();
  if (exclusion == Exclusion::kEverybody) {
    status = lock_.exclude_readers(deadline);
    if (status != Status::kOk) {
      lock_.unlock();
      return status;
    }
  }
  try {
    contents_.require_valid_bounds();
    status = operation();
  } catch (const CorruptionDetected&) {
    if (exclusion == Exclusion::kWriters) status = lock_.exclude_readers(deadline);
    if (status != Status::kOk) {
      // A slow reader stays in the shard beyond the deadline: the next holder of the lock repairs it.
      lock_.request_recovery();
      lock_.unlock();
      return status;
    }
    exclusion = Exclusion::kEverybody;
    rebuilder_.repair();
    try {
      status = again();
    } catch (const CorruptionDetected& damage) {
      status = rebuilder_.reset_after_corruption(damage);
    }
  }
  if (exclusion == Exclusion::kEverybody) lock_.let_readers_in();
  lock_.unlock();
  return status;
}

template <class Operation>
Status Shard::write(Exclusion exclusion, const Deadline& deadline, Operation operation) noexcept {
  return write(exclusion, deadline, operation, operation);
}

}  // namespace memstream
