// Where things lie in a segment: for every size and number of shards, and what is refused.
#include "core/layout/geometry.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <random>
#include <utility>

#include "tests/support/expectations.h"
#include "tests/support/scale.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

Geometry made(std::uint64_t size_bytes) {
  Geometry geometry;
  REQUIRE_MESSAGE(make_geometry(size_bytes, default_shards(size_bytes, kNoLimit), &geometry) == Status::kOk,
                  last_error());
  return geometry;
}

TEST_CASE("a shard for every 32 MiB up to six, then one for every sixth of a GiB, at most 64") {
  CHECK(default_shards(1 * kMiB, kNoLimit) == 1);
  CHECK(default_shards(63 * kMiB, kNoLimit) == 1);
  CHECK(default_shards(64 * kMiB, kNoLimit) == 2);
  CHECK(default_shards(256 * kMiB, kNoLimit) == 6);
  CHECK(default_shards(1 * kGiB, kNoLimit) == 6);
  CHECK(default_shards(2 * kGiB, kNoLimit) == 12);
  CHECK(default_shards(64 * kGiB, kNoLimit) == 64);
}

TEST_CASE("where the system has less memory than the segment is large, that counts") {
  CHECK(default_shards(256 * kMiB, 64 * kMiB) == 2);
  CHECK(default_shards(256 * kMiB, 191 * kMiB) == 5);
  CHECK(default_shards(256 * kMiB, 256 * kMiB) == 6);
  CHECK(default_shards(256 * kMiB, 1 * kMiB) == 1);
  CHECK(default_shards(256 * kMiB, 0) == 1);
  // Not fewer than can be of such a size.
  CHECK(default_shards(kMaxShardSize, kMiB) == 1);
  CHECK(default_shards(kMaxShardSize + kPageSize, kMiB) == 2);
  Geometry geometry;
  CHECK(make_geometry(200 * kGiB, default_shards(200 * kGiB, kMiB), &geometry) == Status::kOk);
}

TEST_CASE("by default a value may take a sixteenth of a segment of up to 1 GiB, and no less in a larger one") {
  for (std::uint64_t size = kMiB; size <= kGiB; size += kMiB) {
    CAPTURE(size);
    REQUIRE(max_value_size(made(size), kMaxKeySize) >= size / 16);
  }
  for (std::uint64_t size = kGiB; size <= 100 * kGiB; size += 64 * kMiB) {
    CAPTURE(size);
    REQUIRE(max_value_size(made(size), kMaxKeySize) >= kGiB / 16);
  }
}

TEST_CASE("a largest value of up to a quarter can be asked for, and chooses the most shards that hold it") {
  for (const std::uint64_t size : {kMiB, 7 * kMiB, 64 * kMiB, 256 * kMiB, kGiB, 4 * kGiB}) {
    for (const std::uint64_t part : {4U, 5U, 8U, 15U, 16U, 40U, 1000U}) {
      CAPTURE(size);
      CAPTURE(part);
      std::uint32_t shards = 0;
      REQUIRE(choose_shards(size, kNoLimit, {.max_value_bytes = size / part}, &shards) == Status::kOk);
      Geometry geometry;
      REQUIRE(make_geometry(size, shards, &geometry) == Status::kOk);
      CHECK(max_value_size(geometry, kMaxKeySize) >= size / part);
      CHECK(shards <= default_shards(size, kNoLimit));
      if (shards == default_shards(size, kNoLimit)) continue;
      REQUIRE(make_geometry(size, shards + 1, &geometry) == Status::kOk);
      CHECK(max_value_size(geometry, kMaxKeySize) < size / part);
    }
  }
}

