// A segment whose values have checksums: what something wrote over is never returned as a value, whichever way it is
// read, and all that the library itself does to a value keeps its checksum right.
#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "core/base/robust_mutex.h"
#include "core/layout/geometry.h"
#include "core/shard/index.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

bool says(const char* part) { return std::strstr(cache_last_error(), part) != nullptr; }

constexpr std::size_t kSizes[] = {1, 8, 64, 1000, 5000, 40'000, 200'000};

class CheckedCache {
 public:
  explicit CheckedCache(const char* purpose, const char* checksum = "on", std::uint64_t size_bytes = 4 << 20)
      : segment_(purpose, size_bytes, 1), cache_(options(checksum)) {}

  memstream_options_t options(const char* checksum) const {
    memstream_options_t options = segment_.spec().options();
    options.checksum = checksum;
    return options;
  }
  operator memstream_t*() const { return cache_; }  // NOLINT(google-explicit-constructor): stands for the handle.

  int set(const std::string& key, const std::string& value, std::uint64_t ttl_ms = 0) {
    return memstream_set(cache_, key.data(), key.size(), value.data(), value.size(), ttl_ms, 7);
  }
  // The value, or the name of the status.
  std::string get(const std::string& key) { return get(cache_, key); }
  static std::string get(memstream_t* cache, const std::string& key) {
    std::string room(300'000, '\0');
    std::size_t size = room.size();
    const int status = memstream_get(cache, key.data(), key.size(), room.data(), &size, nullptr);
    return status == CACHE_OK ? room.substr(0, size) : std::to_string(status);
  }
  // Where the value lies, in this process's mapping.
  std::byte* bytes_of(const std::string& key) {
    memstream_view_t view;
    REQUIRE(memstream_view(cache_, key.data(), key.size(), &view) == CACHE_OK);
    auto* bytes = const_cast<std::byte*>(static_cast<const std::byte*>(view.data));
    REQUIRE(memstream_release(cache_, &view) == CACHE_OK);
    return bytes;
  }
  std::byte* segment_bytes(const std::string& key) {
    memstream_entry_t entry;
    REQUIRE(memstream_entry_info(cache_, key.data(), key.size(), &entry) == CACHE_OK);
    return bytes_of(key) - entry.data_offset;
  }
  // As a stray write of some process would.
  void spoil(const std::string& key, std::size_t at = 0) { bytes_of(key)[at] ^= std::byte{0x10}; }

 private:
  TemporarySegment segment_;
  OpenCache cache_;
};

struct Reading {
  const char* name;
  int (*read)(memstream_t* cache, const std::string& key);
};

const Reading kReadings[] = {
    {"get",
     [](memstream_t* cache, const std::string& key) {
       static char room[300'000];
       std::size_t size = sizeof room;
       memstream_meta_t meta;
       return memstream_get(cache, key.data(), key.size(), room, &size, &meta);
     }},
    {"get without meta",
     [](memstream_t* cache, const std::string& key) {
       static char room[300'000];
       std::size_t size = sizeof room;
       return memstream_get(cache, key.data(), key.size(), room, &size, nullptr);
     }},
    {"view",
     [](memstream_t* cache, const std::string& key) {
       memstream_view_t view;
       const int status = memstream_view(cache, key.data(), key.size(), &view);
       if (status == CACHE_OK) memstream_release(cache, &view);
       return status;
     }},
    {"get_many",
     [](memstream_t* cache, const std::string& key) {
       static char room[300'000];
       std::size_t size = sizeof room;
       memstream_item_t item{};
       item.key = key.data();
       item.key_size = key.size();
       memstream_get_many(cache, &item, 1, room, &size);
       return int{item.status};
     }},
};

TEST_CASE("a value without flags and expiry has a checksum too, new and overwritten") {
  CheckedCache cache("checksum-plain");
  for (const char filling : {'a', 'b', 'c'}) {
    for (const std::size_t size : kSizes) {
      const std::string key = "key " + std::to_string(size);
      const std::string value(size, filling);
      REQUIRE(memstream_set(cache, key.data(), key.size(), value.data(), size, 0, 0) == CACHE_OK);
      CHECK(cache.get(key) == value);
    }
  }
}

TEST_CASE("a value that something wrote over is not returned, and its entry goes") {
  for (const Reading& reading : kReadings) {
    CAPTURE(reading.name);
    CheckedCache cache("damage");
    for (const std::size_t size : kSizes) {
      CAPTURE(size);
      REQUIRE(cache.set("key", std::string(size, 'v')) == CACHE_OK);
      REQUIRE(cache.set("other", std::string(size, 'o')) == CACHE_OK);
      CHECK(reading.read(cache, "key") == CACHE_OK);
      const std::uint64_t before = stats_of(cache).damaged;
      cache.spoil("key", size - 1);
      CHECK(reading.read(cache, "key") == CACHE_CORRUPT);
      CHECK(says("checksum"));
      CHECK(says("Store the value again"));
      CHECK(reading.read(cache, "key") == CACHE_MISS);
      CHECK(reading.read(cache, "other") == CACHE_OK);
      CHECK(stats_of(cache).damaged == before + 1);
      CHECK(problems_of(cache) == "");
    }
  }
}

TEST_CASE("a reader that may not write reports the damage and leaves the entry") {
  CheckedCache cache("reader");
  REQUIRE(cache.set("key", "value") == CACHE_OK);
  cache.spoil("key");
  memstream_options_t options = cache.options(nullptr);
  options.flags = MEMSTREAM_OPEN_READ_ONLY;
  const OpenCache reader(options);
  for (const Reading& reading : kReadings) {
    CAPTURE(reading.name);
    CHECK(reading.read(reader, "key") == CACHE_CORRUPT);
    CHECK(says("Open the cache for writing"));
  }
  CHECK(problems_of(cache).find("its value does not fit its checksum") != std::string::npos);
  CHECK(cache.get("key") == std::to_string(CACHE_CORRUPT));
}

TEST_CASE("a number that something wrote over is not counted on") {
  CheckedCache cache("number");
  REQUIRE(cache.set("number", "41") == CACHE_OK);
  std::int64_t result = 0;
  REQUIRE(memstream_incr(cache, "number", 6, 1, nullptr, 0, &result) == CACHE_OK);
  CHECK(result == 42);
  CHECK(cache.get("number") == "42");
  cache.bytes_of("number")[0] = std::byte{'9'};
  CHECK(memstream_incr(cache, "number", 6, 1, nullptr, 0, &result) == CACHE_CORRUPT);
  CHECK(memstream_incr(cache, "number", 6, 1, nullptr, 0, &result) == CACHE_MISS);
}

TEST_CASE("whatever the library does to a value keeps its checksum right") {
  CheckedCache cache("kept");
  const std::int64_t initial = 5;
  for (const std::size_t size : kSizes) {
    CAPTURE(size);
    const std::string value(size, 'v');
    CHECK(cache.set("set", value) == CACHE_OK);
    CHECK(cache.set("set", std::string(size, 'w')) == CACHE_OK);
    CHECK(cache.get("set") == std::string(size, 'w'));
    CHECK(memstream_touch(cache, "set", 3, 60'000) == CACHE_OK);
    CHECK(cache.get("set") == std::string(size, 'w'));
    std::string copy(size, ' ');
    std::size_t copied = size;
    CHECK(memstream_get_and_touch(cache, "set", 3, 90'000, copy.data(), &copied, nullptr) == CACHE_OK);
    CHECK(copy == std::string(size, 'w'));
    CHECK(cache.get("set") == std::string(size, 'w'));
    memstream_reservation_t reservation;
    REQUIRE(memstream_reserve(cache, "reserved", 8, size, &reservation) == CACHE_OK);
    std::memset(reservation.data, 'r', size);
    CHECK(memstream_commit(cache, &reservation, 0, 3) == CACHE_OK);
    CHECK(cache.get("reserved") == std::string(size, 'r'));
    std::uint64_t lease = 0;
    memstream_delete(cache, "leased", 6);
    REQUIRE(memstream_lease(cache, "leased", 6, 0, 0, &lease) == CACHE_OK);
    CHECK(memstream_lease_fulfil(cache, "leased", 6, value.data(), size, 0, 0, lease) == CACHE_OK);
    CHECK(cache.get("leased") == value);
    memstream_item_t item{};
    item.key = "many";
    item.key_size = 4;
    item.value = value.data();
    item.value_size = size;
    CHECK(memstream_set_many(cache, &item, 1) == CACHE_OK);
    CHECK(cache.get("many") == value);
    CHECK(problems_of(cache) == "");
  }
  CHECK(cache.set("empty", "") == CACHE_OK);
  CHECK(cache.get("empty") == "");
  CHECK(memstream_incr(cache, "count", 5, 1, &initial, 0, nullptr) == CACHE_OK);
  CHECK(memstream_incr(cache, "count", 5, 1, &initial, 0, nullptr) == CACHE_OK);
  CHECK(cache.get("count") == "7");
  memstream_meta_t meta;
  char room[8];
  std::size_t size = sizeof room;
  CHECK(cache.set("flags", "f") == CACHE_OK);
  CHECK(memstream_get(cache, "flags", 5, room, &size, &meta) == CACHE_OK);
  CHECK(meta.flags == 7);
}

TEST_CASE("values that move out of the way of larger ones keep their checksums") {
  CheckedCache cache("moved");
  const auto name = [](int number) { return "small-" + std::to_string(number); };
  const std::string small(1000, 's');
  int written = 0;
  while (stats_of(cache).evictions == 0) REQUIRE(cache.set(name(written++), small) == CACHE_OK);
  // What was read stays: it moves to where the others were.
  const auto offset_of = [&](int number) {
    memstream_entry_t entry;
    const std::string key = name(number);
    return memstream_entry_info(cache, key.data(), key.size(), &entry) == CACHE_OK ? entry.data_offset : 0;
  };
  std::vector<std::uint64_t> before(static_cast<std::size_t>(written));
  for (int number = 0; number < written; number += 2) {
    for (int times = 0; times < 3; ++times) cache.get(name(number));
    before[static_cast<std::size_t>(number)] = offset_of(number);
  }
  for (int number = 0; number < 4; ++number) {
    REQUIRE(cache.set("large-" + std::to_string(number), std::string(240'000, 'l')) == CACHE_OK);
  }
  int moved = 0;
  for (int number = 0; number < written; number += 2) {
    const std::uint64_t offset = offset_of(number);
    if (offset == 0 || offset == before[static_cast<std::size_t>(number)]) continue;
    ++moved;
    CHECK(cache.get(name(number)) == small);
  }
  CHECK(moved > 50);
  CHECK(problems_of(cache) == "");
  CHECK(stats_of(cache).damaged == 0);
}

TEST_CASE("a value that was being overwritten when its writer died has the checksum of the new one") {
  CheckedCache cache("redo");
  REQUIRE(cache.set("key", "before") == CACHE_OK);
  REQUIRE(cache.set("key", "behind") == CACHE_OK);
  std::byte* bytes = cache.segment_bytes("key");
  REQUIRE(cache.set("key", "behind") == CACHE_OK);  // The view above has moved it to another block.
  REQUIRE(cache.set("key", "latest") == CACHE_OK);
  const Geometry geometry = geometry_of(reinterpret_cast<const SegmentHeader*>(bytes)->identity);
  auto& shard = *reinterpret_cast<ShardHeader*>(bytes + geometry.shards_offset);
  const auto& record = *reinterpret_cast<const RedoRecord*>(bytes + geometry.redo_records_offset());
  Entry& entry = Index::entry_unchecked(&shard, EntryId{record.entry});
  REQUIRE(entry.ref == ref_finished(record.ref));  // It was overwritten in its block.
  // As a writer leaves it that is killed behind the commit, before the first byte of the value: still the old one.
  std::byte* block = reinterpret_cast<std::byte*>(&shard) + std::size_t{ref_block(entry.ref)} * kUnitSize;
  std::byte* value = block + 3 * kUnitSize;
  REQUIRE(std::memcmp(value, "latest", 6) == 0);
  std::memcpy(value, "behind", 6);
  entry.ref = record.ref.load();
  shard.redo = 1;
  std::thread([&] { REQUIRE(robust_mutex_try_lock(&shard.write_mutex) == LockOutcome::kAcquired); }).join();
  CHECK(cache.get("key") == "latest");
  REQUIRE(cache.set("another", "value") == CACHE_OK);
  CHECK(cache.get("key") == "latest");
  CHECK(problems_of(cache) == "");
  CHECK(stats_of(cache).recoveries == 1);
  CHECK(stats_of(cache).damaged == 0);
}

TEST_CASE("without checksums nobody notices, and the segment says which it is") {
  CheckedCache cache("off", "off");
  REQUIRE(cache.set("key", "value") == CACHE_OK);
  cache.spoil("key");
  CHECK(cache.get("key") != "value");
  CHECK(problems_of(cache) == "");
  CHECK(std::string(memstream_open_note(cache)).empty());
  const OpenCache other(cache.options("on"));
  CHECK(std::string(memstream_open_note(other)).find("checksums off instead of on") != std::string::npos);
  const OpenCache same(cache.options("off"));
  CHECK(std::string(memstream_open_note(same)).empty());
  const OpenCache indifferent(cache.options(nullptr));
  CHECK(std::string(memstream_open_note(indifferent)).empty());
}

TEST_CASE("a choice that does not exist is refused") {
  const TemporarySegment segment("choice", 1 << 20);
  memstream_options_t options = segment.spec().options();
  options.checksum = "yes";
  memstream_t* cache = nullptr;
  CHECK(memstream_open(&options, &cache) == CACHE_BAD_CHECKSUM_CHOICE);
  CHECK(says("Invalid options.checksum 'yes': expected off or on."));
}

// ---- repair ----

memstream_repair_report_t repaired(memstream_t* cache) {
  memstream_repair_report_t report{};
  report.struct_size = sizeof report;
  REQUIRE(memstream_repair(cache, &report) == CACHE_OK);
  return report;
}

TEST_CASE("a repair drops what is damaged, says what it was, and keeps the rest") {
  CheckedCache cache("repair");
  for (int key = 0; key < 50; ++key) REQUIRE(cache.set("key-" + std::to_string(key), "value") == CACHE_OK);
  memstream_repair_report_t report = repaired(cache);
  CHECK(report.problems == 0);
  CHECK(report.dropped_entries == 0);
  CHECK(report.damaged_values == 0);
  CHECK(report.entries == 50);

  std::byte* bytes = cache.segment_bytes("key-1");
  const Geometry geometry = geometry_of(reinterpret_cast<const SegmentHeader*>(bytes)->identity);
  auto& shard = *reinterpret_cast<ShardHeader*>(bytes + geometry.shards_offset);
  cache.spoil("key-2");
  cache.spoil("key-3");
  shard.space.used_memory += 64;
  report = repaired(cache);
  CHECK(report.problems == 3);
  CHECK(report.damaged_values == 2);
  CHECK(report.dropped_entries == 0);
  CHECK(report.emptied_shards == 0);
  CHECK(report.entries == 48);
  CHECK(problems_of(cache) == "");
  CHECK(cache.get("key-2") == std::to_string(CACHE_MISS));
  CHECK(cache.get("key-4") == "value");
  CHECK(stats_of(cache).damaged == 2);

  shard.space.heap_begin = 1;
  report = repaired(cache);
  CHECK(report.emptied_shards == 1);
  CHECK(report.entries == 0);
  CHECK(problems_of(cache) == "");
  CHECK(cache.set("after", "value") == CACHE_OK);
}

TEST_CASE("a repair drops an entry whose block is no block") {
  CheckedCache cache("entry", "off");
  for (int key = 0; key < 50; ++key) REQUIRE(cache.set("key-" + std::to_string(key), "value") == CACHE_OK);
  std::byte* bytes = cache.segment_bytes("key-1");
  const Geometry geometry = geometry_of(reinterpret_cast<const SegmentHeader*>(bytes)->identity);
  auto& shard = *reinterpret_cast<ShardHeader*>(bytes + geometry.shards_offset);
  Index::entry_unchecked(&shard, Index::entry_at_or_after(EntryId{0})).ref.fetch_xor(1);
  const memstream_repair_report_t report = repaired(cache);
  CHECK(report.problems != 0);
  CHECK(report.dropped_entries == 1);
  CHECK(report.entries == 49);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("a repair asks for a report of the right size, and for leave to write") {
  CheckedCache cache("report");
  memstream_repair_report_t report{};
  CHECK(memstream_repair(cache, &report) == CACHE_INVALID);
  CHECK(says("struct_size 0"));
  report.struct_size = sizeof report;
  memstream_options_t options = cache.options(nullptr);
  options.flags = MEMSTREAM_OPEN_READ_ONLY;
  const OpenCache reader(options);
  CHECK(memstream_repair(reader, &report) == CACHE_READ_ONLY);
}

}  // namespace
}  // namespace memstream::test
