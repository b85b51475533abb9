#include "core/base/process_private.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>

namespace memstream {
namespace {

constexpr std::size_t kSizeBytes = 4096;  // A page where pages are smallest; the kernel rounds it up elsewhere.

}  // namespace

void* map_process_private_page() noexcept {
  void* page = mmap(nullptr, kSizeBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) {
    static_cast<void>(
        fail_errno(Status::kNoMemory, "mmap", "", errno, "Free some memory: this process needs one more page."));
    return nullptr;
  }
  if (madvise(page, kSizeBytes, MADV_WIPEONFORK) == 0) return page;
  const int error = errno;
  munmap(page, kSizeBytes);
  static_cast<void>(fail_errno(Status::kOsError, "madvise(MADV_WIPEONFORK)", "", error,
                               "Use Linux 4.14 or newer. Without this call a forked child could pass for its parent."));
  return nullptr;
}

void unmap_process_private_page(void* page) noexcept { munmap(page, kSizeBytes); }

}  // namespace memstream
