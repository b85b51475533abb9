// Structs of the C interface that grow. One that begins with `struct_size` may be of any size that a version had: the
// library never reads or writes behind the caller's size.
#pragma once

#include <cstddef>
#include <cstdint>

#include "api/memstream.h"

namespace memstream {

// The sizes of the first release. Each field that was added since has 8 bytes.
inline constexpr std::size_t kFirstOptionsSize = offsetof(memstream_options_t, hugepages);
inline constexpr std::size_t kFirstStatsSize = offsetof(cache_stats_t, page_size);
static_assert(kFirstOptionsSize == 56 && kFirstStatsSize == 200);

// Whether a version of struct T had this size. Its first version had `first_size`.
template <class T>
constexpr bool is_size_of(std::size_t size, std::size_t first_size) noexcept {
  return size >= first_size && size <= sizeof(T) && (size - first_size) % sizeof(std::uint64_t) == 0;
}

// An item of a batch has no `struct_size`: the functions that end in _sized take the size beside it. Their callers may
// be newer than this library, and have larger items. The limit stops a caller that passes a wrong number.
inline constexpr std::size_t kFirstItemSize = sizeof(memstream_item_t);
inline constexpr std::size_t kMaxItemSize = 1024;
static_assert(kFirstItemSize == 72);

constexpr bool is_item_size(std::size_t size) noexcept {
  return size >= kFirstItemSize && size <= kMaxItemSize && size % alignof(memstream_item_t) == 0;
}

}  // namespace memstream
