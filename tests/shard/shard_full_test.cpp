// A full shard: it goes on accepting, evicts no more than it must, fills its memory whatever the sizes are, and lives
// with less memory than it was promised.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
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

// Lets all segments together have only so much more memory than they have now, until the end of the test.
class MemoryLimit {
 public:
  explicit MemoryLimit(std::size_t more_bytes) {
    MemoryBackend::limit_committed_bytes(MemoryBackend::committed_bytes() + more_bytes);
  }
  MemoryLimit(const MemoryLimit&) = delete;
  MemoryLimit& operator=(const MemoryLimit&) = delete;
  ~MemoryLimit() { MemoryBackend::unlimit_committed_bytes(); }
};

std::string numbered(const char* stem, int number) { return stem + std::to_string(number); }

struct Filling {
  const char* what;
  std::uint64_t segment_bytes;
  std::size_t least_value;
  std::size_t most_value;
  double live_part;   // Of the shard, in live blocks.
  double total_part;  // Of the shard, in live blocks and table.
  int newest;         // So many of the last keys are there: those in the small queue.
};

TEST_CASE("after ten times its size was written every put was accepted, the newest are there, the memory is full") {
  constexpr std::uint64_t kMiB = 1U << 20;
  for (const Filling& filling : {Filling{"64-byte values", 2 * kMiB, 64, 64, 0.5, 0.80, 5},
                                 Filling{"values of 0 to 200 bytes", 2 * kMiB, 0, 200, 0.5, 0.80, 5},
                                 Filling{"values of 1 KiB", 4 * kMiB, 1024, 1024, 0.85, 0.90, 5},
                                 Filling{"values of 1 to 40 KiB", 8 * kMiB, 1024, 40 * 1024, 0.85, 0.85, 5},
                                 Filling{"values of 1 MiB", 32 * kMiB, kMiB, kMiB, 0.80, 0.80, 2}}) {
    CAPTURE(filling.what);
    TestShard cache(filling.segment_bytes);
    std::mt19937 random(3);
    std::uniform_int_distribution<std::size_t> size(filling.least_value, filling.most_value);
    const std::string bytes = pattern(filling.most_value, 1);
    std::uint64_t written = 0;
    int count = 0;
    for (; written < 10 * cache.shard_size(); ++count) {
      const std::string value = bytes.substr(0, size(random));
      REQUIRE(cache.set(numbered("key-", count), value) == Status::kOk);
      written += value.size() + 64;  // An item costs more than its value.
      if (count % 16 == 0) ++cache.now_ms;
    }
    // The last one always. The window that is cleared for a large value, or a chain that is too long, may take another.
    CHECK(cache.get(numbered("key-", count - 1)).has_value());
    int missing = 0;
    for (int i = count - filling.newest; i < count; ++i) missing += cache.get(numbered("key-", i)) ? 0 : 1;
    CHECK(missing <= 1);
    const ShardStatistics full = cache.statistics();
    const auto part = [&](std::uint64_t part_bytes) {
      return static_cast<double>(part_bytes) / static_cast<double>(cache.shard_size());
    };
    CHECK(part(full.used_memory) >= filling.live_part);
    CHECK(part(full.used_memory + full.table_memory) >= filling.total_part);
    CHECK(full.entries + full.counters.evictions == static_cast<std::uint64_t>(count));
    CHECK(cache.problems() == "");
  }
}

