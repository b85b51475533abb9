// Processes that are killed with SIGKILL at any moment: what they had acknowledged stays, exactly, and nobody waits for
// them. What is acknowledged is noted in memory outside the segment, after the call returned.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/child_process.h"
#include "tests/support/ledger.h"
#include "tests/support/scale.h"
#include "tests/support/tagged_value.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr int kRounds = 200;
constexpr std::int64_t kDeadlineMs = 1000;
constexpr std::uint64_t kSegmentSize = 128 << 20;  // Holds all that is ever written: nothing may be evicted.
constexpr std::uint32_t kSmallKeys = 256;
constexpr std::uint32_t kLargeKeys = 32;  // These follow the small ones.
constexpr std::uint32_t kKeys = kSmallKeys + kLargeKeys;
constexpr std::uint32_t kProbes = 16;             // Keys of a live process: enough that every shard is asked.
constexpr std::uint32_t kMinRoundsForLuck = 100;  // With fewer, perhaps no kill hits a process inside the lock.

// What the processes of the test share besides the cache.
struct Notes {
  KeyRecord keys[kKeys];
  std::atomic<std::int64_t> counter_begun;
  std::atomic<std::int64_t> counter_acknowledged;
  std::atomic<bool> is_over;
  std::atomic<std::int64_t> longest_call_us;  // Of the processes that live.
};

void require_ok(int status, const char* call) {
  if (status != CACHE_OK) throw std::runtime_error(std::string(call) + ": " + cache_last_error());
}

std::string key_text(std::uint32_t key) { return "key-" + std::to_string(key); }

// ---- the victims: each works until it is killed ----

class Victim {
 public:
  Victim(const CacheSpec& spec, Notes& notes, unsigned seed)
      : spec_(spec), cache_(spec), notes_(notes), random_(seed) {}

  void write_small() {
    const std::uint32_t key = below(kSmallKeys);
    const std::string text = key_text(key);
    const std::uint32_t kind = below(10);
    if (kind == 0) return count();
    if (kind == 1) return require_ok(memstream_touch_if_there(text), "touch");
    const KeyWrite write{notes_.keys[key].begun().sequence + 1, kind < 4};
    notes_.keys[key].begin(write);
    if (write.deletes) {
      if (memstream_delete(cache_, text.data(), text.size()) < 0) throw std::runtime_error(cache_last_error());
    } else {
      make_tagged(key, write.sequence, kMinTaggedSize + below(3000), &value_);
      require_ok(memstream_set(cache_, text.data(), text.size(), value_.data(), value_.size(), 0, 0), "set");
    }
    notes_.keys[key].acknowledge(write);
  }

  // Through a reservation, or through a set that makes one itself; some reservations are given up.
  void write_large() {
    const std::uint32_t key = kSmallKeys + below(kLargeKeys);
    const std::string text = key_text(key);
    const std::size_t size = (32 << 10) + below(300 << 10);
    const bool aborts = below(8) == 0;
    const KeyWrite write{notes_.keys[key].begun().sequence + 1, false};
    make_tagged(key, write.sequence, size, &value_);
    if (!aborts) notes_.keys[key].begin(write);
    if (below(2) == 0 && !aborts) {
      require_ok(memstream_set(cache_, text.data(), text.size(), value_.data(), value_.size(), 0, 0), "set");
    } else {
      memstream_reservation_t reservation{};
      require_ok(memstream_reserve(cache_, text.data(), text.size(), size, &reservation), "reserve");
      std::memcpy(reservation.data, value_.data(), size);
      if (aborts) return require_ok(memstream_abort(cache_, &reservation), "abort");
      require_ok(memstream_commit(cache_, &reservation, 0, 0), "commit");
    }
    notes_.keys[key].acknowledge(write);
  }

  void hold_views() {
    const std::uint32_t key = below(2) == 0 ? below(kSmallKeys) : kSmallKeys + below(kLargeKeys);
    const std::string text = key_text(key);
    if (views_.size() == 8) {
      std::swap(views_[below(8)], views_.back());
      require_ok(memstream_release(cache_, &views_.back()), "release");
      views_.pop_back();
    }
    memstream_view_t view{};
    const int status = memstream_view(cache_, text.data(), text.size(), &view);
    if (status == CACHE_MISS) return;
    require_ok(status, "view");
    views_.push_back(view);
    check_tagged(key, view.data, view.size);
  }

