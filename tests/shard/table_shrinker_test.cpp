// Giving back the memory of a table: when that is done, and where the entries are then.
#include "core/shard/table_shrinker.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "tests/support/shard_pieces.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kShardBytes = std::uint64_t{4} << 20;

// A table for many tiny values, of which every hundredth is left.
class Sparse : public ShardPieces {
 public:
  Sparse() : ShardPieces(kShardBytes) {
    int stored = 0;
    for (; header().counters.evictions == 0; ++stored) REQUIRE(set(std::to_string(stored), "tiny") == Status::kOk);
    for (int i = 0; i < stored; ++i) {
      if (i % 100 != 0) static_cast<void>(remove(std::to_string(i)));
    }
    for (int i = 0; i < stored; i += 100) kept += get(std::to_string(i)) == "tiny" ? 1 : 0;
    last = stored;
    cells = index.cells();
    REQUIRE(kept > 10);
  }
  // Asks for a block of so many bytes.
  void fit(std::uint64_t value_size) {
    const WriteLockScope held(header());
    shrinker.fit({.key = key("k"), .value_size = value_size});
  }
  std::uint64_t largest_free() {
    const BlockPosition free = arena.a_largest_free();
    return std::max<std::uint64_t>(free == 0 ? 0 : arena.shape(free).size_bytes(), arena.wilderness_bytes());
  }
  int left() {
    int found = 0;
    for (int i = 0; i < last; i += 100) found += get(std::to_string(i)) == "tiny" ? 1 : 0;
    return found;
  }

  int kept = 0;
  int last = 0;
  std::uint32_t cells = 0;
};

}  // namespace

TEST_CASE("a value that finds room leaves the table as it is") {
  Sparse shard;
  shard.fit(shard.largest_free() / 2);
  CHECK(shard.index.cells() == shard.cells);
  CHECK(shard.problems() == "");
}

TEST_CASE("a value that finds none gets the memory of a table that is much too large, and no entry is lost") {
  Sparse shard;
  const std::uint64_t before = shard.largest_free();
  const std::uint64_t seq = shard.header().seq;
  shard.fit(before + 1);
  CHECK(shard.index.cells() < shard.cells / 8);
  CHECK(shard.index.cells() == shard.space().table_cells);
  CHECK(shard.index.entry_capacity() >= 2 * static_cast<std::uint32_t>(shard.kept));
  CHECK(shard.header().seq == seq + 2);
  CHECK(shard.arena.wilderness_bytes() > (shard.cells - shard.index.cells()) * sizeof(Cell) / 2);
  CHECK(shard.left() == shard.kept);
  CHECK(shard.problems() == "");
}

TEST_CASE("a table whose memory would not be worth it stays, however large the value is") {
  ShardPieces shard(kShardBytes);
  for (int i = 0; i < 2000; ++i) REQUIRE(shard.set(std::to_string(i), "tiny") == Status::kOk);
  for (int i = 0; i < 1700; ++i) REQUIRE(shard.remove(std::to_string(i)) == Status::kOk);
  const std::uint32_t cells = shard.index.cells();
  REQUIRE(cells > shard.space().entries);
  {
    const WriteLockScope held(shard.header());
    shard.shrinker.fit({.key = shard.key("k"), .value_size = kShardBytes});
  }
  CHECK(shard.index.cells() == cells);
  CHECK(shard.problems() == "");
}

}  // namespace memstream::test
