// What every operation on a shard gets besides its request.
#pragma once

#include <cstdint>

#include "core/base/clock.h"

namespace memstream {

// The limits of one operation: how long it may wait, and which instant it takes for now. Operations of one call share a
// deadline, so it is a reference; the deadline must outlive the operation.
struct OpContext {
  const Deadline& deadline;
  std::uint64_t now_ms;  // On the segment's clock.
};

}  // namespace memstream