  void scan() {
    scan_all(cache_, [](const memstream_entry_t&) {});
    stats_of(cache_);
  }

  void come_and_go() { const OpenCache another(spec_); }

 private:
  std::uint32_t below(std::uint32_t limit) { return static_cast<std::uint32_t>(random_() % limit); }

  int memstream_touch_if_there(const std::string& text) {
    const int status = memstream_touch(cache_, text.data(), text.size(), 0);
    return status == CACHE_MISS ? CACHE_OK : status;
  }

  void count() {
    constexpr std::int64_t kNothing = 0;
    const std::int64_t next = notes_.counter_begun + 1;
    notes_.counter_begun = next;
    require_ok(memstream_incr(cache_, "counter", 7, next - counter(), &kNothing, 0, nullptr), "incr");
    notes_.counter_acknowledged = next;
  }

  // The counter as it stands: a predecessor may have been killed between its increment and its note.
  std::int64_t counter() {
    std::int64_t value = 0;
    const int status = memstream_incr(cache_, "counter", 7, 0, nullptr, 0, &value);
    if (status != CACHE_MISS) require_ok(status, "incr");
    return value;
  }

  CacheSpec spec_;
  OpenCache cache_;
  Notes& notes_;
  std::minstd_rand random_;
  std::vector<std::byte> value_;
  std::vector<memstream_view_t> views_;
};

constexpr void (Victim::*kOccupations[])() = {&Victim::write_small, &Victim::write_large, &Victim::hold_views,
                                              &Victim::scan, &Victim::come_and_go};

// ---- the living ----

// Puts, gets, scans and deletes; each call must be done within the deadline.
void probe(memstream_t* cache, const std::string& name, Notes& notes) {
  const auto timed = [&](const char* call, auto&& operation) {
    const auto begin = Clock::now();
    require_ok(operation(), call);
    const std::int64_t took_us = std::chrono::duration_cast<microseconds>(Clock::now() - begin).count();
    if (took_us > kDeadlineMs * 1000)
      throw std::runtime_error(std::string(call) + " took " + std::to_string(took_us) + " us");
    for (std::int64_t longest = notes.longest_call_us; took_us > longest;) {
      if (notes.longest_call_us.compare_exchange_weak(longest, took_us)) break;
    }
  };
  for (std::uint32_t i = 0; i < kProbes; ++i) {
    const std::string key = name + std::to_string(i);
    char room[64];
    std::size_t size = sizeof room;
    timed("put", [&] { return memstream_set(cache, key.data(), key.size(), key.data(), key.size(), 0, 0); });
    timed("get", [&] { return memstream_get(cache, key.data(), key.size(), room, &size, nullptr); });
    if (std::string_view(room, size) != key) throw std::runtime_error("a probe brought another value");
    timed("delete", [&] { return memstream_delete(cache, key.data(), key.size()); });
  }
  std::uint64_t cursor = 0;
  do {
    memstream_entry_t entries[16];
    std::size_t count = 0;
    timed("scan", [&] { return memstream_scan(cache, &cursor, entries, std::size(entries), &count); });
  } while (cursor != 0);
}

