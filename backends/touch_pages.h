// Mapping pages into this process before they are needed, without touching them from here: a fault that the system
// cannot serve is an error of a call then, and no SIGBUS.
#pragma once

#include <cerrno>
#include <cstddef>

#include "core/base/segment.h"

namespace memstream {

// Which call failed, and how; no name: none did.
struct FailedCall {
  const char* name = nullptr;
  int error = 0;

  // The system has no page to give: a write would have been a SIGBUS. Any other error: it refused the call.
  bool is_lack_of_memory() const noexcept { return error == ENOMEM || error == EFAULT || error == EHWPOISON; }
};

// Maps the pages of [data, data + size_bytes), as for writing if `access` says so. Changes no byte. In shared memory
// each page is there for all processes after that.
// REQUIRES: `data` is aligned to a page.
FailedCall touch_pages(const std::byte* data, std::size_t size_bytes, Access access) noexcept;

}  // namespace memstream
