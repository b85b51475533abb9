// The table of attached processes: which are there, what each holds, and cleaning up after the dead.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/cache/residence.h"
#include "core/layout/layout.h"
#include "core/shard/pin_places.h"

namespace memstream {

struct ProcessCounts {
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;
  std::uint64_t puts = 0;
};

class ProcessTable {
 public:
  // `places`: those of the segment, which outlive this, for reaped_pins().
  ProcessTable(SegmentHeader* header, ProcessSlot* slots, std::uint32_t count, const Residence& residence,
               const PinPlaces* places = nullptr)
      : header_(header),
        slots_(slots),
        count_(count),
        places_(places),
        residence_(residence),
        marks_(residence.marks, count) {}

  // Counts the calling process among those that may lock anything of the segment (core/cache/residence.h). If it leaves
  // `*is_marked` false, the process can have no slot.
  Status arrive(const Deadline& deadline, bool* is_marked) {
    return memstream::arrive(header_, residence_, marks_, deadline, is_marked);
  }
  // REQUIRES: it has arrived, and was marked.
  void leave() noexcept { marks_.leave(); }

  // Enters the calling process; when the table is full, after cleaning up. kProcessTableFull if all are alive.
  // REQUIRES: it has arrived.
  Status claim(const Deadline& deadline, ProcessSlot** slot);

  // Takes the calling process out and keeps its counts. Pins that are left end.
  Status give_back(const Deadline& deadline, ProcessSlot* slot);

  // Takes out every process that has ended; the next search for room frees the blocks that its pins held. Safe to
  // repeat: a process that dies in here leaves the rest to the next one.
  Status clean_up(const Deadline& deadline);

  // What clean_up() has found since this object was made.
  std::uint64_t reaped_processes() const noexcept { return reaped_processes_.load(std::memory_order_relaxed); }
  std::uint64_t reaped_pins() const noexcept { return reaped_pins_.load(std::memory_order_relaxed); }

  // Counts of all processes, past and present.
  ProcessCounts sum() const noexcept;

  // The name under which the process in `slot` holds leases; 0 for none. And whether the kernel says that this process
  // is alive.
  std::uint64_t lease_owner_of(const ProcessSlot* slot) const noexcept;
  bool owner_is_alive(std::uint64_t owner) const noexcept;
  // 0 if it has left its slot.
  std::uint32_t pid_of(std::uint64_t owner) const noexcept;

  // Threads of living processes that wait, by Waiting.
  std::array<std::uint64_t, kWaitingKinds> waiters() const noexcept;

  // Processes that are attached: one that has opened the segment several times has several slots, and counts once.
  std::uint64_t count() const noexcept;
  static bool are_of_one_process(const ProcessSlot& one, const ProcessSlot& other) noexcept;

  // The slots that processes have, or had. Reading the slots behind them would map their pages one by one, hundreds in
  // a large segment.
  std::span<ProcessSlot> used() const noexcept;
  std::uint32_t number_of(const ProcessSlot* slot) const noexcept { return static_cast<std::uint32_t>(slot - slots_); }

 private:
  Status lock(const Deadline& deadline) noexcept;
  void unlock() noexcept;
  ProcessMarks::Outcome enter(std::uint64_t start_time, ProcessSlot** entered) noexcept;
  void retire(ProcessSlot* slot) noexcept;
  void retire_dead() noexcept;
  void retire_former_programs() noexcept;

  SegmentHeader* header_;
  ProcessSlot* slots_;
  std::uint32_t count_;
  const PinPlaces* places_;
  Residence residence_;
  ProcessMarks marks_;
  std::atomic<std::uint64_t> reaped_processes_{0};
  std::atomic<std::uint64_t> reaped_pins_{0};
};

}  // namespace memstream
