// A new expiry for a value: in its block where that has room for one, in another block where it has not.
#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "core/shard/shard.h"
#include "tests/support/expectations.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

TEST_CASE("touch gives a new time to live, longer, shorter or none, and keeps value and token") {
  TestShard cache;
  REQUIRE(cache.set("key", "value", cache.now_ms + 10, 77) == Status::kOk);
  const ReadResult before = cache.read("key");
  const auto touch = [&](std::uint64_t expires_ms) {
    return cache.shard.touch(cache.key("key"), expires_ms, {cache.deadline(), cache.now_ms});
  };
  CHECK(touch(cache.now_ms + 1000) == Status::kOk);
  cache.now_ms += 500;
  const ReadResult after = cache.read("key");
  CHECK(after.expires_ms == 2000);
  CHECK(after.cas == before.cas);
  CHECK(after.caller_flags == 77);
  CHECK(touch(0) == Status::kOk);
  cache.now_ms += 1'000'000;
  CHECK(cache.get("key") == "value");
  CHECK(touch(cache.now_ms + 1) == Status::kOk);
  cache.now_ms += 1;
  CHECK(touch(0) == Status::kMiss);
  CHECK(cache.get("key") == std::nullopt);
}

// A value that was stored without expiry and flags has no room for them in its block.
TEST_CASE("touch moves a value that has no expiry yet, and nothing else of it changes") {
  TestShard cache;
  REQUIRE(cache.set("key", "value") == Status::kOk);
  REQUIRE(cache.set("other", "another") == Status::kOk);
  CHECK(cache.get("key") == "value");
  const ReadResult before = cache.read("key");
  const std::uint32_t position = ref_block(cache.entry("key").ref);
  const std::uint32_t accesses = cache.entry("key").access_count;
  cache.now_ms += 500;
  const auto touch = [&](std::uint64_t expires_ms) {
    return cache.shard.touch(cache.key("key"), expires_ms, {cache.deadline(), cache.now_ms});
  };
  CHECK(touch(0) == Status::kOk);
  CHECK(ref_block(cache.entry("key").ref) == position);
  PinnedBlock viewed;
  SUBCASE("while nobody looks") {}
  SUBCASE("while it is viewed") { REQUIRE(cache.pin("key", &viewed) == Status::kOk); }
  CHECK(touch(2000) == Status::kOk);
  CHECK(ref_block(cache.entry("key").ref) != position);
  CHECK(cache.entry("key").access_count == accesses + (viewed.value != nullptr ? 1 : 0));
  const ReadResult after = cache.read("key");
  CHECK(after.expires_ms == 2000);
  CHECK(after.created_ms == before.created_ms);
  CHECK(after.cas == before.cas);
  CHECK(cache.get("key") == "value");
  CHECK(cache.problems() == "");
  if (viewed.value != nullptr) {
    CHECK(std::memcmp(viewed.value, "value", 5) == 0);
    CHECK(cache.statistics().pinned_memory == 48);  // Header, key, value: 16 bytes each.
    CHECK(cache.unpin(viewed) == Status::kOk);
  }
  CHECK(cache.statistics().pinned_memory == 0);
  const std::uint32_t moved = ref_block(cache.entry("key").ref);
  CHECK(touch(3000) == Status::kOk);
  CHECK(ref_block(cache.entry("key").ref) == moved);
  CHECK(touch(0) == Status::kOk);
  CHECK(cache.read("key").expires_ms == 0);
  CHECK(ref_block(cache.entry("key").ref) == moved);
  cache.recover();
  CHECK(cache.get("key") == "value");
  CHECK(cache.problems() == "");
}