TEST_CASE("the table grows into the heap when keys are what is short") {
  TestShard cache;
  // Few large values first: the heap takes nearly everything, the table stays at its first page.
  for (int i = 0; i < 300; ++i) REQUIRE(cache.set(numbered("large-", i), pattern(8000, 1)) == Status::kOk);
  const std::uint64_t small_table = cache.statistics().table_memory;
  for (int i = 0; i < 30'000; ++i) REQUIRE(cache.set(numbered("small-", i), "12345678") == Status::kOk);
  const ShardStatistics after = cache.statistics();
  CHECK(after.table_memory > 20 * small_table);
  CHECK(after.entries > 5000);
  CHECK(cache.problems() == "");
  // And what the table took is no loss: large values still come in.
  REQUIRE(cache.set("limit", pattern(200'000, 2)) == Status::kOk);
  CHECK(cache.get("limit") == pattern(200'000, 2));
}

TEST_CASE("with room to spare in the heap a new key costs no other key, but blocks at the table's border") {
  TestShard cache;
  for (int i = 0; i < 112; ++i) REQUIRE(cache.set(numbered("large-", i), pattern(8000, 1)) == Status::kOk);
  // Half of the heap is free then, in holes, and the last one freed serves first: the one farthest from the border.
  for (int i = 110; i >= 0; i -= 2) REQUIRE(cache.remove(numbered("large-", i)) == Status::kOk);
  for (int i = 0; i < 1500; ++i) REQUIRE(cache.set(numbered("small-", i), "12345678") == Status::kOk);
  for (int i = 0; i < 1500; ++i) CHECK(cache.get(numbered("small-", i)) == "12345678");
  CHECK(cache.counters().evictions <= 15);
  CHECK(cache.problems() == "");
}

TEST_CASE("an entry that was read since the hand came by outlives those that were not") {
  TestShard cache;
  REQUIRE(cache.set("hot", "value") == Status::kOk);
  for (int i = 0; i < 5000; ++i) {
    REQUIRE(cache.set(numbered("cold-", i), pattern(1000, 1)) == Status::kOk);
    REQUIRE(cache.get("hot") == "value");
  }
  CHECK(cache.counters().evictions > 3000);
}

TEST_CASE("what has expired goes before what has not, and counts as expired") {
  TestShard cache;
  int alive = 0;
  for (int i = 0; cache.statistics().used_memory < cache.shard_size() / 2; ++i) {
    REQUIRE(cache.set(numbered("dying-", i), pattern(1000, 1), cache.now_ms + 10) == Status::kOk);
  }
  while (cache.statistics().used_memory < cache.shard_size() * 9 / 10) {
    REQUIRE(cache.set(numbered("alive-", alive++), pattern(1000, 2)) == Status::kOk);
  }
  cache.now_ms += 10;
  for (int i = 0; i < alive / 2; ++i) REQUIRE(cache.set(numbered("new-", i), pattern(1000, 3)) == Status::kOk);
  const ShardCounters counters = cache.counters();
  CHECK(counters.expirations >= static_cast<std::uint64_t>(alive / 2) - 120);
  CHECK(counters.evictions == 0);
}

TEST_CASE("one large value costs exactly one window: about its size in small ones") {
  TestShard cache(4U << 20);
  constexpr std::size_t kSmall = 1000;
  for (int i = 0; cache.counters().evictions == 0; ++i) {
    REQUIRE(cache.set(numbered("small-", i), pattern(kSmall, 1)) == Status::kOk);
  }
  for (const std::size_t large : {100'000U, 500'000U, 1'500'000U}) {
    const std::uint64_t before = cache.counters().evictions;
    REQUIRE(cache.set(numbered("large-", static_cast<int>(large)), pattern(large, 2)) == Status::kOk);
    const std::uint64_t evicted = cache.counters().evictions - before;
    const std::uint64_t stored = block_units_for(7, kSmall, false) * kUnitSize;
    CHECK(evicted <= large / stored + 2);
    CHECK(cache.problems() == "");
  }
}

constexpr int kWrites = 4;  // Of large values, in the tests below: enough for every key to be in a window, or nearly.

// Fills a shard and reads every second key until it is counted no more. Returns the numbers of these.
std::vector<int> fill_and_read(TestShard& cache, std::uint64_t expires_ms = 0, std::uint32_t flags = 0) {
  int count = 0;
  for (; cache.counters().evictions == 0; ++count) {
    ++cache.now_ms;
    REQUIRE(cache.set(numbered("small-", count), pattern(1000, count), expires_ms, flags) == Status::kOk);
  }
  std::vector<int> read;
  for (int i = 0; i < count; i += 2) {
    bool is_there = false;
    for (int reads = 0; reads < 3; ++reads) is_there = cache.get(numbered("small-", i)).has_value();
    if (is_there) read.push_back(i);
  }
  return read;
}

TEST_CASE("for a large value goes what is worth least; what lives where it comes to lie moves") {
  TestShard cache(4U << 20);
  const std::vector<int> read = fill_and_read(cache);
  std::map<int, std::uint32_t> before;
  for (const int i : read) before[i] = ref_block(cache.entry(numbered("small-", i)).ref);
  for (int i = 0; i < kWrites; ++i) {
    REQUIRE(cache.set(numbered("large-", i), pattern(300'000, i)) == Status::kOk);
    CHECK(cache.problems() == "");
  }
  int moved = 0;
  for (const int i : read) {
    REQUIRE(cache.get(numbered("small-", i)) == pattern(1000, i));
    moved += ref_block(cache.entry(numbered("small-", i)).ref) != before[i] ? 1 : 0;
  }
  CHECK(moved > 100);
  // In two writes out of three a few of the unread ones find no gap to move to.
  CHECK(cache.counters().evictions <= kWrites * (300'000U / 1056U + 20));
}

TEST_CASE("a value that moves takes along all that is known of it, its token too") {
  TestShard cache(4U << 20);
  const std::vector<int> read = fill_and_read(cache, 1'000'000, 7);
  std::map<int, ReadResult> before;
  for (const int i : read) before[i] = cache.read(numbered("small-", i));
  for (int i = 0; i < kWrites; ++i) REQUIRE(cache.set(numbered("large-", i), pattern(300'000, i)) == Status::kOk);
  int moved = 0;
  for (const int i : read) {
    const std::string key = numbered("small-", i);
    const ReadResult after = cache.read(key);
    CHECK(after.value_size == before[i].value_size);
    CHECK(after.created_ms == before[i].created_ms);
    CHECK(after.expires_ms == 1'000'000);
    CHECK(after.caller_flags == 7);
    CHECK(after.cas == before[i].cas);
    const std::uint32_t moves = BlockShape::unpack(cache.block(key).shape).moves();
    moved += moves != 0 ? 1 : 0;
    CHECK(cache.store(key, "new", StoreMode::kCas, after.cas) == Status::kOk);
    CHECK(cache.store(key, "newer", StoreMode::kCas, after.cas) == Status::kConflict);
    CHECK(BlockShape::unpack(cache.block(key).shape).moves() == 0);
  }
  CHECK(moved > 100);
  CHECK(cache.problems() == "");
}

TEST_CASE("a value whose moves are no longer counted goes on moving, and its token changes") {
  TestShard cache(4U << 20);
  const std::vector<int> read = fill_and_read(cache);
  std::map<int, std::uint64_t> before;
  for (const int i : read) {
    std::atomic<std::uint64_t>& word = cache.block(numbered("small-", i)).shape;
    BlockShape shape = BlockShape::unpack(word);
    shape.flags |= kMaxMoves << kMovesShift;
    word = shape.pack();
    before[i] = cache.read(numbered("small-", i)).cas;
  }
  for (int i = 0; i < kWrites; ++i) REQUIRE(cache.set(numbered("large-", i), pattern(300'000, i)) == Status::kOk);
  int moved = 0;
  for (const int i : read) {
    const std::string key = numbered("small-", i);
    const std::uint64_t cas = cache.read(key).cas;
    CHECK(cache.get(key) == pattern(1000, i));
    CHECK(BlockShape::unpack(cache.block(key).shape).moves() == kMaxMoves);
    if (cas == before[i]) continue;
    ++moved;
    CHECK(cache.store(key, "new", StoreMode::kCas, before[i]) == Status::kConflict);
    CHECK(cache.store(key, "new", StoreMode::kCas, cas) == Status::kOk);
  }
  CHECK(moved > 100);
  CHECK(cache.problems() == "");
}

TEST_CASE("a key gets a large value for which the one that it has has to move") {
  TestShard cache(4U << 20);
  const std::vector<int> read = fill_and_read(cache);
  const int own = read[read.size() / 2];
  // The heap grows downwards: what was stored next lies before it, and becomes the largest gap.
  for (int i = own + 1; i <= own + 10; ++i) REQUIRE(cache.remove(numbered("small-", i)) == Status::kOk);
  const std::string key = numbered("small-", own);
  const std::uint64_t generation = cache.entry(key).ref >> 32;
  REQUIRE(cache.set(key, pattern(20'000, 1)) == Status::kOk);
  CHECK((cache.entry(key).ref >> 32) == generation + 2);  // It did move.
  CHECK(cache.get(key) == pattern(20'000, 1));
  CHECK(cache.problems() == "");
  REQUIRE(cache.remove(key) == Status::kOk);
  CHECK_FALSE(cache.get(key));
  CHECK(cache.problems() == "");
}

TEST_CASE("what has expired in a window does not move, and counts as expired") {
  TestShard cache(4U << 20);
  fill_and_read(cache, 1'000'000);
  cache.now_ms = 1'000'000;
  const std::uint64_t evictions = cache.counters().evictions;
  REQUIRE(cache.set("large", pattern(2'000'000, 1)) == Status::kOk);
  CHECK(cache.counters().evictions == evictions);
  CHECK(cache.counters().expirations >= 1900);
  CHECK(cache.problems() == "");
}

TEST_CASE("a new value behind the largest gap stays although it is larger than any gap") {
  constexpr std::uint64_t kSize = 4U << 20;
  int fits = 0;
  for (TestShard other(kSize); other.counters().evictions == 0; ++fits) {
    REQUIRE(other.set(numbered("small-", fits), pattern(1000, 1)) == Status::kOk);
  }
  TestShard cache(kSize);
  const int newer = fits - 80;  // The first one that is stored after it, and lies before it: the heap grows downwards.
  int count = 0;
  for (; cache.counters().evictions == 0; ++count) {
    if (count == newer) REQUIRE(cache.set("new", pattern(20'000, 2)) == Status::kOk);
    REQUIRE(cache.set(numbered("small-", count), pattern(1000, 1)) == Status::kOk);
  }
  for (int i = 0; i < count; i += 2) (void)cache.get(numbered("small-", i));  // So that what goes leaves small gaps.
  for (int i = newer; i < newer + 10; ++i) REQUIRE(cache.remove(numbered("small-", i)) == Status::kOk);
  REQUIRE((cache.entry("new").policy & kSmall) != 0);
  REQUIRE(cache.set("large", pattern(15'000, 3)) == Status::kOk);
  CHECK(cache.get("new") == pattern(20'000, 2));
  CHECK(cache.get("large") == pattern(15'000, 3));
  CHECK(cache.problems() == "");
}

TEST_CASE("what is new stays, also where windows are cleared: sizes grow from 64 bytes to 1 KiB") {
  for (const int gaps : {0, 8}) {  // One in so many of the small ones is deleted before.
    CAPTURE(gaps);
    TestShard cache(4U << 20);
    int small = 0;
    while (cache.counters().evictions < 2000) {
      REQUIRE(cache.set(numbered("small-", small), pattern(64, small)) == Status::kOk);
      ++small;
    }
    for (int i = 0; gaps != 0 && i < small; i += gaps) (void)cache.remove(numbered("small-", i));
    const auto is_there = [&](int i) {
      return cache.shard.inspect(cache.key(numbered("new-", i)), {cache.deadline(), cache.now_ms}, {}) == Status::kOk;
    };
    // Nobody reads them. The least part of the small queue holds twice as many as are looked for.
    constexpr int kPuts = 4000;
    constexpr int kNewest = 100;
    int missing = 0;
    for (int i = 0; i < kPuts; ++i) {
      REQUIRE(cache.set(numbered("new-", i), pattern(1000, i)) == Status::kOk);
      if (i >= kNewest && !is_there(i - kNewest)) ++missing;
    }
    CHECK(missing <= kPuts / 50);
    CHECK(cache.problems() == "");
  }
}

TEST_CASE("windows for large values go round: each takes another part of the heap") {
  TestShard cache(4U << 20);
  // Each is read once, so that they go in the order in which they came.
  for (int i = 0; cache.counters().evictions == 0; ++i) {
    REQUIRE(cache.set(numbered("small-", i), pattern(1000, 1)) == Status::kOk);
    REQUIRE(cache.get(numbered("small-", i)));
  }
  for (int i = 0; i < 3; ++i) {
    REQUIRE(cache.set(numbered("large-", i), pattern(1'000'000, 1)) == Status::kOk);
    for (int alive = 0; alive <= i; ++alive) CHECK(cache.get(numbered("large-", alive)));
  }
  CHECK(cache.statistics().entries > 3);  // None of them was evicted one by one.
  CHECK(cache.problems() == "");
}

TEST_CASE("a chain that reached its bound gives its coldest entry, and costs nobody else") {
  TestShard cache;
  // Keys that all lead to one of the 16 buckets that the table has at first; 76 entries do not make it grow.
  std::vector<std::string> keys;
  const std::uint32_t bucket = cache.key("some key").hash.bucket_bits() & 0xf;
  for (int i = 0; keys.size() < kBucketWidth + kMaxChain + 20; ++i) {
    std::string key = numbered("hostile-", i);
    if ((cache.key(key).hash.bucket_bits() & 0xf) == bucket) keys.push_back(std::move(key));
  }
  for (std::size_t i = 0; i < keys.size(); ++i) {
    ++cache.now_ms;
    REQUIRE(cache.set(keys[i], std::to_string(i)) == Status::kOk);
    CHECK(cache.get(keys[i]) == std::to_string(i));
  }
  CHECK(cache.statistics().entries == kBucketWidth + kMaxChain);
  CHECK(cache.counters().evictions == 20);
  // The first eight stand in the bucket itself; the coldest of the chain are those that came next.
  for (std::size_t i = 0; i < keys.size(); ++i) {
    CHECK(cache.get(keys[i]).has_value() == (i < kBucketWidth || i >= kBucketWidth + 20));
  }
  CHECK(cache.problems() == "");
}

TEST_CASE("with less memory than it was promised the shard evicts, counts it and goes on") {
  TestShard cache(8U << 20);
  const MemoryLimit limit(2U << 20);
  for (int i = 0; i < 20'000; ++i) {
    if (i % 100 == 0) cache.now_ms += 700;  // It asks again from time to time.
    REQUIRE(cache.set(numbered("key-", i), pattern(1000, 1)) == Status::kOk);
  }
  CHECK(cache.get("key-19999") == pattern(1000, 1));
  const ShardStatistics statistics = cache.statistics();
  CHECK(statistics.counters.commit_failures > 0);
  CHECK(statistics.counters.evictions > 15'000);
  CHECK(statistics.committed_memory < (3U << 20));
  CHECK(static_cast<double>(statistics.used_memory) > 0.85 * (2U << 20));
  CHECK(cache.problems() == "");
}

TEST_CASE("when the system has memory again the shard takes it") {
  TestShard cache(4U << 20);
  {
    const MemoryLimit limit(256U << 10);
    for (int i = 0; i < 2000; ++i) REQUIRE(cache.set(numbered("key-", i), pattern(1000, 1)) == Status::kOk);
    CHECK(cache.statistics().committed_memory < (1U << 20));
  }
  for (int i = 0; i < 10; ++i) REQUIRE(cache.set(numbered("soon-", i), pattern(1000, 1)) == Status::kOk);
  CHECK(cache.statistics().committed_memory < (1U << 20));  // Not at every put: a refusal holds for a second.
  cache.now_ms += 1000;
  for (int i = 0; i < 4000; ++i) REQUIRE(cache.set(numbered("later-", i), pattern(1000, 1)) == Status::kOk);
  CHECK(cache.statistics().committed_memory > (3U << 20));
}

TEST_CASE("a value that the memory in hand cannot hold is refused, and nothing is evicted for it") {
  TestShard cache(8U << 20);
  const MemoryLimit limit(1U << 20);
  for (int i = 0; i < 500; ++i) REQUIRE(cache.set(numbered("key-", i), pattern(1000, 1)) == Status::kOk);
  const ShardStatistics before = cache.statistics();
  CHECK(cache.set("large", pattern(2U << 20, 2)) == Status::kNoMemory);
  CHECK(message_has("/dev/shm"));
  CHECK(cache.statistics().entries == before.entries);
  CHECK(cache.problems() == "");
}

}  // namespace
}  // namespace memstream::test
