#include "core/base/copied_thread.h"

#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/base/thread_places.h"

namespace memstream {
namespace {

// From the thread's control block on; the same for every thread of a process. 0: not known.
std::atomic<std::ptrdiff_t> id_offset{0};
std::atomic<std::ptrdiff_t> list_offset{0};
std::atomic<std::size_t> list_bytes{0};

// What the C library takes for the id of the calling thread: it writes it into each mutex that checks for errors.
pid_t known_id() noexcept {
  pthread_mutex_t mutex = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
  pthread_mutex_lock(&mutex);
  const pid_t owner = mutex.__data.__owner;
  pthread_mutex_unlock(&mutex);
  return owner;
}

// The kernel's word for this thread; null if it has none or does not tell.
const void* robust_list(std::size_t* size_bytes) noexcept {
  void* head = nullptr;
  return ::syscall(SYS_get_robust_list, 0, &head, size_bytes) == 0 ? head : nullptr;
}

std::ptrdiff_t from_control_block(const void* address) noexcept {
  return static_cast<std::ptrdiff_t>(reinterpret_cast<std::uintptr_t>(address) - this_thread_number());
}

void* in_control_block(std::ptrdiff_t offset) noexcept {
  return reinterpret_cast<void*>(this_thread_number() + static_cast<std::uintptr_t>(offset));
}

}  // namespace

void note_thread_layout() noexcept {
  if (list_offset.load(std::memory_order_acquire) != 0 || known_id() != ::gettid()) return;
  std::size_t size_bytes = 0;
  const void* const list = robust_list(&size_bytes);
  int* id = nullptr;
  if (list == nullptr || ::prctl(PR_GET_TID_ADDRESS, &id) != 0 || id == nullptr || *id != ::gettid()) return;
  list_bytes.store(size_bytes, std::memory_order_relaxed);
  id_offset.store(from_control_block(id), std::memory_order_relaxed);
  list_offset.store(from_control_block(list), std::memory_order_release);
}

bool adopt_copied_thread() noexcept {
  const pid_t known = known_id();
  if (known == ::gettid()) return true;
  const std::ptrdiff_t list = list_offset.load(std::memory_order_acquire);
  if (list == 0) return false;
  void* const id = in_control_block(id_offset.load(std::memory_order_relaxed));
  pid_t there = 0;
  std::memcpy(&there, id, sizeof there);
  if (there != known) return false;  // Another layout than the one that was noted.
  if (::syscall(SYS_set_robust_list, in_control_block(list), list_bytes.load(std::memory_order_relaxed)) != 0) {
    return false;
  }
  there = ::gettid();
  std::memcpy(id, &there, sizeof there);
  return known_id() == there;
}

}  // namespace memstream
