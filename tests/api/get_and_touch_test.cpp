// A get that gives its entry a new time to live: memstream_get_and_touch().
#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

#include "api/memstream_metrics.h"
#include "api/memstream_tags.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kSegmentSize = 16 << 20;
constexpr std::uint64_t kMinuteMs = 60'000;
constexpr std::uint64_t kHourMs = 3'600'000;

int set(memstream_t* cache, std::string_view value, std::uint64_t ttl_ms, std::uint32_t flags = 0) {
  return memstream_set(cache, "key", 3, value.data(), value.size(), ttl_ms, flags);
}

struct Got {
  int status = CACHE_OK;
  std::string value;
  std::size_t size = 0;
  memstream_meta_t meta{};
};

Got get_and_touch(memstream_t* cache, std::uint64_t ttl_ms, std::size_t capacity = 100, std::string_view key = "key") {
  Got got{.value = std::string(capacity, '?'), .size = capacity};
  got.status = memstream_get_and_touch(cache, key.data(), key.size(), ttl_ms, got.value.data(), &got.size, &got.meta);
  if (got.status == CACHE_OK) got.value.resize(got.size);
  return got;
}

memstream_entry_t entry_of(memstream_t* cache) {
  memstream_entry_t entry{};
  if (memstream_entry_info(cache, "key", 3, &entry) != CACHE_OK) throw std::runtime_error(cache_last_error());
  return entry;
}

// How long the entry still lives, to the next half minute; 0: for ever.
std::uint64_t remaining_ms(memstream_t* cache) {
  const std::uint64_t expires_ms = entry_of(cache).expires_at_ms;
  const std::uint64_t half = kMinuteMs / 2;
  return expires_ms == 0 ? 0 : (expires_ms - stats_of(cache).now_ms + half / 2) / half * half;
}

