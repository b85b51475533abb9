// Entries with tags in a shard: what keeps the tags where a value moves or is written again, and what damage leads to.
#include <doctest/doctest.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "core/shard/shard.h"
#include "tests/support/expectations.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kFirst = 3;  // Numbers of words of the table, as tags would lead to them.
constexpr std::uint64_t kSecond = 5;

class TaggedShard : public TestShard {
 public:
  explicit TaggedShard(std::uint64_t size_bytes = kMinSegmentSize) : TestShard(size_bytes) {
    const Area& area = geometry().areas[kTagArea];
    REQUIRE(segment().commit(area.offset, area.size_bytes) == Status::kOk);
  }

  std::atomic<std::uint64_t>& word(std::uint64_t number) const {
    return reinterpret_cast<std::atomic<std::uint64_t>*>(data() + geometry().areas[kTagArea].offset)[number];
  }
  std::uint64_t pair(std::uint64_t number) const { return tag_pair(number, word(number)); }
  Status set_tagged(std::string_view key_bytes, std::string_view value, const TagPairs& tags,
                    std::uint64_t expires_ms = 0) {
    const StoreRequest request{.key = key(key_bytes),
                               .value = reinterpret_cast<const std::byte*>(value.data()),
                               .value_size = value.size(),
                               .expires_ms = expires_ms | kHasTags,
                               .tags = &tags};
    return shard.store(request, {deadline(), now_ms});
  }
  BlockTags& tags_of(std::string_view key_bytes) {
    BlockHeader& header = block(key_bytes);
    const std::uint64_t size = BlockShape::unpack(header.shape).size_bytes();
    return *reinterpret_cast<BlockTags*>(reinterpret_cast<std::byte*>(&header) + size - sizeof(BlockTags));
  }
};

TEST_CASE("an entry is over by its expiry or by any of its tags, and only a word that changed ends it") {
  TaggedShard cache;
  REQUIRE(cache.set_tagged("key", "value", {cache.pair(kFirst), cache.pair(kSecond)}, cache.now_ms + 100) ==
          Status::kOk);
  CHECK(cache.get("key") == "value");
  CHECK(cache.read("key").expires_ms == cache.now_ms + 100);
  ++cache.word(kFirst + 1);
  CHECK(cache.get("key") == "value");
  ++cache.word(kSecond);
  CHECK(cache.get("key") == std::nullopt);
  CHECK(cache.scan().empty());
  CHECK(cache.set("key", "again") == Status::kOk);
  CHECK(cache.counters().expirations == 1);
  CHECK(cache.get("key") == "again");

  REQUIRE(cache.set_tagged("key", "value", {cache.pair(kFirst)}, cache.now_ms + 100) == Status::kOk);
  cache.now_ms += 99;
  CHECK(cache.get("key") == "value");
  cache.now_ms += 1;
  CHECK(cache.get("key") == std::nullopt);
  CHECK(cache.problems() == "");
}

TEST_CASE("the count of a tag has 48 bits, and a count that went round is another one") {
  TaggedShard cache;
  cache.word(kFirst) = kTagCountMask - 1;
  REQUIRE(cache.set_tagged("key", "value", {cache.pair(kFirst)}) == Status::kOk);
  CHECK(cache.get("key") == "value");
  cache.word(kFirst) = kTagCountMask + 1;
  CHECK(cache.get("key") == std::nullopt);
}

