// A full cache: it keeps accepting, it uses its memory whatever the size of the values, and it refuses only what can
// never fit.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/support/scale.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kMib = 1 << 20;

// 64 MiB; less where the machine is slowed down.
std::uint64_t segment_size() { return std::max<std::uint64_t>(16, static_cast<std::uint64_t>(scaled(64))) * kMib; }

double in_blocks(const cache_stats_t& stats) {
  return static_cast<double>(stats.used_memory) / static_cast<double>(stats.max_memory);
}
double in_use(const cache_stats_t& stats) {
  return static_cast<double>(stats.used_memory + stats.table_memory) / static_cast<double>(stats.max_memory);
}

// Puts values one after another, each under a new key.
class Filler {
 public:
  explicit Filler(memstream_t* cache) : cache_(cache) {}

  // Puts values of sizes that `size()` gives until `total_bytes` are written. The number of puts that were refused.
  template <class Size>
  std::uint64_t fill(std::uint64_t total_bytes, Size size) {
    std::uint64_t refused = 0;
    for (std::uint64_t written = 0; written < total_bytes;) {
      const std::size_t size_bytes = size();
      value_.resize(std::max(value_.size(), size_bytes), 'v');
      const std::string key = key_text(next_++);
      refused += memstream_set(cache_, key.data(), key.size(), value_.data(), size_bytes, 0, 0) != CACHE_OK ? 1 : 0;
      written += size_bytes;
    }
    return refused;
  }

  // How many of the last `count` keys are there.
  std::uint64_t newest_present(std::uint64_t count) const {
    std::uint64_t present = 0;
    for (std::uint64_t i = next_ - count; i < next_; ++i) {
      const std::string key = key_text(i);
      present += memstream_exists(cache_, key.data(), key.size()) == CACHE_OK ? 1 : 0;
    }
    return present;
  }

 private:
  static std::string key_text(std::uint64_t number) { return "key-" + std::to_string(number); }

  memstream_t* cache_;
  std::uint64_t next_ = 0;
  std::string value_;
};

template <class Size>
void write_ten_times_its_size(Size size) {
  const TemporarySegment segment("capacity", segment_size());
  const OpenCache cache(segment.spec());
  Filler filler(cache);
  CHECK(filler.fill(10 * segment_size(), size) == 0);
  CHECK(filler.newest_present(1) == 1);
  // Of what is never read only the small queue is sure to be there, 5 % of the bytes at least; and the window that is
  // cleared for a large value may take a young neighbour, though rarely.
  CHECK(filler.newest_present(25) >= 24);
  CHECK(filler.newest_present(50) >= 45);
  const cache_stats_t stats = stats_of(cache);
  CHECK(in_blocks(stats) >= 0.85);
  CHECK(stats.evictions > 0);
  CHECK(disagreement_of_stats_and_scan(cache) == "");
  CHECK(problems_of(cache) == "");
  MESSAGE("in live blocks: " << in_blocks(stats) << ", with tables: " << in_use(stats));
}

TEST_CASE("after ten times its size of 1 KiB values a cache holds the newest and 85 % of its memory is live") {
  write_ten_times_its_size([] { return 1024; });
}

TEST_CASE("after ten times its size of values from 100 B to 64 KiB a cache holds the newest and 85 % is live") {
  std::minstd_rand random(1);
  // As many of 100 to 200 bytes as of 32 to 64 KiB.
  std::uniform_real_distribution<> exponent(std::log2(100.0), 16.0);
  write_ten_times_its_size([&] { return static_cast<std::size_t>(std::exp2(exponent(random))); });
}

TEST_CASE("values of 64 bytes and values of 1 MiB both fill 80 % of the memory") {
  for (const std::size_t size_bytes : {std::size_t{64}, std::size_t{kMib}}) {
    CAPTURE(size_bytes);
    const TemporarySegment segment("fill", segment_size());
    const OpenCache cache(segment.spec());
    Filler filler(cache);
    CHECK(filler.fill(2 * segment_size(), [&] { return size_bytes; }) == 0);
    const cache_stats_t stats = stats_of(cache);
    CHECK(in_use(stats) >= 0.80);
    CHECK(problems_of(cache) == "");
    MESSAGE(size_bytes << " bytes: " << in_use(stats) << " in use, " << in_blocks(stats) << " in live blocks, "
                       << stats.entries << " entries");
  }
}

