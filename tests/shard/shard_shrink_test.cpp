// A table that was made for many tiny values gives its memory back, and loses nothing on the way.
#include <doctest/doctest.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/shard/shard.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kSize = std::uint64_t{4} << 20;
constexpr int kKept = 300;

std::string kept_key(int number) { return "kept-" + std::to_string(number); }

// A shard in which a phase of tiny values has left a large table, and `kKept` keys from here and there in it.
class AfterTinyValues : public TestShard {
 public:
  AfterTinyValues() : TestShard(kSize) {
    int tiny = 0;
    for (; statistics().counters.evictions == 0; ++tiny) {
      REQUIRE(set("tiny-" + std::to_string(tiny), "t") == Status::kOk);
      if (tiny % 50 == 0 && tiny / 50 < kKept) {
        REQUIRE(set(kept_key(tiny / 50), pattern(100, static_cast<std::uint64_t>(tiny / 50)), 1'000'000, 7) ==
                Status::kOk);
      }
    }
    for (int i = 0; i < tiny; ++i) static_cast<void>(remove("tiny-" + std::to_string(i)));
    table_bytes = statistics().table_memory;
    REQUIRE(table_bytes > kSize / 5);
  }
  // Large values, until the table is smaller.
  void shrink() {
    for (int i = 0; statistics().table_memory == table_bytes; ++i) {
      REQUIRE(i < 1000);
      REQUIRE(set("large-" + std::to_string(i), pattern(20'000, 1)) == Status::kOk);
    }
  }
  std::set<std::string> kept() {
    std::set<std::string> found;
    for (int i = 0; i < kKept; ++i) {
      const auto value = get(kept_key(i));
      if (!value) continue;
      CHECK(*value == pattern(100, static_cast<std::uint64_t>(i)));
      found.insert(kept_key(i));
    }
    return found;
  }

  std::uint64_t table_bytes = 0;
};

TEST_CASE("the memory of a table that tiny values left goes to large ones") {
  AfterTinyValues cache;
  cache.shrink();
  CHECK(cache.statistics().table_memory < cache.table_bytes / 8);
  CHECK(cache.problems() == "");
  for (int i = 0; i < 1000; ++i) {
    REQUIRE(cache.set("larger-" + std::to_string(i), pattern(20'000, 2)) == Status::kOk);
  }
  CHECK(cache.statistics().used_memory > cache.shard_size() * 9 / 10);
  CHECK(cache.counters().damaged == 0);
  CHECK(cache.problems() == "");
}

TEST_CASE("a table that shrinks loses no key, no expiry, no flags and no count") {
  AfterTinyValues cache;
  for (int i = 0; i < 3; ++i) REQUIRE(cache.kept().size() == kKept);
  const std::uint64_t evictions = cache.counters().evictions;
  cache.shrink();
  const std::set<std::string> kept = cache.kept();
  CHECK(kept.size() + (cache.counters().evictions - evictions) >= kKept);
  CHECK(kept.size() > kKept * 9 / 10);
  for (const std::string& key : kept) {
    const ReadResult read = cache.read(key);
    REQUIRE(read.expires_ms == 1'000'000);
    REQUIRE(read.caller_flags == 7);
    REQUIRE(read.created_ms == 1000);
    REQUIRE(cache.entry(key).access_count >= 3);
  }
  // And it grows again.
  for (int i = 0; i < 50'000; ++i) REQUIRE(cache.set("again-" + std::to_string(i), "t") == Status::kOk);
  CHECK(cache.statistics().table_memory > kSize / 5);
  CHECK(cache.problems() == "");
}

TEST_CASE("a table that is not much too large stays as it is") {
  AfterTinyValues cache;
  const std::uint64_t entries = cache.table_bytes / sizeof(Cell) * kEntriesPerCell;
  for (std::uint64_t i = 0; i < entries / 3; ++i) REQUIRE(cache.set("k" + std::to_string(i), "t") == Status::kOk);
  for (int i = 0; i < 20; ++i) REQUIRE(cache.set("large-" + std::to_string(i), pattern(20'000, 1)) == Status::kOk);
  CHECK(cache.statistics().table_memory == cache.table_bytes);
}

TEST_CASE("what is viewed stays in place when its entry moves") {
  AfterTinyValues cache;
  std::map<int, PinnedBlock> pinned;
  for (int i = 0; i < kKept; i += 3) REQUIRE(cache.pin(kept_key(i), &pinned[i]) == Status::kOk);
  cache.shrink();
  for (int i = 0; i < kKept; ++i) static_cast<void>(cache.set(kept_key(i), pattern(100, 1000)));
  for (int i = 0; i < 500; ++i) REQUIRE(cache.set("more-" + std::to_string(i), pattern(20'000, 1)) == Status::kOk);
  for (const auto& [i, block] : pinned) {
    CHECK(std::string(reinterpret_cast<const char*>(block.value), block.read.value_size) ==
          pattern(100, static_cast<std::uint64_t>(i)));
    CHECK(cache.unpin(block) == Status::kOk);
  }
  CHECK(cache.statistics().pinned_memory == 0);
  CHECK(cache.problems() == "");
}

TEST_CASE("a scan that is under way when the table shrinks misses no key") {
  AfterTinyValues cache;
  std::set<std::string> met;
  std::uint32_t next = 0;
  const auto visit = [&](std::size_t most) {
    std::size_t count = 0;
    REQUIRE(cache.shard.scan(&next, {cache.deadline(), cache.now_ms}, [&](const ScannedEntry& entry) {
      if (count++ == most) return false;
      met.emplace(reinterpret_cast<const char*>(entry.block.key), entry.block.key_size);
      return true;
    }) == Status::kOk);
  };
  visit(kKept / 2);
  REQUIRE(next != 0);
  cache.shrink();
  while (next != 0) visit(10'000);
  for (const std::string& key : cache.kept()) CHECK(met.count(key) == 1);
}

TEST_CASE("who dies while an entry moves leaves the key with one entry, and no damage") {
  for (const bool is_owner_changed : {false, true}) {
    CAPTURE(is_owner_changed);
    TestShard cache;
    REQUIRE(cache.set("key", pattern(100, 1)) == Status::kOk);
    REQUIRE(cache.set("other", "value") == Status::kOk);
    const Entry& from = cache.entry("key");
    BlockHeader& block = cache.block("key");
    REQUIRE(cache.remove("other") == Status::kOk);
    const EntryId to_id{cache.header().space.free_entry};
    Entry& to = Index::entry_unchecked(&cache.header(), to_id);
    to.hash = from.hash.load();
    to.policy = from.policy.load();
    to.ref = ref_live(to.ref, ref_block(from.ref)) | kPinnedHint;
    if (is_owner_changed) block.owner = block.owner >> 32 << 32 | to_id;
    cache.recover();
    CHECK(cache.get("key") == pattern(100, 1));
    CHECK(&cache.entry("key") == (is_owner_changed ? &to : &from));
    CHECK(cache.counters().damaged == 0);
    CHECK(cache.statistics().entries == 1);
    CHECK(cache.problems() == "");
  }
}

}  // namespace
}  // namespace memstream::test
