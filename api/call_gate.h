// Counts the calls that are under way on a handle, so that closing it can wait for them.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>

#include "core/base/single_thread.h"
#include "core/cache/operation_scope.h"

namespace memstream {

// Entering costs an atomic addition on a cache line that few threads share. Safe from all threads. In a process with
// one thread nothing is counted: nobody is there who could close the handle during a call.
class CallGate {
 public:
  // A get in progress, or a call that does not touch shared memory.
  class Pass {
   public:
    explicit Pass(CallGate& gate) noexcept {
      if (has_one_thread()) return;
      calls_ = &gate.stripe();
      calls_->fetch_add(1, std::memory_order_seq_cst);
    }
    ~Pass() {
      if (calls_ != nullptr) calls_->fetch_sub(1, std::memory_order_release);
    }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;

   private:
    std::atomic<std::uint64_t>* calls_ = nullptr;
  };

  // Any other call in progress: a child that a signal handler forks inside it must know.
  class OperationPass {
   public:
    explicit OperationPass(CallGate& gate) noexcept : gate_(gate) {
      if (has_one_thread()) {
        gate.mark_.set_alone();
        return;
      }
      calls_ = &gate.stripe();
      calls_->fetch_add(1, std::memory_order_seq_cst);
      gate.mark_.set_among_threads();
    }
    ~OperationPass() {
      if (calls_ == nullptr) {
        gate_.mark_.clear_alone();
      } else {
        OperationMark::clear_among_threads();
        calls_->fetch_sub(1, std::memory_order_release);
      }
    }
    OperationPass(const OperationPass&) = delete;
    OperationPass& operator=(const OperationPass&) = delete;

   private:
    CallGate& gate_;
    std::atomic<std::uint64_t>* calls_ = nullptr;
  };

  // Runs `kCall(arguments...)` inside an OperationPass. For the only thread of a process that is two stores around it.
  template <auto kCall, class... Arguments>
  [[gnu::always_inline]] auto operation(Arguments... arguments) {
    if (!has_one_thread()) return operation_among_threads<kCall>(arguments...);
    const AlonePass pass(mark_);
    return kCall(arguments...);
  }

  // Whether the calling thread is inside such a call.
  bool has_operation_of_this_thread() const noexcept { return mark_.is_set_by_this_thread(); }

  bool is_empty() const noexcept {
    return std::all_of(stripes_.begin(), stripes_.end(),
                       [](const Stripe& stripe) { return stripe.calls.load(std::memory_order_seq_cst) == 0; });
  }

  // Returns when every call has ended that had entered before whatever the caller did to keep new ones out.
  void wait_until_empty() const noexcept {
    for (const Stripe& stripe : stripes_) {
      while (stripe.calls.load(std::memory_order_seq_cst) != 0) std::this_thread::yield();
    }
  }

  // In a forked child: the calls of the parent's other threads never end here.
  void forget_all() noexcept {
    for (Stripe& stripe : stripes_) stripe.calls.store(0, std::memory_order_relaxed);
  }

 private:
  class AlonePass {
   public:
    explicit AlonePass(OperationMark& mark) noexcept : mark_(mark) { mark_.set_alone(); }
    ~AlonePass() { mark_.clear_alone(); }
    AlonePass(const AlonePass&) = delete;
    AlonePass& operator=(const AlonePass&) = delete;

   private:
    OperationMark& mark_;
  };
  template <auto kCall, class... Arguments>
  [[gnu::noinline]] auto operation_among_threads(Arguments... arguments) {
    const OperationPass pass(*this);
    return kCall(arguments...);
  }

  static constexpr int kStripeBits = 4;
  static constexpr std::size_t kStripes = std::size_t{1} << kStripeBits;
  struct alignas(64) Stripe {
    std::atomic<std::uint64_t> calls{0};
  };

  // The one of the calling thread; others may have the same. A variable of the thread would tell them apart, and cost a
  // call of the dynamic linker's each time.
  std::atomic<std::uint64_t>& stripe() noexcept {
    constexpr std::uint64_t kSpread = 0x9e37'79b9'7f4a'7c15;
    const auto thread = reinterpret_cast<std::uintptr_t>(pthread_self());
    return stripes_[(thread * kSpread) >> (64 - kStripeBits)].calls;
  }

  std::array<Stripe, kStripes> stripes_{};
  OperationMark mark_;
};

}  // namespace memstream
