// What making room in many holds of W keeps from one to the next.
#pragma once

#include <cstdint>

#include "core/shard/pins.h"
#include "core/shard/shard.h"

namespace memstream {

struct Shard::Clearing {
  const StoreRequest& request;  // What the block is for.
  std::uint64_t units;          // That it needs.
  PinSet& pins;
  std::uint64_t now_ms;
  std::uint32_t position = 0;  // Of the block that grows, 0: none yet. And its pin.
  std::uint32_t pin = PinSet::kNone;
  int starts = 0;
  bool looked_at_orphans = false;
  bool has_evicted = false;
  bool is_awaited = false;  // Somebody waits for the lock.
  bool is_done = false;
};

}  // namespace memstream
