// The table of rate limits and semaphores, in memory of the test's own and at instants that the test chooses.
#include "core/cache/limit_table.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <random>
#include <thread>
#include <vector>

#include "tests/support/expectations.h"
#include "tests/support/scale.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
const auto kAllLive = [](std::uint64_t) { return true; };

// The table of a segment of that size.
class OwnTable {
 public:
  explicit OwnTable(std::uint64_t segment_size_bytes = kLeastLimitSegment) {
    REQUIRE(make_geometry(segment_size_bytes, 1, &geometry_) == Status::kOk);
    bytes_.reset(new (std::align_val_t{kPageSize}) std::byte[geometry_.limits_size_bytes()]());
    geometry_.areas[kLimitArea].offset = 0;
    table_ = std::make_unique<LimitTable>(bytes_.get(), geometry_);
  }
  const LimitTable* operator->() const { return table_.get(); }
  const LimitTable& operator*() const { return *table_; }

  // What Cache::limit() does, without its lock.
  Status limit(std::uint64_t key, std::uint64_t now_ns, const Rate& rate, std::uint64_t* wait_ns) const {
    const Status status = table_->request(key, now_ns, rate, wait_ns);
    return status == Status::kMiss ? table_->begin_limit(key, "label", now_ns, rate, wait_ns) : status;
  }
  Status limit(std::uint64_t key, std::uint64_t now_ns, const Rate& rate) const {
    std::uint64_t wait_ns = 0;
    return limit(key, now_ns, rate, &wait_ns);
  }
  // Of the first bucket, whose number is 0 modulo a power of two. Searches of different keys begin at different places.
  std::uint64_t neighbour(std::uint64_t number) const { return number * 0x9e37'79b9'7f4a'7c15 * table_->buckets(); }

 private:
  struct Delete {
    void operator()(std::byte* bytes) const { ::operator delete[](bytes, std::align_val_t{kPageSize}); }
  };
  Geometry geometry_;
  std::unique_ptr<std::byte[], Delete> bytes_;
  std::unique_ptr<LimitTable> table_;
};

// The same limit in other words: a store of time that fills with time, of which each request takes an interval.
class TokenBucket {
 public:
  bool request(std::uint64_t now_ns, const Rate& rate, std::uint64_t* wait_ns) {
    const std::uint64_t most = rate.interval_ns * rate.burst;
    filled_ = is_used_ ? std::min(most, filled_ + (now_ns - at_ns_)) : most;
    is_used_ = true;
    at_ns_ = now_ns;
    *wait_ns = filled_ < rate.interval_ns ? rate.interval_ns - filled_ : 0;
    if (*wait_ns != 0) return false;
    filled_ -= rate.interval_ns;
    return true;
  }

