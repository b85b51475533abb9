// What comes back after it was dropped, and the border between the two queues, which follows that.
#include <doctest/doctest.h>

#include <bit>
#include <cstdint>
#include <map>
#include <set>

#include "core/shard/eviction.h"
#include "tests/support/test_queues.h"

namespace memstream::test {
namespace {

TEST_CASE("a key that comes back soon after the small queue dropped it goes to the main one, and its queue grows") {
  TestQueues cache;
  int next = cache.fill();
  const int dropped = next;
  ShardSpace& space = cache.space();
  space.small_returns = space.small_drops / 10;  // So that each key that is dropped leaves a fingerprint.
  for (int i = 0; i < 40; ++i) cache.put(next++);
  cache.evict(&next, 400);
  int returned = 0;
  space.small_target = space.used_memory / 2;
  const std::uint64_t target = cache.small_target();
  space.small_drops = space.small_returns = space.main_returns = 0;
  space.main_drops = 1000;
  for (int i = dropped; i < dropped + 40; ++i) {
    if (cache.has(i)) continue;
    cache.put(i);
    returned += cache.is_in(i, kMain) ? 1 : 0;
  }
  CHECK(returned > 15);
  CHECK(cache.space().small_returns >= static_cast<std::uint32_t>(returned));
  CHECK(cache.small_target() > target);
  CHECK(cache.problems() == "");
}

TEST_CASE("a key that the main queue dropped comes back to the small one, and the main one grows") {
  TestQueues cache;
  int next = cache.fill();
  std::set<int> main;
  for (int i = 0; i < next; ++i) {
    if (cache.get(cache.name(i)).has_value() && cache.is_in(i, kMain)) main.insert(i);
  }
  // Keys that are read at once push into the main queue what it has.
  while (cache.space().main_drops < 200) {
    cache.put(next);
    REQUIRE(cache.has(next++));
  }
  cache.space().small_target = cache.space().used_memory / 2;
  const std::uint64_t target = cache.small_target();
  const std::uint32_t returns = cache.space().main_returns;
  int returned = 0;
  for (const int i : main) {
    if (cache.has(i)) continue;
    const std::uint32_t before = cache.space().main_returns;
    cache.put(i);
    if (cache.space().main_returns == before) continue;
    ++returned;
    CHECK(cache.is_in(i, kSmall));
  }
  CHECK(returned > 20);
  CHECK(cache.space().main_returns >= returns + static_cast<std::uint32_t>(returned));
  CHECK(cache.small_target() < target);
  CHECK(cache.problems() == "");
}

TEST_CASE("the main queue is filled before it is held, and the small one has its least part then") {
  TestQueues cache;
  cache.fill();
  CHECK(cache.small_part() == doctest::Approx(0.02).epsilon(0.1));
}

TEST_CASE("of a loop through more keys than fit a part is kept, where a queue alone would keep none") {
  TestQueues cache;
  int hits = 0;
  const int keys = 2 * static_cast<int>(cache.shard_size() / (kValueSize + 100));
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < keys; ++i) {
      if (!cache.has(i)) {
        cache.put(i);
      } else if (round >= 5) {
        ++hits;
      }
    }
  }
  CHECK(hits > 5 * keys / 4);  // A half fits: more than half of what is possible.
  CHECK(cache.problems() == "");
}

TEST_CASE("with few entries a return moves the border by less") {
  TestQueues cache;
  int next = 0;
  const auto put = [&](int number) { REQUIRE(cache.set(cache.name(number), pattern(8000, 1)) == Status::kOk); };
  while (cache.counters().evictions < 200) put(next++);
  ShardSpace& space = cache.space();
  REQUIRE(space.entries < 128);
  bool returned = false;
  for (int i = next - 1; i > 0 && !returned; --i) {
    space.asks = 0;
    if (cache.get(cache.name(i)).has_value() || space.asks != 1) continue;
    space.small_target = space.used_memory / 3;
    space.small_drops = space.main_drops = 100;
    space.small_returns = 80;
    space.main_returns = 0;
    const auto before = static_cast<double>(cache.small_target());
    put(i);
    if (space.small_returns == 80) continue;
    returned = true;
    const auto block = static_cast<double>(space.used_memory) / space.entries;
    CHECK((static_cast<double>(space.small_target) - before) / block == doctest::Approx(2).epsilon(0.1));
  }
  CHECK(returned);
}

