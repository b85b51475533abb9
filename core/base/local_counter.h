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

// The same of a word that only this thread changes, as a release store: whoever loads the sum with acquire sees what
// came before it.
template <class Word>
[[gnu::always_inline]] inline void add_released(std::atomic<Word>& word, Word number) noexcept {
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
  // No store of this processor becomes visible before an earlier one, so the compiler alone has to keep the order.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  add_unlocked(word, number);
#else
  word.store(word.load(std::memory_order_relaxed) + number, std::memory_order_release);
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
