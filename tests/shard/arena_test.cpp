// The heap's allocator: where blocks come from, how freed ones grow together, what happens at the border.
#include "core/shard/arena.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <vector>

#include "tests/support/scale.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kNow = 1;

// An arena over a blank shard, and the walk that its invariants promise.
class TestArena : public TestShard {
 public:
  explicit TestArena(std::uint64_t size_bytes = kMinSegmentSize)
      : TestShard(size_bytes), arena(&header(), geometry().shards_offset, shard_size(), &segment()) {}

  BlockPosition allocate(std::uint64_t units) { return arena.allocate(Units{units}, kNow); }
  std::uint32_t units_of(BlockPosition position) const { return arena.shape(position).size_units; }
  std::uint64_t free_memory() const { return header().space.free_memory; }

  // Used blocks by position; requires of the rest that it is coalesced, listed and marked.
  std::map<std::uint32_t, std::uint32_t> walk() const {
    std::map<std::uint32_t, std::uint32_t> used;
    std::map<std::uint32_t, std::uint32_t> free;
    bool previous_free = false;
    for (BlockPosition position = arena.heap_begin(); position < arena.heap_end();) {
      const BlockShape shape = arena.shape(position);
      REQUIRE(((shape.flags & kBlockPrevFree) != 0) == previous_free);
      if (!shape.used()) REQUIRE_FALSE(previous_free);
      (shape.used() ? used : free)[position] = shape.size_units;
      previous_free = !shape.used();
      position += shape.size_units;
    }
    if (!free.empty()) REQUIRE(free.begin()->first > arena.heap_begin());
    std::map<std::uint32_t, std::uint32_t> listed;
    for (const auto& level : header().free_lists.heads) {
      for (const std::uint32_t head : level) {
        BlockPosition position{head};
        for (; position != 0; position = link_next(arena.block(position).owner)) {
          REQUIRE(listed.emplace(position, units_of(position)).second);
        }
      }
    }
    REQUIRE(listed == free);
    std::uint64_t units = 0;
    for (const auto& [position, size] : free) units += size;
    REQUIRE(units * kUnitSize == free_memory());
    return used;
  }

  Arena arena;
};

TEST_CASE("a blank heap is all wilderness, and the first block ends at its end") {
  TestArena heap;
  CHECK(heap.arena.heap_begin() == heap.arena.heap_end());
  CHECK(heap.arena.wilderness_bytes() == heap.shard_size() - kShardHeaderSize - kTableStepSize);
  const BlockPosition block = heap.allocate(10);
  CHECK(block == heap.arena.heap_end() - 10);
  CHECK(heap.arena.heap_begin() == block);
  CHECK(heap.units_of(block) == 10);
  CHECK(heap.arena.shape(block).used());
}

TEST_CASE("no block is smaller than its header") {
  TestArena heap;
  CHECK(heap.units_of(heap.allocate(0)) == kMinBlockUnits);
  CHECK(heap.units_of(heap.allocate(1)) == kMinBlockUnits);
}

TEST_CASE("the lowest block goes back to the wilderness, with the free ones above it") {
  TestArena heap;
  const BlockPosition top = heap.allocate(10);
  const BlockPosition middle = heap.allocate(20);
  const BlockPosition low = heap.allocate(30);
  CHECK(heap.arena.free(middle) == middle);
  CHECK(heap.free_memory() == 20 * kUnitSize);
  CHECK(heap.arena.free(low) == 0);
  CHECK(heap.arena.heap_begin() == top);
  CHECK(heap.free_memory() == 0);
  CHECK(heap.arena.free(top) == 0);
  CHECK(heap.arena.heap_begin() == heap.arena.heap_end());
}

TEST_CASE("a freed block grows together with its free neighbours, below, above and on both sides") {
  for (const std::vector<int>& order : {std::vector{1, 2, 3}, {3, 2, 1}, {1, 3, 2}, {2, 1, 3}, {2, 3, 1}, {3, 1, 2}}) {
    TestArena heap;
    BlockPosition blocks[5];
    for (BlockPosition& block : blocks) block = heap.allocate(10);  // Each lies below the one before.
    BlockPosition last;
    for (const int number : order) {
      last = heap.arena.free(blocks[number]);
      heap.walk();
    }
    CHECK(last == blocks[3]);
    CHECK(heap.units_of(last) == 30);
    CHECK(heap.walk().size() == 2);
    CHECK(heap.allocate(30) == blocks[3]);
  }
}

