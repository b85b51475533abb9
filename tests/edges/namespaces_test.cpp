// Who may write at the borders of pid, time and IPC namespaces, and who takes a segment over.
#include <doctest/doctest.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <utility>

#include "tests/support/child_process.h"
#include "tests/support/liveness.h"

namespace memstream::test {
namespace {

constexpr const char* kSkipped = "skipped";

// Runs `body` in the first process that is born in new namespaces (CLONE_NEW...).
Complaint in_namespace(int flags, const std::function<Complaint()>& body) {
  return in_child([&]() -> Complaint {
    if (::unshare(flags) != 0) return errno == EPERM || errno == EINVAL ? kSkipped : "unshare";
    if ((flags & CLONE_NEWTIME) != 0) {
      std::ofstream("/proc/self/timens_offsets") << "monotonic 1000 0\nboottime 1000 0\n";
    }
    return in_child(body);
  });
}

// Whether the complaint says that this user or kernel has no such namespace; the test says so then.
bool was_skipped(const Complaint& complaint) {
  if (complaint != kSkipped) return false;
  MESSAGE("skipped: this user cannot make such a namespace");
  return true;
}

// Everything that takes a lock or a slot comes to `status`. Empty if so.
Complaint all_come_to(memstream_t* cache, int status) {
  std::uint64_t number = 0;
  std::size_t size = 0;
  char room[8];
  size = sizeof room;
  cache_stats_t stats{};
  stats.struct_size = sizeof stats;
  const std::pair<const char*, int> calls[] = {
      {"set", set(cache, "x", "other")},
      {"get", memstream_get(cache, "anchor", 6, room, &size, nullptr)},
      {"delete", memstream_delete(cache, "held", 4)},
      {"lease", memstream_lease(cache, "none", 4, 0, 0, &number)},
      {"stats", memstream_stats(cache, &stats)},
      {"processes", memstream_processes(cache, nullptr, 0, &size)},
      {"check", memstream_check(cache, &number)},
      {"clear", memstream_clear(cache)},
  };
  for (const auto& [name, came_to] : calls) {
    if (came_to != status) return std::string(name) + " came to " + std::to_string(came_to);
  }
  return "";
}

TEST_CASE("a child in a new pid namespace is refused, and its parent keeps slot and views") {
  const TemporarySegment segment("pidns", 8 << 20, 1);
  const OpenCache cache(segment.spec());
  header_of(cache);
  const HeldView held(cache);
  const Complaint complaint = in_namespace(CLONE_NEWPID, [&]() -> Complaint {
    if (Complaint inherited = all_come_to(cache, CACHE_OTHER_NAMESPACE); !inherited.empty()) return inherited;
    std::string message;
    if (open_status(segment.spec(), &message) != CACHE_OTHER_NAMESPACE) return "opened: " + message;
    return message.find("shareProcessNamespace") != std::string::npos ? "" : message;
  });
  if (was_skipped(complaint)) return;
  CHECK(complaint == "");
  // Whoever comes now gets a slot of its own.
  CHECK(in_child([&]() -> Complaint {
          const OpenCache other(segment.spec());
          for (int i = 0; i < 200; ++i) {
            if (set(other, std::string(HeldView::kSize, 'Z'), "z" + std::to_string(i)) != CACHE_OK)
              return cache_last_error();
          }
          return live_processes(other) == 2 ? "" : "the parent is not counted";
        }) == "");
  CHECK(held.is_whole());
  CHECK(stats_of(cache).dead_processes == 0);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("a process of another time namespace is refused, for reading too") {
  const TemporarySegment segment("timens", 4 << 20, 1);
  const OpenCache cache(segment.spec());
  header_of(cache);
  const HeldView held(cache);
  const Complaint complaint = in_namespace(CLONE_NEWTIME, [&]() -> Complaint {
    if (Complaint inherited = all_come_to(cache, CACHE_OTHER_NAMESPACE); !inherited.empty()) return inherited;
    std::string message;
    if (open_status(segment.spec(), &message) != CACHE_OTHER_NAMESPACE) return "opened: " + message;
    memstream_options_t options = segment.spec().options();
    options.flags = MEMSTREAM_OPEN_READ_ONLY;
    memstream_t* reader = nullptr;
    if (memstream_open(&options, &reader) != CACHE_OTHER_NAMESPACE) return "opened for reading";
    return message.find("time namespace") != std::string::npos ? "" : message;
  });
  if (was_skipped(complaint)) return;
  CHECK(complaint == "");
  CHECK(held.is_whole());
  CHECK(live_processes(cache) == 1);
}

TEST_CASE("a process of another IPC namespace cannot tell who lives, and may only read") {
  const char* backend = std::getenv("MEMSTREAM_BACKEND");
  if (backend != nullptr && std::string(backend) == "sysv") {
    MESSAGE("skipped: a System V segment cannot be seen from another IPC namespace");
    return;
  }
  const TemporarySegment segment("ipcns", 4 << 20, 1);
  const OpenCache cache(segment.spec());
  const Complaint complaint = in_namespace(CLONE_NEWIPC, [&]() -> Complaint {
    std::string message;
    if (open_status(segment.spec(), &message) != CACHE_OTHER_NAMESPACE) return "opened: " + message;
    return message.find("--ipc=container") != std::string::npos ? "" : message;
  });
  if (!was_skipped(complaint)) CHECK(complaint == "");
}

TEST_CASE("a segment whose processes have all ended passes to another pid namespace, with its values") {
  const TemporarySegment segment("takeover", 4 << 20, 1);
  Complaint complaint = in_namespace(CLONE_NEWPID, [&]() -> Complaint {
    const OpenCache cache(segment.spec());
    if (set(cache, "value") != CACHE_OK) return cache_last_error();
    ::raise(SIGKILL);  // Nothing happens: it is the first process of its namespace.
    ::_exit(0);        // It leaves its slot behind, as a container does that is stopped.
  });
  if (was_skipped(complaint)) return;
  const OpenCache cache(segment.spec());
  CHECK(get(cache) == "value");
  CHECK(live_processes(cache) == 1);
  CHECK(stats_of(cache).dead_processes == 1);
  CHECK(in_namespace(CLONE_NEWPID, [&]() -> Complaint {
          return open_status(segment.spec()) == CACHE_OTHER_NAMESPACE ? "" : "taken over from a live process";
        }) == "");
  CHECK(problems_of(cache) == "");
}

}  // namespace
}  // namespace memstream::test
