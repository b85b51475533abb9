// Waiting for a change of an entry through the C interface.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "api/memstream_tags.h"
#include "tests/support/child_process.h"
#include "tests/support/leases.h"
#include "tests/support/ledger.h"
#include "tests/support/scale.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::uint64_t kSegmentSize = 16 << 20;
// A waiter looks by itself every 50 ms. What is noticed sooner was told.
constexpr milliseconds kTold{25};
constexpr milliseconds kAsleep{8};

int wait_for_change(memstream_t* cache, std::uint64_t cas, std::uint64_t timeout_ms = 10'000,
                    std::string_view key = kKey) {
  return memstream_wait(cache, key.data(), key.size(), cas, timeout_ms);
}

std::uint64_t token_of(memstream_t* cache, std::string_view key = kKey) {
  memstream_meta_t meta{};
  get(cache, key, &meta);
  return meta.cas;
}

int resize(memstream_t* cache, std::uint64_t size_bytes) {
  memstream_resize_report_t report{};
  report.struct_size = sizeof report;
  return memstream_resize(cache, size_bytes, &report);
}

int remove(memstream_t* cache, std::string_view key = kKey) { return memstream_delete(cache, key.data(), key.size()); }

TEST_CASE("a wait without time says how the key is") {
  const TemporarySegment segment("wait-check", kSegmentSize);
  const OpenCache cache(segment.spec());
  CHECK(wait_for_change(cache, 0, 0) == CACHE_MISS);
  CHECK(wait_for_change(cache, 1, 0) == CACHE_MISS);
  REQUIRE(set(cache, "value") == CACHE_OK);
  const std::uint64_t token = token_of(cache);
  CHECK(wait_for_change(cache, 0, 0) == CACHE_OK);
  CHECK(wait_for_change(cache, token, 0) == CACHE_EXISTS);
  CHECK(wait_for_change(cache, token + 1, 0) == CACHE_OK);
  REQUIRE(set(cache, "value") == CACHE_OK);
  CHECK(wait_for_change(cache, token, 0) == CACHE_OK);  // The same bytes are another version.
  REQUIRE(memstream_touch(cache, kKey.data(), kKey.size(), 100'000) == CACHE_OK);
  REQUIRE(remove(cache) == CACHE_OK);
  CHECK(wait_for_change(cache, token, 0) == CACHE_MISS);
}

TEST_CASE("a wait refuses what is no key, no cache, or may not be written") {
  const TemporarySegment segment("wait-refuse", kSegmentSize);
  const OpenCache cache(segment.spec());
  CHECK(wait_for_change(cache, 0, 0, "") == CACHE_BAD_KEY);
  CHECK(wait_for_change(cache, 0, 0, std::string(CACHE_MAX_KEY_SIZE + 1, 'k')) == CACHE_BAD_KEY);
  CHECK(memstream_wait(cache, nullptr, 3, 0, 0) == CACHE_INVALID);
  CHECK(memstream_wait(nullptr, "key", 3, 0, 0) == CACHE_INVALID);
  memstream_options_t options = segment.spec().options();
  options.flags |= MEMSTREAM_OPEN_READ_ONLY;
  const OpenCache reader(options);
  CHECK(wait_for_change(reader, 0, 0) == CACHE_READ_ONLY);
}

TEST_CASE("a wait ends at its time if nothing changes, and changes of other keys do not end it") {
  const TemporarySegment segment("wait-time", kSegmentSize);
  const OpenCache cache(segment.spec());
  REQUIRE(set(cache, "value") == CACHE_OK);
  std::atomic<bool> is_over{false};
  std::thread others([&] {
    while (!is_over) {
      for (int i = 0; i < 2000; ++i) set(cache, "value", "other" + std::to_string(i));
    }
  });
  for (const auto& [token, status] :
       {std::pair{token_of(cache), CACHE_EXISTS}, std::pair{std::uint64_t{0}, CACHE_MISS}}) {
    const auto began = Clock::now();
    CHECK(wait_for_change(cache, token, 130, token == 0 ? "absent" : kKey) == status);
    CHECK(Clock::now() - began >= milliseconds(130));
  }
  is_over = true;
  others.join();
  CHECK(problems_of(cache) == "");
}

// How soon a waiter of the key in `waiting` returns after `change`, and with what. The best of some tries: another
// process may have the processor just then.
void check_told(memstream_t* waiting, const std::function<std::uint64_t()>& prepare, const std::function<int()>& change,
                int expected) {
  Clock::duration best = std::chrono::hours(1);
  for (int i = 0; i < 30 && best >= kTold; ++i) {
    const std::uint64_t token = prepare();
    int status = -1;
    Clock::time_point returned;
    std::thread waiter([&] {
      status = wait_for_change(waiting, token);
      returned = Clock::now();
    });
    std::this_thread::sleep_for(kAsleep);
    const int changed = change();
    const auto ended = Clock::now();  // An eviction is the last of many puts.
    waiter.join();
    CHECK(changed == CACHE_OK);
    CHECK(status == expected);
    best = std::min(best, returned - ended);
  }
  CHECK(best < kTold);
}

TEST_CASE("every kind of change of a value wakes") {
  const TemporarySegment segment("wait-kinds", kSegmentSize);
  const OpenCache cache(segment.spec());
  const OpenCache other(segment.spec());
  const std::string large(200'000, 'l');
  memstream_item_t item{};
  item.key = kKey.data();
  item.key_size = kKey.size();
  item.value = "batch";
  item.value_size = 5;
  const std::size_t size = kKey.size();
  const auto with_value = [&] {
    REQUIRE(set(cache, "5") == CACHE_OK);
    return token_of(cache);
  };
  struct Change {
    const char* name;
    std::function<int()> make;
    int expected;
  };
  const std::vector<Change> changes = {
      {"overwrite in place", [&] { return set(other, "6"); }, CACHE_OK},
      {"another block", [&] { return set(other, std::string(1000, 'v')); }, CACHE_OK},
      {"a large value", [&] { return set(other, large); }, CACHE_OK},
      {"replace", [&] { return memstream_replace(other, kKey.data(), size, "r", 1, 0, 0); }, CACHE_OK},
      {"cas", [&] { return memstream_cas(other, kKey.data(), size, "c", 1, 0, 0, token_of(other)); }, CACHE_OK},
      {"incr", [&] { return memstream_incr(other, kKey.data(), size, 1, nullptr, 0, nullptr); }, CACHE_OK},
      {"set_many", [&] { return memstream_set_many(other, &item, 1); }, CACHE_OK},
      {"commit",
       [&] {
         memstream_reservation_t room;
         const int status = memstream_reserve(other, kKey.data(), size, 5, &room);
         return status != CACHE_OK ? status : memstream_commit(other, &room, 0, 0);
       },
       CACHE_OK},
      {"a stale lease",
       [&] {
         std::uint64_t lease = 0;
         const int status = lease_of(other, kKey, &lease, token_of(other));
         return status != CACHE_OK ? status : fulfil(other, lease);
       },
       CACHE_OK},
      {"delete", [&] { return remove(other); }, CACHE_MISS},
      {"delete_many", [&] { return memstream_delete_many(other, &item, 1); }, CACHE_MISS},
      {"clear", [&] { return memstream_clear(other); }, CACHE_MISS},
  };
  for (const Change& change : changes) {
    CAPTURE(change.name);
    check_told(cache, with_value, change.make, change.expected);
  }
  CHECK(problems_of(cache) == "");
}

TEST_CASE("an invalidated tag wakes those that wait for its keys, and another tag ends no wait") {
  const TemporarySegment segment("wait-tag", kSegmentSize);
  const OpenCache cache(segment.spec());
  const OpenCache other(segment.spec());
  const auto with_tag = [&] {
    memstream_tags_t tags{};
    REQUIRE(memstream_tag(cache, "group", 5, &tags) == CACHE_OK);
    REQUIRE(memstream_store_tagged(cache, kKey.data(), kKey.size(), "v", 1, 0, 0, MEMSTREAM_SET, 0, &tags) == CACHE_OK);
    return token_of(cache);
  };
  check_told(
      cache, with_tag, [&] { return memstream_invalidate(other, "group", 5); }, CACHE_MISS);
  const std::uint64_t token = with_tag();
  std::thread waiter([&] { CHECK(wait_for_change(cache, token, 100) == CACHE_EXISTS); });
  std::this_thread::sleep_for(kAsleep);
  CHECK(memstream_invalidate(other, "another", 7) == CACHE_OK);
  waiter.join();
}

TEST_CASE("a key that appears wakes those that wait for it") {
  const TemporarySegment segment("wait-appear", kSegmentSize);
  const OpenCache cache(segment.spec());
  const auto without = [&] {
    remove(cache);
    return std::uint64_t{0};
  };
  check_told(
      cache, without, [&] { return set(cache, "new"); }, CACHE_OK);
  check_told(
      cache, without, [&] { return memstream_add(cache, kKey.data(), kKey.size(), "a", 1, 0, 0); }, CACHE_OK);
}

TEST_CASE("eviction wakes") {
  const TemporarySegment segment("wait-evict", 1 << 20, 1);
  const OpenCache cache(segment.spec());
  int number = 0;
  check_told(
      cache,
      [&] {
        REQUIRE(set(cache, "value") == CACHE_OK);
        return token_of(cache);
      },
      [&] {
        const std::string value(500, 'v');
        while (memstream_exists(cache, kKey.data(), kKey.size()) == CACHE_OK) {
          const int status = set(cache, value, "filler" + std::to_string(number++));
          if (status != CACHE_OK) return status;
        }
        return static_cast<int>(CACHE_OK);
      },
      CACHE_MISS);
  CHECK(stats_of(cache).evictions > 0);
}

TEST_CASE("a waiter returns when the entry expires, also when the time is shortened meanwhile") {
  const TemporarySegment segment("wait-expiry", kSegmentSize);
  const OpenCache cache(segment.spec());
  REQUIRE(memstream_set(cache, kKey.data(), kKey.size(), "v", 1, 120, 0) == CACHE_OK);
  auto began = Clock::now();
  CHECK(wait_for_change(cache, token_of(cache)) == CACHE_MISS);
  CHECK(Clock::now() - began >= milliseconds(100));
  CHECK(Clock::now() - began < milliseconds(2000));
  REQUIRE(memstream_set(cache, kKey.data(), kKey.size(), "v", 1, 100'000, 0) == CACHE_OK);
  const std::uint64_t token = token_of(cache);
  std::thread shortening([&] {
    std::this_thread::sleep_for(kAsleep);
    memstream_touch(cache, kKey.data(), kKey.size(), 20);
  });
  began = Clock::now();
  CHECK(wait_for_change(cache, token) == CACHE_MISS);
  CHECK(Clock::now() - began < milliseconds(5000));
  shortening.join();
}

TEST_CASE("a waiter goes on in the successor of a segment, and learns that a segment was destroyed") {
  const TemporarySegment segment("wait-resize", kSegmentSize);
  const OpenCache cache(segment.spec());
  const OpenCache other(segment.spec());
  REQUIRE(set(cache, "value") == CACHE_OK);
  int changed = -1;
  int appeared = -1;
  std::thread of_value([&, token = token_of(cache)] { changed = wait_for_change(cache, token); });
  std::thread of_absent([&] { appeared = wait_for_change(cache, 0, 10'000, "absent"); });
  std::this_thread::sleep_for(kAsleep);
  REQUIRE(resize(other, 2 * kSegmentSize) == CACHE_OK);
  of_value.join();
  CHECK(changed == CACHE_OK);
  REQUIRE(set(other, "value", "absent") == CACHE_OK);
  of_absent.join();
  CHECK(appeared == CACHE_OK);

  int gone = 0;
  std::thread of_destroyed([&, token = token_of(cache)] { gone = wait_for_change(cache, token); });
  std::this_thread::sleep_for(kAsleep);
  const auto began = Clock::now();
  CHECK(memstream_destroy(other) == CACHE_OK);
  of_destroyed.join();
  CHECK(gone == CACHE_GONE);
  CHECK(Clock::now() - began < milliseconds(5000));
}

TEST_CASE("one change wakes two hundred waiters") {
  const TemporarySegment segment("wait-crowd", kSegmentSize);
  const OpenCache cache(segment.spec());
  int most_told = 0;
  for (int round = 0; round < 10 && most_told < 190; ++round) {
    REQUIRE(set(cache, "value") == CACHE_OK);
    const std::uint64_t token = token_of(cache);
    std::atomic<int> woken{0};
    std::atomic<int> told{0};
    std::atomic<Clock::time_point> changed{Clock::time_point::max()};
    std::vector<std::thread> waiters;
    for (int i = 0; i < 200; ++i) {
      waiters.emplace_back([&] {
        woken += wait_for_change(cache, token) == CACHE_OK ? 1 : 0;
        told += Clock::now() - changed.load() < kTold ? 1 : 0;
      });
    }
    std::this_thread::sleep_for(milliseconds(60));  // So that their looks are spread over a slice.
    changed = Clock::now();
    CHECK(set(cache, "newer") == CACHE_OK);
    for (std::thread& waiter : waiters) waiter.join();
    most_told = std::max(most_told, told.load());
    CHECK(woken == 200);
  }
  CHECK(most_told >= 190);  // Their own looks bring back half of them in that time.
}

// ---- two processes that answer each other ----

// Late is what nobody told: a waiter that looks by itself is late by up to 50 ms. The machine is late
// at times as well.
TEST_CASE("two processes that answer each other are told of every change") {
  const TemporarySegment segment("wait-answer", kSegmentSize);
  const int changes = scaled(10'000);
  const SharedArray<std::atomic<int>> late(1);
  const int most_late = 20 + changes / 100;
  const auto answer = [&](std::string_view mine, std::string_view theirs, bool begins) -> Complaint {
    const OpenCache own(segment.spec());
    std::uint64_t known = 0;
    for (int i = 0; i < changes; ++i) {
      if (!begins || i != 0) {
        const auto began = Clock::now();
        if (wait_for_change(own, known, 30'000, theirs) != CACHE_OK) return "not told of change " + std::to_string(i);
        if (Clock::now() - began >= kTold) ++late[0];
        if (late[0] >= most_late) return "noticed late";
        known = token_of(own, theirs);
      }
      if (set(own, std::to_string(i), mine) != CACHE_OK) return cache_last_error();
    }
    return "";
  };
  ChildProcess other([&] { return answer("pong", "ping", false); });
  CHECK(answer("ping", "pong", true) == "");
  CHECK(other.wait() == "");
  MESSAGE(late[0].load() << " of " << 2 * changes << " changes were noticed late");
  CHECK(late[0] < most_late);
}

// ---- processes that are killed ----

TEST_CASE("writers that are killed delay a waiter by a slice, and waiters that are killed disturb nobody") {
  const TemporarySegment segment("wait-kill", kSegmentSize, 1);
  const OpenCache cache(segment.spec());
  REQUIRE(set(cache, "0") == CACHE_OK);
  const int rounds = scaled(20);
  for (int round = 0; round < rounds; ++round) {
    const Signal began;
    ChildProcess writer([&]() -> Complaint {
      const OpenCache own(segment.spec());
      began.post();
      for (int i = 0;; ++i) set(own, std::string(static_cast<std::size_t>(i % 300), 'v'));
    });
    ChildProcess waiter([&]() -> Complaint {
      const OpenCache own(segment.spec());
      began.post();
      for (;;) wait_for_change(own, token_of(own));
    });
    began.wait();
    began.wait();
    std::this_thread::sleep_for(std::chrono::microseconds(500 + 137 * round));
    writer.send_signal(SIGKILL);
    waiter.send_signal(SIGKILL);
    CHECK(writer.wait() == "killed by signal 9");
    CHECK(waiter.wait() == "killed by signal 9");
    // What the last writer did is there, for one that has just looked and for one that looks now.
    const std::uint64_t token = token_of(cache);
    CHECK(wait_for_change(cache, token, 60) == CACHE_EXISTS);
    CHECK(set(cache, "mended") == CACHE_OK);
    CHECK(wait_for_change(cache, token, 0) == CACHE_OK);
  }
  CHECK(problems_of(cache) == "");
}

TEST_CASE("a waiter takes no lock for longer than a look, so that a stopped one delays nobody") {
  const TemporarySegment segment("wait-stop", kSegmentSize, 1);
  const OpenCache cache(segment.spec());
  REQUIRE(set(cache, "0") == CACHE_OK);
  const Signal began;
  ChildProcess waiter([&]() -> Complaint {
    const OpenCache own(segment.spec());
    const std::uint64_t token = token_of(own);
    began.post();
    return wait_for_change(own, token) == CACHE_OK ? "" : "not woken";
  });
  began.wait();
  std::this_thread::sleep_for(milliseconds(20));
  waiter.send_signal(SIGSTOP);
  CHECK(set(cache, "1") == CACHE_OK);
  CHECK(set(cache, "2") == CACHE_OK);
  waiter.send_signal(SIGCONT);
  CHECK(waiter.wait() == "");
}

}  // namespace
}  // namespace memstream::test
