// Metrics through the C interface: every count is held against what the test did.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>

#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "api/memstream_metrics.h"
#include "tests/support/scale.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

memstream_metrics_t metrics_of(memstream_t* cache) {
  memstream_metrics_t metrics{};
  metrics.struct_size = sizeof metrics;
  if (memstream_metrics(cache, &metrics) != CACHE_OK) throw std::runtime_error(cache_last_error());
  return metrics;
}

template <std::size_t kSize>
std::uint64_t sum_of(const std::uint64_t (&numbers)[kSize]) {
  return std::accumulate(std::begin(numbers), std::end(numbers), std::uint64_t{0});
}

std::uint64_t evictions_in(const memstream_metrics_t& metrics) {
  return std::accumulate(metrics.removals, metrics.removals + MEMSTREAM_REMOVED_BY_CLEAR, std::uint64_t{0});
}

int set(memstream_t* cache, const std::string& key, const std::string& value, std::uint64_t ttl_ms = 0) {
  return memstream_set(cache, key.data(), key.size(), value.data(), value.size(), ttl_ms, 0);
}
int get(memstream_t* cache, const std::string& key, std::size_t room = 65536) {
  std::string value(room, '\0');
  std::size_t size = room;
  return memstream_get(cache, key.data(), key.size(), value.data(), &size, nullptr);
}

TEST_CASE("operations are counted by kind and outcome") {
  const TemporarySegment segment("outcomes", 4 * kMiB);
  const OpenCache cache(segment.spec());
  CHECK(set(cache, "a", "1") == CACHE_OK);
  CHECK(set(cache, "a", "2") == CACHE_OK);
  CHECK(set(cache, "huge", std::string(8 << 20, 'x')) == CACHE_TOO_LARGE);
  CHECK(get(cache, "a") == CACHE_OK);
  CHECK(get(cache, "a", 0) == CACHE_TOO_SMALL);
  CHECK(get(cache, "absent") == CACHE_MISS);
  CHECK(memstream_add(cache, "a", 1, "x", 1, 0, 0) == CACHE_EXISTS);
  CHECK(memstream_add(cache, "b", 1, "x", 1, 0, 0) == CACHE_OK);
  CHECK(memstream_replace(cache, "c", 1, "x", 1, 0, 0) == CACHE_MISS);
  CHECK(memstream_replace(cache, "b", 1, "y", 1, 0, 0) == CACHE_OK);
  CHECK(memstream_cas(cache, "b", 1, "z", 1, 0, 0, 1) == CACHE_CONFLICT);
  std::int64_t number = 0;
  const std::int64_t initial = 0;
  CHECK(memstream_incr(cache, "n", 1, 1, &initial, 0, &number) == CACHE_OK);
  CHECK(memstream_incr(cache, "a", 1, 1, nullptr, 0, &number) == CACHE_OK);
  CHECK(memstream_touch(cache, "a", 1, 1000) == CACHE_OK);
  CHECK(memstream_touch(cache, "absent", 6, 1000) == CACHE_MISS);
  CHECK(memstream_delete(cache, "b", 1) == CACHE_OK);
  CHECK(memstream_delete(cache, "b", 1) == CACHE_MISS);
  std::uint64_t token = 0;
  CHECK(memstream_lease(cache, "new", 3, 0, 0, &token) == CACHE_OK);
  CHECK(memstream_lease(cache, "new", 3, 0, 0, &token) == CACHE_HELD);

  const memstream_metrics_t metrics = metrics_of(cache);
  const auto& outcomes = metrics.outcomes;
  CHECK(outcomes[MEMSTREAM_SET][MEMSTREAM_DONE] == 2);
  CHECK(outcomes[MEMSTREAM_SET][MEMSTREAM_TOO_LARGE] == 1);
  CHECK(outcomes[MEMSTREAM_GET][MEMSTREAM_DONE] == 1);
  CHECK(outcomes[MEMSTREAM_GET][MEMSTREAM_TOO_SMALL] == 1);
  CHECK(outcomes[MEMSTREAM_GET][MEMSTREAM_MISSED] == 1);
  CHECK(outcomes[MEMSTREAM_ADD][MEMSTREAM_EXISTED] == 1);
  CHECK(outcomes[MEMSTREAM_ADD][MEMSTREAM_DONE] == 1);
  CHECK(outcomes[MEMSTREAM_REPLACE][MEMSTREAM_MISSED] == 1);
  CHECK(outcomes[MEMSTREAM_REPLACE][MEMSTREAM_DONE] == 1);
  CHECK(outcomes[MEMSTREAM_CAS][MEMSTREAM_CONFLICTED] == 1);
  CHECK(outcomes[MEMSTREAM_INCREMENT][MEMSTREAM_DONE] == 2);
  CHECK(outcomes[MEMSTREAM_TOUCH][MEMSTREAM_DONE] == 1);
  CHECK(outcomes[MEMSTREAM_TOUCH][MEMSTREAM_MISSED] == 1);
  CHECK(outcomes[MEMSTREAM_DELETE][MEMSTREAM_DONE] == 1);
  CHECK(outcomes[MEMSTREAM_DELETE][MEMSTREAM_MISSED] == 1);
  CHECK(outcomes[MEMSTREAM_LEASE][MEMSTREAM_DONE] == 1);
  CHECK(outcomes[MEMSTREAM_LEASE][MEMSTREAM_HELD] == 1);
  CHECK(metrics.removals[MEMSTREAM_REMOVED_BY_DELETE] == 1);
  CHECK(stats_of(cache).puts == 6);
}

