// The rebuild: whatever a killed writer left half done or some stray write spoilt, the shard comes back with every
// value whose truth is whole, and says what it had to drop.
#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "core/shard/shard.h"
#include "tests/support/expectations.h"
#include "tests/support/scale.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

using Model = std::map<std::string, std::string>;

std::string random_bytes_of(std::mt19937& random, std::size_t size_bytes) { return pattern(size_bytes, random()); }

// Runs operations that leave holes, chains and replaced values behind, and returns what must be there after them.
Model fill(TestShard& cache, std::mt19937& random, int operations) {
  Model model;
  for (int i = 0; i < operations; ++i) {
    const std::string key = "key-" + std::to_string(random() % 400);
    if (random() % 3 == 0) {
      REQUIRE(cache.remove(key) == (model.erase(key) == 1 ? Status::kOk : Status::kMiss));
    } else {
      const std::string value = random_bytes_of(random, random() % (random() % 8 == 0 ? 6000 : 300));
      REQUIRE(cache.set(key, value) == Status::kOk);
      model[key] = value;
    }
  }
  REQUIRE(cache.counters().evictions == 0);
  return model;
}

void check_contents(TestShard& cache, const Model& model) {
  const auto scanned = cache.scan();
  CHECK(Model(scanned.begin(), scanned.end()) == model);
  for (const auto& [key, value] : model) CHECK(cache.get(key) == value);
  CHECK(cache.problems() == "");
}

BlockHeader& block_at(const TestShard& cache, std::uint32_t position) {
  return *reinterpret_cast<BlockHeader*>(cache.shard_data() + std::uint64_t{position} * kUnitSize);
}

// Overwrites everything that docs/layout.md calls derived with random bytes, or with zeros.
void spoil_derived(TestShard& cache, std::mt19937& random, bool zero) {
  const auto word = [&] { return zero ? 0U : static_cast<std::uint32_t>(random()); };
  ShardHeader& header = cache.header();
  for (auto& level : header.free_lists.heads) {
    for (std::uint32_t& head : level) head = word();
  }
  for (std::uint16_t& bins : header.free_lists.bin_bitmap) bins = static_cast<std::uint16_t>(word());
  header.free_lists.level_bitmap = word();
  ShardSpace& space = header.space;
  for (std::uint64_t* counter :
       {&space.max_memory, &space.used_memory, &space.pinned_memory, &space.key_memory, &space.value_memory,
        &space.free_memory, &space.commit_retry_ms, &space.small_memory, &space.small_target}) {
    *counter = word();
  }
  for (std::uint32_t* number :
       {&space.heap_end, &space.entries, &space.free_entry, &space.reclaim_hand, &space.small_hand, &space.main_hand,
        &space.small_left, &space.small_drops, &space.small_returns, &space.main_drops, &space.main_returns,
        &space.retired_hand, &space.retired, &space.main_looks, &space.main_reads, &space.usual_reads,
        &space.idle_sweeps, &space.most_idle_sweeps, &space.main_is_stale}) {
    *number = word();
  }
  for (std::uint32_t cell = 0; cell < header.cells; ++cell) {
    Bucket& bucket = Index::bucket(&header, cell);
    bucket.version = word();
    bucket.overflow = word();
    bucket.eviction = word() | std::uint64_t{word()} << 32;
    for (auto& tags : bucket.tags) tags = word();
    for (auto& slot : bucket.slots) slot = word();
    for (std::uint32_t slot = kBucketSlots; slot < kSlotsPerCell; ++slot) {
      Entry& entry = Index::entry_unchecked(&header, EntryId{cell * kSlotsPerCell + slot});
      entry.hash = word();
      entry.next = word();
      entry.policy = word();
    }
  }
  const auto heap_end = static_cast<std::uint32_t>(cache.shard_size() / kUnitSize);
  for (std::uint32_t position = space.heap_begin; position < heap_end;) {
    BlockHeader& block = block_at(cache, position);
    BlockShape shape = BlockShape::unpack(block.shape);
    position += shape.size_units;
    const bool is_retired = (shape.flags & kBlockRetired) != 0;
    if (!shape.used() || is_retired) block.owner = word() | std::uint64_t{word()} << 32;
    shape.flags ^= word() & (kBlockPrevFree | kBlockRetired);
    block.shape = shape.pack();
  }
}

