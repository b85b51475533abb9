// Which processes are alive, as the kernel tells it: one System V semaphore for each process slot of a segment.
//
// A process sets the mark of its slot by an operation with SEM_UNDO. The kernel takes it back when the last thread of
// the process has ended and its memory is unmapped: not before, whatever the process executes, and not later, however
// it ended. fork() does not pass the mark on. A set belongs to one IPC namespace and to one boot of the machine.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <optional>

#include "core/base/clock.h"
#include "core/base/status.h"

namespace memstream {

// Names a set of semaphores. The id alone may come again once the set is removed.
struct MarkSet {
  std::int32_t id = -1;
  std::int32_t key = 0;
  std::int64_t created_s = 0;
};

// Takes no lock and no memory; safe from all threads and processes.
class ProcessMarks {
 public:
  // What became of an attempt to set a mark.
  enum class Outcome {
    kSet,
    kTaken,      // A process that is alive has set it.
    kRemoved,    // The set is no more: ipcrm, or systemd's RemoveIPC.
    kForbidden,  // The set's mode does not let this user change it.
    kFailed      // errno says why: no memory, or a filter of system calls.
  };

  ProcessMarks(const MarkSet& set, std::uint32_t slots) noexcept : set_(set), slots_(slots) {}

  // ---- the set ----

  // Makes a set for `slots` processes with the permission bits `mode`, for `group` if there is one: otherwise for the
  // creator's. Its key stands in `new_key` before the set is
  // there, so that remove_new() finds what a creator that died left.
  static Status create(std::uint32_t slots, unsigned mode, std::optional<std::uint32_t> group,
                       std::atomic<std::int32_t>* new_key, MarkSet* set);
  // Removes the set that a creator left which died before its segment was ready. No process has used it.
  static void remove_new(std::int32_t key) noexcept;
  void remove() const noexcept;
  // Whether the set is there, in this IPC namespace, and no other one with its id.
  bool exist() const noexcept;

  // ---- the mark of one slot ----

  Outcome set(std::uint32_t slot) const noexcept;
  // REQUIRES: this process has set it.
  void clear(std::uint32_t slot) const noexcept { change(slot, -1); }
  // False only if the kernel says that nobody has set the mark.
  bool may_be_set(std::uint32_t slot) const noexcept;
  // Whether this very process has set it, in this program or in one before exec().
  bool is_own(std::uint32_t slot) const noexcept;

  // ---- all who may lock ----

  // Counts this process among them. kTaken: not now, another pid namespace is just taking over.
  Outcome arrive() const noexcept;
  void leave() const noexcept { change(slots_, -1); }
  // Counts this process if there is no other, and keeps everybody away until end_takeover(). kTaken: there is one.
  Outcome begin_takeover() const noexcept;
  void end_takeover() const noexcept { change(slots_ + 1, -1); }

  // The words for an outcome that is neither kSet nor kTaken.
  static Status explain(Outcome outcome) noexcept;

 private:
  bool change(std::uint32_t number, int by) const noexcept;

  MarkSet set_;
  std::uint32_t slots_;  // The marks. Behind them: how many processes have arrived, and whether one takes over.
};

}  // namespace memstream
