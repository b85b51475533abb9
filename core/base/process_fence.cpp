#include "core/base/process_fence.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace memstream {
namespace {

enum class Readiness : int { kUnknown, kReady, kRefused };

std::atomic<Readiness> readiness{Readiness::kUnknown};

// Leaves errno alone: a get or a put that works does not change it.
bool membarrier(int command) noexcept {
  const int before = errno;
  const bool is_done = ::syscall(SYS_membarrier, command, 0, 0) == 0;
  errno = before;
  return is_done;
}

}  // namespace

bool prepare_process_fence() noexcept {
  Readiness known = readiness.load(std::memory_order_relaxed);
  if (known == Readiness::kUnknown) {
    known = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) ? Readiness::kReady : Readiness::kRefused;
    readiness.store(known, std::memory_order_relaxed);
  }
  return known == Readiness::kReady;
}

bool fence_all_threads() noexcept {
  // A child may have to register for itself.
  return membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) ||
         (membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) && membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED));
}

}  // namespace memstream
