// Tags through the C interface: what an invalidation ends, and what it leaves.
#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "api/memstream_tags.h"
#include "tests/support/child_process.h"
#include "tests/support/leases.h"
#include "tests/support/scale.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kSegmentSize = 16 << 20;

int add_tag(memstream_t* cache, std::string_view tag, memstream_tags_t* tags) {
  return memstream_tag(cache, tag.data(), tag.size(), tags);
}

memstream_tags_t tags_of(memstream_t* cache, const std::vector<std::string>& names) {
  memstream_tags_t tags{};
  for (const std::string& name : names) {
    if (add_tag(cache, name, &tags) != CACHE_OK) throw std::runtime_error(cache_last_error());
  }
  return tags;
}

int store(memstream_t* cache, std::string_view key, std::string_view value, const memstream_tags_t& tags,
          int operation = MEMSTREAM_SET, std::uint64_t token = 0, std::uint64_t ttl_ms = 0, std::uint32_t flags = 0) {
  return memstream_store_tagged(cache, key.data(), key.size(), value.data(), value.size(), ttl_ms, flags, operation,
                                token, &tags);
}

int store(memstream_t* cache, std::string_view key, std::string_view value, const std::vector<std::string>& names) {
  return store(cache, key, value, tags_of(cache, names));
}

int invalidate(memstream_t* cache, std::string_view tag) { return memstream_invalidate(cache, tag.data(), tag.size()); }

memstream_entry_t entry_of(memstream_t* cache, std::string_view key) {
  memstream_entry_t entry{};
  if (memstream_entry_info(cache, key.data(), key.size(), &entry) != CACHE_OK)
    throw std::runtime_error(cache_last_error());
  return entry;
}

const std::string kMiss = "status 1";

