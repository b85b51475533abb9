// The quick put: it stores as the put with all its cases does, does nothing where it must not, and is safe on any
// bytes.
#include "core/shard/quick_put.h"

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/support/overwriting_shard.h"
#include "tests/support/scale.h"

namespace memstream::test {
namespace {

// A shard that its process has looked into before.
class QuickShard : public OverwritingShard {
 public:
  QuickShard() {
    REQUIRE(put("first", "value") == Status::kOk);
    REQUIRE(remove("first") == Status::kOk);
  }

  // False if nothing was done.
  bool try_put(std::string_view key_bytes, std::string_view value, Status* status, std::uint32_t redo = 1) {
    return shard.put_quickly(key(key_bytes), reinterpret_cast<const std::byte*>(value.data()), value.size(), redo,
                             now_ms, status);
  }
  Status put_quickly(std::string_view key_bytes, std::string_view value) {
    Status status = Status::kInternal;
    REQUIRE(try_put(key_bytes, value, &status));
    return status;
  }
  // By a record that is not the one of OverwritingShard.
  bool is_left_alone(std::string_view key_bytes, std::string_view value) {
    Status status = Status::kOk;
    return !try_put(key_bytes, value, &status, 2);
  }
};

TEST_CASE("keys and values of every size are stored as the other put stores them") {
  QuickShard cache;
  QuickShard other;
  for (const std::size_t key_size : {1U, 3U, 4U, 8U, 9U, 13U, 16U, 17U, 40U, 1024U}) {
    for (const std::size_t size : {1U, 7U, 8U, 31U, 32U, 33U, 64U, 65U, 200U, 1000U, 1088U}) {
      CAPTURE(key_size);
      CAPTURE(size);
      const std::string name(key_size, 'k');
      for (int round = 1; round <= 3; ++round) {
        const std::string value = pattern(size, round);
        ++cache.now_ms;
        ++other.now_ms;
        REQUIRE(cache.put_quickly(name, value) == Status::kOk);
        REQUIRE(other.put(name, value) == Status::kOk);
        REQUIRE((cache.get(name) == value && other.get(name) == value));
        REQUIRE(cache.read(name).created_ms == other.read(name).created_ms);
        REQUIRE(ref_block(cache.entry(name).ref) == ref_block(other.entry(name).ref));
        REQUIRE(cache.entry(name).ref == other.entry(name).ref);
        // But for the tag, which comes of another seed.
        REQUIRE((cache.entry(name).policy & 0xffff) == (other.entry(name).policy & 0xffff));
        REQUIRE(cache.statistics().value_memory == other.statistics().value_memory);
        REQUIRE(cache.header().redo == 0);
      }
    }
  }
  CHECK(cache.problems() == "");
}

TEST_CASE("a value that fills its block to another degree is written over it, and sizes are counted anew") {
  QuickShard cache;
  REQUIRE(cache.put_quickly("key", pattern(64, 1)) == Status::kOk);
  const std::uint32_t position = cache.position("key");
  for (std::size_t size = 64; size >= 49; --size) {
    REQUIRE(cache.put_quickly("key", pattern(size, size)) == Status::kOk);
    CHECK(cache.position("key") == position);
    CHECK(cache.get("key") == pattern(size, size));
    CHECK(cache.statistics().value_memory == size);
  }
  CHECK(cache.problems() == "");
}

TEST_CASE("a block without room, with an expiry or at which somebody looks is left for another") {
  QuickShard cache;
  REQUIRE(cache.put_quickly("key", pattern(64, 1)) == Status::kOk);
  SUBCASE("a larger value") {
    REQUIRE(cache.put_quickly("key", pattern(65, 2)) == Status::kOk);
    CHECK(cache.get("key") == pattern(65, 2));
  }
  SUBCASE("an expiry, which the new value has not") {
    REQUIRE(cache.set("key", pattern(64, 1), cache.now_ms + 50) == Status::kOk);
    REQUIRE(cache.put_quickly("key", pattern(64, 2)) == Status::kOk);
    cache.now_ms += 100;
    CHECK(cache.get("key") == pattern(64, 2));
    CHECK(cache.read("key").expires_ms == 0);
  }
  SUBCASE("a view") {
    PinnedBlock view;
    REQUIRE(cache.pin("key", &view) == Status::kOk);
    REQUIRE(cache.put_quickly("key", pattern(64, 2)) == Status::kOk);
    CHECK(std::string(reinterpret_cast<const char*>(view.value), 64) == pattern(64, 1));
    CHECK(cache.get("key") == pattern(64, 2));
    REQUIRE(cache.unpin(view) == Status::kOk);
  }
  CHECK(cache.problems() == "");
}

TEST_CASE("a put ends the lease of its key") {
  QuickShard cache;
  REQUIRE(cache.put_quickly("key", pattern(64, 1)) == Status::kOk);
  std::uint64_t token = 0;
  const LeaseRequest request{.key = cache.key("key"), .stale_cas = cache.read("key").cas, .owner = 1};
  REQUIRE(cache.shard.grant_lease(request, {cache.deadline(), cache.now_ms}, &token) == Status::kOk);
  REQUIRE(cache.shard.leases().holder(cache.key("key"), cache.now_ms) != 0);
  REQUIRE(cache.put_quickly("key", pattern(64, 2)) == Status::kOk);
  CHECK(cache.shard.leases().holder(cache.key("key"), cache.now_ms) == 0);
  CHECK(cache.get("key") == pattern(64, 2));
  CHECK(cache.problems() == "");
}

TEST_CASE("while the table grows every key is found again, in its bucket or its chain") {
  QuickShard cache;
  int others = 0;
  for (int round = 1; round <= 2; ++round) {
    for (int i = 0; i < 2000; ++i) {
      const std::string name = "key " + std::to_string(i);
      const std::string value = pattern(24, i * 7 + round);
      Status status = Status::kInternal;
      // A part of the table that this process has not met yet is for the other put to look at.
      if (!cache.try_put(name, value, &status)) {
        REQUIRE(round == 1);
        ++others;
        status = cache.put(name, value);
      }
      REQUIRE(status == Status::kOk);
    }
    CHECK(cache.statistics().entries == 2000);
  }
  CHECK(others < 200);
  for (int i = 0; i < 2000; ++i) REQUIRE(cache.get("key " + std::to_string(i)) == pattern(24, i * 7 + 2));
  CHECK(cache.problems() == "");
}

TEST_CASE("a put does nothing while another thread has the lock") {
  QuickShard cache;
  REQUIRE(cache.put_quickly("key", pattern(64, 1)) == Status::kOk);
  std::atomic<bool> is_locked{false};
  std::atomic<bool> is_over{false};
  std::thread holder([&] {
    const WriteLockScope lock(cache.header());
    is_locked = true;
    while (!is_over) std::this_thread::yield();
  });
  while (!is_locked) std::this_thread::yield();
  CHECK(cache.is_left_alone("key", pattern(64, 2)));
  CHECK(cache.is_left_alone("new", pattern(64, 2)));
  is_over = true;
  holder.join();
  CHECK(cache.get("key") == pattern(64, 1));
  REQUIRE(cache.put_quickly("key", pattern(64, 2)) == Status::kOk);
  CHECK(cache.problems() == "");
}

TEST_CASE("a put does nothing while a reader is announced, and lets others in") {
  QuickShard cache;
  REQUIRE(cache.put_quickly("key", pattern(64, 1)) == Status::kOk);
  cache.header().announced[cache.header().epoch & 1] = 1;
  CHECK(cache.is_left_alone("key", pattern(64, 2)));
  CHECK(cache.header().wait == 0);
  cache.header().announced[cache.header().epoch & 1] = 0;
  REQUIRE(cache.put_quickly("key", pattern(64, 2)) == Status::kOk);
  CHECK(cache.header().wait == 0);
  CHECK(cache.get("key") == pattern(64, 2));
}

TEST_CASE("what a dead writer left is put right by the next one, and not by a quick put") {
  QuickShard cache;
  REQUIRE(cache.put_quickly("key", pattern(64, 1)) == Status::kOk);
  cache.die_overwriting("key", pattern(64, 2), 20);
  // It meets the dead owner, then the flag that it has left.
  CHECK(cache.is_left_alone("key", pattern(64, 3)));
  CHECK(cache.header().needs_recovery == 1);
  CHECK(cache.is_left_alone("key", pattern(64, 3)));
  CHECK(cache.header().needs_recovery == 1);
  REQUIRE(cache.set("other", "value") == Status::kOk);
  CHECK(cache.header().needs_recovery == 0);
  CHECK(cache.get("key") == pattern(64, 2));
  REQUIRE(cache.put_quickly("key", pattern(64, 3)) == Status::kOk);
  CHECK(cache.get("key") == pattern(64, 3));
  CHECK(cache.problems() == "");
}

TEST_CASE("a key whose hash is the one of another is not written over its value") {
  QuickShard cache;
  REQUIRE(cache.put_quickly("key", pattern(64, 1)) == Status::kOk);
  const Key twin{"yek", cache.key("key").hash};
  const std::string value = pattern(64, 2);
  Status status = Status::kInternal;
  REQUIRE(cache.shard.put_quickly(twin, reinterpret_cast<const std::byte*>(value.data()), value.size(), 1, cache.now_ms,
                                  &status));
  CHECK(status == Status::kOk);
  CHECK(cache.get("key") == pattern(64, 1));
  CHECK(cache.statistics().entries == 2);
}

TEST_CASE("a value is as old as its last put, however late that is") {
  QuickShard cache;
  REQUIRE(cache.put_quickly("key", pattern(64, 1)) == Status::kOk);
  cache.now_ms = kLastCreatedMs - 1000;
  REQUIRE(cache.put_quickly("key", pattern(64, 2)) == Status::kOk);
  CHECK(cache.read("key").created_ms == cache.now_ms);
  CHECK(cache.problems() == "");
}

TEST_CASE("a put over a value counts as a hit") {
  QuickShard cache;
  REQUIRE(cache.put_quickly("key", pattern(64, 1)) == Status::kOk);
  const std::uint32_t hits = cache.entry("key").policy & kHits;
  REQUIRE(hits < kHits);
  REQUIRE(cache.put_quickly("key", pattern(64, 2)) == Status::kOk);
  CHECK((cache.entry("key").policy & kHits) == hits + 1);
}

TEST_CASE("the record says in which shard it was last used, and the shard names it no more") {
  QuickShard cache;
  REQUIRE(cache.put_quickly("key", pattern(64, 1)) == Status::kOk);
  cache.record().shard = 77;
  REQUIRE(cache.put_quickly("key", pattern(64, 2)) == Status::kOk);
  CHECK(cache.record().shard == 0);
  CHECK(cache.header().redo == 0);
}

TEST_CASE("a shard of which the number of cells is unknown is left alone, whatever it says") {
  OverwritingShard cache;
  cache.header().cells = 0;
  Status status = Status::kOk;
  const std::string value = pattern(64, 1);
  CHECK_FALSE(cache.shard.put_quickly(cache.key("key"), reinterpret_cast<const std::byte*>(value.data()), value.size(),
                                      1, cache.now_ms, &status));
  CHECK(cache.header().cells == 0);
}

TEST_CASE("any bytes in table and heap are put right by a put, or stay as they were") {
  QuickShard cache;
  std::mt19937_64 random(11);
  const auto name_of = [](std::uint64_t number) { return "key " + std::to_string(number % 200); };
  for (std::uint64_t i = 0; i < 200; ++i) REQUIRE(cache.put(name_of(i), pattern(40, i)) == Status::kOk);
  const std::size_t table = cache.header().cells * sizeof(Cell);
  const std::size_t heap_begin = cache.header().space.heap_begin * kUnitSize;
  int quick = 0;
  for (int round = 0; round < scaled(3000); ++round) {
    const bool is_in_table = round % 2 == 0;
    const std::size_t begin = is_in_table ? kShardHeaderSize : heap_begin;
    const std::size_t size = is_in_table ? table : cache.shard_size() - heap_begin;
    const std::size_t at = random() % (size / 4) * 4;
    const auto bytes = static_cast<std::uint32_t>(random() >> random() % 32);
    std::memcpy(cache.shard_data() + begin + at, &bytes, sizeof bytes);
    const std::string name = name_of(random());
    Status status = Status::kInternal;
    const std::string value = pattern(40, round);
    if (cache.try_put(name, value, &status)) {
      ++quick;
      REQUIRE(status == Status::kOk);
    } else {
      REQUIRE(cache.put(name, value) == Status::kOk);
    }
  }
  CHECK(quick > scaled(3000) / 2);
  RepairReport report;
  REQUIRE(cache.shard.repair(cache.deadline(), &report) == Status::kOk);
  CHECK(cache.problems() == "");
  REQUIRE(cache.put_quickly("key", pattern(40, 1)) == Status::kOk);
  CHECK(cache.get("key") == pattern(40, 1));
}

}  // namespace
}  // namespace memstream::test
