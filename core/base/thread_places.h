// A cache line for each thread of the process, found without a thread-local variable: in a shared library each of those
// costs a call of the dynamic linker's.
#pragma once

#include <pthread.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace memstream {

// A number that no other living thread of the process has: the address of the thread's control block. A later thread
// may have the number of one that has ended.
[[gnu::always_inline]] inline std::uintptr_t this_thread_number() noexcept {
#if defined(__x86_64__)
  std::uintptr_t number;
  asm("movq %%fs:0, %0" : "=r"(number));
  return number;
#else
  return reinterpret_cast<std::uintptr_t>(pthread_self());
#endif
}

// Places for T, which is all zeros at first, and of which only the thread that has the place changes it, unless T says
// otherwise. A thread keeps its place for ever: the next thread with its number takes it over, and finds T as that left
// it. The C library gives control blocks again and again, so there are about as many numbers as there were threads at
// once. A thread that finds no place free has none; it works on without.
//
// Safe from all threads. All zeros are a valid table without threads.
template <class T>
class ThreadPlaces {
 public:
  static constexpr std::size_t kPlaces = 32;

  struct alignas(64) Place {
    std::atomic<std::uintptr_t> thread{0};  // 0: free.
    T value{};
  };
  static_assert(sizeof(Place) == 64);

  // The calling thread's; null if it has none.
  [[gnu::always_inline]] T* own() noexcept {
    const std::uintptr_t thread = this_thread_number();
    Place& home = places_[home_of(thread)];
    if (home.thread.load(std::memory_order_relaxed) == thread) [[likely]]
      return &home.value;
    return own_elsewhere(thread);
  }
  // The same, with a free place for a thread that has none yet.
  [[gnu::noinline, gnu::cold]] T* claim() noexcept {
    const std::uintptr_t thread = this_thread_number();
    for (std::size_t look = 0; look < kLooks; ++look) {
      Place& place = places_[(home_of(thread) + look) % kPlaces];
      std::uintptr_t has = 0;
      if (place.thread.compare_exchange_strong(has, thread, std::memory_order_seq_cst) || has == thread)
        return &place.value;
    }
    return nullptr;
  }

  // What lies in the place of that number, from 0 on; null if no thread has had the place.
  const T* at(std::size_t number) const noexcept {
    const Place& place = places_[number];
    return place.thread.load(std::memory_order_seq_cst) != 0 ? &place.value : nullptr;
  }
  // Calls `visit(thread, value)` for every place that a thread has or had.
  template <class Visit>
  void for_each(const Visit& visit) const {
    for (const Place& place : places_) {
      const std::uintptr_t thread = place.thread.load(std::memory_order_seq_cst);
      if (thread != 0) visit(thread, place.value);
    }
  }
  template <class Visit>
  void for_each(const Visit& visit) {
    for (Place& place : places_) {
      const std::uintptr_t thread = place.thread.load(std::memory_order_seq_cst);
      if (thread != 0) visit(thread, place.value);
    }
  }

 private:
  static constexpr std::size_t kLooks = 8;
  static constexpr int kPlaceBits = 5;
  static_assert(kPlaces == std::size_t{1} << kPlaceBits);

  // Numbers of threads differ by the size of a stack: the upper bits of a product spread them.
  static std::size_t home_of(std::uintptr_t thread) noexcept {
    constexpr std::uint64_t kSpread = 0x9e37'79b9'7f4a'7c15;
    return static_cast<std::size_t>(thread * kSpread >> (64 - kPlaceBits));
  }
  [[gnu::noinline]] T* own_elsewhere(std::uintptr_t thread) noexcept {
    for (std::size_t look = 1; look < kLooks; ++look) {
      Place& place = places_[(home_of(thread) + look) % kPlaces];
      if (place.thread.load(std::memory_order_relaxed) == thread) return &place.value;
    }
    return nullptr;
  }

  std::array<Place, kPlaces> places_{};
};

}  // namespace memstream
