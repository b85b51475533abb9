// One look at all pins of a shard: what it says of blocks, and which pins it ends.
#include "core/shard/pin_snapshot.h"

#include <doctest/doctest.h>

#include <cstdint>

#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

constexpr BlockPosition kNoPosition{~std::uint32_t{0}};

class Pinned : public TestShard {
 public:
  PinSnapshot snapshot() { return {places, geometry().process_slots, geometry().shards_offset, shard_size()}; }
  PinNumber hold(BlockPosition position, std::uint64_t more = 0) {
    return pins.claim(shard.offset_of(position) + more);
  }
  // Positions of three blocks, which no entry needs to have.
  BlockPosition low{1000};
  BlockPosition middle{2000};
  BlockPosition high{3000};
};

}  // namespace

TEST_CASE("a snapshot knows the blocks that were held when it was taken, by new pins too") {
  Pinned shard;
  const PinNumber pin = shard.hold(shard.low);
  REQUIRE(shard.pins.claim(shard.shard.offset_of(shard.high) | kPinIsTentative) != PinSet::kNone);
  PinSnapshot snapshot = shard.snapshot();
  CHECK(snapshot.holds(shard.low));
  CHECK_FALSE(snapshot.holds(shard.middle));
  CHECK(snapshot.holds(shard.high));
  shard.pins.drop(pin);
  REQUIRE(shard.hold(shard.middle) != PinSet::kNone);
  CHECK(snapshot.holds(shard.low));
  CHECK_FALSE(snapshot.holds(shard.middle));
  PinSnapshot later = shard.snapshot();
  CHECK_FALSE(later.holds(shard.low));
  CHECK(later.holds(shard.middle));
}

TEST_CASE("the next confirmed pin is found from any position, and new pins are passed") {
  Pinned shard;
  CHECK(shard.snapshot().next_confirmed(BlockPosition{0}) == kNoPosition);
  REQUIRE(shard.hold(shard.high) != PinSet::kNone);
  REQUIRE(shard.hold(shard.low) != PinSet::kNone);
  REQUIRE(shard.pins.claim(shard.shard.offset_of(shard.middle) | kPinIsTentative) != PinSet::kNone);
  const PinSnapshot snapshot = shard.snapshot();
  CHECK(snapshot.next_confirmed(BlockPosition{0}) == shard.low);
  CHECK(snapshot.next_confirmed(shard.low) == shard.low);
  CHECK(snapshot.next_confirmed(BlockPosition{shard.low + 1}) == shard.high);
  CHECK(snapshot.next_confirmed(BlockPosition{shard.high + 1}) == kNoPosition);
}

TEST_CASE("pins that hold no block are counted each, and are the only ones that are ended") {
  Pinned shard;
  const PinNumber real = shard.hold(shard.low);
  const PinNumber stray = shard.hold(shard.middle);
  const PinNumber same = shard.hold(shard.middle);
  const PinNumber between = shard.hold(shard.high, kUnitSize / 2);
  const std::uint64_t new_word = shard.shard.offset_of(shard.high) | kPinIsTentative;
  const PinNumber fresh = shard.pins.claim(new_word);
  const std::uint64_t elsewhere = shard.geometry().shards_offset + shard.shard_size();
  const PinNumber foreign = shard.pins.claim(elsewhere);
  PinSnapshot snapshot = shard.snapshot();
  REQUIRE(snapshot.holds(shard.low));
  CHECK(snapshot.dangling_pins() == 3);
  snapshot.drop_strays();
  CHECK(shard.pins.holds(real, shard.shard.offset_of(shard.low)));
  CHECK(shard.pins.holds(stray, 0));
  CHECK(shard.pins.holds(same, 0));
  CHECK(shard.pins.holds(between, 0));
  CHECK(shard.pins.holds(fresh, new_word));
  CHECK(shard.pins.holds(foreign, elsewhere));
}

}  // namespace memstream::test
