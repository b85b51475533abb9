// The redo records of a shard by themselves: which one is believed, and what a rebuild makes of it.
#include "core/shard/redo_log.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>

#include "tests/support/overwriting_shard.h"

namespace memstream::test {
namespace {

// An entry in the middle of being overwritten, as a writer leaves it that is killed behind the commit.
class Half : public OverwritingShard {
 public:
  Half()
      : arena(&header(), geometry().shards_offset, shard_size(), &segment()),
        log(&header(), &record(), geometry(), arena) {
    REQUIRE(set("key", "before") == Status::kOk);
    begin_overwriting("key", "behind", 0);
    id = EntryId{record().entry};
    ref = EntryRef{record().ref};
  }

  void finish() {
    const WriteLockScope held(header());
    log.finish();
  }

  Arena arena;
  RedoLog log;
  EntryId id;
  EntryRef ref;
};

}  // namespace

TEST_CASE("the record that the shard names is found, with what the block becomes") {
  Half half;
  CHECK(half.log.names(0));
  CHECK_FALSE(half.log.names(1));
  RedoLog::Overwriting found;
  REQUIRE(half.log.find(half.id, half.ref, &found));
  CHECK(found.record == &half.log.record(1));
  CHECK(found.block.key_is("key"));
  CHECK(std::string(reinterpret_cast<const char*>(found.becomes.value), found.becomes.value_size) == "behind");
}

TEST_CASE("a record that is not named, or is about something else, is not believed") {
  Half half;
  RedoLog::Overwriting found;
  SUBCASE("another entry") { CHECK_FALSE(half.log.find(EntryId{half.id + 1}, half.ref, &found)); }
  SUBCASE("a record of another entry") {
    half.record().entry = half.id + 1;
    CHECK_FALSE(half.log.find(half.id, half.ref, &found));
  }
  SUBCASE("another ref") { CHECK_FALSE(half.log.find(half.id, EntryRef{half.ref + (std::uint64_t{1} << 32)}, &found)); }
  SUBCASE("no record") {
    half.header().redo = 0;
    CHECK_FALSE(half.log.find(half.id, half.ref, &found));
  }
  SUBCASE("a record beyond the last") {
    half.header().redo = half.geometry().redo_records() + 1;
    CHECK_FALSE(half.log.find(half.id, half.ref, &found));
  }
  SUBCASE("a block of another size") {
    BlockShape shape = BlockShape::unpack(half.log.record(1).block.shape.load());
    ++shape.size_units;
    half.log.record(1).block.shape = shape.pack();
    CHECK_FALSE(half.log.find(half.id, half.ref, &found));
  }
}

TEST_CASE("a rebuild finishes what had been committed, and may do so again") {
  Half half;
  half.finish();
  CHECK(half.header().redo == 0);
  CHECK(half.get("key") == "behind");
  CHECK(half.problems().empty());
  half.header().redo = 1;
  half.finish();
  CHECK(half.get("key") == "behind");
  CHECK(half.problems().empty());
}

}  // namespace memstream::test
