#include "core/base/process_marks.h"

#include <fmt/format.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "core/base/identity.h"
#include "core/base/retry_eintr.h"

namespace memstream {
namespace {

// The argument of semctl(), which each program has to declare itself.
union SemaphoreArgument {
  int value;
  semid_ds* status;
};

constexpr std::uint32_t kExtraSemaphores = 2;
// The upper half of every key: `ipcs -s` shows whose a set is, and no other library's set is ever removed.
constexpr std::uint32_t kKeyPrefix = 0x4d53'0000;
constexpr std::uint32_t kKeyPrefixMask = 0xffff'0000;
constexpr int kKeyTries = 64;
constexpr std::size_t kMostOperations = 4;  // In one call.

constexpr short kAtOnce = IPC_NOWAIT;
constexpr short kWithUndo = IPC_NOWAIT | SEM_UNDO;

bool is_our_key(std::int32_t key) noexcept { return (static_cast<std::uint32_t>(key) & kKeyPrefixMask) == kKeyPrefix; }

bool read_status(int id, semid_ds* status) noexcept {
  SemaphoreArgument argument{};
  argument.status = status;
  return semctl(id, 0, IPC_STAT, argument) == 0;
}

sembuf operation(std::uint32_t number, int by, short flags) noexcept {
  return {static_cast<unsigned short>(number), static_cast<short>(by), flags};
}

// All of `operations`, or none of them.
template <std::size_t kCount>
ProcessMarks::Outcome operate(int id, sembuf (&operations)[kCount]) noexcept {
  using Outcome = ProcessMarks::Outcome;
  if (retry_on_eintr([&] { return semop(id, operations, kCount); }) == 0) return Outcome::kSet;
  switch (errno) {
    case EAGAIN:
      return Outcome::kTaken;
    case EIDRM:
    case EINVAL:
    case EFBIG:
      return Outcome::kRemoved;
    case EACCES:
      return Outcome::kForbidden;
    default:
      return Outcome::kFailed;
  }
}

constexpr const char* kTooFewOperations =
    "One call may change too few semaphores here. Raise the third number of kernel.sem to at least 4.";

Status no_set(const char* call, int error) {
  const char* remedy = "Let this process make System V semaphores (seccomp): they tell which processes are alive.";
  if (error == EEXIST || error == EACCES) {
    remedy = "No key is free: remove the sets that nobody uses (ipcs -s shows keys 0x4d53....).";
  } else if (error == ENOSPC) {
    remedy = "The system has no semaphores left: remove those that nobody uses (ipcs -s, ipcrm), or raise kernel.sem.";
  } else if (error == EINVAL) {
    remedy = "This system allows no set of semaphores as large as this. Raise the first number of kernel.sem.";
  } else if (error == E2BIG) {
    remedy = kTooFewOperations;
  }
  return fail_errno(error == ENOMEM ? Status::kNoMemory : Status::kOsError, call, "", error, remedy);
}

// The creator's own group would otherwise have the rights. errno says why not.
bool give_to_group(int id, std::uint32_t group) noexcept {
  semid_ds status{};
  if (!read_status(id, &status)) return false;
  status.sem_perm.gid = group;
  SemaphoreArgument argument{};
  argument.status = &status;
  return semctl(id, 0, IPC_SET, argument) == 0;
}

// Whether a filter of system calls lets this process set marks, found out before anybody can find the segment: an
// operation on a semaphore behind the last changes nothing. As many in one call as a takeover has. errno says why not.
bool may_operate(int id, int count) noexcept {
  sembuf behind[kMostOperations];
  std::fill(std::begin(behind), std::end(behind), operation(static_cast<std::uint32_t>(count), 0, kAtOnce));
  return semop(id, behind, kMostOperations) == 0 || errno == EFBIG;
}

}  // namespace

// ---- the set ----

Status ProcessMarks::create(std::uint32_t slots, unsigned mode, std::optional<std::uint32_t> group,
                            std::atomic<std::int32_t>* new_key, MarkSet* set) {
  const int count = static_cast<int>(slots + kExtraSemaphores);
  int error = EEXIST;
  for (int tries = 0; tries < kKeyTries && (error == EEXIST || error == EACCES); ++tries) {
    std::uint16_t drawn = 0;
    if (!random_bytes(&drawn, sizeof drawn)) return no_set("getrandom", errno);
    const auto key = static_cast<key_t>(kKeyPrefix | drawn);
    // Another segment's set must never be the one that `new_key` names.
    error = semget(key, 0, 0) >= 0 ? EEXIST : errno;
    if (error != ENOENT) continue;
    new_key->store(key, std::memory_order_release);
    const int id = semget(key, count, IPC_CREAT | IPC_EXCL | static_cast<int>(mode));
    error = errno;
    semid_ds status{};
    const bool is_usable = id >= 0 && (!group || give_to_group(id, *group)) && may_operate(id, count);
    if (is_usable && read_status(id, &status)) {
      *set = {.id = id, .key = key, .created_s = static_cast<std::int64_t>(status.sem_ctime)};
      return Status::kOk;
    }
    if (id >= 0) {
      const int reason = errno;
      (void)semctl(id, 0, IPC_RMID);  // If it stays, the next creator finds it by `new_key`.
      return no_set("semctl or semop", reason);
    }
    new_key->store(0, std::memory_order_release);
  }
  return no_set("semget", error);
}

void ProcessMarks::remove_new(std::int32_t key) noexcept {
  if (!is_our_key(key)) return;
  const int id = semget(key, 0, 0);
  semid_ds status{};
  if (id < 0 || !read_status(id, &status)) return;
  const bool is_unused = status.sem_otime == 0;
  if (is_unused) (void)semctl(id, 0, IPC_RMID);
}

void ProcessMarks::remove() const noexcept {
  if (exist()) (void)semctl(set_.id, 0, IPC_RMID);
}

bool ProcessMarks::exist() const noexcept {
  if (!is_our_key(set_.key)) return false;
  semid_ds status{};
  // Without the right to read a set only the kernel's refusal shows that there is one.
  if (!read_status(set_.id, &status)) return errno == EACCES;
  return status.sem_perm.__key == set_.key && status.sem_nsems == slots_ + kExtraSemaphores &&
         static_cast<std::int64_t>(status.sem_ctime) == set_.created_s;
}

// ---- marks ----

bool ProcessMarks::change(std::uint32_t number, int by) const noexcept {
  sembuf operations[] = {operation(number, by, kWithUndo)};
  return operate(set_.id, operations) == Outcome::kSet;
}

ProcessMarks::Outcome ProcessMarks::set(std::uint32_t slot) const noexcept {
  sembuf operations[] = {operation(slot, 0, kAtOnce), operation(slot, 1, kWithUndo)};
  return operate(set_.id, operations);
}

bool ProcessMarks::may_be_set(std::uint32_t slot) const noexcept {
  return semctl(set_.id, static_cast<int>(slot), GETVAL) != 0;
}

// The kernel keeps the pid of the process that changed a semaphore last. Only its owner changes one that is set, and
// the owner is alive, so that no other process can have this pid now.
bool ProcessMarks::is_own(std::uint32_t slot) const noexcept {
  const int number = static_cast<int>(slot);
  return semctl(set_.id, number, GETVAL) > 0 && semctl(set_.id, number, GETPID) == getpid();
}

ProcessMarks::Outcome ProcessMarks::arrive() const noexcept {
  sembuf operations[] = {operation(slots_ + 1, 0, kAtOnce), operation(slots_, 1, kWithUndo)};
  return operate(set_.id, operations);
}

ProcessMarks::Outcome ProcessMarks::begin_takeover() const noexcept {
  sembuf operations[] = {operation(slots_, 0, kAtOnce), operation(slots_, 1, kWithUndo),
                         operation(slots_ + 1, 0, kAtOnce), operation(slots_ + 1, 1, kWithUndo)};
  return operate(set_.id, operations);
}

Status ProcessMarks::explain(Outcome outcome) noexcept {
  const int error = errno;
  switch (outcome) {
    case Outcome::kRemoved:
      return fail(Status::kCorrupt,
                  "The semaphores of the segment were removed (ipcrm, RemoveIPC= of systemd), and they tell which "
                  "processes are alive. Stop those that use it, destroy it and connect again.");
    case Outcome::kForbidden:
      return fail(Status::kNoPermission,
                  "This user may not change the semaphores of the segment. Connect as the user who made it, or let its "
                  "creator set "
                  "MEMSTREAM_MODE=0660.");
    case Outcome::kFailed:
      return fail_errno(error == ENOMEM || error == ENOSPC ? Status::kNoMemory : Status::kOsError, "semop", "", error,
                        error == E2BIG ? kTooFewOperations
                                       : "Let this process use System V semaphores (seccomp): they tell which "
                                         "processes are alive.");
    case Outcome::kSet:
    case Outcome::kTaken:
      break;
  }
  return Status::kInternal;
}

}  // namespace memstream
