// Knows the calls in progress on a handle, so that closing the handle can wait for them.
#pragma once

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>

#include "core/base/local_counter.h"
#include "core/base/process_fence.h"
#include "core/base/thread_places.h"
#include "core/cache/operation_scope.h"

namespace memstream {

// Safe from all threads. A process with one thread notes nothing, because no other thread could close the handle during
// a call. Among threads each has a place of its own, in which a call is two plain stores. A thread without a place adds
// to a counter that few threads share, by a locked instruction.
//
// Why a plain store is enough. A call notes itself in its place and then loads what tells it whether the handle may be
// used. A thread that closes changes that first and then looks at the places. Between its two steps it runs
// fence_all_threads(), and the call has light_fence() between its own. So a call that the closing thread does not see
// has seen the change, and leaves the handle alone.
// Why the handle may go once the place has changed. A call leaves its place by a release store, which the closing
// thread loads with acquire.
class InFlightCalls {
 public:
  // What a thread notes of its calls. Changed by that thread alone.
  struct Place {
    std::atomic<std::uint64_t> steps{0};       // One for each entry and each exit: odd in a call.
    std::atomic<bool> is_in_operation{false};  // As OperationMark has it.
  };

  // Enters a call of a thread that has a place and is in no other call. Null, and nothing is noted, where it has none.
  // With a place the caller ends the call by leave(). REQUIRES: !has_one_thread().
  [[gnu::always_inline]] Place* enter() noexcept {
    Place* const own = places_.own();
    if (own == nullptr) [[unlikely]]
      return nullptr;
    const std::uint64_t steps = own->steps.load(std::memory_order_relaxed);
    if ((steps & 1) != 0) [[unlikely]]
      return nullptr;
    own->steps.store(steps + 1, std::memory_order_relaxed);
    light_fence();
    return own;
  }
  [[gnu::always_inline]] static void leave(Place& place) noexcept { add_released(place.steps, std::uint64_t{1}); }

  // Notes a get, or a call that does not touch shared memory, while it lives.
  class Guard {
   public:
    explicit Guard(InFlightCalls& calls) noexcept {
      if (has_one_thread()) return;
      place_ = calls.enter_or_claim();
      if (place_ != nullptr) return;
      count_ = &calls.stripe();
      count_->fetch_add(1, std::memory_order_seq_cst);
    }
    ~Guard() {
      if (place_ != nullptr) {
        leave(*place_);
      } else if (count_ != nullptr) {
        count_->fetch_sub(1, std::memory_order_release);
      }
    }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    Place* place_ = nullptr;
    std::atomic<std::uint64_t>* count_ = nullptr;
  };

  // Notes any other call while it lives, and marks the thread. A child that a signal handler forks inside the call must
  // know that it was forked there.
  class OperationGuard {
   public:
    explicit OperationGuard(InFlightCalls& calls) noexcept : calls_(calls) {
      if (has_one_thread()) {
        calls.mark_.set_alone();
        return;
      }
      place_ = calls.enter_or_claim();
      if (place_ != nullptr) {
        set_mark(*place_, true);
        return;
      }
      count_ = &calls.stripe();
      count_->fetch_add(1, std::memory_order_seq_cst);
      calls.mark_.set_among_threads();
    }
    ~OperationGuard() {
      if (place_ != nullptr) {
        set_mark(*place_, false);
        leave(*place_);
      } else if (count_ == nullptr) {
        calls_.mark_.clear_alone();
      } else {
        OperationMark::clear_among_threads();
        count_->fetch_sub(1, std::memory_order_release);
      }
    }
    OperationGuard(const OperationGuard&) = delete;
    OperationGuard& operator=(const OperationGuard&) = delete;

   private:
    static void set_mark(Place& place, bool is_in_operation) noexcept {
      std::atomic_signal_fence(std::memory_order_seq_cst);
      place.is_in_operation.store(is_in_operation, std::memory_order_relaxed);
      std::atomic_signal_fence(std::memory_order_seq_cst);
    }

    InFlightCalls& calls_;
    Place* place_ = nullptr;
    std::atomic<std::uint64_t>* count_ = nullptr;
  };

  // Runs `kCall(arguments...)` inside an OperationGuard. For the only thread of a process that is two stores around it.
  template <auto kCall, class... Arguments>
  [[gnu::always_inline]] auto operation(Arguments... arguments) {
    if (!has_one_thread()) return operation_among_threads<kCall>(arguments...);
    const AloneGuard guard(mark_);
    return kCall(arguments...);
  }

  // Whether the calling thread is inside a call that an OperationGuard notes.
  bool has_operation_of_this_thread() noexcept {
    const Place* const own = places_.own();
    return mark_.is_set_by_this_thread() || (own != nullptr && own->is_in_operation.load(std::memory_order_relaxed));
  }

  // False also where the kernel does not let this thread find out.
  bool is_empty() noexcept {
    forget_parent();
    if (!fence_for_places()) return false;
    bool is_in_call = false;
    places_.for_each([&](std::uintptr_t, const Place& place) {
      is_in_call |= (place.steps.load(std::memory_order_acquire) & 1) != 0;
    });
    return !is_in_call && std::all_of(stripes_.begin(), stripes_.end(), [](const Stripe& stripe) {
      return stripe.calls.load(std::memory_order_seq_cst) == 0;
    });
  }

