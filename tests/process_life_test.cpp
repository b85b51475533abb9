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

}  // namespace
}  // namespace memstream::test
