// The table: buckets, chains, growth by one bucket at a time, free entries. Hashes are made up, so that every collision
// happens that the test wants.
#include "core/shard/index.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "tests/support/scale.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

// The table of a blank shard, without the heap: entries get hashes and tags, and no block.
class TestIndex : public TestShard {
 public:
  explicit TestIndex(std::uint64_t size_bytes = kMinSegmentSize)
      : TestShard(size_bytes),
        index(&header()),
        arena_(&header(), geometry().shards_offset, shard_size(), &segment()) {}

  // Takes a free entry, growing the table if there is none, and links it.
  EntryId add(std::uint64_t hash, std::uint64_t last_access_ms = 0) {
    EntryId id = index.take_free_entry();
    if (id == 0) {
      if (!index.add_cell()) {
        REQUIRE(arena_.raise_table(1));
        REQUIRE(index.add_cell());
      }
      id = index.take_free_entry();
    }
    REQUIRE(id != 0);
    Entry& entry = index.entry(id);
    entry.hash = KeyHash{hash}.bucket_bits();
    entry.policy = policy_word(KeyHash{hash}.tag());
    entry.last_access_ms = last_access_ms;
    entry.ref = ref_live(entry.ref, ++next_block_);
    index.link(id);
    return id;
  }
  void remove(EntryId id) {
    index.unlink(id);
    index.entry(id).ref = ref_empty(index.entry(id).ref);
    index.give_free_entry(id);
  }
  // Every entry that a look-up of `hash` meets, in its order.
  std::vector<EntryId> probe(std::uint64_t hash) {
    std::vector<EntryId> met;
    const KeyHash parts{hash};
    Index::InSlots in_slots(bucket(hash), parts.tag(), index.cells());
    for (EntryId id = in_slots.next(); id != 0; id = in_slots.next()) met.push_back(id);
    Index::InChain in_chain(&header(), bucket(hash), index.cells());
    for (EntryId id = in_chain.next(); id != 0; id = in_chain.next()) met.push_back(id);
    return met;
  }
  bool finds(std::uint64_t hash, EntryId id) {
    const std::vector<EntryId> met = probe(hash);
    return std::count(met.begin(), met.end(), id) == 1;
  }
  Bucket& bucket(std::uint64_t hash) {
    return Index::bucket(&header(), Index::bucket_of(KeyHash{hash}.bucket_bits(), index.cells()));
  }

  Index index;

  // What a look-up asks for before it has seen the entry.
  std::uint32_t hint(std::uint64_t hash) {
    return Index::InSlots(bucket(hash), KeyHash{hash}.tag(), index.cells()).hint();
  }
  BlockPosition block_of(EntryId id) { return ref_block(index.entry(id).ref); }

 private:
  Arena arena_;
  BlockPosition next_block_{1000};
};

constexpr std::uint64_t hash_of(std::uint32_t bucket_bits, std::uint16_t tag) {
  return bucket_bits | std::uint64_t{tag} << 32;
}

