// The system calls on a System V segment that has been found.
#include "backends/sysv/sysv_object.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <cerrno>
#include <limits>
#include <string>

#include "backends/filters.h"
#include "backends/mapped_segment.h"
#include "backends/touch_pages.h"
#include "core/base/retry_eintr.h"

namespace memstream {
namespace {

// Of a segment whatever its mode, as ownership_of_segment() tells it.
bool status_of_any_segment(int segment_id, shmid_ds* status) noexcept {
  shm_info summary{};
  const int last_index = ::shmctl(0, SHM_INFO, reinterpret_cast<shmid_ds*>(&summary));
  for (int index = 0; index <= last_index; ++index) {
    if (::shmctl(index, SHM_STAT_ANY, status) == segment_id) return true;
  }
  return false;
}

constexpr char kMachineMemoryRemedy[] =
    "The machine or the container has no memory left. Free some, or raise the container's limit.";

}  // namespace

struct SysvObject::Attachment {
  std::byte* data = nullptr;
  Access access = Access::kReadOnly;

  Attachment() = default;
  Attachment(const Attachment&) = delete;
  Attachment& operator=(const Attachment&) = delete;
  ~Attachment() {
    if (data != nullptr) ::shmdt(data);
  }
};

class SysvSegment final : public MappedSegment {
 public:
  SysvSegment(const SegmentSpec& spec, std::shared_ptr<SysvObject::Attachment> attachment, std::size_t size_bytes,
              int segment_id)
      : MappedSegment(spec.name, attachment->data, size_bytes, attachment->access, spec.huge_pages),
        attachment_(std::move(attachment)),
        segment_id_(segment_id) {}

  std::size_t available_bytes() const noexcept override;
  bool has_name() const noexcept override;
  int segment_id() const noexcept { return segment_id_; }

 private:
  Status commit_pages(std::size_t offset_bytes, std::size_t size_bytes) noexcept override;