TEST_CASE("a free block is cut to size; a rest too small for a header stays with the block") {
  TestArena heap;
  const BlockPosition block = heap.allocate(10);
  heap.allocate(2);
  heap.arena.free(block);
  CHECK(heap.allocate(8) == block);
  CHECK(heap.units_of(block) == 8);
  CHECK(heap.free_memory() == 2 * kUnitSize);
  heap.walk();
  heap.arena.free(block);
  CHECK(heap.allocate(9) == block);
  CHECK(heap.units_of(block) == 10);
  CHECK(heap.free_memory() == 0);
  heap.walk();
}

TEST_CASE("a free block of every size is found again for its size, before any wilderness is taken") {
  TestArena heap(8U << 20);
  for (std::uint32_t units = kMinBlockUnits; units < 20'000; units += 1 + units / 7) {
    const BlockPosition block = heap.allocate(units);
    const BlockPosition fence = heap.allocate(2);
    REQUIRE(heap.arena.free(block) == block);
    const BlockPosition border = heap.arena.heap_begin();
    CHECK(heap.allocate(units) == block);
    CHECK(heap.arena.heap_begin() == border);
    heap.arena.free(block);
    heap.arena.free(fence);
  }
}

TEST_CASE("of free blocks of many sizes one that is large enough is found, and small ones stay") {
  TestArena heap;
  std::vector<BlockPosition> blocks;
  for (const std::uint32_t units : {3U, 15U, 16U, 17U, 100U, 1000U, 5000U}) {
    blocks.push_back(heap.allocate(units));
    heap.allocate(2);
  }
  for (const BlockPosition block : blocks) heap.arena.free(block);
  CHECK(heap.allocate(4) == blocks[1]);
  CHECK(heap.allocate(18) == blocks[4]);
  CHECK(heap.allocate(1001) == blocks[6]);
  CHECK(heap.allocate(16) == blocks[2]);
  CHECK(heap.allocate(1000) == blocks[5]);
}

TEST_CASE("more than the heap can hold is no block, and changes nothing") {
  TestArena heap;
  const std::uint64_t most = heap.arena.wilderness_bytes() / kUnitSize;
  CHECK(heap.allocate(most + 1) == 0);
  CHECK(heap.allocate(std::uint64_t{1} << 40) == 0);
  CHECK(heap.arena.heap_begin() == heap.arena.heap_end());
  CHECK(heap.allocate(most) != 0);
  CHECK(heap.arena.wilderness_bytes() < kUnitSize);
  CHECK(heap.allocate(2) == 0);
}

TEST_CASE("the table rises into the wilderness a step at a time, and stops at the lowest block") {
  TestArena heap;
  const std::uint64_t room = heap.arena.wilderness_bytes();
  heap.allocate((room - 2 * kTableStepSize - kTableStepSize / 2) / kUnitSize);
  CHECK(heap.arena.raise_table(kNow));
  CHECK(heap.arena.raise_table(kNow));
  CHECK(heap.header().space.table_cells == 3 * kTableStepCells);
  CHECK_FALSE(heap.arena.raise_table(kNow));
  CHECK(heap.header().space.table_cells == 3 * kTableStepCells);
  CHECK(heap.arena.wilderness_bytes() <= kTableStepSize / 2 + kUnitSize);
}

TEST_CASE("memory that is refused is no block; it is counted, and asked for again after a second") {
  TestArena heap(4U << 20);
  REQUIRE(heap.allocate(100) != 0);
  const BlockPosition border = heap.arena.heap_begin();
  MemoryBackend::limit_committed_bytes(MemoryBackend::committed_bytes());
  const std::uint64_t units = (1U << 20) / kUnitSize;
  CHECK(heap.allocate(units) == 0);
  CHECK(heap.allocate(units) == 0);
  CHECK(heap.header().counters.commit_failures == 1);
  CHECK(heap.arena.heap_begin() == border);
  CHECK(heap.allocate(2) != 0);  // What is committed already still serves.
  MemoryBackend::unlimit_committed_bytes();
  CHECK(heap.allocate(units) == 0);
  CHECK(heap.arena.allocate(Units{units}, kNow + 1000) != 0);
}