  // The calls that are in progress when note_earlier() is called, until has_ended() has seen the end of each.
  class Earlier {
    friend InFlightCalls;
    bool is_noted_ = false;
    std::uint32_t stripes_ = 0;  // A bit for each counter that may count one of them.
    std::array<std::uint64_t, ThreadPlaces<Place>::kPlaces> steps_{};  // Odd: of a call that may not have ended.
  };
  // What the caller changed before is seen by every call that is not among them.
  void note_earlier(Earlier* earlier) noexcept {
    *earlier = {};
    if (!fence_for_places()) return;  // Nobody can tell: has_ended() tries again.
    earlier->is_noted_ = true;
    if (has_one_thread()) return;
    for (std::size_t i = 0; i < earlier->steps_.size(); ++i) {
      const Place* const place = places_.at(i);
      if (place != nullptr) earlier->steps_[i] = place->steps.load(std::memory_order_acquire);
    }
    earlier->stripes_ = (1U << kStripes) - 1;
  }
  // REQUIRES: the calling thread is in a call itself. If a counter counts it, it does not use what it asks about.
  bool has_ended(Earlier* earlier) noexcept {
    if (!earlier->is_noted_) note_earlier(earlier);
    if (!earlier->is_noted_) return false;
    bool is_one_left = false;
    for (std::size_t i = 0; i < earlier->steps_.size(); ++i) {
      if ((earlier->steps_[i] & 1) == 0) continue;
      if (places_.at(i)->steps.load(std::memory_order_acquire) != earlier->steps_[i]) {
        earlier->steps_[i] = 0;
      } else {
        is_one_left = true;
      }
    }
    if (earlier->stripes_ != 0) drop_idle_stripes(earlier);
    return !is_one_left && earlier->stripes_ == 0;
  }

  // Returns when every call has ended that entered before this one. The caller keeps new calls out first. False if the
  // kernel does not let this thread find out: then what the calls use has to stay.
  [[nodiscard]] bool wait_until_empty() noexcept {
    forget_parent();
    if (!fence_for_places()) return false;
    places_.for_each([](std::uintptr_t, const Place& place) {
      const std::uint64_t steps = place.steps.load(std::memory_order_acquire);
      // A step further is enough: the call after it has seen that it must keep out.
      while ((steps & 1) != 0 && place.steps.load(std::memory_order_acquire) == steps) std::this_thread::yield();
    });
    for (const Stripe& stripe : stripes_) {
      while (stripe.calls.load(std::memory_order_seq_cst) != 0) std::this_thread::yield();
    }
    return true;
  }

  // For a forked child, where the calls of the parent's other threads never end.
  void reset() noexcept {
    places_.for_each([](std::uintptr_t thread, Place& place) {
      const std::uint64_t steps = place.steps.load(std::memory_order_relaxed);
      // Its own call, inside which a signal handler has forked, ends as it began.
      if (thread != this_thread_number() && (steps & 1) != 0) place.steps.store(steps + 1, std::memory_order_relaxed);
    });
    for (Stripe& stripe : stripes_) stripe.calls.store(0, std::memory_order_relaxed);
    pid_.store(::getpid(), std::memory_order_relaxed);
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

  // As enter(), and gives a place to a thread that has none yet.
  Place* enter_or_claim() noexcept {
    Place* const entered = enter();
    return entered != nullptr ? entered : enter_first();
  }
  // Only where a thread that closes can count on the fence.
  [[gnu::noinline, gnu::cold]] Place* enter_first() noexcept {
    pid_.store(::getpid(), std::memory_order_relaxed);
    if (!prepare_process_fence() || places_.claim() == nullptr) return nullptr;
    has_places_.store(true, std::memory_order_seq_cst);
    return enter();
  }
  // A child of _Fork() or clone(), for which no handler has called reset().
  void forget_parent() noexcept {
    const pid_t noted = pid_.load(std::memory_order_relaxed);
    if (noted != 0 && noted != ::getpid()) reset();
  }
  // REQUIRES of a caller that looks at the places.
  bool fence_for_places() const noexcept {
    return has_one_thread() || !has_places_.load(std::memory_order_seq_cst) || fence_all_threads();
  }

  void drop_idle_stripes(Earlier* earlier) noexcept {
    const std::atomic<std::uint64_t>* const own = places_.own() == nullptr && !has_one_thread() ? &stripe() : nullptr;
    for (std::size_t i = 0; i < kStripes; ++i) {
      const std::uint64_t mine = &stripes_[i].calls == own ? 1 : 0;
      if (stripes_[i].calls.load(std::memory_order_seq_cst) <= mine) earlier->stripes_ &= ~(1U << i);
    }
  }

  static constexpr int kStripeBits = 4;
  static constexpr std::size_t kStripes = std::size_t{1} << kStripeBits;
  struct alignas(64) Stripe {
    std::atomic<std::uint64_t> calls{0};
  };

  // The counter of the calling thread, which other threads may share.
  std::atomic<std::uint64_t>& stripe() noexcept {
    constexpr std::uint64_t kSpread = 0x9e37'79b9'7f4a'7c15;
    return stripes_[(this_thread_number() * kSpread) >> (64 - kStripeBits)].calls;
  }

  ThreadPlaces<Place> places_;
  std::atomic<bool> has_places_{false};  // Whether any thread has one.
  std::atomic<pid_t> pid_{0};            // Of the process whose calls these are; 0: there were none among threads.
  std::array<Stripe, kStripes> stripes_{};
  OperationMark mark_;
};

}  // namespace memstream
