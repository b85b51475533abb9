// Memory of a caller may come slowly: from a file on a slow disk, from a pager of its own. Not while others wait.
#pragma once

#include <cstddef>
#include <cstdint>

namespace memstream {

// Has the system bring each page of the bytes. Before a lock is taken under which they are copied.
inline void touch_source(const std::byte* bytes, std::uint64_t size_bytes) noexcept {
  constexpr std::uint64_t kSmallestPage = 4096;
  if (size_bytes == 0) return;
  const volatile std::byte* const source = bytes;
  for (std::uint64_t at = kSmallestPage; at < size_bytes; at += kSmallestPage) static_cast<void>(source[at]);
  static_cast<void>(source[0]);
  static_cast<void>(source[size_bytes - 1]);
}

}  // namespace memstream
