// Tells which processes are alive, as the kernel knows it: one System V semaphore for each process slot of a segment.
//
// A process sets the mark of its slot by an operation with SEM_UNDO. The kernel clears it when the last thread of the
// process has ended and its memory is unmapped: never earlier, even across exec(), and never later, even after SIGKILL.
// fork() does not pass the mark on. A set belongs to one IPC namespace and to one boot of the machine.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <optional>

#include "core/base/clock.h"
#include "core/base/status.h"

namespace memstream {

// Names a set of semaphores. The kernel may reuse the id alone once the set is removed.
struct MarkSet {
  std::int32_t id = -1;
  std::int32_t key = 0;
  std::int64_t created_s = 0;
};

// Takes no lock and no memory; safe from all threads and processes.
class ProcessMarks {
 public:
  // The outcome of an attempt to set a mark.
  enum class Outcome {
    kSet,
    kTaken,      // A living process has set it.
    kRemoved,    // Somebody removed the set: ipcrm, or systemd's RemoveIPC.
    kForbidden,  // The set's mode does not let this user change it.
    kFailed      // errno says why: no memory, or a filter of system calls.
  };

  ProcessMarks(const MarkSet& set, std::uint32_t slots) noexcept : set_(set), slots_(slots) {}

  // ---- the set ----

  // Creates a set for `slots` processes with the permission bits `mode` and the group `group`, or else the creator's
  // group. Stores the key in `new_key` first, so that remove_new() finds the set of a creator that died.
  static Status create(std::uint32_t slots, unsigned mode, std::optional<std::uint32_t> group,
                       std::atomic<std::int32_t>* new_key, MarkSet* set);
  // Removes the set of a creator that died before its segment was ready. No process has used it.
  static void remove_new(std::int32_t key) noexcept;
  void remove() const noexcept;
  // Whether this IPC namespace has the set, and not another one with the same id.
  bool exist() const noexcept;

  // ---- the mark of one slot ----

  Outcome set(std::uint32_t slot) const noexcept;
  // REQUIRES: this process has set it.
  void clear(std::uint32_t slot) const noexcept { change(slot, -1); }
  // False only if the kernel says that nobody has set the mark.
  bool may_be_set(std::uint32_t slot) const noexcept;
  // Whether this process has set it, in this program or in one before exec().
  bool is_own(std::uint32_t slot) const noexcept;

  // ---- all processes that may lock ----

  // Counts this process. kTaken: not now, because another pid namespace is taking the segment over.
  Outcome arrive() const noexcept;
  void leave() const noexcept { change(slots_, -1); }
  // Counts this process if no other is counted, and keeps others away until end_takeover(). kTaken: another is counted.
  Outcome begin_takeover() const noexcept;
  void end_takeover() const noexcept { change(slots_ + 1, -1); }

  // Describes an outcome other than kSet and kTaken.
  static Status explain(Outcome outcome) noexcept;

 private:
  bool change(std::uint32_t number, int by) const noexcept;

  MarkSet set_;
  std::uint32_t slots_;  // Marks. Two semaphores follow: the number of counted processes, and a pending takeover.
};

}  // namespace memstream
