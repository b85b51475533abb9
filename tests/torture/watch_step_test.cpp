// A writer that dies at any instruction of a change takes nothing from those that watch. A watch that begins while one
// stands there does not miss it.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "api/memstream_watch.h"
#include "tests/support/leases.h"
#include "tests/support/scale.h"
#include "tests/support/test_cache.h"
#include "tests/torture/stepped_child.h"

namespace memstream::torture {
namespace {

using Clock = std::chrono::steady_clock;
using test::get;
using test::set;

constexpr std::uint64_t kSize = 16 << 20;
constexpr int kPoints = 60;                // Instructions at which a child stands, of each call.
constexpr std::chrono::seconds kTold{10};  // Until a watcher is told. A slice is 50 ms; the machine may be busy.
constexpr std::uint64_t kLookMs = 20;
constexpr std::array<std::string_view, 2> kKeys{"key", "another key"};

// What a watcher knows of the keys.
class Mirror {
 public:
  explicit Mirror(memstream_t* cache) : cache_(cache) { status = memstream_watch(cache, nullptr, 0, &watch_); }
  Mirror(const Mirror&) = delete;
  Mirror& operator=(const Mirror&) = delete;
  ~Mirror() { memstream_watch_end(&watch_); }

  void read_all() {
    for (std::size_t i = 0; i < kKeys.size(); ++i) values_[i] = get(cache_, kKeys[i]);
  }
  // Takes in all that was done before: what is told later comes from later changes.
  void settle() {
    do {
      set(cache_, "value", kMarker);  // Of the same shard, and so told behind the keys before it.
    } while (!follow_to_marker());
    read_all();
  }
  // Whether what is told makes it what the cache has.
  bool becomes_true() {
    const auto until = Clock::now() + kTold;
    do {
      std::string key;
      while (next(&key, 0)) {
        for (std::size_t i = 0; i < kKeys.size(); ++i) {
          if (key.empty() || kKeys[i] == key) values_[i] = get(cache_, kKeys[i]);
        }
      }
      if (is_true()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(kLookMs));
    } while (Clock::now() < until);
    return false;
  }

  int status = CACHE_OK;

 private:
  static constexpr std::string_view kMarker = "marker";

  bool next(std::string* key, std::uint64_t timeout_ms) {
    key->resize(CACHE_MAX_KEY_SIZE);
    std::size_t size = key->size();
    const bool is_told = memstream_watch_next(watch_, key->data(), &size, timeout_ms) == CACHE_OK;
    key->resize(size);
    return is_told;
  }
  // False if the marker is not named: "look again" may stand for it.
  bool follow_to_marker() {
    std::string key;
    while (next(&key, 10 * kLookMs) && !key.empty()) {
      if (key == kMarker) return true;
    }
    return false;
  }
  bool is_true() {
    for (std::size_t i = 0; i < kKeys.size(); ++i) {
      if (values_[i] != get(cache_, kKeys[i])) return false;
    }
    return true;
  }

  memstream_t* cache_;
  memstream_watch_t* watch_ = nullptr;
  std::array<std::string, kKeys.size()> values_;
};

struct Change {
  const char* name;
  std::function<void(memstream_t*)> prepare;
  std::function<void(memstream_t*)> run;
};

const std::vector<Change>& changes() {
  static const std::vector<Change> all = {
      {"new key", [](memstream_t* cache) { memstream_delete(cache, "key", 3); },
       [](memstream_t* cache) { set(cache, "1", "key"); }},
      {"overwrite in place", [](memstream_t* cache) { set(cache, "1", "key"); },
       [](memstream_t* cache) { set(cache, "2", "key"); }},
      {"another block", [](memstream_t* cache) { set(cache, "1", "key"); },
       [](memstream_t* cache) { set(cache, std::string(900, 'v'), "key"); }},
      {"incr", [](memstream_t* cache) { set(cache, "1", "key"); },
       [](memstream_t* cache) { memstream_incr(cache, "key", 3, 1, nullptr, 0, nullptr); }},
      {"delete", [](memstream_t* cache) { set(cache, "1", "key"); },
       [](memstream_t* cache) { memstream_delete(cache, "key", 3); }},
      {"clear",
       [](memstream_t* cache) {
         set(cache, "1", "key");
         set(cache, "1", "another key");
       },
       [](memstream_t* cache) { memstream_clear(cache); }},
  };
  return all;
}

// The child's handle. It never closes: it is killed.
memstream_t* child_cache = nullptr;

void open_in_child(const test::CacheSpec& spec) {
  const memstream_options_t options = spec.options();
  if (memstream_open(&options, &child_cache) != CACHE_OK) ::_exit(1);
  set(child_cache, "warm", "warm");  // The first write of a process enters it.
}

// Calls `at(child)` for a child at each of some instructions of the change, and `prepared()` before it is made.
void walk(const Change& change, const test::CacheSpec& spec, memstream_t* cache, const std::function<void()>& prepared,
          const std::function<void(SteppedChild&)>& at) {
  const auto begin = [&] { open_in_child(spec); };
  const auto run = [&] { change.run(child_cache); };
  change.prepare(cache);
  const Route route(trace_of(begin, run));
  const std::size_t stride =
      std::max<std::size_t>(1, route.instructions() / static_cast<std::size_t>(test::scaled(kPoints)));
  int stood = 0;
  for (std::size_t instruction = 0; instruction < route.instructions(); instruction += stride) {
    change.prepare(cache);
    prepared();
    SteppedChild child(begin, run);
    if (!child.go(route.legs(instruction))) continue;
    ++stood;
    CAPTURE(instruction);
    at(child);
  }
  CHECK(stood > 20);
}

}  // namespace

TEST_CASE("those that watch are told what a writer did that dies at any instruction") {
  for (const Change& change : changes()) {
    CAPTURE(change.name);
    const test::TemporarySegment segment("watch-die", kSize, 1);
    const test::OpenCache cache(segment.spec());
    Mirror mirror(cache);
    REQUIRE(mirror.status == CACHE_OK);
    mirror.read_all();
    walk(
        change, segment.spec(), cache, [&] { mirror.settle(); },
        [&](SteppedChild& child) {
          child.kill();
          REQUIRE(mirror.becomes_true());
        });
    CHECK(test::problems_of(cache) == "");
  }
}

TEST_CASE("a watch that begins while a writer stands at any instruction is told what the writer does") {
  int begun = 0;
  int refused = 0;
  for (const Change& change : changes()) {
    CAPTURE(change.name);
    // Little patience with the lock that a stopped process holds.
    const test::TemporarySegment segment("watch-begin", kSize, 1, 30);
    const test::OpenCache cache(segment.spec());
    const auto nothing = [] {};
    walk(change, segment.spec(), cache, nothing, [&](SteppedChild& child) {
      Mirror mirror(cache);
      if (mirror.status != CACHE_OK) {
        CHECK(mirror.status == CACHE_BUSY);
        ++refused;
        return;
      }
      ++begun;
      mirror.read_all();
      child.finish();
      REQUIRE(mirror.becomes_true());
      child.kill();
    });
  }
  MESSAGE(begun << " watches began beside a writer, " << refused << " met its lock");
  CHECK(begun > 20);
  CHECK(refused > 20);
}

}  // namespace memstream::torture
