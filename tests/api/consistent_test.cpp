// Many keys as they stood at one instant, through the C interface.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "api/memstream_tags.h"
#include "tests/support/child_process.h"
#include "tests/support/scale.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kSegmentSize = 16 << 20;
const std::string kNone = "-";

int set(memstream_t* cache, const std::string& key, const std::string& value, std::uint64_t ttl_ms = 0) {
  return memstream_set(cache, key.data(), key.size(), value.data(), value.size(), ttl_ms, 0);
}
int remove(memstream_t* cache, const std::string& key) { return memstream_delete(cache, key.data(), key.size()); }

// Keys that are read together.
class Keys {
 public:
  explicit Keys(std::vector<std::string> keys) : keys_(std::move(keys)), items_(keys_.size()), room_(64 * 1024) {}
  explicit Keys(int count) : Keys(numbered(count)) {}

  int read(memstream_t* cache, std::uint32_t most_tries = 0) {
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      items_[i] = {};
      items_[i].key = keys_[i].data();
      items_[i].key_size = keys_[i].size();
    }
    needed = room_.size();
    return memstream_get_many_consistent(cache, items_.data(), sizeof items_[0], items_.size(), room_.data(), &needed,
                                         most_tries);
  }
  // kNone for a miss.
  std::string value(std::size_t i) const {
    if (items_[i].status != CACHE_OK) return kNone;
    return {static_cast<const char*>(items_[i].value), items_[i].value_size};
  }
  std::string values() const {
    std::string all;
    for (std::size_t i = 0; i < keys_.size(); ++i) all += (i == 0 ? "" : " ") + value(i);
    return all;
  }
  const std::string& key(std::size_t i) const { return keys_[i]; }
  std::size_t size() const { return keys_.size(); }
  const memstream_item_t& item(std::size_t i) const { return items_[i]; }
  void give_room(std::size_t bytes) { room_.resize(bytes); }

  std::size_t needed = 0;

 private:
  static std::vector<std::string> numbered(int count) {
    std::vector<std::string> keys;
    for (int i = 0; i < count; ++i) keys.push_back("rung" + std::to_string(i));
    return keys;
  }

  std::vector<std::string> keys_;
  std::vector<memstream_item_t> items_;
  std::vector<char> room_;
};

// What readers saw of keys that others change.
struct Seen {
  int consistent = 0;
  int conflicts = 0;
  std::string wrong;
};

// Reads the keys for as long as `goes_on`, and lets `is_possible` judge each answer.
Seen watch(memstream_t* cache, Keys keys, const std::function<bool()>& goes_on,
           const std::function<bool(const Keys&)>& is_possible) {
  Seen seen;
  while (goes_on() && seen.wrong.empty()) {
    const int status = keys.read(cache);
    if (status == CACHE_CONFLICT) {
      ++seen.conflicts;
    } else if (status != CACHE_OK) {
      seen.wrong = cache_last_error();
    } else {
      ++seen.consistent;
      if (!is_possible(keys)) seen.wrong = keys.values();
    }
  }
  return seen;
}

// A writer changes the keys from the first to the last, always to a larger number: at no instant a key has a larger one
// than the key before it.
bool descends(const Keys& keys) {
  for (std::size_t i = 1; i < keys.size(); ++i) {
    if (keys.value(i) == kNone || std::stoll(keys.value(i)) > std::stoll(keys.value(i - 1))) return false;
  }
  return true;
}

