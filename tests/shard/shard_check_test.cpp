// The checker itself: each kind of corruption, planted in a shard that was sound, is found and named.
#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/shard/shard.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

// A shard with live entries, a free block between two of them, a pin and three retired blocks: something of everything.
class SoundShard : public TestShard {
 public:
  SoundShard() {
    for (int i = 0; i < 60; ++i) REQUIRE(set("key-" + std::to_string(i), pattern(500, 1)) == Status::kOk);
    REQUIRE(remove("key-20") == Status::kOk);
    PinnedBlock pinned;
    for (const char* held : {"key-3", "key-40", "key-42", "key-44"}) REQUIRE(pin(held, &pinned) == Status::kOk);
    for (const char* orphaned : {"key-40", "key-42", "key-44"}) REQUIRE(remove(orphaned) == Status::kOk);
    REQUIRE(problems() == "");
  }

  // The free block that key-20 left, and its bin.
  std::uint32_t free_block() const {
    for (const auto& level : header().free_lists.heads) {
      for (const std::uint32_t head : level) {
        if (head != 0) return head;
      }
    }
    throw std::runtime_error("no free block");
  }
  BlockHeader& block_at(std::uint32_t position) const {
    return *reinterpret_cast<BlockHeader*>(shard_data() + std::uint64_t{position} * kUnitSize);
  }
  Bucket& bucket_of(std::string_view key_bytes) const {
    return Index::bucket(&header(), Index::bucket_of(key(key_bytes).hash.bucket_bits(), header().cells));
  }
  BlockHeader& orphan() const { return block_at(header().space.retired_hand); }
  EntryId id_of(std::string_view key_bytes) { return owner_entry(block(key_bytes).owner); }
};

void change_shape(BlockHeader& block, void (*change)(BlockShape&)) {
  BlockShape shape = BlockShape::unpack(block.shape);
  change(shape);
  block.shape = shape.pack();
}

struct Corruption {
  const char* problem;  // What the checker says of it.
  void (*plant)(SoundShard&);
};

