// Who may do what with a segment: tried by other users, who are real for the kernel, through the C interface.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "api/memstream.h"
#include "tests/support/backend_kinds.h"
#include "tests/support/child_process.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

struct User {
  uid_t id;
  gid_t group;
};
// Numbers are all that the kernel knows of a user. The first two share a group.
constexpr User kOwner{61001, 61000};
constexpr User kMember{61002, 61000};
constexpr User kStranger{kOtherUser, kOtherUser};

bool on_posix() { return std::strcmp(std::getenv("MEMSTREAM_BACKEND"), "posix") == 0; }

// Runs `body` as `user`, who asks for `mode` (nullptr: for none).
Complaint as(const User& user, const char* mode, const std::function<Complaint()>& body) {
  if (!is_root()) {
    std::puts("skipped: only root can become another user");
    std::exit(77);
  }
  return in_child([&]() -> Complaint {
    if (Complaint failed = become_user(user.id, user.group); !failed.empty()) return failed;
    mode == nullptr ? ::unsetenv("MEMSTREAM_MODE") : ::setenv("MEMSTREAM_MODE", mode, 1);
    return body();
  });
}

// What a call gave, if it was not `wanted` or its message lacks one of the `words`.
Complaint unless(int status, int wanted, std::initializer_list<const char*> words = {}) {
  const std::string message = cache_last_error();
  const bool says_so = std::all_of(words.begin(), words.end(),
                                   [&](const char* word) { return message.find(word) != std::string::npos; });
  if (status == wanted && says_so) return "";
  return "status " + std::to_string(status) + " instead of " + std::to_string(wanted) + ": " + message;
}

#define RETURN_UNLESS(...) \
  if (Complaint wrong = unless(__VA_ARGS__); !wrong.empty()) return std::to_string(__LINE__) + ": " + wrong

int put(const char* value) { return cache_put("key", value, std::strlen(value)); }

// Whether "key" has this value.
int get(const char* value) {
  std::array<char, 64> room{};
  std::size_t size = room.size();
  const int status = cache_get("key", room.data(), &size);
  return status != CACHE_OK || std::string_view(room.data(), size) == value ? status : CACHE_CORRUPT;
}

int open_with(std::uint32_t flags, memstream_t** cache) {
  memstream_options_t options;
  memstream_options_init(&options);
  options.flags = flags;
  return memstream_open(&options, cache);
}

int try_open(std::uint32_t flags) {
  memstream_t* cache = nullptr;
  const int status = open_with(flags, &cache);
  memstream_close(cache);
  return status;
}

// The shmid of a System V segment of `owner`. Its key is no secret.
int segment_id(const std::string& name, uid_t owner) {
  const int id = ::shmget(family_of(Scope::kUser, owner, name, &hash_text), 0, 0);
  return id >= 0 ? id : ::shmget(SysV::shared_family(name), 0, 0);
}

struct Facts {
  uid_t owner = 0;
  gid_t group = 0;
  unsigned mode = 0;
};

Facts facts_of(const std::string& name) {
  if (on_posix()) {
    struct stat status {};
    REQUIRE(::stat(Posix::path(name).c_str(), &status) == 0);
    return {status.st_uid, status.st_gid, status.st_mode & 0777U};
  }
  shmid_ds status{};
  REQUIRE(::shmctl(segment_id(name, ::geteuid()), IPC_STAT, &status) == 0);
  return {status.shm_perm.uid, status.shm_perm.gid, status.shm_perm.mode & 0777U};
}

