// Values overwritten in their own blocks: when that is done, and what becomes of one that its writer was killed at.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "core/layout/block.h"
#include "core/shard/shard.h"
#include "tests/support/overwriting_shard.h"

namespace memstream::test {

TEST_CASE("a value of the same size takes the place of the one before it") {
  OverwritingShard cache;
  REQUIRE(cache.put("key", pattern(64, 1), 0, 7) == Status::kOk);
  REQUIRE(cache.put("other", pattern(64, 2)) == Status::kOk);
  const std::uint32_t position = cache.position("key");
  const std::uint64_t cas = cache.read("key").cas;
  const ShardStatistics before = cache.statistics();
  cache.now_ms = kLastCreatedMs - 1000;
  REQUIRE(cache.put("key", pattern(64, 3), cache.now_ms + 100, 9) == Status::kOk);
  CHECK(cache.position("key") == position);
  CHECK(cache.get("key") == pattern(64, 3));
  CHECK(cache.get("other") == pattern(64, 2));
  const ReadResult read = cache.read("key");
  CHECK(read.cas != cas);
  CHECK(read.caller_flags == 9);
  CHECK(read.expires_ms == cache.now_ms + 100);
  CHECK(read.created_ms == cache.now_ms);
  const ShardStatistics after = cache.statistics();
  CHECK(after.used_memory == before.used_memory);
  CHECK(after.value_memory == before.value_memory);
  CHECK(after.entries == before.entries);
  CHECK(cache.problems() == "");
  cache.now_ms += 100;
  CHECK(cache.get("key") == std::nullopt);  // The expiry is the new value's.
}

// Of the same size as the one before it, with what the extras take.
TEST_CASE("a value with an expiry does not overwrite one whose block has no room for that, and the other way round") {
  OverwritingShard cache;
  REQUIRE(cache.put("key", pattern(64, 1)) == Status::kOk);
  const std::uint32_t position = cache.position("key");
  const std::uint64_t used_memory = cache.statistics().used_memory;
  REQUIRE(cache.put("key", pattern(48, 2), cache.now_ms + 100, 9) == Status::kOk);
  CHECK(cache.position("key") != position);
  CHECK(cache.statistics().used_memory == used_memory);
  CHECK(cache.get("key") == pattern(48, 2));
  CHECK(cache.read("key").expires_ms == cache.now_ms + 100);
  CHECK(cache.read("key").caller_flags == 9);
  REQUIRE(cache.put("key", pattern(64, 3)) == Status::kOk);
  CHECK(cache.statistics().used_memory == used_memory);
  CHECK(cache.get("key") == pattern(64, 3));
  CHECK(cache.read("key").expires_ms == 0);
  CHECK(cache.read("key").caller_flags == 0);
  CHECK(cache.problems() == "");
}

TEST_CASE("a value that fills its block to another degree does too, and sizes are counted anew") {
  OverwritingShard cache;
  // Key and value of 49 to 64 bytes behind a header of 16: two units, and four more for the value.
  REQUIRE(cache.put("key", pattern(64, 1)) == Status::kOk);
  const std::uint32_t position = cache.position("key");
  for (std::size_t size = 64; size >= 49; --size) {
    REQUIRE(cache.put("key", pattern(size, size)) == Status::kOk);
    CHECK(cache.position("key") == position);
    CHECK(cache.get("key") == pattern(size, size));
    CHECK(cache.statistics().value_memory == size);
  }
  CHECK(cache.problems() == "");
}

TEST_CASE("a value that does not fit its block, or leaves much of it empty, gets another") {
  OverwritingShard cache;
  for (const std::size_t size : {65U, 200U, 17U, 1U, 1088U, 1089U, 5000U, 1089U, 0U, 64U}) {
    CAPTURE(size);
    REQUIRE(cache.put("key", pattern(64, 1)) == Status::kOk);
    const std::uint32_t position = cache.position("key");
    REQUIRE(cache.put("next", "stands behind, so that the block cannot grow") == Status::kOk);
    REQUIRE(cache.put("key", pattern(size, 2)) == Status::kOk);
    CHECK((cache.position("key") == position) == (size == 64));
    CHECK(cache.get("key") == pattern(size, 2));
    CHECK(cache.problems() == "");
    REQUIRE(cache.remove("key") == Status::kOk);
  }
}

TEST_CASE("values up to the size of a redo record are overwritten, larger ones are not") {
  OverwritingShard cache;
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, kRedoValueSize, kRedoValueSize + 1}) {
    CAPTURE(size);
    const std::string key = "key of " + std::to_string(size);
    REQUIRE(cache.put(key, pattern(size, 1)) == Status::kOk);
    const std::uint32_t position = cache.position(key);
    REQUIRE(cache.put(key, pattern(size, 2)) == Status::kOk);
    CHECK((cache.position(key) == position) == (size <= kRedoValueSize));
    CHECK(cache.get(key) == pattern(size, 2));
  }
  CHECK(cache.problems() == "");
}

