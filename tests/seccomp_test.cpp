// Filters of system calls, as containers and services have them: each call that the library makes is forbidden in turn.
// Opening then works, or is refused with a sentence that does not take the filter for a defect. Nothing is left behind.
#include <doctest/doctest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
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

}  // namespace
}  // namespace memstream::test
