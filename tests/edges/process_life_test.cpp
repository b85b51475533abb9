// What a process may do to itself in the middle of what its threads are at: disconnect, cancel or end one of them,
// fork, execute another program; and the segment destroyed under all of them.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>
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

TEST_CASE("listing segments is no point at which a thread is cancelled") {
  for (const char* backend : {"posix", "sysv"}) {
    CAPTURE(backend);
    CHECK(in_child([&]() -> Complaint {
            std::atomic<int> status{1};
            std::thread listing([&] {
              std::size_t count = 0;
              ::pthread_cancel(::pthread_self());  // Takes effect at the next point that allows it.
              status = memstream_segments(backend, nullptr, sizeof(memstream_segment_t), 0, &count);
              for (;;) ::pause();
            });
            listing.join();
            return status == CACHE_OK ? "" : "listing came to " + std::to_string(status);
          }) == "");
  }
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

// Threads that put, get and view one key each, all in one shard, until they are told to stop.
class BusyThreads {
 public:
  BusyThreads(memstream_t* cache, int count) {
    for (int i = 0; i < count; ++i) threads_.emplace_back([this, cache, i] { work(cache, i); });
  }
  BusyThreads(const BusyThreads&) = delete;
  BusyThreads& operator=(const BusyThreads&) = delete;
  ~BusyThreads() {
    is_over_ = true;
    for (std::thread& thread : threads_) thread.join();
  }

  pthread_t handle(std::size_t index) { return threads_[index].native_handle(); }
  int strange() const { return strange_; }

 private:
  void work(memstream_t* cache, int number) {
    const std::string key = "thread-" + std::to_string(number);
    while (!is_over_) {
      memstream_view_t view;
      note(memstream_set(cache, key.data(), key.size(), key.data(), key.size(), 0, 0));
      const int status = memstream_view(cache, key.data(), key.size(), &view);
      note(status);
      if (status == CACHE_OK) note(memstream_release(cache, &view));
    }
  }
  void note(int status) {
    if (status < 0) strange_ = status;
  }

  std::atomic<bool> is_over_{false};
  std::atomic<int> strange_{CACHE_OK};
  std::vector<std::thread> threads_;
};

// A put, a get and a view, as a process does that works; empty if all went well.
Complaint works(memstream_t* cache, const std::string& key) {
  char room[64];
  std::size_t size = sizeof room;
  memstream_view_t view;
  if (memstream_set(cache, key.data(), key.size(), key.data(), key.size(), 0, 0) != CACHE_OK) {
    return "set: " + std::string(cache_last_error());
  }
  if (memstream_get(cache, key.data(), key.size(), room, &size, nullptr) != CACHE_OK ||
      std::string(room, size) != key) {
    return "get: " + std::string(cache_last_error());
  }
  if (memstream_view(cache, key.data(), key.size(), &view) != CACHE_OK)
    return "view: " + std::string(cache_last_error());
  const bool is_right = view.size == key.size() && std::memcmp(view.data, key.data(), view.size) == 0;
  if (memstream_release(cache, &view) != CACHE_OK) return "release: " + std::string(cache_last_error());
  return is_right ? "" : "the view shows something else";
}

TEST_CASE("a child that is forked in the middle of other threads' calls works, and its parent works on") {
  const TemporarySegment segment("fork", 4 << 20, 1, 10000);
  const OpenCache cache(segment.spec());
  {
    BusyThreads threads(cache, 4);
    for (int round = 0; round < scaled(100); ++round) {
      const Complaint complaint = in_child([&]() -> Complaint {
        ::alarm(30);  // A lock that the child took over from the parent would never be free.
        if (Complaint failure = works(cache, "child"); !failure.empty()) return failure;
        return memstream_close(cache) == CACHE_OK ? "" : "close";  // Waits for no call of the parent's threads.
      });
      CHECK(complaint == "");
    }
    CHECK(works(cache, "parent") == "");
    CHECK(threads.strange() == CACHE_OK);
  }
  CHECK(stats_of(cache).processes == 1);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("views of a parent are the parent's: a child cannot end them, and ends before them") {
  const TemporarySegment segment("forked-view", 4 << 20, 1);
  const OpenCache cache(segment.spec());
  REQUIRE(memstream_set(cache, "key", 3, "value", 5, 0, 0) == CACHE_OK);
  memstream_view_t view;
  REQUIRE(memstream_view(cache, "key", 3, &view) == CACHE_OK);
  CHECK(in_child([&]() -> Complaint {
          memstream_view_t inherited = view;
          if (memstream_release(cache, &inherited) != CACHE_BAD_HANDLE) return "the child released it";
          if (Complaint complaint = works(cache, "child"); !complaint.empty()) return complaint;
          return stats_of(cache).processes == 2 ? "" : "the child is not counted as a process of its own";
        }) == "");
  CHECK(memstream_set(cache, "key", 3, "other", 5, 0, 0) == CACHE_OK);
  CHECK(std::memcmp(view.data, "value", 5) == 0);
  CHECK(stats_of(cache).pinned_memory != 0);
  CHECK(memstream_release(cache, &view) == CACHE_OK);
  CHECK(stats_of(cache).pinned_memory == 0);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("a process that executes another program in the middle of its threads' calls lets go of their locks") {
  const TemporarySegment segment("exec", 4 << 20, 1, 10000);
  const OpenCache cache(segment.spec());
  for (int round = 0; round < scaled(60); ++round) {
    int fds[2];
    REQUIRE(::pipe2(fds, O_CLOEXEC) == 0);  // Its end says that the other program runs.
    ChildProcess child([&]() -> Complaint {
      const OpenCache own(segment.spec());
      BusyThreads threads(own, 4);
      ::usleep(static_cast<useconds_t>(500 + 97 * round % 1000));
      ::execl("/bin/sleep", "sleep", "60", static_cast<char*>(nullptr));
      return "execl failed";
    });
    ::close(fds[1]);
    char none = 0;
    CHECK(::read(fds[0], &none, 1) == 0);
    ::close(fds[0]);
    CHECK(works(cache, "peer") == "");
    child.send_signal(SIGKILL);
    child.wait();
  }
  const cache_stats_t stats = stats_of(cache);
  MESSAGE(stats.recoveries << " times a thread had the lock");
  if (scaled(100) == 100) CHECK(stats.recoveries > 0);
  CHECK(stats.processes == 1);
  CHECK(problems_of(cache) == "");
}

// Ends the thread that it interrupts, wherever that is, as the kernel would: nothing of it is unwound.
void end_this_thread(int) { ::syscall(SYS_exit, 0); }

TEST_CASE("a thread that ends inside a call leaves its lock to the others") {
  const TemporarySegment segment("thread", 4 << 20, 1, 10000);
  const OpenCache cache(segment.spec());
  for (int round = 0; round < scaled(60); ++round) {
    CHECK(in_child([&]() -> Complaint {
            ::alarm(60);
            struct sigaction action {};
            action.sa_handler = end_this_thread;
            ::sigaction(SIGUSR1, &action, nullptr);
            memstream_t* own = nullptr;  // Never closed: that would wait for the calls of threads that are no more.
            const memstream_options_t options = segment.spec().options();
            if (memstream_open(&options, &own) != CACHE_OK) return cache_last_error();
            BusyThreads threads(own, 4);
            ::usleep(2000);
            for (std::size_t index = 0; index < 3; ++index) ::pthread_kill(threads.handle(index), SIGUSR1);
            Complaint complaint = works(own, "survivor");
            if (complaint.empty() && threads.strange() != CACHE_OK) complaint = std::to_string(threads.strange());
            if (complaint.empty()) ::raise(SIGKILL);  // Nothing but this ends all of what is left.
            return complaint;
          }) == "killed by signal 9");
    CHECK(works(cache, "peer") == "");
  }
  const cache_stats_t stats = stats_of(cache);
  MESSAGE(stats.recoveries << " times a thread had the lock");
  if (scaled(100) == 100) CHECK(stats.recoveries > 0);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("who is attached to a segment that is destroyed is told so, and all meet again in a new one") {
  const TemporarySegment segment("destroyed", 4 << 20, 1, 10000);
  auto cache = std::make_unique<OpenCache>(segment.spec());
  memstream_info_t info{};
  info.struct_size = sizeof info;
  REQUIRE(memstream_info(*cache, &info) == CACHE_OK);
  const std::string old_uuid(reinterpret_cast<const char*>(info.uuid), sizeof info.uuid);
  const Signal at_work;
  std::vector<std::unique_ptr<ChildProcess>> children;
  constexpr int kChildren = 6;
  for (int i = 0; i < kChildren; ++i) {
    children.push_back(std::make_unique<ChildProcess>([&, i]() -> Complaint {
      ::alarm(60);
      const std::string key = "process-" + std::to_string(i);
      {
        const OpenCache own(segment.spec());
        if (Complaint complaint = works(own, key); !complaint.empty()) return complaint;
        at_work.post();
        int status = CACHE_OK;
        while (status == CACHE_OK) status = memstream_set(own, key.data(), key.size(), "1", 1, 0, 0);
        if (status != CACHE_GONE) return cache_last_error();
        if (std::string(cache_last_error()).find("Connect again") == std::string::npos) return cache_last_error();
      }
      const OpenCache again(segment.spec());
      return works(again, key);
    }));
  }
  for (int i = 0; i < kChildren; ++i) at_work.wait();
  CHECK(memstream_destroy(*cache) == CACHE_OK);
  for (const auto& child : children) CHECK(child->wait() == "");
  CHECK(memstream_exists(*cache, "process-0", 9) == CACHE_GONE);
  cache = std::make_unique<OpenCache>(segment.spec());
  REQUIRE(memstream_info(*cache, &info) == CACHE_OK);
  CHECK(std::string(reinterpret_cast<const char*>(info.uuid), sizeof info.uuid) != old_uuid);
  for (int i = 0; i < kChildren; ++i) {
    CHECK(memstream_exists(*cache, ("process-" + std::to_string(i)).c_str(), 9) == CACHE_OK);
  }
  CHECK(problems_of(*cache) == "");
}

TEST_CASE("opening a segment that is destroyed at that moment gives the next one, and no error") {
  const TemporarySegment segment("reopened", 4 << 20, 1, 10000);
  const auto open_again_and_again = [&](bool destroys) -> Complaint {
    ::alarm(60);
    for (int round = 0; round < scaled(2000); ++round) {
      const OpenCache cache(segment.spec());  // Throws what the library says.
      if (destroys) (void)memstream_destroy(cache);
    }
    return "";
  };
  ChildProcess destroyer([&] { return open_again_and_again(true); });
  ChildProcess opener([&] { return open_again_and_again(false); });
  CHECK(destroyer.wait() == "");
  CHECK(opener.wait() == "");
}

}  // namespace
}  // namespace memstream::test