TEST_CASE("a renewal is for the value of its token, and leaves another's expiry alone") {
  TestShard cache;
  const auto renew = [&](std::uint64_t cas, std::uint64_t expires_ms) {
    return cache.shard.renew(cache.key("key"), cas, expires_ms, {cache.deadline(), cache.now_ms});
  };
  std::uint64_t first_expiry = 0;
  SUBCASE("that has no expiry") {}
  SUBCASE("that has one") { first_expiry = cache.now_ms + 100; }
  REQUIRE(cache.set("key", "value", first_expiry) == Status::kOk);
  const std::uint64_t token = cache.read("key").cas;
  CHECK(renew(token, 2000) == Status::kOk);
  CHECK(cache.read("key").expires_ms == 2000);
  CHECK(renew(token, 3000) == Status::kOk);  // A renewal keeps the token.
  CHECK(cache.read("key").expires_ms == 3000);
  REQUIRE(cache.set("key", "other", first_expiry) == Status::kOk);
  CHECK(renew(token, 4000) == Status::kConflict);
  CHECK(cache.read("key").expires_ms == first_expiry);
  CHECK(cache.get("key") == "other");
  REQUIRE(cache.remove("key") == Status::kOk);
  CHECK(renew(token, 4000) == Status::kMiss);
  CHECK(cache.problems() == "");
}

TEST_CASE("touch of a large value leaves it where it is") {
  TestShard cache;
  REQUIRE(cache.set("key", pattern(kAlignedValueSize, 1)) == Status::kOk);
  const std::uint64_t ref = cache.entry("key").ref;
  REQUIRE(cache.shard.touch(cache.key("key"), 2000, {cache.deadline(), cache.now_ms}) == Status::kOk);
  CHECK(cache.entry("key").ref == ref);
  CHECK(cache.read("key").expires_ms == 2000);
}

TEST_CASE("touch in a full shard evicts others") {
  TestShard cache;
  int count = 0;
  for (; cache.counters().evictions == 0; ++count) {
    REQUIRE(cache.set("key-" + std::to_string(count), pattern(1000, count)) == Status::kOk);
  }
  const auto touch = [&](const std::string& text) {
    return cache.shard.touch(cache.key(text), cache.now_ms + 1000, {cache.deadline(), cache.now_ms});
  };
  int touched = 0;
  for (int i = 0; i < count; ++i) {
    const std::string text = "key-" + std::to_string(i);
    if (!cache.get(text).has_value()) continue;
    REQUIRE(touch(text) == Status::kOk);
    CHECK(cache.get(text) == pattern(1000, i));
    ++touched;
  }
  CHECK(touched > count / 2);
  CHECK(cache.problems() == "");
}

TEST_CASE("touch that finds no room is refused, and its own value is not what goes") {
  TestShard cache;
  std::vector<PinnedBlock> held;
  const auto reserve_all = [&](std::uint64_t value_size) {
    PinnedBlock reserved;
    while (cache.reserve("held", value_size, &reserved) == Status::kOk) held.push_back(reserved);
  };
  reserve_all(cache.max_value("held"));
  reserve_all(1000);
  const PinnedBlock last_of_1000 = held.back();
  const PinnedBlock one_more = held[held.size() - 2];
  reserve_all(16);
  REQUIRE(held.size() < kPinsPerProcess);
  REQUIRE(cache.unpin(last_of_1000) == Status::kOk);
  REQUIRE(cache.set("last", pattern(1000, 1)) == Status::kOk);
  const ReadResult before = cache.read("last");
  const auto touch = [&] { return cache.shard.touch(cache.key("last"), 2000, {cache.deadline(), cache.now_ms}); };
  CHECK(touch() == Status::kFull);
  CHECK(message_has("views and reservations"));
  CHECK(cache.get("last") == pattern(1000, 1));
  CHECK(cache.read("last").expires_ms == 0);
  CHECK(cache.problems() == "");
  REQUIRE(cache.unpin(one_more) == Status::kOk);
  CHECK(touch() == Status::kOk);
  CHECK(cache.get("last") == pattern(1000, 1));
  CHECK(cache.read("last").expires_ms == 2000);
  CHECK(cache.read("last").cas == before.cas);
  CHECK(cache.problems() == "");
}

}  // namespace
}  // namespace memstream::test
