// Threads that use the default connection, or a handle, while another one connects, disconnects, opens and closes.
#include <doctest/doctest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "api/cache.h"
#include "tests/support/child_process.h"
#include "tests/support/page_map.h"
#include "tests/support/scale.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr int kThreads = 4;
constexpr int kKeys = 64;

std::string key_of(int number) { return "user:" + std::to_string(10'000'000 + number); }
std::string value_of(int number) { return std::string(60, 'v') + std::to_string(1000 + number); }

// What is wrong with the answer to a get of that key, if anything.
std::string complaint_of(int status, int number, const char* value, std::size_t size) {
  if (status == CACHE_NOT_CONNECTED || status == CACHE_MISS) return "";
  if (status != CACHE_OK) return std::string("a get: ") + cache_last_error();
  return std::string(value, size) == value_of(number) ? "" : "a get of " + key_of(number) + " brings another value";
}

std::string get_by_connection(int number) {
  char value[128];
  std::size_t size = sizeof value;
  const int status = cache_get(key_of(number).c_str(), value, &size);
  return complaint_of(status, number, value, size);
}

std::string get_by_handle(memstream_t* cache, int number) {
  char value[128];
  std::size_t size = sizeof value;
  const std::string key = key_of(number);
  const int status = memstream_get(cache, key.data(), key.size(), value, &size, nullptr);
  return complaint_of(status, number, value, size);
}