 private:
  std::uint64_t filled_ = 0;
  std::uint64_t at_ns_ = 0;
  bool is_used_ = false;
};

TEST_CASE("a key gets its burst together, then one request per interval") {
  const OwnTable table;
  const Rate rate{kSecond, 3};
  std::uint64_t now = 100 * kSecond;
  std::uint64_t wait_ns = 0;
  for (int i = 0; i < 3; ++i) CHECK(table.limit(7, now, rate, &wait_ns) == Status::kOk);
  CHECK(table.limit(7, now, rate, &wait_ns) == Status::kHeld);
  CHECK(wait_ns == kSecond);
  CHECK(table.limit(7, now + kSecond - 1, rate, &wait_ns) == Status::kHeld);
  CHECK(wait_ns == 1);
  now += kSecond;
  CHECK(table.limit(7, now, rate, &wait_ns) == Status::kOk);
  CHECK(table.limit(7, now, rate, &wait_ns) == Status::kHeld);
  CHECK(table.limit(8, now, rate, &wait_ns) == Status::kOk);  // Another key has a limit of its own.
  now += 10 * kSecond;
  for (int i = 0; i < 3; ++i) CHECK(table.limit(7, now, rate, &wait_ns) == Status::kOk);
  CHECK(table.limit(7, now, rate, &wait_ns) == Status::kHeld);
}

TEST_CASE("generated histories of many keys are answered as token buckets answer them") {
  std::mt19937_64 random(25);
  for (int round = 0; round < scaled(50); ++round) {
    const OwnTable table;
    std::map<std::uint64_t, TokenBucket> model;
    const Rate rate{1 + random() % 1000, 1 + random() % 20};
    std::uint64_t now = kSecond;
    int held = 0;
    for (int step = 0; step < 4000; ++step) {
      now += random() % (random() % 256 == 0 ? 20 * rate.interval_ns : rate.interval_ns / 16 + 1);
      const std::uint64_t key = table.neighbour(1 + random() % 12);
      std::uint64_t wait_ns = 0;
      std::uint64_t expected_ns = 0;
      const Status status = table.limit(key, now, rate, &wait_ns);
      const bool expected = model[key].request(now, rate, &expected_ns);
      REQUIRE((status == Status::kOk) == expected);
      REQUIRE((status == Status::kHeld) == !expected);
      REQUIRE(wait_ns == expected_ns);
      held += expected ? 0 : 1;
    }
    CAPTURE(round);
    CHECK(held > 0);
  }
}

TEST_CASE("a bucket that is full says so, and gives a place away as soon as its instant has passed") {
  const OwnTable table;
  const Rate rate{kSecond, 2};
  for (std::uint64_t i = 1; i <= kRatesPerBucket; ++i)
    CHECK(table.limit(table.neighbour(i), kSecond, rate) == Status::kOk);
  const std::uint64_t late = table.neighbour(kRatesPerBucket + 1);
  CHECK(table.limit(late, kSecond, rate) == Status::kFull);
  CHECK(table.limit(late, 2 * kSecond - 1, rate) == Status::kFull);
  CHECK(table.limit(table.neighbour(3), 2 * kSecond - 1, rate) == Status::kOk);
  CHECK(table.limit(late, 2 * kSecond, rate) == Status::kOk);
  // Its former owner is as good as new, and finds another place.
  std::uint64_t wait_ns = 0;
  for (std::uint64_t i = 1; i <= kRatesPerBucket; ++i) {
    if (i == 3) continue;
    const Status status = table.limit(table.neighbour(i), 2 * kSecond, rate, &wait_ns);
    if (status == Status::kFull) continue;
    CHECK(status == Status::kOk);
    CHECK(table.limit(table.neighbour(i), 2 * kSecond, rate, &wait_ns) == Status::kOk);
    CHECK(table.limit(table.neighbour(i), 2 * kSecond, rate, &wait_ns) == Status::kHeld);
  }
}

TEST_CASE("a key that is reset has all of its burst, and its place goes to no other key too early") {
  const OwnTable table;
  const Rate rate{kSecond, 2};
  for (std::uint64_t i = 1; i <= kRatesPerBucket; ++i) {
    CHECK(table.limit(table.neighbour(i), kSecond, rate) == Status::kOk);
    CHECK(table.limit(table.neighbour(i), kSecond, rate) == Status::kOk);
  }
  const std::uint64_t key = table.neighbour(5);
  CHECK(table.limit(key, kSecond, rate) == Status::kHeld);
  CHECK(table->reset_limit(key, kSecond) == Status::kOk);
  CHECK(table->reset_limit(key, kSecond) == Status::kMiss);
  CHECK(table->reset_limit(table.neighbour(99), kSecond) == Status::kMiss);
  // An update that was begun before the reset may still expect the old instant, 3 s: nobody else may come to it.
  CHECK(table.limit(table.neighbour(99), kSecond, rate) == Status::kFull);
  CHECK(table.limit(key, kSecond, rate) == Status::kOk);
  CHECK(table.limit(key, kSecond, rate) == Status::kOk);
  CHECK(table.limit(key, kSecond, rate) == Status::kHeld);
  CHECK(table.limit(table.neighbour(99), 3 * kSecond, rate) == Status::kOk);
}

TEST_CASE("a place whose claimer died, and one with an impossible instant, are free") {
  const OwnTable table;
  const Rate rate{kSecond, 1};
  std::uint64_t wait_ns = 0;
  for (const std::uint64_t left : {kDueClaimed, 3 * kLongestRateSpanNs}) {
    for (RateLimit& limit : table->bucket(0).limits) {
      limit.key = 11 * std::uint64_t{table->buckets()};
      limit.due = left;
    }
    const std::uint64_t key = 12 * std::uint64_t{table->buckets()};
    CHECK(table->request(key, kSecond, rate, &wait_ns) == Status::kMiss);
    CHECK(table.limit(key, kSecond, rate) == Status::kOk);
    CHECK(table.limit(key, kSecond, rate) == Status::kHeld);
    // Also for the key that the dead process gave it to.
    const std::uint64_t former = 11 * std::uint64_t{table->buckets()};
    CHECK(table.limit(former, kSecond, rate) == Status::kOk);
    CHECK(table.limit(former, kSecond, rate) == Status::kHeld);
  }
}

TEST_CASE("threads whose keys take the places of a bucket from each other let no request through too early") {
  const OwnTable table;
  constexpr int kThreads = 4;
  constexpr std::uint64_t kKeys = 40;  // For 16 places.
  const Rate rate{30, 1};
  std::mutex lock;                    // Of the bucket.
  std::atomic<std::uint64_t> now{1};  // A clock of which each reading is another instant.
  std::atomic<std::uint64_t> full{0};
  std::atomic<bool> is_over{false};
  std::vector<std::vector<std::uint64_t>> passed_of(kThreads * kKeys);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      std::mt19937_64 random(static_cast<std::uint64_t>(thread));
      while (!is_over) {
        const std::uint64_t number = random() % kKeys;
        const std::uint64_t key = table.neighbour(number + 1);
        std::uint64_t wait_ns = 0;
        std::uint64_t instant = now++;
        Status status = table->request(key, instant, rate, &wait_ns);
        if (status == Status::kMiss) {
          const std::lock_guard guard(lock);
          instant = now++;
          status = table->begin_limit(key, "", instant, rate, &wait_ns);
        }
        if (status == Status::kOk) passed_of[static_cast<std::size_t>(thread) * kKeys + number].push_back(instant);
        if (status == Status::kFull) ++full;
      }
    });
  }
  std::this_thread::sleep_for(stress_time(1));
  is_over = true;
  for (std::thread& thread : threads) thread.join();
  std::uint64_t early = 0;
  std::uint64_t sum = 0;
  for (std::uint64_t number = 0; number < kKeys; ++number) {
    std::vector<std::uint64_t> passed;
    for (std::uint64_t thread = 0; thread < kThreads; ++thread) {
      const auto& part = passed_of[thread * kKeys + number];
      passed.insert(passed.end(), part.begin(), part.end());
    }
    std::sort(passed.begin(), passed.end());
    for (std::size_t i = 1; i < passed.size(); ++i) early += passed[i] - passed[i - 1] < rate.interval_ns ? 1 : 0;
    sum += passed.size();
  }
  MESSAGE(sum << " requests passed");
  CHECK(early == 0);
  CHECK(sum > kKeys);
  CHECK(full > 0);
}

