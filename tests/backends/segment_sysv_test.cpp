// What is peculiar to System V: keys that collide, segments and semaphores of other programs and users under our keys,
// the system's limits on both.
#include <doctest/doctest.h>
#include <sched.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <string>

#include "tests/support/backend_kinds.h"
#include "tests/support/child_process.h"
#include "tests/support/expectations.h"

namespace memstream::test {
namespace {

using NamedSysV = NamedBackend<SysV>;

// A hash for which all names are alike. It depends on the process, so that two test runs do not meet.
const auto kSameForAll = static_cast<std::uint32_t>(::getpid()) << 8 | 0x4000'0000U;
std::uint32_t same_for_all(std::string_view) { return kSameForAll; }

// A name whose keys are those of every other CollidingName.
struct CollidingName : NamedBackend<SysV> {
  explicit CollidingName(const std::string& purpose) : NamedBackend(purpose) {
    backend = make_sysv_backend(&same_for_all);
  }
};

std::string traces_of_colliding_names() { return SysV::traces_of("", &same_for_all); }

// A segment of another program, until the end of the test.
class ForeignSegment {
 public:
  ForeignSegment(key_t key, std::size_t size_bytes) : id(::shmget(key, size_bytes, IPC_CREAT | IPC_EXCL | 0600)) {
    REQUIRE(id >= 0);
    bytes = static_cast<char*>(::shmat(id, nullptr, 0));
    bytes[0] = 'F';
  }
  ForeignSegment(const ForeignSegment&) = delete;
  ForeignSegment& operator=(const ForeignSegment&) = delete;
  ~ForeignSegment() {
    ::shmdt(bytes);
    ::shmctl(id, IPC_RMID, nullptr);
  }
  const int id;
  char* bytes;
};

// A semaphore set under the user's key of a name, until the end of the test.
class PlantedSemaphore {
 public:
  PlantedSemaphore(const NamedSysV& named, int count)
      : id(::semget(SysV::user_family(named.spec.name), count, IPC_CREAT | IPC_EXCL | 0600)) {
    REQUIRE(id >= 0);
  }
  PlantedSemaphore(const PlantedSemaphore&) = delete;
  PlantedSemaphore& operator=(const PlantedSemaphore&) = delete;
  ~PlantedSemaphore() { ::semctl(id, 0, IPC_RMID); }
  void change_owner(uid_t owner) const {
    semid_ds status{};
    REQUIRE(::semctl(id, 0, IPC_STAT, &status) == 0);
    status.sem_perm.uid = owner;
    REQUIRE(::semctl(id, 0, IPC_SET, &status) == 0);
  }
  bool exists() const {
    semid_ds status{};
    return ::semctl(id, 0, IPC_STAT, &status) == 0;
  }
  const int id;
};

TEST_CASE("keys of a family differ in the last four bits and are never IPC_PRIVATE") {
  CHECK(family_of(Scope::kUser, 1, "a", [](std::string_view) { return 0U; }) == kKeysPerFamily);
  CHECK(family_of(Scope::kUser, 1, "a", [](std::string_view) { return 0xffff'ffffU; }) == 0x7fff'fff0);
  CHECK(family_of(Scope::kUser, 1, "a", &hash_text) != family_of(Scope::kUser, 2, "a", &hash_text));
  CHECK(family_of(Scope::kShared, 1, "a", &hash_text) == family_of(Scope::kShared, 2, "a", &hash_text));
  CHECK(scope_of_mode(0600) == Scope::kUser);
  CHECK(scope_of_mode(0604) == Scope::kShared);
}

TEST_CASE("names with one hash have a segment each") {
  {
    CollidingName one("one");
    CollidingName two("two");
    header_of(*one.open()).token = 1;
    header_of(*two.open()).token = 2;
    CHECK(header_of(*one.open()).token == 1);
    CHECK(header_of(*two.open()).token == 2);

    // The first key is free again, and the second name is still found behind it.
    REQUIRE(one.remove() == Status::kOk);
    CHECK(one.try_attach() == Status::kNoSegment);
    CHECK(header_of(*two.open()).token == 2);
    CHECK(two.initializer.initializations() == 1);
    CHECK(header_of(*one.open()).token == 0);
  }
  CHECK(traces_of_colliding_names() == "");
}

TEST_CASE("a name waits for the unfinished segment of another one with its hash, and does not take it") {
  {
    CollidingName one("one");
    CollidingName two("two");
    Signal begun;
    Signal go_on;
    bool is_nameless = false;
    SUBCASE("that has its name already") {}
    SUBCASE("that could be anybody's yet") { is_nameless = true; }
    TestInitializer slow(one.spec.name, [&](TestHeader& header) {
      const std::uint64_t magic = is_nameless ? header.magic.exchange(0) : kTestMagic;
      begun.post();
      go_on.wait();
      header.magic = magic;
      return Status::kOk;
    });
    ChildProcess creator([&]() -> Complaint {
      std::unique_ptr<Segment> segment;
      return unless(one.backend->open(one.spec, slow, &segment), Status::kOk);
    });
    begun.wait();
    two.spec.timeout = std::chrono::milliseconds(20);
    CHECK(two.try_open() == Status::kBusy);
    go_on.post();
    CHECK(creator.wait() == "");
    header_of(*two.open()).token = 2;
    CHECK(header_of(*one.open()).token == 0);
  }
  CHECK(traces_of_colliding_names() == "");
}

TEST_CASE("a segment that turns out to carry another name is passed by") {
  // At first sight the header has no name: its creator has not come so far yet.
  struct SlowName : TestInitializer {
    using TestInitializer::TestInitializer;
    std::string name_of(const std::byte* header) const override {
      return looks++ == 0 ? "" : TestInitializer::name_of(header);
    }
    mutable int looks = 0;
  };
  {
    CollidingName one("one");
    CollidingName two("two");
    header_of(*one.open()).token = 1;
    SlowName slow(two.spec.name);
    std::unique_ptr<Segment> segment;
    SUBCASE("opened") {
      REQUIRE(two.backend->open(two.spec, slow, &segment) == Status::kOk);
      CHECK(header_of(*segment).token == 0);
    }
    SUBCASE("attached to") {
      CHECK(two.backend->attach(two.spec, Access::kReadWrite, slow, &segment) == Status::kNoSegment);
    }
    SUBCASE("removed") { CHECK(two.backend->remove(two.spec, slow, nullptr, mark_destroyed) == Status::kNoSegment); }
    CHECK(header_of(*one.open()).state == kTestReady);
  }
  CHECK(traces_of_colliding_names() == "");
}

TEST_CASE("a segment is found while one that may succeed it is laid out at an earlier key") {
  {
    CollidingName one("one");
    CollidingName two("two");
    (void)one.open();
    const auto current = two.open();
    header_of(*current).token = 2;
    REQUIRE(one.remove() == Status::kOk);
    const Status replaced = two.backend->replace(two.spec, two.initializer, *current, [&](Segment& successor) {
      header_of(successor).state = kTestUnfinished;  // With the name already, and no mark of a successor.
      for (const Access access : {Access::kReadWrite, Access::kReadOnly}) {
        std::unique_ptr<Segment> attached;
        const Status status = two.backend->attach(two.spec, access, two.initializer, &attached);
        const std::string message = last_error();
        CAPTURE(message);
        CHECK(status == Status::kOk);
        REQUIRE(attached != nullptr);
        CHECK(header_of(*attached).token == 2);
      }
      CHECK(header_of(*two.open()).token == 2);
      return Status::kBusy;  // It is given up, and the current one stays.
    });
    CHECK(replaced == Status::kBusy);
    CHECK(header_of(*two.open()).token == 2);
  }
  CHECK(traces_of_colliding_names() == "");
}

TEST_CASE("the seventeenth name with one hash is refused") {
  {
    std::vector<std::unique_ptr<CollidingName>> names;
    for (int i = 0; i < kKeysPerFamily; ++i) {
      names.push_back(std::make_unique<CollidingName>(std::to_string(i)));
      (void)names.back()->open();
    }
    CollidingName last("last");
    CHECK(last.try_open() == Status::kOsError);
    CHECK(message_has("MEMSTREAM_NAME"));
  }
  CHECK(traces_of_colliding_names() == "");
}

TEST_CASE("another program's segment under our key is not used, written, passed by or removed") {
  NamedSysV named;
  std::size_t size = 0;
  SUBCASE("large") { size = kMinSegmentSize; }
  SUBCASE("smaller than a header") { size = 8; }
  const bool has_room = size >= sizeof(TestHeader);
  const ForeignSegment foreign(SysV::user_family(named.spec.name), size);
  CHECK(named.try_open() == (has_room ? Status::kOk : Status::kTruncated));
  CHECK(named.try_attach(Access::kReadOnly) == (has_room ? Status::kOk : Status::kTruncated));
  CHECK(named.remove() == Status::kBadMagic);
  CHECK(message_has("ipcrm -m " + std::to_string(foreign.id)));
  CHECK(named.initializer.initializations() == 0);
  CHECK(foreign.bytes[0] == 'F');
  CHECK(foreign.bytes[1] == 0);
}

TEST_CASE("another program's segment of zeros is initialised only with the size of a segment") {
  NamedSysV named;
  const ForeignSegment foreign(SysV::user_family(named.spec.name), 8192);
  foreign.bytes[0] = 0;
  CHECK(named.try_open() == Status::kTruncated);
  CHECK(named.initializer.initializations() == 0);
}

TEST_CASE("a semaphore that a killed creator left is taken and removed by the next one") {
  NamedSysV named;
  const PlantedSemaphore left(named, 3);
  (void)named.open();
  CHECK_FALSE(left.exists());
}

TEST_CASE("another program's semaphores under our key are not touched") {
  NamedSysV named;
  int count = 0;
  SUBCASE("fewer than ours") { count = 1; }
  SUBCASE("more than ours") { count = 4; }
  const PlantedSemaphore foreign(named, count);
  CHECK(named.try_open() == Status::kOsError);
  CHECK(message_has("Another program"));
  CHECK(foreign.exists());
}

TEST_CASE("another user's semaphore does not guard a creation, unless that user may write anyway") {
  SKIP_UNLESS_ROOT("give a semaphore to another user");
  NamedSysV named;
  const PlantedSemaphore hostile(named, 3);
  hostile.change_owner(kOtherUser);
  CHECK(named.try_open() == Status::kNoPermission);
  CHECK(message_has("ipcrm -S"));
  CHECK(SysV::traces_of(named.spec.name).find("segment") == std::string::npos);
  named.spec.any_owner = true;
  CHECK(named.try_open() == Status::kOk);
}

TEST_CASE("a lock on another user's semaphore is given back") {
  SKIP_UNLESS_ROOT("become another user");
  NamedSysV named;
  named.spec.mode = 0666;
  // As it is left by a creator of another user that was killed. Only its owner may remove it.
  const int semaphore = ::semget(SysV::shared_family(named.spec.name), 3, IPC_CREAT | IPC_EXCL | 0666);
  REQUIRE(semaphore >= 0);
  CHECK(in_child([&]() -> Complaint {
          if (Complaint failed = become_other_user(); !failed.empty()) return failed;
          if (Complaint wrong = unless(named.try_open(), Status::kOk); !wrong.empty()) return wrong;
          if (::semctl(semaphore, 0, GETVAL) != 0) return "the lock is still held";
          return unless(named.remove(), Status::kOk);
        }) == "");
  CHECK(::semctl(semaphore, 0, IPC_RMID) == 0);
}

TEST_CASE("a private name is each user's own, a shared one is everybody's") {
  SKIP_UNLESS_ROOT("become another user");
  NamedSysV named;
  const auto as_other_user = [&](const std::function<Complaint()>& body) {
    return in_child([&]() -> Complaint {
      const Complaint failed = become_other_user();
      return failed.empty() ? body() : failed;
    });
  };
  SUBCASE("private") {
    (void)named.open();
    CHECK(as_other_user([&]() -> Complaint {
            if (named.try_attach() != Status::kNoSegment) return "found root's private segment";
            if (named.open()->size_bytes() != kMinSegmentSize) return "wrong size";
            return unless(named.remove(), Status::kOk);
          }) == "");
    CHECK(named.try_attach() == Status::kOk);
  }
  SUBCASE("shared for reading") {
    named.spec.mode = 0644;
    (void)named.open();
    CHECK(as_other_user([&]() -> Complaint {
            named.spec.mode = 0600;
            if (named.try_open() != Status::kNoPermission) return "opened for writing";
            named.spec.any_owner = true;
            if (named.try_attach(Access::kReadWrite) != Status::kNoPermission) return "attached for writing";
            if (!message_has("read-only")) return last_error();
            return unless(named.try_attach(Access::kReadOnly), Status::kOk);
          }) == "");
  }
  SUBCASE("shared for writing") {
    named.spec.mode = 0666;
    (void)named.open();
    CHECK(as_other_user([&]() -> Complaint {
            named.spec.any_owner = true;
            if (Complaint wrong = unless(named.try_open(), Status::kOk); !wrong.empty()) return wrong;
            return unless(named.remove(), Status::kNoPermission);
          }) == "");
  }
  SUBCASE("shared with a group") {
    named.spec.mode = 0660;
    (void)named.open();
    CHECK(as_other_user([&]() -> Complaint {
            if (named.try_open() != Status::kNoPermission) return "opened";
            return message_has("MEMSTREAM_MODE") ? "" : last_error();
          }) == "");
  }
}

TEST_CASE("a segment that may only be read is no obstacle to another name with its hash") {
  SKIP_UNLESS_ROOT("become a user whom modes bind");
  CHECK(in_child([&]() -> Complaint {
          if (Complaint failed = become_other_user(); !failed.empty()) return failed;
          CollidingName readable("readable");
          CollidingName other("other");
          (void)readable.open();
          const int id = ::shmget(family_of(Scope::kUser, ::geteuid(), readable.spec.name, &same_for_all), 0, 0);
          shmid_ds status{};
          if (::shmctl(id, IPC_STAT, &status) != 0) return "no segment";
          status.shm_perm.mode = 0400;
          if (::shmctl(id, IPC_SET, &status) != 0) return "its mode cannot be changed";
          Complaint wrong = unless(other.try_open(), Status::kOk);
          if (wrong.empty()) wrong = unless(readable.try_attach(Access::kReadOnly), Status::kOk);
          if (wrong.empty()) wrong = unless(readable.try_attach(Access::kReadWrite), Status::kNoPermission);
          ::shmctl(id, IPC_RMID, nullptr);  // The library removes nothing that it may not write to.
          return wrong;
        }) == "");
  CHECK(traces_of_colliding_names() == "");
}

TEST_CASE("a commit for which there is no memory says so") {
  NamedSysV named;
  const auto segment = named.open();
  // The kernel gives ENOMEM for a range that is not mapped, too; a machine without memory cannot be had in a test.
  REQUIRE(::shmdt(segment->data()) == 0);
  CHECK(segment->commit(0, 4096) == Status::kNoMemory);
  CHECK(message_has(named.spec.name));
}

TEST_CASE("the system's limits are reported by name") {
  SKIP_UNLESS_ROOT("have limits of its own");
  NamedSysV named;
  std::string setting;
  std::string value;
  Status wanted = Status::kOk;
  SUBCASE("largest segment") { setting = "shmmax", value = "4096", wanted = Status::kBadSize; }
  SUBCASE("all segments together") { setting = "shmall", value = "1", wanted = Status::kNoMemory; }
  SUBCASE("number of segments") { setting = "shmmni", value = "0", wanted = Status::kNoMemory; }
  SUBCASE("number of semaphores") { setting = "sem", value = "250 32000 32 0", wanted = Status::kOsError; }
  CHECK(in_child([&]() -> Complaint {
          if (::unshare(CLONE_NEWIPC) != 0) return "unshare";
          std::ofstream file("/proc/sys/kernel/" + setting);
          file << value << std::flush;
          if (!file) return "cannot set " + setting;
          if (Complaint wrong = unless(named.try_open(), wanted); !wrong.empty()) return wrong;
          return message_has("kernel." + setting) ? "" : last_error();
        }) == "");
}

TEST_CASE("an address space that is too small is an error, with nothing left of the segment") {
  NamedSysV named;
  named.spec.size_bytes = std::size_t{4} << 30;
  CHECK(in_child([&]() -> Complaint {
          if (Complaint failed = limit_address_space(std::size_t{1} << 30); !failed.empty()) return failed;
          return unless(named.try_open(), Status::kNoMemory);
        }) == "");
  CHECK(SysV::traces_of(named.spec.name) == "");
}

}  // namespace
}  // namespace memstream::test
