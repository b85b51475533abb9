// The counters by which a fill of a near cache learns that its key was invalidated meanwhile: docs/decisions/0024.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/layout/geometry.h"
#include "core/layout/hash.h"
#include "core/layout/layout_near.h"

namespace memstream {

// REQUIRES: the segment at `segment` has a near table, which has memory.
inline NearTable& near_table_of(std::byte* segment, const Geometry& geometry) noexcept {
  return *reinterpret_cast<NearTable*>(segment + geometry.areas[kNearArea].offset);
}

// All bits of the hash count, since keys of one shard or one bucket have parts of it in common.
constexpr std::uint32_t near_counter_number(KeyHash hash) noexcept {
  return static_cast<std::uint32_t>(hash.value * 0x9e37'79b9'7f4a'7c15 >> 52) % kNearCounters;
}

}  // namespace memstream
