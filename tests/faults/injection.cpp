// See injection.h. The definitions carry the names of the functions as assembler labels, so that they do not have to
// repeat the exception specifications of the C library's headers.
#include "tests/faults/injection.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

#include <atomic>
#include <cstdarg>
#include <cstdlib>
#include <new>
#include <type_traits>

struct group;
struct iovec;
struct rlimit;
struct statvfs;
struct sysinfo;

namespace memstream::test {
namespace {

constexpr FunctionFacts kFacts[] = {
#define MEMSTREAM_FACTS(name, kind, ...) {#name, FailureKind::kind, {__VA_ARGS__}},
    MEMSTREAM_FAULTY_FUNCTIONS(MEMSTREAM_FACTS)
#undef MEMSTREAM_FACTS
};

// Of the one thread that runs a scenario: other threads' calls pass.
thread_local bool is_counting = false;
unsigned calls[kFunctions];
Fault planned{};
bool is_planned = false;
bool has_struck = false;
std::atomic<long> outstanding{0};

// Counts a call. The error with which it has to fail; 0: it has not to.
int error_of_call(Function function) {
  if (!is_counting) return 0;
  const unsigned call = ++calls[static_cast<std::size_t>(function)];
  if (!is_planned || function != planned.function) return 0;
  if (call != planned.call && !(planned.persists && call > planned.call)) return 0;
  has_struck = true;
  return planned.error;
}

template <class Result>
Result failure(FailureKind kind, int error) {
  if (kind == FailureKind::kError) {
    if constexpr (std::is_same_v<Result, int>) return error;
  }
  errno = error;
  if constexpr (std::is_pointer_v<Result>) {
    return kind == FailureKind::kNull ? nullptr : reinterpret_cast<Result>(-1);  // MAP_FAILED, and what shmat() says.
  } else {
    return static_cast<Result>(-1);
  }
}

// Errors that come with the work done: the descriptor is closed, the mutex is the caller's.
bool works_too(FailureKind kind, int error) { return kind == FailureKind::kAfterwards || error == EOWNERDEAD; }

template <class Real>
Real real_function(const char* name) {
  void* address = ::dlsym(RTLD_NEXT, name);
  if (address == nullptr) std::abort();
  return reinterpret_cast<Real>(address);
}

template <class Result, class... Arguments>
Result call_or_fail(Function function, Result (*real)(Arguments...), Arguments... arguments) {
  const int error = error_of_call(function);
  if (error == 0) return real(arguments...);
  const FailureKind kind = facts_of(function).kind;
  if (works_too(kind, error)) {
    const Result result = real(arguments...);
    if (kind == FailureKind::kError && result != Result{}) return result;
  }
  return failure<Result>(kind, error);
}

void* allocate(Function function, std::size_t size, std::size_t alignment) {
  if (error_of_call(function) != 0) throw std::bad_alloc();
  const std::size_t whole = (size + alignment - 1) / alignment * alignment;
  void* memory = alignment == 1 ? std::malloc(size) : nullptr;
  if (alignment != 1 && ::posix_memalign(&memory, alignment, whole) != 0) memory = nullptr;
  if (memory == nullptr) throw std::bad_alloc();
  outstanding.fetch_add(1, std::memory_order_relaxed);
  return memory;
}

void deallocate(void* memory) {
  if (memory != nullptr) outstanding.fetch_sub(1, std::memory_order_relaxed);
  std::free(memory);
}

}  // namespace

const FunctionFacts& facts_of(Function function) { return kFacts[static_cast<std::size_t>(function)]; }

void start_calls(const Fault* fault) {
  for (unsigned& count : calls) count = 0;
  is_planned = fault != nullptr;
  if (is_planned) planned = *fault;
  has_struck = false;
  is_counting = true;
}

void stop_calls() { is_counting = false; }
unsigned calls_of(Function function) { return calls[static_cast<std::size_t>(function)]; }
bool fault_struck() { return has_struck; }
long outstanding_allocations() { return outstanding.load(std::memory_order_relaxed); }

}  // namespace memstream::test

