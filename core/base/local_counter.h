// Additions that need no locked instruction while the process has one thread.
#pragma once

#include <sys/single_threaded.h>

#include <atomic>
#include <cstdint>

namespace memstream {

// Whether the caller is the only thread of this process.
inline bool has_one_thread() noexcept { return __libc_single_threaded != 0; }

// Adds to a word without a locked instruction, which would wait for all earlier stores and delay all later loads. An
// addition by another thread or process at the same moment may be lost.
template <class Word>
[[gnu::always_inline]] inline void add_unlocked(std::atomic<Word>& word, Word number) noexcept {
  static_assert(sizeof(Word) == 4 || sizeof(Word) == 8);
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
  // One instruction, where compilers emit three.
  if constexpr (sizeof(Word) == 4) {
    asm volatile("addl %1, %0" : "+m"(word) : "er"(number) : "cc");
  } else {
    asm volatile("addq %1, %0" : "+m"(word) : "er"(number) : "cc");
  }
#else
  word.store(word.load(std::memory_order_relaxed) + number, std::memory_order_relaxed);
#endif
}

// Adds to a counter that only this process changes. With one thread a plain addition loses nothing; a locked one would
// be among the most expensive instructions of a get.
inline void add_local(std::atomic<std::uint64_t>& counter, std::uint64_t number) noexcept {
  if (has_one_thread()) {
    add_unlocked(counter, number);
  } else {
    counter.fetch_add(number, std::memory_order_relaxed);
  }
}

}  // namespace memstream