TEST_CASE("an invalidation ends all entries with its tag, and no others; a later set is a hit") {
  const TemporarySegment segment("tags", kSegmentSize);
  const OpenCache cache(segment.spec());
  const OpenCache other(segment.spec());
  CHECK(store(cache, "both", "1", {"user:7", "page:1"}) == CACHE_OK);
  CHECK(store(cache, "user", "2", {"user:7"}) == CACHE_OK);
  CHECK(store(other, "page", "3", {"page:1"}) == CACHE_OK);
  CHECK(set(cache, "4", "none") == CACHE_OK);
  CHECK(get(other, "both") == "1");
  CHECK(get(other, "user") == "2");

  CHECK(invalidate(other, "user:7") == CACHE_OK);
  CHECK(get(cache, "both") == kMiss);
  CHECK(get(cache, "user") == kMiss);
  CHECK(get(cache, "page") == "3");
  CHECK(get(cache, "none") == "4");
  CHECK(memstream_exists(cache, "user", 4) == CACHE_MISS);
  CHECK(memstream_touch(cache, "user", 4, 1000) == CACHE_MISS);
  CHECK(store(cache, "user", "x", tags_of(cache, {"user:7"}), MEMSTREAM_REPLACE) == CACHE_MISS);

  CHECK(store(cache, "both", "5", {"user:7", "page:1"}) == CACHE_OK);
  CHECK(get(cache, "both") == "5");
  CHECK(invalidate(cache, "page:1") == CACHE_OK);
  CHECK(get(cache, "both") == kMiss);
  CHECK(get(cache, "page") == kMiss);
  std::uint64_t count = 0;
  CHECK(memstream_invalidations(cache, &count) == CACHE_OK);
  CHECK(count == 2);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("tags that were taken before an invalidation do not save a value that is stored after it") {
  const TemporarySegment segment("tags-before", kSegmentSize);
  const OpenCache cache(segment.spec());
  const memstream_tags_t before = tags_of(cache, {"t"});
  CHECK(set(cache, "older", "key") == CACHE_OK);
  CHECK(invalidate(cache, "t") == CACHE_OK);
  CHECK(store(cache, "key", "computed before", before) == CACHE_OK);
  CHECK(get(cache, "key") == kMiss);  // Nor is the older value there.
  // A set that has the tag twice goes by the older one.
  memstream_tags_t twice = before;
  CHECK(add_tag(cache, "t", &twice) == CACHE_OK);
  CHECK(store(cache, "key", "computed before", twice) == CACHE_OK);
  CHECK(get(cache, "key") == kMiss);
}

TEST_CASE("each way of storing takes tags, and small, large and expiring values keep them") {
  const TemporarySegment segment("tags-ways", kSegmentSize, 1);
  const OpenCache cache(segment.spec());
  const std::string sizes[] = {"", "small", std::string(1000, 's'), std::string(5000, 'm'), std::string(90'000, 'l')};
  for (const std::string& value : sizes) {
    CAPTURE(value.size());
    const memstream_tags_t tags = tags_of(cache, {"a", "b", "c", "d"});
    memstream_delete(cache, "key", 3);
    CHECK(store(cache, "key", value, tags, MEMSTREAM_REPLACE) == CACHE_MISS);
    CHECK(store(cache, "key", value, tags, MEMSTREAM_ADD, 0, 60'000, 77) == CACHE_OK);
    CHECK(store(cache, "key", value, tags, MEMSTREAM_ADD) == CACHE_EXISTS);
    memstream_meta_t meta{};
    CHECK(get(cache, "key", &meta) == value);
    CHECK(meta.flags == 77);
    CHECK(meta.expires_at_ms > meta.created_at_ms);
    CHECK(meta.expires_at_ms <= meta.created_at_ms + 70'000);
    memstream_entry_t entry = entry_of(cache, "key");
    CHECK(memstream_entry_has_tags(nullptr) == 0);
    CHECK(memstream_entry_has_tags(&entry) == 1);
    CHECK(entry.expires_at_ms == meta.expires_at_ms);
    CHECK(store(cache, "key", value, tags, MEMSTREAM_CAS, meta.cas + 1) == CACHE_CONFLICT);
    CHECK(store(cache, "key", value, tags, MEMSTREAM_CAS, meta.cas) == CACHE_OK);
    CHECK(get(cache, "key", &meta) == value);
    CHECK(meta.expires_at_ms == 0);
    CHECK(memstream_touch(cache, "key", 3, 50'000) == CACHE_OK);
    CHECK(get(cache, "key", &meta) == value);
    CHECK(meta.expires_at_ms != 0);
    CHECK(memstream_touch(cache, "key", 3, 0) == CACHE_OK);
    CHECK(get(cache, "key", &meta) == value);
    CHECK(meta.expires_at_ms == 0);

    memstream_view_t view{};
    REQUIRE(memstream_view(cache, "key", 3, &view) == CACHE_OK);
    CHECK(invalidate(cache, "d") == CACHE_OK);
    CHECK(std::string_view(static_cast<const char*>(view.data), view.size) == value);
    memstream_view_t another{};
    CHECK(memstream_view(cache, "key", 3, &another) == CACHE_MISS);
    CHECK(memstream_release(cache, &view) == CACHE_OK);
    CHECK(get(cache, "key") == kMiss);

    const std::uint64_t lease = must_lease(cache);
    CHECK(store(cache, "key", value, tags_of(cache, {"d"}), MEMSTREAM_FULFIL, lease + 256) == CACHE_CONFLICT);
    CHECK(store(cache, "key", value, tags_of(cache, {"d"}), MEMSTREAM_FULFIL, lease) == CACHE_OK);
    CHECK(get(cache, "key") == value);
    CHECK(invalidate(cache, "d") == CACHE_OK);
    CHECK(lease_of(cache) == CACHE_OK);
    // Without tags: in the place of a value with them.
    CHECK(store(cache, "key", value, tags_of(cache, {"d"})) == CACHE_OK);
    CHECK(set(cache, value) == CACHE_OK);
    entry = entry_of(cache, "key");
    CHECK(memstream_entry_has_tags(&entry) == 0);
    CHECK(invalidate(cache, "d") == CACHE_OK);
    CHECK(get(cache, "key") == value);
  }
  CHECK(problems_of(cache) == "");
}

TEST_CASE("a counter keeps its tags") {
  const TemporarySegment segment("tags-counter", kSegmentSize);
  const OpenCache cache(segment.spec());
  CHECK(store(cache, "key", "41", {"t"}) == CACHE_OK);
  std::int64_t number = 0;
  CHECK(memstream_incr(cache, "key", 3, 1, nullptr, 0, &number) == CACHE_OK);
  CHECK(number == 42);
  CHECK(get(cache, "key") == "42");
  CHECK(invalidate(cache, "t") == CACHE_OK);
  CHECK(memstream_incr(cache, "key", 3, 1, nullptr, 0, &number) == CACHE_MISS);
}

TEST_CASE("a batch stores items with tags beside items without") {
  const TemporarySegment segment("tags-batch", kSegmentSize);
  const OpenCache cache(segment.spec());
  const memstream_tags_t tags = tags_of(cache, {"t"});
  const memstream_tags_t empty{};
  const std::string large(90'000, 'l');
  memstream_tagged_item_t items[4] = {};
  const char* keys[] = {"a", "b", "c", "d"};
  for (int i = 0; i < 4; ++i) {
    items[i].item.key = keys[i];
    items[i].item.key_size = 1;
    items[i].item.value = large.data();
    items[i].item.value_size = i == 2 ? large.size() : 5;
  }
  items[0].tags = &tags;
  items[2].tags = &tags;
  items[3].tags = &empty;
  CHECK(memstream_set_many_sized(cache, &items[0].item, sizeof items[0], 4) == CACHE_INVALID);
  CHECK(items[0].item.status == CACHE_OK);
  CHECK(items[3].item.status == CACHE_INVALID);
  CHECK(std::string(cache_last_error()).find("memstream_tag()") != std::string::npos);
  CHECK(get(cache, "a") == "lllll");
  CHECK(get(cache, "c") == large);
  CHECK(invalidate(cache, "t") == CACHE_OK);
  CHECK(get(cache, "a") == kMiss);
  CHECK(get(cache, "b") == "lllll");
  CHECK(get(cache, "c") == kMiss);
  CHECK(get(cache, "d") == kMiss);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("what is no tag, no set and no operation is refused with the remedy") {
  const TemporarySegment segment("tags-refused", kSegmentSize);
  const OpenCache cache(segment.spec());
  const auto refused = [](int status, const char* words) {
    CHECK(status == CACHE_INVALID);
    CHECK(std::string(cache_last_error()).find(words) != std::string::npos);
  };
  memstream_tags_t tags{};
  refused(add_tag(cache, "", &tags), "Invalid tag of 0 bytes");
  refused(add_tag(cache, std::string(1025, 't'), &tags), "expected 1 to 1024 bytes");
  refused(invalidate(cache, ""), "Invalid tag of 0 bytes");
  refused(store(cache, "key", "value", tags), "expected a set with one at least");
  refused(memstream_tag(cache, "t", 1, nullptr), "Invalid argument NULL");
  refused(memstream_invalidate(cache, nullptr, 1), "Invalid argument NULL");
  refused(memstream_invalidations(cache, nullptr), "Invalid argument NULL");
  refused(memstream_store_tagged(cache, "key", 3, nullptr, 1, 0, 0, MEMSTREAM_SET, 0, &tags), "Invalid value NULL");
  refused(memstream_store_tagged(cache, "key", 3, "v", 1, 0, 0, MEMSTREAM_SET, 0, nullptr), "Invalid argument NULL");
  for (const char* name : {"a", "b", "c", "d"}) CHECK(add_tag(cache, name, &tags) == CACHE_OK);
  CHECK(add_tag(cache, "d", &tags) == CACHE_OK);
  // Two tags may share a count. Of ten, more than four do not.
  for (const char* name : {"e", "f", "g", "h", "i"}) static_cast<void>(add_tag(cache, name, &tags));
  refused(add_tag(cache, "j", &tags), "expected at most 4");
  refused(store(cache, "key", "value", tags, MEMSTREAM_DELETE), "Invalid operation 6");
  CHECK(get(cache, "key") == kMiss);

  memstream_options_t options = segment.spec().options();
  options.flags = MEMSTREAM_OPEN_READ_ONLY;
  const OpenCache reader(options);
  CHECK(store(cache, "key", "value", {"t"}) == CACHE_OK);
  CHECK(get(reader, "key") == "value");
  CHECK(add_tag(reader, "t", &tags) == CACHE_READ_ONLY);
  CHECK(invalidate(reader, "t") == CACHE_READ_ONLY);
  CHECK(invalidate(cache, "t") == CACHE_OK);
  CHECK(get(reader, "key") == kMiss);
  std::uint64_t count = 0;
  CHECK(memstream_invalidations(reader, &count) == CACHE_OK);
  CHECK(count == 1);
}

TEST_CASE("the largest value has room for tags, and one byte more is refused") {
  const TemporarySegment segment("tags-largest", kSegmentSize, 1);
  const OpenCache cache(segment.spec());
  const std::string value(stats_of(cache).max_value_size - 32, 'v');
  const memstream_tags_t tags = tags_of(cache, {"t"});
  CHECK(store(cache, "k", value, tags) == CACHE_OK);
  CHECK(memstream_exists(cache, "k", 1) == CACHE_OK);
  CHECK(store(cache, "k", value + "v", tags) == CACHE_TOO_LARGE);
  CHECK(invalidate(cache, "t") == CACHE_OK);
  CHECK(memstream_exists(cache, "k", 1) == CACHE_MISS);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("a set of another segment makes an entry that is a miss") {
  const TemporarySegment segment("tags-one", kSegmentSize);
  const TemporarySegment second("tags-two", kSegmentSize);
  const OpenCache cache(segment.spec());
  const OpenCache other(second.spec());
  memstream_tags_t tags = tags_of(cache, {"t"});
  CHECK(add_tag(other, "u", &tags) == CACHE_OK);
  CHECK(set(other, "older", "key") == CACHE_OK);
  CHECK(store(other, "key", "value", tags) == CACHE_OK);
  CHECK(get(other, "key") == kMiss);
}

TEST_CASE("entries with tags stay behind when the segment is resized, and later ones are a hit until invalidated") {
  const TemporarySegment segment("tags-resize", kSegmentSize);
  const OpenCache cache(segment.spec());
  const OpenCache other(segment.spec());
  CHECK(store(cache, "tagged", "1", {"t"}) == CACHE_OK);
  CHECK(set(cache, "2", "plain") == CACHE_OK);
  CHECK(set(cache, "3", "was plain") == CACHE_OK);
  CHECK(store(cache, "was plain", "4", {"t"}) == CACHE_OK);
  memstream_resize_report_t report{};
  report.struct_size = sizeof report;
  REQUIRE(memstream_resize(cache, 2 * kSegmentSize, &report) == CACHE_OK);
  CHECK(get(cache, "tagged") == kMiss);
  CHECK(get(cache, "plain") == "2");
  CHECK(get(cache, "was plain") == kMiss);
  CHECK(store(cache, "tagged", "5", {"t"}) == CACHE_OK);
  CHECK(get(other, "tagged") == "5");
  CHECK(invalidate(other, "t") == CACHE_OK);
  CHECK(get(cache, "tagged") == kMiss);
}

TEST_CASE("invalidated entries go when room is needed, however often they were read") {
  const TemporarySegment segment("tags-evict", kSegmentSize, 1);
  const OpenCache cache(segment.spec());
  const std::string value(1000, 'v');
  const memstream_tags_t tags = tags_of(cache, {"t"});
  std::uint64_t stored = 0;
  // Half with tags, of which each is read, until the cache is full.
  while (stats_of(cache).evictions == 0) {
    for (int i = 0; i < 100; ++i, ++stored) {
      const std::string key = "first " + std::to_string(stored);
      REQUIRE((stored % 2 == 0 ? store(cache, key, value, tags) : set(cache, value, key)) == CACHE_OK);
      for (int reads = 0; stored % 2 == 0 && reads < 3; ++reads) REQUIRE(get(cache, key) == value);
    }
  }
  CHECK(invalidate(cache, "t") == CACHE_OK);
  const std::uint64_t evictions = stats_of(cache).evictions;
  for (std::uint64_t i = 0; i < stored / 4; ++i) REQUIRE(set(cache, value, "then " + std::to_string(i)) == CACHE_OK);
  const cache_stats_t stats = stats_of(cache);
  INFO(stored << " stored, " << stats.expirations << " ended, " << stats.evictions - evictions << " evicted");
  // The hand meets as many of them as of the others, and each goes.
  CHECK(stats.expirations >= stored / 8 - stored / 100);
  CHECK(stats.evictions - evictions <= stored / 8 + stored / 100);
  CHECK(problems_of(cache) == "");
}

// A million with MEMSTREAM_TEST_SCALE=10000. `--success` prints how long the invalidation took.
TEST_CASE("one call ends all entries of a tag, however many; each is a hit after it is stored again") {
  const int entries = scaled(10'000);
  const TemporarySegment segment("tags-many", kSegmentSize + static_cast<std::uint64_t>(entries) * 256);
  const OpenCache cache(segment.spec());
  const auto key_of = [](int number) { return "key-" + std::to_string(number); };
  const auto hits = [&] {
    int found = 0;
    for (int i = 0; i < entries; ++i) {
      const std::string key = key_of(i);
      char value[8];
      std::size_t size = sizeof value;
      const int status = memstream_get(cache, key.data(), key.size(), value, &size, nullptr);
      found += status == CACHE_OK && std::string_view(value, size) == "value" ? 1 : 0;
    }
    return found;
  };
  memstream_tags_t tags = tags_of(cache, {"t"});
  for (int i = 0; i < entries; ++i) REQUIRE(store(cache, key_of(i), "value", tags) == CACHE_OK);
  CHECK(hits() == entries);
  REQUIRE(invalidate(cache, "another") == CACHE_OK);  // The first call of a process finds its code nowhere near.
  const auto begin = std::chrono::steady_clock::now();
  const int status = invalidate(cache, "t");
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
  REQUIRE(status == CACHE_OK);
  INFO("microseconds: ", took.count());
  CHECK(hits() == 0);
  tags = tags_of(cache, {"t"});
  for (int i = 0; i < entries; ++i) REQUIRE(store(cache, key_of(i), "value", tags) == CACHE_OK);
  CHECK(hits() == entries);
}

TEST_CASE("other processes see an invalidation, and an entry outlives the process that gave it tags") {
  const TemporarySegment segment("tags-processes", kSegmentSize);
  const OpenCache cache(segment.spec());
  const auto done_by_child = [&](const std::function<int(memstream_t*)>& work) {
    return in_child([&]() -> Complaint {
      const OpenCache own(segment.spec());
      return work(own) == CACHE_OK ? "" : cache_last_error();
    });
  };
  CHECK(done_by_child([](memstream_t* own) { return store(own, "key", "value", {"t"}); }) == "");
  CHECK(get(cache, "key") == "value");
  CHECK(done_by_child([](memstream_t* own) { return invalidate(own, "t"); }) == "");
  CHECK(get(cache, "key") == kMiss);
}

}  // namespace
}  // namespace memstream::test
