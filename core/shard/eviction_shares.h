// Which part of a shard the small queue may have.
#pragma once

#include <cstdint>

namespace memstream {

// The small queue's part of all, in percent.
inline constexpr std::uint64_t kLeastSmall = 5;
inline constexpr std::uint64_t kMostSmall = 99;
// Where it has more than one part in so many, a single hit says little: an entry has long been there then.
inline constexpr std::uint64_t kLongPart = 3;

}  // namespace memstream
