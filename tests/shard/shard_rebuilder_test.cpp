// The rebuild by itself: what it makes again, what readers see of it, and what it does where nothing can be rebuilt.
#include "core/shard/shard_rebuilder.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>

#include "tests/support/expectations.h"
#include "tests/support/shard_pieces.h"

namespace memstream::test {
namespace {

class Filled : public ShardPieces {
 public:
  Filled() {
    for (int i = 0; i < 100; ++i) REQUIRE(set("key-" + std::to_string(i), pattern(100, 7)) == Status::kOk);
    for (int i = 0; i < 100; i += 3) REQUIRE(remove("key-" + std::to_string(i)) == Status::kOk);
  }
  int left() {
    int found = 0;
    for (int i = 0; i < 100; ++i) found += get("key-" + std::to_string(i)) == pattern(100, 7) ? 1 : 0;
    return found;
  }
};

}  // namespace

TEST_CASE("readers see an odd number from the first step to the last, and another even one behind it") {
  Filled shard;
  const std::uint64_t before = shard.header().seq;
  const WriteLockScope held(shard.header());
  shard.rebuilder.begin();
  CHECK(shard.header().seq == (before | 1));
  shard.rebuilder.begin();  // As after a second death.
  CHECK(shard.header().seq == (before | 1));
  shard.rebuilder.rebuild();
  CHECK(shard.header().seq == (before | 1));
  shard.rebuilder.end();
  CHECK(shard.header().seq == before + 2);
}

TEST_CASE("all that is derived is made again, whatever it was") {
  Filled shard;
  ShardSpace& s = shard.space();
  std::uint64_t used = 0, keys = 0, values = 0, free = 0;
  {
    const WriteLockScope held(shard.header());
    shard.rebuilder.repair();
    used = s.used_memory;
    keys = s.key_memory;
    values = s.value_memory;
    free = s.free_memory;
    s.used_memory = s.key_memory = s.value_memory = s.pinned_memory = s.free_memory = 1;
    s.entries = s.free_entry = s.retired = s.retired_hand = s.small_hand = s.main_hand = 12345;
    for (std::uint32_t cell = 0; cell < shard.index.cells(); ++cell) {
      Bucket& bucket = Index::bucket(&shard.header(), cell);
      for (auto& slot : bucket.slots) slot = 7;
      for (auto& tags : bucket.tags) tags = ~std::uint64_t{0};
      bucket.overflow = 5;
    }
    shard.rebuilder.repair();
    CHECK(s.used_memory == used);
    CHECK(s.key_memory == keys);
    CHECK(s.value_memory == values);
    CHECK(s.free_memory == free);
    CHECK(s.pinned_memory == 0);
    CHECK(s.entries == 66);
    CHECK(s.retired == 0);
  }
  CHECK(shard.left() == 66);
  CHECK(shard.problems() == "");
  CHECK(shard.header().counters.damaged == 0);
  CHECK(shard.header().counters.recoveries == 0);
}

TEST_CASE("a repair after a death is counted") {
  Filled shard;
  {
    const WriteLockScope held(shard.header());
    shard.rebuilder.repair_after_death();
  }
  CHECK(shard.header().counters.recoveries == 1);
  CHECK(shard.left() == 66);
}

TEST_CASE("a block that is held and that no entry names is kept, as a retired one") {
  Filled shard;
  const BlockPosition position = shard.position_of("key-1");
  const PinNumber pin = shard.hold(position);
  Entry& entry = shard.entry("key-1");
  const WriteLockScope held(shard.header());
  entry.ref = ref_empty(entry.ref);
  shard.rebuilder.repair();
  CHECK(shard.retired.has(position));
  CHECK(shard.space().entries == 65);
  CHECK(shard.pins.holds(pin, shard.shard.offset_of(position)));
}

TEST_CASE("a shard whose borders cannot be is emptied, and its pins end") {
  Filled shard;
  const PinNumber pin = shard.hold(shard.position_of("key-1"));
  {
    const WriteLockScope held(shard.header());
    shard.space().heap_begin = 1;
    shard.rebuilder.begin();
    CHECK_THROWS_AS(shard.rebuilder.rebuild(), CorruptionDetected);
    shard.rebuilder.repair();
  }
  CHECK(shard.header().counters.damaged == 1);
  CHECK(shard.left() == 0);
  CHECK(shard.pins.holds(pin, 0));
  CHECK(shard.problems() == "");
  CHECK(shard.set("key", "value") == Status::kOk);
}

TEST_CASE("a reset names the shard and the damage, and leaves a shard that works") {
  Filled shard;
  {
    const WriteLockScope held(shard.header());
    CHECK(shard.rebuilder.reset_after_corruption(CorruptionDetected{"a planted fault"}) == Status::kCorrupt);
    CHECK(message_has("Shard 0 was damaged beyond repair (a planted fault)"));
  }
  CHECK(shard.header().counters.damaged == 1);
  CHECK(shard.left() == 0);
  CHECK(shard.set("key", "value") == Status::kOk);
  CHECK(shard.problems() == "");
}

}  // namespace memstream::test
