// Copying bytes that another process may be writing or reading at the same moment.
//
// A reader without a lock copies first and asks afterwards whether the bytes stood still (the entry's ref is
// unchanged); the copy itself may therefore race, on purpose, and what it brought is thrown away then. The compiler
// must not assume otherwise: the fences around these copies order them, and under ThreadSanitizer, which would report
// the race, the bytes move through relaxed atomics instead of memcpy.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstring>

namespace memstream {

#if defined(__SANITIZE_THREAD__)
#define MEMSTREAM_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MEMSTREAM_THREAD_SANITIZER 1
#endif
#endif

#ifdef MEMSTREAM_THREAD_SANITIZER

inline void copy_from_shared(void* to, const void* from, std::size_t size_bytes) noexcept {
  for (std::size_t i = 0; i < size_bytes; ++i) {
    static_cast<unsigned char*>(to)[i] = __atomic_load_n(static_cast<const unsigned char*>(from) + i, __ATOMIC_RELAXED);
  }
}

inline void copy_to_shared(void* to, const void* from, std::size_t size_bytes) noexcept {
  for (std::size_t i = 0; i < size_bytes; ++i) {
    __atomic_store_n(static_cast<unsigned char*>(to) + i, static_cast<const unsigned char*>(from)[i], __ATOMIC_RELAXED);
  }
}

inline bool equal_in_shared(const void* shared, const void* other, std::size_t size_bytes) noexcept {
  bool equal = true;
  for (std::size_t i = 0; i < size_bytes; ++i) {
    equal &= __atomic_load_n(static_cast<const unsigned char*>(shared) + i, __ATOMIC_RELAXED) ==
             static_cast<const unsigned char*>(other)[i];
  }
  return equal;
}

#else

inline void copy_from_shared(void* to, const void* from, std::size_t size_bytes) noexcept {
  if (size_bytes != 0) std::memcpy(to, from, size_bytes);
}

inline void copy_to_shared(void* to, const void* from, std::size_t size_bytes) noexcept {
  if (size_bytes != 0) std::memcpy(to, from, size_bytes);
}

inline bool equal_in_shared(const void* shared, const void* other, std::size_t size_bytes) noexcept {
  return std::memcmp(shared, other, size_bytes) == 0;
}

#endif

}  // namespace memstream
