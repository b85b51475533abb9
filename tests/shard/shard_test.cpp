// A shard as a cache: every operation, every limit, what is told of an entry.
#include "core/shard/shard.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <string>

#include "tests/support/expectations.h"
#include "tests/support/scale.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

using namespace std::string_literals;

TEST_CASE("a value that was set is read; an absent key is a miss") {
  TestShard cache;
  CHECK(cache.get("color") == std::nullopt);
  REQUIRE(cache.set("color", "blue") == Status::kOk);
  CHECK(cache.get("color") == "blue");
  CHECK(cache.get("colors") == std::nullopt);
  CHECK(cache.get("colo") == std::nullopt);
  CHECK(cache.problems() == "");
}

TEST_CASE("a value is replaced by a larger, a smaller and an equal one") {
  TestShard cache;
  for (const std::size_t size : {10U, 5000U, 100'000U, 100'000U, 3U, 0U, 40U}) {
    const std::string value = pattern(size, size);
    REQUIRE(cache.set("key", value) == Status::kOk);
    CHECK(cache.get("key") == value);
    CHECK(cache.statistics().entries == 1);
    CHECK(cache.statistics().value_memory == size);
    CHECK(cache.problems() == "");
  }
}

TEST_CASE("a value of zero bytes is there") {
  TestShard cache;
  REQUIRE(cache.set("empty", "") == Status::kOk);
  CHECK(cache.get("empty") == "");
}

TEST_CASE("keys of every size from 1 to 1,024 bytes are kept apart, NUL bytes included") {
  TestShard cache(4U << 20);
  for (std::size_t size = 1; size <= kMaxKeySize; ++size) {
    REQUIRE(cache.set(std::string(size, '\0'), std::to_string(size)) == Status::kOk);
  }
  for (std::size_t size = 1; size <= kMaxKeySize; ++size) {
    CHECK(cache.get(std::string(size, '\0')) == std::to_string(size));
  }
  CHECK(cache.statistics().entries == kMaxKeySize);
  CHECK(cache.statistics().key_memory == kMaxKeySize * (kMaxKeySize + 1) / 2);
  REQUIRE(cache.set("a\0b"s, "x\0y"s) == Status::kOk);
  CHECK(cache.get("a\0b"s) == "x\0y"s);
  CHECK(cache.get("a") == std::nullopt);
  CHECK(cache.problems() == "");
}

TEST_CASE("a deleted key is gone, and deleting it again is a miss") {
  TestShard cache;
  REQUIRE(cache.set("key", "value") == Status::kOk);
  CHECK(cache.remove("key") == Status::kOk);
  CHECK(cache.get("key") == std::nullopt);
  CHECK(cache.remove("key") == Status::kMiss);
  CHECK(cache.counters().deletes == 1);
  CHECK(cache.statistics().used_memory == 0);
  CHECK(cache.problems() == "");
}

TEST_CASE("an entry is gone from the moment at which it expires, and counted once somebody meets it") {
  TestShard cache;
  REQUIRE(cache.set("key", "value", cache.now_ms + 100) == Status::kOk);
  cache.now_ms += 99;
  CHECK(cache.get("key") == "value");
  CHECK(cache.read("key").expires_ms == 1100);
  cache.now_ms += 1;
  CHECK(cache.get("key") == std::nullopt);
  CHECK(cache.scan().empty());
  CHECK(cache.remove("key") == Status::kMiss);
  CHECK(cache.counters().expirations == 1);
  CHECK(cache.counters().deletes == 0);
  CHECK(cache.problems() == "");
}

TEST_CASE("an expired entry counts as absent for every mode of storing") {
  for (const StoreMode mode : {StoreMode::kSet, StoreMode::kAdd, StoreMode::kReplace, StoreMode::kCas}) {
    TestShard cache;
    REQUIRE(cache.set("key", "old", cache.now_ms + 10) == Status::kOk);
    const std::uint64_t cas = cache.read("key").cas;
    cache.now_ms += 10;
    const bool stores = mode == StoreMode::kSet || mode == StoreMode::kAdd;
    CHECK(cache.store("key", "new", mode, cas) == (stores ? Status::kOk : Status::kMiss));
    CHECK(cache.get("key") == (stores ? std::optional<std::string>("new") : std::nullopt));
    CHECK(cache.counters().expirations == 1);
  }
}