#define EXPORTED __attribute__((visibility("default")))
#define INTERPOSE(result, name, parameters, ...)                                                  \
  extern "C" EXPORTED result faulty_##name parameters asm(#name);                                 \
  result faulty_##name parameters {                                                               \
    using Real = result(*) parameters;                                                            \
    static const auto real = memstream::test::real_function<Real>(#name);                         \
    return memstream::test::call_or_fail(memstream::test::Function::k_##name, real, __VA_ARGS__); \
  }

INTERPOSE(int, shm_open, (const char* name, int flags, mode_t mode), name, flags, mode)
INTERPOSE(int, shm_unlink, (const char* name), name)
INTERPOSE(int, rename, (const char* from, const char* to), from, to)
INTERPOSE(int, ftruncate, (int file, off_t size), file, size)
INTERPOSE(int, statvfs, (const char* path, struct statvfs* status), path, status)
INTERPOSE(int, sysinfo, (struct sysinfo * info), info)
INTERPOSE(int, fstat, (int file, struct stat* status), file, status)
INTERPOSE(int, fchmod, (int file, mode_t mode), file, mode)
INTERPOSE(int, fchown, (int file, uid_t owner, gid_t group), file, owner, group)
INTERPOSE(int, getgroups, (int size, gid_t* groups), size, groups)
INTERPOSE(int, getgrnam_r,
          (const char* name, struct group* entry, char* buffer, std::size_t size, struct group** found), name, entry,
          buffer, size, found)
INTERPOSE(int, getpwnam_r,
          (const char* name, struct passwd* entry, char* buffer, std::size_t size, struct passwd** found), name, entry,
          buffer, size, found)
INTERPOSE(int, flock, (int file, int operation), file, operation)
INTERPOSE(ssize_t, pread, (int file, void* to, std::size_t size, off_t offset), file, to, size, offset)
INTERPOSE(void*, mmap, (void* address, std::size_t size, int protection, int flags, int file, off_t offset), address,
          size, protection, flags, file, offset)
INTERPOSE(int, munmap, (void* address, std::size_t size), address, size)
INTERPOSE(int, madvise, (void* address, std::size_t size, int advice), address, size, advice)
INTERPOSE(ssize_t, process_vm_readv,
          (pid_t process, const struct iovec* to, unsigned long to_count, const struct iovec* from,
           unsigned long from_count, unsigned long flags),
          process, to, to_count, from, from_count, flags)
INTERPOSE(int, posix_fallocate, (int file, off_t offset, off_t size), file, offset, size)
INTERPOSE(int, getrlimit, (int resource, struct rlimit* limit), resource, limit)
INTERPOSE(int, close, (int file), file)

INTERPOSE(int, shmget, (key_t key, std::size_t size, int flags), key, size, flags)
INTERPOSE(void*, shmat, (int id, const void* address, int flags), id, address, flags)
INTERPOSE(int, shmdt, (const void* address), address)
INTERPOSE(int, shmctl, (int id, int command, struct shmid_ds* status), id, command, status)
INTERPOSE(int, semget, (key_t key, int count, int flags), key, count, flags)
INTERPOSE(int, semop, (int id, struct sembuf* operations, std::size_t count), id, operations, count)
INTERPOSE(int, semtimedop, (int id, struct sembuf* operations, std::size_t count, const timespec* timeout), id,
          operations, count, timeout)

INTERPOSE(ssize_t, read, (int file, void* to, std::size_t size), file, to, size)
INTERPOSE(int, stat, (const char* path, struct stat* status), path, status)
INTERPOSE(int, lstat, (const char* path, struct stat* status), path, status)
INTERPOSE(int, eventfd, (unsigned count, int flags), count, flags)
INTERPOSE(ssize_t, getrandom, (void* to, std::size_t size, unsigned flags), to, size, flags)

INTERPOSE(DIR*, fdopendir, (int file), file)
INTERPOSE(struct dirent*, readdir, (DIR * folder), folder)
INTERPOSE(int, closedir, (DIR * folder), folder)
INTERPOSE(int, fstatat, (int folder, const char* path, struct stat* status, int flags), folder, path, status, flags)

INTERPOSE(int, pthread_mutexattr_init, (pthread_mutexattr_t * attributes), attributes)
INTERPOSE(int, pthread_mutexattr_setpshared, (pthread_mutexattr_t * attributes, int shared), attributes, shared)
INTERPOSE(int, pthread_mutexattr_setrobust, (pthread_mutexattr_t * attributes, int robust), attributes, robust)
INTERPOSE(int, pthread_mutexattr_destroy, (pthread_mutexattr_t * attributes), attributes)
INTERPOSE(int, pthread_mutex_init, (pthread_mutex_t * mutex, const pthread_mutexattr_t* attributes), mutex, attributes)
INTERPOSE(int, pthread_mutex_trylock, (pthread_mutex_t * mutex), mutex)
INTERPOSE(int, pthread_mutex_clocklock, (pthread_mutex_t * mutex, clockid_t clock, const timespec* until), mutex, clock,
          until)
INTERPOSE(int, pthread_rwlockattr_init, (pthread_rwlockattr_t * attributes), attributes)
INTERPOSE(int, pthread_rwlockattr_setpshared, (pthread_rwlockattr_t * attributes, int shared), attributes, shared)
INTERPOSE(int, pthread_rwlockattr_destroy, (pthread_rwlockattr_t * attributes), attributes)
INTERPOSE(int, pthread_rwlock_init, (pthread_rwlock_t * lock, const pthread_rwlockattr_t* attributes), lock, attributes)
INTERPOSE(int, pthread_rwlock_trywrlock, (pthread_rwlock_t * lock), lock)
INTERPOSE(int, pthread_rwlock_tryrdlock, (pthread_rwlock_t * lock), lock)
INTERPOSE(int, __register_atfork, (void (*prepare)(void), void (*parent)(void), void (*child)(void), void* library),
          prepare, parent, child, library)

INTERPOSE(void*, aligned_alloc, (std::size_t alignment, std::size_t size), alignment, size)

// These three take arguments of any number and type.
extern "C" EXPORTED int faulty_open(const char* path, int flags, ...) asm("open");
int faulty_open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  static const auto real = memstream::test::real_function<int (*)(const char*, int, ...)>("open");
  const int error = memstream::test::error_of_call(memstream::test::Function::k_open);
  return error == 0 ? real(path, flags, mode)
                    : memstream::test::failure<int>(memstream::test::FailureKind::kMinusOne, error);
}