TEST_CASE("the border stays between a twentieth and all but a hundredth") {
  TestQueues cache;
  cache.fill();
  cache.space().small_target = ~std::uint64_t{0};
  CHECK(cache.small_target() == cache.space().used_memory / 100 * 99);
  cache.space().small_target = 0;
  CHECK(cache.small_target() == cache.space().used_memory / 100 * 5);
}

TEST_CASE("a return moves the border the further the more often one queue is regretted, and not at all by chance") {
  struct Case {
    std::uint32_t small_returns, main_returns;
    int blocks;  // That the border moves by.
  };
  for (const Case& regret : {Case{95, 100, -1}, Case{105, 100, 0}, Case{120, 100, 1}, Case{350, 100, 3},
                             Case{2000, 100, 16}, Case{100, 350, -3}, Case{100, 2000, -16}, Case{200, 0, 16}}) {
    CAPTURE(regret.small_returns);
    CAPTURE(regret.main_returns);
    TestQueues cache;
    int next = cache.fill();
    ShardSpace& space = cache.space();
    bool returned = false;
    for (int i = next - 1; i > 0 && !returned; --i) {
      space.asks = 0;
      if (cache.has(i) || space.asks != 1) continue;
      space.small_target = space.used_memory / 3;
      space.small_drops = space.main_drops = 3000;
      space.small_returns = regret.small_returns - 1;
      space.main_returns = regret.main_returns;
      const auto before = static_cast<double>(cache.small_target());
      cache.put(i);
      if (space.small_returns != regret.small_returns) continue;
      returned = true;
      const auto block = static_cast<double>(space.used_memory) / space.entries;
      CHECK((static_cast<double>(space.small_target) - before) / block == doctest::Approx(regret.blocks).epsilon(0.01));
    }
    CHECK(returned);
  }
}

TEST_CASE("what comes back no more often than by chance is new") {
  TestQueues cache;
  int next = cache.fill();
  ShardSpace& space = cache.space();
  for (const bool by_chance : {true, false}) {
    CAPTURE(by_chance);
    int returned = 0;
    for (int i = next - 1; i > 0 && returned < 20; --i) {
      if (cache.has(i)) continue;
      space.small_target = space.used_memory / 2;
      space.main_drops = space.main_returns = 0;
      space.small_drops = 5000;
      space.small_returns = by_chance ? 100 : 200;
      const std::uint64_t target = cache.small_target();
      cache.put(i);
      if (space.small_returns == (by_chance ? 100U : 200U)) continue;
      ++returned;
      CHECK(cache.is_in(i, by_chance ? kSmall : kMain));
      CHECK((cache.small_target() > target) == !by_chance);
    }
    CHECK(returned == 20);
  }
}

