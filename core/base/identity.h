// Who this process is, and whether another one is still there.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>

#include "core/base/status.h"

namespace memstream {

// Where this process runs, as its /proc says. Namespaces are inode numbers.
struct Home {
  std::string boot_id;
  std::uint64_t pid_namespace = 0;
  std::uint64_t ipc_namespace = 0;
  std::uint64_t time_namespace = 0;  // 0: the kernel has none (before 5.6).
};

// kOsError if the kernel does not say: a guess could take a living process for a dead one.
Status find_home(Home* home);

// The inode number of the namespace at `path` ("/proc/self/ns/time"). 0, and errno, if it is not known.
std::uint64_t own_namespace(const char* path) noexcept;

// Name and version of the C library, whose lock types lie in the segment.
std::string libc_id();

// When this process started, in clock ticks since boot; 0 if /proc does not say.
std::uint64_t own_start_time() noexcept;

// A random number that this program drew when it first asked: after exec() another one. Never 0.
std::uint64_t program_image() noexcept;

// Random bytes from the kernel. Falls back to nothing: false if there are none.
bool random_bytes(void* to, std::size_t size_bytes) noexcept;

}  // namespace memstream
