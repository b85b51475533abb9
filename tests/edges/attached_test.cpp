// How many may be attached, and hold views, and what is kept of those that have gone.
#include <doctest/doctest.h>
#include <linux/sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/child_process.h"
#include "tests/support/scale.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr std::uint32_t kLeastSlots = 32;  // Process slots of the smallest segment.

// How many processes the table shows, and how many pins they have together.
struct Attached {
  std::size_t processes = 0;
  std::uint32_t pins = 0;
};

Attached attached_to(memstream_t* cache) {
  std::vector<memstream_process_t> processes(2048);
  Attached attached;
  if (memstream_processes(cache, processes.data(), processes.size(), &attached.processes) != CACHE_OK) {
    throw std::runtime_error(cache_last_error());
  }
  for (std::size_t i = 0; i < attached.processes; ++i) attached.pins += processes[i].pins;
  return attached;
}

Complaint put_and_get(memstream_t* cache, const std::string& key, const std::string& value) {
  char room[64];
  std::size_t size = sizeof room;
  if (memstream_set(cache, key.data(), key.size(), value.data(), value.size(), 0, 0) != CACHE_OK) {
    return "set: " + std::string(cache_last_error());
  }
  if (memstream_get(cache, key.data(), key.size(), room, &size, nullptr) != CACHE_OK) return "get: no " + key;
  return std::string(room, size) == value ? "" : "get: " + std::string(room, size);
}

TEST_CASE("many processes are attached at once, and read what each of them wrote") {
  const int count = scaled(200);  // 1,000 with MEMSTREAM_TEST_SCALE=500.
  const TemporarySegment segment("many", std::uint64_t{512} << 20, 0, 30000);
  const OpenCache cache(segment.spec());
  const Signal attached;
  const Signal all_are_attached;
  std::vector<std::unique_ptr<ChildProcess>> children;
  for (int i = 0; i < count; ++i) {
    children.push_back(std::make_unique<ChildProcess>([&, i]() -> Complaint {
      const OpenCache own(segment.spec());
      const std::string mine = "process-" + std::to_string(i);
      if (Complaint complaint = put_and_get(own, mine, mine); !complaint.empty()) return complaint;
      attached.post();
      all_are_attached.wait();
      const std::string other = "process-" + std::to_string((i + 1) % count);
      char room[64];
      std::size_t size = sizeof room;
      if (memstream_get(own, other.data(), other.size(), room, &size, nullptr) != CACHE_OK) return "no " + other;
      return std::string(room, size) == other ? "" : "of another: " + std::string(room, size);
    }));
  }
  for (int i = 0; i < count; ++i) attached.wait();
  CHECK(attached_to(cache).processes == static_cast<std::size_t>(count) + 1);
  all_are_attached.post(count);
  for (const auto& child : children) CHECK(child->wait() == "");
  CHECK(attached_to(cache).processes == 1);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("when every process slot is taken the next one is told so, until one leaves or dies") {
  const TemporarySegment segment("full", std::uint64_t{1} << 20);
  std::vector<std::unique_ptr<OpenCache>> handles;
  for (std::uint32_t i = 0; i < kLeastSlots - 1; ++i) handles.push_back(std::make_unique<OpenCache>(segment.spec()));
  const Signal attached;
  auto last = std::make_unique<ChildProcess>([&]() -> Complaint {
    const OpenCache own(segment.spec());
    attached.post();
    for (;;) ::pause();
  });
  attached.wait();

  const memstream_options_t options = segment.spec().options();
  memstream_t* refused = nullptr;
  CHECK(memstream_open(&options, &refused) == CACHE_PROCESS_TABLE_FULL);
  CHECK(refused == nullptr);
  const std::string message = cache_last_error();
  CHECK(message.find("32 process slots") != std::string::npos);
  CHECK(message.find("MEMSTREAM_SIZE") != std::string::npos);
  CHECK(put_and_get(*handles.front(), "key", "value") == "");  // Those who are in work on.

  last->send_signal(SIGKILL);
  CHECK(last->wait() == "killed by signal 9");
  CHECK(put_and_get(OpenCache(segment.spec()), "key", "in the place of the dead") == "");
  handles.push_back(std::make_unique<OpenCache>(segment.spec()));
  CHECK(memstream_open(&options, &refused) == CACHE_PROCESS_TABLE_FULL);
  handles.erase(handles.begin());
  CHECK(put_and_get(OpenCache(segment.spec()), "key", "in the place of one who left") == "");
  CHECK(problems_of(*handles.front()) == "");
}

TEST_CASE("a view that finds no free pin is a copy, and released like any other") {
  const TemporarySegment segment("views", std::uint64_t{4} << 20);
  const OpenCache cache(segment.spec());
  REQUIRE(memstream_set(cache, "key", 3, "value", 5, 0, 0) == CACHE_OK);
  constexpr std::size_t kViews = 1500;
  constexpr std::size_t kPlaces = 128 + 2 * 504;  // Of one process in a segment of 4 MiB.
  std::vector<memstream_view_t> views(kViews);
  for (memstream_view_t& view : views) REQUIRE(memstream_view(cache, "key", 3, &view) == CACHE_OK);
  CHECK(attached_to(cache).pins == kPlaces);
  CHECK(stats_of(cache).view_copies == kViews - kPlaces);
  for (std::size_t i = 0; i < kViews; ++i) {
    int in_place = -1;
    REQUIRE(memstream_view_in_place(cache, &views[i], &in_place) == CACHE_OK);
    CHECK(in_place == (i < kPlaces ? 1 : 0));
  }
  CHECK(memstream_set(cache, "key", 3, "other", 5, 0, 0) == CACHE_OK);
  CHECK(std::all_of(views.begin(), views.end(), [](const memstream_view_t& view) {
    return view.size == 5 && std::memcmp(view.data, "value", 5) == 0;
  }));
  for (memstream_view_t& view : views) CHECK(memstream_release(cache, &view) == CACHE_OK);
  CHECK(attached_to(cache).pins == 0);
  CHECK(disagreement_of_stats_and_scan(cache) == "");
  CHECK(problems_of(cache) == "");
}

// A child with the pid that it is told; -1 if the system does not allow that.
pid_t fork_with_pid(pid_t wanted) {
  clone_args arguments{};
  arguments.exit_signal = SIGCHLD;
  arguments.set_tid = reinterpret_cast<std::uint64_t>(&wanted);
  arguments.set_tid_size = 1;
  const auto child = static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof arguments));
  if (child == 0) {
    for (;;) ::syscall(SYS_pause);  // Nothing of the C library: its handlers for a fork did not run.
  }
  return child;
}

