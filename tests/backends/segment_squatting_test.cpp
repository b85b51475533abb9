// Objects that another user made where ours should stand: a segment or a semaphore under our keys, a file or a link
// under our name. Nothing of it is used or followed, and the message says whose it is.
#include <doctest/doctest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "backends/ownership.h"
#include "tests/support/backend_kinds.h"
#include "tests/support/child_process.h"
#include "tests/support/expectations.h"

namespace memstream::test {
namespace {

constexpr uid_t kVictim = 61001;
constexpr gid_t kGroup = 61000;

Complaint as_user(uid_t user, gid_t group, const std::function<Complaint()>& body) {
  return in_child([&]() -> Complaint {
    const Complaint failed = become_user(user, group);
    return failed.empty() ? body() : failed;
  });
}

Complaint as_stranger(const std::function<Complaint()>& body) { return as_user(kOtherUser, kOtherUser, body); }

// As the victim, in a user namespace that maps nobody: the kernel shows it its own id and the stranger's as 65534.
Complaint as_unmapped_victim(const std::function<Complaint()>& body) {
  return as_user(kVictim, kVictim, [&]() -> Complaint {
    if (::unshare(CLONE_NEWUSER) != 0) return std::puts("skipped: no user namespace is to be had"), "";
    return ::geteuid() == kOtherUser ? body() : "the id is " + std::to_string(::geteuid());
  });
}

// What the unmapped victim sees of a segment that the stranger let everybody write to.
template <class Kind>
Complaint refuses_as_unmapped(NamedBackend<Kind>& named) {
  named.spec.mode = 0666;
  REQUIRE(as_stranger([&] { return ::umask(0), unless(named.try_open(), Status::kOk); }) == "");
  named.spec.mode = 0600;
  return as_unmapped_victim([&]() -> Complaint {
    if (Complaint wrong = unless(named.try_open(), Status::kNotOwner); !wrong.empty()) return wrong;
    if (!message_has("/proc/self/uid_map")) return last_error();
    if (Complaint wrong = unless(named.try_attach(), Status::kNotOwner); !wrong.empty()) return wrong;
    if (Complaint wrong = unless(named.remove(), Status::kNotOwner); !wrong.empty()) return wrong;
    if (Complaint wrong = unless(named.try_attach(Access::kReadOnly), Status::kOk); !wrong.empty()) return wrong;
    named.spec.any_owner = true;
    return unless(named.try_attach(), Status::kOk);
  });
}

// ---- whom a process trusts ----

Ownership owned_by(uid_t user, gid_t group, unsigned mode) {
  return {.owner = user, .creator = user, .group = group, .creator_group = group, .mode = mode};
}

TEST_CASE("a process trusts what is its own, and of others what its own mode makes no different") {
  const uid_t me = ::geteuid();
  const gid_t us = ::getegid();
  const auto trusts = [](const Ownership& ownership, unsigned mode) {
    return is_trusted(ownership, SegmentSpec{.name = "x", .mode = mode});
  };
  CHECK(trusts(owned_by(me, us, 0600), 0600));
  CHECK_FALSE(trusts(owned_by(me + 1, us, 0600), 0600));
  CHECK(is_trusted(owned_by(me + 1, us + 1, 0600), SegmentSpec{.name = "x", .any_owner = true}));

  CHECK(trusts(owned_by(me + 1, us, 0660), 0660));
  CHECK_FALSE(trusts(owned_by(me + 1, us + 1, 0660), 0660));
  CHECK_FALSE(trusts(owned_by(me + 1, us, 0666), 0660));  // The group is trusted, and everybody could write.
  CHECK_FALSE(trusts(owned_by(me + 1, us, 0660), 0640));
  CHECK(trusts(owned_by(me + 1, us + 1, 0666), 0666));
  CHECK_FALSE(trusts(owned_by(me + 1, us + 1, 0600), 0666));  // Its maker keeps it for himself.
  CHECK_FALSE(trusts(owned_by(me + 1, us, 0640), 0660));

  // Given away with System V: its maker can do everything with it still.
  Ownership given = owned_by(me, us, 0660);
  given.creator = me + 1;
  CHECK_FALSE(trusts(given, 0600));
  CHECK(trusts(given, 0660));
  given.creator_group = us + 1;
  CHECK_FALSE(trusts(given, 0660));
  given = owned_by(me, us, 0600);
  given.owner = me + 1;
  CHECK_FALSE(trusts(given, 0600));
}

TEST_CASE("a group whose number others have in this user namespace too is shared with nobody") {
  SKIP_UNLESS_ROOT("become another user");
  const auto trusts_group = [] {
    return is_trusted(owned_by(kVictim + 1, ::getegid(), 0660), SegmentSpec{.name = "x", .mode = 0660});
  };
  CHECK(as_user(kVictim, kVictim, [&] { return trusts_group() ? "" : "it is not shared"; }) == "");
  CHECK(as_unmapped_victim([&] { return trusts_group() ? "it is shared" : ""; }) == "");
}

// ---- System V ----

// All names of all users have these keys. They depend on the process, so that two test runs do not meet.
const auto kSameForAll = static_cast<std::uint32_t>(::getpid()) << 8 | 0x2000'0000U;
std::uint32_t same_for_all(std::string_view) { return kSameForAll; }
key_t first_key() { return family_of(Scope::kShared, 0, "", &same_for_all); }

struct CollidingName : NamedBackend<SysV> {
  explicit CollidingName(const std::string& purpose = "main") : NamedBackend(purpose) {
    backend = make_sysv_backend(&same_for_all);
  }
};

// Takes away what a stranger made, as only root can.
struct Cleanup {
  Cleanup() = default;
  Cleanup(const Cleanup&) = delete;
  Cleanup& operator=(const Cleanup&) = delete;
  ~Cleanup() {
    for (key_t key = first_key(); key < first_key() + kKeysPerFamily; ++key) {
      if (const int id = ::shmget(key, 0, 0); id >= 0) ::shmctl(id, IPC_RMID, nullptr);
      if (const int id = ::semget(key, 0, 0); id >= 0) ::semctl(id, 0, IPC_RMID);
    }
  }
};

TEST_CASE("a segment that somebody made and gave to us is not ours") {
  SKIP_UNLESS_ROOT("become another user");
  CollidingName named;
  const Cleanup cleanup;
  REQUIRE(as_stranger([&]() -> Complaint {
            if (Complaint wrong = unless(named.try_open(), Status::kOk); !wrong.empty()) return wrong;
            const int id = ::shmget(first_key(), 0, 0);
            shmid_ds status{};
            if (::shmctl(id, IPC_STAT, &status) != 0) return "IPC_STAT";
            status.shm_perm.uid = 0;  // An owner may do that.
            return ::shmctl(id, IPC_SET, &status) == 0 ? "" : "IPC_SET";
          }) == "");
  CHECK(named.try_open() == Status::kNotOwner);
  CHECK(message_has("user id 65534"));
  CHECK(named.try_attach() == Status::kNotOwner);
  CHECK(named.remove() == Status::kNotOwner);
  CHECK(named.try_attach(Access::kReadOnly) == Status::kOk);
}

// As a stranger: a segment under `key` that passes for one with this name.
Complaint plant_segment(const NamedBackend<SysV>& named, key_t key = first_key()) {
  return as_stranger([&]() -> Complaint {
    const int id = ::shmget(key, kMinSegmentSize, IPC_CREAT | IPC_EXCL | 0666);
    if (id < 0) return "shmget";
    TestHeader& header = header_of(static_cast<std::byte*>(::shmat(id, nullptr, 0)));
    header.magic = kTestMagic;
    header.state = kTestReady;
    header.name_length = static_cast<std::uint32_t>(named.spec.name.copy(header.name, sizeof header.name));
    return "";
  });
}

TEST_CASE("a segment that another user put before our own under its name does not hide it") {
  SKIP_UNLESS_ROOT("become another user");
  CollidingName named;
  {
    CollidingName first("first");  // Has the first key while ours is made, which gets the second.
    (void)first.open();
    header_of(*named.open()).token = 7;
  }
  const Cleanup cleanup;
  REQUIRE(plant_segment(named) == "");
  CHECK(header_of(*named.open()).token == 7);
  CHECK(named.remove() == Status::kOk);
  CHECK(named.try_open() == Status::kNotOwner);
  CHECK(message_has("user id 65534"));
}

TEST_CASE("a segment that a third user plants redirects no reader of a genuine one") {
  SKIP_UNLESS_ROOT("become another user");
  CollidingName named;
  const Cleanup cleanup;
  named.spec.mode = 0644;
  constexpr uid_t kGenuine = kVictim + 1;
  const auto make_genuine = [&] {
    return as_user(kGenuine, kGenuine, [&] { return header_of(*named.open()).token = 100, ""; });
  };
  const auto read = [&](uid_t user) {
    return as_user(user, user, [&]() -> Complaint {
      std::unique_ptr<Segment> segment;
      const Status status = named.backend->attach(named.spec, Access::kReadOnly, named.initializer, &segment);
      return status == Status::kOk ? std::to_string(header_of(*segment).token) : last_error();
    });
  };
  {
    CollidingName first("first");  // Has the first key while the genuine one is made, which gets the second.
    first.spec.mode = 0644;
    (void)first.open();
    REQUIRE(make_genuine() == "");
  }
  CHECK(read(kVictim) == "100");
  REQUIRE(plant_segment(named) == "");
  CHECK(read(kGenuine) == "100");
  const std::string refusal = read(kVictim);
  CHECK(refusal.find("exists twice") != std::string::npos);
  CHECK(refusal.find("user id 65534") != std::string::npos);
  CHECK(refusal.find("user id 61002") != std::string::npos);
}

TEST_CASE("a segment that another user plants under a private key of the reader is passed by") {
  SKIP_UNLESS_ROOT("become another user");
  NamedBackend<SysV> named;
  named.spec.mode = 0644;
  header_of(*named.open()).token = 100;  // Root's, and shared.
  const key_t key = family_of(Scope::kUser, kVictim, named.spec.name, &hash_text);
  REQUIRE(plant_segment(named, key) == "");
  CHECK(as_user(kVictim, kGroup, [&]() -> Complaint {
          named.spec.mode = 0600;  // Without MEMSTREAM_MODE a process looks under its private keys first.
          std::unique_ptr<Segment> segment;
          const Status status = named.backend->attach(named.spec, Access::kReadOnly, named.initializer, &segment);
          if (status != Status::kOk) return last_error();
          return header_of(*segment).token == 100 ? "" : "token " + std::to_string(header_of(*segment).token);
        }) == "");
  ::shmctl(::shmget(key, 0, 0), IPC_RMID, nullptr);
}

TEST_CASE("who may not even look at a segment under our key is told whose it is") {
  SKIP_UNLESS_ROOT("become another user");
  CollidingName named;
  const Cleanup cleanup;
  REQUIRE(as_stranger([&]() -> Complaint { return unless(named.try_open(), Status::kOk); }) == "");
  CHECK(as_user(kVictim, kGroup, [&]() -> Complaint {
          if (Complaint wrong = unless(named.try_open(), Status::kNoPermission); !wrong.empty()) return wrong;
          return message_has("user id 65534") && message_has("MEMSTREAM_NAME") ? "" : last_error();
        }) == "");
}

// As a stranger, or another member of the victim's group: a semaphore where the victim's creation lock should be.
Complaint plant_semaphore(uid_t user, gid_t group, int mode, uid_t given_to) {
  return as_user(user, group, [&]() -> Complaint {
    const int id = ::semget(first_key(), 3, IPC_CREAT | IPC_EXCL | mode);
    semid_ds status{};
    if (id < 0 || ::semctl(id, 0, IPC_STAT, &status) != 0) return "semget";
    status.sem_perm.uid = given_to;
    return ::semctl(id, 0, IPC_SET, &status) == 0 ? "" : "IPC_SET";
  });
}

// As the victim: `call` is refused because of the planted semaphore.
Complaint victim_is_told_of_it(const std::function<Status()>& call) {
  return as_user(kVictim, kGroup, [&]() -> Complaint {
    if (Complaint wrong = unless(call(), Status::kNoPermission); !wrong.empty()) return wrong;
    return message_has("user id 65534") && message_has("ipcrm -S") ? "" : last_error();
  });
}

TEST_CASE("a semaphore of another user guards no creation, whatever it pretends to be") {
  SKIP_UNLESS_ROOT("become another user");
  CollidingName named;
  const Cleanup cleanup;
  int mode = 0600;
  uid_t given_to = kOtherUser;
  SUBCASE("private") {}
  SUBCASE("open to all") { mode = 0666; }
  SUBCASE("given to the victim") { given_to = kVictim; }
  SUBCASE("given to root") { mode = 0666, given_to = 0; }
  SUBCASE("where the group is trusted, to which the other user does not belong") {
    mode = 0666;
    named.spec.mode = 0660;
  }
  REQUIRE(plant_semaphore(kOtherUser, kOtherUser, mode, given_to) == "");
  CHECK(victim_is_told_of_it([&] { return named.try_open(); }) == "");
  CHECK(SysV::traces_of("", &same_for_all).find("segment") == std::string::npos);
}

TEST_CASE("where the group is trusted, a semaphore that one of it left guards a creation") {
  SKIP_UNLESS_ROOT("become another user");
  CollidingName named;
  const Cleanup cleanup;
  named.spec.mode = 0660;
  REQUIRE(plant_semaphore(kVictim + 1, kGroup, 0660, kVictim + 1) == "");
  CHECK(as_user(kVictim, kGroup, [&] { return unless(named.try_open(), Status::kOk); }) == "");
}

TEST_CASE("a planted semaphore keeps nobody from a segment that is ready, and its removal says what to do") {
  SKIP_UNLESS_ROOT("become another user");
  CollidingName named;
  const Cleanup cleanup;
  const auto as_victim = [&](const std::function<Status()>& call) {
    return as_user(kVictim, kGroup, [&] { return unless(call(), Status::kOk); });
  };
  REQUIRE(as_victim([&] { return named.try_open(); }) == "");
  REQUIRE(plant_semaphore(kOtherUser, kOtherUser, 0600, kOtherUser) == "");
  CHECK(as_victim([&] { return named.try_open(); }) == "");
  CHECK(victim_is_told_of_it([&] { return named.remove(); }) == "");
  CHECK(as_victim([&] { return named.try_open(); }) == "");
}

TEST_CASE("a System V segment of another user with the same number in this user namespace is not ours") {
  SKIP_UNLESS_ROOT("become another user");
  NamedBackend<SysV> named;
  CHECK(refuses_as_unmapped(named) == "");
  named.spec.mode = 0666;  // Names the keys that it has.
}

// ---- POSIX ----

using NamedPosix = NamedBackend<Posix>;

TEST_CASE("a POSIX segment of another user with the same number in this user namespace is not ours") {
  SKIP_UNLESS_ROOT("become another user");
  NamedPosix named;
  CHECK(refuses_as_unmapped(named) == "");
}

TEST_CASE("a user whose number others have in this user namespace too shares a segment with itself") {
  SKIP_UNLESS_ROOT("become another user");
  NamedPosix named;
  CHECK(as_unmapped_victim([&]() -> Complaint {
          if (Complaint wrong = unless(named.try_open(), Status::kOk); !wrong.empty()) return wrong;
          if (Complaint wrong = unless(named.try_open(), Status::kOk); !wrong.empty()) return wrong;
          if (Complaint wrong = unless(named.try_attach(), Status::kOk); !wrong.empty()) return wrong;
          return unless(named.remove(), Status::kOk);
        }) == "");
}

// As a stranger: makes something under a name. Root takes it away at the end.
class PlantedFile {
 public:
  PlantedFile(const NamedPosix& named, const std::function<bool(const char* path)>& make)
      : path_(Posix::path(named.spec.name)) {
    REQUIRE(as_stranger([&] { return make(path_.c_str()) ? "" : "it cannot be planted"; }) == "");
  }
  PlantedFile(const PlantedFile&) = delete;
  PlantedFile& operator=(const PlantedFile&) = delete;
  ~PlantedFile() { std::remove(path_.c_str()); }

