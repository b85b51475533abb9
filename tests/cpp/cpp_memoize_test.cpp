// Leases and memoize() of the interface for C++: one of many computes, whoever dies or fails meanwhile.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "api/memstream.hpp"
#include "tests/support/child_process.h"
#include "tests/support/ledger.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

using namespace std::chrono_literals;
using std::string;

constexpr std::uint64_t kSize = std::uint64_t{4} << 20;

struct Fixture {
  explicit Fixture(const string& purpose)
      : segment("memoize-" + purpose, kSize, 1),
        options{.name = segment.spec().name, .size_bytes = kSize, .shards = 1},
        cache(Cache::open(options).value()) {}
  Cache open() const { return Cache::open(options).value(); }

  TemporarySegment segment;
  Options options;
  Cache cache;
};

std::chrono::milliseconds since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start);
}

TEST_CASE("a lease is granted once, and stores what its holder computed") {
  Fixture fixture("lease");
  Cache& cache = fixture.cache;
  {
    Lease lease = *cache.lease("key");
    CHECK(lease.key() == "key");
    CHECK(lease.token() != 0);
    CHECK(cache.lease("key").status() == CACHE_HELD);
    CHECK(*cache.wait("key", 0, 0ms) == CACHE_MISS);
    CHECK(cache.wait("key", 0, -1ms).status() == CACHE_INVALID);
    CHECK(cache.wait("", 0, 0ms).status() == CACHE_BAD_KEY);
    CHECK(cache.wait_for_lease("key", 0ms).status() == CACHE_HELD);
    CHECK(lease.fulfil("value", {.ttl = -1ms}).status() == CACHE_INVALID);
    CHECK(lease.fulfil(string(kSize, 'v')).status() == CACHE_TOO_LARGE);
    CHECK(lease.token() != 0);
    CHECK(lease.fulfil("value", {.flags = 7}));
    CHECK(lease.token() == 0);
    CHECK(lease.fulfil("again").status() == CACHE_CONFLICT);
    CHECK(lease.release().status() == CACHE_CONFLICT);
  }
  Meta meta{};
  CHECK(*cache.get<string>("key", meta) == "value");
  CHECK(meta.flags == 7);
  CHECK(*cache.wait("key", 0, 0ms) == CACHE_OK);
  CHECK(*cache.wait("key", meta.cas, 0ms) == CACHE_EXISTS);
  CHECK(cache.lease("key").status() == CACHE_EXISTS);
  CHECK(cache.lease("key", {.stale_cas = meta.cas}));
  CHECK(cache.wait_for_lease("key", 0ms));
}

TEST_CASE("a lease ends with its owner, and moves") {
  Fixture fixture("owner");
  Cache& cache = fixture.cache;
  { const Lease dropped = *cache.lease("key"); }
  Lease lease = *cache.lease("key");
  lease = *cache.lease("other");
  CHECK(cache.lease("key"));
  CHECK(lease.key() == "other");
  CHECK(lease.release());
  CHECK(cache.wait_for_lease("other", 0ms));
}

TEST_CASE("bad leases and waits are refused") {
  Fixture fixture("refused");
  Cache& cache = fixture.cache;
  std::uint64_t followed = 0;
  CHECK(cache.lease("").status() == CACHE_BAD_KEY);
  CHECK(cache.lease("key", {.lease = -1ms}).status() == CACHE_INVALID);
  CHECK(cache.wait_for_lease("key", -1ms).status() == CACHE_INVALID);
  CHECK(cache.wait_for_lease("", 0ms).status() == CACHE_BAD_KEY);
  CHECK(cache.follow_lease("key", followed, -1ms).status() == CACHE_INVALID);
  CHECK(cache.follow_lease("", followed, 0ms).status() == CACHE_BAD_KEY);
  CHECK(*cache.follow_lease("key", followed, 0ms) == CACHE_OK);
  const Lease lease = *cache.lease("key", {.lease = 200ms});
  CHECK(*cache.follow_lease("key", followed, 0ms) == CACHE_HELD);
  CHECK(followed == lease.token());
  CHECK(*cache.follow_lease("key", followed, 5s) == CACHE_MISS);
}

TEST_CASE("memoize computes once and keeps the value") {
  Fixture fixture("once");
  Cache& cache = fixture.cache;
  int computed = 0;
  const auto compute = [&] { return ++computed; };
  CHECK(*cache.memoize("key", compute, {.ttl = 1h, .flags = 3}) == 1);
  CHECK(*cache.memoize("key", compute) == 1);
  CHECK(computed == 1);
  Meta meta{};
  CHECK(*cache.get<int>("key", meta) == 1);
  CHECK(meta.flags == 3);
  CHECK(meta.expires_at_ms != 0);
  CHECK(cache.memoize("key", [] { return 1.0; }).status() == kWrongSize);
  CHECK(cache.memoize("", compute).status() == CACHE_BAD_KEY);
  CHECK(cache.memoize("other", compute, {.ttl = -1ms}).status() == CACHE_INVALID);
  CHECK(cache.memoize("other", compute, {.wait = -1ms}).status() == CACHE_INVALID);
  CHECK(cache.memoize("other", compute, {.lease = -1ms}).status() == CACHE_INVALID);
  CHECK(computed == 1);
  REQUIRE(cache.destroy());
  CHECK(cache.memoize("key", compute).status() == CACHE_GONE);
}