// Threads that run `work(number)` again and again until stop().
class Workers {
 public:
  template <class Work>
  explicit Workers(Work work) {
    for (int thread = 0; thread < kThreads; ++thread) {
      threads_.emplace_back([this, work, thread] {
        for (int i = thread; !is_over_; ++i) {
          const std::string complaint = work(i % kKeys);
          calls_.fetch_add(1, std::memory_order_relaxed);
          if (complaint.empty()) continue;
          const std::lock_guard guard(mutex_);
          complaints_ += complaint + "\n";
          is_over_ = true;
          return;
        }
      });
    }
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  ~Workers() { stop(); }

  // What went wrong.
  std::string stop() {
    is_over_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    return complaints_;
  }
  void await_calls(std::uint64_t calls) const {
    const std::uint64_t end = calls_.load(std::memory_order_relaxed) + calls;
    while (calls_.load(std::memory_order_relaxed) < end && !is_over_) std::this_thread::yield();
  }

 private:
  std::atomic<bool> is_over_{false};
  std::atomic<std::uint64_t> calls_{0};
  std::mutex mutex_;
  std::string complaints_;
  std::vector<std::thread> threads_;
};

void set_environment(const CacheSpec& spec) {
  REQUIRE(::setenv("MEMSTREAM_NAME", spec.name.c_str(), 1) == 0);
  REQUIRE(::setenv("MEMSTREAM_SIZE", std::to_string(spec.size_bytes).c_str(), 1) == 0);
}

void put_all(memstream_t* cache) {
  for (int number = 0; number < kKeys; ++number) {
    const std::string key = key_of(number);
    const std::string value = value_of(number);
    REQUIRE(memstream_set(cache, key.data(), key.size(), value.data(), value.size(), 0, 0) == CACHE_OK);
  }
}

// The first of these: a process that has been given the fence goes on with it, and so do its children.
TEST_CASE("a filter that forbids the fence costs nothing but time, from the start or later") {
  const TemporarySegment segment("fence", std::uint64_t{4} << 20);
  for (const bool is_late : {false, true}) {
    CAPTURE(is_late);
    const Complaint complaint = in_child([&]() -> Complaint {
      if (!is_late) {
        if (Complaint obstacle = refuse_system_call(SYS_membarrier, EPERM); !obstacle.empty()) return obstacle;
      }
      const memstream_options_t options = segment.spec().options();
      memstream_t* cache = nullptr;
      if (memstream_open(&options, &cache) != CACHE_OK) return cache_last_error();
      put_all(cache);
      {
        Workers workers([&](int number) { return get_by_handle(cache, number); });
        workers.await_calls(200);
        if (is_late) {
          if (Complaint obstacle = refuse_system_call(SYS_membarrier, EPERM); !obstacle.empty()) return obstacle;
        }
        workers.await_calls(200);
        if (Complaint wrong = workers.stop(); !wrong.empty()) return wrong;
      }
      return memstream_close(cache) == CACHE_OK ? "" : cache_last_error();
    });
    CHECK(complaint == "");
  }
}

TEST_CASE("threads get and put while the connection comes and goes") {
  const TemporarySegment segment("reconnect", std::uint64_t{4} << 20);
  set_environment(segment.spec());
  const OpenCache keeper(segment.spec());
  put_all(keeper);
  REQUIRE(cache_connect() == CACHE_OK);
  Workers workers([](int number) -> std::string {
    if (number % 8 != 0) return get_by_connection(number);
    const std::string value = value_of(number);
    const int status = cache_put(key_of(number).c_str(), value.data(), value.size());
    return status == CACHE_OK || status == CACHE_NOT_CONNECTED ? "" : std::string("a put: ") + cache_last_error();
  });
  const int rounds = scaled(300);
  for (int round = 0; round < rounds; ++round) {
    workers.await_calls(200);
    REQUIRE(cache_disconnect() == CACHE_OK);
    if (round % 2 == 0) workers.await_calls(20);
    REQUIRE(cache_connect() == CACHE_OK);
  }
  CHECK(workers.stop() == "");
  CHECK(problems_of(keeper) == "");
  REQUIRE(cache_disconnect() == CACHE_OK);
}

TEST_CASE("threads get by one handle while others are opened and closed") {
  const TemporarySegment segment("handles", std::uint64_t{4} << 20);
  const OpenCache keeper(segment.spec());
  put_all(keeper);
  for (int round = 0; round < scaled(30); ++round) {
    const OpenCache cache(segment.spec());
    Workers workers([&cache](int number) { return get_by_handle(cache, number); });
    workers.await_calls(500);
    CHECK(workers.stop() == "");
  }
}

TEST_CASE("every get among threads is counted once") {
  const TemporarySegment segment("counts", std::uint64_t{4} << 20);
  const OpenCache cache(segment.spec());
  put_all(cache);
  const cache_stats_t before = stats_of(cache);
  constexpr int kGets = 3000;
  std::vector<std::thread> threads;
  std::atomic<int> complaints{0};
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < kGets; ++i) {
        // One in four is a miss.
        const int number = i % 4 == 0 ? kKeys + i : (thread + i) % kKeys;
        if (!get_by_handle(cache, number).empty()) ++complaints;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(complaints == 0);
  const cache_stats_t after = stats_of(cache);
  CHECK(after.misses - before.misses == std::uint64_t{kThreads} * kGets / 4);
  CHECK(after.hits - before.hits == std::uint64_t{kThreads} * kGets / 4 * 3);
}

// Not with the address sanitizer: its allocator does not survive a fork while another thread allocates.
#if !defined(__SANITIZE_ADDRESS__)
TEST_CASE("a child of a process with threads gets, and closes what it has inherited") {
  const TemporarySegment segment("child", std::uint64_t{4} << 20);
  const OpenCache cache(segment.spec());
  put_all(cache);
  Workers workers([&cache](int number) { return get_by_handle(cache, number); });
  for (int round = 0; round < scaled(20); ++round) {
    workers.await_calls(100);
    const Complaint complaint = in_child([&]() -> Complaint {
      for (int number = 0; number < kKeys; ++number) {
        if (Complaint wrong = get_by_handle(cache, number); !wrong.empty()) return wrong;
      }
      return memstream_close(cache) == CACHE_OK ? "" : cache_last_error();
    });
    CHECK(complaint == "");
  }
  CHECK(workers.stop() == "");
}
#endif

}  // namespace
}  // namespace memstream::test
