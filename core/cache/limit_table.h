// Rate limits and semaphores of a segment: the table in its area 4, and what may change there. docs/decisions/0028.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/base/status.h"
#include "core/layout/geometry.h"
#include "core/layout/hash.h"
#include "core/layout/layout_limits.h"

namespace memstream {

// One request per `interval_ns` on average, and `burst` of them together after a pause.
struct Rate {
  std::uint64_t interval_ns = 0;
  std::uint64_t burst = 0;
};
// No limit reaches further into the future. So an instant behind twice of it is damage.
inline constexpr std::uint64_t kLongestRateSpanNs = std::uint64_t{400} * 86'400 * 1'000'000'000;

constexpr bool has_passed(std::uint64_t due, std::uint64_t now_ns) noexcept {
  return due <= now_ns || due - now_ns > 2 * kLongestRateSpanNs;
}

// The generic cell rate algorithm. `due`: the instant from which the key is as if it was never used. What it is after
// one more request, or `due` itself if the request has to wait for `*wait_ns`.
// REQUIRES: rate.interval_ns * rate.burst is at most kLongestRateSpanNs, and neither is 0.
std::uint64_t due_after_request(std::uint64_t due, std::uint64_t now_ns, const Rate& rate,
                                std::uint64_t* wait_ns) noexcept;

// A rate that is not restored, or what a process holds of a semaphore.
struct LimitInfo {
  std::uint32_t pid = 0;  // 0: a rate.
  std::uint64_t used = 0;
  std::uint64_t most = 0;
  std::uint64_t interval_ns = 0;
  std::uint64_t restored_in_ms = 0;
  std::uint64_t held_for_ms = 0;
  std::array<char, sizeof(LimitLabel)> label{};
};
std::array<char, sizeof(LimitLabel)> text_of(const LimitLabel& label) noexcept;

// The functions of a bucket or a stripe that REQUIRE its lock need that no other thread of any process is in one of
// them for the same bucket or stripe. All others need no lock. Safe from all threads of all processes. A process that
// is killed at any instruction leaves a valid table.
class LimitTable {
 public:
  // REQUIRES: geometry.has_limits(), and the area has memory.
  LimitTable(std::byte* segment, const Geometry& geometry) noexcept
      : area_(segment + geometry.areas[kLimitArea].offset),
        holdings_offset_(geometry.holdings_offset()),
        buckets_(geometry.rate_buckets()),
        stripes_(geometry.holding_stripes()) {}

  LimitHead& head() const noexcept { return *reinterpret_cast<LimitHead*>(area_); }
  std::uint32_t buckets() const noexcept { return buckets_; }
  std::uint32_t stripes() const noexcept { return stripes_; }
  std::uint32_t bucket_of(std::uint64_t key) const noexcept { return static_cast<std::uint32_t>(key % buckets_); }
  std::uint32_t stripe_of(std::uint64_t name) const noexcept { return static_cast<std::uint32_t>(name % stripes_); }
  RateBucket& bucket(std::uint32_t number) const noexcept {
    return reinterpret_cast<RateBucket*>(area_ + sizeof(LimitHead))[number];
  }
  HoldingStripe& stripe(std::uint32_t number) const noexcept {
    return reinterpret_cast<HoldingStripe*>(area_ + holdings_offset_)[number];
  }

  // ---- rate limits ----

  // Counts a request of a key that has a limit: kOk if it may go on, kHeld if not before `*wait_ns`. kMiss: the key has
  // none, or it changes at this moment; call begin_limit().
  Status request(std::uint64_t key, std::uint64_t now_ns, const Rate& rate, std::uint64_t* wait_ns) const noexcept;
  // The same for any key, which gets a limit if it has none: kFull if no place of its bucket has passed its instant.
  // REQUIRES: the bucket's lock; now_ns was read while the caller had it.
  Status begin_limit(std::uint64_t key, std::string_view label, std::uint64_t now_ns, const Rate& rate,
                     std::uint64_t* wait_ns) const noexcept;
  // Makes the key as if it was never used. REQUIRES: as begin_limit(). kMiss if it is already.
  Status reset_limit(std::uint64_t key, std::uint64_t now_ns) const noexcept;
  // Copies the limits whose instant has not passed; kFull if one finds no place. REQUIRES: all locks of `from`, and
  // that nobody else knows this table.
  Status copy_limits(const LimitTable& from, std::uint64_t now_ns) const noexcept;

