#include "core/cache/residence.h"

#include <chrono>
#include <thread>

#include "core/base/thread_cancel.h"

namespace memstream {
namespace {

using MarkOutcome = ProcessMarks::Outcome;

constexpr std::chrono::milliseconds kPause{1};

Status other_pid_namespace() noexcept {
  return fail(Status::kOtherNamespace,
              "The segment belongs to live processes of another pid namespace, and its locks hold their thread ids. "
              "Share the pid namespace (docker: --pid=container:NAME; Kubernetes: shareProcessNamespace), attach "
              "read-only, or wait until those processes have ended.");
}

// Whether the marks hold here: in the creator's IPC namespace, on the boot of the machine that it saw.
Status check_marks(const Residence& residence, const HostId& home, const ProcessMarks& marks) noexcept {
  if (residence.ipc_namespace != home.ipc_namespace) {
    return fail(
        Status::kOtherNamespace,
        "The segment belongs to another IPC namespace, and this process cannot see which processes are alive there. "
        "Share the IPC namespace (docker: --ipc=container:NAME), attach read-only, or use another MEMSTREAM_NAME.");
  }
  // A set with this key proves that the boot is the same, also where a private /proc says otherwise.
  if (marks.exist()) return Status::kOk;
  if (residence.boot_id != home.boot_id) {
    return fail(
        Status::kOtherBoot,
        "The segment was made before the machine was last started, or /proc hides the machine's boot id here. Use "
        "another MEMSTREAM_NAME, or destroy it if you know that no process uses it.");
  }
  return ProcessMarks::explain(MarkOutcome::kRemoved);
}

// For a user who may not set marks. Either this sees that another namespace took over, or that one sees the flag.
Status arrive_unmarked(SegmentHeader* header, std::uint64_t own_namespace) noexcept {
  header->has_unmarked.store(1, std::memory_order_seq_cst);
  return header->pid_namespace.load(std::memory_order_seq_cst) == own_namespace ? Status::kOk : other_pid_namespace();
}

// kBusy: look again.
Status take_over(SegmentHeader* header, std::uint64_t former, std::uint64_t own_namespace,
                 const ProcessMarks& marks) noexcept {
  const MarkOutcome outcome = marks.begin_takeover();
  if (outcome == MarkOutcome::kTaken) {
    return header->pid_namespace.load(std::memory_order_seq_cst) != former ? Status::kBusy : other_pid_namespace();
  }
  if (outcome != MarkOutcome::kSet) return ProcessMarks::explain(outcome);
  const bool was_free = header->has_unmarked.load(std::memory_order_seq_cst) == 0;
  const bool is_former = !was_free || header->pid_namespace.compare_exchange_strong(former, own_namespace);
  // A second look, because a process without a mark raises the flag first and then reads the namespace.
  const bool is_free = was_free && is_former && header->has_unmarked.load(std::memory_order_seq_cst) == 0;
  if (was_free && is_former && !is_free) header->pid_namespace.store(former, std::memory_order_seq_cst);
  marks.end_takeover();
  if (is_free) return Status::kOk;
  marks.leave();
  return is_former ? other_pid_namespace() : Status::kBusy;
}

}  // namespace

Status check_clock(const Residence& residence) noexcept {
  const std::uint64_t own = own_namespace("/proc/self/ns/time");
  if (own == 0 || residence.time_namespace == 0 || own == residence.time_namespace) return Status::kOk;
  return fail(Status::kOtherNamespace,
              "The segment belongs to another time namespace, and its clock differs: values would expire at the wrong "
              "time. Run both sides in one time namespace.");
}

Status arrive(SegmentHeader* header, const Residence& residence, const ProcessMarks& marks, const Deadline& deadline,
              bool* is_marked) {
  *is_marked = false;
  HostId home;
  if (const Status status = read_host_id(&home); status != Status::kOk) return status;
  if (const Status status = check_clock(residence); status != Status::kOk) return status;
  if (const Status status = check_marks(residence, home, marks); status != Status::kOk) return status;
  for (;;) {
    const std::uint64_t present = header->pid_namespace.load(std::memory_order_seq_cst);
    if (present != home.pid_namespace) {
      const Status status = take_over(header, present, home.pid_namespace, marks);
      *is_marked = status == Status::kOk;
      if (status != Status::kBusy) return status;
    } else {
      const MarkOutcome outcome = marks.arrive();
      if (outcome == MarkOutcome::kForbidden) return arrive_unmarked(header, home.pid_namespace);
      if (outcome != MarkOutcome::kSet && outcome != MarkOutcome::kTaken) return ProcessMarks::explain(outcome);
      if (outcome == MarkOutcome::kSet) {
        // Nobody takes over from here on. It may have happened just before.
        *is_marked = header->pid_namespace.load(std::memory_order_seq_cst) == home.pid_namespace;
        if (*is_marked) return Status::kOk;
        marks.leave();
      }
    }
    if (deadline.passed()) {
      return fail(Status::kBusy, "Another process is taking the segment over. Try again.");
    }
    const DisableCancelScope uncancelled;
    std::this_thread::sleep_for(kPause);
  }
}

}  // namespace memstream
