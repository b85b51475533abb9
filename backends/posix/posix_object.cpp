// The system calls on an open shared memory object.
#include "backends/posix/posix_object.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <limits>
#include <thread>

#include "backends/filters.h"
#include "backends/huge_pages.h"
#include "backends/touch_pages.h"
#include "core/base/identity.h"
#include "core/base/pieces.h"
#include "core/base/retry_eintr.h"
#include "core/base/thread_cancel.h"

namespace memstream {
namespace {

constexpr char kShmemSetting[] = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

// How often a lock that another process holds is tried. flock() itself knows no deadline.
constexpr std::chrono::milliseconds kLockPoll{1};

constexpr char kShmMemoryRemedy[] = "/dev/shm has no memory left. Mount it larger, or free some there.";

struct FileId {
  dev_t device = 0;
  ino_t inode = 0;

  static FileId of(const struct stat& status) noexcept { return {status.st_dev, status.st_ino}; }
  bool operator==(const FileId&) const = default;
};

// Asks the file system of the segments; false if it sets no limit, or does not tell. A tmpfs without one has 0 blocks.
bool has_limit(struct statvfs* file_system) noexcept {
  return retry_on_eintr([&] { return ::statvfs(kPosixObjectFolder, file_system); }) == 0 && file_system->f_blocks != 0;
}

class PosixSegment final : public MappedSegment {
 public:
  PosixSegment(const SegmentSpec& spec, std::byte* data, Access access, const struct stat& status)
      : MappedSegment(spec.name, data, static_cast<std::size_t>(status.st_size), access, spec.huge_pages),
        path_(kPosixObjectFolder + posix_object_name(spec.name)),
        file_(FileId::of(status)) {
    struct stat folder {};
    if (::stat(kPosixObjectFolder, &folder) == 0) folder_ = FileId::of(folder);
  }
  ~PosixSegment() override { ::munmap(data(), size_bytes()); }

  std::size_t available_bytes() const noexcept override;
  std::size_t left_bytes() const noexcept override;
  bool has_name() const noexcept override;
  bool is_of(const struct stat& status) const noexcept { return file_ == FileId::of(status); }

  // Whether this process has a way to claim pages of its mapping. Claims the first.
  bool can_commit() noexcept;
  void set_committed() noexcept { is_committed_ = true; }

 private:
  Status commit_pages(std::size_t offset_bytes, std::size_t size_bytes) noexcept override;
  // Whether the path still leads to where the segment was found.
  bool is_in_its_folder() const noexcept;