  // Calls visit(limit, note) for every place whose instant has not passed.
  template <class Visit>
  void for_each_rate(std::uint64_t now_ns, const Visit& visit) const {
    for (std::uint32_t number = 0; number < buckets_; ++number) {
      for (std::uint32_t i = 0; i < kRatesPerBucket; ++i) {
        const std::uint64_t due = bucket(number).limits[i].due.load(std::memory_order_acquire);
        if (due != kDueClaimed && !has_passed(due, now_ns)) visit(due, bucket(number).notes[i]);
      }
    }
  }
  // Calls visit(holder, name, note) for every place that somebody has, or had when it died.
  template <class Visit>
  void for_each_holding(const Visit& visit) const {
    for (std::uint32_t number = 0; number < stripes_; ++number) {
      for (std::uint32_t i = 0; i < kHoldingsPerStripe; ++i) {
        const Holding& holding = stripe(number).holdings[i];
        const std::uint64_t word = holding.holder.load(std::memory_order_acquire);
        if (word != 0) visit(word, holding.name.load(std::memory_order_relaxed), stripe(number).notes[i]);
      }
    }
  }

  // ---- semaphores ----

  // How many permits of that name are held by owners that `is_alive(owner)`.
  template <class IsAlive>
  std::uint64_t held(std::uint64_t name, const IsAlive& is_alive) const noexcept {
    std::uint64_t held = 0;
    for (const Holding& holding : stripe(stripe_of(name)).holdings) {
      const std::uint64_t word = holding.holder.load(std::memory_order_seq_cst);
      if (word == 0 || holding.name.load(std::memory_order_acquire) != name) continue;
      if (is_alive(holding_owner(word))) held += holding_count(word);
    }
    return held;
  }
  // Takes a permit for `owner` if fewer than `permits` are held by owners that `is_alive(owner)`: kOk, kHeld, or kFull
  // if there is no place for one more process. REQUIRES: the stripe's lock.
  template <class IsAlive>
  Status take(std::uint64_t name, std::string_view label, std::uint64_t permits, std::uint64_t owner,
              std::uint64_t now_ms, const IsAlive& is_alive) const noexcept {
    if (held(name, is_alive) >= permits) return Status::kHeld;
    HoldingStripe& in = stripe(stripe_of(name));
    std::uint32_t place = kHoldingsPerStripe;
    for (std::uint32_t i = 0; i < kHoldingsPerStripe; ++i) {
      const std::uint64_t word = in.holdings[i].holder.load(std::memory_order_relaxed);
      const bool is_named = in.holdings[i].name.load(std::memory_order_relaxed) == name;
      if (word != 0 && holding_owner(word) == owner && is_named && add_held(in.holdings[i], owner)) return Status::kOk;
      if (place == kHoldingsPerStripe && (word == 0 || !is_alive(holding_owner(word)))) place = i;
    }
    if (place == kHoldingsPerStripe) return Status::kFull;
    begin_holding(in, place, name, label, permits, owner, now_ms);
    return Status::kOk;
  }
  // Gives back a permit that `owner` holds, and wakes those that wait; kConflict if it holds none.
  Status give_back(std::uint64_t name, std::uint64_t owner) const noexcept;
  // Whether a place that is held by such an owner exists, of any name.
  template <class IsAlive>
  bool is_any_held(const IsAlive& is_alive) const noexcept {
    for (std::uint32_t number = 0; number < stripes_; ++number) {
      for (const Holding& holding : stripe(number).holdings) {
        const std::uint64_t word = holding.holder.load(std::memory_order_acquire);
        if (word != 0 && is_alive(holding_owner(word))) return true;
      }
    }
    return false;
  }

 private:
  // False if the owner has just given back its last permit.
  static bool add_held(Holding& holding, std::uint64_t owner) noexcept;
  static void begin_holding(HoldingStripe& in, std::uint32_t place, std::uint64_t name, std::string_view label,
                            std::uint64_t permits, std::uint64_t owner, std::uint64_t now_ms) noexcept;

  std::byte* area_;
  std::uint64_t holdings_offset_;
  std::uint32_t buckets_;
  std::uint32_t stripes_;
};

}  // namespace memstream
