// Threads with little stack, as servers have many of: no call of the C interface takes more than 8 KiB of it, and a
// thread with 16 KiB, the least that it may have, can make each.
#include <doctest/doctest.h>
#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <regex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "api/cache.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr std::size_t kKiB = 1024;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(MEMSTREAM_COVERAGE)
// Sanitizers put zones around all that lies there. Builds that count lines keep values there instead of in registers.
constexpr std::size_t kStack = 512 * kKiB;
constexpr std::size_t kMost = 256 * kKiB;
#else
constexpr std::size_t kStack = 16 * kKiB;
constexpr std::size_t kMost = 8 * kKiB;
#endif

// Memory for the stack of a thread, which tells how far down it was written. What writes further down ends the test.
class PaintedStack {
 public:
  PaintedStack() {
    void* const memory = ::mmap(nullptr, kGuard + kStack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    bytes_ = static_cast<unsigned char*>(memory) + kGuard;
    REQUIRE(::mprotect(bytes_, kStack, PROT_READ | PROT_WRITE) == 0);
    std::memset(bytes_, kPaint, kStack);
  }
  PaintedStack(const PaintedStack&) = delete;
  PaintedStack& operator=(const PaintedStack&) = delete;
  ~PaintedStack() { ::munmap(bytes_ - kGuard, kGuard + kStack); }

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
  static constexpr std::size_t kGuard = 64 * kKiB;
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

// Every function that the public headers declare.
std::set<std::string> declared_functions() {
  std::set<std::string> found;
  for (const char* header : {"api/cache.h", "api/memstream.h", "api/memstream_options.h"}) {
    std::ifstream file(std::filesystem::path(MEMSTREAM_SOURCE_DIR) / header);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const std::regex declaration(R"(\nCACHE_API [^(;]*\b((?:cache|memstream)_\w+)\()");
    for (std::sregex_iterator match(text.begin(), text.end(), declaration), end; match != end; ++match) {
      found.insert((*match)[1]);
    }
  }
  return found;
}

TEST_CASE("no call takes more than 8 KiB of the stack, and each works in a thread that has 16") {
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
  memstream_repair_report_t report{};
  memstream_reap_report_t reaped{};
  memstream_resize_report_t resized{};
  reaped.struct_size = sizeof reaped;
  resized.struct_size = sizeof resized;
  report.struct_size = sizeof report;
  const TemporarySegment doomed("doomed", kKiB * kKiB);
  const memstream_options_t doomed_options = doomed.spec().options();
  memstream_options_t fresh_options;
  memstream_t* another = nullptr;
  std::uint64_t token = 0, followed = 0, cursor = 0, problems = 0;
  int in_place = 0;
  std::int64_t number = 0;
  std::size_t count = 0, size = 0;
  const std::string long_key(2000, 'k');

  const NamedCall calls[] = {
      {"memstream_open", [&] { return memstream_open(&options, &another); }},
      {"memstream_open_note", [&] { return memstream_open_note(another) != nullptr ? CACHE_OK : CACHE_INVALID; }},
      {"memstream_close", [&] { return memstream_close(another); }},
      {"memstream_options_init", [&] { return (memstream_options_init)(&fresh_options), CACHE_OK; }},
      {"memstream_options_init_sized",
       [&] { return memstream_options_init_sized(&fresh_options, sizeof fresh_options), CACHE_OK; }},
      {"memstream_version", [&] { return memstream_version() != 0 ? CACHE_OK : CACHE_INVALID; }},
      {"memstream_set", [&] { return memstream_set(cache, "key", 3, "value", 5, 0, 0); }},
      {"memstream_set of a large value",
       [&] { return memstream_set(cache, "l", 1, large.data(), large.size(), 0, 0); }},
      {"memstream_get", [&] { return size = 100, memstream_get(cache, "key", 3, room.data(), &size, &meta); }},
      {"memstream_get of a large value",
       [&] { return size = large.size(), memstream_get(cache, "l", 1, large_room.data(), &size, &meta); }},
      {"memstream_add", [&] { return memstream_add(cache, "added", 5, "value", 5, 0, 0); }},
      {"memstream_replace", [&] { return memstream_replace(cache, "added", 5, "other", 5, 0, 0); }},
      {"memstream_cas", [&] { return memstream_cas(cache, "key", 3, "value", 5, 0, 0, 1) - CACHE_CONFLICT; }},
      {"memstream_touch", [&] { return memstream_touch(cache, "key", 3, 600'000); }},
      {"memstream_get_and_touch",
       [&] { return size = 100, memstream_get_and_touch(cache, "key", 3, 600'000, room.data(), &size, &meta); }},
      {"memstream_get_and_touch of a large value",
       [&] {
         size = large.size();
         return memstream_get_and_touch(cache, "l", 1, 600'000, large_room.data(), &size, &meta);
       }},
      {"memstream_incr", [&] { return memstream_incr(cache, "n", 1, 1, &number, 0, &number); }},
      {"memstream_exists", [&] { return memstream_exists(cache, "key", 3); }},
      {"memstream_set_many", [&] { return memstream_set_many(cache, items.data(), kItems); }},
      {"memstream_get_many", [&] { return memstream_get_many(cache, items.data(), kItems, room.data(), &room_size); }},
      {"memstream_delete_many", [&] { return memstream_delete_many(cache, items.data(), kItems); }},
      {"memstream_set_many_sized",
       [&] { return memstream_set_many_sized(cache, items.data(), sizeof items[0], kItems); }},
      {"memstream_get_many_sized",
       [&] {
         room_size = room.size();
         return memstream_get_many_sized(cache, items.data(), sizeof items[0], kItems, room.data(), &room_size);
       }},
      {"memstream_get_many_consistent",
       [&] {
         room_size = room.size();
         return memstream_get_many_consistent(cache, items.data(), sizeof items[0], kItems, room.data(), &room_size, 0);
       }},
      {"memstream_delete_many_sized",
       [&] { return memstream_delete_many_sized(cache, items.data(), sizeof items[0], kItems); }},
      {"memstream_lease", [&] { return memstream_lease(cache, "leased", 6, 0, 1000, &token); }},
      {"memstream_lease_release", [&] { return memstream_lease_release(cache, "leased", 6, token); }},
      {"memstream_lease_wait", [&] { return memstream_lease_wait(cache, "leased", 6, 0); }},
      {"memstream_lease_follow", [&] { return memstream_lease_follow(cache, "leased", 6, &followed, 0); }},
      {"memstream_wait", [&] { return memstream_wait(cache, "leased", 6, 0, 1) - CACHE_MISS; }},
      {"memstream_lease for a value", [&] { return memstream_lease(cache, "leased", 6, 0, 1000, &token); }},
      {"memstream_lease_fulfil",
       [&] { return memstream_lease_fulfil(cache, "leased", 6, large.data(), large.size(), 0, 0, token); }},
      {"memstream_view", [&] { return memstream_view(cache, "key", 3, &view); }},
      {"memstream_view_in_place", [&] { return memstream_view_in_place(cache, &view, &in_place); }},
      {"memstream_release", [&] { return memstream_release(cache, &view); }},
      {"memstream_reserve", [&] { return memstream_reserve(cache, "r", 1, large.size(), &reservation); }},
      {"memstream_commit", [&] { return memstream_commit(cache, &reservation, 0, 0); }},
      {"memstream_reserve again", [&] { return memstream_reserve(cache, "r", 1, large.size(), &reservation); }},
      {"memstream_abort", [&] { return memstream_abort(cache, &reservation); }},
      {"memstream_scan", [&] { return memstream_scan(cache, &cursor, entries.data(), entries.size(), &count); }},
      {"memstream_entry_info", [&] { return memstream_entry_info(cache, "key", 3, entries.data()); }},
      {"memstream_stats", [&] { return memstream_stats(cache, &stats); }},
      {"memstream_info", [&] { return memstream_info(cache, &info); }},
      {"memstream_processes", [&] { return memstream_processes(cache, processes.data(), processes.size(), &count); }},
      {"memstream_check", [&] { return memstream_check(cache, &problems); }},
      {"memstream_repair", [&] { return memstream_repair(cache, &report); }},
      {"memstream_reap", [&] { return memstream_reap(cache, &reaped); }},
      {"memstream_backend_name", [&] { return memstream_backend_name(0) != nullptr ? CACHE_OK : CACHE_INVALID; }},
      {"memstream_segments",
       [&] { return memstream_segments(memstream_backend_name(0), segments.data(), sizeof segments[0], 2, &count); }},
      {"an error", [&] { return memstream_set(cache, long_key.data(), long_key.size(), "", 0, 0, 0) - CACHE_BAD_KEY; }},
      {"memstream_delete", [&] { return memstream_delete(cache, "key", 3); }},
      {"memstream_resize", [&] { return memstream_resize(cache, 12 * kKiB * kKiB, &resized); }},
      {"memstream_clear", [&] { return memstream_clear(cache); }},
      {"cache_connect", [&] { return cache_connect(); }},
      {"cache_put", [&] { return cache_put("k", "value", 5); }},
      {"cache_get", [&] { return size = 100, cache_get("k", room.data(), &size); }},
      {"cache_get_stats", [&] { return cache_get_stats(&stats); }},
      {"cache_delete", [&] { return cache_delete("k"); }},
      {"cache_strerror", [&] { return cache_strerror(CACHE_FULL) != nullptr ? CACHE_OK : CACHE_INVALID; }},
      {"cache_last_error", [&] { return cache_last_error() != nullptr ? CACHE_OK : CACHE_INVALID; }},
      {"cache_version", [&] { return cache_version() != nullptr ? CACHE_OK : CACHE_INVALID; }},
      {"cache_disconnect", [&] { return cache_disconnect(); }},
      {"memstream_open of another segment", [&] { return memstream_open(&doomed_options, &another); }},
      {"memstream_destroy", [&] { return memstream_destroy(another); }},
      {"memstream_open of it again", [&] { return memstream_open(&doomed_options, &another); }},
      {"memstream_close of it", [&] { return memstream_close(another); }},
      {"memstream_destroy_named", [&] { return memstream_destroy_named(&doomed_options); }},
      {"cache_connect again", [&] { return cache_connect(); }},
      {"cache_destroy", [&] { return cache_destroy(); }},
  };
  std::set<std::string> uncalled = declared_functions();
  REQUIRE(uncalled.size() > 40);
  for (const NamedCall& named : calls) {
    const std::string name = named.name;
    CAPTURE(name);
    uncalled.erase(name);
    int status = CACHE_OK;
    const std::size_t used = stack_of([&] { status = named.call(); });
    CHECK(status == CACHE_OK);
    CHECK(used <= kMost);
    if (used > kMost / 2) MESSAGE(name << " takes " << used << " bytes of the stack");
  }
  for (const std::string& name : uncalled) FAIL_CHECK(name << " is not in the list");
}

}  // namespace
}  // namespace memstream::test
