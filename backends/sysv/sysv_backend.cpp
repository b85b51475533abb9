// Finding, creating and listing System V segments by name.
#include "backends/sysv/sysv_backend.h"

#include <fmt/format.h>
#include <sys/shm.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "backends/accounts.h"
#include "backends/filters.h"
#include "backends/huge_pages.h"
#include "backends/lifecycle_backend.h"
#include "backends/mapped_segment.h"
#include "backends/sysv/sysv_object.h"
#include "backends/touch_pages.h"
#include "core/layout/layout.h"

namespace memstream {
namespace {

class SysvBackend final : public LifecycleBackend {
 public:
  explicit SysvBackend(TextHash hash) : hash_(hash) {}

  const char* name() const noexcept override { return "sysv"; }

  Status list(SegmentInitializer& initializer, std::vector<SegmentInfo>* segments) override;

 private:
  Status find(const SegmentSpec& spec, Access access, const SegmentInitializer& initializer,
              std::unique_ptr<SharedObject>* object) override;
  Status find_mapped(const SegmentSpec& spec, const Segment& segment, const SegmentInitializer& initializer,
                     std::unique_ptr<SharedObject>* object) override;
  Status create(const SegmentSpec& spec, const SegmentInitializer& initializer, const Deadline& deadline,
                std::unique_ptr<SharedObject>* object) override;
  // As find(). `*saw_successor`: one was met that was pending; since then it may have got the name.
  Status look_at_keys(const SegmentSpec& spec, Access access, const SegmentInitializer& initializer,
                      std::unique_ptr<SharedObject>* object, bool* saw_successor);
  // A name has several keys. A successor has another one of these from the start, and a name of its own only in its
  // header, as long as it is pending.
  Status find_successor(SharedObject& object, const SegmentInitializer& initializer,
                        std::unique_ptr<SharedObject>* successor) override;
  Status create_successor(SharedObject& object, const SegmentSpec& spec, const SegmentInitializer& initializer,
                          const Deadline& deadline, std::unique_ptr<SharedObject>* successor) override;
  Status move_name(SharedObject& object, SharedObject& /*successor*/) override { return object.remove_name(); }

  // A new segment with the first free key of the family. `locks` go to the object.
  Status make_segment(const SegmentSpec& spec, const SegmentInitializer& initializer, key_t family,
                      std::vector<CreationLock> locks, std::unique_ptr<SharedObject>* object) const;

  std::size_t huge_page_size_bytes() const noexcept override { return huge_page_pool().page_size_bytes; }

  key_t family(Scope scope, const SegmentSpec& spec) const { return family_of(scope, user_of(spec), spec.name, hash_); }
  // The user whose segments are looked for. It is another user only for reading.
  static uid_t user_of(const SegmentSpec& spec) noexcept {
    return spec.owner != SegmentSpec::kNoUser ? spec.owner : ::geteuid();
  }