TEST_CASE("flags, instants and access counts of an entry are told as they are") {
  TestShard cache;
  REQUIRE(cache.set("key", "value", 9000, 0xdead'beef) == Status::kOk);
  cache.now_ms = 2000;
  CHECK(cache.get("key") == "value");
  CHECK(cache.get("key") == "value");
  ScannedEntry seen;
  REQUIRE(cache.shard.inspect(cache.key("key"), {cache.deadline(), 3000},
                              [&](const ScannedEntry& entry) { seen = entry; }) == Status::kOk);
  CHECK(seen.access_count == 2);
  CHECK(seen.last_access_ms == 2000);
  CHECK(seen.block.created_ms == 1000);
  CHECK(seen.block.expires_ms == 9000);
  CHECK(seen.block.caller_flags == 0xdead'beef);
  CHECK(seen.block.value_size == 5);
  CHECK(seen.block.key_size == 3);
  CHECK(seen.cas == cache.read("key").cas);
  CHECK(cache.shard.inspect(cache.key("other"), {cache.deadline(), 3000}, {}) == Status::kMiss);
  CHECK(cache.shard.inspect(cache.key("key"), {cache.deadline(), 9000}, {}) == Status::kMiss);
}

// 32 of its bits stand in one word of the block, four in the other.
TEST_CASE("the instant at which a value was written is told as it is, whichever way it came into its block") {
  TestShard cache;
  for (const std::uint64_t now_ms : {std::uint64_t{1000}, std::uint64_t{0x5'4321'0fed}, kLastCreatedMs}) {
    CAPTURE(now_ms);
    cache.now_ms = now_ms;
    REQUIRE(cache.set("key", "value") == Status::kOk);
    CHECK(cache.read("key").created_ms == now_ms);
    PinnedBlock viewed;
    REQUIRE(cache.pin("key", &viewed) == Status::kOk);
    CHECK(viewed.read.created_ms == now_ms);
    CHECK(cache.unpin(viewed) == Status::kOk);
    --cache.now_ms;
    PinnedBlock reserved;
    REQUIRE(cache.reserve("filled", 5, &reserved) == Status::kOk);
    ++cache.now_ms;
    std::memcpy(reserved.value, "value", 5);
    REQUIRE(cache.commit("filled", reserved) == Status::kOk);
    CHECK(cache.read("filled").created_ms == now_ms);
    // A move is no write.
    ++cache.now_ms;
    REQUIRE(cache.shard.touch(cache.key("key"), now_ms + 1000, {cache.deadline(), cache.now_ms}) == Status::kOk);
    CHECK(cache.read("key").created_ms == now_ms);
    cache.recover();
    CHECK(cache.read("key").created_ms == now_ms);
    CHECK(cache.problems() == "");
    REQUIRE(cache.remove("key") == Status::kOk);
  }
  // Later instants than the last one there is are as late as can be told.
  CHECK(cache.now_ms > kLastCreatedMs);
  REQUIRE(cache.set("key", "value") == Status::kOk);
  CHECK(cache.read("key").created_ms == kLastCreatedMs);
}

TEST_CASE("access counts and the last access are exact to 64 accesses") {
  TestShard cache;
  REQUIRE(cache.set("key", "value") == Status::kOk);
  for (std::uint32_t i = 1; i <= 64; ++i) {
    ++cache.now_ms;
    REQUIRE(cache.get("key") == "value");
    CHECK(cache.entry("key").access_count == i);
    CHECK(cache.entry("key").last_access_ms == cache.now_ms);
  }
}

// Loops of all these lengths, so that no rhythm of the sampling meets one of the keys more often than it should.
TEST_CASE("beyond that counts are close, whatever is read in between, and the last access lags by a second at most") {
  for (const int keys : {1, 2, 3, 16, 21}) {
    CAPTURE(keys);
    TestShard cache;
    const auto name = [](int number) { return "key" + std::to_string(number); };
    for (int number = 0; number < keys; ++number) REQUIRE(cache.set(name(number), "value") == Status::kOk);
    constexpr int kRounds = 1000;
    int writes = 0;
    int misleading = 0;
    for (int round = 0; round < kRounds; ++round) {
      cache.now_ms += 10;
      for (int number = 0; number < keys; ++number) {
        const std::uint64_t before = cache.entry(name(number)).last_access_ms;
        REQUIRE(cache.get(name(number)) == "value");
        const std::uint64_t noted = cache.entry(name(number)).last_access_ms;
        if (noted != before) ++writes;
        if (noted > cache.now_ms || noted + 1000 < cache.now_ms) ++misleading;
      }
    }
    double sum = 0;
    for (int number = 0; number < keys; ++number) {
      const double count = cache.entry(name(number)).access_count;
      CHECK((count > kRounds * 0.7 && count < kRounds * 1.3));
      sum += count;
    }
    CHECK(sum / keys == doctest::Approx(kRounds).epsilon(0.1));
    CHECK(misleading == 0);
    CHECK(writes < keys * kRounds / 4);
  }
}

TEST_CASE("a value of exactly the limit is stored; one byte more is refused and evicts nothing") {
  TestShard cache;
  for (int i = 0; i < 200; ++i) REQUIRE(cache.set("k" + std::to_string(i), pattern(1000, 1)) == Status::kOk);
  const ShardStatistics before = cache.statistics();
  for (const std::size_t key_size : {1U, 15U, 16U, 17U, 1024U}) {
    const std::string key(key_size, 'x');
    const std::uint64_t limit = cache.max_value(key);
    CHECK(cache.set(key, pattern(limit + 1, 2)) == Status::kTooLarge);
    CHECK(message_has(std::to_string(limit + 1)));
    CHECK(message_has(std::to_string(limit)));
    CHECK(cache.statistics().entries == before.entries);
    CHECK(cache.counters().evictions == 0);
  }
  for (const std::size_t key_size : {1U, 15U, 16U, 17U, 1024U}) {
    const std::string key(key_size, 'x');
    const std::string value = pattern(cache.max_value(key), key_size);
    REQUIRE(cache.set(key, value) == Status::kOk);
    CHECK(cache.get(key) == value);
    CHECK(cache.problems() == "");
  }
}

TEST_CASE("two values of the limit fit side by side") {
  TestShard cache;
  REQUIRE(cache.set("a", pattern(cache.max_value("a"), 1)) == Status::kOk);
  REQUIRE(cache.set("b", pattern(cache.max_value("b"), 2)) == Status::kOk);
  CHECK(cache.get("a") == pattern(cache.max_value("a"), 1));
  CHECK(cache.get("b") == pattern(cache.max_value("b"), 2));
}

TEST_CASE("values are aligned to 16 bytes, from 4,096 bytes on to 64") {
  TestShard cache;
  for (const std::size_t size : {1U, 100U, 4095U, 4096U, 5000U}) {
    for (std::size_t key_size = 1; key_size < 70; key_size += 7) {
      const std::string key(key_size, 'k');
      REQUIRE(cache.set(key, pattern(size, key_size)) == Status::kOk);
      PinnedBlock pinned;
      REQUIRE(cache.pin(key, &pinned) == Status::kOk);
      CHECK(reinterpret_cast<std::uintptr_t>(pinned.value) % (size >= 4096 ? 64 : 16) == 0);
      REQUIRE(cache.unpin(pinned) == Status::kOk);
    }
  }
}

TEST_CASE("a buffer that is too small is told the size that is needed and left alone") {
  TestShard cache;
  REQUIRE(cache.set("key", "value") == Status::kOk);
  std::string room = "....";
  const GetResult got = cache.shard.get(cache.key("key"), {reinterpret_cast<std::byte*>(room.data()), 4},
                                        {cache.deadline(), cache.now_ms});
  CHECK(got.status == Status::kTooSmall);
  CHECK(got.read.value_size == 5);
  CHECK(room == "....");
}

TEST_CASE("large values are left to be pinned when the caller asks for that") {
  TestShard cache;
  REQUIRE(cache.set("large", pattern(Shard::kPinnedCopySize, 1)) == Status::kOk);
  REQUIRE(cache.set("small", pattern(Shard::kPinnedCopySize - 1, 1)) == Status::kOk);
  std::string room(Shard::kPinnedCopySize, '.');
  for (const std::string key : {"large", "small"}) {
    const ReadBuffer read_room{reinterpret_cast<std::byte*>(room.data()), room.size(), Shard::kPinnedCopySize, true,
                               true};
    const GetResult got = cache.shard.get(cache.key(key), read_room, {cache.deadline(), cache.now_ms});
    CHECK(got.status == Status::kOk);
    CHECK((got.read.value_size >= Shard::kPinnedCopySize) == (key == "large"));
    CHECK((room[0] == '.') == (key == "large"));
  }
}

TEST_CASE("clear removes every entry and leaves the counters") {
  TestShard cache(4U << 20);
  for (int i = 0; i < 5000; ++i) REQUIRE(cache.set("k" + std::to_string(i), "v") == Status::kOk);
  REQUIRE(cache.remove("k1") == Status::kOk);
  REQUIRE(cache.shard.clear(cache.deadline()) == Status::kOk);
  const ShardStatistics after = cache.statistics();
  CHECK(after.entries == 0);
  CHECK(after.used_memory == 0);
  CHECK(after.counters.deletes == 1);
  CHECK(cache.get("k7") == std::nullopt);
  CHECK(cache.problems() == "");
  REQUIRE(cache.set("k7", "again") == Status::kOk);
  CHECK(cache.get("k7") == "again");
}

TEST_CASE("a scan that is stopped goes on with the entry it was stopped at") {
  TestShard cache;
  for (int i = 0; i < 500; ++i) REQUIRE(cache.set("k" + std::to_string(i), "v") == Status::kOk);
  std::map<std::string, int> seen;
  std::uint32_t next = 0;
  do {
    int room = 7;
    REQUIRE(cache.shard.scan(&next, {cache.deadline(), cache.now_ms}, [&](const ScannedEntry& entry) {
      if (room-- == 0) return false;
      ++seen[std::string(reinterpret_cast<const char*>(entry.block.key), entry.block.key_size)];
      return true;
    }) == Status::kOk);
  } while (next != 0);
  CHECK(seen.size() == 500);
  CHECK(std::all_of(seen.begin(), seen.end(), [](const auto& item) { return item.second == 1; }));
}

// A cache that never evicts must agree with a map, whatever is done to it.
TEST_CASE("random operations agree with a map, the statistics with a scan, and the checker finds nothing") {
  TestShard cache(8U << 20);
  std::map<std::string, std::string> model;
  std::mt19937 random(7);
  const int rounds = scaled(60'000);
  for (int round = 0; round < rounds; ++round) {
    const std::string key = "key-" + std::to_string(random() % 700);
    const std::string value = pattern(random() % (random() % 16 == 0 ? 9000 : 200), random());
    switch (random() % 6) {
      case 0:
      case 1:
        REQUIRE(cache.set(key, value) == Status::kOk);
        model[key] = value;
        break;
      case 2:
        REQUIRE(cache.remove(key) == (model.erase(key) == 1 ? Status::kOk : Status::kMiss));
        break;
      case 3:
        REQUIRE(cache.store(key, value, StoreMode::kAdd) ==
                (model.emplace(key, value).second ? Status::kOk : Status::kExists));
        break;
      default:
        REQUIRE(cache.get(key) == (model.contains(key) ? std::optional(model[key]) : std::nullopt));
    }
    if (round % 2000 == 0) REQUIRE(cache.problems() == "");
  }
  const auto scanned = cache.scan();
  CHECK(std::map(scanned.begin(), scanned.end()) == model);
  const ShardStatistics statistics = cache.statistics();
  std::uint64_t keys = 0;
  std::uint64_t values = 0;
  for (const auto& [key, value] : model) {
    keys += key.size();
    values += value.size();
  }
  CHECK(statistics.entries == model.size());
  CHECK(statistics.key_memory == keys);
  CHECK(statistics.value_memory == values);
  CHECK(statistics.counters.evictions == 0);
  CHECK(cache.problems() == "");
}

}  // namespace
}  // namespace memstream::test
