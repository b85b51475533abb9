// Finding, creating and listing shared memory objects by name.
#include "backends/posix/posix_backend.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <limits>
#include <string_view>
#include <thread>
#include <utility>

#include "backends/filters.h"
#include "backends/huge_pages.h"
#include "backends/lifecycle_backend.h"
#include "backends/posix/posix_object.h"
#include "core/base/descriptors.h"

namespace memstream {
namespace {

// O_NONBLOCK: a FIFO under the name must not stop us. O_NOFOLLOW: a link under the name must not lead us elsewhere.
constexpr int kOpenFlags = O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;

FileDescriptor open_object(const std::string& name, int flags, mode_t mode = 0) noexcept {
  return open_descriptor([&] { return ::shm_open(name.c_str(), flags | kOpenFlags, mode); });
}

Status not_shared_memory(const SegmentSpec& spec) {
  return fail(Status::kNotSharedMemory, fmt::format("{}{} is not shared memory, but a directory, a link, a FIFO or "
                                                    "another file. Remove it, or choose another name (MEMSTREAM_NAME).",
                                                    kPosixObjectFolder, posix_object_name(spec.name)));
}

// The system refuses this user all access, or writing.
Status open_refused(const SegmentSpec& spec, Access access) {
  const std::string name = posix_object_name(spec.name);
  struct stat status {};
  const bool is_known = ::lstat((kPosixObjectFolder + name).c_str(), &status) == 0;
  const bool may_read = access == Access::kReadWrite && open_object(name, O_RDONLY).is_open();
  const Ownership ownership = ownership_of(status);
  return refuse_access(is_known ? &ownership : nullptr, may_read, spec);
}

Status open_failed(const SegmentSpec& spec, Access access, int error) {
  switch (error) {
    case ENOENT:
      return fail(Status::kNoSegment,
                  fmt::format("POSIX segment '{}' does not exist. Check MEMSTREAM_NAME and MEMSTREAM_BACKEND, or open "
                              "it without MEMSTREAM_OPEN_EXISTING and MEMSTREAM_OPEN_READ_ONLY to create it.",
                              spec.name));
    case EISDIR:
    case EINVAL:  // The C library turns EISDIR into it. Invalid names are refused before.
    case ELOOP:
    case ENXIO:
      return not_shared_memory(spec);
    case EACCES:
    case EPERM:
      return open_refused(spec, access);
    case EROFS:
      return fail_errno(Status::kNoPermission, "shm_open", spec.name, error,
                        "/dev/shm is mounted read-only. Open the segment read-only, or mount /dev/shm for writing.");
    default:
      return fail_errno(Status::kOsError, "shm_open", spec.name, error, "See the limits on open files (ulimit -n).");
  }
}

Status create_failed(const SegmentSpec& spec, int error) {
  switch (error) {
    case EEXIST:
      return Status::kGone;
    case EACCES:
    case EPERM:
    case EROFS:
      return fail_errno(Status::kNoPermission, "shm_open", spec.name, error,
                        "This user may not write to /dev/shm. Mount it with mode 1777, or use MEMSTREAM_BACKEND=sysv.");
    case ENOENT:
      return fail_errno(Status::kOsError, "shm_open", spec.name, error,
                        "/dev/shm does not exist. Mount a tmpfs there, or use MEMSTREAM_BACKEND=sysv.");
    case ENOSPC:
      return fail_errno(Status::kNoMemory, "shm_open", spec.name, error,
                        "/dev/shm is full. Remove files that nobody needs, or mount it larger.");
    default:
      return fail_errno(Status::kOsError, "shm_open", spec.name, error, "See the limits on open files (ulimit -n).");
  }
}

// Whether an object has no size yet. Its creator's umask may have removed permissions, which the creator restores
// before it sets the size (PosixObject::give_size).
bool is_newborn(const std::string& object_name) {
  const int error = errno;
  struct stat status {};
  const bool is_empty = ::lstat((kPosixObjectFolder + object_name).c_str(), &status) == 0 && status.st_size == 0;
  errno = error;
  return is_empty;
}

Status adopt(const SegmentSpec& spec, FileDescriptor file, std::unique_ptr<SharedObject>* object) {
  struct stat status {};
  if (::fstat(file.number(), &status) != 0) {
    return fail_errno(Status::kOsError, "fstat", spec.name, errno, kFilterRemedy);
  }
  if (!S_ISREG(status.st_mode)) return not_shared_memory(spec);
  *object = std::make_unique<PosixObject>(spec, std::move(file), status);
  return Status::kOk;
}

class PosixBackend final : public LifecycleBackend {
 public:
  const char* name() const noexcept override { return "posix"; }

  Status list(SegmentInitializer& initializer, std::vector<SegmentInfo>* segments) override;

