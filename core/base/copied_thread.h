// The thread of a child that a bare system call made: fork() and _Fork() tell the C library that the thread is a new
// one, SYS_fork and SYS_clone do not.
#pragma once

namespace memstream {

// Notes where the C library keeps a thread's id and its list of robust mutexes. adopt_copied_thread() needs that from
// the parent. Safe from all threads.
void note_thread_layout() noexcept;

// Makes the id and the list those of the calling thread, so that the kernel frees the robust mutexes of a child that is
// killed. False if that cannot be done: then the thread must take no lock in shared memory.
// REQUIRES: no other process shares this memory.
bool adopt_copied_thread() noexcept;

}  // namespace memstream