TEST_CASE("the main queue gives way to one in twenty where it has no hits, and in a loop to fewer and takes hits") {
  struct Case {
    std::uint32_t returns;  // Of 3,000 drops.
    std::uint32_t hits;     // That all of the main queue have.
    int least_gone, most_gone, least_taken, most_taken;
  };
  constexpr int kCaches = 8;  // Each has a seed of its own: one of 200 passes a bound by chance, and not the mean.
  // 1,280 are dropped: 64 may go to the main queue, and of a loop ten. Some twelve go there by chance.
  for (const Case& when : {Case{1500, 0, 45, 90, 0, 20}, Case{1500, 1, 0, 30, 0, 1200}, Case{0, 0, 6, 20, 0, 20},
                           Case{0, 2, 0, 0, 8, 12}}) {
    CAPTURE(when.returns);
    CAPTURE(when.hits);
    int gone = 0;
    int taken = 0;
    for (int i = 0; i < kCaches; ++i) {
      TestQueues cache;
      int next = cache.fill();
      std::map<EntryId, std::uint64_t> main;
      cache.for_each_entry([&](EntryId id, Entry& entry) {
        if ((entry.policy & kMain) == 0) return;
        entry.policy = (entry.policy & ~kHits) | when.hits;
        main[id] = entry.ref;
      });
      ShardSpace& space = cache.space();
      space.small_drops = 3000;
      space.small_returns = when.returns;
      space.main_drops = space.main_returns = when.returns / 10;  // Regretted more often, so that the border stands.
      space.small_left = 0;
      cache.evict(&next, 1280);
      for (const auto& [id, ref] : main) {
        const Entry& entry = Index::entry_unchecked(&cache.header(), id);
        const bool stays = entry.ref == ref;
        gone += stays ? 0 : 1;
        taken += stays ? static_cast<int>(when.hits - (entry.policy & kHits)) : 0;
      }
      CHECK(cache.problems() == "");
    }
    CAPTURE(gone);
    CAPTURE(taken);
    CHECK(gone >= when.least_gone * kCaches);
    CHECK(gone <= when.most_gone * kCaches);
    CHECK(taken >= when.least_taken * kCaches);
    CHECK(taken <= when.most_taken * kCaches);
  }
}

TEST_CASE("what comes back after more than a round of a main queue that has most goes to the small one") {
  TestQueues cache;
  int next = cache.fill();
  ShardSpace& space = cache.space();
  const auto count_main = [&](bool is_late, std::uint64_t target) {
    const int dropped = next;
    cache.evict(&next, 600);
    int main = 0;
    for (int i = dropped; i < dropped + 300; ++i) {
      if (cache.has(i)) continue;
      if (is_late) {
        for (std::uint32_t cell = 0; cell < cache.header().cells; ++cell) {
          Index::bucket(&cache.header(), cell).eviction &= ~kRecentMask;
        }
      }
      space.small_target = target;
      space.small_drops = space.main_drops = 3000;
      space.small_returns = space.main_returns = 1000;
      cache.put(i);
      main += cache.is_in(i, kMain) ? 1 : 0;
    }
    return main;
  };
  CHECK(count_main(false, space.used_memory / 10) > 30);
  CHECK(count_main(true, space.used_memory / 10) == 0);
  CHECK(count_main(true, space.used_memory / 2) > 30);
  CHECK(cache.problems() == "");
}

TEST_CASE("the hand of the main queue makes what it passes late") {
  TestQueues cache;
  int next = cache.fill();
  const auto count_late = [&] {
    int late = 0;
    for (std::uint32_t cell = 0; cell < cache.header().cells; ++cell) {
      late += (Index::bucket(&cache.header(), cell).eviction & kRecentMask) == 0 ? 1 : 0;
    }
    return late;
  };
  for (std::uint32_t cell = 0; cell < cache.header().cells; ++cell) {
    std::atomic<std::uint64_t>& word = Index::bucket(&cache.header(), cell).eviction;
    word = (word & ~kRecentMask) | kGhostsPerBucket * kOneRecent;
  }
  REQUIRE(count_late() == 0);
  cache.space().main_debt = 100;
  cache.evict(&next, 100);
  CHECK(count_late() > 5);
  CHECK(count_late() < static_cast<int>(cache.header().cells));
}