TEST_CASE("a largest value that the segment, or the chosen shards, cannot hold is refused") {
  std::uint32_t shards = 0;
  CHECK(choose_shards(kGiB, kNoLimit, {.max_value_bytes = kGiB / 4 + 1}, &shards) == Status::kBadMaxValue);
  CHECK(message_has("at most 268435456 bytes"));
  CHECK(message_has("larger size"));
  CHECK(choose_shards(kGiB, kNoLimit, {.shards = 16, .max_value_bytes = 64 * kMiB}, &shards) == Status::kBadMaxValue);
  CHECK(message_has("Use 7 shards or fewer"));
  CHECK(choose_shards(kGiB, kNoLimit, {.shards = 7, .max_value_bytes = 64 * kMiB}, &shards) == Status::kOk);
  CHECK(shards == 7);
  // More than one shard can reach: each of two holds a little less than a quarter.
  CHECK(choose_shards(100 * kGiB, kNoLimit, {.max_value_bytes = 25 * kGiB}, &shards) == Status::kBadMaxValue);
  CHECK(choose_shards(100 * kGiB, kNoLimit, {.max_value_bytes = 24 * kGiB}, &shards) == Status::kOk);
  CHECK(shards == 2);
}

TEST_CASE("every geometry that is made is sound, and wastes less than a page for every part") {
  std::mt19937_64 random(1);
  for (int i = 0; i < scaled(20'000); ++i) {
    const std::uint64_t size =
        (kMiB + random() % (random() % 2 == 0 ? 100 * kMiB : kMaxShards * kMaxShardSize)) / kPageSize * kPageSize;
    auto shards = static_cast<std::uint32_t>(random() % (kMaxShards + 1));
    if (shards == 0) shards = default_shards(size, random() % (2 * size));
    Geometry geometry;
    if (make_geometry(size, shards, &geometry) != Status::kOk) continue;
    REQUIRE(geometry_is_valid(geometry));
    const std::uint64_t end = geometry.shard_offset(geometry.shards - 1) + geometry.shard_size;
    REQUIRE(end <= size);
    REQUIRE(size - end < geometry.shards * kPageSize);
    REQUIRE(geometry.shards_offset >= geometry.thread_slots_offset + geometry.thread_slots * sizeof(ThreadSlot));
    REQUIRE(geometry.thread_slots_offset >= geometry.process_slots_offset +
                                                geometry.process_slots * sizeof(ProcessSlot) +
                                                std::min(geometry.process_slots, kMaxRedoRecords) * sizeof(RedoRecord));
    REQUIRE(geometry.shard_offset(0) % kPageSize == 0);
  }
}

TEST_CASE("larger segments have places for more processes") {
  CHECK(made(1 * kMiB).process_slots == 32);
  CHECK(made(256 * kMiB).process_slots == 1024);
  CHECK(made(64 * kGiB).process_slots == 2048);
  CHECK(made(256 * kMiB).thread_slots == 1024);
}

TEST_CASE("a size that is too small, no whole number of pages or too large is refused") {
  Geometry geometry;
  CHECK(make_geometry(kMiB - kPageSize, 1, &geometry) == Status::kBadSize);
  CHECK(message_has("1 MiB"));
  CHECK(make_geometry(kMiB + 1, 1, &geometry) == Status::kBadSize);
  CHECK(make_geometry(0, 1, &geometry) == Status::kBadSize);
  CHECK(make_geometry(128 * kGiB, 1, &geometry) == Status::kBadSize);
  CHECK(message_has("64 GiB"));
  CHECK(make_geometry(128 * kGiB, 2, &geometry) == Status::kOk);
}

TEST_CASE("no shard, and too many for the size, are refused") {
  Geometry geometry;
  CHECK(make_geometry(kMiB, 0, &geometry) == Status::kBadShards);
  CHECK(message_has("1 to 64"));
  CHECK(make_geometry(kMiB, 2, &geometry) == Status::kBadShards);
  CHECK(message_has("512 KiB"));
  CHECK(make_geometry(kGiB, 65, &geometry) == Status::kBadShards);
  CHECK(make_geometry(kGiB, 64, &geometry) == Status::kOk);
}

TEST_CASE("a geometry of which any part is off is not sound") {
  const Geometry good = made(64 * kMiB);
  REQUIRE(geometry_is_valid(good));
  struct Fault {
    const char* what;
    void (*plant)(Geometry&);
  };
  for (const Fault& fault :
       {Fault{"no shards", [](Geometry& g) { g.shards = 0; }},
        Fault{"too many shards", [](Geometry& g) { g.shards = kMaxShards + 1; }},
        Fault{"more shards than fit", [](Geometry& g) { g.shards += 1; }},
        Fault{"a small segment", [](Geometry& g) { g.size_bytes = kMinSegmentSize - 1; }},
        Fault{"a segment shorter than its shards", [](Geometry& g) { g.size_bytes -= g.shards * kPageSize; }},
        Fault{"no process slots", [](Geometry& g) { g.process_slots = 0; }},
        Fault{"too many process slots", [](Geometry& g) { g.process_slots = 0xffff'ffff; }},
        Fault{"no thread slots", [](Geometry& g) { g.thread_slots = 0; }},
        Fault{"too many thread slots", [](Geometry& g) { g.thread_slots = 0xffff'ffff; }},
        Fault{"process slots elsewhere", [](Geometry& g) { g.process_slots_offset += kPageSize; }},
        Fault{"thread slots elsewhere", [](Geometry& g) { g.thread_slots_offset -= kPageSize; }},
        Fault{"shards in an area", [](Geometry& g) { g.shards_offset -= kPageSize; }},
        Fault{"shards that do not begin with a page", [](Geometry& g) { g.shards_offset -= 16; }},
        Fault{"an area that does not begin with a page", [](Geometry& g) { g.areas[0].offset += 16; }},
        Fault{"an area of no whole pages", [](Geometry& g) { g.areas[0].size_bytes -= 16; }},
        Fault{"an area in the thread slots", [](Geometry& g) { g.areas[0].offset -= kPageSize; }},
        Fault{"an area in the next one", [](Geometry& g) { g.areas[0].size_bytes += kPageSize; }},
        Fault{"an area in the shards", [](Geometry& g) { g.areas[1].size_bytes += kPageSize; }},
        Fault{"an area at the end of all numbers",
              [](Geometry& g) { g.areas[0].offset = ~std::uint64_t{0} / kPageSize * kPageSize; }},
        Fault{"an area whose end overflows",
              [](Geometry& g) { g.areas[0].size_bytes = ~std::uint64_t{0} / kPageSize * kPageSize; }},
        Fault{"two areas in one place", [](Geometry& g) { g.areas[7] = g.areas[0]; }},
        Fault{"areas in another order", [](Geometry& g) { std::swap(g.areas[0], g.areas[1]); }},
        Fault{"shards at the end of all numbers", [](Geometry& g) { g.shards_offset = ~std::uint64_t{0}; }},
        Fault{"a small shard", [](Geometry& g) { g.shard_size = kPageSize; }},
        Fault{"a shard of no whole pages", [](Geometry& g) { g.shard_size -= 16; }},
        Fault{"a shard larger than positions reach", [](Geometry& g) { g.shard_size = kMaxShardSize + kPageSize; }},
        Fault{"sizes whose product overflows", [](Geometry& g) {
                g.shards = 64;
                g.shard_size = std::uint64_t{1} << 58;
              }}}) {
    CAPTURE(fault.what);
    Geometry bad = good;
    fault.plant(bad);
    CHECK_FALSE(geometry_is_valid(bad));
  }
}

TEST_CASE("areas that a later library makes are as good as those of this one") {
  Geometry geometry = made(64 * kMiB);
  geometry.areas[kTagArea] = {};
  geometry.areas[kLimitArea] = {};
  geometry.areas[kNearArea] = {};
  geometry.areas[kWaitArea] = {};
  geometry.areas[1].size_bytes -= 2 * kPageSize;
  geometry.areas[kWatchArea] = {};
  geometry.areas[7] = {geometry.areas[1].offset + geometry.areas[1].size_bytes + kPageSize, kPageSize};
  CHECK(geometry_is_valid(geometry));
  CHECK_FALSE(geometry.has_wait_words());
  CHECK_FALSE(geometry.has_metrics());  // They are as large as this library knows them, or not there.
  geometry.areas[0] = {};               // And a segment without pin chunks is one.
  CHECK(geometry_is_valid(geometry));
  CHECK(geometry.pin_chunks() == 0);
}

TEST_CASE("each segment has words for tags, a power of two that grows with it") {
  CHECK(made(kMinSegmentSize).tag_words() == 512);
  CHECK(made(16 * kMiB).tag_words() == 4096);
  CHECK(made(256 * kMiB).tag_words() == 65536);
  CHECK(made(2048 * kMiB).tag_words() == 65536);
  // Whatever the size of the area, all words lie in it.
  Geometry geometry = made(16 * kMiB);
  geometry.areas[kTagArea].size_bytes -= kPageSize;
  CHECK(geometry_is_valid(geometry));
  CHECK(geometry.tag_words() == 2048);
  geometry.areas[kTagArea] = {};
  CHECK(geometry.tag_words() == 0);
}

TEST_CASE("every segment has words to wait on") {
  Geometry geometry = made(kMiB);
  CHECK(geometry.has_wait_words());
  CHECK(geometry.areas[kWaitArea].size_bytes == 4 << 10);
  geometry.areas[kWaitArea].size_bytes = 0;
  CHECK_FALSE(geometry.has_wait_words());
}

TEST_CASE("a segment has limits from 16 MiB on, of a few thousandths of its size") {
  CHECK_FALSE(made(15 * kMiB).has_limits());
  for (const std::uint64_t mib : {16U, 17U, 64U, 1000U, 1024U, 4096U, 16384U}) {
    const Geometry geometry = made(mib * kMiB);
    CAPTURE(mib);
    REQUIRE(geometry.has_limits());
    CHECK(geometry.limits_size_bytes() * 200 <= geometry.size_bytes);
    CHECK(geometry.holdings_offset() + geometry.holding_stripes() * sizeof(HoldingStripe) <=
          geometry.areas[kLimitArea].size_bytes);
    Geometry without = geometry;
    without.areas[kLimitArea].size_bytes -= kPageSize;
    CHECK(geometry_is_valid(without));
    CHECK_FALSE(without.has_limits());
  }
}

TEST_CASE("a segment has a near table from 16 MiB on") {
  CHECK_FALSE(made(15 * kMiB).has_near_table());
  const Geometry geometry = made(16 * kMiB);
  CHECK(geometry.has_near_table());
  CHECK(geometry.areas[kNearArea].size_bytes == 24 << 10);
  Geometry without = geometry;
  without.areas[kNearArea].size_bytes -= kPageSize;
  CHECK(geometry_is_valid(without));
  CHECK_FALSE(without.has_near_table());
}

TEST_CASE("a segment has rings of changed keys from 16 MiB on, of less than a hundredth of its size") {
  CHECK_FALSE(made(15 * kMiB).has_watches());
  for (const std::uint64_t mib : {16U, 17U, 64U, 256U, 1000U, 1024U, 4096U, 16384U}) {
    for (const std::uint32_t shards : {0U, 1U, 16U}) {
      Geometry geometry;
      const std::uint64_t size = mib * kMiB;
      REQUIRE(make_geometry(size, shards != 0 ? shards : default_shards(size, size), &geometry) == Status::kOk);
      CAPTURE(mib);
      CAPTURE(shards);
      REQUIRE(geometry.has_watches());
      CHECK(std::has_single_bit(geometry.watch_ring_bytes()));
      CHECK(geometry.watch_ring_bytes() >= 2 * watch_record_size(kMaxKeySize));
      CHECK(geometry.watches_size_bytes() * 100 <= geometry.size_bytes);
      CHECK(geometry_is_valid(geometry));
      geometry.areas[kWatchArea].size_bytes -= kPageSize;
      CHECK(geometry_is_valid(geometry));
      CHECK_FALSE(geometry.has_watches());
    }
  }
}

TEST_CASE("a segment has a ring of accesses from 16 MiB on") {
  CHECK_FALSE(made(15 * kMiB).has_trace());
  const Geometry geometry = made(16 * kMiB);
  CHECK(geometry.has_trace());
  CHECK(geometry.areas[kTraceArea].size_bytes == 64 << 10);
  CHECK(geometry.shards_offset == geometry.areas[kTraceArea].offset + geometry.areas[kTraceArea].size_bytes);
  Geometry without = geometry;
  without.areas[kTraceArea].size_bytes -= kPageSize;
  CHECK(geometry_is_valid(without));
  CHECK_FALSE(without.has_trace());
}

TEST_CASE("a block of the units that are computed holds key and value, aligned, wherever it stands") {
  for (std::uint32_t key_size : {1U, 15U, 16U, 17U, 100U, 1024U}) {
    for (std::uint64_t value_size : {0U, 1U, 15U, 16U, 17U, 4095U, 4096U, 4097U, 100'000U}) {
      for (const bool has_extras : {false, true}) {
        const std::uint64_t units = block_units_for(key_size, value_size, has_extras);
        for (BlockPosition position{1000}; position < 1004; ++position) {
          const BlockShape shape{.size_units = static_cast<std::uint32_t>(units),
                                 .flags = kBlockUsed | (value_size >= kAlignedValueSize ? kBlockAligned : 0) |
                                          (has_extras ? kBlockExtras : 0),
                                 .key_size = key_size};
          CHECK(shape.key_start() == sizeof(BlockHeader) + (has_extras ? sizeof(BlockExtras) : 0));
          CHECK(shape.value_start(position) >= shape.key_start() + key_size);
          CHECK(shape.value_start(position) + value_size <= shape.size_bytes());
          CHECK(shape.size_bytes() - shape.value_start(position) - value_size < 64 + kUnitSize);
        }
      }
    }
  }
}

TEST_CASE("an item costs, besides key and value, at most 72 bytes of block and entry, and 16 more with extras") {
  constexpr double kTablePerEntry = static_cast<double>(sizeof(Cell)) / kEntriesPerCell;
  for (const bool has_extras : {false, true}) {
    double sum = 0;
    int count = 0;
    for (std::uint64_t value_size = 0; value_size < kAlignedValueSize; ++value_size, ++count) {
      const std::uint64_t bytes = block_units_for(16, value_size, has_extras) * kUnitSize;
      sum += static_cast<double>(bytes - 16 - value_size) + kTablePerEntry;
    }
    CHECK(sum / count <= (has_extras ? 88 : 72));
  }
}

TEST_CASE("the largest value's block is the largest block, and two of them fit into a shard") {
  for (const std::uint64_t size : {kMiB, 64 * kMiB, kGiB}) {
    const Geometry geometry = made(size);
    for (const std::uint64_t key_size : {1U, 16U, 17U, 1024U}) {
      const std::uint64_t limit = max_value_size(geometry, key_size);
      CHECK(block_units_for(key_size, limit, true) * kUnitSize <= max_block_size(geometry));
      CHECK(block_units_for(key_size, limit + kUnitSize, true) * kUnitSize > max_block_size(geometry));
    }
    CHECK(2 * max_block_size(geometry) + kShardHeaderSize + kPageSize <= geometry.shard_size);
    CHECK(max_value_size(geometry, 1) > geometry.shard_size / 2 - 16 * 1024);
  }
}

}  // namespace
}  // namespace memstream::test
