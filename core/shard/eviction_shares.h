// Which part of a shard the small queue may have.
#pragma once

#include <cstdint>

namespace memstream {

// The small queue's part of all, in percent.
inline constexpr std::uint64_t kLeastSmall = 5;
inline constexpr std::uint64_t kMostSmall = 99;
// Above this part (one in kLongPart) a single hit says little, because an entry stays long in the small queue.
inline constexpr std::uint64_t kLongPart = 3;

}  // namespace memstream
