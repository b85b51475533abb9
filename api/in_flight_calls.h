// Counts the calls in progress on a handle, so that closing the handle can wait for them.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>

#include "core/base/local_counter.h"
#include "core/cache/operation_scope.h"

namespace memstream {

// Safe from all threads. A call costs one atomic addition, on a cache line that few threads share. A process with one
// thread counts nothing, because no other thread could close the handle during a call.
class InFlightCalls {
 public:
  // Counts a get, or a call that does not touch shared memory, while it lives.
  class Guard {
   public:
    explicit Guard(InFlightCalls& calls) noexcept {
      if (has_one_thread()) return;
      count_ = &calls.stripe();
      count_->fetch_add(1, std::memory_order_seq_cst);
    }
    ~Guard() {
      if (count_ != nullptr) count_->fetch_sub(1, std::memory_order_release);
    }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    std::atomic<std::uint64_t>* count_ = nullptr;
  };

  // Counts any other call while it lives, and marks the thread. A child that a signal handler forks inside the call
  // must know that it was forked there.
  class OperationGuard {
   public:
    explicit OperationGuard(InFlightCalls& calls) noexcept : calls_(calls) {
      if (has_one_thread()) {
        calls.mark_.set_alone();
        return;
      }
      count_ = &calls.stripe();
      count_->fetch_add(1, std::memory_order_seq_cst);
      calls.mark_.set_among_threads();
    }
    ~OperationGuard() {
      if (count_ == nullptr) {
        calls_.mark_.clear_alone();
      } else {
        OperationMark::clear_among_threads();
        count_->fetch_sub(1, std::memory_order_release);
      }
    }
    OperationGuard(const OperationGuard&) = delete;
    OperationGuard& operator=(const OperationGuard&) = delete;

   private:
    InFlightCalls& calls_;
    std::atomic<std::uint64_t>* count_ = nullptr;
  };

  // Runs `kCall(arguments...)` inside an OperationGuard. For the only thread of a process that is two stores around it.
  template <auto kCall, class... Arguments>
  [[gnu::always_inline]] auto operation(Arguments... arguments) {
    if (!has_one_thread()) return operation_among_threads<kCall>(arguments...);
    const AloneGuard guard(mark_);
    return kCall(arguments...);
  }

  // Whether the calling thread is inside a call that an OperationGuard counts.
  bool has_operation_of_this_thread() const noexcept { return mark_.is_set_by_this_thread(); }

  bool is_empty() const noexcept {
    return std::all_of(stripes_.begin(), stripes_.end(),
                       [](const Stripe& stripe) { return stripe.calls.load(std::memory_order_seq_cst) == 0; });
  }

  // Returns when every call that began before this one has ended. REQUIRES: the caller already keeps new calls out.
  void wait_until_empty() const noexcept {
    for (const Stripe& stripe : stripes_) {
      while (stripe.calls.load(std::memory_order_seq_cst) != 0) std::this_thread::yield();
    }
  }

  // For a forked child, where the calls of the parent's other threads never end.
  void reset() noexcept {
    for (Stripe& stripe : stripes_) stripe.calls.store(0, std::memory_order_relaxed);
  }

 private:
  class AloneGuard {
   public:
    explicit AloneGuard(OperationMark& mark) noexcept : mark_(mark) { mark_.set_alone(); }
    ~AloneGuard() { mark_.clear_alone(); }
    AloneGuard(const AloneGuard&) = delete;
    AloneGuard& operator=(const AloneGuard&) = delete;

   private:
    OperationMark& mark_;
  };
  template <auto kCall, class... Arguments>
  [[gnu::noinline]] auto operation_among_threads(Arguments... arguments) {
    const OperationGuard guard(*this);
    return kCall(arguments...);
  }

  static constexpr int kStripeBits = 4;
  static constexpr std::size_t kStripes = std::size_t{1} << kStripeBits;
  struct alignas(64) Stripe {
    std::atomic<std::uint64_t> calls{0};
  };

  // The counter of the calling thread, which other threads may share. A thread-local variable would give each thread
  // its own, but each access would cost a call of the dynamic linker.
  std::atomic<std::uint64_t>& stripe() noexcept {
    constexpr std::uint64_t kSpread = 0x9e37'79b9'7f4a'7c15;
    const auto thread = reinterpret_cast<std::uintptr_t>(pthread_self());
    return stripes_[(thread * kSpread) >> (64 - kStripeBits)].calls;
  }

  std::array<Stripe, kStripes> stripes_{};
  OperationMark mark_;
};

}  // namespace memstream
