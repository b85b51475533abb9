// See limit_table.h. docs/decisions/0028 has the argument that the order of loads and stores makes.
#include "core/cache/limit_table.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "core/base/shared_futex.h"

namespace memstream {
namespace {

void write_label(LimitLabel& label, std::string_view name) noexcept {
  std::array<char, sizeof(LimitLabel)> bytes{};
  name.copy(bytes.data(), bytes.size());
  for (std::uint32_t i = 0; i < kLimitLabelWords; ++i) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i * sizeof word, sizeof word);
    label.words[i].store(word, std::memory_order_relaxed);
  }
}

void copy_label(const LimitLabel& from, LimitLabel& to) noexcept {
  for (std::uint32_t i = 0; i < kLimitLabelWords; ++i) {
    to.words[i].store(from.words[i].load(std::memory_order_relaxed), std::memory_order_relaxed);
  }
}

// Where the search for a key begins: keys of one bucket spread over its cache lines.
std::uint32_t first_place(std::uint64_t key) noexcept { return static_cast<std::uint32_t>(key >> 60); }
static_assert(kRatesPerBucket == 16);

// Gives the place at `number` to the key. False if its instant has not passed.
// REQUIRES: the bucket's lock.
bool claim(RateBucket& bucket, std::uint32_t number, std::uint64_t key, std::string_view label,
           std::uint64_t now_ns) noexcept {
  RateLimit& limit = bucket.limits[number];
  std::uint64_t due = limit.due.load(std::memory_order_relaxed);
  // With the lock, "claimed" means that the claimer died: nobody has used the place since.
  if (due != kDueClaimed) {
    const bool is_free =
        has_passed(due, now_ns) && has_passed(bucket.notes[number].reset_due.load(std::memory_order_relaxed), now_ns);
    if (!is_free) return false;
    if (!limit.due.compare_exchange_strong(due, kDueClaimed, std::memory_order_seq_cst)) return false;
  }
  limit.key.store(key, std::memory_order_release);
  write_label(bucket.notes[number].label, label);
  return true;
}

void note_rate(RateNote& note, const Rate& rate) noexcept {
  if (note.interval_ns.load(std::memory_order_relaxed) != rate.interval_ns) {
    note.interval_ns.store(rate.interval_ns, std::memory_order_relaxed);
  }
  if (note.burst.load(std::memory_order_relaxed) != rate.burst) note.burst.store(rate.burst, std::memory_order_relaxed);
}

}  // namespace

std::array<char, sizeof(LimitLabel)> text_of(const LimitLabel& label) noexcept {
  std::array<char, sizeof(LimitLabel)> text{};
  for (std::uint32_t i = 0; i < kLimitLabelWords; ++i) {
    const std::uint64_t word = label.words[i].load(std::memory_order_relaxed);
    std::memcpy(text.data() + i * sizeof word, &word, sizeof word);
  }
  return text;
}

std::uint64_t due_after_request(std::uint64_t due, std::uint64_t now_ns, const Rate& rate,
                                std::uint64_t* wait_ns) noexcept {
  const std::uint64_t next = (has_passed(due, now_ns) ? now_ns : due) + rate.interval_ns;
  const std::uint64_t ahead = next - now_ns;
  const std::uint64_t allowed = rate.interval_ns * rate.burst;
  *wait_ns = ahead > allowed ? ahead - allowed : 0;
  return *wait_ns == 0 ? next : due;
}

Status LimitTable::request(std::uint64_t key, std::uint64_t now_ns, const Rate& rate,
                           std::uint64_t* wait_ns) const noexcept {
  RateBucket& in = bucket(bucket_of(key));
  for (std::uint32_t look = 0; look < kRatesPerBucket; ++look) {
    const std::uint32_t number = (first_place(key) + look) % kRatesPerBucket;
    RateLimit& limit = in.limits[number];
    if (limit.key.load(std::memory_order_relaxed) != key) continue;
    std::uint64_t due = limit.due.load(std::memory_order_acquire);
    for (;;) {
      // The instant is the key's if the key was there after it was loaded, and it is still the same after that: it only
      // grows, and it is kDueClaimed while the key changes.
      if (due == kDueClaimed || limit.key.load(std::memory_order_acquire) != key) return Status::kMiss;
      const std::uint64_t seen = limit.due.load(std::memory_order_acquire);
      if (seen != due) {
        due = seen;
        continue;
      }
      const std::uint64_t next = due_after_request(due, now_ns, rate, wait_ns);
      if (next == due) return Status::kHeld;
      if (limit.due.compare_exchange_strong(due, next, std::memory_order_seq_cst)) {
        note_rate(in.notes[number], rate);
        return Status::kOk;
      }
    }
  }
  return Status::kMiss;
}

