// Stamps of keys: what changes one, and what does not.
#include <doctest/doctest.h>

#include <string>

#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

std::uint64_t stamp(TestShard& test, std::string_view key) {
  std::uint64_t stamp = Shard::kUnsettledStamp;
  CHECK(test.shard.stamp(test.key(key), {test.deadline(), test.now_ms}, &stamp) == Status::kOk);
  CHECK(stamp != Shard::kUnsettledStamp);
  return stamp;
}

TEST_CASE("a stamp stays while a key is read, and while other buckets change") {
  TestShard test;
  REQUIRE(test.set("key", "value") == Status::kOk);
  const std::uint64_t there = stamp(test, "key");
  const std::uint64_t absent = stamp(test, "absent");
  CHECK(test.get("key") == "value");
  CHECK(test.get("absent") == std::nullopt);
  PinnedBlock pinned;
  REQUIRE(test.pin("key", &pinned) == Status::kOk);
  REQUIRE(test.unpin(pinned) == Status::kOk);
  CHECK(stamp(test, "key") == there);
  CHECK(stamp(test, "absent") == absent);
  CHECK(there != absent);
  int same = 0;  // Of two keys some may share a bucket with the other.
  for (int i = 0; i < 20; ++i) {
    const std::uint64_t before = stamp(test, "key");
    const std::string other = "other" + std::to_string(i);
    REQUIRE(test.set(other, "value") == Status::kOk);
    REQUIRE(test.remove(other) == Status::kOk);
    if (stamp(test, "key") == before) ++same;
  }
  CHECK(same > 10);
}

TEST_CASE("each change of a key changes its stamp, also one back to what was there") {
  TestShard test;
  std::uint64_t last = stamp(test, "key");
  const auto has_changed = [&] {
    const std::uint64_t now = stamp(test, "key");
    const bool differs = now != last;
    last = now;
    return differs;
  };
  CHECK_FALSE(has_changed());
  // Absent before and after.
  REQUIRE(test.set("key", "value") == Status::kOk);
  REQUIRE(test.remove("key") == Status::kOk);
  CHECK(has_changed());
  REQUIRE(test.set("key", "value") == Status::kOk);
  CHECK(has_changed());
  // The same bytes in the same place.
  REQUIRE(test.set("key", "value") == Status::kOk);
  CHECK(has_changed());
  REQUIRE(test.set("key", std::string(3000, 'v')) == Status::kOk);
  CHECK(has_changed());
  REQUIRE(test.remove("key") == Status::kOk);
  REQUIRE(test.set("key", std::string(3000, 'v')) == Status::kOk);
  CHECK(has_changed());
  REQUIRE(test.shard.clear(test.deadline()) == Status::kOk);
  CHECK(has_changed());
}

TEST_CASE("the end of an entry's time changes the stamp, and nothing in the index") {
  TestShard test;
  REQUIRE(test.set("key", "value", 2000) == Status::kOk);
  const std::uint64_t alive = stamp(test, "key");
  test.now_ms = 1999;
  CHECK(stamp(test, "key") == alive);
  test.now_ms = 2000;
  const std::uint64_t over = stamp(test, "key");
  CHECK(over != alive);
  test.now_ms = 3000;
  CHECK(stamp(test, "key") == over);
}

TEST_CASE("a shard whose writer died has a stamp once it is put right") {
  TestShard test;
  REQUIRE(test.set("key", "value") == Status::kOk);
  const std::uint64_t before = stamp(test, "key");
  test.die_with_lock();
  test.header().seq.fetch_or(1);  // In the middle of a rebuild.
  std::uint64_t stamp_of_key = 1;
  REQUIRE(test.shard.stamp(test.key("key"), {test.deadline(), test.now_ms}, &stamp_of_key) == Status::kOk);
  CHECK(stamp_of_key == Shard::kUnsettledStamp);
  CHECK(stamp(test, "key") != before);
  CHECK(test.get("key") == "value");
}

}  // namespace
}  // namespace memstream::test
