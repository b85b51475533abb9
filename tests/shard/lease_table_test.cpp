// The lease table of a shard by itself: granting, taking over, ending, and what followers see.
#include "core/shard/lease_table.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

// The table in the header of a blank shard. One process has a slot; two owners are words of that slot.
class Leases : public TestShard {
 public:
  LeaseTable table{&TestShard::header(), places};

  Status grant(const char* text, std::uint64_t owner, std::uint64_t* token, std::uint64_t until_ms = 0,
               std::uint64_t dead_owner = 0) MEMSTREAM_NEEDS_W {
    return table.grant({.key = key(text), .owner = owner, .dead_owner = dead_owner, .until_ms = until_ms}, now_ms,
                       token);
  }
  std::uint64_t own() { return lease_owner_word(0, process_slot(0).generation.load()); }
};

}  // namespace

TEST_CASE("a lease keeps others away until its holder gives it up") {
  Leases leases;
  const WriteLockScope held(leases.header());
  std::uint64_t token = 0;
  std::uint64_t other = 0;
  REQUIRE(leases.grant("key", leases.own(), &token) == Status::kOk);
  CHECK(leases.table.holder(leases.key("key"), leases.now_ms) == leases.own());
  CHECK(leases.table.stands(leases.key("key"), leases.own(), token));
  CHECK(leases.grant("key", leases.own(), &other) == Status::kHeld);
  CHECK(leases.table.release(leases.key("key"), leases.own(), token + 256) == Status::kConflict);
  const std::uint32_t events = leases.table.events().load();
  CHECK(leases.table.release(leases.key("key"), leases.own(), token) == Status::kOk);
  CHECK(leases.table.events().load() == events + 1);
  CHECK(leases.table.holder(leases.key("key"), leases.now_ms) == 0);
  CHECK_FALSE(leases.table.stands(leases.key("key"), leases.own(), token));
  CHECK(leases.table.release(leases.key("key"), leases.own(), token) == Status::kConflict);
  CHECK(leases.table.in_use() == 0);
}

TEST_CASE("a lease whose time is over, or whose holder has died, is taken over without an end") {
  Leases leases;
  const WriteLockScope held(leases.header());
  std::uint64_t first = 0;
  std::uint64_t second = 0;
  REQUIRE(leases.grant("key", leases.own(), &first, leases.now_ms + 10) == Status::kOk);
  std::uint64_t followed = 0;
  bool is_over = true;
  CHECK(leases.table.follow(leases.key("key"), leases.now_ms, &followed, &is_over) == leases.own());
  CHECK(followed == first);
  CHECK_FALSE(is_over);
  leases.now_ms += 10;
  CHECK(leases.table.follow(leases.key("key"), leases.now_ms, &followed, &is_over) == leases.own());
  CHECK(is_over);
  REQUIRE(leases.grant("key", leases.own(), &second) == Status::kOk);
  CHECK_FALSE(leases.table.stands(leases.key("key"), leases.own(), first));
  CHECK(leases.table.follow(leases.key("key"), leases.now_ms, &followed, &is_over) == leases.own());
  CHECK(followed == second);
  std::uint64_t third = 0;
  CHECK(leases.grant("key", leases.own() + 1, &third, 0, leases.own()) == Status::kOk);
  CHECK(leases.table.in_use() == 1);
  // An end is told from a takeover: the next lease is not followed.
  leases.table.end_of(leases.key("key"));
  followed = third;
  REQUIRE(leases.grant("key", leases.own(), &third) == Status::kOk);
  CHECK(leases.table.follow(leases.key("key"), leases.now_ms, &followed, &is_over) == 0);
}

TEST_CASE("a token without a place stands until its key changes") {
  Leases leases;
  const WriteLockScope held(leases.header());
  std::uint64_t token = 0;
  for (std::uint32_t i = 0; i < kLeasesPerShard; ++i) {
    REQUIRE(leases.grant(("held-" + std::to_string(i)).c_str(), leases.own(), &token) == Status::kOk);
  }
  CHECK(leases.table.in_use() == kLeasesPerShard);
  CHECK(leases.table.count() == kLeasesPerShard);
  std::uint64_t unplaced = 0;
  REQUIRE(leases.grant("key", leases.own(), &unplaced) == Status::kFull);
  CHECK(leases.table.holder(leases.key("key"), leases.now_ms) == 0);
  CHECK(leases.table.stands(leases.key("key"), leases.own(), unplaced));
  leases.table.end_of(leases.key("key"));
  CHECK_FALSE(leases.table.stands(leases.key("key"), leases.own(), unplaced));
  // A lease that nobody can fulfil any more gives its place away.
  leases.process_slot(0).generation.fetch_add(1);
  REQUIRE(leases.grant("key", leases.own(), &token) == Status::kOk);
  CHECK(leases.table.in_use() == kLeasesPerShard);
  leases.table.end_all();
  CHECK(leases.table.in_use() == 0);
  CHECK(leases.table.count() == 0);
}

TEST_CASE("after damage the leases are counted again, and no token without a place stands") {
  Leases leases;
  const WriteLockScope held(leases.header());
  std::uint64_t token = 0;
  std::uint64_t unplaced = 0;
  REQUIRE(leases.grant("key", leases.own(), &token) == Status::kOk);
  REQUIRE(leases.grant("other", 0, &unplaced) == Status::kFull);
  CHECK(leases.table.stands(leases.key("other"), leases.own(), unplaced));
  leases.TestShard::header().space.leases += 5;
  leases.table.recount();
  CHECK(leases.table.in_use() == 1);
  CHECK(leases.table.stands(leases.key("key"), leases.own(), token));
  CHECK_FALSE(leases.table.stands(leases.key("other"), leases.own(), unplaced));
}

}  // namespace memstream::test
