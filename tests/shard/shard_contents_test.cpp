// What a shard holds, as its authoritative words say: which words can be true, and what is found where they are not.
#include "core/shard/shard_contents.h"

#include <doctest/doctest.h>

#include <cstdint>

#include "core/layout/corruption.h"
#include "tests/support/shard_pieces.h"

namespace memstream::test {
namespace {

template <class Damage>
void check_bounds_after(const Damage& damage) {
  ShardPieces shard;
  REQUIRE(shard.set("key", "value") == Status::kOk);
  const WriteLockScope held(shard.header());
  shard.contents.require_valid_bounds();
  CHECK(shard.contents.bounds_are_known());
  damage(shard.header());
  CHECK_FALSE((shard.contents.bounds_are_valid() && shard.contents.commits_are_valid()));
  CHECK_FALSE(shard.contents.bounds_are_known());
  CHECK_THROWS_AS(shard.contents.require_valid_bounds(), CorruptionDetected);
}

}  // namespace

TEST_CASE("borders that cannot be are refused, also after they were known to be right") {
  check_bounds_after([](ShardHeader& header) { header.cells = 0; });
  check_bounds_after([](ShardHeader& header) { header.cells = header.space.table_cells + 1; });
  check_bounds_after([](ShardHeader& header) { header.space.table_cells += 1; });
  check_bounds_after([](ShardHeader& header) { header.space.heap_begin = 1; });
  check_bounds_after([](ShardHeader& header) { header.space.heap_begin = header.space.heap_end + 1; });
  check_bounds_after([](ShardHeader& header) { --header.space.heap_end; });
  check_bounds_after([](ShardHeader& header) { ++header.index; });
  check_bounds_after([](ShardHeader& header) { header.space.table_committed = header.space.max_memory + 1; });
  check_bounds_after([](ShardHeader& header) { header.space.heap_committed = header.space.max_memory + 1; });
}

TEST_CASE("a key is found with its entry and its block, and another key is not") {
  ShardPieces shard;
  REQUIRE(shard.set("key", "value") == Status::kOk);
  const WriteLockScope held(shard.header());
  const FoundEntry found = shard.contents.find(shard.key("key"));
  REQUIRE(found.id != 0);
  CHECK(found.entry == &shard.entry("key"));
  CHECK(found.position() == shard.position_of("key"));
  CHECK(found.block.key_is("key"));
  CHECK(found.block.value_size == 5);
  const FoundEntry same = shard.contents.live_entry(found.id);
  CHECK(same.entry == found.entry);
  CHECK(same.ref == found.ref);
  CHECK(same.block.value == found.block.value);
  CHECK(shard.contents.find(shard.key("other")).id == 0);
}

TEST_CASE("an entry without a block, or with one that is none, is damage") {
  ShardPieces shard;
  REQUIRE(shard.set("key", "value") == Status::kOk);
  const WriteLockScope held(shard.header());
  const FoundEntry found = shard.contents.find(shard.key("key"));
  Entry& entry = *found.entry;
  SUBCASE("an empty entry in a bucket") { entry.ref = ref_empty(found.ref); }
  SUBCASE("a position between two blocks") { entry.ref = ref_live(found.ref, BlockPosition{found.position() + 1}); }
  SUBCASE("a position beyond the heap") { entry.ref = ref_live(found.ref, BlockPosition{shard.space().heap_end}); }
  CHECK_THROWS_AS(static_cast<void>(shard.contents.find(shard.key("key"))), CorruptionDetected);
  CHECK_THROWS_AS(static_cast<void>(shard.contents.live_entry(found.id)), CorruptionDetected);
}

TEST_CASE("a block is owned by the entry that names it, and by no other") {
  ShardPieces shard;
  REQUIRE(shard.set("key", "value") == Status::kOk);
  REQUIRE(shard.set("other", "value") == Status::kOk);
  const WriteLockScope held(shard.header());
  const FoundEntry found = shard.contents.find(shard.key("key"));
  const FoundEntry other = shard.contents.find(shard.key("other"));
  CHECK(shard.contents.owning_ref(found.position()) == found.ref);
  CHECK(shard.contents.owning_ref(EntryId{found.id}, found.position()) == found.ref);
  CHECK(shard.contents.owning_ref(EntryId{other.id}, found.position()) == 0);
  CHECK(shard.contents.owning_ref(EntryId{0}, found.position()) == 0);
  CHECK(shard.contents.owning_ref(EntryId{shard.index.cells() * kSlotsPerCell + kBucketSlots}, found.position()) == 0);
  found.entry->ref = ref_empty(found.ref);
  CHECK(shard.contents.owning_ref(found.position()) == 0);
}

TEST_CASE("a filled block has the key, the size and the instants of its request, and no owner") {
  ShardPieces shard;
  const WriteLockScope held(shard.header());
  const StoreRequest request{.key = shard.key("key"), .value_size = 100, .expires_ms = 5000, .caller_flags = 7};
  const BlockPosition position = shard.arena.allocate(block_units_for(3, 100, true), shard.now_ms);
  REQUIRE(position != 0);
  const CheckedBlock block = shard.contents.fill(position, request, true, 2000);
  CHECK(block.key_is("key"));
  CHECK(block.value_size == 100);
  CHECK(block.expires_ms() == 5000);
  CHECK(block.caller_flags() == 7);
  CHECK(shard.contents.owning_ref(position) == 0);
}

}  // namespace memstream::test