TEST_CASE("a value that is viewed stays as it is") {
  OverwritingShard cache;
  REQUIRE(cache.put("key", pattern(64, 1)) == Status::kOk);
  PinnedBlock view;
  REQUIRE(cache.pin("key", &view) == Status::kOk);
  REQUIRE(cache.put("key", pattern(64, 2)) == Status::kOk);
  CHECK(std::string(reinterpret_cast<const char*>(view.value), 64) == pattern(64, 1));
  CHECK(cache.position("key") != view.position);
  REQUIRE(cache.unpin(view) == Status::kOk);
  CHECK(cache.get("key") == pattern(64, 2));
  CHECK(cache.problems() == "");
}

TEST_CASE("where a value was viewed the next one gets a block of its own, and the one after it is written over that") {
  OverwritingShard cache;
  REQUIRE(cache.put("key", pattern(64, 1)) == Status::kOk);
  PinnedBlock view;
  REQUIRE(cache.pin("key", &view) == Status::kOk);
  REQUIRE(cache.unpin(view) == Status::kOk);
  REQUIRE(cache.put("key", pattern(64, 2)) == Status::kOk);
  const std::uint32_t position = cache.position("key");
  CHECK(position != view.position);
  REQUIRE(cache.put("key", pattern(64, 3)) == Status::kOk);
  CHECK(cache.position("key") == position);
  CHECK(cache.statistics().pinned_memory == 0);
  CHECK(cache.problems() == "");
}

TEST_CASE("without a redo record every value gets a block of its own") {
  OverwritingShard cache;
  REQUIRE(cache.set("key", pattern(64, 1)) == Status::kOk);
  const std::uint32_t position = cache.position("key");
  REQUIRE(cache.set("key", pattern(64, 2)) == Status::kOk);
  CHECK(cache.position("key") != position);
  CHECK(cache.problems() == "");
}

TEST_CASE("overwriting a value counts as a hit, and eviction learns of its expiry") {
  OverwritingShard cache;
  REQUIRE(cache.put("key", pattern(64, 1)) == Status::kOk);
  const Entry& entry = cache.entry("key");
  const std::uint32_t policy = entry.policy;
  CHECK((policy & (kHits | kExpires)) == 0);
  REQUIRE(cache.put("key", pattern(64, 2), cache.now_ms + 100) == Status::kOk);
  CHECK(entry.policy == (policy | kExpires | 1));
  for (std::uint32_t hits = 2; hits <= 4; ++hits) {
    REQUIRE(cache.put("key", pattern(64, hits)) == Status::kOk);
    CHECK(entry.policy == (policy | std::min(hits, kHits)));
  }
  CHECK(cache.problems() == "");
}

TEST_CASE("an increment overwrites the number") {
  OverwritingShard cache;
  REQUIRE(cache.put("n", "41") == Status::kOk);
  const std::uint32_t position = cache.position("n");
  std::int64_t result = 0;
  const IncrementRequest request{.key = cache.key("n"), .delta = 1, .redo = 1};
  REQUIRE(cache.shard.increment(request, {cache.deadline(), cache.now_ms}, &result) == Status::kOk);
  CHECK(result == 42);
  CHECK(cache.get("n") == "42");
  CHECK(cache.position("n") == position);
}

// ---- a writer that is killed ----

TEST_CASE("what a dead writer had committed is read before anybody has recovered the shard, and after") {
  // Of a block of 112 bytes with extras, and one of 96 without.
  for (std::size_t written = 0; written <= 112 + 96; written += 8) {
    CAPTURE(written);
    OverwritingShard cache;
    const bool has_extras = written <= 112;
    REQUIRE(cache.put("key", pattern(64, 1), 0, has_extras ? 1 : 0) == Status::kOk);
    REQUIRE(cache.put("other", pattern(64, 2)) == Status::kOk);
    cache.die_overwriting("key", pattern(60, 3), has_extras ? written : written - 112, has_extras ? 2 : 0);
    // A get takes no lock, so that it finds the shard as the dead one left it.
    CHECK(cache.get("key") == pattern(60, 3));
    CHECK(cache.read("key").caller_flags == (has_extras ? 2 : 0));
    CHECK(cache.get("other") == pattern(64, 2));
    CHECK(cache.header().redo == 1);
    cache.recover();
    CHECK(cache.header().redo == 0);
    CHECK(cache.get("key") == pattern(60, 3));
    CHECK(cache.read("key").caller_flags == (has_extras ? 2 : 0));
    CHECK(cache.get("other") == pattern(64, 2));
    CHECK(cache.counters().damaged == 0);
    CHECK(cache.problems() == "");
    REQUIRE(cache.put("key", pattern(64, 4)) == Status::kOk);
    CHECK(cache.get("key") == pattern(64, 4));
  }
}