extern "C" EXPORTED int faulty_fcntl(int file, int command, ...) asm("fcntl");
int faulty_fcntl(int file, int command, ...) {
  va_list rest;
  va_start(rest, command);
  const long argument = va_arg(rest, long);  // A register that is read and not used where there is none.
  va_end(rest);
  static const auto real = memstream::test::real_function<int (*)(int, int, ...)>("fcntl");
  const int error = memstream::test::error_of_call(memstream::test::Function::k_fcntl);
  return error == 0 ? real(file, command, argument)
                    : memstream::test::failure<int>(memstream::test::FailureKind::kMinusOne, error);
}

extern "C" EXPORTED int faulty_semctl(int id, int index, int command, ...) asm("semctl");
int faulty_semctl(int id, int index, int command, ...) {
  va_list rest;
  va_start(rest, command);
  void* argument = command == IPC_RMID ? nullptr : va_arg(rest, void*);
  va_end(rest);
  static const auto real = memstream::test::real_function<int (*)(int, int, int, ...)>("semctl");
  const int error = memstream::test::error_of_call(memstream::test::Function::k_semctl);
  return error == 0 ? real(id, index, command, argument)
                    : memstream::test::failure<int>(memstream::test::FailureKind::kMinusOne, error);
}

using memstream::test::allocate;
using memstream::test::deallocate;
using memstream::test::Function;

EXPORTED void* operator new(std::size_t size) { return allocate(Function::k_operator_new, size, 1); }
EXPORTED void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate(Function::k_operator_new_aligned, size, static_cast<std::size_t>(alignment));
}
EXPORTED void operator delete(void* memory) noexcept { deallocate(memory); }
EXPORTED void operator delete(void* memory, std::size_t) noexcept { deallocate(memory); }
EXPORTED void operator delete(void* memory, std::align_val_t) noexcept { deallocate(memory); }
EXPORTED void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { deallocate(memory); }