// Every key has the value of its last acknowledged write, or of the one that was under way; then the note is put right.
void verify_acknowledged(memstream_t* cache, Notes& notes) {
  std::vector<std::byte> room(1 << 20);
  for (std::uint32_t key = 0; key < kKeys; ++key) {
    const KeyWrite begun = notes.keys[key].begun();
    const KeyWrite acknowledged = notes.keys[key].acknowledged();
    const std::string text = key_text(key);
    std::size_t size = room.size();
    const int status = memstream_get(cache, text.data(), text.size(), room.data(), &size, nullptr);
    KeyWrite found{0, true};
    if (status == CACHE_OK) {
      found = {check_tagged(key, room.data(), size), false};
    } else if (status != CACHE_MISS) {
      require_ok(status, "get");
    }
    const auto explains = [&](KeyWrite write) {
      return write.leaves_value() ? !found.deletes && found.sequence == write.sequence : found.deletes;
    };
    if (!explains(acknowledged) && !explains(begun)) {
      throw std::runtime_error(text + " has sequence " + std::to_string(found.sequence) + ", acknowledged was " +
                               std::to_string(acknowledged.sequence) + ", begun " + std::to_string(begun.sequence));
    }
    notes.keys[key].acknowledge(explains(begun) ? begun : acknowledged);
    // A write that did not happen must not explain anything later on; its sequence stays used.
    if (!explains(begun)) notes.keys[key].begin({begun.sequence, acknowledged.deletes});
  }
  std::int64_t counter = 0;
  const int status = memstream_incr(cache, "counter", 7, 0, nullptr, 0, &counter);
  if (status != CACHE_MISS) require_ok(status, "incr");
  if (counter != notes.counter_acknowledged && counter != notes.counter_begun) {
    throw std::runtime_error("the counter is " + std::to_string(counter) + ", acknowledged was " +
                             std::to_string(notes.counter_acknowledged));
  }
  notes.counter_acknowledged = counter;
  notes.counter_begun = counter;
}

