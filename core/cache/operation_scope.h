// Marks that the calling thread is in the middle of an operation, for a child that a signal handler forks there.
#pragma once

#include <atomic>

#include "core/base/local_counter.h"

namespace memstream {

// Set by the threads of a process while they work on shared memory; no operation begins inside another one. For the
// only thread of a process this is one store: a thread-local variable would take two calls into the dynamic linker.
class OperationMark {
 public:
  // REQUIRES: has_one_thread(), when the operation began.
  void set_alone() noexcept {
    is_set_.store(true, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  void clear_alone() noexcept {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    is_set_.store(false, std::memory_order_relaxed);
  }
  void set_among_threads() noexcept;
  static void clear_among_threads() noexcept;

  bool is_set_by_this_thread() const noexcept;

 private:
  std::atomic<bool> is_set_{false};
};

// Sets a mark as long as it lives.
class OperationScope {
 public:
  explicit OperationScope(OperationMark& mark) noexcept : mark_(mark), is_alone_(has_one_thread()) {
    if (is_alone_) {
      mark_.set_alone();
    } else {
      mark_.set_among_threads();
    }
  }
  OperationScope(const OperationScope&) = delete;
  OperationScope& operator=(const OperationScope&) = delete;
  ~OperationScope() {
    if (is_alone_) {
      mark_.clear_alone();
    } else {
      OperationMark::clear_among_threads();
    }
  }

 private:
  OperationMark& mark_;
  bool is_alone_;
};

}  // namespace memstream
