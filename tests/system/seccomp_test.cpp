// Filters of system calls, as containers and services have them: each call that the library makes is forbidden in turn.
// Opening then works, or is refused with a sentence that does not take the filter for a defect. Nothing is left behind.
#include <doctest/doctest.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "tests/support/backend_kinds.h"
#include "tests/support/child_process.h"
#include "tests/support/own_ipc_namespace.h"
#include "tests/support/page_map.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

struct Call {
  const char* name;
  long number;
  bool is_sysv;  // Only the System V backend makes it, and cannot do without.
};

constexpr Call kCalls[] = {
    {"shmget", SYS_shmget, true},
    {"shmat", SYS_shmat, true},
    {"shmctl", SYS_shmctl, true},
    {"semget", SYS_semget, true},
    {"semctl", SYS_semctl, true},
    {"semtimedop", SYS_semtimedop, true},
    {"semop", SYS_semop, false},
    {"madvise", SYS_madvise, false},
    {"process_vm_readv", SYS_process_vm_readv, false},
    {"mbind", SYS_mbind, false},
    {"fallocate", SYS_fallocate, false},
    {"ftruncate", SYS_ftruncate, false},
    {"fchmod", SYS_fchmod, false},
    {"flock", SYS_flock, false},
    {"pread64", SYS_pread64, false},
    {"fstat", SYS_fstat, false},
    {"newfstatat", SYS_newfstatat, false},
    {"statfs", SYS_statfs, false},
    {"fcntl", SYS_fcntl, false},
    {"getrandom", SYS_getrandom, false},
    {"prlimit64", SYS_prlimit64, false},
    {"sysinfo", SYS_sysinfo, false},
    {"membarrier", SYS_membarrier, false},
    {"get_robust_list", SYS_get_robust_list, false},
    {"prctl", SYS_prctl, false},
};

bool on_posix() { return std::strcmp(std::getenv("MEMSTREAM_BACKEND"), "posix") == 0; }
std::string traces_of(const std::string& name) { return on_posix() ? Posix::traces_of(name) : SysV::traces_of(name); }

// "opened", or the sentence of the refusal.
std::string open_under_filter(const CacheSpec& spec, long number, int error) {
  return in_child([&]() -> Complaint {
    if (Complaint obstacle = refuse_system_call(number, error); !obstacle.empty()) return obstacle;
    const memstream_options_t options = spec.options();
    memstream_t* cache = nullptr;
    if (memstream_open(&options, &cache) != CACHE_OK) return cache_last_error();
    const int status = memstream_set(cache, "key", 3, "value", 5, 0, 0);
    return status == CACHE_OK ? "opened" : std::string("a put: ") + cache_last_error();
  });
}

TEST_CASE("a raw child that cannot tell the C library who it is takes no lock") {
  const TemporarySegment segment("unknown", std::uint64_t{1} << 20);
  CHECK(in_child([&]() -> Complaint {
          if (Complaint obstacle = refuse_system_call(SYS_get_robust_list, EPERM); !obstacle.empty()) return obstacle;
          const OpenCache cache(segment.spec());
          const auto child = static_cast<pid_t>(::syscall(SYS_fork));
          if (child == 0) {
            const bool is_refused = memstream_set(cache, "key", 3, "value", 5, 0, 0) == CACHE_OS_ERROR;
            ::_exit(is_refused && std::strstr(cache_last_error(), "Use fork() or _Fork().") != nullptr ? 0 : 1);
          }
          int status = 0;
          ::waitpid(child, &status, 0);
          if (status != 0) return "the child ended with " + std::to_string(status);
          return memstream_set(cache, "key", 3, "value", 5, 0, 0) == CACHE_OK ? "" : cache_last_error();
        }) == "");
}

TEST_CASE("a filter that forbids one system call is no defect, and leaves nothing behind") {
  for (const Call& call : kCalls) {
    for (const int error : {EPERM, ENOSYS}) {
      const std::string name = call.name;
      CAPTURE(name);
      CAPTURE(error);
      const TemporarySegment segment("filter", std::uint64_t{1} << 20);
      const std::string outcome = open_under_filter(segment.spec(), call.number, error);
      CAPTURE(outcome);
      CHECK(outcome != "");
      CHECK(outcome.find("eport") == std::string::npos);
      CHECK(outcome.find("another user") == std::string::npos);
      if (outcome != "opened") CHECK(traces_of(segment.spec().name) == "");
      if (call.is_sysv && !on_posix()) CHECK(outcome.find("seccomp") != std::string::npos);
      // The semaphores that tell who is alive are made on POSIX, too.
      const bool is_for_semaphores = name.starts_with("sem") && name != "semop";  // glibc calls semtimedop for it.
      if (is_for_semaphores && on_posix()) CHECK(outcome.find("seccomp") != std::string::npos);
      if (call.is_sysv && !is_for_semaphores && on_posix()) CHECK(outcome == "opened");
    }
  }
}

// A kernel before 5.14 knows no MADV_POPULATE_WRITE.
TEST_CASE("a kernel that populates no memory for madvise() is no obstacle") {
  const TemporarySegment segment("madvise", std::uint64_t{1} << 20);
  const Complaint complaint = in_child([&]() -> Complaint {
    if (Complaint obstacle = refuse_population(EINVAL); !obstacle.empty()) return obstacle;
    const OpenCache cache(segment.spec());
    const std::string value(10'000, 'v');
    for (int i = 0; i < 1000; ++i) {
      if (memstream_set(cache, &i, sizeof i, value.data(), value.size(), 0, 0) != CACHE_OK) return cache_last_error();
    }
    return problems_of(cache);
  });
  CHECK(complaint == "");
}

// kernel.sem of an IPC namespace of one's own: semaphores in a set, in all, operations in one call, sets.
TEST_CASE("a system that allows few semaphores is refused with what to raise, and nothing is left behind") {
  struct Limit {
    const char* kernel_sem;
    const char* remedy;
  };
  for (const Limit& limit :
       {Limit{"8 32000 500 32000", "Raise the first number of kernel.sem"},
        Limit{"32000 8 500 32000", "raise kernel.sem"}, Limit{"32000 1024000 500 0", "raise kernel.sem"},
        Limit{"32000 1024000 1 32000", "Raise the third number of kernel.sem"}}) {
    const std::string kernel_sem = limit.kernel_sem;
    CAPTURE(kernel_sem);
    const TemporarySegment segment("limit", std::uint64_t{1} << 20);
    const std::string outcome = in_child([&]() -> Complaint {
      if (::unshare(CLONE_NEWIPC) != 0) return "skipped: only root can have an IPC namespace";
      {
        std::ofstream file("/proc/sys/kernel/sem");
        file << kernel_sem << std::flush;
        if (!file) return "skipped: kernel.sem cannot be set";
      }
      const memstream_options_t options = segment.spec().options();
      memstream_t* cache = nullptr;
      const int status = memstream_open(&options, &cache);
      const std::string reason = status == CACHE_OK ? "opened" : cache_last_error();
      const std::string traces = traces_of(segment.spec().name);
      return traces.empty() ? reason : reason + " It left " + traces;
    });
    if (outcome.starts_with("skipped")) {
      std::puts(outcome.c_str());
      std::exit(77);
    }
    CAPTURE(outcome);
    CHECK(outcome.find(limit.remedy) != std::string::npos);
    CHECK(outcome.find("eport") == std::string::npos);
    CHECK(outcome.find("seccomp") == std::string::npos);
    CHECK(outcome.find("It left") == std::string::npos);
  }
}

}  // namespace
}  // namespace memstream::test