TEST_CASE("whoever only reads gets the committed value from a shard that nobody can recover") {
  OverwritingShard cache;
  REQUIRE(cache.put("key", pattern(64, 1)) == Status::kOk);
  cache.die_overwriting("key", pattern(64, 2), 80);
  const auto segment = cache.attach(Access::kReadOnly);
  Shard reader(segment.get(), cache.geometry(), 0, cache.attached().hash_seed);
  std::string room(64, '\0');
  const GetResult got = reader.get(cache.key("key"), {reinterpret_cast<std::byte*>(room.data()), room.size()},
                                   {cache.deadline(), cache.now_ms});
  CHECK(got.status == Status::kOk);
  CHECK(room == pattern(64, 2));
  std::vector<std::string> keys;
  std::uint32_t next = 0;
  REQUIRE(reader.scan(&next, {cache.deadline(), cache.now_ms}, [&](const ScannedEntry& scanned) {
    keys.emplace_back(reinterpret_cast<const char*>(scanned.block.key), scanned.block.key_size);
    CHECK(scanned.block.value_size == 64);
    return true;
  }) == Status::kOk);
  CHECK(keys == std::vector<std::string>{"key"});
}

TEST_CASE("where a value lies is told even while it is being overwritten") {
  OverwritingShard cache;
  REQUIRE(cache.put("key", pattern(64, 1)) == Status::kOk);
  const auto place = [&] {
    const std::byte* value = nullptr;
    CHECK(cache.shard.inspect(cache.key("key"), {cache.deadline(), cache.now_ms},
                              [&](const ScannedEntry& scanned) { value = scanned.block.value; }) == Status::kOk);
    return value;
  };
  const std::byte* const before = place();
  cache.die_overwriting("key", pattern(64, 2), 60);
  CHECK(place() == before);
  CHECK(cache.header().redo == 1);
}

TEST_CASE("a writer that was killed before its commit leaves the old value, after its end the new one") {
  OverwritingShard cache;
  REQUIRE(cache.put("key", pattern(64, 1)) == Status::kOk);
  REQUIRE(cache.put("key", pattern(64, 2)) == Status::kOk);
  cache.header().redo = 1;  // Its record speaks of a ref that the entry had before.
  cache.recover();
  CHECK(cache.get("key") == pattern(64, 2));
  cache.record().ref = ref_overwritten(cache.entry("key").ref);
  cache.header().redo = 1;  // Or of one that it does not have yet.
  cache.recover();
  CHECK(cache.get("key") == pattern(64, 2));
  CHECK(cache.counters().damaged == 0);
  CHECK(cache.problems() == "");
}

TEST_CASE("a recovery that is repeated finishes the same") {
  OverwritingShard cache;
  REQUIRE(cache.put("key", pattern(64, 1)) == Status::kOk);
  cache.die_overwriting("key", pattern(64, 2), 60);
  cache.recover();
  const std::uint64_t ref = cache.entry("key").ref;
  cache.header().redo = 1;  // The one who recovers was killed too, behind the ref or before it.
  cache.recover();
  CHECK(cache.entry("key").ref == ref);
  cache.entry("key").ref = ref & ~kLiveBit;
  cache.header().redo = 1;
  cache.recover();
  CHECK(cache.entry("key").ref == ref);
  CHECK(cache.get("key") == pattern(64, 2));
  CHECK(cache.problems() == "");
}

