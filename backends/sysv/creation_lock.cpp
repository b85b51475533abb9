// See creation_lock.h.
#include "backends/sysv/creation_lock.h"

#include <fmt/format.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <utility>

#include "backends/filters.h"
#include "backends/ownership.h"
#include "backends/sysv/sysv_object.h"
#include "core/base/retry_eintr.h"

namespace memstream {
namespace {

// One semaphore would be enough. This unusual number tells a set of MemStream from another program's with the same key.
constexpr int kSemaphoresPerSet = 3;

union SemaphoreArgument {  // The caller of semctl() has to define it.
  int value;
  semid_ds* status;
  seminfo* summary;
};

timespec time_left(const Deadline& deadline) {
  using namespace std::chrono;
  const nanoseconds left = std::max<nanoseconds>(deadline.end() - steady_clock::now(), nanoseconds::zero());
  const auto whole = duration_cast<seconds>(left);
  return {.tv_sec = whole.count(), .tv_nsec = (left - whole).count()};
}

// Gives the owner of the semaphore with `key` whatever its mode. False if the kernel does not tell (before 4.17), or it
// is gone.
bool ownership_of_semaphore(key_t key, Ownership* ownership) {
  const int id = ::semget(key, 0, 0);
  seminfo summary{};
  const int last_index = ::semctl(0, 0, SEM_INFO, SemaphoreArgument{.summary = &summary});
  for (int index = 0; id >= 0 && index <= last_index; ++index) {
    semid_ds status{};
    if (::semctl(index, 0, SEM_STAT_ANY, SemaphoreArgument{.status = &status}) != id) continue;
    *ownership = ownership_of(status.sem_perm);
    return true;
  }
  return false;
}

Status refuse_guard(const Ownership* ownership, key_t key, const SegmentSpec& spec) {
  const std::string whose = ownership == nullptr ? "" : fmt::format(", {},", ownership->whose());
  return fail(
      Status::kNoPermission,
      fmt::format("Another user{} owns the semaphore with key {:#x}, which guards the creation and removal of segment "
                  "'{}'. Choose another name (MEMSTREAM_NAME), or let that user or root remove it (ipcrm -S {:#x}).",
                  whose, key, spec.name, key));
}

Status no_semaphore(const char* call, key_t key, const SegmentSpec& spec, int error) {
  switch (error) {
    case EIDRM:
      return Status::kGone;
    case EACCES: {
      Ownership ownership;
      return refuse_guard(ownership_of_semaphore(key, &ownership) ? &ownership : nullptr, key, spec);
    }
    case ENOSPC:
      return fail_errno(Status::kOsError, call, spec.name, error,
                        "The system has no semaphore left. Remove unused ones (ipcs -s, ipcrm), or raise kernel.sem.");
    case E2BIG:
      return fail_errno(
          Status::kOsError, call, spec.name, error,
          "One call may change too few semaphores here. Raise the third number of kernel.sem to at least 4.");
    default:
      return fail_errno(Status::kOsError, call, spec.name, error, remedy_of(error, "See ipcs -s and kernel.sem."));
  }
}

Status not_our_semaphore(key_t key, const SegmentSpec& spec) {
  return fail(Status::kOsError, fmt::format("Another program uses the semaphore with key {:#x}, which segment '{}' "
                                            "needs. Choose another name (MEMSTREAM_NAME).",
                                            key, spec.name));
}

// The owner of the semaphore can remove it at any time, and two processes would then initialise one segment. That gives
// no new power to root, or to a user that may write to the segment anyway.
bool may_guard(const Ownership& ownership, const SegmentSpec& spec) {
  return (ownership.owner == 0 && ownership.creator == 0) || is_trusted(ownership, spec);
}

// Gets the semaphore of `key`, makes it if it does not exist, and checks that it can guard.
Status get_semaphore(key_t key, const SegmentSpec& spec, int* semaphore_id) {
  const int id = ::semget(key, kSemaphoresPerSet, IPC_CREAT | static_cast<int>(spec.mode & 0666U));
  if (id < 0) return errno == EINVAL ? not_our_semaphore(key, spec) : no_semaphore("semget", key, spec, errno);
  semid_ds status{};
  if (::semctl(id, 0, IPC_STAT, SemaphoreArgument{.status = &status}) != 0) {
    return errno == EINVAL ? Status::kGone : no_semaphore("semctl", key, spec, errno);
  }
  if (status.sem_nsems != kSemaphoresPerSet) return not_our_semaphore(key, spec);
  if (const Ownership ownership = ownership_of(status.sem_perm); !may_guard(ownership, spec)) {
    return refuse_guard(&ownership, key, spec);
  }
  // So that other members of the group can wait for it. A user that cannot is refused.
  if (spec.group && status.sem_perm.uid == ::geteuid() && status.sem_perm.gid != *spec.group) {
    status.sem_perm.gid = *spec.group;
    (void)::semctl(id, 0, IPC_SET, SemaphoreArgument{.status = &status});
  }
  *semaphore_id = id;
  return Status::kOk;
}

}  // namespace

CreationLock::CreationLock(CreationLock&& other) noexcept : semaphore_id_(std::exchange(other.semaphore_id_, -1)) {}

CreationLock& CreationLock::operator=(CreationLock&& other) noexcept {
  std::swap(semaphore_id_, other.semaphore_id_);
  return *this;
}

CreationLock::~CreationLock() {
  if (semaphore_id_ < 0 || ::semctl(semaphore_id_, 0, IPC_RMID) == 0) return;
  // Another user's semaphore, which only that user may remove: leave it free.
  sembuf release{.sem_num = 0, .sem_op = -1, .sem_flg = SEM_UNDO};
  (void)retry_on_eintr([&] { return ::semop(semaphore_id_, &release, 1); });
}

Status CreationLock::acquire(key_t key, const SegmentSpec& spec, const Deadline& deadline, CreationLock* lock) {
  // A semaphore that this process could not lock or remove would stay behind.
  seminfo summary{};
  Status allowed =
      check_allowed("semctl", spec, [&] { return ::semctl(0, 0, SEM_INFO, SemaphoreArgument{.summary = &summary}); });
  sembuf nothing{};
  const timespec no_time{};
  if (allowed == Status::kOk) {
    allowed = check_allowed("semtimedop", spec, [&] { return ::semtimedop(-1, &nothing, 1, &no_time); });
  }
  if (allowed != Status::kOk) return allowed;
  int id = -1;
  if (const Status status = get_semaphore(key, spec, &id); status != Status::kOk) return status;
  sembuf take[] = {{.sem_num = 0, .sem_op = 0, .sem_flg = 0}, {.sem_num = 0, .sem_op = 1, .sem_flg = SEM_UNDO}};
  timespec left{};
  int result;
  do {
    left = time_left(deadline);
    result = ::semtimedop(id, take, std::size(take), &left);
  } while (result != 0 && errno == EINTR && !deadline.passed());
  if (result == 0) {
    *lock = CreationLock(id);
    return Status::kOk;
  }
  if (errno == EAGAIN || errno == EINTR) {
    return fail(Status::kBusy,
                fmt::format("Another process is creating or removing segment '{}', and was not done within {} ms. It "
                            "may be stopped (see ipcs -s -i {}). Try again, or raise MEMSTREAM_TIMEOUT_MS.",
                            spec.name, spec.timeout.count(), id));
  }
  const int error = errno;
  // No process on this system can lock it, so that none holds it.
  if (error == E2BIG) (void)::semctl(id, 0, IPC_RMID);
  return error == EINVAL ? Status::kGone : no_semaphore("semtimedop", key, spec, error);
}

}  // namespace memstream
