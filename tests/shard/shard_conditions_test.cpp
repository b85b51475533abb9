// Stores that depend on what is there: add, replace, compare-and-set, and arithmetic on numbers in text.
#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <set>
#include <string>

#include "core/shard/shard.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

TEST_CASE("add stores only what is absent, replace only what is present") {
  TestShard cache;
  CHECK(cache.store("key", "1", StoreMode::kReplace) == Status::kMiss);
  CHECK(cache.get("key") == std::nullopt);
  CHECK(cache.store("key", "2", StoreMode::kAdd) == Status::kOk);
  CHECK(cache.store("key", "3", StoreMode::kAdd) == Status::kExists);
  CHECK(cache.get("key") == "2");
  CHECK(cache.store("key", "4", StoreMode::kReplace) == Status::kOk);
  CHECK(cache.get("key") == "4");
}

TEST_CASE("compare-and-set stores only while nobody else has") {
  TestShard cache;
  CHECK(cache.store("key", "1", StoreMode::kCas, 0) == Status::kMiss);
  REQUIRE(cache.set("key", "1") == Status::kOk);
  const std::uint64_t first = cache.read("key").cas;
  CHECK(cache.store("key", "2", StoreMode::kCas, first) == Status::kOk);
  CHECK(cache.store("key", "3", StoreMode::kCas, first) == Status::kConflict);
  CHECK(cache.get("key") == "2");
  const std::uint64_t second = cache.read("key").cas;
  REQUIRE(cache.set("key", "2") == Status::kOk);  // The same bytes are another write.
  CHECK(cache.store("key", "3", StoreMode::kCas, second) == Status::kConflict);
  REQUIRE(cache.remove("key") == Status::kOk);
  REQUIRE(cache.set("key", "2") == Status::kOk);
  CHECK(cache.store("key", "3", StoreMode::kCas, second) == Status::kConflict);
}

TEST_CASE("no write brings an old token back, though blocks and entries come back") {
  TestShard cache;
  std::set<std::uint64_t> tokens;
  for (int i = 0; i < 100; ++i) {
    if (i % 10 == 9) REQUIRE(cache.remove("key") == Status::kOk);
    REQUIRE(cache.set("key", "same") == Status::kOk);
    tokens.insert(cache.read("key").cas);
  }
  CHECK(tokens.size() == 100);
}

TEST_CASE("a token of one key fits no other") {
  TestShard cache;
  REQUIRE(cache.set("a", "1") == Status::kOk);
  REQUIRE(cache.set("b", "1") == Status::kOk);
  CHECK(cache.store("b", "2", StoreMode::kCas, cache.read("a").cas) == Status::kConflict);
}

TEST_CASE("may_store says what store would and changes nothing") {
  TestShard cache;
  REQUIRE(cache.set("there", "1") == Status::kOk);
  const auto may = [&](std::string_view key, StoreMode mode, std::uint64_t size = 1) {
    const StoreRequest request{.key = cache.key(key), .value_size = size, .mode = mode};
    return cache.shard.may_store(request, {cache.deadline(), cache.now_ms});
  };
  CHECK(may("there", StoreMode::kSet) == Status::kOk);
  CHECK(may("there", StoreMode::kAdd) == Status::kExists);
  CHECK(may("absent", StoreMode::kAdd) == Status::kOk);
  CHECK(may("absent", StoreMode::kReplace) == Status::kMiss);
  CHECK(may("there", StoreMode::kCas) == Status::kConflict);
  CHECK(may("there", StoreMode::kSet, cache.max_value("there") + 1) == Status::kTooLarge);
  CHECK(cache.get("there") == "1");
  CHECK(cache.get("absent") == std::nullopt);
}

TEST_CASE("a number in text is incremented and keeps its flags and expiry") {
  TestShard cache;
  REQUIRE(cache.set("n", "41", cache.now_ms + 1000, 5) == Status::kOk);
  const auto add = [&](std::string_view key, std::int64_t delta, std::int64_t* result = nullptr) {
    return cache.shard.increment({.key = cache.key(key), .delta = delta}, {cache.deadline(), cache.now_ms}, result);
  };
  std::int64_t result = 0;
  CHECK(add("n", 1, &result) == Status::kOk);
  CHECK(result == 42);
  CHECK(cache.get("n") == "42");
  CHECK(cache.read("n").caller_flags == 5);
  CHECK(cache.read("n").expires_ms == 2000);
  CHECK(add("n", -50, &result) == Status::kOk);
  CHECK(cache.get("n") == "-8");
  CHECK(add("absent", 1) == Status::kMiss);

  const std::int64_t initial = 10;
  CHECK(cache.shard.increment({cache.key("new"), 5, &initial, 1500}, {cache.deadline(), cache.now_ms}, &result) ==
        Status::kOk);
  CHECK(result == 15);
  CHECK(cache.read("new").expires_ms == 1500);
}

TEST_CASE("what is no 64-bit integer, or would leave the range, is not incremented") {
  TestShard cache;
  const auto add = [&](std::int64_t delta) {
    std::int64_t result = 7;
    const Status status =
        cache.shard.increment({.key = cache.key("n"), .delta = delta}, {cache.deadline(), cache.now_ms}, &result);
    if (status != Status::kOk) CHECK(result == 7);
    return status;
  };
  for (const std::string text : {"", "x", "1x", " 1", "+1", "0x10", "1.5", "9223372036854775808", "-"}) {
    CAPTURE(text);
    REQUIRE(cache.set("n", text) == Status::kOk);
    CHECK(add(1) == Status::kNotNumeric);
    CHECK(cache.get("n") == text);
  }
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  REQUIRE(cache.set("n", std::to_string(kMax)) == Status::kOk);
  CHECK(add(1) == Status::kNotNumeric);
  CHECK(add(0) == Status::kOk);
  CHECK(cache.get("n") == std::to_string(kMax));
  REQUIRE(cache.set("n", std::to_string(-kMax - 1)) == Status::kOk);
  CHECK(add(-1) == Status::kNotNumeric);
  CHECK(add(kMax) == Status::kOk);
  CHECK(cache.get("n") == "-1");
}

}  // namespace
}  // namespace memstream::test
