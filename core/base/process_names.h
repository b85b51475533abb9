// What an error says of a process: its pid, and what /proc tells of it.
#pragma once

#include <sys/types.h>

#include <string>

namespace memstream {

// "process 4711 (python3)", or "this process (4711)"; with ", which is stopped (...)," behind it if a signal has
// stopped it. What /proc does not tell is left out. `tid` may be that of any thread; 0 is "another process". May throw
// std::bad_alloc.
std::string describe_process(pid_t tid);

}  // namespace memstream