TEST_CASE("an exception of the computation ends the lease and reaches the caller") {
  Fixture fixture("exception");
  Cache& cache = fixture.cache;
  const auto fail = []() -> int { throw std::runtime_error("no result"); };
  CHECK_THROWS_WITH((void)cache.memoize("key", fail), "no result");
  CHECK(!*cache.contains("key"));
  CHECK(*cache.memoize("key", [] { return 1; }) == 1);
}

TEST_CASE("a value that cannot be stored is returned, and its error reported") {
  Fixture fixture("not-stored");
  Cache& cache = fixture.cache;
  int status = 0;
  const MemoizeOptions options{.not_stored = [&](const Error& error) { status = error.status(); }};
  const auto compute = [] { return string(kSize, 'v'); };
  CHECK(cache.memoize("key", compute, options)->size() == kSize);
  CHECK(status == CACHE_TOO_LARGE);
  CHECK(cache.memoize("key", compute)->size() == kSize);
  CHECK(cache.wait_for_lease("key", 0ms));
  // A newer value of another caller is no error.
  status = 0;
  const auto overtaken = [&] {
    REQUIRE(cache.set("overtaken", 2));
    return 1;
  };
  CHECK(*cache.memoize("overtaken", overtaken, options) == 1);
  CHECK(status == 0);
  CHECK(*cache.get<int>("overtaken") == 2);
}

TEST_CASE("a wait has a bound, after which the caller computes by itself") {
  Fixture fixture("bound");
  Cache& cache = fixture.cache;
  const Lease lease = *fixture.cache.lease("key");
  const auto start = std::chrono::steady_clock::now();
  CHECK(*cache.memoize("key", [] { return 5; }, {.wait = 200ms}) == 5);
  CHECK(since(start) >= 200ms);
  CHECK(*cache.get<int>("key") == 5);
}

TEST_CASE("a lease that ends without a value lets those that followed it compute") {
  Fixture fixture("released");
  Lease lease = *fixture.cache.lease("key");
  std::thread waiter([&] { CHECK(*fixture.open().memoize("key", [] { return 6; }, {.wait = 60s}) == 6); });
  std::this_thread::sleep_for(100ms);
  CHECK(lease.release());
  waiter.join();
  CHECK(*fixture.cache.get<int>("key") == 6);
}

TEST_CASE("of many processes one computes") {
  const Fixture fixture("processes");
  const SharedArray<std::atomic<int>> computed(1);
  std::vector<std::unique_ptr<ChildProcess>> children;
  for (int i = 0; i < 6; ++i) {
    children.push_back(std::make_unique<ChildProcess>([&]() -> Complaint {
      Cache cache = fixture.open();
      const auto value = cache.memoize("key",
                                       [&] {
                                         ++computed[0];
                                         std::this_thread::sleep_for(300ms);
                                         return string(5000, 'v');
                                       },
                                       {.wait = 60s});
      if (!value) return string(value.error().message());
      return value->size() == 5000 ? "" : "another value";
    }));
  }
  for (const auto& child : children) CHECK(child->wait() == "");
  CHECK(computed[0] == 1);
}

TEST_CASE("a process that is killed while it computes is followed by the next one") {
  const Fixture fixture("killed");
  const Signal computing;
  ChildProcess holder([&]() -> Complaint {
    Cache cache = fixture.open();
    (void)cache.memoize("key", [&] {
      computing.post();
      std::this_thread::sleep_for(60s);
      return 1;
    });
    return "the holder was not killed";
  });
  computing.wait();
  const SharedArray<std::atomic<int>> computed(1);
  std::vector<std::unique_ptr<ChildProcess>> waiters;
  for (int i = 0; i < 3; ++i) {
    waiters.push_back(std::make_unique<ChildProcess>([&]() -> Complaint {
      Cache cache = fixture.open();
      const auto value = cache.memoize("key",
                                       [&] {
                                         ++computed[0];
                                         std::this_thread::sleep_for(300ms);
                                         return 2;
                                       },
                                       {.wait = 60s});
      return value && *value == 2 ? "" : "another value";
    }));
  }
  std::this_thread::sleep_for(200ms);
  CHECK(computed[0] == 0);
  holder.send_signal(SIGKILL);
  CHECK(holder.wait() == "killed by signal 9");
  for (const auto& waiter : waiters) CHECK(waiter->wait() == "");
  CHECK(computed[0] == 1);
  CHECK(*fixture.cache.get<int>("key") == 2);
  CHECK(problems_of(fixture.cache.handle()) == "");
}

}  // namespace
}  // namespace memstream::test