TEST_CASE("everything derived is made anew, from zeros and from random bytes") {
  std::mt19937 random(11);
  for (int round = 0; round < scaled(20); ++round) {
    TestShard cache(2U << 20);
    const Model model = fill(cache, random, 1500);
    const ShardStatistics before = cache.statistics();
    // Pins on a live value, on a replaced one, on a deleted one, and a reservation.
    REQUIRE(cache.set("live", "live value") == Status::kOk);
    REQUIRE(cache.set("gone", "gone value") == Status::kOk);
    PinnedBlock live, gone, reserved;
    REQUIRE(cache.pin("live", &live) == Status::kOk);
    REQUIRE(cache.pin("gone", &gone) == Status::kOk);
    REQUIRE(cache.remove("gone") == Status::kOk);
    REQUIRE(cache.reserve("reserved", 8, &reserved) == Status::kOk);
    const std::uint64_t pinned_memory = cache.statistics().pinned_memory;

    spoil_derived(cache, random, round % 2 == 0);
    cache.recover();

    Model expected = model;
    expected["live"] = "live value";
    check_contents(cache, expected);
    const ShardStatistics after = cache.statistics();
    CHECK(after.pinned_memory == pinned_memory);
    CHECK(after.value_memory == before.value_memory + 10);
    CHECK(after.max_memory == before.max_memory);
    CHECK(after.counters.recoveries == 1);
    CHECK(after.counters.damaged == 0);
    CHECK(std::memcmp(gone.value, "gone value", 10) == 0);
    std::memcpy(reserved.value, "reserved", 8);
    REQUIRE(cache.commit("reserved", reserved) == Status::kOk);
    REQUIRE(cache.unpin(gone) == Status::kOk);
    REQUIRE(cache.unpin(live) == Status::kOk);
    expected["reserved"] = "reserved";
    check_contents(cache, expected);
    CHECK(cache.statistics().pinned_memory == 0);
  }
}

TEST_CASE("rebuilding twice is rebuilding once") {
  std::mt19937 random(12);
  TestShard cache;
  const Model model = fill(cache, random, 800);
  cache.recover();
  const ShardStatistics once = cache.statistics();
  cache.recover();
  const ShardStatistics twice = cache.statistics();
  CHECK(twice.used_memory == once.used_memory);
  CHECK(twice.entries == once.entries);
  CHECK(twice.committed_memory == once.committed_memory);
  CHECK(twice.counters.recoveries == 2);
  check_contents(cache, model);
}

TEST_CASE("a shard that was rebuilt works on, until it is full and beyond") {
  std::mt19937 random(13);
  TestShard cache;
  fill(cache, random, 800);
  spoil_derived(cache, random, false);
  cache.recover();
  for (int i = 0; i < 4000; ++i) {
    const std::string key = "new-" + std::to_string(i);
    REQUIRE(cache.set(key, pattern(random() % 3000, i)) == Status::kOk);
    REQUIRE(cache.get(key).has_value());
  }
  CHECK(cache.counters().evictions > 0);
  CHECK(cache.problems() == "");
}

TEST_CASE("what a writer that died had not committed is free again; what it had committed is there") {
  TestShard cache;
  REQUIRE(cache.set("key", "old") == Status::kOk);
  Arena arena(&cache.header(), cache.geometry().shards_offset, cache.shard_size(), &cache.segment());
  SUBCASE("a block that nobody owns yet") { REQUIRE(arena.allocate(Units{100}, cache.now_ms) != 0); }
  SUBCASE("a free entry that was taken") { REQUIRE(Index(&cache.header()).take_free_entry() != 0); }
  SUBCASE("a deleted entry that is still in its bucket, its block not freed") {
    Entry& entry = cache.entry("key");
    entry.ref = ref_empty(entry.ref);
    cache.recover();
    CHECK(cache.get("key") == std::nullopt);
    REQUIRE(cache.set("key", "old") == Status::kOk);
  }
  SUBCASE("a stored entry that no bucket names yet") {
    Index(&cache.header()).unlink(owner_entry(cache.block("key").owner));
  }
  SUBCASE("a bucket in the middle of a change") { Index::bucket(&cache.header(), 0).version.fetch_or(1); }
  SUBCASE("a table that was raised and not yet used") { REQUIRE(arena.raise_table(cache.now_ms)); }
  cache.recover();
  CHECK(cache.get("key") == "old");
  CHECK(cache.problems() == "");
  CHECK(cache.counters().damaged == 0);
}

