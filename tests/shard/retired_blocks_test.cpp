// The ring of retired blocks by itself, on blocks that no entry ever had.
#include "core/shard/retired_blocks.h"

#include <doctest/doctest.h>

#include <vector>

#include "core/layout/corruption.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

constexpr Units kUnits{8};

class Retired : public TestShard {
 public:
  Retired()
      : arena(&header(), geometry().shards_offset, shard_size(), &segment()),
        pin_table(places, geometry().shards_offset),
        ring(&header(), &arena, &pin_table, geometry().shards_offset, shard_size()) {}

  BlockPosition add() MEMSTREAM_NEEDS_W {
    const BlockPosition position = arena.allocate(kUnits, now_ms);
    REQUIRE(position != 0);
    ring.add(position, arena.shape(position).size_bytes());
    return position;
  }
  std::vector<BlockPosition> add_some(int count) MEMSTREAM_NEEDS_W {
    std::vector<BlockPosition> added;
    for (int i = 0; i < count; ++i) added.push_back(add());
    return added;
  }
  // As a view or a reservation does.
  PinNumber hold(BlockPosition position) { return pins.claim(shard.offset_of(position)); }

  Arena arena;
  PinTable pin_table;
  RetiredBlocks ring;
};

}  // namespace

TEST_CASE("blocks enter the ring behind those that are there, and leave it in any order") {
  Retired retired;
  const WriteLockScope held(retired.header());
  const std::vector<BlockPosition> blocks = retired.add_some(3);
  CHECK(retired.ring.count() == 3);
  CHECK(retired.header().space.pinned_memory == 3 * kUnits * kUnitSize);
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    CHECK(retired.ring.has(blocks[i]));
    CHECK(retired.ring.next_of(blocks[i]) == blocks[(i + 1) % blocks.size()]);
  }
  retired.ring.remove(blocks[1]);
  CHECK_FALSE(retired.ring.has(blocks[1]));
  CHECK(retired.ring.next_of(blocks[0]) == blocks[2]);
  CHECK(retired.ring.next_of(blocks[2]) == blocks[0]);
  retired.ring.remove(blocks[0]);
  CHECK(retired.ring.next_of(blocks[2]) == blocks[2]);
  retired.ring.remove(blocks[2]);
  CHECK(retired.ring.count() == 0);
  CHECK(retired.header().space.retired_hand == 0);
  CHECK(retired.header().space.pinned_memory == 0);
}

TEST_CASE("what nobody holds is freed: a few in each look, or all") {
  Retired retired;
  const WriteLockScope held(retired.header());
  const std::vector<BlockPosition> blocks = retired.add_some(7);
  const PinNumber pin = retired.hold(blocks[0]);
  retired.ring.free_some();  // Passes the first, which is held.
  CHECK(retired.ring.count() == 6);
  CHECK(retired.ring.has(blocks[0]));
  retired.ring.free_some();
  CHECK(retired.ring.count() == 4);
  retired.ring.free_all();
  CHECK(retired.ring.count() == 1);
  CHECK(retired.ring.next_of(blocks[0]) == blocks[0]);
  retired.pins.drop(pin);
  retired.ring.free_all();
  CHECK(retired.ring.count() == 0);
  CHECK(retired.header().space.pinned_memory == 0);
}

TEST_CASE("a ring with a foreign block, a wrong link or a wrong count is damage") {
  Retired retired;
  const WriteLockScope held(retired.header());
  const std::vector<BlockPosition> blocks = retired.add_some(4);
  const BlockPosition other = retired.arena.allocate(kUnits, retired.now_ms);
  CHECK_THROWS_AS(static_cast<void>(retired.ring.next_of(other)), CorruptionDetected);
  std::atomic<std::uint64_t>& links = retired.arena.block(blocks[0]).owner;
  const std::uint64_t before = links.load();
  links = links_word(other, link_previous(before));
  CHECK_THROWS_AS(retired.ring.remove(blocks[0]), CorruptionDetected);
  links = links_word(blocks[2], link_previous(before));
  CHECK_THROWS_AS(retired.ring.remove(blocks[0]), CorruptionDetected);
  links = before;
  retired.header().space.retired = 0;
  CHECK_THROWS_AS(retired.ring.free_all(), CorruptionDetected);
  CHECK_THROWS_AS(retired.ring.remove(blocks[0]), CorruptionDetected);
  retired.header().space.retired = 5;
  for (const BlockPosition block : blocks) REQUIRE(retired.hold(block) != PinSet::kNone);
  CHECK_THROWS_AS(retired.ring.free_all(), CorruptionDetected);
  retired.header().space.retired = 3;
  CHECK_THROWS_AS(retired.ring.free_all(), CorruptionDetected);
}

}  // namespace memstream::test
