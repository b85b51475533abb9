// See wait_table.h.
#include "core/shard/wait_table.h"

#include "core/base/clock.h"
#include "core/base/shared_futex.h"

namespace memstream {
namespace {

// How long an announcement in the header holds, and when a waiter renews it. No sleep lasts beyond it: a waiter that
// renews it has more than a slice left.
constexpr std::uint64_t kAnnouncedMs = 4 * static_cast<std::uint64_t>(WaitTable::kSlice.count());
constexpr std::uint64_t kRenewedMs = kAnnouncedMs / 2;

// Whether the word says what a waiter has stored lately. Another value is of waiters that have gone, or damage.
bool is_current(std::uint64_t until_ms, std::uint64_t now_ms) noexcept {
  return until_ms >= now_ms && until_ms - now_ms <= 2 * kAnnouncedMs;
}

}  // namespace

void WaitTable::wake(std::uint32_t hash) const noexcept {
  end_old_announcement();
  if (exists()) wake_word(word_of(hash));
}

void WaitTable::note_change_of_all() const noexcept {
  std::atomic_thread_fence(std::memory_order_seq_cst);  // As in announce(): the change comes before these loads.
  if (!exists() || !is_awaited()) return;
  end_old_announcement();
  for (std::uint32_t number = 0; number < kWaitWords; ++number) wake_word(words_[number]);
}

void WaitTable::end_old_announcement() const noexcept {
  std::uint64_t until_ms = awaited_until_ms_->load(std::memory_order_relaxed);
  if (until_ms == 0 || is_current(until_ms, monotonic_ms())) return;
  // A waiter that has renewed it meanwhile has stored another value.
  awaited_until_ms_->compare_exchange_strong(until_ms, 0, std::memory_order_acq_rel);
}

// The writer takes the bit back, so that a waiter which was killed costs one wake-up and no more.
void WaitTable::wake_word(std::atomic<std::uint32_t>& word) const noexcept {
  std::uint32_t seen = word.load(std::memory_order_acquire);
  while ((seen & kSomebodyWaits) != 0) {
    if (!word.compare_exchange_weak(seen, seen + kSomebodyWaits, std::memory_order_acq_rel)) continue;
    futex_wake_all(word);
    return;
  }
}

std::uint32_t WaitTable::announce(std::uint32_t hash) const noexcept {
  const std::uint64_t now_ms = monotonic_ms();
  std::uint64_t until_ms = awaited_until_ms_->load(std::memory_order_acquire);
  while (!is_current(until_ms, now_ms) || until_ms - now_ms < kRenewedMs) {
    if (awaited_until_ms_->compare_exchange_weak(until_ms, now_ms + kAnnouncedMs, std::memory_order_acq_rel)) break;
  }
  const std::uint32_t seen = word_of(hash).fetch_or(kSomebodyWaits, std::memory_order_acq_rel) | kSomebodyWaits;
  std::atomic_thread_fence(std::memory_order_seq_cst);  // For changes that are made without W.
  return seen;
}

void WaitTable::sleep(std::uint32_t hash, std::uint32_t seen, std::chrono::nanoseconds most) const noexcept {
  futex_wait(word_of(hash), seen, most < kSlice ? most : kSlice);
}

}  // namespace memstream
