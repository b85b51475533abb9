// Maps pages into this process before they are needed, without touching them from user space. A fault that the system
// cannot serve is then an error of a call instead of a SIGBUS.
#pragma once

#include <cerrno>
#include <cstddef>

#include "core/base/segment.h"

namespace memstream {

// The call that failed, and its error. Without a name no call failed.
struct FailedCall {
  const char* name = nullptr;
  int error = 0;

  // The system has no page left: a write would have raised SIGBUS. With any other error it refused the call.
  bool is_lack_of_memory() const noexcept { return error == ENOMEM || error == EFAULT || error == EHWPOISON; }
};

// Maps the pages of [data, data + size_bytes), for writing if `access` allows it. Changes no byte. In shared memory
// each page then exists for all processes.
// REQUIRES: `data` is aligned to a page.
FailedCall touch_pages(const std::byte* data, std::size_t size_bytes, Access access) noexcept;

// The same without population: lets the kernel copy one byte of each page to a buffer of our own.
FailedCall read_pages(const std::byte* data, std::size_t size_bytes) noexcept;

}  // namespace memstream
