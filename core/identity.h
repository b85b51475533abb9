// Who this process is, and whether another one is still there.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>

namespace memstream {

// The machine's present boot, "" if the kernel does not say.
std::string boot_id();

// Identifies the pid namespace of this process; 0 if the kernel does not say. Robust mutexes and pids mean nothing
// across two.
std::uint64_t pid_namespace_id() noexcept;

// Name and version of the C library, whose lock types lie in the segment.
std::string libc_id();

// When process `pid` started, in clock ticks since boot; 0 if there is none or nothing can be learnt.
std::uint64_t process_start_time(pid_t pid) noexcept;

// False only if the process that had this pid and start time has ended for certain. A stopped process is alive; a
// zombie has ended.
bool process_is_alive(pid_t pid, std::uint64_t start_time) noexcept;

// Random bytes from the kernel. Falls back to nothing: false if there are none.
bool random_bytes(void* to, std::size_t size_bytes) noexcept;

}  // namespace memstream
