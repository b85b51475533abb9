// Small words that several suites need.
#pragma once

#include <doctest/doctest.h>

#include <string>

#include "core/base/status.h"
#include "tests/support/child_process.h"

// Ends a test that this user cannot run, and says so.
#define SKIP_UNLESS_ROOT(what)                    \
  if (!::memstream::test::is_root()) {            \
    MESSAGE("skipped: only root can " << (what)); \
    return;                                       \
  }

namespace memstream::test {

inline bool message_has(const std::string& part) { return std::string(last_error()).find(part) != std::string::npos; }

// For the body of a child: empty if `status` is `wanted`, else what it was instead.
inline Complaint unless(Status status, Status wanted) {
  if (status == wanted) return "";
  return std::to_string(static_cast<int>(status)) + " instead of " + std::to_string(static_cast<int>(wanted)) + ": " +
         last_error();
}

}  // namespace memstream::test
