// Resizing under load, and resizers that are killed: no acknowledged write is lost, and the clients notice nothing.
// What is acknowledged is noted in memory outside the segment, after the call returned.
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <memory>
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

constexpr int kResizes = 50;
constexpr int kKills = 60;
constexpr std::uint64_t kSmallSize = 24 << 20;  // Holds all that is ever written: nothing may be evicted.
constexpr std::uint64_t kLargeSize = 56 << 20;
constexpr std::uint32_t kWriters = 3;
constexpr std::uint32_t kKeysOfWriter = 400;
constexpr std::uint32_t kKeys = kWriters * kKeysOfWriter;
constexpr std::uint64_t kFirstTtlMs = 3'600'000;
constexpr std::uint64_t kMostPassedMs = 600'000;  // For all of a test.
constexpr std::uint32_t kLargeEvery = 100;        // Every such key has values that are pinned and not copied.

struct Notes {
  KeyRecord keys[kKeys];
  std::atomic<std::int64_t> increments;  // Acknowledged, of the counters.
  std::atomic<std::int64_t> swaps;
  std::atomic<std::int64_t> puts;         // Of the small interface, by its own process alone.
  std::atomic<std::uint64_t> touched_ms;  // Times to live that a key was given, one longer than the other.
  std::atomic<bool> is_over;
};

void require_ok(int status, const char* call) {
  if (status != CACHE_OK) throw std::runtime_error(std::string(call) + ": " + cache_last_error());
}

std::string key_text(std::uint32_t key) { return "key-" + std::to_string(key); }

void resize(memstream_t* cache, std::uint64_t size_bytes) {
  memstream_resize_report_t report{};
  report.struct_size = sizeof report;
  require_ok(memstream_resize(cache, size_bytes, &report), "resize");
}

// ---- clients ----

// Writes keys that nobody else writes, and counters that all write.
void write_keys(memstream_t* cache, Notes& notes, std::uint32_t writer, std::uint32_t first, std::uint32_t count) {
  std::minstd_rand random(writer + 1);
  std::vector<std::byte> value;
  const std::int64_t nothing = 0;
  while (!notes.is_over) {
    const std::uint32_t key = first + static_cast<std::uint32_t>(random() % count);
    const std::string text = key_text(key);
    KeyRecord& record = notes.keys[key];
    const KeyWrite write{record.begun().sequence + 1, random() % 8 == 0};
    record.begin(write);
    if (write.deletes) {
      if (memstream_delete(cache, text.data(), text.size()) < 0) throw std::runtime_error(cache_last_error());
    } else {
      const std::size_t size = key % kLargeEvery == 0 ? 40'000 + random() % 10'000 : kMinTaggedSize + random() % 2000;
      make_tagged(key, write.sequence, size, &value);
      require_ok(memstream_set(cache, text.data(), text.size(), value.data(), value.size(), 0, 0), "set");
    }
    record.acknowledge(write);
    if (writer == 1) {  // Of a key that is written once: its entry stays the same but for the expiry.
      const std::uint64_t ttl_ms = std::max(notes.touched_ms.load(), kFirstTtlMs) + 1'000'000;
      require_ok(memstream_touch(cache, "touched", 7, ttl_ms), "touch");
      notes.touched_ms = ttl_ms;
    }
    if (random() % 4 != 0) continue;
    require_ok(memstream_incr(cache, "counter", 7, 1, &nothing, 0, nullptr), "incr");
    ++notes.increments;
    for (;;) {  // A counter by compare-and-set.
      std::int64_t number = 0;
      std::size_t size = sizeof number;
      memstream_meta_t meta{};
      const int status = memstream_get(cache, "swapped", 7, &number, &size, &meta);
      if (status == CACHE_MISS) throw std::runtime_error("the swapped counter is not there");
      require_ok(status, "get");
      ++number;
      const int swapped = memstream_cas(cache, "swapped", 7, &number, sizeof number, 0, 0, meta.cas);
      if (swapped == CACHE_CONFLICT) continue;
      require_ok(swapped, "cas");
      break;
    }
    ++notes.swaps;
  }
}

// One key, as anybody finds it.
void check_key(memstream_t* cache, Notes& notes, std::uint32_t key, std::vector<std::byte>& room) {
  const KeyWrite before = notes.keys[key].acknowledged();
  const std::string text = key_text(key);
  std::size_t size = room.size();
  const int status = memstream_get(cache, text.data(), text.size(), room.data(), &size, nullptr);
  const KeyWrite after = notes.keys[key].begun();
  if (status == CACHE_MISS) {
    if (before.leaves_value() && after.sequence == before.sequence) {
      throw std::runtime_error(text + " is missing; sequence " + std::to_string(before.sequence) + " was acknowledged");
    }
    return;
  }
  require_ok(status, "get");
  const std::uint32_t found = check_tagged(key, room.data(), size);
  if (found < before.sequence || found > after.sequence) {
    throw std::runtime_error(text + " has sequence " + std::to_string(found) + ", acknowledged was " +
                             std::to_string(before.sequence) + ", begun " + std::to_string(after.sequence));
  }
}

