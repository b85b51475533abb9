// Programs that have other rights than those who started them: setuid programs, and workers that drop the rights of
// root. The setuid program is a copy of this one, with one case of its own.
#include <doctest/doctest.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "api/cache.h"
#include "api/memstream.h"
#include "tests/support/backend_kinds.h"
#include "tests/support/child_process.h"
#include "tests/support/expectations.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr uid_t kOwner = 61001;
constexpr char kProgramCase[] = "(the setuid program)";

// Says with its exit code what is wrong: 0 nothing.
TEST_CASE("(the setuid program)" * doctest::skip()) {
  if (::geteuid() == ::getuid()) std::quick_exit(77);  // The file system does not allow it.
  memstream_t* cache = nullptr;
  memstream_info_t info{};
  info.struct_size = sizeof info;
  if (memstream_open(nullptr, &cache) != CACHE_OK || memstream_info(cache, &info) != CACHE_OK) std::quick_exit(2);
  const std::string expected = "posix default " + std::to_string(std::size_t{256} << 20);
  const std::string found = std::string(info.backend) + " " + info.name + " " + std::to_string(info.size_bytes);
  struct stat status {};
  if (::stat(Posix::path("default").c_str(), &status) != 0 || (status.st_mode & 0777U) != 0600) std::quick_exit(3);
  std::quick_exit(found == expected && memstream_destroy(cache) == CACHE_OK ? 0 : 4);
}

// Its own file, which another user may execute.
struct Program {
  Program() {
    std::filesystem::copy_file("/proc/self/exe", path);
    REQUIRE(::chown(path.c_str(), kOwner, kOwner) == 0);
    REQUIRE(::chmod(path.c_str(), 04755) == 0);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() { std::remove(path.c_str()); }
  const std::string path = "/tmp/memstream-setuid-test-" + std::to_string(::getpid());
};

TEST_CASE("a setuid program obeys no variable of its caller") {
  if (!is_root()) {
    std::puts("skipped: only root can make a program that runs as another user");
    std::exit(77);
  }
  const Program program;
  const Complaint complaint = in_child([&]() -> Complaint {
    if (Complaint failed = mount_own_shm("size=16m,mode=1777"); !failed.empty()) return failed;
    if (Complaint failed = become_other_user(); !failed.empty()) return failed;
    for (const char* variable : {"MEMSTREAM_BACKEND=sysv", "MEMSTREAM_NAME=callers", "MEMSTREAM_MODE=0666",
                                 "MEMSTREAM_SIZE=1M", "MEMSTREAM_SHARDS=none"}) {
      ::putenv(const_cast<char*>(variable));
    }
    const pid_t process = ::fork();
    if (process == 0) {
      ::execl(program.path.c_str(), program.path.c_str(), "--no-skip", "--test-case", kProgramCase, nullptr);
      std::quick_exit(1);
    }
    int status = 0;
    ::waitpid(process, &status, 0);
    return WIFEXITED(status) ? "exit code " + std::to_string(WEXITSTATUS(status)) : "killed";
  });
  if (complaint == "exit code 77") {
    std::puts("skipped: the file system of /tmp does not let a program run as another user");
    std::exit(77);
  }
  CHECK(complaint == "exit code 0");
}

TEST_CASE("a worker that has dropped its privileges is told whose segment it cannot destroy, and works on") {
  SKIP_UNLESS_ROOT("become another user");
  const TemporarySegment segment("dropped", std::uint64_t{1} << 20);
  ::setenv("MEMSTREAM_NAME", segment.spec().name.c_str(), 1);
  ::setenv("MEMSTREAM_SIZE", "1M", 1);
  const OpenCache keeper(segment.spec());
  CHECK(in_child([]() -> Complaint {
          char value[16];
          std::size_t size = sizeof value;
          if (cache_connect() != CACHE_OK) return cache_last_error();
          if (Complaint failed = become_user(kOwner, kOwner); !failed.empty()) return failed;
          if (cache_put("key", "value", 5) != CACHE_OK) return cache_last_error();
          const int status = cache_destroy();
          const std::string message = cache_last_error();
          const bool says_whose = message.find("user id 0") != message.npos && message.find("61001") != message.npos;
          if (status != CACHE_NO_PERMISSION || !says_whose) return std::to_string(status) + ": " + message;
          return cache_get("key", value, &size) == CACHE_OK ? "" : cache_last_error();
        }) == "");
  CHECK(stats_of(keeper).entries == 1);
}

}  // namespace
}  // namespace memstream::test
