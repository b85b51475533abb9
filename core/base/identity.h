// The identity of this host and of this process.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>

#include "core/base/status.h"

namespace memstream {

// Where this process runs, as its /proc says. Namespaces are inode numbers.
struct HostId {
  std::string boot_id;
  std::uint64_t pid_namespace = 0;
  std::uint64_t ipc_namespace = 0;
  std::uint64_t time_namespace = 0;  // 0: the kernel has none (before 5.6).
};

// kOsError if the kernel does not say. There is no fallback: a guess could take a living process for a dead one.
Status read_host_id(HostId* home);

// The inode number of the namespace at `path` ("/proc/self/ns/time"). 0, and errno, if it is not known.
std::uint64_t own_namespace(const char* path) noexcept;

// Whether the system also gives this number to this process for each user, or group, that its user namespace does not
// map. Objects of two users then look like one user's. Never true outside of a user namespace.
bool is_shared_user_id(uid_t user) noexcept;
bool is_shared_group_id(gid_t group) noexcept;

// Name and version of the C library, whose lock types lie in the segment.
std::string libc_id();

// When this process started, in clock ticks since boot; 0 if /proc does not say.
std::uint64_t own_start_time() noexcept;

// A random number for this program: the same for every copy of the library in the process and for its forked children,
// another one after exec(). Never 0.
std::uint64_t program_image() noexcept;

// Random bytes from the kernel. False if it gives none; there is no fallback.
bool random_bytes(void* to, std::size_t size_bytes) noexcept;

}  // namespace memstream