TEST_CASE("a get renews its entry, longer, shorter or for ever, and changes nothing else") {
  const TemporarySegment segment("sliding", kSegmentSize, 1);
  const OpenCache cache(segment.spec());
  const std::string values[] = {"", "small", std::string(5000, 'm'), std::string(40'000, 'l'),
                                std::string(900'000, 'h')};
  for (const std::string& value : values) {
    for (const std::uint64_t first_ttl_ms : {std::uint64_t{0}, kMinuteMs}) {
      CAPTURE(value.size());
      CAPTURE(first_ttl_ms);
      REQUIRE(set(cache, value, first_ttl_ms, first_ttl_ms == 0 ? 0 : 77) == CACHE_OK);
      const memstream_entry_t before = entry_of(cache);
      Got got = get_and_touch(cache, kHourMs, value.size());
      CHECK(got.status == CACHE_OK);
      CHECK(got.value == value);
      CHECK(got.meta.flags == before.flags);
      CHECK(got.meta.created_at_ms == before.created_at_ms);
      CHECK(got.meta.expires_at_ms == entry_of(cache).expires_at_ms);
      CHECK(remaining_ms(cache) == kHourMs);
      const std::uint64_t token = got.meta.cas;
      CHECK(get_and_touch(cache, 10 * kMinuteMs, value.size()).meta.cas == token);
      CHECK(remaining_ms(cache) == 10 * kMinuteMs);
      got = get_and_touch(cache, 0, value.size());
      CHECK(got.meta.expires_at_ms == 0);
      CHECK(remaining_ms(cache) == 0);
      CHECK(entry_of(cache).access_count == before.access_count + 3);
      CHECK(memstream_cas(cache, "key", 3, "next", 4, 0, 0, token) == CACHE_OK);
    }
  }
  CHECK(problems_of(cache) == "");
}

TEST_CASE("an entry that is read in time outlives its time to live, and ends without gets") {
  const TemporarySegment segment("sliding-life", kSegmentSize, 1);
  const OpenCache cache(segment.spec());
  REQUIRE(set(cache, "value", 400) == CACHE_OK);
  for (int i = 0; i < 10; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    CHECK(get_and_touch(cache, 400).status == CACHE_OK);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(450));
  CHECK(get_and_touch(cache, 400).status == CACHE_MISS);
}

TEST_CASE("what is not read is not renewed") {
  const TemporarySegment segment("sliding-refused", kSegmentSize, 1);
  const OpenCache cache(segment.spec());
  Got got = get_and_touch(cache, kHourMs);
  CHECK(got.status == CACHE_MISS);
  CHECK(got.size == 0);
  REQUIRE(set(cache, "value", kMinuteMs, 5) == CACHE_OK);
  got = get_and_touch(cache, kHourMs, 4);
  CHECK(got.status == CACHE_TOO_SMALL);
  CHECK(got.size == 5);
  CHECK(got.value == "????");
  CHECK(got.meta.flags == 5);
  std::size_t size = 0;
  CHECK(memstream_get_and_touch(cache, "key", 3, kHourMs, nullptr, &size, nullptr) == CACHE_TOO_SMALL);
  CHECK(get_and_touch(cache, kHourMs, 4, "").status == CACHE_BAD_KEY);
  CHECK(get_and_touch(cache, kHourMs, 4, std::string(CACHE_MAX_KEY_SIZE + 1, 'k')).status == CACHE_BAD_KEY);
  memstream_options_t options = segment.spec().options();
  options.flags = MEMSTREAM_OPEN_READ_ONLY;
  const OpenCache reader(options);
  got = get_and_touch(reader, kHourMs);
  CHECK(got.status == CACHE_READ_ONLY);
  CHECK(got.size == 0);
  CHECK(get_and_touch(reader, kHourMs, 100, "absent").status == CACHE_READ_ONLY);
  CHECK(remaining_ms(cache) == kMinuteMs);
}

TEST_CASE("it counts as one get, and a renewal as one touch") {
  const TemporarySegment segment("sliding-counts", kSegmentSize, 1);
  const OpenCache cache(segment.spec());
  REQUIRE(set(cache, "value", kMinuteMs) == CACHE_OK);
  CHECK(get_and_touch(cache, kHourMs).status == CACHE_OK);
  CHECK(get_and_touch(cache, kHourMs, 2).status == CACHE_TOO_SMALL);
  CHECK(get_and_touch(cache, kHourMs, 2, "absent").status == CACHE_MISS);
  memstream_metrics_t metrics{};
  metrics.struct_size = sizeof metrics;
  REQUIRE(memstream_metrics(cache, &metrics) == CACHE_OK);
  CHECK(metrics.outcomes[MEMSTREAM_GET][MEMSTREAM_DONE] == 1);
  CHECK(metrics.outcomes[MEMSTREAM_GET][MEMSTREAM_MISSED] == 1);
  CHECK(metrics.outcomes[MEMSTREAM_GET][MEMSTREAM_TOO_SMALL] == 1);
  CHECK(metrics.outcomes[MEMSTREAM_TOUCH][MEMSTREAM_DONE] == 1);
  CHECK(metrics.outcomes[MEMSTREAM_TOUCH][MEMSTREAM_MISSED] == 0);
  CHECK(stats_of(cache).hits == 1);
  CHECK(stats_of(cache).misses == 1);
}

TEST_CASE("a renewal keeps the tags of an entry") {
  const TemporarySegment segment("sliding-tags", kSegmentSize, 1);
  const OpenCache cache(segment.spec());
  memstream_tags_t tags{};
  REQUIRE(memstream_tag(cache, "user", 4, &tags) == CACHE_OK);
  REQUIRE(memstream_store_tagged(cache, "key", 3, "value", 5, 0, 0, MEMSTREAM_SET, 0, &tags) == CACHE_OK);
  for (const std::uint64_t ttl_ms : {kHourMs, std::uint64_t{0}, kMinuteMs}) {
    CHECK(get_and_touch(cache, ttl_ms).value == "value");
    CHECK(remaining_ms(cache) == ttl_ms);
  }
  REQUIRE(memstream_invalidate(cache, "user", 4) == CACHE_OK);
  CHECK(get_and_touch(cache, kHourMs).status == CACHE_MISS);
}

}  // namespace
}  // namespace memstream::test
