// Making room in a shard: what goes, what moves, and what is told where nothing can.
#include "core/shard/reclaimer.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "tests/support/expectations.h"
#include "tests/support/shard_pieces.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kValueSize = 1000;

std::string key_of(int number) { return "key-" + std::to_string(number); }

// Values of one size, until the shard has evicted.
class Full : public ShardPieces {
 public:
  Full() {
    for (; statistics().counters.evictions == 0; ++stored) {
      REQUIRE(set(key_of(stored), pattern(kValueSize, static_cast<std::uint64_t>(stored))) == Status::kOk);
    }
    evictions = header().counters.evictions;
  }
  std::uint64_t evicted_since() { return header().counters.evictions - evictions; }

  int stored = 0;
  std::uint64_t evictions = 0;
};

}  // namespace

TEST_CASE("room that is free costs nobody anything") {
  ShardPieces shard;
  REQUIRE(shard.set("key", "value") == Status::kOk);
  {
    const WriteLockScope held(shard.header());
    CHECK(shard.reclaimer.make_room(Units{8}, shard.now_ms) != 0);
    CHECK(shard.reclaimer.take_entry(100, shard.now_ms, nullptr) != 0);
  }
  CHECK(shard.header().counters.evictions == 0);
  CHECK(shard.get("key") == "value");
}

