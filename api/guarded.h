// The firewall of the C interface: no exception leaves it.
#pragma once

#include <exception>
#include <new>

#include "core/base/status.h"

namespace memstream {

// Runs `operation()` and returns its status as the C number. Always inline: an operation that several functions share
// would otherwise get its captures by way of memory.
template <class Operation>
[[gnu::always_inline]] inline int guarded(Operation operation) noexcept {
  try {
    const Status status = operation();
    // The engine sets no message for kTooSmall: to callers inside the library it is an expected outcome.
    if (status == Status::kTooSmall) return static_cast<int>(fail(status, status_sentence(status)));
    return static_cast<int>(status);
  } catch (const std::bad_alloc&) {
    return static_cast<int>(fail(
        Status::kNoMemory, "This process has no memory left for the call. Free some, or raise its limit (ulimit -v)."));
  } catch (const std::exception& error) {
    return static_cast<int>(fail(Status::kInternal, error.what()));
  } catch (...) {
    return static_cast<int>(fail(Status::kInternal, "The library met an exception of unknown type. Please report it."));
  }
}

}  // namespace memstream
