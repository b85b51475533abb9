// How often a get or a view reads the clock, how late the instant that it notes may be, and that an expiry never is.
#include "core/cache/access_clock.h"

#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <thread>

#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

using namespace std::chrono_literals;

constexpr int kMostReuses = 15;

// An access clock over one that the test sets, which counts how often it is read.
struct SetClock {
  AccessClock clock;
  std::uint64_t instant = 1000;
  int reads = 0;

  std::uint64_t now() {
    return clock.now([this] {
      ++reads;
      return instant;
    });
  }
  void stand_still_for(int calls) {
    for (int i = 0; i < calls; ++i) now();
  }
};

std::uint64_t last_access_of(memstream_t* cache, const std::string& key) {
  std::uint64_t last_ms = 0;
  scan_all(cache, [&](const memstream_entry_t& entry) {
    if (key == entry.key) last_ms = entry.last_access_ms;
  });
  return last_ms;
}

int get(memstream_t* cache, const std::string& key) {
  char value[64];
  std::size_t size = sizeof value;
  return memstream_get(cache, key.data(), key.size(), value, &size, nullptr);
}

int view(memstream_t* cache, const std::string& key) {
  memstream_view_t view;
  const int status = memstream_view(cache, key.data(), key.size(), &view);
  return status == CACHE_OK ? memstream_release(cache, &view) : status;
}

// The calls that note an access.
constexpr int (*kReads[])(memstream_t*, const std::string&) = {get, view};

void set(memstream_t* cache, const std::string& key, std::uint64_t ttl_ms) {
  REQUIRE_MESSAGE(memstream_set(cache, key.data(), key.size(), "value", 5, ttl_ms, 0) == CACHE_OK, cache_last_error());
}

TEST_CASE("while the clock stands still one call in sixteen reads it") {
  SetClock clock;
  for (int i = 0; i < 1000; ++i) REQUIRE(clock.now() == 1000);
  CHECK(clock.reads >= 1000 / (kMostReuses + 1));
  CHECK(clock.reads <= 1000 / (kMostReuses + 1) + 8);
}

TEST_CASE("while the clock moves between the calls each reads it") {
  SetClock clock;
  clock.stand_still_for(100);
  clock.stand_still_for(kMostReuses);
  for (int i = 0; i < kMostReuses + 1; ++i) {
    ++clock.instant;
    clock.now();
  }
  for (int i = 0; i < 50; ++i) {
    ++clock.instant;
    CHECK(clock.now() == clock.instant);
  }
}

TEST_CASE("an instant is late by fifteen calls at most") {
  for (int before = 0; before < 64; ++before) {
    SetClock clock;
    clock.stand_still_for(before);
    clock.instant = 2000;
    int late = 0;
    while (late <= kMostReuses && clock.now() != 2000) ++late;
    REQUIRE(late <= kMostReuses);
    REQUIRE(clock.now() == 2000);
  }
}

TEST_CASE("an entry whose time has come is missed by a process that has just read without the clock") {
  const TemporarySegment segment("access-clock-expiry", std::uint64_t{4} << 20);
  const OpenCache cache(segment.spec());
  set(cache, "lasting", 0);
  for (const auto read : kReads) {
    for (int before = 0; before <= kMostReuses; ++before) {
      set(cache, "brief", 20);
      for (int i = 0; i < 64 + before; ++i) REQUIRE(read(cache, "lasting") == CACHE_OK);
      std::this_thread::sleep_for(40ms);
      CHECK(read(cache, "brief") == CACHE_MISS);
    }
  }
}

TEST_CASE("what a get or a view notes is late by fifteen of them at most") {
  const TemporarySegment segment("access-clock-late", std::uint64_t{4} << 20);
  const OpenCache cache(segment.spec());
  set(cache, "warm", 0);
  for (const auto read : kReads) {
    set(cache, "key", 0);  // So few are all noted.
    for (int i = 0; i < 1000; ++i) REQUIRE(read(cache, "warm") == CACHE_OK);
    REQUIRE(read(cache, "key") == CACHE_OK);
    const std::uint64_t before = last_access_of(cache, "key");
    std::this_thread::sleep_for(100ms);
    for (int i = 0; i <= kMostReuses; ++i) REQUIRE(read(cache, "key") == CACHE_OK);
    CHECK(last_access_of(cache, "key") >= before + 80);
  }
}

// The last of these: a process may not be one with a single thread again after this.
TEST_CASE("each thread has a clock of its own, which is late by fifteen of its own calls at most") {
  const TemporarySegment segment("access-clock-threads", std::uint64_t{4} << 20);
  const OpenCache cache(segment.spec());
  set(cache, "warm", 0);
  std::thread second([&] {
    for (const auto read : kReads) {
      set(cache, "key", 0);
      for (int i = 0; i < 1000; ++i) REQUIRE(read(cache, "warm") == CACHE_OK);
      REQUIRE(read(cache, "key") == CACHE_OK);
      const std::uint64_t before = last_access_of(cache, "key");
      std::this_thread::sleep_for(100ms);
      // The calls of another thread do not count for this one, and do not make its clock good.
      std::thread([&] {
        for (int i = 0; i < 1000; ++i) REQUIRE(read(cache, "warm") == CACHE_OK);
      }).join();
      for (int i = 0; i <= kMostReuses; ++i) REQUIRE(read(cache, "key") == CACHE_OK);
      CHECK(last_access_of(cache, "key") >= before + 80);
      set(cache, "brief", 20);
      for (int i = 0; i < 64; ++i) REQUIRE(read(cache, "warm") == CACHE_OK);
      std::this_thread::sleep_for(40ms);
      CHECK(read(cache, "brief") == CACHE_MISS);
    }
  });
  second.join();
}

}  // namespace
}  // namespace memstream::test
