// Page arithmetic, and what is done to every mapping.
#include "backends/mapped_segment.h"

#include <sys/mman.h>
#include <unistd.h>

#include <utility>

#include "core/cancellation.h"

namespace memstream {

std::size_t page_size_bytes() noexcept {
  static const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

std::size_t round_up_to_page(std::size_t size_bytes) noexcept {
  const std::size_t mask = page_size_bytes() - 1;
  return (size_bytes + mask) & ~mask;
}

MappedSegment::MappedSegment(std::string name, std::byte* data, std::size_t size_bytes, Access access) noexcept
    : name_(std::move(name)), data_(data), size_bytes_(size_bytes), access_(access) {
  // A hint that no kernel since 3.4 refuses for memory like this; without it the segment works all the same.
  (void)::madvise(data, size_bytes, MADV_DONTDUMP);
}

Status MappedSegment::commit(std::size_t offset_bytes, std::size_t size_bytes) noexcept {
  if (size_bytes == 0) return Status::kOk;
  const UncancelledScope uncancelled;
  const std::size_t begin = offset_bytes & ~(page_size_bytes() - 1);
  return commit_pages(begin, round_up_to_page(offset_bytes + size_bytes) - begin);
}

}  // namespace memstream
