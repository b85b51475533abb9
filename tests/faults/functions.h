// What libcache.so calls and may see fail: every import of the library stands here, with the errors that its manual
// page names, or in tests/faults/imports_test.py with the reason why it cannot fail.
//
// How a call fails:
//   kMinusOne   returns -1 and sets errno            kError   returns the error
//   kNull       returns NULL and sets errno          kThrow   throws std::bad_alloc
//   kAfterwards does its work, then returns -1: what Linux makes of an interrupted close()
#pragma once

#include <cerrno>

#define MEMSTREAM_FAULTY_FUNCTIONS(X)                                                \
  /* memory and descriptors */                                                       \
  X(shm_open, kMinusOne, EMFILE, EACCES, ENOSPC, EINTR)                              \
  X(shm_unlink, kMinusOne, EACCES, EPERM)                                            \
  X(rename, kMinusOne, EACCES, ENOSPC, EROFS)                                        \
  X(ftruncate, kMinusOne, ENOSPC, EINTR)                                             \
  X(fstat, kMinusOne, EOVERFLOW)                                                     \
  X(statvfs, kMinusOne, EIO, EINTR)                                                  \
  X(fchmod, kMinusOne, EPERM)                                                        \
  X(fchown, kMinusOne, EPERM)                                                        \
  X(getgroups, kMinusOne, EPERM)                                                     \
  X(getgrnam_r, kError, EIO, ERANGE)                                                 \
  X(getpwnam_r, kError, EIO, ERANGE)                                                 \
  X(flock, kMinusOne, ENOLCK, EINTR)                                                 \
  X(pread, kMinusOne, EIO, EINTR)                                                    \
  X(mmap, kMinusOne, ENOMEM, EACCES)                                                 \
  X(munmap, kMinusOne, ENOMEM)                                                       \
  X(madvise, kMinusOne, ENOMEM, EFAULT, EINVAL, EINTR, EPERM)                        \
  X(process_vm_readv, kMinusOne, EPERM, EFAULT, ENOMEM)                              \
  X(posix_fallocate, kError, ENOSPC, EINTR, EIO)                                     \
  X(getrlimit, kMinusOne, EPERM)                                                     \
  X(close, kAfterwards, EINTR, EIO)                                                  \
  X(fcntl, kMinusOne, EBADF)                                                         \
  X(eventfd, kMinusOne, EMFILE, ENOMEM)                                              \
  /* System V */                                                                     \
  X(shmget, kMinusOne, ENOSPC, ENOMEM, EACCES, EPERM)                                \
  X(shmat, kMinusOne, ENOMEM, EACCES, EIDRM)                                         \
  X(shmdt, kMinusOne, EINVAL)                                                        \
  X(shmctl, kMinusOne, EPERM, EACCES, EIDRM)                                         \
  X(sysinfo, kMinusOne, EPERM)                                                       \
  X(semget, kMinusOne, ENOSPC, EACCES)                                               \
  X(semctl, kMinusOne, EPERM, EACCES, EIDRM)                                         \
  X(semop, kMinusOne, EINTR, ENOMEM)                                                 \
  X(semtimedop, kMinusOne, ENOMEM, EINTR, EAGAIN, EIDRM)                             \
  /* who and where a process is */                                                   \
  X(open, kMinusOne, EMFILE, EACCES, EINTR)                                          \
  X(read, kMinusOne, EIO, EINTR)                                                     \
  X(stat, kMinusOne, ENOENT, EACCES)                                                 \
  X(lstat, kMinusOne, EACCES)                                                        \
  X(getrandom, kMinusOne, ENOSYS, EINTR)                                             \
  /* lists of segments */                                                            \
  X(fdopendir, kNull, ENOMEM)                                                        \
  X(readdir, kNull, EBADF)                                                           \
  X(closedir, kAfterwards, EINTR)                                                    \
  X(fstatat, kMinusOne, ENOENT)                                                      \
  /* locks */                                                                        \
  X(pthread_mutexattr_init, kError, ENOMEM)                                          \
  X(pthread_mutexattr_setpshared, kError, ENOTSUP)                                   \
  X(pthread_mutexattr_setrobust, kError, ENOTSUP)                                    \
  X(pthread_mutexattr_destroy, kError, EINVAL)                                       \
  X(pthread_mutex_init, kError, ENOMEM, EAGAIN)                                      \
  X(pthread_mutex_trylock, kError, EBUSY, EINVAL, ENOTRECOVERABLE, EOWNERDEAD)       \
  X(pthread_mutex_clocklock, kError, ETIMEDOUT, EINVAL, ENOTRECOVERABLE, EOWNERDEAD) \
  X(pthread_rwlockattr_init, kError, ENOMEM)                                         \
  X(pthread_rwlockattr_setpshared, kError, ENOTSUP)                                  \
  X(pthread_rwlockattr_destroy, kError, EINVAL)                                      \
  X(pthread_rwlock_init, kError, ENOMEM, EAGAIN)                                     \
  X(pthread_rwlock_trywrlock, kError, EBUSY)                                         \
  X(pthread_rwlock_tryrdlock, kError, EBUSY, EAGAIN)                                 \
  X(__register_atfork, kError, ENOMEM)                                               \
  /* memory of the process */                                                        \
  X(operator_new, kThrow, ENOMEM)                                                    \
  X(operator_new_aligned, kThrow, ENOMEM)                                            \
  X(aligned_alloc, kNull, ENOMEM)