  std::string path_;
  FileId file_;
  FileId folder_;  // Where the name was looked up; nothing equal to it, if that is unknown.
  bool is_committed_ = false;
};

bool PosixSegment::has_name() const noexcept {
  struct stat found {};
  if (::lstat(path_.c_str(), &found) == 0 ? is_of(found) : errno != ENOENT) return true;
  // In another root directory, or under another mount, the path says nothing about the segment.
  return !is_in_its_folder();
}

bool PosixSegment::is_in_its_folder() const noexcept {
  struct stat folder {};
  return ::stat(kPosixObjectFolder, &folder) == 0 && folder_ == FileId::of(folder);
}

std::size_t PosixSegment::available_bytes() const noexcept {
  struct statvfs file_system {};
  if (!has_limit(&file_system)) return std::numeric_limits<std::size_t>::max();
  return file_system.f_blocks * file_system.f_frsize;
}

std::size_t PosixSegment::left_bytes() const noexcept {
  struct statvfs file_system {};
  const DisableCancelScope uncancelled;
  if (!is_in_its_folder() || !has_limit(&file_system)) return std::numeric_limits<std::size_t>::max();
  return file_system.f_bavail * file_system.f_frsize;
}

bool PosixSegment::can_commit() noexcept {
  const FailedCall failed = touch_pages(data(), page_size_bytes(), Access::kReadWrite);
  return failed.name == nullptr || failed.is_lack_of_memory();
}

Status PosixSegment::commit_pages(std::size_t offset_bytes, std::size_t size_bytes) noexcept {
  return is_committed_ ? Status::kOk : commit_by_touch(offset_bytes, size_bytes, kShmMemoryRemedy);
}

}  // namespace

std::string posix_object_name(const std::string& segment_name) { return "/memstream." + segment_name; }

Ownership ownership_of(const struct stat& status) noexcept {
  return {.owner = status.st_uid,
          .creator = status.st_uid,
          .group = status.st_gid,
          .creator_group = status.st_gid,
          .mode = status.st_mode & 0777U};
}

// Only its owner may change this flag of an open file, and the kernel compares users, not the numbers that a namespace
// shows. Nothing of the object changes.
Ownership PosixObject::ownership() const noexcept {
  Ownership ownership = ownership_of(status_);
  if (ownership.owner == ::geteuid() && is_shared_user_id(ownership.owner)) {
    const int flags = ::fcntl(file_.number(), F_GETFL);
    ownership.is_proven = flags >= 0 && ::fcntl(file_.number(), F_SETFL, flags | O_NOATIME) == 0;
  }
  return ownership;
}

PosixObject::~PosixObject() {
  // Closing would not do it: a child that was forked meanwhile has the descriptor too.
  if (is_locked_) ::flock(file_.number(), LOCK_UN);
}

bool PosixObject::is_mapped_by(const Segment& segment) const noexcept {
  const auto* mapped = dynamic_cast<const PosixSegment*>(&segment);
  return mapped != nullptr && mapped->is_of(status_);
}

Status PosixObject::read_header(std::byte* header, std::size_t size_bytes) {
  std::size_t done = 0;
  while (done < size_bytes) {
    const ssize_t count = retry_on_eintr(
        [&] { return ::pread(file_.number(), header + done, size_bytes - done, static_cast<off_t>(done)); });
    if (count < 0) return fail_errno(Status::kOsError, "pread", spec().name, errno, kFilterRemedy);
    if (count == 0) {
      return fail(
          Status::kTruncated,
          fmt::format(
              "Segment '{}' has {} bytes, and a header alone needs {}: it was cut. Remove it, and create it again.",
              spec().name, done, size_bytes));
    }
    done += static_cast<std::size_t>(count);
  }
  return Status::kOk;
}

Status PosixObject::lock(const Deadline& deadline) {
  while (!is_locked_) {
    if (::flock(file_.number(), LOCK_EX | LOCK_NB) == 0) {
      is_locked_ = true;
    } else if (errno != EWOULDBLOCK && errno != EINTR) {
      return fail_errno(Status::kOsError, "flock", spec().name, errno, remedy_of(errno, "See /proc/locks."));
    } else if (deadline.passed()) {
      return fail(Status::kBusy,
                  fmt::format("Another process is creating or removing segment '{}', and was not done within {} ms. It "
                              "may be stopped (see /proc/locks). Try again, or raise MEMSTREAM_TIMEOUT_MS.",
                              spec().name, spec().timeout.count()));
    } else {
      std::this_thread::sleep_for(kLockPoll);
    }
  }
  return Status::kOk;
}

Status PosixObject::look_again() {
  if (::fstat(file_.number(), &status_) != 0)
    return fail_errno(Status::kOsError, "fstat", spec().name, errno, kFilterRemedy);
  return status_.st_nlink == 0 ? Status::kGone : Status::kOk;
}

Status PosixObject::give_size() {
  // Group and mode first, because other processes judge an object without size by these alone. The mode of another
  // owner's object is left alone.
  const bool is_our_own = status_.st_uid == ::geteuid();
  if (is_our_own && spec().group && ::fchown(file_.number(), static_cast<uid_t>(-1), *spec().group) != 0) {
    if (errno == EPERM) return refuse_group(spec());
    return fail_errno(Status::kOsError, "fchown", spec().name, errno, remedy_of(errno, "Check MEMSTREAM_GROUP."));
  }
  if (is_our_own && ::fchmod(file_.number(), spec().mode) != 0) {
    return fail_errno(Status::kOsError, "fchmod", spec().name, errno, remedy_of(errno, "Check MEMSTREAM_MODE."));
  }
  // Beyond this limit ftruncate() would end the process with SIGXFSZ.
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && spec().size_bytes > limit.rlim_cur) {
    return fail(Status::kBadSize, fmt::format("Segment '{}' of {} bytes exceeds this process's limit of {} bytes for a "
                                              "file. Raise the limit (ulimit -f), or choose a smaller MEMSTREAM_SIZE.",
                                              spec().name, spec().size_bytes, limit.rlim_cur));
  }
  if (retry_on_eintr([&] { return ::ftruncate(file_.number(), static_cast<off_t>(spec().size_bytes)); }) != 0) {
    const Status status = errno == EFBIG || errno == EINVAL ? Status::kBadSize : Status::kNoMemory;
    return fail_errno(status, "ftruncate", spec().name, errno,
                      "Choose a smaller MEMSTREAM_SIZE, or make /dev/shm larger.");
  }
  status_.st_size = static_cast<off_t>(spec().size_bytes);
  return Status::kOk;
}