TEST_CASE("with less memory than a step ahead, what is needed now is still taken") {
  TestArena heap(4U << 20);
  REQUIRE(heap.allocate(2) != 0);
  const std::uint64_t committed = heap.shard_size() - heap.header().space.heap_committed;
  MemoryBackend::limit_committed_bytes(MemoryBackend::committed_bytes() + 8 * kPageSize);
  CHECK(heap.allocate((committed + 4 * kPageSize) / kUnitSize) != 0);
  MemoryBackend::unlimit_committed_bytes();
  CHECK(heap.header().counters.commit_failures == 0);
}

TEST_CASE("bytes that make no sense are told, not followed") {
  TestArena heap;
  CHECK_THROWS_AS(heap.arena.block(heap.arena.heap_end()), CorruptionDetected);
  CHECK_THROWS_AS(heap.arena.block(BlockPosition{1}), CorruptionDetected);
  const BlockPosition block = heap.allocate(10);
  const BlockPosition neighbour = heap.allocate(10);
  heap.allocate(10);
  SUBCASE("a size that leads out of the heap") {
    Arena::set_shape(heap.arena.block(block), {.size_units = 11, .flags = kBlockUsed});
    CHECK_THROWS_AS(heap.arena.free(block), CorruptionDetected);
  }
  SUBCASE("a mark about a free neighbour that is not free") {
    Arena::set_shape(heap.arena.block(block), {.size_units = 10, .flags = kBlockUsed | kBlockPrevFree});
    CHECK_THROWS_AS(heap.arena.free(block), CorruptionDetected);
  }
  SUBCASE("a free neighbour that its list does not know") {
    heap.arena.free(neighbour);
    heap.arena.reset_free_lists();
    CHECK_THROWS_AS(heap.arena.free(block), CorruptionDetected);
  }
  SUBCASE("a used block in a free list") {
    heap.arena.free(neighbour);
    Arena::set_shape(heap.arena.block(neighbour), {.size_units = 10, .flags = kBlockUsed});
    CHECK_THROWS_AS(heap.allocate(10), CorruptionDetected);
  }
  SUBCASE("a bitmap bit without a list") {
    heap.header().free_lists.level_bitmap |= 1U << 20;
    CHECK_THROWS_AS(heap.allocate(12), CorruptionDetected);
  }
}

// The model knows which units are taken; the arena must never hand one out twice, nor refuse what its own free lists or
// the wilderness hold.
TEST_CASE("100,000 random operations agree with a model") {
  TestArena heap(4U << 20);
  std::mt19937 random(1);
  std::map<std::uint32_t, std::uint32_t> model;  // Position to units.
  std::vector<BlockPosition> order;
  const int operations = scaled(100'000);
  for (int i = 0; i < operations; ++i) {
    if (random() % 5 < 3 || order.empty()) {
      const auto units = static_cast<std::uint32_t>(1 + random() % (random() % 10 == 0 ? 2000 : 40));
      const BlockPosition position = heap.allocate(units);
      if (position == 0) {
        CHECK(heap.arena.wilderness_bytes() < std::uint64_t{units} * kUnitSize);
        continue;
      }
      const std::uint32_t given = heap.units_of(position);
      REQUIRE(given >= units);
      REQUIRE(given <= std::max(units, kMinBlockUnits) + kMinBlockUnits - 1);
      const auto next = model.lower_bound(position);
      if (next != model.end()) REQUIRE(position + given <= next->first);
      if (next != model.begin()) REQUIRE(std::prev(next)->first + std::prev(next)->second <= position);
      model.emplace(position, given);
      order.push_back(position);
    } else {
      std::swap(order[random() % order.size()], order.back());
      heap.arena.free(order.back());
      model.erase(order.back());
      order.pop_back();
    }
    if (i % 2500 == 0) REQUIRE(heap.walk() == model);
  }
  REQUIRE(heap.walk() == model);
  for (const BlockPosition position : order) heap.arena.free(position);
  CHECK(heap.arena.heap_begin() == heap.arena.heap_end());
  CHECK(heap.free_memory() == 0);
}

}  // namespace
}  // namespace memstream::test
