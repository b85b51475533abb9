// The bytes of a segment, continued: the words in area 3 on which processes sleep until an entry changes.
// docs/decisions/0026 says why no wake-up is lost.
//
// Any bytes may lie here after damage: the worst is a wake-up too many, or a sleep that ends with its slice.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/layout/layout_sizes.h"

namespace memstream {

inline constexpr std::uint32_t kWaitArea = 3;
inline constexpr std::uint32_t kWaitWords = 1024;

// One word for all keys whose hashes have the same lower bits, in all shards. Bit 0: somebody sleeps, or is about to.
// The bits above it count the changes that found bit 0 set.
struct WaitWords {
  std::atomic<std::uint32_t> words[kWaitWords];
};
inline constexpr std::uint32_t kSomebodyWaits = 1;
inline constexpr std::uint64_t kWaitAreaSize = sizeof(WaitWords);
static_assert(kWaitAreaSize == kPageSize);

}  // namespace memstream
