// Structs of the C interface that begin with `struct_size` and grew: a caller may have been compiled with any of the
// sizes that they had. What lies behind the caller's size is never read or written.
#pragma once

#include <cstddef>
#include <cstdint>

#include "api/memstream.h"

namespace memstream {

// The sizes of the first release. Each field that was added since has 8 bytes.
inline constexpr std::size_t kFirstOptionsSize = offsetof(memstream_options_t, hugepages);
inline constexpr std::size_t kFirstStatsSize = offsetof(cache_stats_t, page_size);
static_assert(kFirstOptionsSize == 56 && kFirstStatsSize == 200);

// Whether a struct of type T can have had this size, since it had `first_size`.
template <class T>
constexpr bool is_size_of(std::size_t size, std::size_t first_size) noexcept {
  return size >= first_size && size <= sizeof(T) && (size - first_size) % sizeof(std::uint64_t) == 0;
}

}  // namespace memstream