 private:
  Status find(const SegmentSpec& spec, Access access, const SegmentInitializer& initializer,
              std::unique_ptr<SharedObject>* object) override;
  Status create(const SegmentSpec& spec, const SegmentInitializer& initializer, const Deadline& deadline,
                std::unique_ptr<SharedObject>* object) override;
  Status move_name(SharedObject& object, SharedObject& successor) override;
  std::size_t huge_page_size_bytes() const noexcept override { return transparent_huge_page_size_bytes(); }
};

Status PosixBackend::find(const SegmentSpec& spec, Access access, const SegmentInitializer& /*initializer*/,
                          std::unique_ptr<SharedObject>* object) {
  const std::string name = posix_object_name(spec.name);
  const int flags = access == Access::kReadWrite ? O_RDWR : O_RDONLY;
  FileDescriptor file = open_object(name, flags);
  const Deadline deadline(spec.timeout);
  while (!file.is_open() && errno == EACCES && is_newborn(name) && !deadline.passed()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    file = open_object(name, flags);
  }
  if (!file.is_open()) return open_failed(spec, access, errno);
  return adopt(spec, std::move(file), object);
}

Status PosixBackend::create(const SegmentSpec& spec, const SegmentInitializer& /*initializer*/,
                            const Deadline& /*deadline*/, std::unique_ptr<SharedObject>* object) {
  // A number that is never open. For -1 the C library does not ask the kernel.
  constexpr int kNoFile = std::numeric_limits<int>::max();
  Status allowed = check_allowed("flock", spec, [] { return ::flock(kNoFile, LOCK_UN); });
  struct stat ignored {};
  if (allowed == Status::kOk) allowed = check_allowed("fstat", spec, [&] { return ::fstat(kNoFile, &ignored); });
  if (allowed != Status::kOk) return allowed;
  // Exclusive, because fs.protected_regular refuses a plain O_CREAT if another user's segment exists by now. The lock
  // comes later, and another process may take it first: any process may initialise the object. All allocations come
  // before, so no failure can prevent discarding a new object.
  const std::string name = posix_object_name(spec.name);
  struct stat newborn {};
  newborn.st_uid = ::geteuid();
  auto made = std::make_unique<PosixObject>(spec, FileDescriptor(-1), newborn);
  // The creator's group gets no rights before the object has the group that was asked for.
  FileDescriptor file = open_object(name, O_RDWR | O_CREAT | O_EXCL, spec.group ? spec.mode & 0700U : spec.mode);
  if (!file.is_open()) return create_failed(spec, errno);
  made->become(std::move(file));
  *object = std::move(made);
  return Status::kOk;
}

Status PosixBackend::move_name(SharedObject& object, SharedObject& successor) {
  const std::string from = kPosixObjectFolder + posix_object_name(successor.spec().name);
  const std::string to = kPosixObjectFolder + posix_object_name(object.spec().name);
  if (::rename(from.c_str(), to.c_str()) == 0) return Status::kOk;
  return fail_errno(Status::kNoPermission, "rename", object.spec().name, errno,
                    "Only its owner or root can rename it. Run as one of them, with a writable /dev/shm.");
}

Status PosixBackend::list(SegmentInitializer& /*initializer*/, std::vector<SegmentInfo>* segments) {
  segments->clear();
  struct CloseFolder {
    void operator()(DIR* folder) const noexcept { ::closedir(folder); }
  };
  FileDescriptor opened =
      open_descriptor([] { return ::open(kPosixObjectFolder, O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  const std::unique_ptr<DIR, CloseFolder> folder(opened.is_open() ? ::fdopendir(opened.number()) : nullptr);
  if (folder == nullptr) {
    return fail_errno(Status::kOsError, opened.is_open() ? "fdopendir" : "open", kPosixObjectFolder, errno,
                      "POSIX segments need /dev/shm. Mount a tmpfs there, or use MEMSTREAM_BACKEND=sysv.");
  }
  opened.release();  // The folder owns it now.
  const std::string prefix = posix_object_name("").substr(1);
  for (;;) {
    errno = 0;  // Tells the end of the folder from an error.
    const dirent* entry = ::readdir(folder.get());
    if (entry == nullptr && errno != 0) {
      return fail_errno(Status::kOsError, "readdir", kPosixObjectFolder, errno, "Check what is mounted on /dev/shm.");
    }
    if (entry == nullptr) return Status::kOk;
    const std::string_view file_name = entry->d_name;
    struct stat status {};
    if (!file_name.starts_with(prefix)) continue;
    if (::fstatat(::dirfd(folder.get()), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) continue;  // Removed since.
    if (!S_ISREG(status.st_mode)) continue;
    segments->push_back({.name = std::string(file_name.substr(prefix.size())),
                         .system_id = fmt::format("/{}", file_name),
                         .size_bytes = static_cast<std::size_t>(status.st_size),
                         .mode = status.st_mode & 0777U,
                         .owner_uid = status.st_uid});
  }
}

}  // namespace

std::unique_ptr<SegmentBackend> make_posix_backend() { return std::make_unique<PosixBackend>(); }

}  // namespace memstream
