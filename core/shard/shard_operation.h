// How an operation that changes a shard is run: locked, and once more after damage was put right.
#pragma once

#include "core/shard/shard.h"

namespace memstream {

// Runs `operation()` under W and, for Exclusion::kEverybody, with slow readers shut out. An operation that meets damage
// is undone by rebuilding the shard, and run once more; if it fails again the shard is emptied.
template <class Operation>
Status Shard::write(Exclusion exclusion, const Deadline& deadline, Operation operation) noexcept {
  Status status = lock_.lock(deadline);
  if (status != Status::kOk) return status;
  if (exclusion == Exclusion::kEverybody) {
    status = lock_.exclude_readers(deadline);
    if (status != Status::kOk) {
      lock_.unlock();
      return status;
    }
  }
  try {
    require_valid_bounds();
    status = operation();
  } catch (const CorruptionDetected&) {
    if (exclusion == Exclusion::kWriters) status = lock_.exclude_readers(deadline);
    if (status != Status::kOk) {
      // A slow reader stays in the shard beyond the deadline: whoever gets the lock next repairs it.
      lock_.request_recovery();
      lock_.unlock();
      return status;
    }
    exclusion = Exclusion::kEverybody;
    repair_after_damage();
    try {
      status = operation();
    } catch (const CorruptionDetected& damage) {
      status = reset_after_corruption(damage);
    }
  }
  if (exclusion == Exclusion::kEverybody) lock_.admit_readers();
  lock_.unlock();
  return status;
}

}  // namespace memstream