TEST_CASE("a cache keeps accepting when the size of the values changes") {
  const TemporarySegment segment("shift", segment_size());
  const OpenCache cache(segment.spec());
  Filler filler(cache);
  for (const std::size_t size_bytes : {64U, 1U << 10, 100U << 10, 64U}) {
    CAPTURE(size_bytes);
    CHECK(filler.fill(3 * segment_size(), [&] { return size_bytes; }) == 0);
    // A quarter of the 5 % that are sure to be of the newest: these have room even if all are keys of one shard of two.
    const std::uint64_t newest = std::min<std::uint64_t>(50, segment_size() / 80 / size_bytes);
    CHECK(filler.newest_present(newest) >= newest - newest / 16);
    CHECK(problems_of(cache) == "");
    const cache_stats_t stats = stats_of(cache);
    MESSAGE(size_bytes << " bytes: " << in_blocks(stats) << " in live blocks, " << in_use(stats) << " with tables, "
                       << stats.entries << " entries");
  }
}

TEST_CASE("a value over the limit is refused with its size and the limit, and nothing is evicted for it") {
  const TemporarySegment segment("limit", segment_size());
  const OpenCache cache(segment.spec());
  Filler filler(cache);
  REQUIRE(filler.fill(2 * segment_size(), [] { return 10'000; }) == 0);
  const cache_stats_t before = stats_of(cache);
  const std::vector<char> value(before.max_value_size + 1);

  CHECK(memstream_set(cache, "k", 1, value.data(), value.size(), 0, 0) == CACHE_TOO_LARGE);
  const std::string message = cache_last_error();
  CHECK(message.find(std::to_string(value.size())) != std::string::npos);
  CHECK(message.find(std::to_string(before.max_value_size)) != std::string::npos);
  memstream_reservation_t reservation{};
  CHECK(memstream_reserve(cache, "k", 1, value.size(), &reservation) == CACHE_TOO_LARGE);

  const cache_stats_t after = stats_of(cache);
  CHECK(after.evictions == before.evictions);
  CHECK(after.entries == before.entries);
  CHECK(after.used_memory == before.used_memory);
  CHECK(after.pinned_memory == 0);

  CHECK(memstream_set(cache, "k", 1, value.data(), before.max_value_size, 0, 0) == CACHE_OK);
  CHECK(problems_of(cache) == "");
}

// The number that stands behind `name` in the message of the last error; 0 if there is none.
std::uint64_t advised(const char* name) {
  const std::string message = cache_last_error();
  const std::size_t found = message.find(name);
  return found == std::string::npos ? 0 : std::strtoull(message.c_str() + found + std::strlen(name), nullptr, 10);
}

TEST_CASE("what the error of a too large value advises makes room for it") {
  constexpr std::uint64_t kSize = std::uint64_t{64} << 20;
  for (const std::uint64_t part : {4U, 3U, 1U}) {  // At most a quarter: a segment of this size can have it.
    CAPTURE(part);
    const TemporarySegment segment("advice", kSize);
    memstream_options_t options = segment.spec().options();
    options.shards = 8;
    const std::vector<char> value(kSize / part, 'v');
    {
      const OpenCache cache(options);
      REQUIRE(memstream_set(cache, "k", 1, value.data(), value.size(), 0, 0) == CACHE_TOO_LARGE);
      REQUIRE(memstream_destroy(cache) == CACHE_OK);
    }
    options.shards = 0;
    options.max_value = advised("max_value=");
    CHECK(options.max_value == value.size());
    const std::uint64_t size = advised("size=");
    CHECK((size == 0) == (part == 4));
    if (size != 0) options.size_bytes = size;
    const OpenCache cache(options);
    CHECK_MESSAGE(memstream_set(cache, "k", 1, value.data(), value.size(), 0, 0) == CACHE_OK, cache_last_error());
    CHECK(problems_of(cache) == "");
  }
}

TEST_CASE("thirty values of a 68th of a segment each stay, with the shards that it has by default") {
  constexpr std::uint64_t kSize = std::uint64_t{1} << 30;
  const std::vector<char> value(std::size_t{15} << 20, 'v');
  int undisturbed = 0;
  for (int round = 0; round < 3; ++round) {
    const TemporarySegment segment("thirty", kSize);
    memstream_options_t options = segment.spec().options();
    options.shards = 0;
    const OpenCache cache(options);
    for (int i = 0; i < 30; ++i) {
      REQUIRE(memstream_set(cache, &i, sizeof i, value.data(), value.size(), 0, 0) == CACHE_OK);
    }
    if (stats_of(cache).evictions == 0) ++undisturbed;
  }
  CHECK(undisturbed >= 2);  // Chance gives one of six shards more than it holds in 1 of 80 segments.
}

}  // namespace
}  // namespace memstream::test
