// Watching which keys change, through the C interface.
#include <doctest/doctest.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "api/memstream_tags.h"
#include "api/memstream_watch.h"
#include "tests/support/child_process.h"
#include "tests/support/leases.h"
#include "tests/support/ledger.h"
#include "tests/support/scale.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

struct Change {
  const char* name;
  std::function<int()> make;
};

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::uint64_t kSegmentSize = 16 << 20;
constexpr std::uint64_t kSoonMs = 5000;  // Much longer than a change takes to be told.
constexpr std::uint64_t kQuietMs = 150;  // Three slices: by then everything was told.

// A watch that ends with its scope.
class Watch {
 public:
  explicit Watch(memstream_t* cache, std::string_view prefix = "") {
    if (memstream_watch(cache, prefix.data(), prefix.size(), &watch_) != CACHE_OK) {
      throw std::runtime_error(cache_last_error());
    }
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch() { memstream_watch_end(&watch_); }

  // A key, an empty text for "look again", or nothing within the time.
  std::optional<std::string> next(std::uint64_t timeout_ms = kSoonMs) {
    std::array<char, CACHE_MAX_KEY_SIZE> key;
    std::size_t size = key.size();
    status = memstream_watch_next(watch_, key.data(), &size, timeout_ms);
    if (status != CACHE_OK) return std::nullopt;
    return std::string(key.data(), size);
  }
  bool is_readable(int timeout_ms = 0) const {
    pollfd event{.fd = memstream_watch_fd(watch_), .events = POLLIN, .revents = 0};
    return ::poll(&event, 1, timeout_ms) == 1;
  }
  // All that is told until it is quiet.
  std::set<std::string> all() {
    std::set<std::string> told;
    for (auto key = next(); key; key = next(kQuietMs)) told.insert(*key);
    return told;
  }
  void forget() {
    while (next(kQuietMs)) {
    }
  }
  operator memstream_watch_t*() const { return watch_; }  // NOLINT(google-explicit-constructor): stands for it.

  int status = CACHE_OK;

 private:
  memstream_watch_t* watch_ = nullptr;
};

using Keys = std::set<std::string>;
const Keys kLookAgain{""};

int remove(memstream_t* cache, std::string_view key) { return memstream_delete(cache, key.data(), key.size()); }

int resize(memstream_t* cache, std::uint64_t size_bytes) {
  memstream_resize_report_t report{};
  report.struct_size = sizeof report;
  return memstream_resize(cache, size_bytes, &report);
}

TEST_CASE("each kind of change of a key is named") {
  const TemporarySegment segment("watch-kinds", kSegmentSize);
  const OpenCache cache(segment.spec());
  const OpenCache other(segment.spec());
  const std::string key = "watched:key";
  const std::size_t size = key.size();
  memstream_item_t item{};
  item.key = key.data();
  item.key_size = size;
  item.value = "batch";
  item.value_size = 5;
  Watch watch(cache, "watched:");
  CHECK_FALSE(watch.is_readable());
  const std::vector<Change> changes = {
      {"a new key", [&] { return set(other, "5", key); }},
      {"overwrite in place", [&] { return set(other, "6", key); }},
      {"another block", [&] { return set(other, std::string(1000, 'v'), key); }},
      {"a large value", [&] { return set(other, std::string(200'000, 'l'), key); }},
      {"replace", [&] { return memstream_replace(other, key.data(), size, "7", 1, 0, 0); }},
      {"incr", [&] { return memstream_incr(other, key.data(), size, 1, nullptr, 0, nullptr); }},
      {"touch that gives an expiry", [&] { return memstream_touch(other, key.data(), size, 100'000); }},
      {"touch that changes it", [&] { return memstream_touch(other, key.data(), size, 200'000); }},
      {"set_many", [&] { return memstream_set_many(other, &item, 1); }},
      {"commit",
       [&] {
         memstream_reservation_t room;
         const int status = memstream_reserve(other, key.data(), size, 5, &room);
         return status != CACHE_OK ? status : memstream_commit(other, &room, 0, 0);
       }},
      {"delete", [&] { return remove(other, key); }},
      {"add", [&] { return memstream_add(other, key.data(), size, "a", 1, 0, 0); }},
      {"delete_many", [&] { return memstream_delete_many(other, &item, 1); }},
      {"a value again", [&] { return set(other, "v", key); }},
      {"clear", [&] { return memstream_clear(other); }},
  };
  for (const Change& change : changes) {
    CAPTURE(change.name);
    REQUIRE(set(other, "value", "elsewhere") == CACHE_OK);  // Under another prefix.
    REQUIRE(change.make() == CACHE_OK);
    CHECK(watch.is_readable(kSoonMs));
    CHECK(watch.next() == key);
    CHECK_FALSE(watch.next(0));
    CHECK(watch.status == CACHE_MISS);
    CHECK_FALSE(watch.is_readable());
  }
  CHECK(problems_of(cache) == "");
}

TEST_CASE("a call that changes nothing names nothing") {
  const TemporarySegment segment("watch-nothing", kSegmentSize);
  const OpenCache cache(segment.spec());
  REQUIRE(set(cache, "value", "key") == CACHE_OK);
  Watch watch(cache);
  CHECK(remove(cache, "absent") == CACHE_MISS);
  CHECK(memstream_add(cache, "key", 3, "a", 1, 0, 0) == CACHE_EXISTS);
  CHECK(memstream_exists(cache, "key", 3) == CACHE_OK);
  get(cache, "key");
  CHECK_FALSE(watch.next(kQuietMs));
  CHECK(watch.status == CACHE_MISS);
}

TEST_CASE("watches of several prefixes are told of their own keys, in every process") {
  const TemporarySegment segment("watch-prefixes", kSegmentSize);
  const OpenCache cache(segment.spec());
  const Signal is_ready;
  const auto expect = [](Watch& watch, const Keys& keys) { return watch.all() == keys; };
  ChildProcess reader([&]() -> Complaint {
    const OpenCache own(segment.spec());
    Watch user(own, "user:");
    is_ready.post();
    return expect(user, {"user:1", "user:2"}) ? "" : "the other process was told something else";
  });
  is_ready.wait();
  Watch all(cache);
  Watch user(cache, "user:");
  Watch one(cache, "user:1");
  Watch none(cache, "nobody:");
  for (const char* key : {"user:1", "user:2", "page:1", "use"}) REQUIRE(set(cache, "value", key) == CACHE_OK);
  CHECK(expect(all, {"user:1", "user:2", "page:1", "use"}));
  CHECK(expect(user, {"user:1", "user:2"}));
  CHECK(expect(one, {"user:1"}));
  CHECK_FALSE(none.next(0));
  CHECK(reader.wait() == "");
}

TEST_CASE("keys of all sizes and bytes are named") {
  const TemporarySegment segment("watch-sizes", kSegmentSize, 1);
  const OpenCache cache(segment.spec());
  Watch watch(cache);
  for (std::size_t size = 1; size <= CACHE_MAX_KEY_SIZE; size += size < 40 ? 1 : 41) {
    std::string key(size, '\0');
    for (std::size_t i = 0; i < size; ++i) key[i] = static_cast<char>(i * 7 + size);
    REQUIRE(set(cache, "value", key) == CACHE_OK);
    CHECK(watch.next() == key);
  }
  const std::string longest(CACHE_MAX_KEY_SIZE, 'k');
  REQUIRE(set(cache, "value", longest) == CACHE_OK);
  CHECK(watch.is_readable(kSoonMs));
  char room[8];
  std::size_t size = sizeof room;
  CHECK(memstream_watch_next(watch, room, &size, kSoonMs) == CACHE_TOO_SMALL);
  CHECK(size == longest.size());
  CHECK(watch.next() == longest);  // It stayed.
}

TEST_CASE("ten thousand keys under one prefix are named, or the watch says to look again") {
  const TemporarySegment segment("watch-many", 64 << 20);
  const OpenCache cache(segment.spec());
  Watch watch(cache, "many:");
  Keys expected;
  for (int i = 0; i < 10'000; ++i) {
    const std::string key = "many:" + std::to_string(i);
    REQUIRE(set(cache, "value", key) == CACHE_OK);
    expected.insert(key);
  }
  Keys told = watch.all();
  if (told.erase("") == 0) CHECK(told == expected);
  CHECK(std::includes(expected.begin(), expected.end(), told.begin(), told.end()));
  // A key that changes often is told once.
  std::string key = "many:often";
  for (int i = 0; i < 1000; ++i) REQUIRE(set(cache, std::to_string(i), key) == CACHE_OK);
  told = watch.all();
  CHECK((told == Keys{key} || told == Keys{"", key} || told == kLookAgain));
}

TEST_CASE("what nobody asks for is bounded, and becomes a look again") {
  const TemporarySegment segment("watch-bound", 64 << 20);
  const OpenCache cache(segment.spec());
  Watch watch(cache);
  const std::string tail(900, 't');
  for (int i = 0; i < 5000; ++i) {
    REQUIRE(set(cache, "v", std::to_string(i) + tail) == CACHE_OK);
    if (i % 30 == 0) std::this_thread::sleep_for(milliseconds(4));  // So that no ring overtakes the watcher.
  }
  std::this_thread::sleep_for(milliseconds(kQuietMs));
  CHECK(watch.next() == "");
  watch.forget();
  REQUIRE(set(cache, "v", "later") == CACHE_OK);
  CHECK(watch.next() == "later");
}

TEST_CASE("a watcher that the writers overtake is told to look again, and then names keys again") {
  const TemporarySegment segment("watch-overrun", kSegmentSize, 1);
  const OpenCache cache(segment.spec());
  const Signal is_ready;
  const Signal has_written;
  ChildProcess stopped([&]() -> Complaint {
    const OpenCache own(segment.spec());
    Watch watch(own);
    is_ready.post();
    has_written.wait();
    Keys told = watch.all();
    if (told.count("") == 0) return "not told to look again, but " + std::to_string(told.size()) + " keys";
    is_ready.post();
    return watch.all() == Keys{"last"} ? "" : "the last key was not named alone";
  });
  is_ready.wait();
  stopped.send_signal(SIGSTOP);
  for (int i = 0; i < 20'000; ++i) REQUIRE(set(cache, "value", "key " + std::to_string(i)) == CACHE_OK);
  stopped.send_signal(SIGCONT);
  has_written.post();
  is_ready.wait();
  REQUIRE(set(cache, "value", "last") == CACHE_OK);
  CHECK(stopped.wait() == "");
}

TEST_CASE("eviction is named") {
  const TemporarySegment segment("watch-evict", kSegmentSize, 1);
  const OpenCache cache(segment.spec());
  REQUIRE(set(cache, "value", "victim") == CACHE_OK);
  Watch watch(cache, "victim");
  const std::string value(20'000, 'v');
  for (int i = 0; memstream_exists(cache, "victim", 6) == CACHE_OK; ++i) {
    REQUIRE(set(cache, value, "filler" + std::to_string(i)) == CACHE_OK);
  }
  CHECK(stats_of(cache).evictions > 0);
  const Keys told = watch.all();
  CHECK((told == Keys{"victim"} || told.count("") == 1));
}

TEST_CASE("an expired key is named when something removes it") {
  const TemporarySegment segment("watch-expiry", kSegmentSize, 1);
  const OpenCache cache(segment.spec());
  REQUIRE(memstream_set(cache, "key", 3, "v", 1, 20, 0) == CACHE_OK);
  Watch watch(cache);
  CHECK_FALSE(watch.next(kQuietMs));
  CHECK(remove(cache, "key") == CACHE_MISS);
  CHECK(watch.next() == "key");
}

TEST_CASE("an invalidated tag says to look again") {
  const TemporarySegment segment("watch-tag", kSegmentSize);
  const OpenCache cache(segment.spec());
  memstream_tags_t tags{};
  REQUIRE(memstream_tag(cache, "group", 5, &tags) == CACHE_OK);
  Watch watch(cache, "no such key");
  REQUIRE(memstream_invalidate(cache, "group", 5) == CACHE_OK);
  CHECK(watch.next() == "");
  CHECK_FALSE(watch.next(kQuietMs));
}

TEST_CASE("a watch goes on in the successor of a segment, and ends with a segment that is destroyed") {
  const TemporarySegment segment("watch-resize", kSegmentSize);
  const OpenCache cache(segment.spec());
  const OpenCache other(segment.spec());
  Watch watch(cache);
  REQUIRE(resize(other, 2 * kSegmentSize) == CACHE_OK);
  CHECK(watch.next() == "");
  watch.forget();
  REQUIRE(set(other, "value", "key") == CACHE_OK);
  CHECK(watch.next() == "key");
  REQUIRE(memstream_destroy(other) == CACHE_OK);
  CHECK_FALSE(watch.next());
  CHECK(watch.status == CACHE_GONE);
  CHECK(watch.is_readable());  // Whoever polls has to learn it.
}

TEST_CASE("a watch outlives the handle, and another one begins after the last has ended") {
  const TemporarySegment segment("watch-close", kSegmentSize);
  const OpenCache writer(segment.spec());
  std::optional<Watch> watch;
  {
    const OpenCache cache(segment.spec());
    for (int i = 0; i < 3; ++i) {
      Watch brief(cache);
      REQUIRE(set(writer, "value", "brief") == CACHE_OK);
      CHECK(brief.next() == "brief");
    }
    watch.emplace(cache, "k");
  }
  REQUIRE(set(writer, "value", "key") == CACHE_OK);
  CHECK(watch->next() == "key");
}

TEST_CASE("a watch refuses what cannot be watched") {
  const TemporarySegment segment("watch-refuse", kSegmentSize);
  const OpenCache cache(segment.spec());
  memstream_watch_t* watch = nullptr;
  const std::string long_prefix(CACHE_MAX_KEY_SIZE + 1, 'p');
  CHECK(memstream_watch(cache, long_prefix.data(), long_prefix.size(), &watch) == CACHE_INVALID);
  CHECK(memstream_watch(nullptr, "", 0, &watch) == CACHE_INVALID);
  CHECK(memstream_watch(cache, nullptr, 1, &watch) == CACHE_INVALID);
  CHECK(memstream_watch(cache, nullptr, 0, nullptr) == CACHE_INVALID);
  memstream_options_t options = segment.spec().options();
  options.flags |= MEMSTREAM_OPEN_READ_ONLY;
  const OpenCache reader(options);
  CHECK(memstream_watch(reader, nullptr, 0, &watch) == CACHE_READ_ONLY);
  const TemporarySegment small("watch-small", kSegmentSize - 4096);
  const OpenCache small_cache(small.spec());
  CHECK(memstream_watch(small_cache, nullptr, 0, &watch) == CACHE_INVALID);
  CHECK(std::string(cache_last_error()).find("at least 16 MiB") != std::string::npos);
  CHECK(watch == nullptr);
  CHECK(memstream_watch_fd(nullptr) == -1);
  CHECK(memstream_watch_end(nullptr) == CACHE_OK);
  CHECK(memstream_watch_end(&watch) == CACHE_OK);
  REQUIRE(memstream_watch(cache, nullptr, 0, &watch) == CACHE_OK);
  for (int i = 0; i < 2; ++i) {
    CHECK(memstream_watch_end(&watch) == CACHE_OK);
    CHECK(watch == nullptr);
  }
  std::size_t size = 0;
  CHECK(memstream_watch_next(nullptr, nullptr, &size, 0) == CACHE_INVALID);
}

TEST_CASE("a forked child learns that the watch is its parent's, and begins one of its own") {
  const TemporarySegment segment("watch-fork", kSegmentSize);
  const OpenCache cache(segment.spec());
  std::optional<Watch> watch(std::in_place, cache);
  const Signal began;
  ChildProcess child([&]() -> Complaint {
    if (watch->next(0) || watch->status != CACHE_GONE) return "the child may use the watch of its parent";
    watch.reset();
    Watch own(cache);
    began.post();
    return own.next() == "key" ? "" : "the child was not told";
  });
  began.wait();
  REQUIRE(set(cache, "value", "key") == CACHE_OK);
  CHECK(child.wait() == "");
  CHECK(watch->next() == "key");
}

TEST_CASE("a segment that nobody watches any more notes nothing") {
  const TemporarySegment segment("watch-lapse", kSegmentSize, 1);
  const OpenCache cache(segment.spec());
  const Signal began;
  ChildProcess watcher([&]() -> Complaint {
    const OpenCache own(segment.spec());
    Watch watch(own);
    began.post();
    while (watch.status != CACHE_GONE) watch.next();
    return "";
  });
  began.wait();
  watcher.send_signal(SIGSTOP);
  std::this_thread::sleep_for(milliseconds(1200));
  REQUIRE(set(cache, "value", "lost") == CACHE_OK);
  watcher.send_signal(SIGKILL);
  CHECK(watcher.wait() == "killed by signal 9");
  Watch watch(cache);
  REQUIRE(set(cache, "value", "key") == CACHE_OK);
  CHECK(watch.all() == Keys{"key"});
}

TEST_CASE("a watcher that was stopped for too long is told to look again") {
  const TemporarySegment segment("watch-stop", kSegmentSize, 1);
  const OpenCache cache(segment.spec());
  const Signal is_ready;
  const Signal has_written;
  ChildProcess stopped([&]() -> Complaint {
    const OpenCache own(segment.spec());
    Watch watch(own);
    is_ready.post();
    has_written.wait();
    return watch.all().count("") == 1 ? "" : "not told to look again";
  });
  is_ready.wait();
  stopped.send_signal(SIGSTOP);
  std::this_thread::sleep_for(milliseconds(1200));
  for (int i = 0; i < 3; ++i) REQUIRE(set(cache, "value", "key" + std::to_string(i)) == CACHE_OK);
  stopped.send_signal(SIGCONT);
  has_written.post();
  CHECK(stopped.wait() == "");
}

// ---- nothing is lost ----

constexpr int kMirrored = 40;
std::string mirrored_key(int number) { return "mirror:" + std::to_string(number); }

// What a watcher knows: it reads the keys that are named, and all of them when it has to look again.
class Mirror {
 public:
  explicit Mirror(memstream_t* cache) : cache_(cache), watch_(cache, "mirror:") { read_all(); }

  // Takes in what is told, until it is quiet for so long.
  void follow(std::uint64_t quiet_ms) {
    for (auto key = watch_.next(quiet_ms); key; key = watch_.next(quiet_ms)) {
      if (key->empty()) {
        ++looks_again;
        read_all();
      } else {
        ++named;
        read(*key);
      }
    }
  }
  // Keys of which it knows something else than the cache has.
  std::string differences() {
    std::string found;
    for (int i = 0; i < kMirrored; ++i) {
      const std::string key = mirrored_key(i);
      const std::string value = get(cache_, key);
      if (value != values_[key]) found += key + " ";
    }
    return found;
  }

  int looks_again = 0;
  int named = 0;

 private:
  void read(const std::string& key) { values_[key] = get(cache_, key); }
  void read_all() {
    for (int i = 0; i < kMirrored; ++i) read(mirrored_key(i));
  }

  memstream_t* cache_;
  Watch watch_;
  std::map<std::string, std::string> values_;
};

// Changes random keys in random ways, for ever.
[[noreturn]] void change_keys(const CacheSpec& spec, unsigned seed, const Signal& began) {
  const OpenCache own(spec);
  std::mt19937 random(seed);
  began.post();
  for (std::uint32_t i = 0;; ++i) {
    const std::string key = mirrored_key(static_cast<int>(random() % kMirrored));
    const std::string value = std::to_string(seed) + "." + std::to_string(i);
    switch (random() % 8) {
      case 0:
        remove(own, key);
        break;
      case 1:
        set(own, value + std::string(random() % 3000, 'v'), key);
        break;
      case 2:
        memstream_add(own, key.data(), key.size(), value.data(), value.size(), 0, 0);
        break;
      case 3:
        set(own, std::string(20'000, 'f'), "filler" + std::to_string(random() % 2000));  // Evicts.
        break;
      default:
        set(own, value, key);
    }
  }
}

TEST_CASE("a mirror that reads what is named is true, also while writers are killed") {
  const TemporarySegment segment("watch-mirror", kSegmentSize, 2);
  const OpenCache cache(segment.spec());
  Mirror mirror(cache);
  const int rounds = scaled(15);
  std::mt19937 random(1);
  for (int round = 0; round < rounds; ++round) {
    const Signal began;
    std::vector<std::unique_ptr<ChildProcess>> writers;
    for (int i = 0; i < 2; ++i) {
      writers.push_back(std::make_unique<ChildProcess>(
          [&, i]() -> Complaint { change_keys(segment.spec(), static_cast<unsigned>(round * 10 + i), began); }));
    }
    began.wait();
    began.wait();
    const auto until = Clock::now() + std::chrono::microseconds(1000 + random() % 60'000);
    while (Clock::now() < until) mirror.follow(0);
    for (const auto& writer : writers) writer->send_signal(SIGKILL);
    for (const auto& writer : writers) CHECK(writer->wait() == "killed by signal 9");
    mirror.follow(kQuietMs);
    CHECK(mirror.differences() == "");
  }
  MESSAGE(mirror.named << " keys were named, " << mirror.looks_again << " times look again");
  CHECK(mirror.named > 0);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("a mirror is true when writers pause, with watchers beside it that are killed") {
  const TemporarySegment segment("watch-watchers", kSegmentSize, 2);
  const OpenCache cache(segment.spec());
  Mirror mirror(cache);
  std::mt19937 random(7);
  const int rounds = scaled(10);
  for (int round = 0; round < rounds; ++round) {
    const Signal began;
    ChildProcess watcher([&]() -> Complaint {
      const OpenCache own(segment.spec());
      Watch watch(own);
      began.post();
      for (;;) watch.next();
    });
    began.wait();
    for (int i = 0; i < 3000; ++i) {
      const std::string key = mirrored_key(static_cast<int>(random() % kMirrored));
      if (random() % 4 == 0) {
        remove(cache, key);
      } else {
        REQUIRE(set(cache, std::to_string(i), key) == CACHE_OK);
      }
      if (i == 1500) watcher.send_signal(SIGKILL);
      if (i % 500 == 0) mirror.follow(0);
    }
    CHECK(watcher.wait() == "killed by signal 9");
    mirror.follow(kQuietMs);
    CHECK(mirror.differences() == "");
  }
  MESSAGE(mirror.named << " keys were named, " << mirror.looks_again << " times look again");
}

}  // namespace
}  // namespace memstream::test
