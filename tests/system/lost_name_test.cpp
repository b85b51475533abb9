// Somebody removes the name of a segment by hand (rm, ipcrm) or by an order (systemd's RemoveIPC) while processes are
// attached. New processes make a second segment, so those in the first one must notice, in a bounded time.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/shm.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "api/cache.h"
#include "tests/support/backend_kinds.h"
#include "tests/support/child_process.h"
#include "tests/support/expectations.h"
#include "tests/support/own_ipc_namespace.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
// What the library promises is a quarter of it; the machine may be busy.
constexpr milliseconds kNoticed{1000};

bool on_posix() { return std::strcmp(std::getenv("MEMSTREAM_BACKEND"), "posix") == 0; }

// As rm and ipcrm do it.
void remove_name(const std::string& name) {
  if (on_posix()) {
    REQUIRE(::unlink(Posix::path(name).c_str()) == 0);
  } else {
    REQUIRE(::shmctl(::shmget(SysV::user_family(name), 0, 0), IPC_RMID, nullptr) == 0);
  }
}

int add_one(memstream_t* cache, std::int64_t* count) {
  const std::int64_t first = 0;
  return memstream_incr(cache, "count", 5, 1, &first, 0, count);
}

// Repeats a call until it gives CACHE_GONE.
Complaint notices(const std::function<int()>& call) {
  const auto end = steady_clock::now() + kNoticed;
  int status = CACHE_OK;
  do {
    status = call();
    if (status == CACHE_GONE) return "";
  } while (steady_clock::now() < end);
  return "status " + std::to_string(status) + " to the end";
}

TEST_CASE("each operation notices in time that the name is gone") {
  const TemporarySegment segment("noticed", kMiB);
  const OpenCache cache(segment.spec());
  REQUIRE(memstream_set(cache, "key", 3, "value", 5, 0, 0) == CACHE_OK);
  std::function<int()> call;
  char value[16];
  std::size_t size = sizeof value;
  std::int64_t count = 0;
  SUBCASE("get, hit") {
    call = [&] { return size = sizeof value, memstream_get(cache, "key", 3, value, &size, nullptr); };
  }
  SUBCASE("get, miss") {
    call = [&] { return size = sizeof value, memstream_get(cache, "absent", 6, value, &size, nullptr); };
  }
  SUBCASE("put") {
    call = [&] { return memstream_set(cache, "key", 3, "other", 5, 0, 0); };
  }
  SUBCASE("increment") {
    call = [&] { return add_one(cache, &count); };
  }
  SUBCASE("delete") {
    call = [&] { return memstream_delete(cache, "absent", 6); };
  }
  SUBCASE("touch") {
    call = [&] { return memstream_touch(cache, "key", 3, 0); };
  }
  SUBCASE("exists") {
    call = [&] { return memstream_exists(cache, "key", 3); };
  }
  SUBCASE("view") {
    call = [&] {
      memstream_view_t view;
      const int status = memstream_view(cache, "key", 3, &view);
      if (status == CACHE_OK) memstream_release(cache, &view);
      return status;
    };
  }
  SUBCASE("reserve") {
    call = [&] {
      memstream_reservation_t room;
      const int status = memstream_reserve(cache, "large", 5, 10, &room);
      if (status == CACHE_OK) memstream_abort(cache, &room);
      return status;
    };
  }
  remove_name(segment.spec().name);
  CHECK(notices(call) == "");
  // All that are attached to the first segment learn it from its header.
  CHECK(memstream_set(cache, "key", 3, "other", 5, 0, 0) == CACHE_GONE);
}

TEST_CASE("a reader that must not write to the header notices it too") {
  const TemporarySegment segment("reader", kMiB);
  const OpenCache writer(segment.spec());
  memstream_options_t options = segment.spec().options();
  options.flags = MEMSTREAM_OPEN_READ_ONLY;
  memstream_t* reader = nullptr;
  REQUIRE(memstream_open(&options, &reader) == CACHE_OK);
  remove_name(segment.spec().name);
  char value[16];
  CHECK(notices([&] {
          std::size_t size = sizeof value;
          return memstream_get(reader, "key", 3, value, &size, nullptr);
        }) == "");
  cache_stats_t stats{};
  stats.struct_size = sizeof stats;
  CHECK(memstream_stats(writer, &stats) == CACHE_GONE);
  memstream_close(reader);
}

