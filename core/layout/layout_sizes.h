// The sizes in which the layout is measured.
#pragma once

#include <cstddef>

namespace memstream {

inline constexpr std::size_t kPageSize = 4096;
inline constexpr std::size_t kCacheLineSize = 64;
inline constexpr std::size_t kUnitSize = 16;

}  // namespace memstream
