// Replacing a segment by one of another size, seen by the processes that use it.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/child_process.h"
#include "tests/support/ledger.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kSize = 8 << 20;
constexpr std::uint64_t kOtherSize = 24 << 20;

int resize(memstream_t* cache, std::uint64_t size_bytes) {
  memstream_resize_report_t report{};
  report.struct_size = sizeof report;
  return memstream_resize(cache, size_bytes, &report);
}

int set(memstream_t* cache, const std::string& key, const std::string& value, std::uint64_t ttl_ms = 0,
        std::uint32_t flags = 0) {
  return memstream_set(cache, key.data(), key.size(), value.data(), value.size(), ttl_ms, flags);
}

// The value, or "status N".
std::string get(memstream_t* cache, const std::string& key, memstream_meta_t* meta = nullptr) {
  std::string value(1 << 20, '\0');
  std::size_t size = value.size();
  const int status = memstream_get(cache, key.data(), key.size(), value.data(), &size, meta);
  value.resize(size);
  return status == CACHE_OK ? value : "status " + std::to_string(status);
}

memstream_info_t info_of(memstream_t* cache) {
  memstream_info_t info{};
  info.struct_size = sizeof info;
  REQUIRE(memstream_info(cache, &info) == CACHE_OK);
  return info;
}

memstream_entry_t entry_of(memstream_t* cache, const std::string& key) {
  memstream_entry_t entry{};
  REQUIRE(memstream_entry_info(cache, key.data(), key.size(), &entry) == CACHE_OK);
  return entry;
}

// Mappings of this process that are as large as a segment of `size_bytes`.
int mappings_of(std::uint64_t size_bytes) {
  std::ifstream maps("/proc/self/maps");
  std::string line;
  std::uint64_t total = 0;
  while (std::getline(maps, line)) {
    if (line.find("memstream") == std::string::npos && line.find("SYSV") == std::string::npos) continue;
    const std::size_t dash = line.find('-');
    total += std::stoull(line.substr(dash + 1), nullptr, 16) - std::stoull(line.substr(0, dash), nullptr, 16);
  }
  return static_cast<int>(total / size_bytes);
}

