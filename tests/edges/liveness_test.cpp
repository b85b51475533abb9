// Who is alive, at the borders of forks, programs, users and full tables: two live processes never have one slot.
#include "tests/support/liveness.h"

#include <doctest/doctest.h>
#include <sys/ipc.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/child_process.h"
#include "tests/support/scale.h"

namespace memstream::test {
namespace {

// A child that no handler of fork() knows of. Only what is asynchronously safe is done in it.
Complaint in_raw_child(pid_t (*fork_raw)(), const std::function<int()>& body) {
  const pid_t child = fork_raw();
  if (child == 0) ::_exit(body());
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) return "no child";
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "" : "the child ended with " + std::to_string(status);
}

TEST_CASE("a child that no handler of fork() knows of has a slot and a redo record of its own") {
  const TemporarySegment segment("rawfork", 8 << 20, 1);
  const OpenCache cache(segment.spec());
  REQUIRE(set(cache, "parent", "of the parent") == CACHE_OK);
  using Fork = pid_t();
  Fork* const fork_by_kernel = [] { return static_cast<pid_t>(::syscall(SYS_fork)); };
  for (Fork* fork_raw : {fork_by_kernel, static_cast<Fork*>(::_Fork)}) {
    CHECK(in_raw_child(fork_raw, [&] {
            if (set(cache, "child", "of the child") != CACHE_OK) return 1;
            return live_processes(cache) == 2 ? 0 : 2;
          }) == "");
    CHECK(live_processes(cache) == 1);
  }
}

TEST_CASE("parent and raw child that put at the same time never store each other's values") {
  const TemporarySegment segment("rawputs", 8 << 20, 1);
  const OpenCache cache(segment.spec());
  REQUIRE(set(cache, "parent", "before") == CACHE_OK);
  const auto put_for_a_while = [&](char own) {
    const std::string value(400, own);
    const std::string key(1, own);
    char room[400];
    for (int i = 0; i < scaled(200'000); ++i) {
      std::size_t size = sizeof room;
      if (memstream_set(cache, key.data(), 1, value.data(), value.size(), 0, 0) != CACHE_OK) return 1;
      if (memstream_get(cache, key.data(), 1, room, &size, nullptr) != CACHE_OK) return 2;
      if (std::memcmp(room, value.data(), value.size()) != 0) return 3;
    }
    return 0;
  };
  const pid_t child = ::_Fork();
  if (child == 0) ::_exit(put_for_a_while('c'));
  CHECK(put_for_a_while('p') == 0);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("a raw child that is killed in the middle of a put holds up nobody") {
  const TemporarySegment segment("rawkill", 8 << 20, 1, 5000);
  const OpenCache cache(segment.spec());
  REQUIRE(set(cache, "parent", "before") == CACHE_OK);
  const std::string value(60'000, 'v');
  for (int i = 0; i < 30; ++i) {
    const auto child = static_cast<pid_t>(::syscall(SYS_fork));
    if (child == 0) {
      while (memstream_set(cache, "key", 3, value.data(), value.size(), 0, 0) == CACHE_OK) {
      }
      ::_exit(1);
    }
    ::usleep(static_cast<useconds_t>(2000 + 137 * i));
    ::kill(child, SIGKILL);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    REQUIRE(set(cache, "parent", "after") == CACHE_OK);
  }
  CHECK(problems_of(cache) == "");
}

// The address sanitizer's allocator locks: a child that is forked beside threads, or in a handler, would wait for them.
#if !defined(__SANITIZE_ADDRESS__)
TEST_CASE("a raw child of a process with threads closes its handle") {
  const TemporarySegment segment("rawclose", 8 << 20, 1, 5000);
  OpenCache cache(segment.spec());
  std::atomic<bool> has_ended{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      const std::string value(60'000, 'v');
      while (!has_ended) static_cast<void>(memstream_set(cache, "key", 3, value.data(), value.size(), 0, 0));
    });
  }
  static_cast<void>(get(cache, "key"));
  for (int i = 0; i < 40; ++i) {
    const pid_t child = ::_Fork();
    if (child == 0) {
      ::alarm(20);  // It would wait for the parent's threads for ever.
      ::_exit(memstream_close(cache) == CACHE_OK ? 0 : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
  has_ended = true;
  for (std::thread& thread : threads) thread.join();
}
#endif

// ---- fork() in a signal handler ----

memstream_t* interrupted_cache = nullptr;
std::atomic<int> interrupted_forks{0};
enum class Then { kExit, kUse, kReturn };
Then then = Then::kExit;
std::atomic<int> ends[64];  // How each child ended.

void fork_in_handler(int) {
  const int saved = errno;
  const pid_t child = ::fork();
  if (child == 0) {
    if (then == Then::kReturn) return;
    if (then == Then::kUse) {
      // Interrupted in the library or not: the child gets an answer.
      const int status = memstream_set(interrupted_cache, "child", 5, "x", 1, 0, 0);
      ::_exit(status == CACHE_OK || status == CACHE_GONE ? 0 : 1);
    }
    ::_exit(0);
  }
  const int number = interrupted_forks.fetch_add(1);
  if (child > 0) ends[number % 64] = child;
  errno = saved;
}

TEST_CASE("a child forked in the middle of a put never goes on with it, and its parent does") {
  for (const Then what : {Then::kExit, Then::kUse, Then::kReturn}) {
    CAPTURE(static_cast<int>(what));
    const TemporarySegment segment("handler", 8 << 20, 1, 5000);
    const OpenCache cache(segment.spec());
    CHECK(in_child([&]() -> Complaint {
            ::alarm(60);
            const OpenCache own(segment.spec());
            interrupted_cache = own;
            interrupted_forks = 0;
            then = what;
            const pid_t parent = ::getpid();
            ::signal(SIGSEGV, SIG_DFL);  // The children's end is no failure of the test.
            ::signal(SIGUSR1, SIG_IGN);  // A handler that forks in the middle of this fork would wait for it for ever.
            const pid_t poker = ::fork();
            if (poker == 0) {
              ::prctl(PR_SET_PDEATHSIG, SIGKILL);
              for (;;) {
                ::usleep(3000);
                ::kill(parent, SIGUSR1);
              }
            }
            struct sigaction action {};
            action.sa_handler = fork_in_handler;
            ::sigaction(SIGUSR1, &action, nullptr);
            const std::string value(60'000, 'v');
            while (interrupted_forks < 40) {
              const int status = memstream_set(own, "key", 3, value.data(), value.size(), 0, 0);
              if (::getpid() != parent) ::_exit(status == CACHE_OK || status == CACHE_GONE ? 0 : 1);
              if (status != CACHE_OK) return "put: " + std::string(cache_last_error());
            }
            ::signal(SIGUSR1, SIG_IGN);
            ::kill(poker, SIGKILL);
            ::waitpid(poker, nullptr, 0);
            for (int i = 0; i < 40; ++i) {
              int status = 0;
              ::waitpid(ends[i], &status, 0);
              const bool ended_well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
              const bool was_stopped = what == Then::kReturn && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
              if (!ended_well && !was_stopped) return "a child ended with " + std::to_string(status);
            }
            return problems_of(own);
          }) == "");
    CHECK(set(cache, "after", "peer") == CACHE_OK);
    CHECK(stats_of(cache).recoveries == 0);
    CHECK(problems_of(cache) == "");
  }
}

#if !defined(__SANITIZE_ADDRESS__)
TEST_CASE("a signal handler forks while a reservation is made or given back, and nobody hangs") {
  const TemporarySegment segment("reserving", 8 << 20, 1, 5000);
  CHECK(in_child([&]() -> Complaint {
          const OpenCache own(segment.spec());
          interrupted_cache = own;
          interrupted_forks = 0;
          then = Then::kExit;
          struct sigaction action {};
          action.sa_handler = fork_in_handler;
          ::sigaction(SIGALRM, &action, nullptr);
          ::signal(SIGCHLD, SIG_IGN);
          const itimerval soon{{0, 3000}, {0, 3000}};
          ::setitimer(ITIMER_REAL, &soon, nullptr);
          while (interrupted_forks < 150) {
            memstream_reservation_t reservation{};
            if (memstream_reserve(own, "key", 3, 100, &reservation) != CACHE_OK) return cache_last_error();
            if (memstream_abort(own, &reservation) != CACHE_OK) return cache_last_error();
          }
          const itimerval never{};
          ::setitimer(ITIMER_REAL, &never, nullptr);
          return problems_of(own);
        }) == "");
}
#endif

// ---- slots ----

TEST_CASE("a child that finds the table full works without a slot, gets no lease, and has a slot later") {
  const TemporarySegment segment("guest", std::uint64_t{1} << 20);
  std::vector<std::unique_ptr<OpenCache>> handles;
  for (int i = 0; i < 32; ++i) handles.push_back(std::make_unique<OpenCache>(segment.spec()));
  const Signal has_worked;
  const Signal one_left;
  ChildProcess child([&]() -> Complaint {
    memstream_t* cache = *handles.front();
    std::uint64_t lease = 0;
    if (set(cache, "value", "child") != CACHE_OK || get(cache, "child") != "value") return cache_last_error();
    if (memstream_lease(cache, "lease", 5, 0, 0, &lease) != CACHE_PROCESS_TABLE_FULL) return "a lease without a slot";
    if (lease != 0) return "a token without a lease";
    has_worked.post();
    one_left.wait();
    for (int tries = 0; tries < 300; ++tries) {
      ::usleep(10'000);
      if (memstream_lease(cache, "lease", 5, 0, 0, &lease) == CACHE_OK) return lease != 0 ? "" : "no token";
    }
    return "no slot after 3 seconds";
  });
  has_worked.wait();
  handles.pop_back();
  one_left.post();
  CHECK(child.wait() == "");
  CHECK(problems_of(*handles.front()) == "");
}

TEST_CASE("handles of one process count as one process") {
  const TemporarySegment segment("handles", 4 << 20, 1);
  const OpenCache first(segment.spec());
  const OpenCache second(segment.spec());
  const OpenCache third(segment.spec());
  for (memstream_t* cache : {static_cast<memstream_t*>(first), static_cast<memstream_t*>(second)}) {
    REQUIRE(set(cache, "value") == CACHE_OK);
  }
  CHECK(live_processes(first) == 1);
  memstream_process_t processes[4];
  std::size_t count = 0;
  REQUIRE(memstream_processes(third, processes, 4, &count) == CACHE_OK);
  CHECK(count == 1);
  CHECK(processes[0].puts == 2);
  CHECK(processes[0].pid == static_cast<std::uint32_t>(::getpid()));
  CHECK(in_child([&]() -> Complaint {
          const OpenCache own(segment.spec());
          return live_processes(own) == 2 ? "" : "not two processes";
        }) == "");
}

constexpr const char* kAfterExec = "MEMSTREAM_TEST_AFTER_EXEC";

TEST_CASE("the program after exec()") {
  const char* name = std::getenv(kAfterExec);
  if (name == nullptr) return;  // Only the next test runs it.
  const OpenCache cache({name, 4 << 20, 1});
  const std::size_t processes = live_processes(cache);
  const std::uint64_t dead = stats_of(cache).dead_processes;
  ::_exit(processes == 2 && dead == 1 ? 0 : 3);  // This program's slot, and that of the test.
}

TEST_CASE("a process that executes another program keeps its slot until that opens the segment") {
  const TemporarySegment segment("exec", 4 << 20, 1);
  const OpenCache cache(segment.spec());
  const pid_t child = ::fork();
  if (child == 0) {
    const OpenCache own(segment.spec());
    if (set(own, "value") != CACHE_OK) ::_exit(1);
    ::setenv(kAfterExec, segment.spec().name.c_str(), 1);
    ::execl("/proc/self/exe", "liveness_test", "--test-case=the program after exec()", static_cast<char*>(nullptr));
    ::_exit(2);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(live_processes(cache) == 1);
}

TEST_CASE("a worker that gives up its rights after it was forked works on, without a slot") {
  if (!is_root()) {
    MESSAGE("skipped: only root can become another user");
    return;
  }
  const TemporarySegment segment("rights", 4 << 20, 1);
  const OpenCache cache(segment.spec());
  REQUIRE(set(cache, "value") == CACHE_OK);
  CHECK(in_child([&]() -> Complaint {
          if (Complaint complaint = become_other_user(); !complaint.empty()) return complaint;
          std::uint64_t lease = 0;
          if (get(cache) != "value" || set(cache, "other", "worker") != CACHE_OK) return cache_last_error();
          return memstream_lease(cache, "lease", 5, 0, 0, &lease) == CACHE_PROCESS_TABLE_FULL ? "" : "a lease";
        }) == "");
  CHECK(get(cache, "worker") == "other");
  // Nobody can tell whether such a worker is alive: the segment stays in its pid namespace.
  CHECK(header_of(cache).has_unmarked == 1);
}

TEST_CASE("without its semaphores a segment goes on for those that are in it, and takes nobody new") {
  const TemporarySegment segment("removed", 4 << 20, 1);
  const OpenCache cache(segment.spec());
  const HeldView held(cache);
  REQUIRE(::semctl(header_of(cache).identity.marks_id, 0, IPC_RMID) == 0);
  CHECK(set(cache, "value") == CACHE_OK);
  std::string message;
  CHECK(open_status(segment.spec(), &message) == CACHE_CORRUPT);
  CHECK_MESSAGE(message.find("RemoveIPC") != std::string::npos, message);
  CHECK(in_child([&]() -> Complaint {
          return set(cache, "x", "child") == CACHE_CORRUPT ? "" : "a child without a mark writes";
        }) == "");
  CHECK(live_processes(cache) == 1);
  CHECK(held.is_whole());
}

TEST_CASE("destroying a segment removes its semaphores") {
  const TemporarySegment segment("no-trace", 4 << 20, 1);
  auto cache = std::make_unique<OpenCache>(segment.spec());
  const std::int32_t key = header_of(*cache).identity.marks_key;
  CHECK(::semget(key, 0, 0) >= 0);
  REQUIRE(memstream_destroy(*cache) == CACHE_OK);
  CHECK(::semget(key, 0, 0) < 0);
}

TEST_CASE("the semaphores of a segment whose destroyer died right after its mark go with its name") {
  const TemporarySegment segment("half-gone", 4 << 20, 1);
  for (const bool is_opened_again : {true, false}) {
    CAPTURE(is_opened_again);
    std::int32_t key = 0;
    {
      const OpenCache cache(segment.spec());
      SegmentHeader& header = header_of(cache);
      key = header.identity.marks_key;
      header.state.store(static_cast<std::uint32_t>(HeaderState::kDestroyed));
    }
    REQUIRE(::semget(key, 0, 0) >= 0);
    if (is_opened_again) {
      const OpenCache next(segment.spec());
      CHECK(header_of(next).identity.marks_key != key);
    } else {
      const memstream_options_t options = segment.spec().options();
      CHECK(memstream_destroy_named(&options) == CACHE_OK);
    }
    CHECK(::semget(key, 0, 0) < 0);
  }
}

}  // namespace
}  // namespace memstream::test
