// Who this process is, and whether another one is still there.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>

#include "core/status.h"

namespace memstream {

// Where this process runs: locks and process ids mean nothing to processes of another boot or pid namespace.
struct Home {
  std::string boot_id;
  std::uint64_t pid_namespace = 0;
};

// kOsError if the kernel does not say: a guess could take a living process for a dead one.
Status find_home(Home* home);

// Name and version of the C library, whose lock types lie in the segment.
std::string libc_id();

// When this process started, in clock ticks since boot. kOsError if the kernel does not say.
Status own_start_time(std::uint64_t* start_time) noexcept;

// When process `pid` started; 0 if there is none or nothing can be learnt.
std::uint64_t process_start_time(pid_t pid) noexcept;

// False only if the process that had this pid and start time has ended for certain. A stopped process is alive; a
// zombie has ended.
bool process_is_alive(pid_t pid, std::uint64_t start_time) noexcept;

// Random bytes from the kernel. Falls back to nothing: false if there are none.
bool random_bytes(void* to, std::size_t size_bytes) noexcept;

}  // namespace memstream
