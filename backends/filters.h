// Filters of system calls (seccomp) and security modules, as in containers and services. A filtered call fails with
// EPERM or ENOSYS, which it never does otherwise. The library checks first, and begins nothing that a filter would
// interrupt.
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

// Whether a filter allows a call. `probe()` makes the call with arguments that the kernel itself refuses with another
// error.
template <class Probe>
Status check_allowed(const char* call, const SegmentSpec& spec, const Probe& probe) {
  if (probe() >= 0 || !is_forbidden_call(errno)) return Status::kOk;
  return fail_errno(Status::kOsError, call, spec.name, errno, kFilterRemedy);
}

}  // namespace memstream
