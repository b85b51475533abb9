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
// The same of watchers, which look once in a slice. A process that gets no processor for the rest has to look again.
constexpr std::uint64_t kWatchAnnouncedMs = 1000;
constexpr std::uint64_t kWatchRenewedMs = 750;
static_assert(2 * kWatchAnnouncedMs <= WaitTable::kMostAnnouncedMs);

}  // namespace

void WaitTable::wake(std::uint32_t hash, const BlockHeader* block) const noexcept {
  const BlockShape shape = BlockShape::unpack(block->shape.load(std::memory_order_relaxed));
  wake(hash, {reinterpret_cast<const char*>(block) + shape.key_start(), shape.key_size});
}

void WaitTable::wake(std::uint32_t hash, std::string_view key) const noexcept {
  end_old_announcement();
  if (exists()) wake_word(word_of(hash));
  if (watches_.is_watched()) watches_.note(key);
}

void WaitTable::note_loss() const noexcept {
  if (is_awaited() && watches_.is_watched()) watches_.note_loss();
}

void WaitTable::note_change_of_all() const noexcept {
  std::atomic_thread_fence(std::memory_order_seq_cst);  // As in announce(): the change comes before these loads.
  if (!exists() || !is_awaited()) return;
  end_old_announcement();
  if (watches_.is_watched()) watches_.note_change_of_all();
  for (std::uint32_t number = 0; number < kWaitWords; ++number) wake_word(words_[number]);
}

void WaitTable::end_old_announcement() const noexcept {
  std::uint64_t until_ms = awaited_until_ms_->load(std::memory_order_relaxed);
  if (until_ms == 0 || is_current(until_ms, monotonic_ms())) return;
  // First what watchers have announced, which never holds longer: once this word is 0, no writer looks at that one.
  static_cast<void>(watches_.is_watched());
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

// Lets the word say that somebody is there for `least_ms`, by `wanted_ms` if it does not say so yet. False if it said
// that nobody is.
bool WaitTable::raise_announcement(std::uint64_t least_ms, std::uint64_t wanted_ms,
                                   std::uint64_t* until_ms) const noexcept {
  const std::uint64_t now_ms = monotonic_ms();
  std::uint64_t seen_ms = awaited_until_ms_->load(std::memory_order_acquire);
  *until_ms = now_ms + wanted_ms;
  while (!is_current(seen_ms, now_ms) || seen_ms - now_ms < least_ms) {
    if (awaited_until_ms_->compare_exchange_weak(seen_ms, *until_ms, std::memory_order_acq_rel)) return seen_ms != 0;
  }
  *until_ms = seen_ms;
  return true;
}

std::uint32_t WaitTable::announce(std::uint32_t hash) const noexcept {
  std::uint64_t until_ms = 0;
  raise_announcement(kRenewedMs, kAnnouncedMs, &until_ms);
  const std::uint32_t seen = word_of(hash).fetch_or(kSomebodyWaits, std::memory_order_acq_rel) | kSomebodyWaits;
  std::atomic_thread_fence(std::memory_order_seq_cst);  // For changes that are made without W.
  return seen;
}

// In this order: a writer that takes back an old announcement takes back that of the watchers first.
bool WaitTable::announce_watch(std::uint16_t* lapses) const noexcept {
  std::uint64_t until_ms = 0;
  bool is_continuous = raise_announcement(kWatchRenewedMs, kWatchAnnouncedMs, &until_ms);
  is_continuous = watches_.announce(until_ms, lapses) && is_continuous;
  std::atomic_thread_fence(std::memory_order_seq_cst);  // For changes that are made without W.
  return is_continuous;
}

void WaitTable::sleep(std::uint32_t hash, std::uint32_t seen, std::chrono::nanoseconds most) const noexcept {
  futex_wait(word_of(hash), seen, most < kSlice ? most : kSlice);
}

}  // namespace memstream
