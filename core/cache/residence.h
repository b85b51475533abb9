// Where a segment lives: the namespaces in which its clock, its locks and its marks of living processes hold.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/clock.h"
#include "core/base/identity.h"
#include "core/base/process_marks.h"
#include "core/base/status.h"
#include "core/layout/layout.h"

namespace memstream {

// As the creator wrote it; copied once.
struct Residence {
  std::string boot_id;
  std::uint64_t ipc_namespace = 0;
  std::uint64_t time_namespace = 0;
  MarkSet marks;
};

// kOtherNamespace if this process's clock differs from that of the segment. This concerns readers too, because values
// would expire at the wrong time.
Status check_clock(const Residence& residence) noexcept;

// Admits this process to the locks of a segment, and counts it until it leaves. kOtherNamespace, kOtherBoot or kCorrupt
// if the kernel cannot tell here which processes are alive, or if a process of another pid namespace is: the locks hold
// thread ids of one namespace. When all of those have ended, the segment passes to the caller's pid namespace.
//
// kOk and `*is_marked` false: this user may not set marks. The process may lock and write, but no other process can
// tell when it ends.
Status arrive(SegmentHeader* header, const Residence& residence, const ProcessMarks& marks, const Deadline& deadline,
              bool* is_marked);

}  // namespace memstream
