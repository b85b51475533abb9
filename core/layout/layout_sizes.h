// The sizes that all of the layout is counted in.
#pragma once

#include <cstddef>

namespace memstream {

inline constexpr std::size_t kPageSize = 4096;
inline constexpr std::size_t kCacheLineSize = 64;
inline constexpr std::size_t kUnitSize = 16;

}  // namespace memstream
