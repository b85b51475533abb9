// What can stand in the way of POSIX shared memory, each with the real object: other files under the name, files that
// were cut, a /dev/shm that is full, read-only or absent.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>

#include "tests/support/backend_kinds.h"
#include "tests/support/child_process.h"
#include "tests/support/expectations.h"
#include "tests/support/page_map.h"

namespace memstream::test {
namespace {

using NamedPosix = NamedBackend<Posix>;

// Something that is no shared memory, under the name of a segment, until the end of the test.
class Obstacle {
 public:
  explicit Obstacle(const NamedPosix& named) : path(Posix::path(named.spec.name)) {}
  Obstacle(const Obstacle&) = delete;
  Obstacle& operator=(const Obstacle&) = delete;
  ~Obstacle() { std::remove(path.c_str()); }
  const std::string path;
};

TEST_CASE("whatever else stands under the name is refused at once and left alone") {
  NamedPosix named;
  const Obstacle obstacle(named);
  SUBCASE("a directory") { REQUIRE(::mkdir(obstacle.path.c_str(), 0700) == 0); }
  SUBCASE("a FIFO") { REQUIRE(::mkfifo(obstacle.path.c_str(), 0600) == 0); }
  SUBCASE("a link to a file") { REQUIRE(::symlink("/etc/hostname", obstacle.path.c_str()) == 0); }
  SUBCASE("a link to nothing") { REQUIRE(::symlink("/dev/shm/nothing-here", obstacle.path.c_str()) == 0); }
  SUBCASE("a socket") {
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = ""};
    obstacle.path.copy(address.sun_path, sizeof address.sun_path - 1);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    ::close(fd);
  }
  CHECK(named.try_open() == Status::kNotSharedMemory);
  CHECK(message_has(obstacle.path));
  CHECK(named.try_attach() == Status::kNotSharedMemory);
  CHECK(named.try_attach(Access::kReadOnly) == Status::kNotSharedMemory);
  CHECK(named.remove() == Status::kNotSharedMemory);
  CHECK(Posix::traces_of(named.spec.name) != "");