TEST_CASE("statistics and a second connect notice it at once") {
  const TemporarySegment segment("at-once", kMiB);
  SUBCASE("statistics") {
    const OpenCache cache(segment.spec());
    remove_name(segment.spec().name);
    cache_stats_t stats{};
    stats.struct_size = sizeof stats;
    CHECK(memstream_stats(cache, &stats) == CACHE_GONE);
    CHECK(std::string(cache_last_error()).find("Connect again") != std::string::npos);
  }
  SUBCASE("connect") {
    ::setenv("MEMSTREAM_NAME", segment.spec().name.c_str(), 1);
    ::setenv("MEMSTREAM_SIZE", "1M", 1);
    REQUIRE(cache_connect() == CACHE_OK);
    REQUIRE(cache_put("key", "value", 5) == CACHE_OK);
    remove_name(segment.spec().name);
    REQUIRE(cache_connect() == CACHE_OK);
    char value[16];
    std::size_t size = sizeof value;
    CHECK(cache_get("key", value, &size) == CACHE_MISS);
    CHECK(cache_destroy() == CACHE_OK);
  }
}

TEST_CASE("workers that attach again count in one segment after a bounded time") {
  constexpr int kWorkers = 4;
  const TemporarySegment segment("workers", kMiB);
  const OpenCache first(segment.spec());
  const Signal ready;
  const Signal removed;
  const Signal settled;
  std::vector<std::unique_ptr<ChildProcess>> workers;
  for (int worker = 0; worker < kWorkers; ++worker) {
    workers.push_back(std::make_unique<ChildProcess>([&, worker]() -> Complaint {
      auto cache = std::make_unique<OpenCache>(segment.spec());
      std::int64_t count = 0;
      ready.post();
      removed.wait();
      // One is there at once, as if it had just been started; the others go on counting.
      if (worker == 0) cache = std::make_unique<OpenCache>(segment.spec());
      for (const auto end = steady_clock::now() + kNoticed; steady_clock::now() < end;) {
        const int status = add_one(*cache, &count);
        if (status == CACHE_GONE) cache = std::make_unique<OpenCache>(segment.spec());
        if (status != CACHE_OK && status != CACHE_GONE) return cache_last_error();
      }
      ready.post();
      settled.wait();
      const std::int64_t zero = 0;
      const int status = memstream_incr(*cache, "after", 5, 1, &zero, 0, &count);
      return status == CACHE_OK ? "" : cache_last_error();
    }));
  }
  for (int worker = 0; worker < kWorkers; ++worker) ready.wait();
  remove_name(segment.spec().name);
  removed.post(kWorkers);
  for (int worker = 0; worker < kWorkers; ++worker) ready.wait();
  settled.post(kWorkers);
  for (auto& worker : workers) CHECK(worker->wait() == "");
  const OpenCache second(segment.spec());
  std::int64_t count = 0;
  const std::int64_t zero = 0;
  REQUIRE(memstream_incr(second, "after", 5, 0, &zero, 0, &count) == CACHE_OK);
  CHECK(count == kWorkers);
}

// A process that cannot see the name any more says nothing of it: the others go on.
TEST_CASE("a process that leaves the place of the name goes on, and so do the others") {
  SKIP_UNLESS_ROOT("change its root directory");
  const TemporarySegment segment("elsewhere", kMiB);
  const OpenCache other(segment.spec());
  std::function<bool()> leave;
  SUBCASE("another root directory") {
    leave = [] { return ::chroot("/proc") == 0; };
  }
  SUBCASE("another mount on /dev/shm") {
    leave = [] { return mount_own_shm("size=1m").empty(); };
  }
  SUBCASE("another IPC namespace, where nothing has that id") {
    leave = [] { return ::unshare(CLONE_NEWIPC) == 0; };
  }
  SUBCASE("another IPC namespace, where another segment may have that id and is removed") {
    leave = [] {
      bool is_done = ::unshare(CLONE_NEWIPC) == 0;
      for (int i = 0; i < 8; ++i) {
        const int id = ::shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
        is_done =
            is_done && ::shmat(id, nullptr, 0) != reinterpret_cast<void*>(-1) && ::shmctl(id, IPC_RMID, nullptr) == 0;
      }
      return is_done;
    };
  }
  CHECK(in_child([&]() -> Complaint {
          const OpenCache cache(segment.spec());
          if (!leave()) return std::strerror(errno);
          const auto end = steady_clock::now() + milliseconds(600);
          std::int64_t count = 0;
          while (steady_clock::now() < end) {
            if (add_one(cache, &count) != CACHE_OK) return cache_last_error();
          }
          return "";
        }) == "");
  CHECK(stats_of(other).entries == 1);
}

TEST_CASE("a worker that has dropped its privileges notices it") {
  SKIP_UNLESS_ROOT("become another user");
  const TemporarySegment segment("dropped", kMiB);
  const OpenCache keeper(segment.spec());
  const Signal ready;
  const Signal removed;
  ChildProcess worker([&]() -> Complaint {
    const OpenCache cache(segment.spec());
    if (Complaint failed = become_other_user(); !failed.empty()) return failed;
    ready.post();
    removed.wait();
    std::int64_t count = 0;
    return notices([&] { return add_one(cache, &count); });
  });
  ready.wait();
  remove_name(segment.spec().name);
  removed.post();
  CHECK(worker.wait() == "");
}

}  // namespace
}  // namespace memstream::test