TEST_CASE("all that is known of an entry goes with it") {
  const TemporarySegment segment("resize", kSize);
  const OpenCache cache(segment.spec());
  const OpenCache other(segment.spec());
  REQUIRE(set(cache, "plain", "value", 0, 7) == CACHE_OK);
  REQUIRE(set(cache, "expiring", "soon", 3'600'000) == CACHE_OK);
  REQUIRE(set(cache, "large", std::string(300'000, 'l')) == CACHE_OK);
  REQUIRE(set(cache, "empty", "") == CACHE_OK);
  for (int i = 0; i < 5; ++i) CHECK(get(cache, "plain") == "value");
  const memstream_entry_t before = entry_of(cache, "plain");
  memstream_meta_t expiring{};
  get(cache, "expiring", &expiring);
  const memstream_info_t old_info = info_of(cache);

  for (const std::uint64_t size : {kOtherSize, kSize}) {
    CAPTURE(size);
    REQUIRE(resize(cache, size) == CACHE_OK);
    CHECK(info_of(cache).size_bytes == size);
    for (memstream_t* const client : {static_cast<memstream_t*>(cache), static_cast<memstream_t*>(other)}) {
      memstream_meta_t meta{};
      CHECK(get(client, "plain", &meta) == "value");
      CHECK(meta.flags == 7);
      CHECK(get(client, "expiring", &meta) == "soon");
      CHECK(meta.expires_at_ms == expiring.expires_at_ms);
      CHECK(meta.created_at_ms == expiring.created_at_ms);
      CHECK(get(client, "large") == std::string(300'000, 'l'));
      CHECK(get(client, "empty") == "");
      CHECK(info_of(client).size_bytes == size);
    }
  }
  CHECK(std::memcmp(old_info.uuid, info_of(cache).uuid, sizeof old_info.uuid) != 0);
  CHECK(entry_of(cache, "plain").access_count >= before.access_count);
  CHECK(entry_of(cache, "plain").created_at_ms == before.created_at_ms);
  CHECK(stats_of(other).entries == 4);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("a call of each kind goes on in the successor") {
  const TemporarySegment segment("resize-calls", kSize);
  const OpenCache cache(segment.spec());
  const OpenCache other(segment.spec());
  std::uint64_t size = kSize;
  // Each call is the first one of `other` after a resize.
  const auto next = [&] {
    size = size == kSize ? kOtherSize : kSize;
    REQUIRE(resize(cache, size) == CACHE_OK);
  };
  const std::int64_t one = 1;
  std::int64_t number = 0;
  next();
  CHECK(set(other, "key", "1") == CACHE_OK);
  next();
  CHECK(get(other, "key") == "1");
  next();
  CHECK(get(other, "absent") == "status 1");
  next();
  CHECK(memstream_add(other, "key", 3, "2", 1, 0, 0) == CACHE_EXISTS);
  next();
  CHECK(memstream_replace(other, "key", 3, "3", 1, 0, 0) == CACHE_OK);
  next();
  CHECK(memstream_touch(other, "key", 3, 100'000) == CACHE_OK);
  next();
  CHECK(memstream_incr(other, "key", 3, 2, &one, 0, &number) == CACHE_OK);
  CHECK(number == 5);
  next();
  CHECK(memstream_exists(other, "key", 3) == CACHE_OK);
  next();
  memstream_item_t items[3] = {};
  const auto fill = [&](const char* key, const char* value) {
    for (memstream_item_t& item : items) {
      item = {};
      item.key = key;
      item.key_size = std::strlen(key);
      item.value = value;
      item.value_size = std::strlen(value);
    }
  };
  fill("key", "");
  items[1].key = "absent";
  items[1].key_size = 6;
  char room[64];
  std::size_t room_size = sizeof room;
  CHECK(memstream_get_many(other, items, 3, room, &room_size) == CACHE_OK);
  CHECK(items[0].status == CACHE_OK);
  CHECK(items[1].status == CACHE_MISS);
  CHECK(std::string(static_cast<const char*>(items[2].value), items[2].value_size) == "5");
  next();
  fill("many", "v");
  CHECK(memstream_set_many(other, items, 3) == CACHE_OK);
  next();
  CHECK(memstream_delete_many(other, items, 1) == CACHE_OK);
  next();
  std::uint64_t lease = 0;
  CHECK(memstream_lease(other, "leased", 6, 0, 0, &lease) == CACHE_OK);
  next();
  CHECK(memstream_lease_wait(other, "leased", 6, 1000) == CACHE_OK);
  CHECK(memstream_lease_fulfil(other, "leased", 6, "old", 3, 0, 0, lease) == CACHE_CONFLICT);
  next();
  CHECK(memstream_lease_release(other, "leased", 6, lease) == CACHE_CONFLICT);
  next();
  std::uint64_t cursor = 0;
  std::size_t count = 0;
  memstream_entry_t entries[4];
  CHECK(memstream_scan(other, &cursor, entries, 4, &count) == CACHE_OK);
  CHECK(count == 1);
  next();
  memstream_process_t processes[4];
  CHECK(memstream_processes(other, processes, 4, &count) == CACHE_OK);
  next();
  memstream_reservation_t reservation{};
  CHECK(memstream_reserve(other, "reserved", 8, 4, &reservation) == CACHE_OK);
  std::memcpy(reservation.data, "made", 4);
  next();
  CHECK(memstream_commit(other, &reservation, 0, 0) == CACHE_OK);
  CHECK(get(cache, "reserved") == "made");
  CHECK(memstream_reserve(other, "reserved", 8, 4, &reservation) == CACHE_OK);
  next();
  CHECK(memstream_abort(other, &reservation) == CACHE_OK);
  next();
  CHECK(memstream_clear(other) == CACHE_OK);
  CHECK(stats_of(cache).entries == 0);
  next();
  CHECK(memstream_destroy(other) == CACHE_OK);
  CHECK(set(cache, "key", "v") == CACHE_GONE);
}

TEST_CASE("a token of the old segment fits no entry of the new one") {
  const TemporarySegment segment("resize-token", kSize);
  const OpenCache cache(segment.spec());
  memstream_meta_t meta{};
  REQUIRE(set(cache, "key", "1") == CACHE_OK);
  REQUIRE(get(cache, "key", &meta) == "1");
  const std::uint64_t old_token = meta.cas;
  REQUIRE(resize(cache, kOtherSize) == CACHE_OK);
  CHECK(memstream_cas(cache, "key", 3, "2", 1, 0, 0, old_token) == CACHE_CONFLICT);
  REQUIRE(get(cache, "key", &meta) == "1");
  CHECK(memstream_cas(cache, "key", 3, "2", 1, 0, 0, meta.cas) == CACHE_OK);
}

TEST_CASE("views stay valid, and the old memory goes with the last of them") {
  const TemporarySegment segment("resize-views", kSize);
  const OpenCache cache(segment.spec());
  REQUIRE(set(cache, "key", "as it was") == CACHE_OK);
  memstream_view_t views[9] = {};
  std::uint64_t size = kSize;
  for (int i = 0; i < 7; ++i) {
    CAPTURE(i);
    REQUIRE(memstream_view(cache, "key", 3, &views[i]) == CACHE_OK);
    size = size == kSize ? kOtherSize : kSize;
    REQUIRE(resize(cache, size) == CACHE_OK);
  }
  REQUIRE(set(cache, "key", "as it is") == CACHE_OK);
  for (int i = 0; i < 7; ++i) CHECK(std::string(static_cast<const char*>(views[i].data), views[i].size) == "as it was");
  CHECK(mappings_of(kSize) >= 7);

  SUBCASE("more than that are refused, until one is released") {
    REQUIRE(memstream_view(cache, "key", 3, &views[7]) == CACHE_OK);
    CHECK(resize(cache, kSize) == CACHE_GONE);
    CHECK(std::string(cache_last_error()).find("views") != std::string::npos);
    CHECK(get(cache, "key") == "status " + std::to_string(CACHE_GONE));
    REQUIRE(memstream_release(cache, &views[3]) == CACHE_OK);
    CHECK(get(cache, "key") == "as it is");
    REQUIRE(memstream_release(cache, &views[7]) == CACHE_OK);
  }
  for (memstream_view_t& view : views) {
    if (view.token != 0) CHECK(memstream_release(cache, &view) == CACHE_OK);
  }
  memstream_view_t again = views[0];
  again.token = 1ULL << 63;
  CHECK(memstream_release(cache, &again) == CACHE_BAD_HANDLE);
  // A call that looks around finds them unused.
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  stats_of(cache);
  CHECK(mappings_of(kSize) <= 3);
}

TEST_CASE("a forked child keeps the views of its parent, and follows by itself") {
  const TemporarySegment segment("resize-fork", kSize);
  const OpenCache cache(segment.spec());
  const OpenCache other(segment.spec());
  REQUIRE(set(cache, "key", "inherited") == CACHE_OK);
  memstream_view_t view{};
  REQUIRE(memstream_view(cache, "key", 3, &view) == CACHE_OK);
  const Signal resized;
  ChildProcess child([&]() -> Complaint {
    resized.wait();
    if (get(cache, "key") != "changed") return "the child does not follow";
    stats_of(cache);
    if (std::string(static_cast<const char*>(view.data), view.size) != "inherited") return "the view has changed";
    return "";
  });
  REQUIRE(resize(other, kOtherSize) == CACHE_OK);
  REQUIRE(set(other, "key", "changed") == CACHE_OK);
  resized.post();
  CHECK(child.wait() == "");
  CHECK(memstream_release(cache, &view) == CACHE_OK);
}

TEST_CASE("a read-only handle follows, and does not resize") {
  const TemporarySegment segment("resize-reader", kSize);
  const OpenCache cache(segment.spec());
  REQUIRE(set(cache, "key", "value") == CACHE_OK);
  memstream_options_t options = segment.spec().options();
  options.flags = MEMSTREAM_OPEN_READ_ONLY;
  const OpenCache reader(options);
  CHECK(resize(reader, kOtherSize) == CACHE_READ_ONLY);
  REQUIRE(resize(cache, kOtherSize) == CACHE_OK);
  REQUIRE(set(cache, "key", "new") == CACHE_OK);
  CHECK(get(reader, "key") == "new");
  CHECK(info_of(reader).size_bytes == kOtherSize);
}

TEST_CASE("a smaller segment keeps the entries that are read") {
  const TemporarySegment segment("resize-hot", kOtherSize);
  const OpenCache cache(segment.spec());
  const std::string value(1000, 'v');
  constexpr int kKeys = 12'000;
  for (int i = 0; i < kKeys; ++i) REQUIRE(set(cache, "key-" + std::to_string(i), value) == CACHE_OK);
  for (int pass = 0; pass < 3; ++pass) {
    for (int i = 0; i < kKeys; i += 10) get(cache, "key-" + std::to_string(i));
  }
  REQUIRE(resize(cache, 4 << 20) == CACHE_OK);
  int hot = 0;
  for (int i = 0; i < kKeys; i += 10)
    hot += memstream_exists(cache, ("key-" + std::to_string(i)).c_str(), std::to_string(i).size() + 4) == CACHE_OK;
  CHECK(hot == kKeys / 10);
  CHECK(stats_of(cache).entries > kKeys / 5);
  CHECK(stats_of(cache).entries < kKeys / 2);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("what is refused leaves the segment as it was") {
  const TemporarySegment segment("resize-refused", kSize, 2, 200);
  const OpenCache cache(segment.spec());
  REQUIRE(set(cache, "key", "value") == CACHE_OK);
  const memstream_info_t before = info_of(cache);
  CHECK(resize(cache, 1000) == CACHE_BAD_SIZE);
  memstream_resize_report_t report{};
  CHECK(memstream_resize(cache, kOtherSize, &report) == CACHE_INVALID);
  CHECK(memstream_resize(cache, kOtherSize, nullptr) == CACHE_INVALID);
  CHECK(memstream_resize(nullptr, kOtherSize, &report) == CACHE_INVALID);
  CHECK(resize(cache, std::uint64_t{1} << 50) == CACHE_BAD_SIZE);
  CHECK(std::memcmp(before.uuid, info_of(cache).uuid, sizeof before.uuid) == 0);
  CHECK(get(cache, "key") == "value");

  REQUIRE(memstream_destroy(cache) == CACHE_OK);
  CHECK(resize(cache, kOtherSize) == CACHE_GONE);
}

// The segments of this machine whose names begin with `name`.
std::vector<std::string> segments_of(const std::string& name) {
  std::vector<memstream_segment_t> segments(256);
  std::vector<std::string> found;
  for (std::size_t number = 0; memstream_backend_name(number) != nullptr; ++number) {
    std::size_t count = 0;
    if (memstream_segments(memstream_backend_name(number), segments.data(), sizeof segments[0], segments.size(),
                           &count) != CACHE_OK) {
      throw std::runtime_error(cache_last_error());
    }
    for (std::size_t i = 0; i < std::min(count, segments.size()); ++i) {
      if (std::string(segments[i].name).starts_with(name)) found.emplace_back(segments[i].name);
    }
  }
  return found;
}

constexpr std::uint64_t kLargeSize = 64 << 20;
constexpr std::uint64_t kLargerSize = 96 << 20;
constexpr int kLargeKeys = 200;
constexpr std::int64_t kPatience = 60'000;

// A process that resizes a large segment again and again, until it is told.
class Resizer {
 public:
  explicit Resizer(const CacheSpec& spec, int keys = kLargeKeys)
      : name_(spec.name), process_([this, &spec, keys]() -> Complaint {
          const OpenCache own(spec);
          const std::string value(200'000, 'v');
          for (int i = 0; i < keys; ++i) {
            if (set(own, std::to_string(i), value) != CACHE_OK) return cache_last_error();
          }
          for (std::uint64_t size = kLargerSize; !shared_[0].is_over; size = kLargeSize + kLargerSize - size) {
            shared_[0].size = size;
            if (resize(own, size) != CACHE_OK) return cache_last_error();
          }
          return "";
        }) {
    wait_for_copying();
  }
  Resizer(const Resizer&) = delete;
  Resizer& operator=(const Resizer&) = delete;
  ~Resizer() {
    if (waker_.joinable()) waker_.join();
  }

  // Stops it in the middle of a resize, which is its last one. Returns the size that it gives to the segment.
  std::uint64_t stop() {
    for (;;) {
      process_.send_signal(SIGSTOP);
      REQUIRE(::waitpid(process_.id(), nullptr, WUNTRACED) == process_.id());
      if (is_copying()) break;
      process_.send_signal(SIGCONT);
      wait_for_copying();
    }
    shared_[0].is_over = true;
    return shared_[0].size;
  }
  // Gives the caller time to come and wait.
  void go_on_soon() {
    waker_ = std::thread([this] {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      process_.send_signal(SIGCONT);
    });
  }
  Complaint end() {
    shared_[0].is_over = true;
    return process_.wait();
  }
  // As end(), where its new segment may be destroyed before it has attached to it.
  Complaint end_of_destroyed() {
    const Complaint complaint = end();
    return complaint.find("cannot attach to its successor") == std::string::npos ? complaint : "";
  }

 private:
  struct Shared {
    std::atomic<std::uint64_t> size;
    std::atomic<bool> is_over;
  };

  bool is_copying() const {
    const std::vector<std::string> names = segments_of(name_);
    return std::find(names.begin(), names.end(), name_ + "+next") != names.end();
  }
  void wait_for_copying() const {
    while (!is_copying()) std::this_thread::yield();
  }

  std::string name_;
  SharedArray<Shared> shared_{1};
  ChildProcess process_;
  std::thread waker_;
};

TEST_CASE("who waited for another resizer resizes its successor") {
  const TemporarySegment segment("resize-twice", kLargeSize, 0, kPatience);
  const OpenCache cache(segment.spec());
  Resizer other(segment.spec());
  const std::uint64_t old_bytes = other.stop();
  other.go_on_soon();
  memstream_resize_report_t report{};
  report.struct_size = sizeof report;
  const int status = memstream_resize(cache, kLargeSize + kSize, &report);
  const std::string message = cache_last_error();
  CAPTURE(message);
  CHECK(status == CACHE_OK);
  CHECK(other.end() == "");
  CHECK(report.old_bytes == old_bytes);
  CHECK(report.new_bytes == kLargeSize + kSize);
  CHECK(info_of(cache).size_bytes == kLargeSize + kSize);
  CHECK(stats_of(cache).entries == kLargeKeys);
  CHECK(problems_of(cache) == "");
  CHECK(segments_of(segment.spec().name).size() == 1);
}

TEST_CASE("who waits for another resizer gives up at the deadline") {
  const TemporarySegment segment("resize-busy", kLargeSize, 0, 200);
  const OpenCache cache(segment.spec());
  CacheSpec patient = segment.spec();
  patient.timeout_ms = kPatience;
  Resizer other(patient);
  const std::uint64_t size = other.stop();
  CHECK(resize(cache, kLargeSize + kSize) == CACHE_BUSY);
  other.go_on_soon();
  CHECK(other.end() == "");
  CHECK(info_of(cache).size_bytes == size);
}

TEST_CASE("who competes with a resizer that never rests has its turn") {
  const TemporarySegment segment("resize-compete", kLargeSize, 0, kPatience);
  const OpenCache cache(segment.spec());
  Resizer other(segment.spec(), 10);
  // With a second thread, no segment that a call has left can go before the call ends.
  std::atomic<bool> is_over = false;
  std::thread second([&] {
    while (!is_over) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  for (int i = 0; i < 20; ++i) {
    CAPTURE(i);
    const int status = resize(cache, kLargeSize + kSize);
    const std::string message = status == CACHE_OK ? "" : cache_last_error();
    CAPTURE(message);
    CHECK(status == CACHE_OK);
  }
  is_over = true;
  second.join();
  CHECK(other.end() == "");
  CHECK(stats_of(cache).entries == 10);
  CHECK(segments_of(segment.spec().name).size() == 1);
}

TEST_CASE("who destroys a segment while it is resized destroys the successor") {
  const TemporarySegment segment("resize-destroy", kLargeSize, 0, kPatience);
  SUBCASE("by a handle") {
    const OpenCache cache(segment.spec());
    Resizer other(segment.spec());
    other.stop();
    other.go_on_soon();
    const int status = memstream_destroy(cache);
    const std::string message = cache_last_error();
    CAPTURE(message);
    CHECK(status == CACHE_OK);
    CHECK(other.end_of_destroyed() == "");
  }
  SUBCASE("by its name") {
    Resizer other(segment.spec());
    other.stop();
    other.go_on_soon();
    const memstream_options_t options = segment.spec().options();
    CHECK(memstream_destroy_named(&options) == CACHE_OK);
    CHECK(other.end_of_destroyed() == "");
  }
  SUBCASE("by the small interface") {
    CHECK(in_child([&]() -> Complaint {
            ::setenv("MEMSTREAM_NAME", segment.spec().name.c_str(), 1);
            ::setenv("MEMSTREAM_SIZE", std::to_string(kLargeSize).c_str(), 1);
            ::setenv("MEMSTREAM_TIMEOUT_MS", std::to_string(kPatience).c_str(), 1);
            if (cache_connect() != CACHE_OK) return cache_last_error();
            Resizer other(segment.spec());
            other.stop();
            other.go_on_soon();
            if (cache_destroy() != CACHE_OK) return cache_last_error();
            return other.end_of_destroyed();
          }) == "");
  }
  CHECK(segments_of(segment.spec().name).empty());
}

TEST_CASE("a segment with checksums keeps them") {
  const TemporarySegment segment("resize-checksum", kSize);
  memstream_options_t options = segment.spec().options();
  options.checksum = "on";
  const OpenCache cache(options);
  REQUIRE(set(cache, "key", "value", 0, 3) == CACHE_OK);
  REQUIRE(resize(cache, kOtherSize) == CACHE_OK);
  memstream_meta_t meta{};
  CHECK(get(cache, "key", &meta) == "value");
  CHECK(meta.flags == 3);
  memstream_repair_report_t report{};
  report.struct_size = sizeof report;
  CHECK(memstream_repair(cache, &report) == CACHE_OK);
  CHECK(report.damaged_values == 0);
  CHECK(report.entries == 1);
}

}  // namespace
}  // namespace memstream::test
