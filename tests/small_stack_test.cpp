// Threads with little stack, as servers have many of: no call of the C interface takes more than 8 KiB of it.
#include <doctest/doctest.h>
#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "api/cache.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr std::size_t kKiB = 1024;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::size_t kStack = 512 * kKiB;  // Sanitizers put zones around all that lies there.
constexpr std::size_t kMost = 256 * kKiB;
#else
constexpr std::size_t kStack = 32 * kKiB;
constexpr std::size_t kMost = 8 * kKiB;
#endif

// Memory for the stack of a thread, which tells how far down it was written.
class PaintedStack {
 public:
  PaintedStack() {
    void* const memory = ::mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    bytes_ = static_cast<unsigned char*>(memory);
    std::memset(bytes_, kPaint, kStack);
  }
  PaintedStack(const PaintedStack&) = delete;
  PaintedStack& operator=(const PaintedStack&) = delete;
  ~PaintedStack() { ::munmap(bytes_, kStack); }

  void run(const std::function<void()>& body) {
    pthread_attr_t attributes;
    REQUIRE(pthread_attr_init(&attributes) == 0);
    REQUIRE(pthread_attr_setstack(&attributes, bytes_, kStack) == 0);
    pthread_t thread;
    const auto entry = [](void* argument) -> void* {
      (*static_cast<const std::function<void()>*>(argument))();
      return nullptr;
    };
    REQUIRE(pthread_create(&thread, &attributes, entry, const_cast<std::function<void()>*>(&body)) == 0);
    REQUIRE(pthread_join(thread, nullptr) == 0);
    pthread_attr_destroy(&attributes);
  }
  std::size_t used() const {
    const unsigned char* const lowest = std::find_if(bytes_, bytes_ + kStack, [](auto byte) { return byte != kPaint; });
    return static_cast<std::size_t>(bytes_ + kStack - lowest);
  }

 private:
  static constexpr unsigned char kPaint = 0xa5;
  unsigned char* bytes_;
};

// What `body` takes of a stack beyond what a thread has there anyway.
std::size_t stack_of(const std::function<void()>& body) {
  PaintedStack idle;
  idle.run([] {});
  PaintedStack busy;
  busy.run(body);
  return busy.used() - std::min(busy.used(), idle.used());
}

struct NamedCall {
  const char* name;
  std::function<int()> call;
};