void check_keys(memstream_t* cache, Notes& notes) {
  std::vector<std::byte> room(64 << 10);
  for (std::uint32_t key = 0; key < kKeys; ++key) check_key(cache, notes, key, room);
}

// Reads, and holds views while the segment changes below it.
void read_keys(memstream_t* cache, Notes& notes) {
  std::minstd_rand random(77);
  std::vector<std::byte> room(64 << 10);
  struct Held {
    std::uint32_t key;
    std::uint32_t sequence;
    memstream_view_t view;
  };
  std::vector<Held> held;
  while (!notes.is_over) {
    check_key(cache, notes, static_cast<std::uint32_t>(random() % kKeys), room);
    if (random() % 64 != 0) continue;
    const auto key = static_cast<std::uint32_t>(random() % kKeys);
    const std::string text = key_text(key);
    memstream_view_t view{};
    const int status = memstream_view(cache, text.data(), text.size(), &view);
    if (status == CACHE_MISS) continue;
    require_ok(status, "view");
    held.push_back({key, check_tagged(key, view.data, view.size), view});
    if (held.size() < 20) continue;
    Held& oldest = held.front();
    if (check_tagged(oldest.key, oldest.view.data, oldest.view.size) != oldest.sequence) {
      throw std::runtime_error("a view has changed");
    }
    require_ok(memstream_release(cache, &oldest.view), "release");
    held.erase(held.begin());
  }
  for (Held& one : held) require_ok(memstream_release(cache, &one.view), "release");
}

// The small interface, with two threads on its one connection.
void use_small_interface(const TemporarySegment& segment, Notes& notes) {
  ::setenv("MEMSTREAM_NAME", segment.spec().name.c_str(), 1);
  require_ok(cache_connect(), "connect");
  std::string complaint;
  std::thread reader([&] {
    while (!notes.is_over && complaint.empty()) {
      const std::int64_t acknowledged = notes.puts;
      std::int64_t number = 0;
      std::size_t size = sizeof number;
      const int status = cache_get("small", &number, &size);
      if (acknowledged != 0 && (status != CACHE_OK || number < acknowledged)) {
        complaint =
            "small is " + std::to_string(number) + " after " + std::to_string(acknowledged) + ": " + cache_last_error();
      }
    }
  });
  while (!notes.is_over && complaint.empty()) {
    const std::int64_t number = notes.puts + 1;
    if (cache_put("small", &number, sizeof number) != CACHE_OK) complaint = cache_last_error();
    notes.puts = number;
  }
  reader.join();
  cache_disconnect();
  if (!complaint.empty()) throw std::runtime_error(complaint);
}

class Load {
 public:
  Load(const TemporarySegment& segment, Notes& notes) : notes_(notes) {
    for (std::uint32_t writer = 0; writer < kWriters; ++writer) {
      add([&segment, &notes, writer] {
        const OpenCache cache(segment.spec());
        const std::uint32_t first = writer * kKeysOfWriter;
        if (writer != 0) return write_keys(cache, notes, writer, first, kKeysOfWriter);
        // The first one has two threads on one handle.
        std::string complaint;
        std::thread other([&] {
          try {
            write_keys(cache, notes, kWriters, first + kKeysOfWriter / 2, kKeysOfWriter / 2);
          } catch (const std::exception& error) {
            complaint = error.what();
            notes.is_over = true;
          }
        });
        write_keys(cache, notes, writer, first, kKeysOfWriter / 2);
        other.join();
        if (!complaint.empty()) throw std::runtime_error(complaint);
      });
    }
    add([&segment, &notes] {
      const OpenCache cache(segment.spec());
      read_keys(cache, notes);
    });
    add([&segment, &notes] { use_small_interface(segment, notes); });
  }

  // Ends all; empty if none complains.
  Complaint end() {
    notes_.is_over = true;
    Complaint all;
    for (auto& process : processes_) all += process->wait();
    return all;
  }

 private:
  template <class Body>
  void add(Body body) {
    processes_.push_back(std::make_unique<ChildProcess>([body, this]() -> Complaint {
      try {
        body();
        return "";
      } catch (...) {
        notes_.is_over = true;
        throw;
      }
    }));
  }

  Notes& notes_;
  std::vector<std::unique_ptr<ChildProcess>> processes_;
};