TEST_CASE("each of the requests that threads make at one instant is counted") {
  const OwnTable table;
  constexpr int kThreads = 4;
  const std::uint64_t burst = static_cast<std::uint64_t>(scaled(100'000));
  const Rate rate{.interval_ns = 1000, .burst = burst};
  const std::uint64_t key = table.neighbour(7);
  REQUIRE(table.limit(key, kSecond, rate) == Status::kOk);
  std::atomic<std::uint64_t> passed{1};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&] {
      std::uint64_t of_this_thread = 0;
      while (table.limit(key, kSecond, rate) == Status::kOk) ++of_this_thread;
      passed += of_this_thread;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(passed == burst);
}

TEST_CASE("a copy has the limits that have not passed, and refuses what finds no place") {
  const OwnTable from;
  const OwnTable to;
  const Rate rate{kSecond, 2};
  const std::uint64_t now = 10 * kSecond;
  CHECK(from.limit(1, now, rate) == Status::kOk);
  CHECK(from.limit(1, now, rate) == Status::kOk);
  CHECK(from.limit(2, kSecond, rate) == Status::kOk);  // It has passed.
  CHECK(to.limit(1, now, {100 * kSecond, 1}) == Status::kOk);
  CHECK(to->copy_limits(*from, now) == Status::kOk);
  for (int i = 0; i < 40; ++i) CHECK(to->copy_limits(*from, now) == Status::kOk);  // Earlier copies take no room.
  CHECK(to.limit(1, now, rate) == Status::kHeld);
  CHECK(to.limit(1, now + kSecond, rate) == Status::kOk);
  CHECK(to.limit(2, now, rate) == Status::kOk);
  // Two buckets of a large table that are one of a small one.
  const OwnTable wide(2 * kLeastLimitSegment);
  REQUIRE(wide->buckets() == 2 * to->buckets());
  for (std::uint64_t i = 1; i <= kRatesPerBucket + 1; ++i) {
    CHECK(wide.limit(i * to->buckets(), now, {kSecond, 1}) == Status::kOk);
  }
  CHECK(to->copy_limits(*wide, now) == Status::kFull);
}

TEST_CASE("no more permits are held than there are, and those of the dead are free") {
  const OwnTable table;
  const std::uint64_t name = 77;
  const auto take = [&](std::uint64_t owner, std::uint64_t dead = 0) {
    return table->take(name, "name", 3, owner, 0, [&](std::uint64_t holder) { return holder != dead; });
  };
  CHECK(table->give_back(name, 1) == Status::kConflict);
  CHECK(take(1) == Status::kOk);
  CHECK(take(1) == Status::kOk);
  CHECK(take(2) == Status::kOk);
  CHECK(table->held(name, kAllLive) == 3);
  CHECK(take(3) == Status::kHeld);
  CHECK(take(3, 2) == Status::kOk);  // In the place of the dead.
  CHECK(table->held(name, kAllLive) == 3);
  CHECK(table->give_back(name, 2) == Status::kConflict);
  CHECK(take(2, 1) == Status::kOk);
  CHECK(table->held(name, kAllLive) == 2);
  CHECK(table->give_back(name, 2) == Status::kOk);
  CHECK(table->give_back(name, 3) == Status::kOk);
  CHECK(table->give_back(name, 3) == Status::kConflict);
  CHECK_FALSE(table->is_any_held(kAllLive));
}

TEST_CASE("a stripe has room for 127 holders of all its names, and says when it is full") {
  const OwnTable table;
  std::uint64_t owner = 1;
  for (; owner <= kHoldingsPerStripe; ++owner) {
    CHECK(table->take(owner * table->stripes(), "", 1, owner, 0, kAllLive) == Status::kOk);
  }
  CHECK(table->take(0, "", 1, owner, 0, kAllLive) == Status::kFull);
  CHECK(table->take(table->stripes(), "", 9, 1, 0, kAllLive) == Status::kOk);  // One who holds the name needs no place.
  CHECK(table->take(0, "", 1, owner, 0, [](std::uint64_t holder) { return holder != 5; }) == Status::kOk);
}

}  // namespace
}  // namespace memstream::test
