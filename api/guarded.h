// The firewall of the C interface: no exception passes it.
#pragma once

#include <exception>
#include <new>

#include "core/status.h"

namespace memstream {

// Runs `operation()` and returns its status as the C number.
template <class Operation>
int guarded(Operation operation) noexcept {
  try {
    return static_cast<int>(operation());
  } catch (const std::bad_alloc&) {
    return static_cast<int>(fail(
        Status::kNoMemory, "This process has no memory left for the call: free some, or raise its limit (ulimit -v)."));
  } catch (const std::exception& error) {
    return static_cast<int>(fail(Status::kInternal, error.what()));
  } catch (...) {
    return static_cast<int>(fail(Status::kInternal, "An exception of unknown type."));
  }
}

}  // namespace memstream