// No shorter time to live than the last one that was acknowledged, up to what has passed since.
void check_touched(memstream_t* cache, Notes& notes) {
  const std::uint64_t acknowledged = notes.touched_ms;
  memstream_entry_t entry{};
  require_ok(memstream_entry_info(cache, "touched", 7, &entry), "entry");
  const std::uint64_t now_ms = stats_of(cache).now_ms;
  if (entry.expires_at_ms + kMostPassedMs < now_ms + acknowledged) {
    throw std::runtime_error("a touch was lost: " + std::to_string(acknowledged) + " ms were acknowledged, " +
                             std::to_string(entry.expires_at_ms - now_ms) + " are left");
  }
}

void check_at_end(memstream_t* cache, Notes& notes) {
  check_keys(cache, notes);
  check_touched(cache, notes);
  std::int64_t number = 0;
  require_ok(memstream_incr(cache, "counter", 7, 0, nullptr, 0, &number), "incr");
  CHECK(number == notes.increments);
  std::size_t size = sizeof number;
  require_ok(memstream_get(cache, "swapped", 7, &number, &size, nullptr), "get");
  CHECK(number == notes.swaps);
  size = sizeof number;
  require_ok(memstream_get(cache, "small", 5, &number, &size, nullptr), "get");
  CHECK(number == notes.puts);
  CHECK(stats_of(cache).evictions == 0);
  CHECK(problems_of(cache) == "");
}

void begin_counters(memstream_t* cache) {
  const std::int64_t nothing = 0;
  require_ok(memstream_set(cache, "swapped", 7, &nothing, sizeof nothing, 0, 0), "set");
  require_ok(memstream_incr(cache, "counter", 7, 0, &nothing, 0, nullptr), "incr");
  require_ok(memstream_set(cache, "touched", 7, "", 0, kFirstTtlMs, 0), "set");
}

TEST_CASE("resizing under load in both directions loses no acknowledged write, and no client notices") {
  const TemporarySegment segment("resize", kSmallSize, 0, 5000);
  const SharedArray<Notes> shared(1);
  Notes& notes = shared[0];
  const OpenCache cache(segment.spec());
  begin_counters(cache);
  Load load(segment, notes);
  for (int i = 0; i < scaled(kResizes) && !notes.is_over; ++i) {
    CAPTURE(i);
    REQUIRE_NOTHROW(resize(cache, i % 2 == 0 ? kLargeSize : kSmallSize));
    CHECK_NOTHROW(check_touched(cache, notes));
    CHECK_NOTHROW(check_keys(cache, notes));
  }
  CHECK(load.end() == "");
  CHECK(notes.increments > 0);
  CHECK_NOTHROW(check_at_end(cache, notes));
}

TEST_CASE("a resizer killed at any moment leaves one whole segment") {
  const TemporarySegment segment("resize-kill", kSmallSize, 0, 5000);
  const SharedArray<Notes> shared(1);
  Notes& notes = shared[0];
  const OpenCache cache(segment.spec());
  begin_counters(cache);
  Load load(segment, notes);
  std::minstd_rand random(5);
  for (int i = 0; i < scaled(kKills) && !notes.is_over; ++i) {
    CAPTURE(i);
    const Signal is_working;
    ChildProcess resizer([&]() -> Complaint {
      const OpenCache own(segment.spec());
      is_working.post();
      for (int turn = i;; ++turn) resize(own, turn % 2 == 0 ? kLargeSize : kSmallSize);
    });
    is_working.wait();
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 60'000));
    resizer.send_signal(SIGKILL);
    CHECK(resizer.wait() == "killed by signal 9");
    CHECK_NOTHROW(check_touched(cache, notes));
    CHECK_NOTHROW(check_keys(cache, notes));
  }
  CHECK(load.end() == "");
  CHECK_NOTHROW(check_at_end(cache, notes));
  // What a killed resizer left beside the segment goes with it, or with the next resize.
  CHECK_NOTHROW(resize(cache, kLargeSize));
  std::size_t count = 0;
  std::vector<memstream_segment_t> segments(256);
  memstream_info_t info{};
  info.struct_size = sizeof info;
  REQUIRE(memstream_info(cache, &info) == CACHE_OK);
  REQUIRE(memstream_segments(info.backend, segments.data(), sizeof segments[0], segments.size(), &count) == CACHE_OK);
  segments.resize(std::min(count, segments.size()));
  CHECK(std::count_if(segments.begin(), segments.end(), [&](const memstream_segment_t& one) {
          return std::string(one.name).starts_with(segment.spec().name);
        }) == 1);
}

}  // namespace
}  // namespace memstream::test
