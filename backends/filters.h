// Filters of system calls (seccomp) and security modules, as containers and services have them: a call that never fails
// so otherwise says EPERM or ENOSYS. What could not be finished under a filter is not begun.
#pragma once

#include <cerrno>
#include <string>

#include "core/base/segment.h"

namespace memstream {

inline bool is_forbidden_call(int error) noexcept { return error == EPERM || error == ENOSYS; }

inline constexpr char kFilterRemedy[] =
    "A filter of system calls (seccomp) or a security module forbids the call. Allow it, or choose the other backend "
    "(MEMSTREAM_BACKEND).";

inline const char* remedy_of(int error, const char* without_filter) noexcept {
  return is_forbidden_call(error) ? kFilterRemedy : without_filter;
}

// Whether a filter lets a call through: `probe()` makes it with arguments that the kernel refuses in any other way.
template <class Probe>
Status check_allowed(const char* call, const SegmentSpec& spec, const Probe& probe) {
  if (probe() >= 0 || !is_forbidden_call(errno)) return Status::kOk;
  return fail_errno(Status::kOsError, call, spec.name, errno, kFilterRemedy);
}

}  // namespace memstream