TEST_CASE("a full shard evicts for a block, a large one as well as a small one") {
  Full shard;
  const WriteLockScope held(shard.header());
  const BlockPosition small = shard.reclaimer.make_room(block_units_for(5, kValueSize, false), shard.now_ms);
  REQUIRE(small != 0);
  CHECK(shard.arena.shape(small).used());
  CHECK(shard.evicted_since() <= 2);
  const Units units{100'000 / kUnitSize};
  const BlockPosition large = shard.reclaimer.make_room(units, shard.now_ms);
  REQUIRE(large != 0);
  CHECK(shard.arena.shape(large).used());
  CHECK(shard.arena.shape(large).size_units >= units);
  CHECK(shard.evicted_since() >= 90);
  CHECK(shard.evicted_since() < 300);
}

TEST_CASE("an eviction hands over a block of just the wanted size") {
  Full shard;
  const WriteLockScope held(shard.header());
  // Free entries would come first.
  while (shard.index.take_free_entry() != 0) continue;
  while (shard.index.add_cell()) {
    while (shard.index.take_free_entry() != 0) continue;
  }
  Reclaimer::BlockWanted wanted{.units = block_units_for(5, kValueSize, false)};
  REQUIRE(shard.reclaimer.take_entry(wanted.units * kUnitSize, shard.now_ms, &wanted) != 0);
  REQUIRE(wanted.position != 0);
  CHECK(shard.arena.shape(wanted.position).size_units == wanted.units);
  CHECK(shard.contents.owning_ref(wanted.position) == 0);
  CHECK(shard.evicted_since() >= 1);
}

TEST_CASE("a removed entry is gone from its bucket and from the sums, and is the next to be taken") {
  ShardPieces shard;
  REQUIRE(shard.set("key", "value") == Status::kOk);
  const WriteLockScope held(shard.header());
  const FoundEntry found = shard.contents.find(shard.key("key"));
  shard.reclaimer.remove_entry(found);
  CHECK(shard.contents.find(shard.key("key")).id == 0);
  CHECK_FALSE(ref_is_live(found.entry->ref));
  CHECK(shard.space().entries == 0);
  CHECK(shard.space().used_memory == 0);
  CHECK(shard.space().key_memory == 0);
  CHECK(shard.space().value_memory == 0);
  CHECK(shard.index.take_free_entry() == found.id);
  CHECK(shard.header().counters.evictions == 0);
}

TEST_CASE("the block of a removed entry stays while it is held") {
  ShardPieces shard;
  REQUIRE(shard.set("key", "value") == Status::kOk);
  const WriteLockScope held(shard.header());
  const BlockPosition position = shard.position_of("key");
  const PinNumber pin = shard.hold(position);
  CHECK(shard.reclaimer.remove_entry(shard.contents.find(shard.key("key"))) == 0);
  CHECK(shard.arena.shape(position).used());
  CHECK(shard.retired.has(position));
  shard.pins.drop(pin);
  shard.retired.free_all();
  CHECK(shard.space().retired == 0);
}

TEST_CASE("an expired entry that makes room counts as expired, another one as evicted") {
  ShardPieces shard;
  REQUIRE(shard.set("old", "value", shard.now_ms + 10) == Status::kOk);
  REQUIRE(shard.set("new", "value", shard.now_ms + 1000) == Status::kOk);
  const WriteLockScope held(shard.header());
  for (const char* key : {"old", "new"}) {
    shard.reclaimer.evict(shard.contents.find(shard.key(key)), Removal::kRoom, shard.now_ms + 100);
  }
  CHECK(shard.header().counters.expirations == 1);
  CHECK(shard.header().counters.evictions == 1);
}

TEST_CASE("a block that is emptied gives its value to a free block, and one that is held stays") {
  ShardPieces shard;
  const std::string value = pattern(kValueSize, 1);
  REQUIRE(shard.set("gap", pattern(kValueSize, 2)) == Status::kOk);
  REQUIRE(shard.set("key", value) == Status::kOk);
  REQUIRE(shard.set("last", value) == Status::kOk);  // Keeps the gap from becoming wilderness.
  REQUIRE(shard.remove("gap") == Status::kOk);
  const BlockPosition before = shard.position_of("key");
  {
    const WriteLockScope held(shard.header());
    const PinNumber pin = shard.hold(before);
    CHECK_FALSE(shard.reclaimer.empty_block(before, shard.now_ms));
    CHECK(shard.position_of("key") == before);
    shard.pins.drop(pin);
    CHECK(shard.reclaimer.empty_block(before, shard.now_ms));
    CHECK(shard.position_of("key") != before);
    CHECK(shard.contents.owning_ref(before) == 0);
    CHECK(shard.arena.shape(before).used());  // The caller's.
    shard.arena.free(before);
  }
  CHECK(shard.get("key") == value);
  CHECK(shard.problems() == "");
}

TEST_CASE("a value without an expiry gets one in a block that has room for it") {
  ShardPieces shard;
  REQUIRE(shard.set("key", "value") == Status::kOk);
  {
    const WriteLockScope held(shard.header());
    const FoundEntry found = shard.contents.find(shard.key("key"));
    REQUIRE_FALSE(found.block.has_extras());
    CHECK(shard.reclaimer.give_expiry(found, shard.now_ms + 500, shard.now_ms) == Status::kOk);
  }
  CHECK(shard.get("key") == "value");
  CHECK(shard.read("key").expires_ms == shard.now_ms + 500);
  CHECK(shard.problems() == "");
}

TEST_CASE("where all is held there is no room, and the message names who holds it") {
  Full shard;
  const WriteLockScope held(shard.header());
  std::uint32_t pinned = 0;
  for (BlockPosition position = shard.arena.heap_begin(); position < shard.arena.heap_end();
       position += shard.arena.shape(position).size_units) {
    if (shard.contents.owning_ref(position) == 0) continue;
    REQUIRE(shard.hold(position) != PinSet::kNone);
    ++pinned;
  }
  REQUIRE(pinned > 100);
  const Units units{100'000 / kUnitSize};
  CHECK(shard.reclaimer.make_room(units, shard.now_ms) == 0);
  CHECK(shard.evicted_since() == 0);
  CHECK(shard.reclaimer.no_room(units * kUnitSize) == Status::kFull);
  CHECK(message_has("this process ("));
  CHECK(message_has("in " + std::to_string(pinned) + " blocks"));
}

}  // namespace memstream::test