Status PosixObject::map(Access access, std::unique_ptr<Segment>* segment) {
  const int protection = access == Access::kReadWrite ? PROT_READ | PROT_WRITE : PROT_READ;
  void* address = ::mmap(nullptr, size_bytes(), protection, MAP_SHARED, file_.number(), 0);
  if (address == MAP_FAILED) {
    const Status status = errno == ENOMEM || errno == EAGAIN ? Status::kNoMemory : Status::kOsError;
    return fail_errno(status, "mmap", spec().name, errno,
                      "Raise the limits on address space (ulimit -v) and overcommit.");
  }
  std::unique_ptr<PosixSegment> mapped;
  try {
    mapped = std::make_unique<PosixSegment>(spec(), static_cast<std::byte*>(address), access, status_);
  } catch (...) {  // This process has no memory left.
    ::munmap(address, size_bytes());
    throw;
  }
  // Later there is no descriptor to claim memory with.
  if (access == Access::kReadWrite && !mapped->can_commit()) {
    if (const Status status = commit_all(); status != Status::kOk) return status;
    mapped->set_committed();
  }
  *segment = std::move(mapped);
  return Status::kOk;
}

Status PosixObject::commit_all() {
  return in_pieces(0, size_bytes(), Deadline(spec().timeout), [&](std::uint64_t offset, std::uint64_t size) {
    const int result = retry_on_eintr([&] {
      errno = ::posix_fallocate(file_.number(), static_cast<off_t>(offset), static_cast<off_t>(size));
      return errno == 0 ? 0 : -1;
    });
    if (result == 0) return Status::kOk;
    const int error = errno;
    const bool is_full = error == ENOSPC || error == ENOMEM || error == EDQUOT;
    return fail_errno(is_full ? Status::kNoMemory : Status::kOsError, "posix_fallocate", spec().name, error,
                      "A filter (seccomp) forbids madvise() and process_vm_readv(), so this process must claim the "
                      "whole segment at once. Allow one of them, or mount /dev/shm larger.");
  });
}

std::string PosixObject::huge_page_remedy() const {
  if (transparent_huge_page_size_bytes() == 0) {
    return "this kernel has no transparent huge pages. Use MEMSTREAM_BACKEND=sysv, which uses another kind.";
  }
  if (is_chosen(kShmemSetting, "deny")) {
    return fmt::format("they are denied to all shared memory. Allow them with: echo never > {}", kShmemSetting);
  }
  if (!tmpfs_allows_huge_pages(kPosixObjectFolder)) {
    return fmt::format("{0} is mounted without them. Allow them with: mount -o remount,huge=advise {0}",
                       kPosixObjectFolder);
  }
  return "the kernel allows them, but gave none. Either no memory is left in one piece: try echo 1 > "
         "/proc/sys/vm/compact_memory. Or they are off for this process: see THP_enabled in /proc/self/status.";
}

Status PosixObject::may_remove_name() const {
  // In a folder with the sticky bit, as /dev/shm is, files are removed by their owner, the folder's, or root.
  const uid_t user = ::geteuid();
  struct stat folder {};
  const bool is_sticky = ::stat(kPosixObjectFolder, &folder) == 0 && (folder.st_mode & S_ISVTX) != 0;
  if (!is_sticky || user == 0 || user == status_.st_uid || user == folder.st_uid) return Status::kOk;
  return refuse_removal(ownership(), spec());
}

Status PosixObject::may_remove_foreign() const {
  // No other program makes /memstream.* objects, so this one is a damaged segment.
  return Status::kOk;
}

Status PosixObject::discard() {
  // Only under the lock, while it has no size and still has the name: another process may have completed it.
  if (!is_locked_) {
    if (::flock(file_.number(), LOCK_EX | LOCK_NB) != 0) {
      return errno == EWOULDBLOCK
                 ? Status::kOk
                 : fail_errno(Status::kOsError, "flock", spec().name, errno, remedy_of(errno, "See /proc/locks."));
    }
    is_locked_ = true;
  }
  if (const Status status = look_again(); status != Status::kOk) {
    return status == Status::kGone ? Status::kOk : status;
  }
  return size_bytes() != 0 ? Status::kOk : remove_name();
}

Status PosixObject::remove_name() {
  if (::shm_unlink(posix_object_name(spec().name).c_str()) == 0 || errno == ENOENT) return Status::kOk;
  return fail_errno(Status::kNoPermission, "shm_unlink", spec().name, errno,
                    "Only its owner or root can remove it. Run as one of them, with a writable /dev/shm.");
}

}  // namespace memstream