TEST_CASE("a hash leads to the bucket of its low bits, folded where that bucket does not exist yet") {
  CHECK(Index::bucket_of(0xffff'ffff, 1) == 0);
  CHECK(Index::bucket_of(5, 8) == 5);
  CHECK(Index::bucket_of(13, 8) == 5);
  CHECK(Index::bucket_of(5, 5) == 1);  // Three bits say 5, which is not there; two say 1.
  CHECK(Index::bucket_of(5, 6) == 5);
  CHECK(Index::bucket_of(7, 6) == 3);
  for (std::uint32_t cells = 1; cells < 200; ++cells) {
    for (std::uint32_t bits = 0; bits < 1000; ++bits) {
      const std::uint32_t before = Index::bucket_of(bits, cells);
      const std::uint32_t after = Index::bucket_of(bits, cells + 1);
      REQUIRE(before < cells);
      // One more cell takes entries from one bucket only.
      REQUIRE((after == before || (after == cells && before == Index::bucket_of(cells, cells))));
    }
  }
}

TEST_CASE("entry numbers leave out the buckets") {
  CHECK_FALSE(Index::names_entry(EntryId{0}, 4));
  CHECK_FALSE(Index::names_entry(EntryId{2}, 4));
  CHECK(Index::names_entry(EntryId{3}, 4));
  CHECK(Index::names_entry(EntryId{35}, 4));
  CHECK_FALSE(Index::names_entry(EntryId{36}, 4));
  CHECK_FALSE(Index::names_entry(EntryId{39}, 4));
  CHECK(Index::entry_at_or_after(EntryId{0}) == 3);
  CHECK(Index::entry_at_or_after(EntryId{8}) == 8);
  CHECK(Index::entry_at_or_after(EntryId{9}) == 12);
  TestIndex table;
  CHECK_THROWS_AS(table.index.entry(EntryId{2}), CorruptionDetected);
  CHECK_THROWS_AS(table.index.entry(EntryId{table.index.cells() * kSlotsPerCell + 3}), CorruptionDetected);
}

TEST_CASE("a blank table has a page of cells, all of whose entries are free") {
  TestIndex table;
  CHECK(table.index.cells() == kTableStepCells);
  std::set<EntryId> ids;
  for (std::uint32_t i = 0; i < kTableStepCells * kEntriesPerCell; ++i) {
    const EntryId id = table.index.take_free_entry();
    REQUIRE(Index::names_entry(id, table.index.cells()));
    ids.insert(id);
  }
  CHECK(ids.size() == kTableStepCells * kEntriesPerCell);
  CHECK(table.index.take_free_entry() == 0);
  CHECK_FALSE(table.index.add_cell());
}

TEST_CASE("a table that is emptied is as it was when it was blank, however far it had grown") {
  TestIndex table;
  const TestIndex blank;
  std::vector<std::uint64_t> hashes;
  for (std::uint32_t i = 0; i < 500; ++i) hashes.push_back(hash_of(i % 97, static_cast<std::uint16_t>(i + 1)));
  for (const std::uint64_t hash : hashes) table.add(hash);
  REQUIRE(table.index.cells() > kTableStepCells);
  table.index.empty(kTableStepCells);
  CHECK(table.index.cells() == kTableStepCells);
  CHECK(table.header().space.free_entry == blank.header().space.free_entry);
  constexpr std::uint64_t kTableSize = kTableStepCells * sizeof(Cell);
  CHECK(std::memcmp(Index::table(&table.header()), Index::table(&blank.header()), kTableSize) == 0);
  for (const std::uint64_t hash : hashes) REQUIRE(table.probe(hash).empty());
}

// It is the last resort, in which nothing may throw any more.
TEST_CASE("a table is emptied while somebody writes to what says how large it is") {
  TestIndex table;
  std::atomic<bool> stop = false;
  std::thread stray([&] {
    while (!stop) {
      for (const std::uint32_t cells : {0U, 1U, kTableStepCells}) {
        table.header().cells = cells;
        table.header().space.table_cells = cells * kTableStepCells;
      }
    }
  });
  for (int i = 0; i < scaled(20'000); ++i) table.index.empty(kTableStepCells);
  stop = true;
  stray.join();
  table.index.empty(kTableStepCells);
  for (std::uint32_t i = 0; i < kTableStepCells * kEntriesPerCell; ++i) REQUIRE(table.index.take_free_entry() != 0);
  CHECK(table.index.take_free_entry() == 0);
}

TEST_CASE("a bucket shows the entries of a tag, and none of another") {
  TestIndex table;
  const EntryId first = table.add(hash_of(3, 100));
  const EntryId second = table.add(hash_of(3, 200));
  const EntryId twin = table.add(hash_of(3, 100));
  CHECK(table.probe(hash_of(3, 100)) == std::vector{first, twin});
  CHECK(table.probe(hash_of(3, 200)) == std::vector{second});
  CHECK(table.probe(hash_of(3, 300)).empty());
  CHECK(table.probe(hash_of(4, 100)).empty());
}

// The search for a tag works on four at once with carries between them; no pair of neighbours may hide one.
TEST_CASE("every tag is found beside every kind of neighbour") {
  const std::uint16_t tags[] = {0x0000, 0x0001, 0x7fff, 0x8000, 0x8001, 0xfffe, 0xffff, 0x0100};
  for (const std::uint16_t tag : tags) {
    for (const std::uint16_t neighbour : tags) {
      TestIndex table;
      std::vector<EntryId> wanted;
      for (std::uint32_t i = 0; i < kBucketWidth; ++i) {
        const bool is_wanted = i % 2 == 0;
        const EntryId id = table.add(hash_of(1, is_wanted ? tag : neighbour));
        if (is_wanted || tag == neighbour) wanted.push_back(id);
      }
      for (const EntryId id : wanted) REQUIRE(table.finds(hash_of(1, tag), id));
    }
  }
}

TEST_CASE("what finds no slot stands in a chain, and moves up when a slot falls free") {
  TestIndex table;
  std::vector<EntryId> ids;
  for (std::uint16_t i = 0; i < kBucketWidth + 3; ++i) ids.push_back(table.add(hash_of(2, i)));
  Bucket& bucket = table.bucket(hash_of(2, 0));
  CHECK(bucket.overflow == ids[10]);
  for (std::uint16_t i = 0; i < ids.size(); ++i) CHECK(table.finds(hash_of(2, i), ids[i]));
  table.remove(ids[4]);
  CHECK(bucket.slots[4] == ids[10]);
  CHECK(bucket.overflow == ids[9]);
  table.remove(ids[8]);  // The last of the chain.
  CHECK(table.probe(hash_of(2, 4)) ==
        std::vector{ids[9]});  // A chain shows all of its entries: their tags are not there.
  for (std::uint16_t i = 0; i < ids.size(); ++i) {
    if (i != 4 && i != 8) CHECK(table.finds(hash_of(2, i), ids[i]));
  }
  CHECK_THROWS_AS(table.index.unlink(ids[4]), CorruptionDetected);
}

TEST_CASE("a chain at its bound names its coldest entry; one below has room") {
  TestIndex table;
  std::vector<EntryId> ids;
  for (std::uint16_t i = 0; i < kBucketWidth + kMaxChain; ++i) {
    CHECK(table.index.overfull(2) == 0);
    ids.push_back(table.add(hash_of(2, i), i == 30 ? 5 : 100 + i));
    if (table.index.cells() != kTableStepCells) FAIL("the table grew");
  }
  CHECK(table.index.overfull(2) == ids[30]);
  CHECK(table.index.overfull(3) == 0);
  table.index.entry(ids[30]).last_access_ms = 1000;
  CHECK(table.index.overfull(2) == ids[kBucketWidth]);
  table.remove(ids[0]);
  CHECK(table.index.overfull(2) == 0);
}

TEST_CASE("growing splits one bucket at a time: no entry moves, all stay findable") {
  TestIndex table(8U << 20);
  std::mt19937_64 random(5);
  std::map<EntryId, std::uint64_t> hash_by_id;
  for (int i = 0; i < scaled(20'000); ++i) {
    const std::uint64_t hash = random();
    const EntryId id = table.add(hash);
    REQUIRE(hash_by_id.emplace(id, hash).second);
    if (i % 1000 == 0) {
      for (const auto& [old_id, old_hash] : hash_by_id) REQUIRE(table.finds(old_hash, old_id));
    }
  }
  std::uint64_t named = 0;
  for (std::uint32_t cell = 0; cell < table.index.cells(); ++cell) {
    const Bucket& bucket = Index::bucket(&table.header(), cell);
    CHECK(bucket.version % 2 == 0);
    for (const auto& slot : bucket.slots) named += slot != 0 ? 1U : 0U;
    for (EntryId id{bucket.overflow}; id != 0; id = EntryId{table.index.entry(id).next}) ++named;
  }
  CHECK(named == hash_by_id.size());
  for (const auto& [id, hash] : hash_by_id) CHECK(table.finds(hash, id));
}

TEST_CASE("a full chain is split like any other bucket") {
  TestIndex table(8U << 20);
  std::vector<std::pair<EntryId, std::uint64_t>> entries;
  for (std::uint16_t i = 0; i < kBucketWidth + kMaxChain; ++i) {
    const std::uint64_t hash = hash_of(i % 2 == 0 ? 0 : 16, i);  // One bucket of 16, two of 32.
    entries.emplace_back(table.add(hash), hash);
  }
  while (table.index.cells() < 32) table.add(hash_of(3 + 4 * table.index.cells(), 9));
  for (const auto& [id, hash] : entries) CHECK(table.finds(hash, id));
  CHECK(table.probe(hash_of(0, 0)).size() <= 1 + (kBucketWidth + kMaxChain) / 2 - kBucketWidth);
}

TEST_CASE("random links and unlinks agree with a map") {
  TestIndex table(4U << 20);
  std::mt19937 random(6);
  std::map<EntryId, std::uint64_t> model;
  for (int i = 0; i < scaled(50'000); ++i) {
    if (random() % 5 < 3 && model.size() < 2000) {
      // Few buckets and few tags: chains and twins everywhere.
      const std::uint64_t hash =
          hash_of(static_cast<std::uint32_t>(random() % 64), static_cast<std::uint16_t>(random() % 5));
      if (table.index.overfull(KeyHash{hash}.bucket_bits()) == 0) model.emplace(table.add(hash), hash);
    } else if (!model.empty()) {
      auto victim =
          model.lower_bound(EntryId{static_cast<std::uint32_t>(random() % (table.index.cells() * kSlotsPerCell))});
      if (victim == model.end()) victim = model.begin();
      REQUIRE(table.finds(victim->second, victim->first));
      table.remove(victim->first);
      REQUIRE_FALSE(table.finds(victim->second, victim->first));
      model.erase(victim);
    }
  }
  for (const auto& [id, hash] : model) REQUIRE(table.finds(hash, id));
}

TEST_CASE("a bucket says where the blocks of its entries are, whatever happens to them") {
  TestIndex table;
  std::vector<EntryId> ids;
  const auto tag_of = [](std::size_t i) { return static_cast<std::uint16_t>(i + 1); };
  const auto hints_are_right = [&](std::uint32_t bucket_bits, std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < to; ++i) {
      if (table.hint(hash_of(bucket_bits, tag_of(i))) != table.block_of(ids[i])) return false;
      if (table.index.hint_of(ids[i]) != table.block_of(ids[i])) return false;
    }
    return true;
  };
  for (std::size_t i = 0; i < kBucketWidth + 3; ++i) ids.push_back(table.add(hash_of(2, tag_of(i))));
  CHECK(hints_are_right(2, 0, kBucketWidth));
  for (std::size_t i = kBucketWidth; i < ids.size(); ++i) CHECK(table.index.hint_of(ids[i]) == 0);  // In the chain.
  // Another block.
  Entry& moved = table.index.entry(ids[5]);
  moved.ref = ref_live(moved.ref, BlockPosition{77});
  CHECK_FALSE(hints_are_right(2, 5, 6));
  table.index.renew_hint(ids[5]);
  CHECK(hints_are_right(2, 0, kBucketWidth));
  table.index.renew_hint(ids.back());
  CHECK(table.index.hint_of(ids.back()) == 0);
  // The first of the chain moves up: the last that came.
  table.remove(ids[0]);
  CHECK(table.index.hint_of(ids.back()) == table.block_of(ids.back()));
  CHECK(hints_are_right(2, 1, kBucketWidth));
}

TEST_CASE("a split takes the hints along") {
  TestIndex table;
  std::vector<std::pair<std::uint64_t, EntryId>> all;
  for (std::uint32_t i = 0; i < 400; ++i) {
    const std::uint64_t hash = hash_of(i * 7919, static_cast<std::uint16_t>(i + 1));
    all.emplace_back(hash, table.add(hash));
  }
  CHECK(table.index.cells() > 4 * kTableStepCells);
  std::size_t with_hint = 0;
  for (const auto& [hash, id] : all) {
    const BlockPosition hint = table.index.hint_of(id);
    if (hint == 0) continue;
    ++with_hint;
    REQUIRE(hint == table.block_of(id));
    REQUIRE(table.hint(hash) == hint);
  }
  CHECK(with_hint > all.size() * 9 / 10);
}

TEST_CASE("a probe of any bytes whatever ends and names only entries that exist") {
  TestIndex table;
  std::mt19937 random(8);
  for (int round = 0; round < scaled(300); ++round) {
    auto* words = reinterpret_cast<std::uint32_t*>(Index::table(&table.header()));
    for (std::size_t i = 0; i < table.index.cells() * sizeof(Cell) / sizeof *words; ++i) {
      words[i] = static_cast<std::uint32_t>(random() % 3 == 0 ? random() : random() % 128);
    }
    for (std::uint32_t bucket = 0; bucket < 16; ++bucket) {
      const std::vector<EntryId> met = table.probe(hash_of(bucket, static_cast<std::uint16_t>(random() % 128)));
      REQUIRE(met.size() <= kBucketWidth + kMaxChain + 1);
      for (const EntryId id : met) REQUIRE(Index::names_entry(id, table.index.cells()));
    }
  }
}

}  // namespace
}  // namespace memstream::test