TEST_CASE("a fingerprint is recent until it is the oldest but those that came since, and goes alone") {
  std::uint64_t word = ~kGhosts;
  for (std::uint64_t ghost = 2; ghost <= 12; ghost += 2) word = with_ghost(word, ghost);
  CHECK((word & kRecentMask) == kGhostsPerBucket * kOneRecent);
  CHECK((word & ~kGhosts) == ~kGhosts);
  word &= ~kRecentMask;
  word = with_ghost(with_ghost(word, 14), 16);
  for (const std::uint32_t number : {0U, 1U, 2U, 4U}) CHECK(is_recent_ghost(word, number * kGhostBits) == (number < 2));
  const std::uint64_t without_recent = without_ghost(word, kGhostBits);
  CHECK((without_recent & kRecentMask) == kOneRecent);
  CHECK((without_recent & kGhostMask) == (16U | 12U << kGhostBits | 10U << 2 * kGhostBits | 8ULL << 3 * kGhostBits));
  CHECK((without_ghost(word, 2 * kGhostBits) & kRecentMask) == 2 * kOneRecent);
  CHECK((without_ghost(word, 2 * kGhostBits) & ~kGhosts) == ~kGhosts);
}

TEST_CASE("of sparse fingerprints the older ones say nothing of the small queue, and stay sparse") {
  std::uint64_t word = kSparse;
  for (std::uint64_t ghost = 2; ghost <= 10; ghost += 2) word = with_ghost(word, ghost);
  constexpr std::uint16_t kOdd = 1;
  for (std::uint32_t number = 0; number < kGhostsPerBucket; ++number) {
    const std::uint32_t shift = number * kGhostBits;
    CHECK(is_evidence(word, shift, kOdd) == (number < 3));
    CHECK(is_evidence(word & ~kSparse, shift, kOdd));
    CHECK(is_evidence(word | std::uint64_t{1} << shift, shift, kOdd));  // One of the main queue.
  }
  CHECK((without_ghost(word, kGhostBits) & kSparse) != 0);
  CHECK((without_ghost(word & ~kSparse, kGhostBits) & kSparse) == 0);
}

// What the small queue dropped of late, by the bit of its key that decides who leaves a fingerprint.
struct Dropped {
  int all[2] = {0, 0};
  int known[2] = {0, 0};
  int sparse = 0;  // Buckets.
};

struct DropsOf {
  std::uint32_t returns_part = 0;  // One drop in so many came back.
  std::uint64_t target = 0;
  std::uint32_t turn = 0;
};

Dropped drop_from_small(TestQueues* cache, int* next, const DropsOf& how) {
  ShardSpace& space = cache->space();
  for (std::uint32_t cell = 0; cell < cache->header().cells; ++cell) {
    Index::bucket(&cache->header(), cell).eviction &= ~kGhosts;
  }
  std::set<int> gone_before;
  for (int i = 0; i < *next; ++i) {
    if (!cache->has(i)) gone_before.insert(i);
  }
  for (int i = 0; i < 900; ++i) {
    space.small_drops = space.entries;
    space.small_returns = space.entries / how.returns_part;
    space.main_drops = space.main_returns = space.main_debt = 0;
    space.asks = 0;
    space.small_read = space.entries;  // Or the small queue would shrink.
    space.small_target = how.target;
    space.small_left = how.turn << std::bit_width(space.entries);
    cache->evict(next, 1);
  }
  Dropped dropped;
  for (int i = 0; i < *next; ++i) {
    if (gone_before.count(i) != 0 || cache->has(i)) continue;
    const KeyHash hash = cache->key(cache->name(i)).hash;
    const std::uint32_t bucket = Index::bucket_of(hash.bucket_bits(), cache->header().cells);
    const std::uint64_t word = Index::bucket(&cache->header(), bucket).eviction;
    ++dropped.all[hash.tag() >> 1 & 1];
    dropped.known[hash.tag() >> 1 & 1] += find_ghost(word, hash.tag()) != kAskedShift ? 1 : 0;
  }
  for (std::uint32_t cell = 0; cell < cache->header().cells; ++cell) {
    dropped.sparse += (Index::bucket(&cache->header(), cell).eviction & kSparse) != 0 ? 1 : 0;
  }
  REQUIRE(dropped.all[0] > 200);
  REQUIRE(dropped.all[1] > 200);
  CHECK(cache->problems() == "");
  return dropped;
}

