// The table of attached processes: who is there, what each holds, and cleaning up after the dead.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "core/clock.h"
#include "core/layout.h"
#include "core/status.h"

namespace memstream {

struct ProcessCounts {
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;
  std::uint64_t puts = 0;
};

class ProcessTable {
 public:
  ProcessTable(SegmentHeader* header, ProcessSlot* slots, std::uint32_t count) noexcept
      : header_(header), slots_(slots), count_(count) {}

  // Enters the calling process; when the table is full, after cleaning up. kProcessTableFull if all are alive.
  Status claim(const Deadline& deadline, ProcessSlot** slot);

  // Takes the calling process out and keeps its counts. Pins that are left end.
  Status give_back(const Deadline& deadline, ProcessSlot* slot);

  // Takes out every process that has ended; what its pins held is free for whoever looks next. Safe to repeat: one that
  // dies in here leaves the rest to the next.
  Status clean_up(const Deadline& deadline);

  // Counts of all processes, past and present.
  ProcessCounts sum() const noexcept;

  // The name under which the process in `slot` holds leases; 0 for none. And whether that process is still there: what
  // the kernel says, not how long nothing was heard.
  std::uint64_t lease_owner_of(const ProcessSlot* slot) const noexcept;
  bool owner_is_alive(std::uint64_t owner) const noexcept;

  // The slots that processes have, or had. What lies behind is not even looked at: its pages, which are hundreds in a
  // large segment, would be mapped for it one by one.
  std::span<ProcessSlot> used() const noexcept;
  std::uint32_t number_of(const ProcessSlot* slot) const noexcept { return static_cast<std::uint32_t>(slot - slots_); }

 private:
  Status lock(const Deadline& deadline) noexcept;
  void unlock() noexcept;
  ProcessSlot* enter(std::uint64_t start_time) noexcept;
  void retire(ProcessSlot* slot) noexcept;
  void retire_dead() noexcept;

  SegmentHeader* header_;
  ProcessSlot* slots_;
  std::uint32_t count_;
  // Of the process that claimed last. A child has its parent's, and another pid.
  std::atomic<std::uint64_t> own_start_time_ = 0;
};

}  // namespace memstream
