// For programs that take segments away by hand, and with them all that knows their semaphores. The program runs in an
// IPC namespace of its own, which takes the semaphores along when it ends. Include it once, in the program.
#pragma once

#include <sched.h>

namespace memstream::test {

// False for a user who cannot have a namespace: then the semaphores stay behind.
[[maybe_unused]] inline const bool has_own_ipc_namespace = ::unshare(CLONE_NEWIPC) == 0;

}  // namespace memstream::test
