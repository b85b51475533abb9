// Room for one large value, made in many holds of the lock: what a hold does, and what is left where it stops.
#include "core/shard/clearing.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>

#include "tests/support/shard_pieces.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kShardBytes = std::uint64_t{8} << 20;
constexpr std::uint64_t kSmall = 1000;
constexpr std::uint64_t kLarge = std::uint64_t{2} << 20;

std::string key_of(int number) { return "key-" + std::to_string(number); }

// A shard full of small values, and a large one to come.
class Crowded : public ShardPieces {
 public:
  Crowded() : ShardPieces(kShardBytes) {
    for (; header().counters.evictions == 0; ++stored) {
      REQUIRE(set(key_of(stored), pattern(kSmall, static_cast<std::uint64_t>(stored))) == Status::kOk);
    }
    request.key = key("large");
    request.value_size = kLarge;
    units = block_units_for(5, kLarge, true);
    evictions = header().counters.evictions;
  }
  Clearing clearing() { return {parts(), &reclaimer, &shrinker, request, units, &pins, now_ms}; }
  Status slice(Clearing& clearing) {
    const WriteLockScope held(header());
    return clearing.clear_a_slice(&reserved);
  }

  int stored = 0;
  StoreRequest request;
  Units units;
  PinnedBlock reserved;
  std::uint64_t evictions = 0;
};

}  // namespace

TEST_CASE("a large block grows in several holds, and is a held reservation at the end") {
  Crowded shard;
  Clearing clearing = shard.clearing();
  int holds = 0;
  while (!clearing.is_done()) {
    REQUIRE(shard.slice(clearing) == Status::kOk);
    REQUIRE(++holds < 1000);
    CHECK(shard.problems() == "");  // Others see a whole shard between two holds.
  }
  CHECK(holds >= 2);
  const BlockPosition position = shard.reserved.position;
  CHECK(shard.arena.shape(position).size_units == shard.units);
  CHECK(shard.pins.holds(shard.reserved.pin, shard.shard.offset_of(position)));
  CHECK(shard.reserved.read.value_size == kLarge);
  const WriteLockScope held(shard.header());
  CHECK(shard.retired.has(position));
  CHECK(shard.contents.checked_block(position).key_is("large"));
  // No more goes than the value needs, and what may go already in one look at the coldest.
  CHECK(shard.header().counters.evictions - shard.evictions < 2 * kLarge / kSmall);
}

TEST_CASE("a value that fits in one hold evicts nothing where there is room") {
  ShardPieces shard(kShardBytes);
  const StoreRequest request{.key = shard.key("k"), .value_size = 100'000};
  Clearing clearing(shard.parts(), &shard.reclaimer, &shard.shrinker, request, block_units_for(1, 100'000, true),
                    &shard.pins, shard.now_ms);
  PinnedBlock reserved;
  {
    const WriteLockScope held(shard.header());
    REQUIRE(clearing.clear_a_slice(&reserved) == Status::kOk);
  }
  CHECK(clearing.is_done());
  CHECK(shard.header().counters.evictions == 0);
  CHECK(shard.problems() == "");
}

TEST_CASE("what has grown when a clearing is given up is freed for the next who wants room") {
  Crowded shard;
  Clearing clearing = shard.clearing();
  while (shard.space().retired == 0) REQUIRE(shard.slice(clearing) == Status::kOk);
  REQUIRE_FALSE(clearing.is_done());
  {
    const WriteLockScope held(shard.header());
    shard.retired.free_all();
    CHECK(shard.space().retired == 1);  // Held by the clearing.
  }
  clearing.give_up();
  {
    const WriteLockScope held(shard.header());
    shard.retired.free_all();
    CHECK(shard.space().retired == 0);
    CHECK(shard.space().pinned_memory == 0);
  }
  CHECK(shard.problems() == "");
}

TEST_CASE("a clearing whose block a repair of the shard took away says so") {
  Crowded shard;
  Clearing clearing = shard.clearing();
  while (shard.space().retired == 0) REQUIRE(shard.slice(clearing) == Status::kOk);
  REQUIRE_FALSE(clearing.is_done());
  {
    const WriteLockScope held(shard.header());
    shard.rebuilder.begin();
    shard.rebuilder.empty();
    shard.rebuilder.end();
  }
  CHECK(shard.slice(clearing) == Status::kCorrupt);
  CHECK(std::string(last_error()).find("the reservation went with it") != std::string::npos);
  CHECK(shard.problems() == "");
}

TEST_CASE("a clearing evicts nothing where held blocks leave no place that is large enough") {
  Crowded shard;
  {
    const WriteLockScope held(shard.header());
    std::uint64_t since = kLarge;
    for (BlockPosition position = shard.arena.heap_begin(); position < shard.arena.heap_end();) {
      const std::uint32_t size_units = shard.arena.shape(position).size_units;
      since += size_units * kUnitSize;
      if (since > kLarge / 2 && shard.contents.owning_ref(position) != 0) {
        REQUIRE(shard.hold(position) != PinSet::kNone);
        since = 0;
      }
      position += size_units;
    }
  }
  Clearing clearing = shard.clearing();
  Status status = Status::kOk;
  while (status == Status::kOk && !clearing.is_done()) status = shard.slice(clearing);
  CHECK(status == Status::kFull);
  CHECK(shard.header().counters.evictions == shard.evictions);
  CHECK(shard.space().retired == 0);
}

}  // namespace memstream::test