  std::shared_ptr<SysvObject::Attachment> attachment_;
  int segment_id_;
};

std::size_t SysvSegment::available_bytes() const noexcept {
  // kernel.shmall already allowed the whole segment when it was made.
  struct sysinfo machine {};
  if (::sysinfo(&machine) != 0) return std::numeric_limits<std::size_t>::max();
  return (machine.totalram + machine.totalswap) * machine.mem_unit;
}

bool SysvSegment::has_name() const noexcept {
  // A removed segment keeps its id while this process is attached. If no segment has this id, this process is in
  // another IPC namespace, where another segment may have it.
  shmid_ds status{};
  if (::shmctl(segment_id_, IPC_STAT, &status) != 0 &&
      (errno != EACCES || !status_of_any_segment(segment_id_, &status)))
    return true;
  return (status.shm_perm.mode & SHM_DEST) == 0 || status.shm_segsz != size_bytes();
}

Status SysvSegment::commit_pages(std::size_t offset_bytes, std::size_t size_bytes) noexcept {
  return commit_by_touch(offset_bytes, size_bytes, kMachineMemoryRemedy);
}

Ownership ownership_of(const ipc_perm& permissions) noexcept {
  return {.owner = permissions.uid,
          .creator = permissions.cuid,
          .group = permissions.gid,
          .creator_group = permissions.cgid,
          .mode = permissions.mode & 0777U};
}

bool ownership_of_segment(int segment_id, Ownership* ownership) noexcept {
  shmid_ds status{};
  if (!status_of_any_segment(segment_id, &status)) return false;
  *ownership = ownership_of(status.shm_perm);
  return true;
}

void SysvObject::become(int segment_id, std::vector<CreationLock> locks) noexcept {
  segment_id_ = segment_id;
  locks_ = std::move(locks);
  status_.shm_segsz = spec().size_bytes;
  status_.shm_perm.uid = status_.shm_perm.cuid = ::geteuid();
}

int id_of_mapped(const Segment& segment) noexcept {
  const auto* mapped = dynamic_cast<const SysvSegment*>(&segment);
  return mapped == nullptr ? -1 : mapped->segment_id();
}

Status SysvObject::give_group() {
  if (!spec().group) return Status::kOk;
  bool is_done = ::shmctl(segment_id_, IPC_STAT, &status_) == 0;
  status_.shm_perm.gid = *spec().group;
  is_done = is_done && ::shmctl(segment_id_, IPC_SET, &status_) == 0;
  if (is_done) return Status::kOk;
  return fail_errno(Status::kOsError, "shmctl", spec().name, errno, remedy_of(errno, "Check MEMSTREAM_GROUP."));
}

bool SysvObject::is_mapped_by(const Segment& segment) const noexcept { return id_of_mapped(segment) == segment_id_; }

Status SysvObject::read_header(std::byte* header, std::size_t size_bytes) {
  if (this->size_bytes() < size_bytes) {
    return fail(
        Status::kTruncated,
        fmt::format(
            "shmid {0} has {1} bytes, and the header of segment '{3}' alone needs {2}. Remove it with: ipcrm -m {0}",
            segment_id_, this->size_bytes(), size_bytes, spec().name));
  }
  if (attachment_ == nullptr) {
    if (const Status status = attach_to_look(); status != Status::kOk) return status;
  }
  // The creator may not have written there yet, and reading a page that does not exist takes memory too. EFAULT means
  // that reading would raise SIGBUS; after any other error the copy is tried.
  if (!has_header_page_) {
    const FailedCall failed = touch_pages(attachment_->data, round_up_to_page(size_bytes), Access::kReadOnly);
    if (failed.error == EFAULT) {
      return fail_errno(Status::kNoMemory, failed.name, spec().name, failed.error, kMachineMemoryRemedy);
    }
    has_header_page_ = true;
  }
  copy_while_written(header, attachment_->data, size_bytes);
  return Status::kOk;
}

Status SysvObject::lock(const Deadline& deadline) {
  if (!locks_.empty()) return Status::kOk;
  CreationLock lock;
  const Status status = CreationLock::acquire(family_, spec(), deadline, &lock);
  if (status == Status::kOk) locks_.push_back(std::move(lock));
  return status;
}

Status SysvObject::look_again() {
  if (::shmctl(segment_id_, IPC_STAT, &status_) != 0) {
    if (is_removed(errno)) return Status::kGone;
    return fail_errno(Status::kOsError, "shmctl", spec().name, errno, remedy_of(errno, "See ipcs -m."));
  }
  if ((status_.shm_perm.mode & SHM_DEST) != 0) return Status::kGone;
  // When it was found it may have had no name, because its creator was still writing. It may belong to another name
  // after all.
  Identity identity;
  const Status status = identify(*this, initializer_, &identity);
  if (status == Status::kTruncated) return Status::kOk;
  if (status != Status::kOk) return status;
  return identity.name.empty() || identity.name == spec().name ? Status::kOk : Status::kGone;
}

Status SysvObject::give_size() {
  // shmget() set its size and its mode in one step, and no umask applies.
  return Status::kOk;
}

// Attaches with the access that the segment was looked up for, if its owner is trusted with that.
Status SysvObject::attach_to_look() {
  if (access_ == Access::kReadWrite && is_trusted(ownership(), spec())) {
    const Status status = attach(Access::kReadWrite, &attachment_);
    if (status != Status::kNoPermission) return status;
  }
  return attach(Access::kReadOnly, &attachment_);
}

Status SysvObject::map(Access access, std::unique_ptr<Segment>* segment) {
  std::shared_ptr<Attachment> attachment;
  if (attachment_ != nullptr && attachment_->access == access) {
    attachment = attachment_;
  } else if (const Status status = attach(access, &attachment); status != Status::kOk) {
    return status;
  }
  *segment = std::make_unique<SysvSegment>(spec(), std::move(attachment), size_bytes(), segment_id_);
  return Status::kOk;
}

Status SysvObject::attach(Access access, std::shared_ptr<Attachment>* attachment) {
  auto made = std::make_shared<Attachment>();
  void* address = ::shmat(segment_id_, nullptr, access == Access::kReadOnly ? SHM_RDONLY : 0);
  if (address != reinterpret_cast<void*>(-1)) {
    made->data = static_cast<std::byte*>(address);
    made->access = access;
    keep_out_of_core_dumps(made->data, size_bytes());
    *attachment = std::move(made);
    return Status::kOk;
  }
  if (is_removed(errno)) return Status::kGone;
  switch (errno) {
    case EACCES: {
      std::shared_ptr<Attachment> readable;
      const bool may_read = access == Access::kReadWrite && attach(Access::kReadOnly, &readable) == Status::kOk;
      const Ownership whose = ownership();
      return refuse_access(&whose, may_read, spec());
    }
    case ENOMEM:
      return fail_errno(Status::kNoMemory, "shmat", spec().name, errno,
                        "Raise the limit on address space (ulimit -v).");
    default:
      return fail_errno(Status::kOsError, "shmat", spec().name, errno, remedy_of(errno, "See ipcs -m."));
  }
}

std::string SysvObject::huge_page_remedy() const {
  return "a creator that was killed had begun it with ordinary pages. That segment is removed now: try again.";
}

Status SysvObject::may_remove_name() const {
  const uid_t user = ::geteuid();
  if (user == 0 || user == status_.shm_perm.uid || user == status_.shm_perm.cuid) return Status::kOk;
  return refuse_removal(ownership(), spec());
}

Status SysvObject::may_remove_foreign() const {
  // Any program may use a key, so a segment without a MemStream header may be another program's.
  return fail(Status::kBadMagic,
              fmt::format("shmid {} has a key of segment '{}', but its bytes are not a MemStream segment. If you are "
                          "sure that nobody needs it, remove it with: ipcrm -m {}",
                          segment_id_, spec().name, segment_id_));
}

Status SysvObject::discard() {
  // The locks have been held since before it was made, so no other process can have completed it.
  return remove_name();
}

Status SysvObject::remove_name() {
  if (::shmctl(segment_id_, IPC_RMID, nullptr) == 0 || is_removed(errno)) return Status::kOk;
  return fail_errno(Status::kNoPermission, "shmctl", spec().name, errno, "Only its owner or root can remove it.");
}

}  // namespace memstream