TEST_CASE("a process slot is not taken for that of a later process with the same pid") {
  const TemporarySegment segment("reused", std::uint64_t{4} << 20);
  const OpenCache cache(segment.spec());
  REQUIRE(memstream_set(cache, "key", 3, "value", 5, 0, 0) == CACHE_OK);
  int fds[2];
  REQUIRE(::pipe(fds) == 0);
  ChildProcess holder([&]() -> Complaint {
    const OpenCache own(segment.spec());
    memstream_view_t view;
    if (memstream_view(own, "key", 3, &view) != CACHE_OK) return cache_last_error();
    const pid_t pid = ::getpid();
    if (::write(fds[1], &pid, sizeof pid) != sizeof pid) return "write";
    for (;;) ::pause();
  });
  pid_t pid = 0;
  REQUIRE(::read(fds[0], &pid, sizeof pid) == sizeof pid);
  ::close(fds[0]);
  ::close(fds[1]);
  CHECK(attached_to(cache).pins == 1);
  ::usleep(50'000);  // Start times are counted in ticks of 10 ms.
  holder.send_signal(SIGKILL);
  CHECK(holder.wait() == "killed by signal 9");

  const pid_t successor = fork_with_pid(pid);
  if (successor < 0) {
    MESSAGE("skipped: this system lets nobody choose a pid: " << std::strerror(errno));
    return;
  }
  CHECK(successor == pid);
  const Attached left = attached_to(cache);
  CHECK(left.processes == 1);
  CHECK(left.pins == 0);
  ::kill(successor, SIGKILL);
  ::waitpid(successor, nullptr, 0);
  CHECK(stats_of(cache).dead_processes == 1);
  CHECK(problems_of(cache) == "");
}

}  // namespace
}  // namespace memstream::test