TEST_CASE("damaged entries are dropped and counted, the others stay") {
  std::mt19937 random(14);
  struct Damage {
    const char* what;
    void (*plant)(TestShard&);
  };
  for (const Damage& damage :
       {Damage{"a ref into the header", [](TestShard& s) { s.entry("victim").ref = kLiveBit | 1; }},
        Damage{"a ref behind the end", [](TestShard& s) { s.entry("victim").ref = kLiveBit | 0xffff'ffff; }},
        Damage{"a ref into the middle of a block", [](TestShard& s) { s.entry("victim").ref.fetch_add(1); }},
        Damage{"a ref to another's block", [](TestShard& s) { s.entry("victim").ref = s.entry("other").ref.load(); }},
        Damage{"a block that names another entry",
               [](TestShard& s) { s.block("victim").owner = s.block("other").owner.load(); }},
        Damage{"a block marked free",
               [](TestShard& s) { s.block("victim").shape.fetch_and(~(std::uint64_t{kBlockUsed} << 32)); }},
        Damage{"a key of no bytes", [](TestShard& s) { s.block("victim").shape.fetch_and(0x0000'ffff'ffff'ffff); }},
        Damage{"a key of too many",
               [](TestShard& s) { s.block("victim").shape.fetch_or(std::uint64_t{0xffff} << 48); }}}) {
    CAPTURE(std::string(damage.what));
    TestShard cache(2U << 20);
    Model model = fill(cache, random, 300);
    model["other"] = "other value";
    REQUIRE(cache.set("other", "other value") == Status::kOk);
    REQUIRE(cache.set("victim", pattern(100, 5)) == Status::kOk);
    damage.plant(cache);
    cache.recover();
    CHECK(cache.counters().damaged == 1);
    CHECK(cache.get("victim") == std::nullopt);
    check_contents(cache, model);
  }
}

// What a shard cannot be walked without.
struct Ruin {
  const char* what;
  void (*plant)(TestShard&);
};
const Ruin kRuins[] = {
    {"a block of no size", [](TestShard& s) { s.block("victim").shape.fetch_and(~std::uint64_t{0xffff'ffff}); }},
    {"a block larger than the heap", [](TestShard& s) { s.block("victim").shape.fetch_or(0x7fff'ffff); }},
    {"a heap that begins in the header", [](TestShard& s) { s.header().space.heap_begin = 3; }},
    {"a heap that begins behind the end", [](TestShard& s) { s.header().space.heap_begin = 0xffff'ffff; }},
    {"a table of no cells", [](TestShard& s) { s.header().cells = 0; }},
    {"more cells than room", [](TestShard& s) { s.header().cells = s.header().space.table_cells + 1; }},
    {"a table larger than the shard", [](TestShard& s) { s.header().space.table_cells = 0xffff'ffff; }},
};

TEST_CASE("a shard whose truth is lost is emptied, says so, and works on") {
  for (const Ruin& ruin : kRuins) {
    CAPTURE(ruin.what);
    TestShard cache;
    std::mt19937 random(15);
    fill(cache, random, 300);
    REQUIRE(cache.set("victim", "value") == Status::kOk);
    ruin.plant(cache);
    cache.recover();
    CHECK(cache.statistics().entries == 0);
    CHECK(cache.counters().damaged == 1);
    CHECK(cache.counters().recoveries == 1);
    CHECK(cache.problems() == "");
    for (int i = 0; i < 2000; ++i) REQUIRE(cache.set("new-" + std::to_string(i), pattern(900, i)) == Status::kOk);
    CHECK(cache.get("new-1999") == pattern(900, 1999));
    CHECK(cache.problems() == "");
  }
}

TEST_CASE("one shard is emptied alone: the one beside it keeps its values") {
  TestSegment segment(2U << 20, 2);
  const Deadline deadline{std::chrono::seconds(2)};
  Shard first(&segment.segment(), segment.geometry(), 0, segment.attached().hash_seed);
  Shard second(&segment.segment(), segment.geometry(), 1, segment.attached().hash_seed);
  const Key key{"key", hash_key("key", segment.attached().hash_seed)};
  for (Shard* shard : {&first, &second}) {
    REQUIRE(shard->store({.key = key, .value = reinterpret_cast<const std::byte*>("value"), .value_size = 5},
                         {deadline, 1}) == Status::kOk);
  }
  auto& header = *reinterpret_cast<ShardHeader*>(segment.data() + segment.geometry().shard_offset(0));
  header.space.heap_begin = 1;
  header.needs_recovery = 1;
  std::byte room[8];
  ShardStatistics statistics{};
  REQUIRE(first.statistics(deadline, &statistics) == Status::kOk);
  CHECK(statistics.entries == 0);
  CHECK(first.get(key, {room, sizeof room}, {deadline, 1}).status == Status::kMiss);
  CHECK(second.get(key, {room, sizeof room}, {deadline, 1}).status == Status::kOk);
}

// Nobody died, but something wrote where it should not: whoever meets it repairs it and goes on.
TEST_CASE("an operation that meets damage repairs the shard and succeeds") {
  struct Damage {
    const char* what;
    void (*plant)(TestShard&);
  };
  for (const Damage& damage :
       {Damage{"free lists that lead out of the heap",
               [](TestShard& s) {
                 for (auto& level : s.header().free_lists.heads) {
                   for (std::uint32_t& head : level) head = 1;
                 }
                 s.header().free_lists.level_bitmap = 0xffff'ffff;
               }},
        Damage{"a free list of used blocks",
               [](TestShard& s) {
                 for (auto& level : s.header().free_lists.heads) {
                   for (std::uint32_t& head : level) head = ref_block(s.entry("key-1").ref);
                 }
               }},
        Damage{"a list of free entries that leads out of the table",
               [](TestShard& s) { s.header().space.free_entry = 1U << 30; }},
        Damage{"a live entry in the list of free ones",
               [](TestShard& s) { s.header().space.free_entry = owner_entry(s.block("key-1").owner); }},
        Damage{"buckets in a change that does not end",
               [](TestShard& s) {
                 for (std::uint32_t cell = 0; cell < s.header().cells; ++cell) {
                   Index::bucket(&s.header(), cell).version.fetch_or(1);
                 }
               }},
        Damage{"a rebuild that did not end", [](TestShard& s) { s.header().seq.fetch_or(1); }},
        Damage{"chains that go round", [](TestShard& s) {
                 const std::uint32_t id = owner_entry(s.block("key-1").owner);
                 s.entry("key-1").next = id;
                 for (std::uint32_t cell = 0; cell < s.header().cells; ++cell) {
                   Index::bucket(&s.header(), cell).overflow = id;
                 }
               }}}) {
    CAPTURE(damage.what);
    TestShard cache;
    for (int i = 0; i < 50; ++i) REQUIRE(cache.set("key-" + std::to_string(i), pattern(200, i)) == Status::kOk);
    for (int i = 10; i < 30; i += 2) REQUIRE(cache.remove("key-" + std::to_string(i)) == Status::kOk);
    damage.plant(cache);
    CHECK(cache.get("absent") == std::nullopt);
    for (int i = 0; i < 10; ++i) CHECK(cache.set("new-" + std::to_string(i), pattern(200, i)) == Status::kOk);
    CHECK(cache.remove("key-2") == Status::kOk);
    for (int i = 3; i < 10; ++i) CHECK(cache.get("key-" + std::to_string(i)) == pattern(200, i));
    for (int i = 0; i < 10; ++i) CHECK(cache.get("new-" + std::to_string(i)) == pattern(200, i));
    CHECK(cache.statistics().entries == 49);
  }
}

}  // namespace
}  // namespace memstream::test
