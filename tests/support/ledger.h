// What the processes of a test have written, kept outside the segment that is under test: in memory that they all map
// and that survives the death of each.
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <new>
#include <stdexcept>

namespace memstream::test {

// An array of T, zeroed, shared by this process and its children.
template <class T>
class SharedArray {
 public:
  explicit SharedArray(std::size_t count)
      : count_(count),
        items_(static_cast<T*>(
            ::mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
    if (items_ == MAP_FAILED) throw std::bad_alloc();
  }
  SharedArray(const SharedArray&) = delete;
  SharedArray& operator=(const SharedArray&) = delete;
  ~SharedArray() { ::munmap(items_, count_ * sizeof(T)); }

  std::size_t size() const { return count_; }
  T& operator[](std::size_t index) const { return items_[index]; }

 private:
  std::size_t count_;
  T* items_;
};

// One write of a key that has a single writer: its sequence counts the writes of the key from 1.
struct KeyWrite {
  std::uint32_t sequence = 0;
  bool deletes = false;

  constexpr std::uint32_t pack() const { return sequence << 1 | (deletes ? 1U : 0U); }
  static constexpr KeyWrite unpack(std::uint32_t word) { return {word >> 1, (word & 1) != 0}; }
  // Whether the key has a value after this write and none that follows.
  constexpr bool leaves_value() const { return sequence != 0 && !deletes; }
};

// The last writes of one key: noted as begun before the call that makes it, as acknowledged after.
struct KeyRecord {
  std::atomic<std::uint32_t> begun_word;
  std::atomic<std::uint32_t> acknowledged_word;

  KeyWrite begun() const { return KeyWrite::unpack(begun_word.load(std::memory_order_acquire)); }
  KeyWrite acknowledged() const { return KeyWrite::unpack(acknowledged_word.load(std::memory_order_acquire)); }
  void begin(KeyWrite write) { begun_word.store(write.pack(), std::memory_order_release); }
  void acknowledge(KeyWrite write) { acknowledged_word.store(write.pack(), std::memory_order_release); }
};

}  // namespace memstream::test