// Every byte of the segment. REQUIRES: this user may read it.
std::string bytes_of(const std::string& name) {
  if (on_posix()) {
    std::ifstream file(Posix::path(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  shmid_ds status{};
  const int id = segment_id(name, kOwner.id);
  const auto* bytes = static_cast<const char*>(::shmat(id, nullptr, SHM_RDONLY));
  REQUIRE(::shmctl(id, IPC_STAT, &status) == 0);
  std::string copy(bytes, status.shm_segsz);
  ::shmdt(bytes);
  return copy;
}

// A name of this test alone, and under it a segment of kOwner in which "key" has the value "value".
class OwnersCache {
 public:
  explicit OwnersCache(const std::string& mode) : mode_(mode) {
    ::setenv("MEMSTREAM_NAME", name.c_str(), 1);
    ::setenv("MEMSTREAM_SIZE", "1M", 1);
    REQUIRE(as_owner([]() -> Complaint {
              RETURN_UNLESS(cache_connect(), CACHE_OK);
              return unless(put("value"), CACHE_OK);
            }) == "");
  }
  OwnersCache(const OwnersCache&) = delete;
  OwnersCache& operator=(const OwnersCache&) = delete;
  ~OwnersCache() {
    CHECK(as_owner([&]() -> Complaint {
            RETURN_UNLESS(memstream_destroy_named(nullptr), CACHE_OK);
            return on_posix() ? Posix::traces_of(name) : SysV::traces_of(name);
          }) == "");
  }

  Complaint as_owner(const std::function<Complaint()>& body) const { return as(kOwner, mode_.c_str(), body); }
  // The owner can do what owners do, and nobody has changed anything.
  Complaint owner_finds(const char* value) const {
    return as_owner([&]() -> Complaint {
      RETURN_UNLESS(cache_connect(), CACHE_OK);
      RETURN_UNLESS(get(value), CACHE_OK);
      RETURN_UNLESS(put(value), CACHE_OK);
      return "";
    });
  }

  const std::string name = "test-" + std::to_string(::getpid()) + "-permissions";

 private:
  std::string mode_;
};

// Root takes away what the owner did not; whether there was anything.
bool removed_by_hand(const std::string& name) {
  if (on_posix()) return std::remove(Posix::path(name).c_str()) == 0;
  const int id = segment_id(name, kOwner.id);
  return id >= 0 && ::shmctl(id, IPC_RMID, nullptr) == 0;
}

TEST_CASE("the mode is exactly the one that was asked for, whatever the umask") {
  for (const char* mode : {static_cast<const char*>(nullptr), "0600", "0660", "0640", "0644"}) {
    for (const mode_t umask : {mode_t{0}, mode_t{027}, mode_t{077}, mode_t{0777}}) {
      CAPTURE(umask);
      const std::string name = "test-" + std::to_string(::getpid()) + "-umask";
      ::setenv("MEMSTREAM_NAME", name.c_str(), 1);
      ::setenv("MEMSTREAM_SIZE", "1M", 1);
      CHECK(as(kOwner, mode, [&]() -> Complaint {
              ::umask(umask);
              RETURN_UNLESS(cache_connect(), CACHE_OK);
              const Facts facts = facts_of(name);
              RETURN_UNLESS(put("value"), CACHE_OK);
              RETURN_UNLESS(get("value"), CACHE_OK);
              RETURN_UNLESS(cache_destroy(), CACHE_OK);
              const unsigned wanted = mode == nullptr ? 0600 : static_cast<unsigned>(std::strtoul(mode, nullptr, 8));
              if (facts.owner != kOwner.id || facts.group != kOwner.group) return "it belongs to somebody else";
              return facts.mode == wanted ? "" : "mode " + std::to_string(facts.mode);
            }) == "");
      CHECK_FALSE(removed_by_hand(name));
    }
  }
}

// ---- a private segment ----

TEST_CASE("the library lets nobody but the owner into a private segment") {
  const OwnersCache cache("0600");
  for (const User& user : {kMember, kStranger}) {
    CHECK(as(user, nullptr, [&]() -> Complaint {
            // With System V a private name is each user's own, and the owner's segment is not even found.
            const int wanted = on_posix() ? CACHE_NO_PERMISSION : CACHE_NO_SEGMENT;
            const char* const remedy = on_posix() ? "ask its owner" : "no other user shares one";
            for (const std::uint32_t flags :
                 {std::uint32_t{MEMSTREAM_OPEN_READ_ONLY}, std::uint32_t{MEMSTREAM_OPEN_EXISTING},
                  std::uint32_t{MEMSTREAM_OPEN_EXISTING | MEMSTREAM_OPEN_ANY_OWNER}}) {
              RETURN_UNLESS(try_open(flags), wanted, {cache.name.c_str(), remedy});
            }
            RETURN_UNLESS(memstream_destroy_named(nullptr), wanted, {cache.name.c_str(), remedy});
            if (on_posix()) {
              RETURN_UNLESS(cache_connect(), wanted, {"user id 61001", "mode 0600", "MEMSTREAM_NAME"});
              return unless(cache_destroy(), wanted, {"user id 61001"});
            }
            RETURN_UNLESS(cache_connect(), CACHE_OK);
            RETURN_UNLESS(get("value"), CACHE_MISS);
            return unless(cache_destroy(), CACHE_OK);
          }) == "");
  }
  CHECK(cache.owner_finds("value") == "");
}

TEST_CASE("the system lets nobody but the owner into a private segment") {
  const OwnersCache cache("0600");
  for (const User& user : {kMember, kStranger}) {
    CHECK(as(user, nullptr, [&]() -> Complaint {
            if (on_posix()) {
              const std::string path = Posix::path(cache.name);
              for (const int access : {O_RDONLY, O_WRONLY, O_RDWR}) {
                if (::open(path.c_str(), access) >= 0 || errno != EACCES) return "the object was opened";
              }
              if (::truncate(path.c_str(), 0) == 0 || ::chmod(path.c_str(), 0666) == 0) return "it was changed";
              return ::unlink(path.c_str()) == 0 ? "it was removed" : "";
            }
            shmid_ds status{};
            const int id = segment_id(cache.name, kOwner.id);
            if (id < 0) return "the key is another one";
            for (const int flags : {SHM_RDONLY, 0}) {
              if (::shmat(id, nullptr, flags) != reinterpret_cast<void*>(-1)) return "attached";
            }
            if (::shmctl(id, IPC_STAT, &status) == 0 || ::shmctl(id, IPC_SET, &status) == 0) return "it was changed";
            return ::shmctl(id, IPC_RMID, nullptr) == 0 ? "it was removed" : "";
          }) == "");
  }
  CHECK(cache.owner_finds("value") == "");
}

TEST_CASE("a stranger at work on a private segment holds its owner up in nothing") {
  const OwnersCache cache("0600");
  ChildProcess stranger([&]() -> Complaint {
    if (Complaint failed = become_user(kStranger.id, kStranger.group); !failed.empty()) return failed;
    for (;;) {
      (void)try_open(MEMSTREAM_OPEN_READ_ONLY);
      (void)try_open(MEMSTREAM_OPEN_EXISTING | MEMSTREAM_OPEN_ANY_OWNER);
      (void)memstream_destroy_named(nullptr);
      if (const int fd = ::open(Posix::path(cache.name).c_str(), O_RDONLY); fd >= 0) ::flock(fd, LOCK_EX);
    }
  });
  CHECK(cache.as_owner([]() -> Complaint {
    ::setenv("MEMSTREAM_TIMEOUT_MS", "500", 1);
    for (int round = 0; round < 50; ++round) {
      RETURN_UNLESS(cache_connect(), CACHE_OK);
      RETURN_UNLESS(put("value"), CACHE_OK);
      RETURN_UNLESS(get("value"), CACHE_OK);
      RETURN_UNLESS(cache_destroy(), CACHE_OK);
    }
    RETURN_UNLESS(cache_connect(), CACHE_OK);
    return "";
  }) == "");
  stranger.send_signal(SIGKILL);
  CHECK(stranger.wait() == "killed by signal 9");
}

// ---- a segment that is shared with a group ----

TEST_CASE("who asks for a segment that the group may write to gets that of another member") {
  const OwnersCache cache("0660");
  CHECK(as(kMember, "0660", []() -> Complaint {
          RETURN_UNLESS(cache_connect(), CACHE_OK);
          RETURN_UNLESS(get("value"), CACHE_OK);
          return unless(put("another"), CACHE_OK);
        }) == "");
  CHECK(cache.owner_finds("another") == "");
}

TEST_CASE("who does not ask for it is told whose it is, and may say that the owner does not matter") {
  const OwnersCache cache("0660");
  CHECK(as(kMember, nullptr, []() -> Complaint {
          RETURN_UNLESS(cache_connect(), CACHE_NOT_OWNER, {"user id 61001", "user id 61002", "ANY_OWNER"});
          RETURN_UNLESS(memstream_destroy_named(nullptr), CACHE_NOT_OWNER, {"user id 61001", "ANY_OWNER"});
          memstream_t* opened = nullptr;
          RETURN_UNLESS(open_with(MEMSTREAM_OPEN_ANY_OWNER, &opened), CACHE_OK);
          RETURN_UNLESS(memstream_set(opened, "key", 3, "another", 7, 0, 0), CACHE_OK);
          return unless(memstream_close(opened), CACHE_OK);
        }) == "");
  CHECK(cache.owner_finds("another") == "");
}

TEST_CASE("a segment of the group lets no stranger in") {
  const OwnersCache cache("0660");
  for (const char* mode : {"0600", "0660"}) {
    CHECK(as(kStranger, mode, []() -> Complaint {
            RETURN_UNLESS(cache_connect(), CACHE_NO_PERMISSION, {"user id 61001", "group id 61000", "MEMSTREAM_NAME"});
            RETURN_UNLESS(try_open(MEMSTREAM_OPEN_READ_ONLY), CACHE_NO_PERMISSION, {"user id 61001"});
            return unless(memstream_destroy_named(nullptr), CACHE_NO_PERMISSION, {"user id 61001"});
          }) == "");
  }
  CHECK(cache.owner_finds("value") == "");
}

TEST_CASE("a member who may write may not destroy, and a destroy that is refused changes nothing") {
  const OwnersCache cache("0660");
  CHECK(as(kMember, "0660", []() -> Complaint {
          RETURN_UNLESS(cache_connect(), CACHE_OK);
          RETURN_UNLESS(cache_destroy(), CACHE_NO_PERMISSION, {"user id 61001", "only that user or root"});
          return unless(get("value"), CACHE_OK);
        }) == "");
  CHECK(cache.owner_finds("value") == "");
}

// ---- a segment that the group may read ----

TEST_CASE("who may only read is sent to a read-only attach, and that reads everything") {
  const OwnersCache cache("0640");
  const auto body = []() -> Complaint {
    for (const std::uint32_t flags : {0U, std::uint32_t{MEMSTREAM_OPEN_ANY_OWNER}}) {
      RETURN_UNLESS(try_open(flags), CACHE_NO_PERMISSION, {"user id 61001", "mode 0640", "Open it read-only"});
    }
    RETURN_UNLESS(cache_connect(), CACHE_NO_PERMISSION, {"user id 61001", "mode 0640", "Open it read-only"});
    RETURN_UNLESS(memstream_destroy_named(nullptr), CACHE_NO_PERMISSION, {"user id 61001"});
    memstream_t* opened = nullptr;
    RETURN_UNLESS(open_with(MEMSTREAM_OPEN_READ_ONLY, &opened), CACHE_OK);
    char room[64];
    std::size_t size = sizeof room;
    RETURN_UNLESS(memstream_get(opened, "key", 3, room, &size, nullptr), CACHE_OK);
    if (std::string_view(room, size) != "value") return "another value";
    if (scan_all(opened, [](const memstream_entry_t&) {}).entries != 1) return "the scan finds something else";
    if (stats_of(opened).entries != 1) return "the statistics say something else";
    RETURN_UNLESS(memstream_set(opened, "key", 3, "x", 1, 0, 0), CACHE_READ_ONLY);
    RETURN_UNLESS(memstream_delete(opened, "key", 3), CACHE_READ_ONLY);
    RETURN_UNLESS(memstream_clear(opened), CACHE_READ_ONLY);
    RETURN_UNLESS(memstream_destroy(opened), CACHE_READ_ONLY);
    return unless(memstream_close(opened), CACHE_OK);
  };
  for (const char* mode : {"0640", "0660"}) CHECK(as(kMember, mode, body) == "");
  CHECK(cache.owner_finds("value") == "");
}

// How this process has mapped the segment: "r--s".
std::string mapped_as() {
  std::ifstream file("/proc/self/maps");
  for (std::string line; std::getline(file, line);) {
    if (line.find("/memstream.test-") != std::string::npos || line.find("/SYSV") != std::string::npos) {
      return line.substr(line.find(' ') + 1, 4);
    }
  }
  return "";
}

TEST_CASE("a read-only attach waits for no lock and writes nothing") {
  const OwnersCache cache("0640");
  Signal is_locked;
  ChildProcess holder([&]() -> Complaint {
    if (Complaint failed = become_user(kOwner.id, kOwner.group); !failed.empty()) return failed;
    sembuf take{.sem_num = 0, .sem_op = 1, .sem_flg = SEM_UNDO};
    const int semaphore = on_posix() ? -1 : ::semget(SysV::shared_family(cache.name), 3, IPC_CREAT | 0600);
    const bool is_held = on_posix() ? ::flock(::open(Posix::path(cache.name).c_str(), O_RDONLY), LOCK_EX) == 0
                                    : ::semop(semaphore, &take, 1) == 0;
    is_locked.post();
    while (is_held) ::pause();
    return "the lock cannot be held";
  });
  is_locked.wait();
  // It is the creation lock that is held: who creates or removes waits for it.
  CHECK(cache.as_owner([]() -> Complaint {
    ::setenv("MEMSTREAM_TIMEOUT_MS", "20", 1);
    return unless(memstream_destroy_named(nullptr), CACHE_BUSY);
  }) == "");
  CHECK(as(kMember, nullptr, [&]() -> Complaint {
          const std::string before = bytes_of(cache.name);
          ::setenv("MEMSTREAM_TIMEOUT_MS", "0", 1);
          memstream_t* opened = nullptr;
          RETURN_UNLESS(open_with(MEMSTREAM_OPEN_READ_ONLY, &opened), CACHE_OK);
          if (mapped_as() != "r--s") return "mapped as " + mapped_as();
          char room[64];
          for (int i = 0; i < 100; ++i) {
            std::size_t size = sizeof room;
            RETURN_UNLESS(memstream_get(opened, "key", 3, room, &size, nullptr), CACHE_OK);
          }
          if (scan_all(opened, [](const memstream_entry_t&) {}).entries != stats_of(opened).entries) return "a scan";
          RETURN_UNLESS(memstream_close(opened), CACHE_OK);
          return bytes_of(cache.name) == before ? "" : "the segment has changed";
        }) == "");
  holder.send_signal(SIGKILL);
  CHECK(holder.wait() == "killed by signal 9");
}

}  // namespace
}  // namespace memstream::test