TEST_CASE("what stands still is read as by any other batch") {
  const TemporarySegment segment("consistent", kSegmentSize, 4);
  const OpenCache cache(segment.spec());
  Keys keys({"a", "none", "large", "empty", "over"});
  REQUIRE(set(cache, "a", "value") == CACHE_OK);
  REQUIRE(set(cache, "large", std::string(50'000, 'l')) == CACHE_OK);
  REQUIRE(set(cache, "empty", "") == CACHE_OK);
  REQUIRE(set(cache, "over", "value", 1) == CACHE_OK);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK(keys.read(cache) == CACHE_OK);
  CHECK(keys.values() == "value - " + std::string(50'000, 'l') + "  -");
  CHECK(keys.needed == 16 + 50'000);
  memstream_meta_t meta{};
  char room[8];
  std::size_t size = sizeof room;
  REQUIRE(memstream_get(cache, "a", 1, room, &size, &meta) == CACHE_OK);
  CHECK(keys.item(0).cas == meta.cas);
  keys.give_room(1000);
  CHECK(keys.read(cache) == CACHE_TOO_SMALL);
  CHECK(keys.needed == 16 + 50'000);
  CHECK(keys.value(0) == "value");
  memstream_options_t options = segment.spec().options();
  options.flags = MEMSTREAM_OPEN_READ_ONLY;
  const OpenCache reader(options);
  keys.give_room(64 * 1024);
  CHECK(keys.read(reader) == CACHE_OK);
  CHECK(keys.value(0) == "value");
  std::size_t none = 0;
  CHECK(memstream_get_many_consistent(cache, nullptr, sizeof(memstream_item_t), 0, nullptr, &none, 0) == CACHE_OK);
  CHECK(Keys(1000).read(cache) == CACHE_OK);
}

TEST_CASE("bad arguments are refused") {
  const TemporarySegment segment("consistent-bad", kSegmentSize);
  const OpenCache cache(segment.spec());
  memstream_item_t item{};
  item.key = "key";
  item.key_size = 3;
  char room[16];
  std::size_t size = sizeof room;
  CHECK(memstream_get_many_consistent(nullptr, &item, sizeof item, 1, room, &size, 0) == CACHE_INVALID);
  CHECK(memstream_get_many_consistent(cache, nullptr, sizeof item, 1, room, &size, 0) == CACHE_INVALID);
  CHECK(memstream_get_many_consistent(cache, &item, sizeof item, 1, nullptr, &size, 0) == CACHE_INVALID);
  CHECK(memstream_get_many_consistent(cache, &item, sizeof item, 1, room, nullptr, 0) == CACHE_INVALID);
  CHECK(memstream_get_many_consistent(cache, &item, sizeof item - 1, 1, room, &size, 0) == CACHE_INVALID);
  item.key_size = 0;
  CHECK(memstream_get_many_consistent(cache, &item, sizeof item, 1, room, &size, 0) == CACHE_BAD_KEY);
  CHECK(item.status == CACHE_BAD_KEY);
  item.key = nullptr;
  item.key_size = 3;
  CHECK(memstream_get_many_consistent(cache, &item, sizeof item, 1, room, &size, 0) == CACHE_INVALID);
  Keys keys(2);
  REQUIRE(memstream_destroy(cache) == CACHE_OK);
  CHECK(keys.read(cache) == CACHE_GONE);
}

TEST_CASE("keys that change all the time are a conflict") {
  const TemporarySegment segment("consistent-conflict", kSegmentSize);
  const OpenCache cache(segment.spec());
  std::atomic<bool> is_over{false};
  std::thread writer([&] {
    const OpenCache own(segment.spec());
    for (std::int64_t i = 0; !is_over; ++i) set(own, "rung" + std::to_string(i % 1000), "v");
  });
  Keys keys(1000);
  int conflicts = 0;
  for (int i = 0; i < 10'000 && conflicts == 0; ++i) {
    if (keys.read(cache, 1) == CACHE_CONFLICT) ++conflicts;
  }
  is_over = true;
  writer.join();
  CHECK(conflicts == 1);
  CHECK(keys.read(cache, 1) == CACHE_OK);
}

TEST_CASE("values of several keys are those of one instant, while writers change and are killed") {
  const TemporarySegment segment("consistent-ladder", kSegmentSize, 4);
  const OpenCache cache(segment.spec());
  constexpr int kKeys = 12;
  Keys keys(kKeys);
  for (std::size_t i = 0; i < kKeys; ++i) REQUIRE(set(cache, keys.key(i), "0") == CACHE_OK);
  std::mt19937 random(1);
  Seen all;
  std::int64_t first = 1;
  for (int round = 0; round < scaled(20); ++round) {
    const Signal began;
    ChildProcess writer([&]() -> Complaint {
      const OpenCache own(segment.spec());
      std::mt19937 sizes(static_cast<unsigned>(round));
      began.post();
      for (std::int64_t number = first;; ++number) {
        const std::string value = std::to_string(number) + std::string(sizes() % 3 == 0 ? sizes() % 200 : 0, ' ');
        for (std::size_t i = 0; i < kKeys; ++i) set(own, keys.key(i), value);
        if (number % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
    });
    began.wait();
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(1 + random() % 60);
    const Seen seen = watch(
        cache, keys, [&] { return std::chrono::steady_clock::now() < until; }, descends);
    writer.send_signal(SIGKILL);
    CHECK(writer.wait() == "killed by signal 9");
    CHECK(seen.wrong == "");
    all.consistent += seen.consistent;
    all.conflicts += seen.conflicts;
    first += 10'000'000;
  }
  MESSAGE(all.consistent << " consistent, " << all.conflicts << " conflicts");
  CHECK(all.consistent > 0);
  CHECK(problems_of(cache) == "");
}

// Set B, delete A, set A, delete B: one of the two is always there.
TEST_CASE("keys that come and go are absent together only if they were") {
  const TemporarySegment segment("consistent-absent", kSegmentSize, 2);
  const OpenCache cache(segment.spec());
  REQUIRE(set(cache, "a", "1") == CACHE_OK);
  std::atomic<bool> is_over{false};
  std::thread writer([&] {
    const OpenCache own(segment.spec());
    for (int i = 0; i < scaled(100'000); ++i) {
      set(own, "b", "1");
      remove(own, "a");
      set(own, "a", "1");
      remove(own, "b");
    }
    is_over = true;
  });
  const Seen seen = watch(
      cache, Keys({"a", "b"}), [&] { return !is_over; }, [](const Keys& keys) { return keys.values() != "- -"; });
  writer.join();
  MESSAGE(seen.consistent << " consistent, " << seen.conflicts << " conflicts");
  CHECK(seen.wrong == "");
  CHECK(seen.consistent > 0);
}

TEST_CASE("entries whose time ends by one tag are over together") {
  const TemporarySegment segment("consistent-tags", kSegmentSize, 4);
  const OpenCache cache(segment.spec());
  Keys keys(8);
  std::atomic<int> round{0};
  const int rounds = scaled(3000);
  std::thread writer([&] {
    const OpenCache own(segment.spec());
    for (; round < rounds; ++round) {
      memstream_tags_t tags{};
      memstream_tag(own, "tag", 3, &tags);
      for (std::size_t i = keys.size(); i-- > 0;) {
        const std::string& key = keys.key(i);
        memstream_store_tagged(own, key.data(), key.size(), "v", 1, 0, 0, MEMSTREAM_SET, 0, &tags);
      }
      memstream_invalidate(own, "tag", 3);
    }
  });
  // Set from the last to the first, ended at once: the keys that are there are the last ones.
  const auto is_possible = [](const Keys& found) {
    const std::string values = found.values();
    return values.find("v -") == std::string::npos;
  };
  const Seen seen = watch(
      cache, keys, [&] { return round < rounds; }, is_possible);
  writer.join();
  MESSAGE(seen.consistent << " consistent, " << seen.conflicts << " conflicts");
  CHECK(seen.wrong == "");
  CHECK(seen.consistent > 0);
}

TEST_CASE("a resize in the middle of a read makes no difference") {
  const TemporarySegment segment("consistent-resize", kSegmentSize, 4);
  const OpenCache cache(segment.spec());
  Keys keys(12);
  for (std::size_t i = 0; i < keys.size(); ++i) REQUIRE(set(cache, keys.key(i), "0") == CACHE_OK);
  std::atomic<bool> is_over{false};
  std::thread writer([&] {
    const OpenCache own(segment.spec());
    for (std::int64_t number = 1; !is_over; ++number) {
      for (std::size_t i = 0; i < keys.size(); ++i) set(own, keys.key(i), std::to_string(number));
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  });
  std::thread resizer([&] {
    const OpenCache own(segment.spec());
    for (int i = 0; i < scaled(10); ++i) {
      memstream_resize_report_t report{};
      report.struct_size = sizeof report;
      CHECK(memstream_resize(own, kSegmentSize * (1 + (i + 1) % 2), &report) == CACHE_OK);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));  // One call goes over to seven successors at most.
    }
    is_over = true;
  });
  const Seen seen = watch(
      cache, keys, [&] { return !is_over; }, descends);
  is_over = true;
  writer.join();
  resizer.join();
  MESSAGE(seen.consistent << " consistent, " << seen.conflicts << " conflicts");
  CHECK(seen.wrong == "");
  CHECK(seen.consistent > 0);
}

}  // namespace
}  // namespace memstream::test