TEST_CASE("each eviction has one cause, one age and one idle time") {
  const TemporarySegment segment("causes", 4 * kMiB, 1);
  const OpenCache cache(segment.spec());
  for (int i = 0; i < 20'000; ++i) REQUIRE(set(cache, "key" + std::to_string(i), std::string(300, 'x')) == CACHE_OK);
  memstream_metrics_t metrics = metrics_of(cache);
  CHECK(metrics.removals[MEMSTREAM_REMOVED_FOR_ROOM] > 1000);
  CHECK(evictions_in(metrics) == stats_of(cache).evictions);
  CHECK(sum_of(metrics.evicted_age_ms) == evictions_in(metrics));
  CHECK(sum_of(metrics.evicted_idle_ms) == evictions_in(metrics));
  const std::uint64_t entries = stats_of(cache).entries;
  REQUIRE(set(cache, "large", std::string(1 << 20, 'x')) == CACHE_OK);
  metrics = metrics_of(cache);
  CHECK(evictions_in(metrics) == stats_of(cache).evictions);
  CHECK(stats_of(cache).entries < entries);
  const std::uint64_t left = stats_of(cache).entries;
  REQUIRE(memstream_clear(cache) == CACHE_OK);
  CHECK(metrics_of(cache).removals[MEMSTREAM_REMOVED_BY_CLEAR] == left);
}

TEST_CASE("what expired is not counted as evicted") {
  const TemporarySegment segment("expired", 4 * kMiB, 1);
  const OpenCache cache(segment.spec());
  REQUIRE(set(cache, "short", "x", 1) == CACHE_OK);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(memstream_delete(cache, "short", 5) == CACHE_MISS);
  const memstream_metrics_t metrics = metrics_of(cache);
  CHECK(metrics.removals[MEMSTREAM_REMOVED_EXPIRED] == 1);
  CHECK(evictions_in(metrics) == 0);
}

TEST_CASE("a lock that a stopped process holds is a wait, and a timeout at the deadline") {
  const TemporarySegment segment("waits", 4 * kMiB, 1, 50);
  const OpenCache cache(segment.spec());
  REQUIRE(set(cache, "key", "x") == CACHE_OK);
  // A child that writes without end is stopped until it happens to hold the lock.
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const std::string value(20'000, 'x');
    for (;;) set(cache, "key", value);
  }
  bool was_busy = false;
  for (int i = 0; i < 2000 && !was_busy; ++i) {
    ::kill(child, SIGSTOP);
    int state = 0;
    ::waitpid(child, &state, WUNTRACED);
    was_busy = set(cache, "other", "y") == CACHE_BUSY;
    ::kill(child, SIGCONT);
    std::this_thread::sleep_for(std::chrono::microseconds(50 + i));
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  REQUIRE(was_busy);
  const memstream_metrics_t metrics = metrics_of(cache);
  CHECK(metrics.lock_waits >= 1);
  CHECK(metrics.lock_timeouts >= 1);
  CHECK(metrics.longest_wait_ns >= 40'000'000);
  CHECK(metrics.lock_wait_ns >= metrics.longest_wait_ns);
  CHECK(metrics.outcomes[MEMSTREAM_SET][MEMSTREAM_BUSY] >= 1);
}

TEST_CASE("a recovery has a time") {
  const TemporarySegment segment("recovery", 4 * kMiB, 1);
  const OpenCache cache(segment.spec());
  // Each child gets a little longer than the one before: on a busy machine one may not reach its first set in three
  // milliseconds.
  for (int i = 0; i < 2000 && stats_of(cache).recoveries == 0; ++i) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      const std::string value(20'000, 'x');
      for (;;) set(cache, "key", value);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(3000 + 50 * i));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    REQUIRE(set(cache, "other", "y") == CACHE_OK);
  }
  const memstream_metrics_t metrics = metrics_of(cache);
  REQUIRE(metrics.recoveries > 0);
  CHECK(metrics.recovery_ns > 0);
  CHECK(metrics.longest_recovery_ns <= metrics.recovery_ns);
}

TEST_CASE("gets and sets of sampled keys leave their times, and a sample of references") {
  const TemporarySegment segment("latency", 16 * kMiB);
  const OpenCache cache(segment.spec());
  for (int i = 0; i < 20'000; ++i) REQUIRE(set(cache, "key" + std::to_string(i), "value") == CACHE_OK);
  for (int i = 0; i < 80'000; ++i) REQUIRE(get(cache, "key" + std::to_string(i * 7 % 20'000), 100) == CACHE_OK);
  const memstream_metrics_t metrics = metrics_of(cache);
  CHECK(metrics.sample_step >= 128);
  CHECK(sum_of(metrics.get_ns) > 200);
  CHECK(sum_of(metrics.set_ns) > 50);
  CHECK(metrics.sampled_references > 200);
  CHECK(sum_of(metrics.reuse_distances) + metrics.first_references == metrics.references);
  // The sample of 20,000 keys stands for all 80,000 gets, within a half: that is five standard deviations.
  CHECK(metrics.references > 40'000);
  CHECK(metrics.references < 120'000);
}

TEST_CASE("keys that are read most are found, with their entries") {
  const TemporarySegment segment("hot", 4 * kMiB);
  const OpenCache cache(segment.spec());
  for (int i = 0; i < 1000; ++i) REQUIRE(set(cache, "key" + std::to_string(i), "value") == CACHE_OK);
  for (int i = 0; i < 200'000; ++i) {
    REQUIRE(get(cache, i % 3 != 0 ? "key7" : "key" + std::to_string(i % 1000), 100) == CACHE_OK);
  }
  std::vector<memstream_entry_t> entries(64);
  std::size_t count = 0;
  REQUIRE(memstream_hot_keys(cache, entries.data(), entries.size(), &count) == CACHE_OK);
  REQUIRE(count >= 1);
  REQUIRE(count <= entries.size());
  CHECK(std::string(entries[0].key, entries[0].key_size) == "key7");
  CHECK(entries[0].access_count > 100'000);
  // One that has gone is not reported.
  REQUIRE(memstream_clear(cache) == CACHE_OK);
  REQUIRE(memstream_hot_keys(cache, nullptr, 0, &count) == CACHE_OK);
  CHECK(count == 0);
}

TEST_CASE("what a process counted stays when it has ended") {
  const TemporarySegment segment("ended", 4 * kMiB);
  const OpenCache cache(segment.spec());
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    memstream_delete(cache, "absent", 6);
    ::quick_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  CHECK(metrics_of(cache).outcomes[MEMSTREAM_DELETE][MEMSTREAM_MISSED] == 1);
}

TEST_CASE("a read-only handle sees the metrics and adds nothing") {
  const TemporarySegment segment("reader", 4 * kMiB);
  const OpenCache cache(segment.spec());
  for (int i = 0; i < 1000; ++i) REQUIRE(set(cache, "key" + std::to_string(i), "value") == CACHE_OK);
  CHECK(memstream_delete(cache, "absent", 6) == CACHE_MISS);
  memstream_options_t options = segment.spec().options();
  options.flags = MEMSTREAM_OPEN_READ_ONLY;
  const OpenCache reader(options);
  for (int i = 0; i < 1000; ++i) REQUIRE(get(reader, "key" + std::to_string(i), 100) == CACHE_OK);
  CHECK(metrics_of(reader).outcomes[MEMSTREAM_DELETE][MEMSTREAM_MISSED] == 1);
  CHECK(metrics_of(reader).sampled_references == 0);
  CHECK(metrics_of(reader).sample_step == metrics_of(cache).sample_step);
  std::size_t count = 1;
  CHECK(memstream_hot_keys(reader, nullptr, 0, &count) == CACHE_OK);
  CHECK(count == 0);
}

TEST_CASE("calls that are wrong are refused") {
  const TemporarySegment segment("wrong", 4 * kMiB);
  const OpenCache cache(segment.spec());
  memstream_metrics_t metrics{};
  CHECK(memstream_metrics(cache, nullptr) == CACHE_INVALID);
  CHECK(memstream_metrics(nullptr, &metrics) == CACHE_INVALID);
  CHECK(memstream_metrics(cache, &metrics) == CACHE_INVALID);
  CHECK(std::string(cache_last_error()).find("Invalid memstream_metrics_t.struct_size 0: expected") == 0);
  std::size_t count = 0;
  CHECK(memstream_hot_keys(nullptr, nullptr, 0, &count) == CACHE_INVALID);
  CHECK(memstream_hot_keys(cache, nullptr, 1, &count) == CACHE_INVALID);
  CHECK(memstream_hot_keys(cache, nullptr, 0, nullptr) == CACHE_INVALID);
}

}  // namespace
}  // namespace memstream::test