Status LimitTable::begin_limit(std::uint64_t key, std::string_view label, std::uint64_t now_ns, const Rate& rate,
                               std::uint64_t* wait_ns) const noexcept {
  // No key changes while this process has the lock.
  if (const Status status = request(key, now_ns, rate, wait_ns); status != Status::kMiss) return status;
  RateBucket& in = bucket(bucket_of(key));
  for (std::uint32_t look = 0; look < kRatesPerBucket; ++look) {
    const std::uint32_t number = (first_place(key) + look) % kRatesPerBucket;
    if (!claim(in, number, key, label, now_ns)) continue;
    note_rate(in.notes[number], rate);
    const std::uint64_t due = due_after_request(now_ns, now_ns, rate, wait_ns);
    in.limits[number].due.store(due, std::memory_order_seq_cst);
    return Status::kOk;
  }
  return Status::kFull;
}

Status LimitTable::reset_limit(std::uint64_t key, std::uint64_t now_ns) const noexcept {
  RateBucket& in = bucket(bucket_of(key));
  for (std::uint32_t i = 0; i < kRatesPerBucket; ++i) {
    RateLimit& limit = in.limits[i];
    if (limit.key.load(std::memory_order_relaxed) != key) continue;
    std::uint64_t due = limit.due.load(std::memory_order_relaxed);
    while (due != kDueClaimed && !has_passed(due, now_ns)) {
      // First this: a process that dies in between leaves the limit as it was.
      std::atomic<std::uint64_t>& before = in.notes[i].reset_due;
      if (has_passed(before.load(std::memory_order_relaxed), due)) before.store(due, std::memory_order_relaxed);
      if (limit.due.compare_exchange_weak(due, now_ns, std::memory_order_seq_cst)) return Status::kOk;
    }
  }
  return Status::kMiss;
}

Status LimitTable::copy_limits(const LimitTable& from, std::uint64_t now_ns) const noexcept {
  // What a copy that was begun in vain has left.
  for (std::uint32_t number = 0; number < buckets_; ++number) {
    for (RateLimit& limit : bucket(number).limits) limit.due.store(0, std::memory_order_relaxed);
  }
  for (std::uint32_t number = 0; number < from.buckets_; ++number) {
    const RateBucket& of = from.bucket(number);
    for (std::uint32_t i = 0; i < kRatesPerBucket; ++i) {
      const std::uint64_t due = of.limits[i].due.load(std::memory_order_seq_cst);
      const std::uint64_t key = of.limits[i].key.load(std::memory_order_relaxed);
      if (due == kDueClaimed || has_passed(due, now_ns)) continue;
      RateBucket& to = bucket(bucket_of(key));
      const auto* const place = std::find_if(std::begin(to.limits), std::end(to.limits), [](const RateLimit& limit) {
        return limit.due.load(std::memory_order_relaxed) == 0;
      });
      if (place == std::end(to.limits)) return Status::kFull;
      const auto at = place - std::begin(to.limits);
      to.limits[at].key.store(key, std::memory_order_relaxed);
      to.limits[at].due.store(due, std::memory_order_release);
      const RateNote& note = of.notes[i];
      note_rate(to.notes[at],
                {note.interval_ns.load(std::memory_order_relaxed), note.burst.load(std::memory_order_relaxed)});
      copy_label(note.label, to.notes[at].label);
    }
  }
  return Status::kOk;
}

// ---- semaphores ----

bool LimitTable::add_held(Holding& holding, std::uint64_t owner) noexcept {
  std::uint64_t word = holding.holder.load(std::memory_order_relaxed);
  while (word != 0 && holding_owner(word) == owner) {
    if (holding.holder.compare_exchange_weak(word, word + kOneHeld, std::memory_order_seq_cst)) return true;
  }
  return false;
}

void LimitTable::begin_holding(HoldingStripe& in, std::uint32_t place, std::uint64_t name, std::string_view label,
                               std::uint64_t permits, std::uint64_t owner, std::uint64_t now_ms) noexcept {
  HoldingNote& note = in.notes[place];
  note.permits.store(permits, std::memory_order_relaxed);
  note.since_ms.store(now_ms, std::memory_order_relaxed);
  write_label(note.label, label);
  in.holdings[place].name.store(name, std::memory_order_release);
  // The commit. Whoever dies before it leaves the place to nobody, or to the dead process that had it.
  in.holdings[place].holder.store(owner | kOneHeld, std::memory_order_seq_cst);
}

Status LimitTable::give_back(std::uint64_t name, std::uint64_t owner) const noexcept {
  HoldingStripe& in = stripe(stripe_of(name));
  for (Holding& holding : in.holdings) {
    std::uint64_t word = holding.holder.load(std::memory_order_acquire);
    if (word == 0 || holding_owner(word) != owner || holding.name.load(std::memory_order_acquire) != name) continue;
    for (;;) {
      if (word == 0 || holding_owner(word) != owner) break;
      const std::uint64_t less = holding_count(word) > 1 ? word - kOneHeld : 0;
      if (!holding.holder.compare_exchange_weak(word, less, std::memory_order_seq_cst)) continue;
      in.events.fetch_add(1, std::memory_order_seq_cst);
      // A process that dies before it wakes anybody delays them by their slice.
      if (in.has_waiters.load(std::memory_order_seq_cst) != 0 &&
          in.has_waiters.exchange(0, std::memory_order_seq_cst) != 0) {
        futex_wake_all(in.events);
      }
      return Status::kOk;
    }
  }
  return Status::kConflict;
}

}  // namespace memstream
