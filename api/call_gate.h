// Counts the calls that are under way on a handle, so that closing it can wait for them.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>

namespace memstream {

// Entering costs one atomic addition on a cache line that few threads share. Safe from all threads.
class CallGate {
 public:
  // A call in progress.
  class Pass {
   public:
    explicit Pass(CallGate& gate) noexcept : calls_(gate.stripe()) { calls_.fetch_add(1, std::memory_order_seq_cst); }
    ~Pass() { calls_.fetch_sub(1, std::memory_order_release); }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;

   private:
    std::atomic<std::uint64_t>& calls_;
  };

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
  static constexpr std::size_t kStripes = 16;
  struct alignas(64) Stripe {
    std::atomic<std::uint64_t> calls{0};
  };

  std::atomic<std::uint64_t>& stripe() noexcept {
    static std::atomic<std::size_t> threads{0};
    thread_local const std::size_t mine = threads.fetch_add(1, std::memory_order_relaxed) % kStripes;
    return stripes_[mine].calls;
  }

  std::array<Stripe, kStripes> stripes_{};
};

}  // namespace memstream
