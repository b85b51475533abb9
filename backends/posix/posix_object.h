// An open POSIX shared memory object. Its mappings keep no descriptor, because a program may close every descriptor
// that it does not know, and the number would then belong to another file.
#pragma once

#include <sys/stat.h>

#include <memory>
#include <string>
#include <utility>

#include "backends/mapped_segment.h"
#include "backends/shared_object.h"
#include "core/base/descriptors.h"

namespace memstream {

// "/memstream.NAME", as shm_open takes it.
std::string posix_object_name(const std::string& segment_name);

// The folder where the C library keeps shared memory objects. POSIX has no call that lists them or tells their owner.
inline constexpr char kPosixObjectFolder[] = "/dev/shm";

Ownership ownership_of(const struct stat& status) noexcept;

// The creation lock is flock() on the descriptor. A child that is forked meanwhile shares the lock. If the parent is
// killed then, the lock stays until the child ends or executes another program.
class PosixObject final : public SharedObject {
 public:
  PosixObject(const SegmentSpec& spec, FileDescriptor file, const struct stat& status)
      : SharedObject(spec), file_(std::move(file)), status_(status) {}
  ~PosixObject() override;

  // Assigns the object that was just made.
  void become(FileDescriptor file) noexcept { file_ = std::move(file); }

  std::size_t size_bytes() const noexcept override { return static_cast<std::size_t>(status_.st_size); }
  Ownership ownership() const noexcept override;
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
  // Claims the memory of the whole object.
  Status commit_all();

  FileDescriptor file_;
  struct stat status_;
  bool is_locked_ = false;
};

}  // namespace memstream
