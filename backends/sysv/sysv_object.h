// A System V segment by its id, and an attachment of it.
#pragma once

#include <sys/shm.h>

#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include "backends/shared_object.h"
#include "backends/sysv/creation_lock.h"

namespace memstream {

// The system's error for an id that was removed meanwhile.
inline bool is_removed(int error) noexcept { return error == EINVAL || error == EIDRM; }

Ownership ownership_of(const ipc_perm& permissions) noexcept;
// Gives the owner of the segment `segment_id` whatever its mode, so that an error can name it. False if the kernel does
// not tell (before 4.17), or the segment is gone.
bool ownership_of_segment(int segment_id, Ownership* ownership) noexcept;

// The id of the System V segment that `segment` maps; -1 for a mapping of another backend.
int id_of_mapped(const Segment& segment) noexcept;

class SysvObject final : public SharedObject {
 public:
  // `family` is the key of the creation lock. `initializer` has to outlive the object. `access` is what the segment is
  // looked up for.
  SysvObject(const SegmentSpec& spec, Access access, const SegmentInitializer& initializer, key_t family,
             int segment_id, const shmid_ds& status)
      : SharedObject(spec),
        access_(access),
        initializer_(initializer),
        family_(family),
        segment_id_(segment_id),
        status_(status) {}

  int segment_id() const noexcept { return segment_id_; }
  key_t family() const noexcept { return family_; }
  // Whether the same user owns and made it.
  bool has_owner_of(const SysvObject& other) const noexcept {
    return status_.shm_perm.uid == other.status_.shm_perm.uid && status_.shm_perm.cuid == other.status_.shm_perm.cuid;
  }
  // Assigns the segment that was just made under these locks.
  void become(int segment_id, std::vector<CreationLock> locks) noexcept;
  // Gives a new segment to the requested group, if any.
  Status give_group();

  std::size_t size_bytes() const noexcept override { return status_.shm_segsz; }
  Ownership ownership() const noexcept override { return ownership_of(status_.shm_perm); }
  bool is_mapped_by(const Segment& segment) const noexcept override;
  Status read_header(std::byte* header, std::size_t size_bytes) override;
  Status lock(const Deadline& deadline) override;
  Status look_again() override;
  Status give_size() override;
  Status map(Access access, std::unique_ptr<Segment>* segment) override;
  std::string huge_page_remedy() const override;
  Status may_remove_name() const override;
  Status may_remove_foreign() const override;
  Status remove_name() override;
  Status discard() override;

 private:
  friend class SysvSegment;
  struct Attachment;

  Status attach(Access access, std::shared_ptr<Attachment>* attachment);
  Status attach_to_look();

  Access access_;
  const SegmentInitializer& initializer_;
  key_t family_;
  int segment_id_;
  shmid_ds status_;
  std::vector<CreationLock> locks_;
  // Made when the header is first read, and reused later and by map() if it has the requested access, because attaching
  // and detaching are the most expensive calls of opening a cache.
  std::shared_ptr<Attachment> attachment_;
  bool has_header_page_ = false;
};

}  // namespace memstream
