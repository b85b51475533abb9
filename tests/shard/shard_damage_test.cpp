// What a writer does in a shard that some stray write has spoilt: it never leaves the shard's bytes, repairs what it
// meets, and ends the pins that hold nothing.
#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "core/cache/cache.h"
#include "core/shard/shard.h"
#include "tests/support/expectations.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

// Writes another key of the same length into the block of one.
void rename(TestShard& cache, const std::string& key, const std::string& to) {
  to.copy(reinterpret_cast<char*>(&cache.block(key) + 1), to.size());
}

struct Spoilt {
  const char* what;
  void (*plant)(TestShard&);
};

TEST_CASE("borders that cannot be are noticed before anything is computed from them") {
  for (const Spoilt& spoilt : {
           Spoilt{"an end behind the shard", [](TestShard& s) { s.header().space.heap_end = 0xffff'ffff; }},
           Spoilt{"an end of nothing", [](TestShard& s) { s.header().space.heap_end = 0; }},
           Spoilt{"a beginning in the header", [](TestShard& s) { s.header().space.heap_begin = 0; }},
           Spoilt{"a beginning behind the shard", [](TestShard& s) { s.header().space.heap_begin = 0xffff'fff0; }},
           Spoilt{"more cells than fit", [](TestShard& s) { s.header().cells = 0x00ff'ffff; }},
           Spoilt{"a table beyond the shard", [](TestShard& s) { s.header().space.table_cells = 0x0fff'fff0; }},
           Spoilt{"half a page of table", [](TestShard& s) { s.header().space.table_cells = 17; }},
           Spoilt{"the number of another shard", [](TestShard& s) { s.header().index = 7; }},
           Spoilt{"a table committed beyond the end", [](TestShard& s) { s.header().space.table_committed = ~0ULL; }},
           Spoilt{"a heap committed beyond the end", [](TestShard& s) { s.header().space.heap_committed = ~0ULL; }},
       }) {
    for (int operation = 0; operation < 5; ++operation) {
      CAPTURE(spoilt.what);
      CAPTURE(operation);
      TestShard cache;
      for (int i = 0; i < 50; ++i) REQUIRE(cache.set("key-" + std::to_string(i), pattern(200, i)) == Status::kOk);
      spoilt.plant(cache);
      PinnedBlock reserved;
      switch (operation) {
        case 0:
          CHECK(cache.set("new", pattern(60'000, 1)) == Status::kOk);
          break;
        case 1:
          CHECK(cache.shard.clear(cache.deadline()) == Status::kOk);
          break;
        case 2:
          CHECK(cache.reserve("new", 5000, &reserved) == Status::kOk);
          CHECK(cache.commit("new", reserved) == Status::kOk);
          break;
        case 3:
          CHECK(cache.problems().find("borders") != std::string::npos);
          CHECK(cache.remove("absent") == Status::kMiss);
          break;
        default:
          for (int i = 0; i < 200; ++i) CHECK(cache.set("new-" + std::to_string(i), "value") == Status::kOk);
      }
      CHECK(cache.problems() == "");
      CHECK(cache.set("after", "value") == Status::kOk);
      CHECK(cache.get("after") == "value");
    }
  }
}

TEST_CASE("of two entries with one key a rebuild keeps one") {
  TestShard cache;
  REQUIRE(cache.set("key-a", "first") == Status::kOk);
  REQUIRE(cache.set("key-b", "second") == Status::kOk);
  rename(cache, "key-b", "key-a");
  cache.recover();
  CHECK(cache.statistics().entries == 1);
  CHECK(cache.counters().damaged == 1);
  CHECK(cache.get("key-a").has_value());
  CHECK(cache.problems() == "");
}

TEST_CASE("an entry whose key belongs to another shard is dropped by a rebuild") {
  TestSegment segment(2U << 20, 2);
  const Deadline deadline{std::chrono::seconds(2)};
  Shard first(&segment.segment(), segment.geometry(), 0, segment.attached().hash_seed);
  std::string mine, foreign;
  for (int i = 0; mine.empty() || foreign.empty(); ++i) {
    const std::string key = "key-" + std::to_string(100 + i);
    (hash_key(key, segment.attached().hash_seed).shard(2) == 0 ? mine : foreign) = key;
  }
  const auto* value = reinterpret_cast<const std::byte*>("value");
  const StoreRequest request{
      .key = {mine, hash_key(mine, segment.attached().hash_seed)}, .value = value, .value_size = 5};
  REQUIRE(first.store(request, {deadline, 1}) == Status::kOk);
  std::byte* shard = segment.data() + segment.geometry().shard_offset(0);
  auto& header = *reinterpret_cast<ShardHeader*>(shard);
  std::memcpy(shard + std::size_t{header.space.heap_begin} * kUnitSize + sizeof(BlockHeader), foreign.data(),
              foreign.size());
  header.needs_recovery = 1;
  std::vector<std::string> problems;
  REQUIRE(first.check(deadline, &problems) == Status::kOk);
  CHECK(problems.empty());
  CHECK(header.counters.damaged == 1);
  CHECK(header.space.entries == 0);
}

TEST_CASE("a block that is held stays through a rebuild whatever its sizes say, and what held it can let go") {
  TestShard cache;
  REQUIRE(cache.set("key", pattern(100, 1)) == Status::kOk);
  PinnedBlock pinned;
  REQUIRE(cache.pin("key", &pinned) == Status::kOk);
  cache.block("key").shape.fetch_or(std::uint64_t{0xffff} << 48);
  cache.recover();
  CHECK(cache.get("key") == std::nullopt);
  CHECK(cache.problems() == "");
  CHECK(cache.statistics().pinned_memory != 0);
  CHECK(std::memcmp(pinned.value, pattern(100, 1).data(), 100) == 0);
  CHECK(cache.unpin(pinned) == Status::kOk);
  CHECK(cache.statistics().pinned_memory == 0);
  CHECK(cache.problems() == "");
}

TEST_CASE("a live value that is held stays in place when a rebuild drops its entry") {
  TestShard cache;
  REQUIRE(cache.set("key-a", "first") == Status::kOk);
  REQUIRE(cache.set("key-b", "second") == Status::kOk);
  PinnedBlock pinned;
  REQUIRE(cache.pin("key-b", &pinned) == Status::kOk);
  rename(cache, "key-b", "key-a");
  cache.recover();
  for (int i = 0; i < 20; ++i) REQUIRE(cache.set("new-" + std::to_string(i), pattern(20, i)) == Status::kOk);
  CHECK(std::memcmp(pinned.value, "second", 6) == 0);
  CHECK(cache.unpin(pinned) == Status::kOk);
  CHECK(cache.problems() == "");
}

TEST_CASE("a reservation that was written over is not committed") {
  TestShard cache;
  PinnedBlock reserved;
  REQUIRE(cache.reserve("key", 100, &reserved) == Status::kOk);
  std::byte* block = cache.shard_data() + std::size_t{reserved.position} * kUnitSize;
  SUBCASE("its key") { block[kMinBlockUnits * kUnitSize] ^= std::byte{1}; }
  SUBCASE("its flags") { reinterpret_cast<BlockHeader*>(block)->shape.fetch_xor(std::uint64_t{kBlockExtras} << 32); }
  SUBCASE("its sizes") { reinterpret_cast<BlockHeader*>(block)->shape.fetch_add(std::uint64_t{8} << 46); }
  CHECK(cache.commit("key", reserved) == Status::kCorrupt);
  CHECK(message_has("reservation"));
  CHECK(cache.get("key") == std::nullopt);
  CHECK(cache.problems() == "");
}

TEST_CASE("a reservation whose shard was emptied is no more") {
  TestShard cache;
  PinnedBlock reserved;
  REQUIRE(cache.reserve("key", 100, &reserved) == Status::kOk);
  cache.header().cells = 0;
  cache.recover();
  for (int i = 0; i < 20; ++i) REQUIRE(cache.set("new-" + std::to_string(i), pattern(90, i)) == Status::kOk);
  CHECK(cache.commit("key", reserved) == Status::kBadHandle);
  CHECK(cache.unpin(reserved) == Status::kBadHandle);
  for (int i = 0; i < 20; ++i) CHECK(cache.get("new-" + std::to_string(i)) == pattern(90, i));
  CHECK(cache.problems() == "");
}

TEST_CASE("what is held while its shard is emptied under the call: a release is done, a commit says what happened") {
  TestShard cache;
  REQUIRE(cache.set("key", pattern(90, 1)) == Status::kOk);
  PinnedBlock reserved;
  REQUIRE(cache.reserve("key", 100, &reserved) == Status::kOk);
  SUBCASE("commit") {
    cache.block("key").shape = 0;  // The look for the key meets it, and so does the rebuild, which has to give up.
    CHECK(cache.commit("key", reserved) == Status::kCorrupt);
    CHECK(message_has("has been emptied"));
  }
  SUBCASE("commit into a shard whose borders make no sense") {
    cache.header().cells = 0;
    cache.header().space.heap_begin = 0;
    CHECK(cache.commit("key", reserved) == Status::kCorrupt);
    CHECK(message_has("has been emptied"));
  }
  SUBCASE("release into a shard whose borders make no sense") {
    cache.header().cells = 0;
    cache.header().space.heap_begin = 0;
    CHECK(cache.unpin(reserved) == Status::kOk);
  }
  CHECK(cache.get("key") == std::nullopt);
  CHECK(cache.unpin(reserved) == Status::kBadHandle);
  CHECK(cache.problems() == "");
}

TEST_CASE("a reservation that meets damage leaves no pin but its own") {
  TestShard cache;
  PinnedBlock first, second;
  REQUIRE(cache.reserve("first", 100, &first) == Status::kOk);
  cache.header().space.retired_hand = 1;
  REQUIRE(cache.reserve("second", 100, &second) == Status::kOk);
  int pins = 0;
  for (const auto& pin : cache.process_slot(0).pins) pins += pin != 0 ? 1 : 0;
  CHECK(pins == 2);
  CHECK(cache.unpin(first) == Status::kOk);
  CHECK(cache.unpin(second) == Status::kOk);
  CHECK(cache.statistics().pinned_memory == 0);
  CHECK(cache.problems() == "");
}

TEST_CASE("pins that name no block are reported, and gone after a rebuild") {
  TestShard cache;
  REQUIRE(cache.set("key", pattern(100, 1)) == Status::kOk);
  const std::uint64_t shard = cache.geometry().shards_offset;
  const std::uint64_t block = shard + std::uint64_t{cache.header().space.heap_begin} * kUnitSize;
  ProcessSlot& slot = cache.process_slot(1);
  slot.pid = kDeadPid;
  slot.pins[0] = block + 3 * kUnitSize;  // In the middle of a value.
  slot.pins[1] = block + 2;              // Between two units.
  slot.pins[2] = shard + 64;             // In the shard's header.
  slot.pins[3] = block;
  slot.pins[4] = (block + 3 * kUnitSize) | kPinIsTentative;  // Of somebody who is about to see that it holds nothing.
  CHECK(cache.problems().find("3 pins") != std::string::npos);
  cache.recover();
  CHECK(cache.problems() == "");
  for (int pin = 0; pin < 3; ++pin) CHECK(slot.pins[pin] == 0);
  CHECK(slot.pins[3] == block);
  CHECK(slot.pins[4] == ((block + 3 * kUnitSize) | kPinIsTentative));
}

// Each kind of damage in the ring of retired blocks, met where room is wanted, where a view leaves one behind, and
// where the numbers are asked for: the shard is rebuilt, and what is held stays held.
TEST_CASE("a damaged ring of retired is made anew, and no view loses its value") {
  const auto other_link = [](TestShard& cache) { return ref_block(cache.entry("other").ref); };
  struct Damage {
    const char* what;
    std::function<void(TestShard&, BlockHeader& orphan)> happen;
  };
  const Damage damages[] = {
      {"an owner", [](TestShard&, BlockHeader& orphan) { orphan.shape.fetch_xor(std::uint64_t{kBlockRetired} << 32); }},
      {"a link out of bounds",
       [](TestShard&, BlockHeader& orphan) { orphan.owner = links_word(BlockPosition{1}, BlockPosition{1}); }},
      {"a link to a value",
       [&](TestShard& cache, BlockHeader& orphan) { orphan.owner = links_word(other_link(cache), other_link(cache)); }},
      {"a hand on a value",
       [&](TestShard& cache, BlockHeader&) { cache.header().space.retired_hand = other_link(cache); }},
      {"no hand", [](TestShard& cache, BlockHeader&) { cache.header().space.retired_hand = 0; }},
      {"too many", [](TestShard& cache, BlockHeader&) { cache.header().space.retired = 1000; }},
      {"none", [](TestShard& cache, BlockHeader&) { cache.header().space.retired = 0; }},
  };
  for (const Damage& damage : damages) {
    CAPTURE(damage.what);
    for (const int use : {0, 1, 2}) {
      CAPTURE(use);
      TestShard cache;
      REQUIRE(cache.set("other", pattern(100, 2)) == Status::kOk);
      PinnedBlock held[4];
      for (int i = 0; i < 4; ++i) {
        REQUIRE(cache.set("key-" + std::to_string(i), pattern(5000, i)) == Status::kOk);
        REQUIRE(cache.pin("key-" + std::to_string(i), &held[i]) == Status::kOk);
        if (i < 3) REQUIRE(cache.remove("key-" + std::to_string(i)) == Status::kOk);
      }
      auto& orphan = *reinterpret_cast<BlockHeader*>(cache.shard_data() +
                                                     std::uint64_t{cache.header().space.retired_hand} * kUnitSize);
      damage.happen(cache, orphan);
      if (use == 0) {  // Everything goes that can.
        for (int i = 0; i < 400; ++i) REQUIRE(cache.set("new-" + std::to_string(i), pattern(5000, 9)) == Status::kOk);
      } else if (use == 1) {
        REQUIRE(cache.set("key-3", "small") == Status::kOk);
      } else {
        static_cast<void>(cache.statistics());
      }
      for (int i = 0; i < 4; ++i) CHECK(std::memcmp(held[i].value, pattern(5000, i).data(), 5000) == 0);
      cache.recover();
      // A rebuild goes by what stands where a retired block has its links.
      if (use != 0) CHECK(cache.get("other") == pattern(100, 2));
      CHECK(cache.problems() == "");
      for (int i = 0; i < 3; ++i) CHECK(cache.unpin(held[i]) == Status::kOk);
      CHECK(cache.unpin(held[3]) == Status::kOk);
      CHECK(cache.statistics().pinned_memory == 0);
      CHECK(cache.problems() == "");
    }
  }
}

TEST_CASE("a dead process is cleaned up after whatever its pins say") {
  TestSegment segment;
  std::unique_ptr<Cache> cache;
  REQUIRE(Cache::open(segment.attach(Access::kReadWrite), segment.name(), std::chrono::seconds(2), &cache) ==
          Status::kOk);
  for (std::uint32_t i = 1; i < 4; ++i) segment.process_slot(i).generation = 1;
  ProcessSlot& slot = segment.process_slot(3);
  slot.pid = kDeadPid;
  slot.pins[0] = segment.geometry().shards_offset + 5001;
  slot.pins[1] = ~std::uint64_t{0};
  slot.pins[2] = 1;
  CacheStatistics statistics;
  CHECK(cache->statistics(&statistics) == Status::kOk);
  CHECK(statistics.dead_processes == 1);
  CHECK(statistics.processes == 1);
  CHECK(slot.pid == 0);
  for (int pin = 0; pin < 3; ++pin) CHECK(slot.pins[pin] == 0);
}

TEST_CASE("free lists that share their blocks do not keep the checker busy") {
  TestShard cache;
  for (int i = 0; i < 400; ++i) REQUIRE(cache.set("key-" + std::to_string(i), pattern(20, i)) == Status::kOk);
  for (int i = 0; i < 400; i += 2) REQUIRE(cache.remove("key-" + std::to_string(i)) == Status::kOk);
  auto& heads = cache.header().free_lists.heads;
  std::uint32_t longest = 0;
  for (std::uint32_t bin = 0; bin < kBinsPerLevel; ++bin) longest = heads[0][bin] != 0 ? heads[0][bin] : longest;
  REQUIRE(longest != 0);
  for (auto& level : heads) {
    for (std::uint32_t& head : level) head = longest;
  }
  CHECK(cache.problems().find("a free list that does not end") != std::string::npos);
}

}  // namespace
}  // namespace memstream::test
