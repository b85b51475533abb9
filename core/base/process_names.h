// Describes a process in an error message: its pid, its command, and whether it is stopped.
#pragma once

#include <sys/types.h>

#include <string>

namespace memstream {

// "process 4711 (python3)", or "this process (4711)", followed by ", which is stopped (...)," if a signal has stopped
// it. Leaves out what /proc does not tell. `tid` may be that of any thread; 0 is "another process". May throw
// std::bad_alloc.
std::string describe_process(pid_t tid);

}  // namespace memstream
