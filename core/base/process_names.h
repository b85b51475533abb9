// Says of a thread which process it belongs to, and describes that in an error message.
#pragma once

#include <sys/types.h>

#include <string>

namespace memstream {

// The process that a thread belongs to; 0 if /proc does not tell. The thread may have ended.
pid_t process_of_thread(pid_t tid) noexcept;

// "process 4711 (python3)", or "this process (4711)", followed by ", which is stopped (...)," if a signal has stopped
// it. Leaves out what /proc does not tell. `tid` may be that of any thread; 0 is "another process". May throw
// std::bad_alloc.
std::string describe_process(pid_t tid);

}  // namespace memstream
