// The backends as type parameters of the conformance suite: how to make one, and what only the system's own calls can
// do.
#pragma once

#include <doctest/doctest.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "backends/posix/posix_backend.h"
#include "backends/sysv/sysv_backend.h"
#include "core/layout/layout.h"
#include "tests/support/memory_segment.h"
#include "tests/support/test_segment.h"

namespace memstream::test {

struct Posix {
  static std::unique_ptr<SegmentBackend> make() { return make_posix_backend(); }
  static std::string path(const std::string& name) { return "/dev/shm/memstream." + name; }
  static void change_owner(const std::string& name, uid_t owner) {
    REQUIRE(::chown(path(name).c_str(), owner, static_cast<gid_t>(-1)) == 0);
  }
  // What the system still has of a name; empty if nothing.
  static std::string traces_of(const std::string& name) {
    struct stat status {};
    return ::lstat(path(name).c_str(), &status) == 0 ? path(name) : "";
  }
};

struct SysV {
  static std::unique_ptr<SegmentBackend> make() { return make_sysv_backend(); }
  static key_t user_family(const std::string& name, TextHash hash = &hash_text) {
    return family_of(Scope::kUser, ::geteuid(), name, hash);
  }
  static key_t shared_family(const std::string& name, TextHash hash = &hash_text) {
    return family_of(Scope::kShared, 0, name, hash);
  }
  static void change_owner(const std::string& name, uid_t owner) {
    const int id = ::shmget(user_family(name), 0, 0);
    shmid_ds status{};
    REQUIRE(::shmctl(id, IPC_STAT, &status) == 0);
    status.shm_perm.uid = owner;
    REQUIRE(::shmctl(id, IPC_SET, &status) == 0);
  }
  static std::string traces_of(const std::string& name, TextHash hash = &hash_text) {
    std::string traces;
    for (const key_t family : {user_family(name, hash), shared_family(name, hash)}) {
      for (key_t key = family; key < family + kKeysPerFamily; ++key) {
        if (::shmget(key, 0, 0) >= 0) traces += "a segment with key " + std::to_string(key) + "; ";
      }
      if (::semget(family, 0, 0) >= 0) traces += "a semaphore with key " + std::to_string(family) + "; ";
    }
    return traces;
  }
};

struct InMemory {
  static std::unique_ptr<SegmentBackend> make() { return std::make_unique<MemoryBackend>(); }
  static void change_owner(const std::string& name, uid_t owner) { MemoryBackend::change_owner(name, owner); }
  static std::string traces_of(const std::string& name) { return MemoryBackend::exists(name) ? name : ""; }
};

// A name of this test process alone, with a backend to use it on. Ends with a check that nothing is left behind.
template <class Kind>
class NamedBackend {
 public:
  explicit NamedBackend(const std::string& purpose = "main")
      : spec{.name = "test-" + std::to_string(::getpid()) + "-" + purpose, .size_bytes = kMinSegmentSize},
        initializer(spec.name),
        backend(Kind::make()) {}
  NamedBackend(const NamedBackend&) = delete;
  NamedBackend& operator=(const NamedBackend&) = delete;
  ~NamedBackend() {
    spec.any_owner = true;
    (void)remove();  // Many tests end with nothing to remove.
    CHECK(Kind::traces_of(spec.name) == "");
  }

  std::unique_ptr<Segment> open() {
    std::unique_ptr<Segment> segment;
    const Status status = backend->open(spec, initializer, &segment);
    REQUIRE_MESSAGE(status == Status::kOk, last_error());
    return segment;
  }
  Status try_open() {
    std::unique_ptr<Segment> segment;
    return backend->open(spec, initializer, &segment);
  }
  Status try_attach(Access access = Access::kReadWrite) {
    std::unique_ptr<Segment> segment;
    return backend->attach(spec, access, initializer, &segment);
  }
  Status remove(const Segment* only = nullptr) { return backend->remove(spec, initializer, only, mark_destroyed); }

  SegmentSpec spec;
  TestInitializer initializer;
  std::unique_ptr<SegmentBackend> backend;
};

}  // namespace memstream::test