TEST_CASE("no call takes more than 8 KiB of the stack, and each works in a thread that has 32") {
  const TemporarySegment segment("stack", 8 * kKiB * kKiB);
  const OpenCache cache(segment.spec());
  const memstream_options_t options = segment.spec().options();
  ::setenv("MEMSTREAM_NAME", segment.spec().name.c_str(), 1);

  // What the calls work with lies elsewhere: the caller's stack is the caller's affair.
  constexpr std::size_t kItems = 400;
  std::vector<std::string> keys;
  for (std::size_t i = 0; i < kItems; ++i) keys.push_back("item-" + std::to_string(i));
  std::string value(100, 'v');
  std::vector<memstream_item_t> items(kItems);
  const auto fill_items = [&] {
    for (std::size_t i = 0; i < kItems; ++i) {
      items[i] = {};
      items[i].key = keys[i].data();
      items[i].key_size = keys[i].size();
      items[i].value = value.data();
      items[i].value_size = value.size();
    }
  };
  fill_items();
  std::vector<char> room(kItems * 128);
  std::size_t room_size = room.size();
  std::string large(300 * kKiB, 'l');
  std::vector<char> large_room(large.size());
  memstream_meta_t meta{};
  memstream_view_t view{};
  memstream_reservation_t reservation{};
  std::vector<memstream_entry_t> entries(4);
  std::vector<memstream_process_t> processes(4);
  std::vector<memstream_segment_t> segments(2);
  memstream_info_t info{};
  info.struct_size = sizeof info;
  cache_stats_t stats{};
  stats.struct_size = sizeof stats;
  memstream_t* another = nullptr;
  std::uint64_t token = 0, cursor = 0, problems = 0;
  std::int64_t number = 0;
  std::size_t count = 0, size = 0;
  const std::string long_key(2000, 'k');

  const NamedCall calls[] = {
      {"memstream_open", [&] { return memstream_open(&options, &another); }},
      {"memstream_close", [&] { return memstream_close(another); }},
      {"memstream_set", [&] { return memstream_set(cache, "key", 3, "value", 5, 0, 0); }},
      {"memstream_set of a large value",
       [&] { return memstream_set(cache, "l", 1, large.data(), large.size(), 0, 0); }},
      {"memstream_get", [&] { return size = 100, memstream_get(cache, "key", 3, room.data(), &size, &meta); }},
      {"memstream_get of a large value",
       [&] { return size = large.size(), memstream_get(cache, "l", 1, large_room.data(), &size, &meta); }},
      {"memstream_add", [&] { return memstream_add(cache, "added", 5, "value", 5, 0, 0); }},
      {"memstream_replace", [&] { return memstream_replace(cache, "added", 5, "other", 5, 0, 0); }},
      {"memstream_cas", [&] { return memstream_cas(cache, "key", 3, "value", 5, 0, 0, 1) - CACHE_CONFLICT; }},
      {"memstream_touch", [&] { return memstream_touch(cache, "key", 3, 1000); }},
      {"memstream_incr", [&] { return memstream_incr(cache, "n", 1, 1, &number, 0, &number); }},
      {"memstream_exists", [&] { return memstream_exists(cache, "key", 3); }},
      {"memstream_set_many", [&] { return memstream_set_many(cache, items.data(), kItems); }},
      {"memstream_get_many", [&] { return memstream_get_many(cache, items.data(), kItems, room.data(), &room_size); }},
      {"memstream_delete_many", [&] { return memstream_delete_many(cache, items.data(), kItems); }},
      {"memstream_lease", [&] { return memstream_lease(cache, "leased", 6, 0, 1000, &token); }},
      {"memstream_lease_release", [&] { return memstream_lease_release(cache, "leased", 6, token); }},
      {"memstream_lease_wait", [&] { return memstream_lease_wait(cache, "leased", 6, 0); }},
      {"memstream_view", [&] { return memstream_view(cache, "key", 3, &view); }},
      {"memstream_release", [&] { return memstream_release(cache, &view); }},
      {"memstream_reserve", [&] { return memstream_reserve(cache, "r", 1, large.size(), &reservation); }},
      {"memstream_commit", [&] { return memstream_commit(cache, &reservation, 0, 0); }},
      {"memstream_scan", [&] { return memstream_scan(cache, &cursor, entries.data(), entries.size(), &count); }},
      {"memstream_entry_info", [&] { return memstream_entry_info(cache, "key", 3, entries.data()); }},
      {"memstream_stats", [&] { return memstream_stats(cache, &stats); }},
      {"memstream_info", [&] { return memstream_info(cache, &info); }},
      {"memstream_processes", [&] { return memstream_processes(cache, processes.data(), processes.size(), &count); }},
      {"memstream_check", [&] { return memstream_check(cache, &problems); }},
      {"memstream_segments",
       [&] { return memstream_segments(memstream_backend_name(0), segments.data(), sizeof segments[0], 2, &count); }},
      {"an error", [&] { return memstream_set(cache, long_key.data(), long_key.size(), "", 0, 0, 0) - CACHE_BAD_KEY; }},
      {"memstream_delete", [&] { return memstream_delete(cache, "key", 3); }},
      {"memstream_clear", [&] { return memstream_clear(cache); }},
      {"cache_connect", [&] { return cache_connect(); }},
      {"cache_put", [&] { return cache_put("k", "value", 5); }},
      {"cache_get", [&] { return size = 100, cache_get("k", room.data(), &size); }},
      {"cache_get_stats", [&] { return cache_get_stats(&stats); }},
      {"cache_delete", [&] { return cache_delete("k"); }},
      {"cache_disconnect", [&] { return cache_disconnect(); }},
  };
  for (const NamedCall& named : calls) {
    const std::string name = named.name;
    CAPTURE(name);
    int status = CACHE_OK;
    const std::size_t used = stack_of([&] { status = named.call(); });
    CHECK(status == CACHE_OK);
    CHECK(used <= kMost);
    if (used > kMost / 2) MESSAGE(name << " takes " << used << " bytes of the stack");
  }
}

}  // namespace
}  // namespace memstream::test
