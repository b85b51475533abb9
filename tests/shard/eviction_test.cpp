// Which entry goes when a shard is full: the two queues, and what a rebuild and stray writes leave of them.
#include "core/shard/eviction.h"

#include <doctest/doctest.h>

#include <atomic>
#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "core/shard/shard.h"
#include "tests/support/scale.h"
#include "tests/support/test_queues.h"

namespace memstream::test {
namespace {

TEST_CASE("a new key enters the small queue; reads are counted up to three, and so are writes") {
  TestQueues cache;
  cache.put(1);
  CHECK(cache.is_in(1, kSmall));
  CHECK_FALSE(cache.is_in(1, kMain));
  for (const std::uint32_t hits : {0U, 1U, 2U, 3U, 3U}) {
    CHECK(cache.hits(1) == hits);
    CHECK(cache.has(1));
  }
  // Not a bit of what stands beside the hits.
  CHECK(policy_tag(cache.entry(cache.name(1)).policy) == cache.key(cache.name(1)).hash.tag());
  cache.put(2);
  cache.put(2);
  CHECK(cache.hits(2) == 1);
  CHECK(cache.is_in(2, kSmall));
  CHECK(cache.problems() == "");
}

TEST_CASE("what was read in the small queue goes to the main one, what was not is dropped") {
  TestQueues cache;
  int next = cache.fill();
  const int first = next;
  for (int i = 0; i < 40; ++i) cache.put(next++);
  for (int i = first; i < first + 40; i += 2) (void)cache.has(i);
  cache.evict(&next, 1000);
  int kept = 0;
  int spared = 0;  // One in 20 is, or in 128.
  for (int i = first; i < first + 40; ++i) {
    if (!cache.has(i)) continue;
    ++((i - first) % 2 == 0 ? kept : spared);
    CHECK(cache.is_in(i, kMain));
  }
  CHECK(kept >= 17);  // Where the table still grows it costs whoever lies at its border.
  CHECK(spared <= 4);
}

TEST_CASE("a new key has time in the small queue, also right before its hand") {
  TestQueues cache;
  int next = cache.fill();
  for (int round = 0; round < 50; ++round) {
    // The entry that is free now is the one that the next key takes.
    REQUIRE(cache.remove(cache.name(next - 1)) == Status::kOk);
    cache.space().small_hand = cache.space().free_entry;
    const int newest = next;
    cache.put(next++);
    if (cache.is_in(newest, kMain)) continue;  // One key in two hundred meets another one's fingerprint.
    CHECK(cache.is_in(newest, kYoung));
    // While the border has just moved up the main queue gives way, and the hand of the small one stands.
    for (int evictions = 0; evictions < 50 && cache.has(newest) && cache.is_in(newest, kYoung); ++evictions) {
      cache.evict(&next, 1);
    }
    REQUIRE(cache.has(newest));
    CHECK_FALSE(cache.is_in(newest, kYoung));
  }
  CHECK(cache.problems() == "");
}

TEST_CASE("where everything is read all the time something goes all the same") {
  TestQueues cache;
  int next = cache.fill();
  for (int i = 0; i < 300; ++i) {
    cache.for_each_entry([](std::uint32_t, Entry& entry) { entry.policy |= kHits; });
    cache.evict(&next, 1);
    REQUIRE(cache.has(next - 1));
  }
  CHECK(cache.problems() == "");
}

TEST_CASE("what has expired in the main queue is found although the small one does all the work") {
  TestQueues cache;
  int next = 0;
  while (cache.counters().evictions == 0) {
    REQUIRE(cache.set(cache.name(next), pattern(kValueSize, 1), cache.now_ms + 10) == Status::kOk);
    REQUIRE(cache.has(next++));
  }
  const std::uint64_t entries = cache.space().entries;
  cache.for_each_entry([](std::uint32_t, Entry& entry) { entry.policy = (entry.policy & ~kSmall) | kMain | kHits; });
  cache.space().small_memory = 0;
  cache.now_ms += 10;
  for (int i = 0; i < static_cast<int>(2 * entries); ++i) cache.put(next++);
  CHECK(cache.counters().expirations > entries * 9 / 10);
  CHECK(cache.problems() == "");
}

TEST_CASE("pinned blocks stay in both queues, and a shard full of them evicts nobody") {
  TestQueues cache;
  int next = cache.fill();
  std::vector<PinnedBlock> pinned(kPinsPerProcess);
  std::vector<int> keys;
  for (int i = next - 1; keys.size() < pinned.size(); --i) {
    if (!cache.has(i)) continue;
    REQUIRE(cache.pin(cache.name(i), &pinned[keys.size()]) == Status::kOk);
    keys.push_back(i);
  }
  cache.evict(&next, 3000);
  for (const int key : keys) CHECK(cache.has(key));
  for (const PinnedBlock& pin : pinned) REQUIRE(cache.unpin(pin) == Status::kOk);
  std::uint32_t held = 0;
  cache.for_each_entry([&](std::uint32_t, Entry& entry) {
    ProcessSlot& slot = cache.process_slot(held / kPinsPerProcess);
    cache.TestSegment::header().slots_in_use = held / kPinsPerProcess + 1;
    slot.pins_used = kPinsPerProcess;
    slot.pins[held++ % kPinsPerProcess] = cache.shard.offset_of(ref_block(entry.ref));
    entry.ref |= kPinnedHint;
  });
  REQUIRE(held <= cache.geometry().process_slots * kPinsPerProcess);
  const WriteLockScope held_lock(cache.header());
  CHECK(cache.eviction.choose_victim(300, cache.now_ms).id == 0);
  // What was viewed goes as soon as nobody views it any more.
  std::set<std::uint64_t> free_again;
  for (auto& pin : cache.process_slot(0).pins) free_again.insert(pin.exchange(0));
  const FoundEntry victim = cache.eviction.choose_victim(300, cache.now_ms);
  REQUIRE(victim.id != 0);
  CHECK(free_again.count(cache.shard.offset_of(victim.position())) == 1);
}

TEST_CASE("a rebuild keeps the queue and the hits of each entry, and forgets what was dropped") {
  TestQueues cache;
  int next = cache.fill();
  for (int i = next - 20; i < next; ++i) REQUIRE(cache.has(i));
  const auto queues = [&] {
    std::vector<std::uint32_t> all;
    cache.for_each_entry([&](std::uint32_t id, Entry& entry) {
      all.insert(all.end(), {id, entry.policy & (kHits | kSmall | kMain)});
    });
    return all;
  };
  const std::vector<std::uint32_t> before = queues();
  const std::uint64_t small_memory = cache.space().small_memory;
  cache.recover();
  CHECK(queues() == before);
  CHECK(cache.space().small_memory == small_memory);
  CHECK(cache.space().small_drops == 0);
  for (std::uint32_t cell = 0; cell < cache.header().cells; ++cell) {
    REQUIRE((Index::bucket(&cache.header(), cell).eviction & kGhosts) == 0);
  }
  CHECK(cache.problems() == "");
  cache.evict(&next, 1000);
  CHECK(cache.problems() == "");
}

TEST_CASE("the checker sees an entry in no queue, in two, without its mark, and bytes that do not add up") {
  TestQueues cache;
  cache.put(1);
  std::atomic<std::uint32_t>& policy = cache.entry(cache.name(1)).policy;
  const std::uint32_t right = policy;
  for (const std::uint32_t wrong : {right & ~kSmall, right | kMain}) {
    policy = wrong;
    CHECK(cache.problems().find("in the wrong number of eviction queues") != std::string::npos);
  }
  policy = right;
  CHECK(cache.problems() == "");
  for (std::uint32_t cell = 0; cell < cache.header().cells; ++cell) {
    Index::bucket(&cache.header(), cell).eviction &= kGhosts;
  }
  CHECK(cache.problems().find("eviction will not look at it") != std::string::npos);
  cache.recover();
  CHECK(cache.problems() == "");
  cache.space().small_memory += 16;
  CHECK(cache.problems().find("memory of the small queue") != std::string::npos);
}

TEST_CASE("a free entry in a queue is damage, which is repaired, and the put succeeds") {
  TestQueues cache;
  int next = cache.fill();
  REQUIRE(cache.remove(cache.name(next - 1)) == Status::kOk);
  bool planted = false;
  for (EntryId id; id < cache.header().cells * kSlotsPerCell; ++id) {
    if (!Index::names_entry(id, cache.header().cells)) continue;
    Entry& entry = Index::entry_unchecked(&cache.header(), id);
    if (ref_is_live(entry.ref)) continue;
    entry.policy = kSmall;
    const WriteLockScope held(cache.header());
    cache.eviction.mark(id);
    cache.space().small_hand = id;
    planted = true;
    CHECK_THROWS_AS((void)cache.eviction.choose_victim(kMinSegmentSize, cache.now_ms), CorruptionDetected);
    cache.space().small_hand = id;
    break;
  }
  REQUIRE(planted);
  CHECK(cache.problems().find("in the wrong number of eviction queues") != std::string::npos);
  cache.put(next++);
  cache.evict(&next, 4000);
  CHECK(cache.problems() == "");
}

TEST_CASE("with any bytes in what eviction goes by every put succeeds, and a recovery puts it right") {
  std::mt19937_64 random(5);
  for (int round = 0; round < scaled(60); ++round) {
    TestQueues cache;
    int next = cache.fill();
    ShardSpace& space = cache.space();
    for (std::uint32_t* word :
         {&space.small_hand, &space.main_hand, &space.small_left, &space.small_drops, &space.small_returns,
          &space.main_drops, &space.main_returns, &space.small_read, &space.main_debt, &space.main_looks,
          &space.main_reads, &space.usual_reads, &space.idle_sweeps, &space.most_idle_sweeps, &space.main_is_stale}) {
      if (random() % 2 == 0) *word = static_cast<std::uint32_t>(random());
    }
    if (random() % 2 == 0) space.small_memory = random() % 2 == 0 ? 0 : random();
    if (random() % 2 == 0) space.small_target = random();
    if (random() % 2 == 0) space.asks = random();
    if (random() % 4 == 0) space.used_memory = random() << random() % 64;
    const bool policies = random() % 2 == 0;
    for (std::uint32_t cell = 0; cell < cache.header().cells; ++cell) {
      if (random() % 2 == 0) Index::bucket(&cache.header(), cell).eviction = random();
    }
    cache.for_each_entry([&](std::uint32_t, Entry& entry) {
      if (policies) entry.policy ^= static_cast<std::uint32_t>(random() & (kHits | kSmall | kMain | kExpires));
    });
    for (int i = 0; i < 500; ++i) {
      cache.put(next);
      REQUIRE(cache.has(next++));
    }
    cache.recover();
    REQUIRE(cache.problems() == "");
  }
}

}  // namespace
}  // namespace memstream::test
