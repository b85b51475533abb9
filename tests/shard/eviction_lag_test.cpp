// Keys that are written once and read once, some time later: a full cache has to have them still.
#include <doctest/doctest.h>

#include <bit>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/shard/eviction.h"
#include "tests/support/test_queues.h"

namespace memstream::test {
namespace {

// How many values of so many bytes the shard holds.
int capacity_of(std::size_t value_size) {
  TestQueues cache;
  int count = 0;
  for (; cache.counters().evictions == 0; ++count) {
    REQUIRE(cache.set(cache.name(count), pattern(value_size, 1)) == Status::kOk);
  }
  return count - 1;
}

struct Consumption {
  std::size_t value_size = kValueSize;
  int lag = 0;  // Puts between that of a key and its get.
  int puts = 0;
  int counted_from = 0;  // The put from which on gets count.
  bool refills = false;  // Puts what a get missed.
  std::uint64_t expires_ms = 0;
  std::function<std::size_t(int)> size_of = nullptr;          // Instead of value_size.
  std::function<void(TestQueues*, int)> meanwhile = nullptr;  // Called after each put and get.
};

// The part of the gets that were hits.
double hit_ratio(TestQueues* cache, const Consumption& how) {
  const auto name = [](int number) { return "lag-" + std::to_string(number); };
  const auto put = [&](int number) {
    const std::size_t size = how.size_of ? how.size_of(number) : how.value_size;
    REQUIRE(cache->set(name(number), pattern(size, 1), how.expires_ms) == Status::kOk);
  };
  int hits = 0;
  int gets = 0;
  for (int i = 0; i < how.puts; ++i) {
    put(i);
    if (i >= how.lag) {
      const bool hit = cache->get(name(i - how.lag)).has_value();
      if (!hit && how.refills) put(i - how.lag);
      hits += i >= how.counted_from && hit ? 1 : 0;
      gets += i >= how.counted_from ? 1 : 0;
    }
    if (how.meanwhile) how.meanwhile(cache, i);
  }
  CHECK(cache->problems() == "");
  return static_cast<double>(hits) / gets;
}

TEST_CASE("what is read once some time after it was written is there, in small shards as well") {
  for (const std::size_t value_size : {std::size_t{100}, kValueSize, std::size_t{8000}, std::size_t{50'000}}) {
    const int capacity = capacity_of(value_size);
    for (const int percent : {5, 7, 33, 60, 80}) {
      for (const bool refills : {false, true}) {
        CAPTURE(value_size);
        CAPTURE(percent);
        CAPTURE(refills);
        TestQueues cache;
        CHECK(hit_ratio(&cache, {.value_size = value_size,
                                 .lag = capacity * percent / 100,
                                 .puts = 4 * capacity,
                                 .counted_from = capacity * 3 / 2,
                                 .refills = refills}) > 0.97);
      }
    }
  }
}

TEST_CASE("a ttl on each key and values of many sizes change nothing about that") {
  const int capacity = capacity_of(kValueSize);
  TestQueues expiring;
  CHECK(hit_ratio(&expiring, {.lag = capacity * 6 / 10,
                              .puts = 4 * capacity,
                              .counted_from = capacity * 3 / 2,
                              .expires_ms = 1'000'000}) > 0.97);
  // 100 to 6,400 bytes, 700 on average.
  const auto size_of = [](int number) {
    return std::size_t{100} << std::countr_zero(static_cast<unsigned>(number) | 64U);
  };
  const int mixed = static_cast<int>(TestQueues().shard_size() / 800);
  TestQueues sizes;
  CHECK(hit_ratio(&sizes, {.lag = mixed / 2, .puts = 5 * mixed, .counted_from = mixed * 3 / 2, .size_of = size_of}) >
        0.97);
}

TEST_CASE("several producers, and a share of repeated reads, change nothing about that") {
  const int capacity = capacity_of(kValueSize);
  const int lag = capacity * 6 / 10;
  std::mt19937 random(3);
  TestQueues repeating;
  CHECK(hit_ratio(&repeating, {.lag = lag,
                               .puts = 5 * capacity,
                               .counted_from = capacity * 3 / 2,
                               .meanwhile = [&](TestQueues* cache, int i) {
                                 if (i < lag || random() % 3 != 0) return;
                                 (void)cache->get("lag-" + std::to_string(i - static_cast<int>(random()) % lag));
                               }}) > 0.95);
  // A second one, whose keys are read sooner.
  TestQueues producers;
  CHECK(
      hit_ratio(
          &producers,
          {.lag = lag / 2, .puts = 3 * capacity, .counted_from = capacity, .meanwhile = [&](TestQueues* cache, int i) {
             cache->put(i);
             if (i >= lag / 4) (void)cache->has(i - lag / 4);
           }}) > 0.97);
}

TEST_CASE("a cache full of what was read often, or never, becomes one for a producer within a few turns") {
  const int capacity = capacity_of(kValueSize);
  for (const bool read_often : {true, false}) {
    for (const bool refills : {false, true}) {
      CAPTURE(read_often);
      CAPTURE(refills);
      TestQueues cache;
      for (int i = 0; i < 3 * capacity; ++i) {
        cache.put(i);
        for (int reads = 0; read_often && reads < 3; ++reads) REQUIRE(cache.has(i));
      }
      cache.space().small_target = cache.space().used_memory / 20;
      CHECK(hit_ratio(&cache,
                      {.lag = capacity / 2, .puts = 6 * capacity, .counted_from = 4 * capacity, .refills = refills}) >
            0.95);
    }
  }
}

// Half of what the shard holds is popular, and the other keys are read by nobody, so that the main queue has most.
void fill_with_popular_keys(TestQueues* cache, int capacity) {
  std::mt19937 random(11);
  for (int i = 0; i < 4 * capacity; ++i) {
    cache->put(10 * capacity + i);
    for (int reads = 0; reads < 2; ++reads) {
      const int popular = static_cast<int>(random()) & 0x7fff'ffff;
      if (!cache->has(popular % (capacity / 2))) cache->put(popular % (capacity / 2));
    }
    cache->space().small_target = cache->space().used_memory / 20;
  }
}

TEST_CASE("a main queue that was read and is not any more gives all its room to a producer within two turns") {
  const int capacity = capacity_of(kValueSize);
  for (const int percent : {60, 80}) {
    CAPTURE(percent);
    TestQueues cache;
    fill_with_popular_keys(&cache, capacity);
    CHECK(cache.space().usual_reads > 0);
    CHECK(cache.space().most_idle_sweeps > 0);
    CHECK(hit_ratio(&cache, {.lag = capacity * percent / 100, .puts = 5 * capacity, .counted_from = 2 * capacity}) >
          0.95);
  }
}

TEST_CASE("a main queue that is not read for a while keeps its place against keys that nobody reads") {
  const int capacity = capacity_of(kValueSize);
  TestQueues cache;
  fill_with_popular_keys(&cache, capacity);
  for (int i = 0; i < 6 * capacity; ++i) cache.put(20 * capacity + i);
  int kept = 0;
  for (int i = 0; i < capacity / 2; ++i) kept += cache.has(i) ? 1 : 0;
  CHECK(kept > capacity / 2 * 9 / 10);
}

TEST_CASE("a cleared cache is as good for a producer as a new one, whatever filled it before") {
  const int capacity = capacity_of(kValueSize);
  for (const int reads : {0, 1, 3}) {
    for (const bool refills : {false, true}) {
      CAPTURE(reads);
      CAPTURE(refills);
      TestQueues cache;
      for (int i = 0; i < 3 * capacity; ++i) {
        cache.put(i);
        for (int read = 0; read < reads; ++read) REQUIRE(cache.has(i));
      }
      REQUIRE(cache.shard.clear(cache.deadline()) == Status::kOk);
      CHECK(hit_ratio(&cache, {.lag = capacity * 8 / 10, .puts = 4 * capacity, .refills = refills}) > 0.97);
    }
  }
}

TEST_CASE("keys that a cleared cache had dropped before are new ones") {
  TestQueues cache;
  const int next = cache.fill();
  const int capacity = capacity_of(kValueSize);
  REQUIRE(cache.shard.clear(cache.deadline()) == Status::kOk);
  for (int i = next - 2 * capacity; i < next - 3 * capacity / 2; ++i) cache.put(i);
  CHECK(cache.small_part() == 1.0);
  CHECK(cache.problems() == "");
}

TEST_CASE("a get of a dropped key counts once, for the queue that dropped it") {
  TestQueues cache;
  const int next = cache.fill();
  ShardSpace& space = cache.space();
  int counted = 0;
  for (int i = next - 1; i > 0 && counted < 20; --i) {
    space.asks = 0;
    if (cache.has(i) || space.asks == 0) continue;
    ++counted;
    CHECK(space.asks == 1);
    CHECK_FALSE(cache.has(i));
    CHECK(space.asks == 1);
    // Nor when it is stored then, which makes it one of the main queue.
    space.small_target = space.used_memory / 2;
    space.small_drops = 100;
    space.small_returns = 50;
    cache.put(i);
    CHECK(cache.is_in(i, kMain));
    CHECK(space.small_returns == 51);
  }
  CHECK(counted == 20);
}

TEST_CASE("who attached to look on counts no gets of dropped keys") {
  TestQueues cache;
  const int next = cache.fill();
  const auto mapping = cache.attach(Access::kReadOnly);
  Shard reader(mapping.get(), cache.geometry(), 0, cache.attached().hash_seed);
  ShardSpace& space = cache.space();
  std::byte room[kValueSize];
  const auto now = [&] { return cache.now_ms; };
  int known = 0;
  for (int i = next - 1; i > 0 && known < 5; --i) {
    GetResult got;
    const std::string name = cache.name(i);
    // Until a process has asked the system for memory here, its gets take the slow way, which counts nothing.
    (void)reader.get(cache.key(name), {room, sizeof room}, {cache.deadline(), now()});
    space.asks = 0;
    const bool is_fast =
        reader.try_get_fast(cache.key(name), {room, sizeof room}, now, now, &got) == Shard::FastGet::kAnswered;
    CHECK(space.asks == 0);
    if (cache.has(i) || space.asks == 0) continue;
    CHECK(is_fast);
    ++known;  // A process that may write counts it.
  }
  CHECK(known == 5);
}

TEST_CASE("gets of dropped keys move the border, and the main queue gives up one entry for each") {
  TestQueues cache;
  int next = cache.fill();
  ShardSpace& space = cache.space();
  space.small_drops = space.main_drops = 3000;
  space.small_returns = 900;
  space.main_returns = 0;
  const std::uint64_t target = cache.small_target();
  const std::uint32_t main_drops = space.main_drops = 100;
  space.asks = 10;
  cache.evict(&next, 1);
  CHECK(space.main_debt == 10);
  CHECK(space.asks == 0);
  CHECK(space.small_returns == 910);
  CHECK(cache.small_target() > target);
  cache.evict(&next, 10);
  CHECK(space.main_debt == 0);
  CHECK(space.main_drops >= main_drops + 10);
}

TEST_CASE("the main queue owes nothing for a dropped key that is stored after its get") {
  TestQueues cache;
  int next = cache.fill();
  ShardSpace& space = cache.space();
  int stored = 0;
  for (int i = next - 1; i > 0 && stored < 20; --i) {
    space.asks = 0;
    if (cache.has(i) || space.asks != 1) continue;
    space.small_target = space.used_memory / 2;
    space.small_drops = space.main_drops = 1000;
    space.small_returns = 500;
    space.main_returns = 0;
    space.main_debt = 0;
    const bool is_stored = i % 2 == 0;
    const std::uint64_t evictions = cache.counters().evictions;
    if (is_stored) {
      cache.put(i);
      ++stored;
    } else {
      cache.put(next++);
    }
    REQUIRE(cache.counters().evictions == evictions + 1);
    CHECK(space.main_debt == (is_stored ? 0 : 1));
  }
  CHECK(stored == 20);
}

TEST_CASE("where all is in the small queue, nothing is read and keys come back too late, the main queue gets all") {
  TestQueues cache;
  int next = 0;
  while (cache.counters().evictions == 0) cache.put(next++);
  ShardSpace& space = cache.space();
  REQUIRE(cache.small_target() == space.used_memory / 100 * 99);
  space.small_drops = space.entries;
  space.small_returns = space.entries / 2;
  cache.evict(&next, 1);
  CHECK(cache.small_target() == space.used_memory / 100 * 5);
  CHECK(space.small_returns == 0);
  CHECK(cache.problems() == "");
}

}  // namespace
}  // namespace memstream::test