TEST_CASE("where few of what the small queue drops come back, half of the keys leave a fingerprint, and take turns") {
  TestQueues cache;
  int next = cache.fill();
  const std::uint64_t least = cache.space().used_memory / 20;
  for (const std::uint32_t turn : {0U, 1U}) {
    const Dropped dropped = drop_from_small(&cache, &next, {.returns_part = 26, .target = least, .turn = turn});
    CHECK(dropped.known[turn] < dropped.all[turn] / 3);  // Those of the main queue.
    CHECK(dropped.known[1 - turn] > dropped.all[1 - turn] * 9 / 10);
    CHECK(dropped.sparse > 100);
  }
}

TEST_CASE("with more that come back, and where the small queue has all, each key leaves a fingerprint") {
  TestQueues cache;
  int next = cache.fill();
  TestQueues new_cache;
  int new_next = 0;
  while (new_cache.counters().evictions == 0) new_cache.put(new_next++);
  for (const Dropped& dropped :
       {drop_from_small(&cache, &next, {.returns_part = 24, .target = cache.space().used_memory / 20}),
        drop_from_small(&new_cache, &new_next, {.returns_part = 26, .target = Eviction::kAllForSmall})}) {
    CHECK(dropped.known[0] > dropped.all[0] * 8 / 10);
    CHECK(dropped.known[1] > dropped.all[1] * 8 / 10);
    CHECK(dropped.sparse == 0);
  }
}

TEST_CASE("when the small queue gets all, what was dropped before says nothing any more") {
  TestQueues cache;
  int next = cache.fill();
  ShardSpace& space = cache.space();
  for (const bool gets_all : {false, true}) {
    space.small_target = space.used_memory / 100 * (gets_all ? 99 : 50) - 1;
    space.small_drops = space.main_drops = 1000;
    space.small_returns = 900;
    space.main_returns = 0;
    space.asks = 1;
    cache.evict(&next, 1);
    CHECK((space.small_returns == 0) == gets_all);
    CHECK((space.small_drops < 100) == gets_all);
  }
}

TEST_CASE("a small queue that has all leaves the main one what it has") {
  TestQueues cache;
  int next = 0;
  while (cache.counters().evictions == 0) cache.put(next++);
  ShardSpace& space = cache.space();
  space.small_left = 0;
  for (int i = 0; i < 1000; ++i) {
    space.small_drops = space.small_read = 1000;
    space.small_returns = 500;
    space.asks = 1;
    cache.evict(&next, 1);
  }
  CHECK(space.main_debt == 0);
  CHECK(space.small_left == 0);
  CHECK(space.main_drops < 50);
  CHECK(cache.problems() == "");
}

TEST_CASE("what each queue dropped and what came back of it are halved together") {
  TestQueues cache;
  int next = cache.fill();
  ShardSpace& space = cache.space();
  space.small_drops = 2 * space.entries + 63;
  space.small_returns = 600;
  space.small_read = 40;
  space.main_drops = 200;
  space.main_returns = 10;
  cache.evict(&next, 1);
  CHECK(space.small_drops == space.entries + 32);
  CHECK(space.small_returns == 300);
  CHECK(space.small_read == 20);
  CHECK(space.main_drops == 200);
  CHECK(space.main_returns == 10);
  // A debt makes the next one that goes one of the main queue.
  space.main_debt = 1;
  space.main_drops = space.entries / 4 + 63;
  cache.evict(&next, 1);
  CHECK(space.main_debt == 0);
  CHECK(space.main_drops == (space.entries / 4 + 64) / 2);
  CHECK(space.main_returns == 5);
  CHECK(space.small_returns == 300);
}

}  // namespace
}  // namespace memstream::test
