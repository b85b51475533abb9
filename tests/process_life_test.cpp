// What a process may do to itself in the middle of what its other threads are at: disconnect, and cancel one of them.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "api/cache.h"
#include "tests/support/child_process.h"
#include "tests/support/scale.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

TEST_CASE("cancelling a thread ends it after the call that it is in, and not inside") {
  const char* backend = std::getenv("MEMSTREAM_BACKEND");
  if (backend != nullptr && std::string(backend) == "sysv") {
    MESSAGE("skipped: on System V nobody polls for the lock of creation");
    return;
  }
  const TemporarySegment segment("cancel", 2 << 20, 1, 400);
  CHECK(in_child([&]() -> Complaint {
          // A creator that is stopped: it has the lock, and the object has no size yet.
          const int file = ::open(("/dev/shm/memstream." + segment.spec().name).c_str(), O_RDWR | O_CREAT, 0600);
          if (file < 0 || ::flock(file, LOCK_EX) != 0) return "flock";
          std::atomic<int> status{1};
          std::thread waiting([&] {
            memstream_t* cache = nullptr;
            const memstream_options_t options = segment.spec().options();
            status = memstream_open(&options, &cache);
            for (;;) ::pause();  // Here the cancellation takes effect.
          });
          std::this_thread::sleep_for(std::chrono::milliseconds(50));
          ::pthread_cancel(waiting.native_handle());
          waiting.join();
          return status == CACHE_BUSY ? "" : "opening came to " + std::to_string(status);
        }) == "");
  const OpenCache cache(segment.spec());
  CHECK(memstream_set(cache, "key", 3, "value", 5, 0, 0) == CACHE_OK);
}

TEST_CASE("disconnecting waits for the calls under way, and not for those that keep coming") {
  const TemporarySegment segment("disconnect", 2 << 20, 1, 5000);
  ::setenv("MEMSTREAM_NAME", segment.spec().name.c_str(), 1);
  ::setenv("MEMSTREAM_SIZE", "2M", 1);
  ::setenv("MEMSTREAM_TIMEOUT_MS", "5000", 1);
  std::atomic<bool> is_over{false};
  std::atomic<int> strange{CACHE_OK};
  constexpr int kCallers = 32;
  std::vector<std::thread> callers;
  for (int i = 0; i < kCallers; ++i) {
    callers.emplace_back([&] {
      while (!is_over) {
        char room[16];
        std::size_t size = sizeof room;
        for (const int status : {cache_put("key", "value", 5), cache_get("key", room, &size)}) {
          if (status < 0 && status != CACHE_NOT_CONNECTED) strange = status;
        }
      }
    });
  }
  std::chrono::steady_clock::duration longest{};
  const int rounds = scaled(20);
  for (int round = 0; round < rounds; ++round) {
    CHECK(cache_connect() == CACHE_OK);
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    const auto begin = std::chrono::steady_clock::now();
    CHECK(cache_disconnect() == CACHE_OK);
    longest = std::max(longest, std::chrono::steady_clock::now() - begin);
  }
  // Coming here is what is asked: with so many callers there is hardly a moment without a call under way.
  is_over = true;
  for (std::thread& caller : callers) caller.join();
  CHECK_MESSAGE(strange == CACHE_OK, strange.load());
  MESSAGE("longest disconnect " << std::chrono::duration_cast<std::chrono::microseconds>(longest).count() << " us");
  const OpenCache cache(segment.spec());
  CHECK(stats_of(cache).processes == 1);
  CHECK(problems_of(cache) == "");
}

}  // namespace
}  // namespace memstream::test