  TextHash hash_;
};

// Finds the segment that has `key` now, and the identity that it claims. kNoSegment if there is none; an error if its
// header cannot be read.
Status look_up_key(const SegmentSpec& spec, Access access, const SegmentInitializer& initializer, key_t family,
                   key_t key, std::unique_ptr<SysvObject>* object, Identity* identity) {
  const int id = ::shmget(key, 0, 0);
  if (id < 0) {
    if (errno == ENOENT || errno == EIDRM) return Status::kNoSegment;
    return fail_errno(errno == EACCES ? Status::kNoPermission : Status::kOsError, "shmget", spec.name, errno,
                      "A filter (seccomp) or a security module keeps this process from finding System V segments. "
                      "Allow shmget(), or use MEMSTREAM_BACKEND=posix.");
  }
  shmid_ds status{};
  if (::shmctl(id, IPC_STAT, &status) != 0) {
    if (is_removed(errno)) return Status::kNoSegment;
    if (errno != EACCES)
      return fail_errno(Status::kOsError, "shmctl", spec.name, errno, remedy_of(errno, "See ipcs -m."));
    Ownership ownership;
    return refuse_access(ownership_of_segment(id, &ownership) ? &ownership : nullptr, false, spec);
  }
  if ((status.shm_perm.mode & SHM_DEST) != 0) return Status::kNoSegment;
  *object = std::make_unique<SysvObject>(spec, access, initializer, family, id, status);
  const Status result = identify(**object, initializer, identity);
  if (result == Status::kGone) return Status::kNoSegment;
  return result == Status::kTruncated ? Status::kOk : result;  // Too small for a header: it has no name.
}

// Two segments of other users are ambiguous, and either may be there to mislead.
Status refuse_ambiguous(const SegmentSpec& spec, const SharedObject& one, const SharedObject& other) {
  return fail(
      Status::kNotOwner,
      fmt::format("Segment '{}' exists twice: one belongs to {}, the other to {}. This process (user id {}) trusts "
                  "neither user. Choose another name (MEMSTREAM_NAME), or have one removed (see ipcs -m).",
                  spec.name, one.ownership().whose(), other.ownership().whose(), ::geteuid()));
}

// The keys are looked at one after the other. A successor that was pending when its key was looked at may be ready
// when that of the segment before it has gone. So nothing is there only if no look has met a successor, or the third
// one did.
Status SysvBackend::find(const SegmentSpec& spec, Access access, const SegmentInitializer& initializer,
                         std::unique_ptr<SharedObject>* object) {
  for (int looks = 0;; ++looks) {
    bool saw_successor = false;
    const Status status = look_at_keys(spec, access, initializer, object, &saw_successor);
    if (status != Status::kNoSegment || !saw_successor || looks == 2) return status;
  }
}

Status SysvBackend::look_at_keys(const SegmentSpec& spec, Access access, const SegmentInitializer& initializer,
                                 std::unique_ptr<SharedObject>* object, bool* saw_successor) {
  // Look at all keys, also behind a free one: the segment that had the earlier key may have been removed since.
  const Scope first = scope_of_mode(spec.mode);
  const Scope second = first == Scope::kUser ? Scope::kShared : Scope::kUser;
  std::unique_ptr<SysvObject> nameless;
  // It has the name from an instant on at which it is no successor yet: what it is to succeed comes first.
  std::unique_ptr<SysvObject> unfinished;
  // These have the name, and do not hide a segment that can be trusted.
  std::unique_ptr<SysvObject> untrusted;
  std::unique_ptr<SysvObject> ambiguous;     // A second one, of another user than the first.
  std::unique_ptr<SysvObject> in_own_scope;  // Where only this user should make segments: the last choice.
  std::unique_ptr<SysvObject> superseded;    // Its successor has the name too, unless somebody was killed too early.
  Status refusal = Status::kOk;
  const std::string pending = SegmentInitializer::successor_name(spec.name);
  for (const Scope scope : {first, second}) {
    const key_t family = this->family(scope, spec);
    for (key_t key = family; key < family + kKeysPerFamily; ++key) {
      std::unique_ptr<SysvObject> candidate;
      Identity identity;
      const Status status = look_up_key(spec, access, initializer, family, key, &candidate, &identity);
      if (status == Status::kNoSegment) continue;
      if (status != Status::kOk) {
        refusal = status;
      } else if (identity.name == pending) {
        *saw_successor = true;
      } else if (identity.name == spec.name) {
        const bool is_wanted = spec.owner == SegmentSpec::kNoUser ? is_trusted(candidate->ownership(), spec)
                                                                  : is_of_named_owner(candidate->ownership(), spec);
        if (is_wanted && identity.state == SegmentState::kSuperseded) {
          superseded = std::move(candidate);
        } else if (is_wanted && identity.state == SegmentState::kUnfinished) {
          unfinished = std::move(candidate);
        } else if (is_wanted) {
          *object = std::move(candidate);
          return Status::kOk;
        }
        if (scope == Scope::kUser) {
          if (in_own_scope == nullptr) in_own_scope = std::move(candidate);
        } else if (untrusted == nullptr) {
          untrusted = std::move(candidate);
        } else if (ambiguous == nullptr && !untrusted->has_owner_of(*candidate)) {
          ambiguous = std::move(candidate);
        }
      } else if (identity.name.empty() && nameless == nullptr) {
        nameless = std::move(candidate);
      }
    }
  }
  if (superseded != nullptr) {
    *object = std::move(superseded);
    return Status::kOk;
  }
  if (unfinished != nullptr) {
    *object = std::move(unfinished);
    return Status::kOk;
  }
  const bool takes_any = access == Access::kReadOnly && spec.owner == SegmentSpec::kNoUser;
  if (takes_any && ambiguous != nullptr) return refuse_ambiguous(spec, *untrusted, *ambiguous);
  if (untrusted == nullptr) untrusted = std::move(in_own_scope);
  // Without a name it is new, or damaged, or not ours. In no case may a second segment of this name be made beside it;
  // a reader makes none.
  if (nameless != nullptr && (access == Access::kReadWrite || untrusted == nullptr)) {
    *object = std::move(nameless);
    return Status::kOk;
  }
  if (untrusted != nullptr) {
    *object = std::move(untrusted);
    return Status::kOk;
  }
  if (refusal != Status::kOk) return refusal;
  return fail(Status::kNoSegment,
              fmt::format("System V segment '{}' does not exist for user id {}, and no other user shares one. Check "
                          "MEMSTREAM_NAME, or open it without MEMSTREAM_OPEN_EXISTING and MEMSTREAM_OPEN_READ_ONLY to "
                          "create it. To read another user's, name that user by the option 'owner'.",
                          spec.name, user_of(spec)));
}

// By its id and not by its name, because a process that changed its user since it attached would try other keys.
Status SysvBackend::find_mapped(const SegmentSpec& spec, const Segment& segment, const SegmentInitializer& initializer,
                                std::unique_ptr<SharedObject>* object) {
  const int id = id_of_mapped(segment);
  shmid_ds status{};
  if (::shmctl(id, IPC_STAT, &status) != 0) {
    if (is_removed(errno)) return no_longer_named(spec);
    if (errno != EACCES)
      return fail_errno(Status::kOsError, "shmctl", spec.name, errno, remedy_of(errno, "See ipcs -m."));
    Ownership ownership;
    return ownership_of_segment(id, &ownership) ? refuse_removal(ownership, spec) : refuse_access(nullptr, false, spec);
  }
  if ((status.shm_perm.mode & SHM_DEST) != 0) return no_longer_named(spec);
  const key_t family = status.shm_perm.__key & ~(kKeysPerFamily - 1);
  *object = std::make_unique<SysvObject>(spec, Access::kReadWrite, initializer, family, id, status);
  return Status::kOk;
}

Status shmget_failed(const SegmentSpec& spec, int error) {
  switch (error) {
    case EINVAL:
      return fail_errno(
          Status::kBadSize, "shmget", spec.name, error,
          "MEMSTREAM_SIZE exceeds the system's limit. Choose a smaller size, or raise kernel.shmmax (ipcs -l).");
    case ENOSPC:
      return fail_errno(Status::kNoMemory, "shmget", spec.name, error,
                        "The system's limits on segments are reached. Remove unused segments (ipcs -m), or raise "
                        "kernel.shmmni and kernel.shmall (ipcs -l).");
    case ENOMEM:
      return fail_errno(Status::kNoMemory, "shmget", spec.name, error, "Choose a smaller MEMSTREAM_SIZE.");
    default:
      return fail_errno(Status::kOsError, "shmget", spec.name, error, remedy_of(error, "See ipcs -l."));
  }
}

// Tells why the system makes no segment of huge pages, and the remedy. The number of pages is what the pool needs.
Status huge_pages_refused(const SegmentSpec& spec, int error) {
  const HugePagePool pool = huge_page_pool();
  if (pool.page_size_bytes == 0) {
    return fail(Status::kNoHugePages, fmt::format("Segment '{}' cannot have huge pages: this kernel has none "
                                                  "(CONFIG_HUGETLBFS). Set MEMSTREAM_HUGEPAGES=try.",
                                                  spec.name));
  }
  if (error == EPERM) {
    return fail(Status::kNoHugePages, fmt::format("Segment '{}' cannot have huge pages: this user may not use them. "
                                                  "Allow its group with: sysctl vm.hugetlb_shm_group={}",
                                                  spec.name, ::getegid()));
  }
  if (error != ENOMEM && error != EFAULT) return shmget_failed(spec, error);
  const std::uint64_t needed = spec.size_bytes / pool.page_size_bytes;
  const std::uint64_t available = pool.free_pages - std::min(pool.free_pages, pool.reserved_pages);
  if (available >= needed) {
    return fail(Status::kNoHugePages,
                fmt::format("Segment '{}' cannot have huge pages: it needs {} of {} KiB, and {} are free, but the "
                            "container may not use them. Raise its limit (hugetlb.*.max of its cgroup).",
                            spec.name, needed, pool.page_size_bytes / 1024, available));
  }
  return fail(Status::kNoHugePages,
              fmt::format("Segment '{}' cannot have huge pages: it needs {} of {} KiB, and {} are free. Reserve enough "
                          "with: sysctl vm.nr_hugepages={}",
                          spec.name, needed, pool.page_size_bytes / 1024, available, pool.pages + needed - available));
}

// Whether the system gives the first page of a new segment. A container may reserve huge pages that its limit then
// refuses. 0, or the error.
int first_page_error(int segment_id) noexcept {
  void* address = ::shmat(segment_id, nullptr, 0);
  if (address == reinterpret_cast<void*>(-1)) return errno;
  const FailedCall failed = touch_pages(static_cast<std::byte*>(address), page_size_bytes(), Access::kReadWrite);
  ::shmdt(address);
  return failed.name == nullptr ? 0 : failed.error;
}

// shmget() with huge pages, all of them reserved. -1, and `*error`, if the system gives none.
int make_of_huge_pages(key_t key, const SegmentSpec& spec, int flags, int* error) noexcept {
  const int id = ::shmget(key, spec.size_bytes, flags | SHM_HUGETLB);
  *error = id < 0 ? errno : first_page_error(id);
  if (id < 0 || *error == 0) return id;
  ::shmctl(id, IPC_RMID, nullptr);
  return -1;
}

Status SysvBackend::create(const SegmentSpec& spec, const SegmentInitializer& initializer, const Deadline& deadline,
                           std::unique_ptr<SharedObject>* object) {
  if (spec.group && !is_member_of(*spec.group) && ::geteuid() != 0) return refuse_group(spec);
  shm_info summary{};
  const auto ask = [&] { return ::shmctl(0, SHM_INFO, reinterpret_cast<shmid_ds*>(&summary)); };
  if (const Status allowed = check_allowed("shmctl", spec, ask); allowed != Status::kOk) return allowed;
  const auto detach = [] { return ::shmdt(nullptr); };
  if (const Status allowed = check_allowed("shmdt", spec, detach); allowed != Status::kOk) return allowed;
  // The user's lock in either case, so that two processes of one user that want different modes make one segment.
  const Scope scope = scope_of_mode(spec.mode);
  const key_t family = this->family(scope, spec);
  std::vector<CreationLock> locks(1);
  const key_t users_family = this->family(Scope::kUser, spec);
  Status status = CreationLock::acquire(users_family, spec, deadline, &locks.front());
  if (status == Status::kOk && family != users_family) {  // The two may have one hash.
    status = CreationLock::acquire(family, spec, deadline, &locks.emplace_back());
  }
  if (status != Status::kOk) return status;
  status = find(spec, Access::kReadWrite, initializer, object);
  if (status != Status::kNoSegment) return status == Status::kOk ? Status::kGone : status;

  return make_segment(spec, initializer, family, std::move(locks), object);
}

Status SysvBackend::make_segment(const SegmentSpec& spec, const SegmentInitializer& initializer, key_t family,
                                 std::vector<CreationLock> locks, std::unique_ptr<SharedObject>* object) const {
  const int flags = IPC_CREAT | IPC_EXCL | static_cast<int>(spec.mode);
  bool in_huge_pages = spec.huge_pages != HugePages::kOff;
  // All allocations come before, so no failure can prevent discarding a new segment.
  auto made = std::make_unique<SysvObject>(spec, Access::kReadWrite, initializer, family, -1, shmid_ds{});
  for (key_t key = family; key < family + kKeysPerFamily; ++key) {
    int error = 0;
    int id = in_huge_pages ? make_of_huge_pages(key, spec, flags, &error) : -1;
    if (id < 0 && error != 0 && error != EEXIST) {
      if (spec.huge_pages == HugePages::kRequire) return huge_pages_refused(spec, error);
      in_huge_pages = false;
    }
    if (!in_huge_pages) {
      // SHM_NORESERVE: memory is claimed as it is committed, not all at once.
      id = ::shmget(key, spec.size_bytes, flags | SHM_NORESERVE);
      error = id < 0 ? errno : 0;
    }
    if (error == EEXIST) continue;  // A segment with another name and the same hash.
    if (id < 0) return shmget_failed(spec, error);
    made->become(id, std::move(locks));
    const Status status = made->give_group();
    if (status != Status::kOk) {
      (void)made->discard();  // The next process completes what is left.
      return status;
    }
    *object = std::move(made);
    return Status::kOk;
  }
  return fail(
      Status::kOsError,
      fmt::format("Segments with other names use all {} keys of segment '{}'. Choose another name (MEMSTREAM_NAME).",
                  kKeysPerFamily, spec.name));
}

Status SysvBackend::find_successor(SharedObject& object, const SegmentInitializer& initializer,
                                   std::unique_ptr<SharedObject>* successor) {
  const auto& superseded = static_cast<const SysvObject&>(object);
  const std::string pending = SegmentInitializer::successor_name(object.spec().name);
  Status refusal = Status::kOk;
  for (key_t key = superseded.family(); key < superseded.family() + kKeysPerFamily; ++key) {
    std::unique_ptr<SysvObject> candidate;
    Identity identity;
    const Status status =
        look_up_key(object.spec(), Access::kReadWrite, initializer, superseded.family(), key, &candidate, &identity);
    // One that cannot be looked at may be it: whoever takes it for absent would remove the name of the entries.
    if (status != Status::kOk && status != Status::kNoSegment) refusal = status;
    if (status != Status::kOk || candidate->segment_id() == superseded.segment_id()) continue;
    if (!candidate->has_owner_of(superseded)) continue;
    // What a creator left that was killed has no name yet.
    const bool is_begun = identity.name.empty() && identity.state != SegmentState::kForeign;
    if (identity.name != pending && identity.name != object.spec().name && !is_begun) continue;
    *successor = std::move(candidate);
    return Status::kOk;
  }
  return refusal == Status::kOk ? Status::kNoSegment : refusal;
}

Status SysvBackend::create_successor(SharedObject& object, const SegmentSpec& spec,
                                     const SegmentInitializer& initializer, const Deadline& /*deadline*/,
                                     std::unique_ptr<SharedObject>* successor) {
  return make_segment(spec, initializer, static_cast<const SysvObject&>(object).family(), {}, successor);
}

Status SysvBackend::list(SegmentInitializer& initializer, std::vector<SegmentInfo>* segments) {
  segments->clear();
  shm_info summary{};
  const int last_index = ::shmctl(0, SHM_INFO, reinterpret_cast<shmid_ds*>(&summary));
  if (last_index < 0) return fail_errno(Status::kOsError, "shmctl", "", errno, remedy_of(errno, "See ipcs -m."));
  for (int index = 0; index <= last_index; ++index) {
    shmid_ds status{};
    const int id = ::shmctl(index, SHM_STAT, &status);
    // Unused, unreadable, removed, or of a size that no segment of MemStream has: do not attach to it.
    if (id < 0 || (status.shm_perm.mode & SHM_DEST) != 0) continue;
    if (status.shm_segsz < kMinSegmentSize || status.shm_segsz % page_size_bytes() != 0) continue;
    SysvObject object({}, Access::kReadOnly, initializer, IPC_PRIVATE, id, status);
    Identity identity;
    if (identify(object, initializer, &identity) != Status::kOk) continue;
    const bool is_ours =
        !identity.name.empty() || (identity.state != SegmentState::kForeign && identity.state != SegmentState::kBlank);
    if (!is_ours) continue;
    segments->push_back({.name = identity.name,
                         .system_id = fmt::format("shmid {}", id),
                         .size_bytes = status.shm_segsz,
                         .mode = status.shm_perm.mode & 0777U,
                         .owner_uid = status.shm_perm.uid,
                         .attached = status.shm_nattch});
  }
  return Status::kOk;
}

}  // namespace

std::unique_ptr<SegmentBackend> make_sysv_backend(TextHash hash) { return std::make_unique<SysvBackend>(hash); }

}  // namespace memstream
