// The wall clock is set while a cache is open: instants are reported by the clock as it is now, and no value expires
// for it. The clock of this program alone is set.
#include <doctest/doctest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <thread>

#include "tests/support/test_cache.h"

namespace {

std::atomic<std::int64_t> wall_clock_is_ahead_s{0};

}  // namespace

// Instead of the C library's, also for libcache.so.
extern "C" int clock_gettime(clockid_t clock, timespec* time) noexcept {
  const auto result = static_cast<int>(syscall(SYS_clock_gettime, clock, time));
  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) time->tv_sec += wall_clock_is_ahead_s;
  return result;
}

namespace memstream::test {
namespace {

std::int64_t unix_ms() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
}

// Whether the instant is the present one, but for what a busy machine takes.
bool is_now(std::uint64_t instant_ms) { return std::abs(static_cast<std::int64_t>(instant_ms) - unix_ms()) < 30'000; }

TEST_CASE("after the wall clock was set, instants are those of the clock as it is now") {
  const TemporarySegment segment("clock", std::uint64_t{1} << 20);
  const OpenCache cache(segment.spec());
  REQUIRE(memstream_set(cache, "key", 3, "value", 5, 600'000, 0) == CACHE_OK);
  for (const std::int64_t ahead_s : {86'400, -86'400, 0}) {
    CAPTURE(ahead_s);
    wall_clock_is_ahead_s = ahead_s;
    // Statistics look at the clock, and others every quarter of a second.
    const bool asks_for_statistics = ahead_s == 86'400;
    if (asks_for_statistics) {
      CHECK(is_now(stats_of(cache).created_at_ms));
      CHECK(is_now(stats_of(cache).now_ms));
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
    }
    char value[8];
    memstream_meta_t meta{};
    for (int reads = 0; reads < 40; ++reads) {
      std::size_t size = sizeof value;
      REQUIRE(memstream_get(cache, "key", 3, value, &size, &meta) == CACHE_OK);
    }
    CHECK(is_now(meta.created_at_ms));
    CHECK(is_now(meta.expires_at_ms - 600'000));
    memstream_entry_t entry{};
    REQUIRE(memstream_entry_info(cache, "key", 3, &entry) == CACHE_OK);
    CHECK(is_now(entry.created_at_ms));
    CHECK(is_now(entry.last_access_ms));
  }
}

TEST_CASE("a cache that is opened after the wall clock was set reports by the clock as it is now") {
  const TemporarySegment segment("later", std::uint64_t{1} << 20);
  const OpenCache first(segment.spec());
  REQUIRE(memstream_set(first, "key", 3, "value", 5, 0, 0) == CACHE_OK);
  wall_clock_is_ahead_s = -3600;
  const OpenCache second(segment.spec());
  char value[8];
  std::size_t size = sizeof value;
  memstream_meta_t meta{};
  REQUIRE(memstream_get(second, "key", 3, value, &size, &meta) == CACHE_OK);
  CHECK(is_now(meta.created_at_ms));
  wall_clock_is_ahead_s = 0;
}

}  // namespace
}  // namespace memstream::test
