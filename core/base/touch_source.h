// A caller's memory may arrive slowly, from a file on a slow disk or from its own pager. These functions bring it in
// before a lock is taken, so that no other process waits for it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace memstream {

[[gnu::cold, gnu::noinline]] inline void touch_large_source(const volatile std::byte* source,
                                                            std::uint64_t size_bytes) noexcept {
  constexpr std::uint64_t kSmallestPage = 4096;
  for (std::uint64_t at = 0; at < size_bytes; at += kSmallestPage) static_cast<void>(source[at]);
  if (size_bytes != 0) static_cast<void>(source[size_bytes - 1]);
}

// Reads a byte of each page, so that the pages are in memory when the bytes are copied under a lock.
[[gnu::always_inline]] inline void touch_source(const std::byte* bytes, std::uint64_t size_bytes) noexcept {
  constexpr std::uint64_t kOnTwoPages = 4096;
  if (size_bytes - 1 >= kOnTwoPages) return touch_large_source(bytes, size_bytes);
  const volatile std::byte* const source = bytes;
  static_cast<void>(source[0]);
  static_cast<void>(source[size_bytes - 1]);
}

}  // namespace memstream