 private:
  std::string path_;
};

TEST_CASE("a file that another user put under the name is refused, and the message says whose it is") {
  SKIP_UNLESS_ROOT("become another user");
  NamedPosix named;
  named.spec.timeout = std::chrono::milliseconds(20);
  mode_t mode = 0600;
  SUBCASE("readable") { mode = 0644; }
  SUBCASE("private") {}
  SUBCASE("of mode 0, like one that is being made") { mode = 0; }
  SUBCASE("open to all") { mode = 0666; }
  const PlantedFile planted(named,
                            [&](const char* path) { return std::ofstream(path).good() && ::chmod(path, mode) == 0; });
  const Status wanted = mode == 0666 ? Status::kNotOwner : Status::kNoPermission;
  CHECK(as_user(kVictim, kGroup, [&]() -> Complaint {
          if (Complaint wrong = unless(named.try_open(), wanted); !wrong.empty()) return wrong;
          if (!message_has("user id 65534")) return last_error();
          return unless(named.remove(), wanted);
        }) == "");
  CHECK(named.try_open() == Status::kNotOwner);  // Root is let in by the system, and told all the same.
  CHECK(message_has("user id 65534"));
}

TEST_CASE("a link that another user put under the name leads nowhere") {
  SKIP_UNLESS_ROOT("become another user");
  NamedPosix named;
  char precious[] = "/dev/shm/test-precious-XXXXXX";
  const int file = ::mkstemp(precious);
  REQUIRE(::write(file, "precious", 8) == 8);
  {
    const PlantedFile planted(named, [&](const char* path) { return ::symlink(precious, path) == 0; });
    CHECK(named.try_open() == Status::kNotSharedMemory);
    CHECK(named.try_attach(Access::kReadOnly) == Status::kNotSharedMemory);
    CHECK(named.remove() == Status::kNotSharedMemory);
    CHECK(message_has(Posix::path(named.spec.name)));
  }
  struct stat status {};
  CHECK(::fstat(file, &status) == 0);
  CHECK(status.st_size == 8);
  CHECK(status.st_nlink == 1);
  CHECK((status.st_mode & 0777U) == 0600);
  ::close(file);
  std::remove(precious);
}

TEST_CASE("where files cannot be changed, a segment is opened for reading or not at all") {
  SKIP_UNLESS_ROOT("mount");
  NamedPosix named;
  CHECK(in_child([&]() -> Complaint {
          if (Complaint failed = mount_own_shm("size=4m"); !failed.empty()) return failed;
          (void)named.open();
          if (::mount("none", "/dev/shm", "tmpfs", MS_REMOUNT | MS_RDONLY, nullptr) != 0) return "cannot remount";
          if (Complaint wrong = unless(named.try_open(), Status::kNoPermission); !wrong.empty()) return wrong;
          if (!message_has("mounted read-only")) return last_error();
          return unless(named.try_attach(Access::kReadOnly), Status::kOk);
        }) == "");
}

}  // namespace
}  // namespace memstream::test
