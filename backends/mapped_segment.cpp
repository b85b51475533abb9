// Page arithmetic, and what is done to every mapping.
#include "backends/mapped_segment.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "backends/huge_pages.h"
#include "backends/touch_pages.h"
#include "core/base/retry_eintr.h"
#include "core/base/thread_cancel.h"

namespace memstream {

std::size_t page_size_bytes() noexcept {
  static const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

std::size_t round_up_to_page(std::size_t size_bytes) noexcept {
  const std::size_t mask = page_size_bytes() - 1;
  return (size_bytes + mask) & ~mask;
}

void keep_out_of_core_dumps(std::byte* data, std::size_t size_bytes) noexcept {
  // A hint. No kernel since 3.4 refuses it for such memory, and the segment works without it too.
  (void)::madvise(data, size_bytes, MADV_DONTDUMP);
}

MappedSegment::MappedSegment(std::string name, std::byte* data, std::size_t size_bytes, Access access,
                             HugePages huge_pages) noexcept
    : name_(std::move(name)), data_(data), size_bytes_(size_bytes), access_(access) {
  keep_out_of_core_dumps(data, size_bytes);
  // Refused by a kernel that has none.
  if (huge_pages != HugePages::kOff) (void)::madvise(data, size_bytes, MADV_HUGEPAGE);
}

Status MappedSegment::commit(std::size_t offset_bytes, std::size_t size_bytes) noexcept {
  if (size_bytes == 0) return Status::kOk;
  const DisableCancelScope uncancelled;
  const std::size_t begin = offset_bytes & ~(page_size_bytes() - 1);
  return commit_pages(begin, round_up_to_page(offset_bytes + size_bytes) - begin);
}

Status MappedSegment::commit_by_touch(std::size_t offset_bytes, std::size_t size_bytes,
                                      const char* memory_remedy) noexcept {
  const FailedCall failed = touch_pages(data_ + offset_bytes, size_bytes, Access::kReadWrite);
  if (failed.name == nullptr) return Status::kOk;
  if (failed.is_lack_of_memory()) {
    return fail_errno(Status::kNoMemory, failed.name, name_, failed.error, memory_remedy);
  }
  return fail_errno(Status::kOsError, failed.name, name_, failed.error,
                    "A filter of system calls (seccomp) keeps this process from claiming memory. Allow it madvise() or "
                    "process_vm_readv().");
}

Status MappedSegment::prefault(std::size_t offset_bytes, std::size_t size_bytes) const noexcept {
  if (size_bytes == 0) return Status::kOk;
  const DisableCancelScope uncancelled;
  const std::size_t begin = offset_bytes & ~(page_size_bytes() - 1);
  const std::size_t rounded_bytes = std::min(round_up_to_page(offset_bytes + size_bytes), size_bytes_) - begin;
  const FailedCall failed = touch_pages(data_ + begin, rounded_bytes, access_);
  if (failed.name == nullptr) return Status::kOk;
  if (failed.is_lack_of_memory()) {
    return fail_errno(
        Status::kNoMemory, failed.name, name_, failed.error,
        "The machine or the container has no memory left for its pages. Free some, or set MEMSTREAM_PREFAULT=off.");
  }
  return fail_errno(
      Status::kOsError, failed.name, name_, failed.error,
      "This system refuses to map pages beforehand, perhaps by a seccomp filter. Set MEMSTREAM_PREFAULT=off.");
}

Status MappedSegment::look_for_memory(std::size_t offset_bytes, std::size_t size_bytes) const noexcept {
  const DisableCancelScope uncancelled;
  const int callers_errno = errno;
  const std::size_t begin = offset_bytes & ~(page_size_bytes() - 1);
  const std::size_t end = std::min(round_up_to_page(offset_bytes + size_bytes), size_bytes_);
  const FailedCall failed = touch_pages(data_ + begin, end - begin, Access::kReadOnly);
  Status status = Status::kOk;
  if (failed.name != nullptr) {
    // Out of memory for page tables, or at a limit of the control group (ENOMEM): that says nothing of the pages.
    status = failed.is_lack_of_memory() && failed.error != ENOMEM ? Status::kNoMemory : Status::kOsError;
    // A live value is not given up on the word of one call.
    if (status == Status::kNoMemory && read_pages(data_ + begin, end - begin).name == nullptr) status = Status::kOk;
  }
  errno = callers_errno;
  return status;
}

std::size_t MappedSegment::kernel_page_size_bytes() const noexcept {
  const DisableCancelScope uncancelled;
  // The kernel describes mapped pages only.
  if (touch_pages(data_, std::min(page_size_bytes(), size_bytes_), access_).name != nullptr) return 0;
  return mapped_page_size_bytes(data_);
}

void MappedSegment::abandon() noexcept {
  // A child that still had access could continue its parent's write.
  if (::mprotect(data_, round_up_to_page(size_bytes_), PROT_NONE) != 0) std::abort();
}

}  // namespace memstream
