// A cache that the members of a group share: of the group that MEMSTREAM_GROUP names, or of one that is only a
// supplementary group of theirs.
#include <doctest/doctest.h>
#include <grp.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "api/cache.h"
#include "api/memstream.h"
#include "tests/support/backend_kinds.h"
#include "tests/support/child_process.h"
#include "tests/support/own_ipc_namespace.h"

namespace memstream::test {
namespace {

constexpr gid_t kTeam = 61900;
constexpr uid_t kAlice = 61001;
constexpr uid_t kBob = 61002;
constexpr uid_t kStranger = 61003;

bool on_posix() { return std::strcmp(std::getenv("MEMSTREAM_BACKEND"), "posix") == 0; }

// Runs `body` as `user`, whose effective group is `group`, with kTeam as a supplementary group if `is_member`.
Complaint as(uid_t user, gid_t group, bool is_member, const std::function<Complaint()>& body) {
  if (!is_root()) {
    std::puts("skipped: only root can become another user");
    std::exit(77);
  }
  return in_child([&]() -> Complaint {
    const gid_t team = kTeam;
    const bool is_done = ::setgroups(is_member ? 1 : 0, &team) == 0 && ::setresgid(group, group, group) == 0 &&
                         ::setresuid(user, user, user) == 0;
    return is_done ? body() : "setresuid";
  });
}

// What was wrong with a status; empty if it is `wanted` and the message has `words`.
Complaint unless(int status, int wanted, const char* words = "") {
  const std::string message = cache_last_error();
  if (status == wanted && (status == CACHE_OK || message.find(words) != message.npos)) return "";
  return "status " + std::to_string(status) + " instead of " + std::to_string(wanted) + ": " + message;
}

Complaint put(const char* value) {
  if (Complaint wrong = unless(cache_connect(), CACHE_OK); !wrong.empty()) return wrong;
  return unless(cache_put("key", value, std::strlen(value)), CACHE_OK);
}

Complaint finds(const char* value) {
  char room[64];
  std::size_t size = sizeof room;
  if (Complaint wrong = unless(cache_connect(), CACHE_OK); !wrong.empty()) return wrong;
  if (Complaint wrong = unless(cache_get("key", room, &size), CACHE_OK); !wrong.empty()) return wrong;
  return std::string(room, size) == value ? "" : "another value";
}

// A shared name, which is gone after the test.
class SharedName {
 public:
  SharedName() {
    ::setenv("MEMSTREAM_NAME", name.c_str(), 1);
    ::setenv("MEMSTREAM_SIZE", "1M", 1);
    ::setenv("MEMSTREAM_MODE", "0660", 1);
  }
  SharedName(const SharedName&) = delete;
  SharedName& operator=(const SharedName&) = delete;
  ~SharedName() {
    ::unsetenv("MEMSTREAM_GROUP");
    std::remove(Posix::path(name).c_str());
    if (const int id = ::shmget(SysV::shared_family(name), 0, 0); id >= 0) ::shmctl(id, IPC_RMID, nullptr);
    CHECK(Posix::traces_of(name) + SysV::traces_of(name) == "");
  }

  gid_t group() const {
    struct stat file {};
    shmid_ds segment{};
    if (on_posix()) return ::stat(Posix::path(name).c_str(), &file) == 0 ? file.st_gid : 0;
    return ::shmctl(::shmget(SysV::shared_family(name), 0, 0), IPC_STAT, &segment) == 0 ? segment.shm_perm.gid : 0;
  }

  const std::string name = "test-" + std::to_string(::getpid()) + "-group";
};

TEST_CASE("a new segment gets the group that was asked for, and its mode, whatever the umask") {
  const SharedName shared;
  ::setenv("MEMSTREAM_GROUP", std::to_string(kTeam).c_str(), 1);
  CHECK(as(kAlice, kAlice, true, [] { return ::umask(0777), put("value"); }) == "");
  CHECK(shared.group() == kTeam);
  if (on_posix()) {
    struct stat file {};
    CHECK(::stat(Posix::path(shared.name).c_str(), &file) == 0);
    CHECK((file.st_mode & 0777U) == 0660);
  }
}

TEST_CASE("the members of the group share the segment, and nobody else") {
  const SharedName shared;
  ::setenv("MEMSTREAM_GROUP", std::to_string(kTeam).c_str(), 1);
  // With System V the group of a segment says nothing of its maker: that has to be root, or in the group itself.
  const gid_t makers_group = on_posix() ? kAlice : kTeam;
  CHECK(as(kAlice, makers_group, true, [] { return put("alice's"); }) == "");
  CHECK(as(kBob, kBob, true, [] { return finds("alice's"); }) == "");
  CHECK(as(kBob, kBob, true, [] { return put("bob's"); }) == "");
  CHECK(as(kAlice, makers_group, true, [] { return finds("bob's"); }) == "");
  CHECK(as(kStranger, kStranger, false, [] { return unless(cache_connect(), CACHE_NO_PERMISSION); }) == "");
}

TEST_CASE("a segment that root made for the group is shared by its members") {
  const SharedName shared;
  ::setenv("MEMSTREAM_GROUP", std::to_string(kTeam).c_str(), 1);
  CHECK(in_child([] { return put("root's"); }) == "");
  CHECK(as(kBob, kBob, true, [] { return finds("root's"); }) == "");
}

TEST_CASE("a group that is a supplementary one of both is enough to share a segment") {
  const SharedName shared;
  CHECK(as(kAlice, kTeam, false, [] { return put("alice's"); }) == "");
  CHECK(as(kBob, kBob, true, [] { return finds("alice's"); }) == "");
}

TEST_CASE("who asks for one group does not trust what another group of his made") {
  const SharedName shared;
  CHECK(as(kAlice, kTeam, false, [] { return put("alice's"); }) == "");
  ::setenv("MEMSTREAM_GROUP", std::to_string(kBob).c_str(), 1);
  CHECK(as(kBob, kBob, true, [] { return unless(cache_connect(), CACHE_NOT_OWNER, "user id 61001"); }) == "");
}

TEST_CASE("a creator that is not in the group is told so, and leaves nothing") {
  const SharedName shared;
  ::setenv("MEMSTREAM_GROUP", std::to_string(kTeam).c_str(), 1);
  CHECK(as(kStranger, kStranger, false,
           [] { return unless(cache_connect(), CACHE_NO_PERMISSION, "MEMSTREAM_GROUP"); }) == "");
  CHECK(Posix::traces_of(shared.name) + SysV::traces_of(shared.name) == "");
}

TEST_CASE("with System V a stranger cannot pass a segment off as the group's") {
  if (on_posix()) return;  // There only a member can give a file to the group.
  const SharedName shared;
  CHECK(as(kStranger, kStranger, false, [&]() -> Complaint {
          if (Complaint wrong = put("stranger's"); !wrong.empty()) return wrong;
          const int id = ::shmget(SysV::shared_family(shared.name), 0, 0);
          shmid_ds status{};
          if (::shmctl(id, IPC_STAT, &status) != 0) return "IPC_STAT";
          status.shm_perm.gid = kTeam;
          return ::shmctl(id, IPC_SET, &status) == 0 ? "" : "IPC_SET";
        }) == "");
  ::setenv("MEMSTREAM_GROUP", std::to_string(kTeam).c_str(), 1);
  CHECK(as(kBob, kBob, true, [] { return unless(cache_connect(), CACHE_NOT_OWNER, "user id 61003"); }) == "");
}

}  // namespace
}  // namespace memstream::test