  std::vector<SegmentInfo> segments;
  REQUIRE(named.backend->list(named.initializer, &segments) == Status::kOk);
  for (const SegmentInfo& info : segments) CHECK(info.name != named.spec.name);
}

TEST_CASE("a file that was cut is refused, and can be removed") {
  NamedPosix named;
  (void)named.open();
  SUBCASE("to less than a header") {
    REQUIRE(::truncate(Posix::path(named.spec.name).c_str(), sizeof(TestHeader) - 1) == 0);
    CHECK(named.try_open() == Status::kTruncated);
    CHECK(named.try_attach() == Status::kTruncated);
    CHECK(named.try_attach(Access::kReadOnly) == Status::kTruncated);
    CHECK(message_has(named.spec.name));
  }
  SUBCASE("to more than a header: with the size it has, for the attach checks") {
    REQUIRE(::truncate(Posix::path(named.spec.name).c_str(), 5000) == 0);
    CHECK(named.open()->size_bytes() == 5000);
  }
  CHECK(named.remove() == Status::kOk);
}

TEST_CASE("a file without content is initialised only with the size of a segment") {
  NamedPosix named;
  const Obstacle obstacle(named);
  off_t size = 0;
  SUBCASE("too small") { size = kMinSegmentSize - 4096; }
  SUBCASE("not in pages") { size = kMinSegmentSize + 1; }
  std::ofstream(obstacle.path).close();
  REQUIRE(::truncate(obstacle.path.c_str(), size) == 0);
  CHECK(named.try_open() == Status::kTruncated);
  CHECK(message_has(std::to_string(size)));
  CHECK(named.initializer.initializations() == 0);
}

TEST_CASE("a file that its creator did not live to size is finished by the next one") {
  NamedPosix named;
  std::ofstream(Posix::path(named.spec.name)).close();
  REQUIRE(::chmod(Posix::path(named.spec.name).c_str(), 0) == 0);
  if (is_root()) {  // For others it is unreadable for now.
    CHECK(named.try_attach() == Status::kNoSegment);
    CHECK(named.try_attach(Access::kReadOnly) == Status::kNoSegment);
  }
  REQUIRE(::chmod(Posix::path(named.spec.name).c_str(), 0644) == 0);
  CHECK(named.open()->size_bytes() == named.spec.size_bytes);
  struct stat status {};
  REQUIRE(::stat(Posix::path(named.spec.name).c_str(), &status) == 0);
  CHECK((status.st_mode & 0777U) == 0600);
}

TEST_CASE("a creator's umask keeps nobody out for longer than the creation takes") {
  SKIP_UNLESS_ROOT("become another user");
  NamedPosix named;
  CHECK(in_child([&]() -> Complaint {
          if (Complaint failed = become_other_user(); !failed.empty()) return failed;
          const std::string path = Posix::path(named.spec.name);
          const int fd = ::open(path.c_str(), O_CREAT | O_RDWR, 0);  // As it is before the creator sets the mode.
          named.spec.timeout = std::chrono::milliseconds(1);
          if (named.try_open() != Status::kNoPermission) return "a file of mode 0 was opened";
          named.spec.timeout = std::chrono::seconds(10);
          std::thread creator([&] {
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
            ::fchmod(fd, 0600);
          });
          const Status status = named.try_open();
          creator.join();
          return unless(status, Status::kOk);
        }) == "");
  named.spec.any_owner = true;
}

TEST_CASE("the system's refusal is reported as such") {
  SKIP_UNLESS_ROOT("become another user");
  NamedPosix named;
  (void)named.open();
  CHECK(in_child([&]() -> Complaint {
          if (Complaint failed = become_other_user(); !failed.empty()) return failed;
          if (named.try_open() != Status::kNoPermission) return last_error();
          if (named.try_attach(Access::kReadOnly) != Status::kNoPermission) return last_error();
          return message_has("MEMSTREAM_MODE") ? "" : last_error();
        }) == "");
}

TEST_CASE("another user reads where the mode allows it, and cannot remove") {
  SKIP_UNLESS_ROOT("become another user");
  NamedPosix named;
  named.spec.mode = 0666;
  (void)named.open();
  CHECK(in_child([&]() -> Complaint {
          if (Complaint failed = become_other_user(); !failed.empty()) return failed;
          if (named.try_attach(Access::kReadOnly) != Status::kOk) return last_error();
          named.spec.mode = 0600;
          if (named.try_open() != Status::kNotOwner) return "opened for writing";
          named.spec.any_owner = true;
          if (named.try_open() != Status::kOk) return last_error();
          return unless(named.remove(), Status::kNoPermission);  // /dev/shm is sticky.
        }) == "");
}

TEST_CASE("a /dev/shm that takes no new file is reported, and nothing else happens") {
  SKIP_UNLESS_ROOT("mount");
  NamedPosix named;
  const auto open_in_own_shm = [&](const std::string& options, Status wanted, const std::function<void()>& change) {
    return in_child([&]() -> Complaint {
      if (Complaint failed = mount_own_shm(options); !failed.empty()) return failed;
      change();
      const Complaint complaint = unless(named.try_open(), wanted);
      return complaint.empty() && !message_has("/dev/shm") ? last_error() : complaint;
    });
  };
  const auto nothing = [] {};
  CHECK(open_in_own_shm("ro", Status::kNoPermission, nothing) == "");
  CHECK(open_in_own_shm("mode=0755", Status::kNoPermission, [] { (void)become_other_user(); }) == "");
  CHECK(open_in_own_shm("nr_inodes=1", Status::kNoMemory, nothing) == "");
}

TEST_CASE("without /dev/shm there is an error that says so") {
  SKIP_UNLESS_ROOT("mount");
  NamedPosix named;
  CHECK(in_child([&]() -> Complaint {
          if (Complaint failed = mount_over("/dev", "size=1m"); !failed.empty()) return failed;
          if (named.try_open() != Status::kOsError || !message_has("/dev/shm does not exist")) return last_error();
          std::vector<SegmentInfo> segments;
          return unless(named.backend->list(named.initializer, &segments), Status::kOsError);
        }) == "");
}

constexpr std::size_t kMiB = std::size_t{1} << 20;

// Commits and writes a segment of 1 GiB in a /dev/shm of 16 MiB until there is no more.
Complaint gives_what_there_is(NamedPosix& named) {
  named.spec.size_bytes = 1024 * kMiB;
  const auto segment = named.open();
  std::size_t committed = 0;
  while (segment->commit(committed, kMiB) == Status::kOk) {
    std::memset(segment->data() + committed, 1, kMiB);
    header_of(*segment).magic = kTestMagic;
    committed += kMiB;
  }
  if (committed < 14 * kMiB || committed > 16 * kMiB) return std::to_string(committed) + " bytes committed";
  if (!message_has("/dev/shm has no memory left")) return last_error();
  if (Complaint wrong = unless(segment->commit(committed, kMiB), Status::kNoMemory); !wrong.empty()) return wrong;
  std::memset(segment->data() + 4096, 2, committed - 4096);  // Nothing that was committed is lost.
  return unless(segment->commit(0, committed), Status::kOk);
}

TEST_CASE("a segment larger than /dev/shm gives what there is, then kNoMemory, and never SIGBUS") {
  SKIP_UNLESS_ROOT("mount");
  NamedPosix named;
  int error = 0;
  SUBCASE("with MADV_POPULATE_WRITE") {}
  SUBCASE("on a kernel that does not know it") { error = EINVAL; }
  SUBCASE("where a filter forbids it") { error = EPERM; }
  SUBCASE("where a filter says that there is no such call") { error = ENOSYS; }
  CHECK(in_child([&]() -> Complaint {
          if (Complaint failed = mount_own_shm("size=16m"); !failed.empty()) return failed;
          if (error != 0) {
            if (Complaint failed = refuse_population(error); !failed.empty()) return failed;
          }
          return gives_what_there_is(named);
        }) == "");
}

TEST_CASE("a process that can claim no page later takes the whole segment when it opens it, or nothing") {
  SKIP_UNLESS_ROOT("mount");
  NamedPosix named;
  named.spec.size_bytes = 8 * kMiB;
  CHECK(in_child([&]() -> Complaint {
          if (Complaint failed = mount_own_shm("size=16m"); !failed.empty()) return failed;
          (void)named.open();  // By another process that claims as it goes.
          if (Complaint failed = refuse_page_claims(); !failed.empty()) return failed;
          const auto segment = named.open();
          struct stat status {};
          ::stat(Posix::path(named.spec.name).c_str(), &status);
          if (static_cast<std::size_t>(status.st_blocks) * 512 != segment->size_bytes()) return "not all is taken";
          if (Complaint wrong = unless(segment->commit(4096, 7 * kMiB), Status::kOk); !wrong.empty()) return wrong;
          std::memset(segment->data() + 4096, 1, segment->size_bytes() - 4096);
          if (Complaint wrong = unless(named.try_attach(), Status::kOk); !wrong.empty()) return wrong;
          if (Complaint wrong = unless(named.remove(), Status::kOk); !wrong.empty()) return wrong;
          named.spec.size_bytes = 64 * kMiB;
          if (Complaint wrong = unless(named.try_open(), Status::kNoMemory); !wrong.empty()) return wrong;
          return message_has("seccomp") ? Posix::traces_of(named.spec.name) : last_error();
        }) == "");
}

TEST_CASE("a full /dev/shm fails the creation, with nothing left of it") {
  SKIP_UNLESS_ROOT("mount");
  NamedPosix named;
  CHECK(in_child([&]() -> Complaint {
          if (Complaint failed = mount_own_shm("size=1m"); !failed.empty()) return failed;
          const int filler = ::open("/dev/shm/filler", O_CREAT | O_RDWR, 0600);
          if (::posix_fallocate(filler, 0, 1 << 20) != 0) return "cannot fill";
          if (Complaint wrong = unless(named.try_open(), Status::kNoMemory); !wrong.empty()) return wrong;
          if (Posix::traces_of(named.spec.name) != "") return "left behind";
          // Sized by a creator that died: to look at its first page through a mapping would be SIGBUS.
          const int blank = ::open(Posix::path(named.spec.name).c_str(), O_CREAT | O_RDWR, 0600);
          if (::ftruncate(blank, 1 << 20) != 0) return "cannot size";
          if (Complaint wrong = unless(named.try_attach(Access::kReadOnly), Status::kNoSegment); !wrong.empty())
            return wrong;
          if (Complaint wrong = unless(named.try_open(), Status::kNoMemory); !wrong.empty()) return wrong;
          return Posix::traces_of(named.spec.name);
        }) == "");
}

TEST_CASE("a size that the process or the machine cannot have is an error, with nothing left of it") {
  NamedPosix named;
  SUBCASE("over the limit on file sizes") {
    CHECK(in_child([&]() -> Complaint {
            if (Complaint failed = limit_resource(RLIMIT_FSIZE, 4096); !failed.empty()) return failed;
            if (Complaint wrong = unless(named.try_open(), Status::kBadSize); !wrong.empty()) return wrong;
            return message_has("ulimit -f") ? "" : last_error();
          }) == "");
  }
  SUBCASE("over the address space") {
    named.spec.size_bytes = std::size_t{4} << 30;
    CHECK(in_child([&]() -> Complaint {
            if (Complaint failed = limit_address_space(std::size_t{1} << 30); !failed.empty()) return failed;
            return unless(named.try_open(), Status::kNoMemory);
          }) == "");
  }
  SUBCASE("over the largest file") {
    named.spec.size_bytes = std::size_t{1} << 63;
    CHECK(named.try_open() == Status::kBadSize);
  }
  CHECK(Posix::traces_of(named.spec.name) == "");
}

TEST_CASE("a process without a free descriptor is told of its limit") {
  NamedPosix named;
  CHECK(in_child([&]() -> Complaint {
          if (Complaint failed = limit_resource(RLIMIT_NOFILE, 0); !failed.empty()) return failed;
          if (Complaint wrong = unless(named.try_open(), Status::kOsError); !wrong.empty()) return wrong;
          return message_has("ulimit -n") ? "" : last_error();
        }) == "");
}

TEST_CASE("a damaged object is removed without a mark, since its name says whose it is") {
  NamedPosix named;
  const auto segment = named.open();
  header_of(*segment).magic = 1;
  REQUIRE(named.remove() == Status::kOk);
  CHECK(header_of(*segment).state == kTestReady);
}

TEST_CASE("an object that somebody unlinked by hand is not attached to by name") {
  NamedPosix named;
  const auto old = named.open();
  REQUIRE(::unlink(Posix::path(named.spec.name).c_str()) == 0);
  CHECK(named.try_attach() == Status::kNoSegment);
  CHECK(named.remove(old.get()) == Status::kNoSegment);
  header_of(*named.open()).token = 1;
  CHECK(header_of(*old).token == 0);
}

}  // namespace
}  // namespace memstream::test
