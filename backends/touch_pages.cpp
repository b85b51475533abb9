// See touch_pages.h.
#include "backends/touch_pages.h"

#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "backends/mapped_segment.h"
#include "core/base/retry_eintr.h"

namespace memstream {
namespace {

// Kernels before 5.14 answer EINVAL. A filter may forbid this advice alone (EPERM, ENOSYS).
bool has_no_population(int error) noexcept { return error == EINVAL || error == EPERM || error == ENOSYS; }

}  // namespace

// The fallback without population: lets the kernel copy one byte of each page to a buffer. A fault inside the kernel
// that fails is EFAULT. Reading a page of shared memory allocates it, as writing does.
FailedCall read_pages(const std::byte* data, std::size_t size_bytes) noexcept {
  constexpr std::size_t kPagesAtOnce = 64;
  std::byte bytes[kPagesAtOnce];
  iovec pages[kPagesAtOnce];
  for (std::size_t at = 0; at < size_bytes;) {
    std::size_t count = 0;
    for (; count < kPagesAtOnce && at < size_bytes; ++count, at += page_size_bytes()) {
      pages[count] = {const_cast<std::byte*>(data + at), 1};
    }
    const iovec room{bytes, count};
    const ssize_t copied = retry_on_eintr([&] { return ::process_vm_readv(::getpid(), &room, 1, pages, count, 0); });
    if (copied < 0) return {"process_vm_readv", errno};
    if (static_cast<std::size_t>(copied) != count) return {"process_vm_readv", EFAULT};
  }
  return {};
}

FailedCall touch_pages(const std::byte* data, std::size_t size_bytes, Access access) noexcept {
  const int advice = access == Access::kReadWrite ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;
  if (retry_on_eintr([&] { return ::madvise(const_cast<std::byte*>(data), size_bytes, advice); }) == 0) return {};
  return has_no_population(errno) ? read_pages(data, size_bytes) : FailedCall{"madvise", errno};
}

}  // namespace memstream
