// Copying bytes that another process may be writing or reading at the same moment.
//
// A reader without a lock copies first and then checks that the bytes did not change (the entry's ref is the same). The
// copy may race on purpose; the reader then discards it. Fences around these copies order them. ThreadSanitizer would
// report the race, so there the bytes move through relaxed atomics instead of memcpy.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace memstream {

#if defined(__SANITIZE_THREAD__)
#define MEMSTREAM_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MEMSTREAM_THREAD_SANITIZER 1
#endif
#endif

// Compares a word that others may change with `value`. For a relaxed load and a comparison compilers emit two
// instructions where one suffices, and a get has many of them.
template <class Word>
[[gnu::always_inline]] inline bool is_now(const std::atomic<Word>& word, Word value) noexcept {
#if defined(__x86_64__) && !defined(MEMSTREAM_THREAD_SANITIZER)
  bool is_equal;
  if constexpr (sizeof(Word) == 4) {
    asm volatile("cmpl %2, %1" : "=@cce"(is_equal) : "m"(word), "er"(value));
  } else {
    asm volatile("cmpq %2, %1" : "=@cce"(is_equal) : "m"(word), "er"(value));
  }
  return is_equal;
#else
  return word.load(std::memory_order_relaxed) == value;
#endif
}
[[gnu::always_inline]] inline bool is_above_now(const std::atomic<std::uint32_t>& word, std::uint32_t value) noexcept {
#if defined(__x86_64__) && !defined(MEMSTREAM_THREAD_SANITIZER)
  bool is_above;
  asm volatile("cmpl %2, %1" : "=@cca"(is_above) : "m"(word), "er"(value));
  return is_above;
#else
  return word.load(std::memory_order_relaxed) > value;
#endif
}

#ifdef MEMSTREAM_THREAD_SANITIZER

inline void copy_from_shared(void* to, const void* from, std::size_t size_bytes) noexcept {
  for (std::size_t i = 0; i < size_bytes; ++i) {
    static_cast<unsigned char*>(to)[i] = __atomic_load_n(static_cast<const unsigned char*>(from) + i, __ATOMIC_RELAXED);
  }
}

inline bool copy_small_from_shared(void* to, const void* from, std::size_t size_bytes) noexcept {
  copy_from_shared(to, from, size_bytes);
  return true;
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

// Most keys and small values fit in a few registers, so calling memcpy() or memcmp() would cost more than the copy. Two
// pieces that may overlap cover every size from one piece to two; four cover the sizes above.
namespace pieces {

using Bytes16 = std::uint64_t __attribute__((vector_size(16)));

template <class Piece>
inline Piece load(const std::byte* from) noexcept {
  Piece piece;
  std::memcpy(&piece, from, sizeof piece);
  return piece;
}

template <class Piece>
inline void copy_two(std::byte* to, const std::byte* from, std::size_t size_bytes) noexcept {
  const auto first = load<Piece>(from);
  const auto last = load<Piece>(from + size_bytes - sizeof(Piece));
  std::memcpy(to, &first, sizeof first);
  std::memcpy(to + size_bytes - sizeof(Piece), &last, sizeof last);
}

template <class Piece>
inline void copy_four(std::byte* to, const std::byte* from, std::size_t size_bytes) noexcept {
  const auto first = load<Piece>(from);
  const auto second = load<Piece>(from + sizeof(Piece));
  const auto third = load<Piece>(from + size_bytes - 2 * sizeof(Piece));
  const auto last = load<Piece>(from + size_bytes - sizeof(Piece));
  std::memcpy(to, &first, sizeof first);
  std::memcpy(to + sizeof(Piece), &second, sizeof second);
  std::memcpy(to + size_bytes - 2 * sizeof(Piece), &third, sizeof third);
  std::memcpy(to + size_bytes - sizeof(Piece), &last, sizeof last);
}

template <class Piece>
inline bool equal_two(const std::byte* left, const std::byte* right, std::size_t size_bytes) noexcept {
  const std::size_t last = size_bytes - sizeof(Piece);
  return ((load<Piece>(left) ^ load<Piece>(right)) | (load<Piece>(left + last) ^ load<Piece>(right + last))) == 0;
}

}  // namespace pieces

inline void copy_bytes(void* to, const void* from, std::size_t size_bytes) noexcept {
  auto* target = static_cast<std::byte*>(to);
  const auto* source = static_cast<const std::byte*>(from);
  if (size_bytes > 4 * sizeof(pieces::Bytes16)) {
    std::memcpy(to, from, size_bytes);
  } else if (size_bytes >= 2 * sizeof(pieces::Bytes16)) {
    pieces::copy_four<pieces::Bytes16>(target, source, size_bytes);
  } else if (size_bytes >= sizeof(pieces::Bytes16)) {
    pieces::copy_two<pieces::Bytes16>(target, source, size_bytes);
  } else if (size_bytes >= sizeof(std::uint64_t)) {
    pieces::copy_two<std::uint64_t>(target, source, size_bytes);
  } else if (size_bytes >= sizeof(std::uint32_t)) {
    pieces::copy_two<std::uint32_t>(target, source, size_bytes);
  } else {
    for (std::size_t i = 0; i < size_bytes; ++i) target[i] = source[i];
  }
}

// As copy_from_shared(), but never calls a function: a call would make its caller save registers. Returns false and
// copies nothing if there are more than 256 bytes.
[[gnu::always_inline]] inline bool copy_small_from_shared(void* to, const void* from, std::size_t size_bytes) noexcept {
  using pieces::Bytes16;
  constexpr std::size_t kMost = 256;
  constexpr std::size_t kFour = 4 * sizeof(Bytes16);
  auto* target = static_cast<std::byte*>(to);
  const auto* source = static_cast<const std::byte*>(from);
  if (size_bytes - kFour / 2 <= kFour / 2) [[likely]] {
    pieces::copy_four<Bytes16>(target, source, size_bytes);
    return true;
  }
  if (size_bytes <= kFour) {
    copy_bytes(to, from, size_bytes);
    return true;
  }
  if (size_bytes > kMost) return false;
  std::size_t done = 0;
  for (; done < size_bytes - kFour; done += kFour) pieces::copy_four<Bytes16>(target + done, source + done, kFour);
  pieces::copy_four<Bytes16>(target + size_bytes - kFour, source + size_bytes - kFour, kFour);
  return true;
}

inline void copy_from_shared(void* to, const void* from, std::size_t size_bytes) noexcept {
  copy_bytes(to, from, size_bytes);
}

inline void copy_to_shared(void* to, const void* from, std::size_t size_bytes) noexcept {
  copy_bytes(to, from, size_bytes);
}

inline bool equal_in_shared(const void* shared, const void* other, std::size_t size_bytes) noexcept {
  const auto* left = static_cast<const std::byte*>(shared);
  const auto* right = static_cast<const std::byte*>(other);
  if (size_bytes > 2 * sizeof(std::uint64_t)) return std::memcmp(shared, other, size_bytes) == 0;
  if (size_bytes >= sizeof(std::uint64_t)) return pieces::equal_two<std::uint64_t>(left, right, size_bytes);
  if (size_bytes >= sizeof(std::uint32_t)) return pieces::equal_two<std::uint32_t>(left, right, size_bytes);
  for (std::size_t i = 0; i < size_bytes; ++i) {
    if (left[i] != right[i]) return false;
  }
  return true;
}

#endif

}  // namespace memstream