TEST_CASE("a value of any size and alignment has its tags behind it, and none of its bytes") {
  TaggedShard cache(4 << 20);
  const TagPairs tags{cache.pair(kFirst), 0, 0, cache.pair(kSecond)};
  for (std::uint64_t size :
       {0U, 1U, 15U, 16U, 17U, 47U, 48U, 100U, 1087U, 1088U, 1089U, 4063U, 4064U, 4095U, 4096U, 4097U, 20'000U}) {
    for (std::size_t key_size : {1U, 13U, 16U, 1024U}) {
      CAPTURE(size);
      CAPTURE(key_size);
      const std::string key(key_size, 'k');
      const std::string value = pattern(size, key_size);
      REQUIRE(cache.set_tagged(key, value, tags) == Status::kOk);
      CHECK(cache.get(key) == value);
      const BlockTags& kept = cache.tags_of(key);
      for (std::uint32_t i = 0; i < kTagsPerEntry; ++i) CHECK(kept.pairs[i] == tags[i]);
      CHECK(cache.remove(key) == Status::kOk);
    }
  }
  CHECK(cache.problems() == "");
}

TEST_CASE("a recovery keeps tags, and eviction still looks at entries that have them") {
  TaggedShard cache;
  REQUIRE(cache.set_tagged("key", "value", {cache.pair(kFirst)}) == Status::kOk);
  CHECK((cache.entry("key").policy & kExpires) != 0);
  cache.die_with_lock();
  cache.recover();
  CHECK(cache.get("key") == "value");
  CHECK((cache.entry("key").policy & kExpires) != 0);
  ++cache.word(kFirst);
  CHECK(cache.get("key") == std::nullopt);
  CHECK(cache.problems() == "");
}

TEST_CASE("values that move for a large one keep their tags") {
  TaggedShard cache(2 << 20);
  const TagPairs tags{cache.pair(kFirst)};
  const std::string value = pattern(700, 1);
  int stored = 0;
  for (; cache.counters().evictions == 0; ++stored)
    REQUIRE(cache.set_tagged("key " + std::to_string(stored), value, tags) == Status::kOk);
  for (int i = 0; i < stored; i += 2) static_cast<void>(cache.remove("key " + std::to_string(i)));
  REQUIRE(cache.set("large", pattern(cache.max_value("large") / 2, 2)) == Status::kOk);
  std::uint32_t moved = 0;
  std::uint32_t left = 0;
  for (int i = 1; i < stored; i += 2) {
    const std::string key = "key " + std::to_string(i);
    if (const auto found = cache.get(key); found) {
      CHECK(*found == value);
      CHECK(cache.tags_of(key).pairs[0] == tags[0]);
      moved += BlockShape::unpack(cache.block(key).shape).moves() != 0 ? 1 : 0;
      ++left;
    }
  }
  CHECK(moved > 10);
  ++cache.word(kFirst);
  for (int i = 1; i < stored; i += 2) CHECK(cache.get("key " + std::to_string(i)) == std::nullopt);
  CHECK(left >= moved);
  CHECK(cache.problems() == "");
}

TEST_CASE("tags without a table that has memory, or of a word that is nowhere, are never read") {
  TestShard cache;  // Nobody has asked for memory for the table.
  const std::string value = "value";
  REQUIRE(cache.set("key", value, cache.now_ms + 1000) == Status::kOk);
  extras_of(cache.block("key")).expires_ms.fetch_or(kHasTags);  // Damage.
  static_cast<void>(cache.get("key"));                          // A miss or the value: it returns.
  TaggedShard other;
  REQUIRE(other.set_tagged("key", value, {other.pair(kFirst)}) == Status::kOk);
  other.tags_of("key").pairs[1] = ~std::uint64_t{0};
  CHECK(other.get("key") == std::nullopt);
  CHECK(other.problems() == "");
}

TEST_CASE("a reservation has room for tags if it was made for them, and else takes none") {
  TaggedShard cache;
  const TagPairs tags{cache.pair(kFirst)};
  for (const bool has_room : {false, true}) {
    CAPTURE(has_room);
    PinnedBlock reserved;
    const OpContext context{cache.deadline(), cache.now_ms};
    REQUIRE(cache.shard.reserve(cache.key("key"), 5, cache.pins, context, &reserved, has_room) == Status::kOk);
    std::memcpy(reserved.value, "value", 5);
    const StoreRequest request{.key = cache.key("key"), .value_size = 5, .expires_ms = kHasTags, .tags = &tags};
    const Status status = cache.shard.commit_reservation(request, reserved, cache.pins, context);
    CHECK(status == (has_room ? Status::kOk : Status::kCorrupt));
    CHECK(cache.get("key") == (has_room ? std::optional<std::string>("value") : std::nullopt));
  }
  ++cache.word(kFirst);
  CHECK(cache.get("key") == std::nullopt);
  CHECK(cache.problems() == "");
}

TEST_CASE("an overwriting of a value with tags by one without ends the tags") {
  TaggedShard cache;
  REQUIRE(cache.set_tagged("key", "value", {cache.pair(kFirst)}) == Status::kOk);
  // As large as the value and its tags were, so that the block could serve again.
  const std::string value = pattern(32, 3);
  StoreRequest request{.key = cache.key("key"),
                       .value = reinterpret_cast<const std::byte*>(value.data()),
                       .value_size = value.size(),
                       .caller_flags = 7,
                       .redo = 1};
  REQUIRE(cache.shard.store(request, {cache.deadline(), cache.now_ms}) == Status::kOk);
  ++cache.word(kFirst);
  CHECK(cache.get("key") == value);
  CHECK(cache.problems() == "");
}

}  // namespace
}  // namespace memstream::test
