// What is in use at one moment, through the C interface: places of limits, permits, threads that wait.
#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <thread>

#include "api/memstream_limits.h"
#include "api/memstream_metrics.h"
#include "tests/support/child_process.h"
#include "tests/support/leases.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::uint64_t kSize = 16 << 20;
constexpr std::uint64_t kLongMs = 600'000;  // Longer than any test waits.

memstream_usage_t usage_of(memstream_t* cache) {
  memstream_usage_t usage{};
  usage.struct_size = sizeof usage;
  if (memstream_usage(cache, &usage) != CACHE_OK) throw std::runtime_error(cache_last_error());
  return usage;
}

std::uint64_t acquire(memstream_t* cache, std::string_view name, std::uint64_t permits, std::uint64_t timeout_ms = 0) {
  std::uint64_t permit = 0;
  memstream_semaphore_acquire(cache, name.data(), name.size(), permits, timeout_ms, &permit);
  return permit;
}

// What a process comes to within ten seconds, or the last of it.
template <class Value>
Value soon(const std::function<Value()>& look, const Value& wanted) {
  const auto end = steady_clock::now() + std::chrono::seconds(10);
  while (look() != wanted && steady_clock::now() < end) std::this_thread::sleep_for(milliseconds(1));
  return look();
}

TEST_CASE("limits, semaphores, locks and permits are counted, and the places for them") {
  const TemporarySegment segment("usage", kSize);
  const OpenCache cache(segment.spec());
  const OpenCache other(segment.spec());
  memstream_usage_t usage = usage_of(cache);
  CHECK(usage.rates + usage.semaphores + usage.locks + usage.permits + usage.holders == 0);
  CHECK(usage.rate_capacity == 32 * 16);
  CHECK(usage.holder_capacity == 4 * 127);

  std::uint64_t wait_ms = 0;
  for (const std::string_view key : {"a", "b", "c"}) {
    CHECK(memstream_limit(cache, key.data(), key.size(), 1, kLongMs, 1, &wait_ms) == CACHE_OK);
  }
  const std::uint64_t permit = acquire(cache, "pool", 4);
  CHECK(acquire(cache, "pool", 4) == permit);
  CHECK(acquire(other, "pool", 4) != 0);
  CHECK(acquire(other, "lock", 1) != 0);
  CHECK(acquire(other, "another", 1) != 0);
  usage = usage_of(other);
  CHECK(usage.rates == 3);
  CHECK(usage.semaphores == 1);
  CHECK(usage.locks == 2);
  CHECK(usage.permits == 5);
  CHECK(usage.holders == 4);

  CHECK(memstream_limit_reset(cache, "a", 1) == CACHE_OK);
  CHECK(memstream_semaphore_release(cache, "pool", 4, permit) == CACHE_OK);
  memstream_options_t options = segment.spec().options();
  options.flags |= MEMSTREAM_OPEN_READ_ONLY;
  const OpenCache reader(options);
  usage = usage_of(reader);
  CHECK(usage.rates == 2);
  CHECK(usage.permits == 4);
  CHECK(usage.holders == 4);
}

TEST_CASE("what a killed process held or waited for is in use no more") {
  const TemporarySegment segment("usage-killed", kSize);
  const OpenCache cache(segment.spec());
  REQUIRE(acquire(cache, "taken", 1) != 0);
  const auto permits = [&] { return usage_of(cache).permits; };
  const auto waiters = [&] { return usage_of(cache).permit_waiters; };
  ChildProcess holder([&]() -> Complaint {
    const OpenCache own(segment.spec());
    acquire(own, "lock", 1);
    acquire(own, "taken", 1, kLongMs);
    return "the wait is over";
  });
  CHECK(soon<std::uint64_t>(waiters, 1) == 1);
  CHECK(permits() == 2);
  holder.send_signal(SIGSTOP);
  std::this_thread::sleep_for(milliseconds(100));
  CHECK(waiters() == 1);  // A stopped process keeps its place, and waits.
  CHECK(permits() == 2);
  holder.send_signal(SIGKILL);
  CHECK(holder.wait() == "killed by signal 9");
  CHECK(waiters() == 0);
  CHECK(permits() == 1);
  CHECK(usage_of(cache).locks == 1);
  // The next process in that slot begins at 0.
  CHECK(stats_of(cache).dead_processes == 1);
  CHECK(in_child([&]() -> Complaint {
          const OpenCache own(segment.spec());
          return usage_of(own).permit_waiters == 0 ? "" : "a waiter of the process before";
        }) == "");
}

TEST_CASE("threads that wait are counted by what they wait for, until they do no more") {
  const TemporarySegment segment("usage-waiters", kSize);
  const OpenCache cache(segment.spec());
  REQUIRE(acquire(cache, "taken", 1) != 0);
  const std::uint64_t permit = acquire(cache, "other", 1);
  const std::uint64_t lease = must_lease(cache);
  std::thread changes[2];
  for (std::thread& thread : changes) {
    thread = std::thread([&] { memstream_wait(cache, "absent", 6, 0, kLongMs); });
  }
  std::thread acquires([&] { acquire(cache, "other", 1, kLongMs); });
  std::thread leases([&] { wait_for(cache, kLongMs); });
  std::thread follows([&] {
    std::uint64_t followed = 0;
    follow(cache, &followed, kLongMs);
  });
  CHECK(soon<std::uint64_t>([&] { return usage_of(cache).change_waiters; }, 2) == 2);
  CHECK(soon<std::uint64_t>([&] { return usage_of(cache).permit_waiters; }, 1) == 1);
  CHECK(soon<std::uint64_t>([&] { return usage_of(cache).lease_waiters; }, 2) == 2);

  CHECK(set(cache, "value", "absent") == CACHE_OK);
  for (std::thread& thread : changes) thread.join();
  CHECK(usage_of(cache).change_waiters == 0);
  CHECK(usage_of(cache).permit_waiters == 1);
  CHECK(memstream_semaphore_release(cache, "other", 5, permit) == CACHE_OK);
  acquires.join();
  CHECK(fulfil(cache, lease) == CACHE_OK);
  leases.join();
  follows.join();
  const memstream_usage_t usage = usage_of(cache);
  CHECK(usage.permit_waiters + usage.lease_waiters == 0);
  // A call that need not sleep is no waiter, and one that gives up none any more.
  CHECK(memstream_wait(cache, "never", 5, 0, 20) == CACHE_MISS);
  CHECK(acquire(cache, "taken", 1, 20) == 0);
  CHECK(usage_of(cache).change_waiters + usage_of(cache).permit_waiters == 0);
}

TEST_CASE("a small segment has no places, and a wrong call gets a sentence") {
  const TemporarySegment segment("usage-small", 4 << 20);
  const OpenCache cache(segment.spec());
  const memstream_usage_t usage = usage_of(cache);
  CHECK(usage.rate_capacity + usage.holder_capacity == 0);
  memstream_usage_t wrong{};
  CHECK(memstream_usage(cache, &wrong) == CACHE_INVALID);
  CHECK(std::string(cache_last_error()).find("Invalid memstream_usage_t.struct_size 0: expected 88.") == 0);
  CHECK(memstream_usage(cache, nullptr) == CACHE_INVALID);
  CHECK(memstream_usage(nullptr, &wrong) == CACHE_INVALID);
}

}  // namespace
}  // namespace memstream::test