TEST_CASE("a process killed at any moment loses no acknowledged write and holds nobody up") {
  const TemporarySegment segment("kill", kSegmentSize, 2, kDeadlineMs);
  const SharedArray<Notes> shared(1);
  Notes& notes = shared[0];
  const OpenCache cache(segment.spec());
  ChildProcess bystander([&]() -> Complaint {
    const OpenCache own(segment.spec());
    while (!notes.is_over) probe(own, "bystander-", notes);
    return "";
  });

  std::minstd_rand random(1);
  const auto rounds = static_cast<std::uint32_t>(scaled(kRounds));
  for (std::uint32_t round = 0; round < rounds; ++round) {
    CAPTURE(round);
    const auto occupation = kOccupations[round % std::size(kOccupations)];
    const Signal is_working;
    ChildProcess process([&]() -> Complaint {
      std::optional<Victim> victim;
      try {
        victim.emplace(segment.spec(), notes, round + 1);
      } catch (...) {
        is_working.post();  // Nobody waits for a victim that failed early.
        throw;
      }
      is_working.post();
      for (;;) ((*victim).*occupation)();
    });
    is_working.wait();
    std::this_thread::sleep_for(microseconds(random() % 8'000));
    process.send_signal(SIGKILL);
    CHECK_NOTHROW(probe(cache, "peer-", notes));
    CHECK(process.wait() == "killed by signal 9");
    CHECK_NOTHROW(verify_acknowledged(cache, notes));
    CHECK(problems_of(cache) == "");
  }
  notes.is_over = true;
  CHECK(bystander.wait() == "");

  memstream_process_t processes[4];
  std::size_t count = 0;
  REQUIRE(memstream_processes(cache, processes, std::size(processes), &count) == CACHE_OK);
  REQUIRE(count == 1);
  CHECK(processes[0].pid == static_cast<std::uint32_t>(::getpid()));
  CHECK(processes[0].pins == 0);
  const cache_stats_t stats = stats_of(cache);
  CHECK(stats.dead_processes >= rounds);
  CHECK(stats.evictions == 0);
  CHECK(stats.damaged == 0);
  if (rounds >= kMinRoundsForLuck) CHECK(stats.recoveries > 0);
  CHECK(disagreement_of_stats_and_scan(cache) == "");
  CHECK(problems_of(cache) == "");
  MESSAGE(rounds << " kills, " << stats.recoveries << " inside the lock; longest call of the living "
                 << notes.longest_call_us.load() << " us");
}

// ---- what the dead hold ----

// Reserves blocks of `size_bytes` until the cache has none left to give, and keeps them.
void reserve_all(memstream_t* cache, std::size_t size_bytes) {
  std::uint64_t pinned_before = 0;
  for (std::uint32_t i = 0; stats_of(cache).pinned_memory != pinned_before || i == 0; ++i) {
    pinned_before = stats_of(cache).pinned_memory;
    const std::string key = "reserved-" + std::to_string(i);
    memstream_reservation_t reservation{};
    require_ok(memstream_reserve(cache, key.data(), key.size(), size_bytes, &reservation), "reserve");
  }
}

TEST_CASE("what a dead process had reserved does not stand in the way of a put") {
  const TemporarySegment segment("reserved", 16 << 20, 1, kDeadlineMs);
  const OpenCache cache(segment.spec());
  const std::vector<std::byte> value(1 << 20);
  const auto put = [&](memstream_t* into) { return memstream_set(into, "key", 3, value.data(), value.size(), 0, 0); };
  CHECK(in_child([&]() -> Complaint {
          const OpenCache own(segment.spec());
          for (const std::size_t size : {1U << 20, 64U << 10}) reserve_all(own, size);
          if (const int status = put(own); status != CACHE_FULL) return "a put came to " + std::to_string(status);
          ::raise(SIGKILL);
          return "";
        }) == "killed by signal 9");
  CHECK(put(cache) == CACHE_OK);
  memstream_reservation_t reservation{};
  CHECK(memstream_reserve(cache, "key", 3, value.size(), &reservation) == CACHE_OK);
  CHECK(memstream_abort(cache, &reservation) == CACHE_OK);
  CHECK(stats_of(cache).pinned_memory == 0);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("nor in the way of a value that needs room for a time to live") {
  const TemporarySegment segment("touched", 16 << 20, 1, kDeadlineMs);
  const OpenCache cache(segment.spec());
  const std::string value(32, 'v');
  const auto touch = [&](memstream_t* of) { return memstream_touch(of, "key", 3, 3'600'000); };
  CHECK(in_child([&]() -> Complaint {
          const OpenCache own(segment.spec());
          // 64 bytes, as the value takes without a time to live: what is left is room for that.
          memstream_reservation_t given_back{};
          require_ok(memstream_reserve(own, "key", 3, 16, &given_back), "reserve");
          for (const std::size_t size : {1U << 20, 64U << 10, 4U << 10, 256U, 16U}) reserve_all(own, size);
          require_ok(memstream_abort(own, &given_back), "abort");
          require_ok(memstream_set(own, "key", 3, value.data(), value.size(), 0, 0), "set");
          if (const int status = touch(own); status != CACHE_FULL) return "touch came to " + std::to_string(status);
          ::raise(SIGKILL);
          return "";
        }) == "killed by signal 9");
  CHECK(touch(cache) == CACHE_OK);
  memstream_entry_t entry;
  REQUIRE(memstream_entry_info(cache, "key", 3, &entry) == CACHE_OK);
  CHECK(entry.expires_at_ms != 0);
  CHECK(entry.value_size == value.size());
  CHECK(problems_of(cache) == "");
}

TEST_CASE("a view stays readable when the process that wrote the value is killed and the key is replaced") {
  const TemporarySegment segment("view", 16 << 20, 1, kDeadlineMs);
  const OpenCache cache(segment.spec());
  std::vector<std::byte> value;
  make_tagged(1, 1, 100 << 10, &value);
  CHECK(in_child([&]() -> Complaint {
          const OpenCache own(segment.spec());
          require_ok(memstream_set(own, "key", 3, value.data(), value.size(), 0, 0), "set");
          ::raise(SIGKILL);
          return "";
        }) == "killed by signal 9");
  memstream_view_t view{};
  REQUIRE(memstream_view(cache, "key", 3, &view) == CACHE_OK);
  CHECK(memstream_delete(cache, "key", 3) == CACHE_OK);
  for (int i = 0; i < 1000; ++i) {
    REQUIRE(memstream_set(cache, "other", 5, value.data(), value.size(), 0, 0) == CACHE_OK);
  }
  CHECK(check_tagged(1, view.data, view.size) == 1);
  CHECK(memstream_release(cache, &view) == CACHE_OK);
  CHECK(problems_of(cache) == "");
}

}  // namespace
}  // namespace memstream::test
