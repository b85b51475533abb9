// What views and reservations leave behind: blocks that nobody owns, and that nobody is told of when the last one who
// holds them lets go.
#include <doctest/doctest.h>

#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/shard/shard.h"
#include "tests/support/scale.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

std::string bytes_of(const PinnedBlock& pinned) {
  return {reinterpret_cast<const char*>(pinned.value), pinned.read.value_size};
}

// Pins, their ends and the ends of their keys in any order, against a list of what is held.
TEST_CASE("whatever the order in which views end, their blocks are held until then and free after") {
  std::mt19937 random(5);
  for (int round = 0; round < scaled(30); ++round) {
    TestShard cache;
    struct Held {
      PinnedBlock pinned;
      std::string value;
    };
    std::vector<Held> held;
    for (int step = 0; step < 400; ++step) {
      const std::string key = "key-" + std::to_string(random() % 12);
      switch (random() % 6) {
        case 0:
        case 1:
          REQUIRE(cache.set(key, pattern(random() % 3000, step)) == Status::kOk);
          break;
        case 2:
          static_cast<void>(cache.remove(key));
          break;
        case 3:
        case 4: {
          Held next;
          if (held.size() == kPinsPerProcess || cache.pin(key, &next.pinned) != Status::kOk) break;
          next.value = bytes_of(next.pinned);
          CHECK(next.value == cache.get(key));
          held.push_back(next);
          break;
        }
        default:
          if (held.empty()) break;
          std::swap(held[random() % held.size()], held.back());
          CHECK(bytes_of(held.back().pinned) == held.back().value);
          REQUIRE(cache.unpin(held.back().pinned) == Status::kOk);
          held.pop_back();
          break;
      }
      if (random() % 64 == 0) cache.recover();
      if (random() % 16 == 0) {
        std::set<std::uint32_t> retired;
        for (const Held& each : held) retired.insert(each.pinned.position);
        for (int i = 0; i < 12; ++i) {
          const std::string name = "key-" + std::to_string(i);
          if (cache.get(name)) retired.erase(ref_block(cache.entry(name).ref));
        }
        static_cast<void>(cache.statistics());
        CHECK(cache.header().space.retired == retired.size());
      }
      REQUIRE(cache.problems() == "");
    }
    for (const Held& each : held) {
      CHECK(bytes_of(each.pinned) == each.value);
      REQUIRE(cache.unpin(each.pinned) == Status::kOk);
    }
    CHECK(cache.statistics().pinned_memory == 0);
    CHECK(cache.header().space.retired == 0);
    CHECK(cache.problems() == "");
  }
}

TEST_CASE("what views have kept is used again without anybody asking for it") {
  TestShard cache;
  const std::uint64_t limit = cache.max_value("k") / 3;
  PinnedBlock pinned;
  for (int i = 0; i < 300; ++i) {
    REQUIRE(cache.set("key", pattern(limit, i)) == Status::kOk);
    REQUIRE(cache.pin("key", &pinned) == Status::kOk);
    REQUIRE(cache.remove("key") == Status::kOk);
    REQUIRE(cache.unpin(pinned) == Status::kOk);
  }
  CHECK(cache.counters().evictions == 0);
  CHECK(cache.problems() == "");
}

TEST_CASE("what one of many views has kept is found where nothing else gives room") {
  TestShard cache;
  PinnedBlock reserved[4];
  for (PinnedBlock& each : reserved) REQUIRE(cache.reserve("key", 200'000, &each) == Status::kOk);
  CHECK(cache.set("other", pattern(250'000, 1)) == Status::kFull);
  REQUIRE(cache.unpin(reserved[0]) == Status::kOk);
  REQUIRE(cache.unpin(reserved[1]) == Status::kOk);
  CHECK(cache.set("other", pattern(250'000, 1)) == Status::kOk);
  CHECK(cache.problems() == "");
}

}  // namespace
}  // namespace memstream::test