const Corruption kCorruptions[] = {
    {"borders of table and heap", [](SoundShard& s) { s.header().space.table_cells = 1U << 20; }},
    {"borders of table and heap", [](SoundShard& s) { s.header().cells = s.header().space.table_cells + 1; }},
    {"wrong mark about the block before it",
     [](SoundShard& s) { change_shape(s.block("key-7"), [](BlockShape& shape) { shape.flags ^= kBlockPrevFree; }); }},
    {"free beside free space",
     [](SoundShard& s) {
       const std::uint32_t free = s.free_block();
       const std::uint32_t next = free + BlockShape::unpack(s.block_at(free).shape).size_units;
       change_shape(s.block_at(next), [](BlockShape& shape) { shape.flags &= ~kBlockUsed; });
     }},
    {"its sizes contradict one another",
     [](SoundShard& s) { change_shape(s.block("key-7"), [](BlockShape& shape) { shape.key_size = 1000; }); }},
    {"retired: the shard notes 2", [](SoundShard& s) { s.header().space.retired -= 1; }},
    {"a ring of retired blocks with something else in it",
     [](SoundShard& s) { s.header().space.retired_hand = ref_block(s.entry("key-7").ref); }},
    {"a ring of retired blocks that is not linked both ways",
     [](SoundShard& s) { s.orphan().owner = links_word(ref_block(s.entry("key-7").ref), BlockPosition{0}); }},
    {"a ring of retired blocks that is not linked both ways",
     [](SoundShard& s) { s.orphan().owner = links_word(link_next(s.orphan().owner), BlockPosition{0}); }},
    {"retired in their ring: the shard notes 3, a walk finds 1",
     [](SoundShard& s) {
       s.orphan().owner =
           links_word(BlockPosition{s.header().space.retired_hand}, BlockPosition{s.header().space.retired_hand});
     }},
    {"retired in their ring: the shard notes 3, a walk finds 0",
     [](SoundShard& s) { s.header().space.retired_hand = 0; }},
    {"used by nobody",
     [](SoundShard& s) { change_shape(s.orphan(), [](BlockShape& shape) { shape.flags ^= kBlockRetired; }); }},
    {"live, and marked as nobody's",
     [](SoundShard& s) { change_shape(s.block("key-7"), [](BlockShape& shape) { shape.flags ^= kBlockRetired; }); }},
    {"used by nobody",
     [](SoundShard& s) {
       Arena arena(&s.header(), s.geometry().shards_offset, s.shard_size(), &s.segment());
       REQUIRE(arena.allocate(Units{10}, s.now_ms) != 0);
     }},
    {"used by nobody", [](SoundShard& s) { s.entry("key-7").ref = ref_empty(s.entry("key-7").ref); }},
    {": used memory: the shard notes", [](SoundShard& s) { s.header().space.used_memory += 16; }},
    {": pinned memory: the shard notes", [](SoundShard& s) { s.header().space.pinned_memory += 16; }},
    {": free memory: the shard notes", [](SoundShard& s) { s.header().space.free_memory += 16; }},
    {": key memory: the shard notes", [](SoundShard& s) { s.header().space.key_memory -= 1; }},
    {": value memory: the shard notes", [](SoundShard& s) { s.header().space.value_memory -= 1; }},
    {": entries: the shard notes", [](SoundShard& s) { s.header().space.entries += 1; }},
    {"wrong bit in the bitmap", [](SoundShard& s) { s.header().free_lists.bin_bitmap[0] ^= 1U << 5; }},
    {"free lists of level 20: wrong bit in the bitmap",
     [](SoundShard& s) { s.header().free_lists.level_bitmap ^= 1U << 20; }},
    {"used and in a free list",
     [](SoundShard& s) {
       change_shape(s.block_at(s.free_block()), [](BlockShape& shape) { shape.flags |= kBlockUsed; });
     }},
    {"a free list that is not linked both ways",
     [](SoundShard& s) { s.block_at(s.free_block()).owner = s.free_block(); }},
    {": memory in free lists: the shard notes", [](SoundShard& s) { s.header().free_lists = {}; }},
    {"a block of impossible size",
     [](SoundShard& s) { change_shape(s.block("key-7"), [](BlockShape& shape) { shape.size_units = 1; }); }},
    {"a block of impossible size",
     [](SoundShard& s) { change_shape(s.block("key-7"), [](BlockShape& shape) { shape.size_units = 1U << 30; }); }},
    {"a block out of bounds", [](SoundShard& s) { s.block_at(s.free_block()).owner = 1; }},
    {"its block names entry", [](SoundShard& s) { s.block("key-7").owner = owner_word(s.id_of("key-8"), 0); }},
    {"its key does not lead to it",
     [](SoundShard& s) { s.bucket_of("key-7").tags[0] = s.bucket_of("key-7").tags[1] = 0x0101'0101'0101'0101; }},
    {"its key does not lead to it", [](SoundShard& s) { s.entry("key-7").hash.fetch_xor(1); }},
    {"a live entry whose block makes no sense", [](SoundShard& s) { s.entry("key-7").ref = kLiveBit | 1; }},
    {": entries in buckets: the shard notes",
     [](SoundShard& s) {
       for (auto& slot : s.bucket_of("key-7").slots) slot = 0;
     }},
    {"a chain that does not end",
     [](SoundShard& s) {
       s.entry("key-7").next = s.id_of("key-7");
       s.bucket_of("key-7").overflow = s.id_of("key-7");
     }},
    {"a change that did not end", [](SoundShard& s) { s.bucket_of("key-7").version.fetch_or(1); }},
    {": free entries: the shard notes", [](SoundShard& s) { s.header().space.free_entry = 0; }},
    {"a list of free entries that does not end",
     [](SoundShard& s) {
       const EntryId first{s.header().space.free_entry};
       REQUIRE(first != 0);
       Index::entry_unchecked(&s.header(), first).next = first;
     }},
    {"an entry out of bounds", [](SoundShard& s) { s.header().space.free_entry = 1U << 30; }},
    {"a rebuild that did not end", [](SoundShard& s) { s.header().seq.fetch_or(1); }},
};

TEST_CASE("each corruption is found and named") {
  for (const Corruption& corruption : kCorruptions) {
    SoundShard shard;
    corruption.plant(shard);
    const std::string problems = shard.problems();
    CAPTURE(problems);
    CHECK_MESSAGE(problems.find(corruption.problem) != std::string::npos, corruption.problem);
  }
}

TEST_CASE("a key that lies in the wrong shard is found") {
  TestSegment segment(2U << 20, 2);
  const std::string key = "some key";
  const KeyHash hash = hash_key(key, segment.attached().hash_seed);
  Shard wrong(&segment.segment(), segment.geometry(), 1 - hash.shard(2), segment.attached().hash_seed);
  const Deadline deadline{std::chrono::seconds(1)};
  REQUIRE(wrong.store({.key = {key, hash}}, {deadline, 1}) == Status::kOk);
  std::vector<std::string> problems;
  REQUIRE(wrong.check(deadline, &problems) == Status::kOk);
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].find("its key belongs to another shard") != std::string::npos);
}

TEST_CASE("checking changes nothing") {
  SoundShard shard;
  shard.header().space.used_memory += 16;
  const std::string before(reinterpret_cast<const char*>(&shard.header().space), sizeof(ShardSpace));
  const std::string first = shard.problems();
  CHECK(first != "");
  CHECK(shard.problems() == first);
  CHECK(std::string(reinterpret_cast<const char*>(&shard.header().space), sizeof(ShardSpace)) == before);
}

}  // namespace
}  // namespace memstream::test
