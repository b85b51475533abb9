// What an error says of a process: its pid, and what /proc tells of it.
#pragma once

#include <sys/types.h>

#include <string>

namespace memstream {

// "process 4711 (python3)"; with ", which is stopped" behind it if a signal has stopped it. What /proc does not tell is
// left out. `tid` may be that of any thread. May throw std::bad_alloc.
std::string describe_process(pid_t tid);

// The process that a thread belongs to; the number itself where /proc does not tell.
pid_t process_of_thread(pid_t tid) noexcept;

}  // namespace memstream