TEST_CASE("a record that makes no sense costs the key, and nothing else") {
  struct Damage {
    const char* what;
    void (*spoil)(OverwritingShard& cache, RedoRecord& redo);
  };
  const Damage damages[] = {
      {"no record", [](OverwritingShard& cache, RedoRecord&) { cache.header().redo = 0; }},
      {"no such record", [](OverwritingShard& cache, RedoRecord&) { cache.header().redo = 0x7fff'ffff; }},
      {"another record", [](OverwritingShard& cache, RedoRecord&) { cache.header().redo = 2; }},
      {"another ref", [](OverwritingShard&, RedoRecord& redo) { redo.ref = redo.ref + (std::uint64_t{1} << 32); }},
      {"another entry", [](OverwritingShard&, RedoRecord& redo) { redo.entry = redo.entry + 1; }},
      {"no entry", [](OverwritingShard&, RedoRecord& redo) { redo.entry = 0xffff'ffff; }},
      {"a free block", [](OverwritingShard&, RedoRecord& redo) { redo.block.shape = redo.block.shape & 0xffff'ffff; }},
      {"another owner", [](OverwritingShard&, RedoRecord& redo) { redo.block.owner = redo.block.owner + 1; }},
      {"another size", [](OverwritingShard&, RedoRecord& redo) { redo.block.shape = redo.block.shape + 1; }},
      {"a size beyond the record", [](OverwritingShard&, RedoRecord& redo) { redo.block.shape |= 0xff00; }},
      {"another key", [](OverwritingShard&, RedoRecord& redo) { redo.block.shape += std::uint64_t{1} << 53; }},
      {"extras", [](OverwritingShard&, RedoRecord& redo) { redo.block.shape ^= std::uint64_t{kBlockExtras} << 32; }},
      {"an aligned value",
       [](OverwritingShard&, RedoRecord& redo) { redo.block.shape |= std::uint64_t{kBlockAligned} << 32; }},
      {"more slack than the block has",
       [](OverwritingShard&, RedoRecord& redo) { redo.block.shape |= std::uint64_t{0x7f} << 46; }},
  };
  for (const Damage& damage : damages) {
    const std::string what = damage.what;
    CAPTURE(what);
    OverwritingShard cache;
    REQUIRE(cache.put("key", pattern(64, 1)) == Status::kOk);
    REQUIRE(cache.put("other", pattern(64, 2)) == Status::kOk);
    cache.die_overwriting("key", pattern(64, 3), 60);
    damage.spoil(cache, cache.record());
    CHECK(cache.get("key") == std::nullopt);
    CHECK(cache.get("other") == pattern(64, 2));
    CHECK(cache.counters().damaged == 1);
    CHECK(cache.header().redo == 0);
    CHECK(cache.problems() == "");
    REQUIRE(cache.put("key", pattern(64, 4)) == Status::kOk);
    CHECK(cache.get("key") == pattern(64, 4));
  }
}

TEST_CASE("the checker names an overwriting that nobody finishes") {
  OverwritingShard cache;
  REQUIRE(cache.put("key", "value") == Status::kOk);
  cache.header().redo = 1;
  CHECK(cache.problems().find("an overwriting that did not end") != std::string::npos);
  Entry& entry = cache.entry("key");
  entry.ref = entry.ref & ~kLiveBit;
  CHECK(cache.problems().find("a value half overwritten") != std::string::npos);
}

// ---- a process that takes a slot over ----

TEST_CASE("before a record is written again what it says is finished") {
  OverwritingShard cache;
  REQUIRE(cache.put("key", pattern(64, 1)) == Status::kOk);
  CHECK(cache.shard.replay_redo(0, cache.deadline()) == Status::kOk);
  CHECK(cache.counters().recoveries == 0);
  cache.die_overwriting("key", pattern(64, 2), 60);
  CHECK(cache.shard.replay_redo(1, cache.deadline()) == Status::kOk);
  CHECK(cache.header().redo == 1);  // Another record: nothing to wait for.
  CHECK(cache.shard.replay_redo(0, cache.deadline()) == Status::kOk);
  CHECK(cache.header().redo == 0);
  CHECK(cache.counters().recoveries == 1);
  std::memset(static_cast<void*>(&cache.record()), 0xff, sizeof(RedoRecord));
  CHECK(cache.get("key") == pattern(64, 2));
  CHECK(cache.problems() == "");
}

TEST_CASE("a number that something wrote over names no overwriting after that") {
  OverwritingShard cache;
  REQUIRE(cache.put("key", pattern(64, 1)) == Status::kOk);
  cache.header().redo = 1;
  CHECK(cache.shard.replay_redo(0, cache.deadline()) == Status::kOk);
  CHECK(cache.header().redo == 0);
  CHECK(cache.get("key") == pattern(64, 1));
}

TEST_CASE("while somebody alive is at it the record is not to be had") {
  OverwritingShard cache;
  REQUIRE(cache.put("key", pattern(64, 1)) == Status::kOk);
  cache.timeout = std::chrono::milliseconds(20);
  cache.header().redo = 1;
  REQUIRE(robust_mutex_try_lock(&cache.header().write_mutex) == LockOutcome::kAcquired);
  Status settled = Status::kOk;
  std::thread([&] { settled = cache.shard.replay_redo(0, cache.deadline()); }).join();
  CHECK(settled == Status::kBusy);
  cache.header().redo = 0;
  robust_mutex_unlock(&cache.header().write_mutex);
}

}  // namespace memstream::test
