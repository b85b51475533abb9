// See the state diagram in lifecycle_backend.h.
#include "backends/lifecycle_backend.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "backends/mapped_segment.h"
#include "core/base/thread_cancel.h"
#include "core/layout/layout.h"

namespace memstream {
namespace {

// Lookups that are tried however short the timeout is. Looking a name up again takes microseconds. Other processes make
// progress each time, so more lookups are needed only while they keep destroying segments.
constexpr int kLeastTries = 16;

// Runs `attempt` until it returns something other than kGone: the name moved to another object.
template <class Attempt>
Status retry_until_stable(const SegmentSpec& spec, const Deadline& deadline, const Attempt& attempt) {
  for (int tries = 0; tries < kLeastTries || !deadline.passed(); ++tries) {
    const Status status = attempt();
    if (status != Status::kGone) return status;
  }
  return fail(Status::kBusy, fmt::format("Other processes kept creating and destroying segment '{}' for {} ms. Try "
                                         "again, or raise MEMSTREAM_TIMEOUT_MS.",
                                         spec.name, spec.timeout.count()));
}

Status check_owner(SharedObject& object) {
  if (is_trusted(object.ownership(), object.spec())) return Status::kOk;
  // A process that the system refuses anyway gets that error, and not the advice to trust the owner.
  std::unique_ptr<Segment> mapped;
  if (object.size_bytes() != 0 && object.map(Access::kReadWrite, &mapped) == Status::kNoPermission) {
    return Status::kNoPermission;
  }
  return refuse_other_owner(object.ownership(), object.spec());
}

Status not_ready(const SegmentSpec& spec) {
  return fail(Status::kNoSegment,
              fmt::format("Segment '{}' is not ready: its creator is still working, or died. Open it without "
                          "MEMSTREAM_OPEN_EXISTING and MEMSTREAM_OPEN_READ_ONLY to complete it.",
                          spec.name));
}

// Whoever only reads cannot remove the name.
Status still_named(const SegmentSpec& spec) {
  return fail(
      Status::kNoSegment,
      fmt::format("Segment '{}' was destroyed, but the process that destroyed it was killed or stopped before it "
                  "removed the name. Open it without MEMSTREAM_OPEN_READ_ONLY to complete that.",
                  spec.name));
}

// Removes the name of a segment that this process could not complete, and reports why.
Status give_up(SharedObject& object, Status status) {
  std::string reason = last_error();
  if (object.remove_name() != Status::kOk)
    reason += fmt::format(" The unfinished segment is left behind: {}", last_error());
  return fail(status, reason);
}

// The same for a new object that this process could not even start to initialise.
Status discard(SharedObject& object, Status status) {
  const std::string reason = last_error();
  if (object.discard() == Status::kOk) return fail(status, reason);
  return fail(status,
              fmt::format("{} An unfinished segment is left behind, which the next process to open it completes: {}",
                          reason, last_error()));
}

bool is_in_huge_pages(const Segment& segment) { return segment.kernel_page_size_bytes() > page_size_bytes(); }

// Checks a new segment before any process uses it.
Status check_new_pages(const SharedObject& object, Segment& segment) {
  if (object.spec().huge_pages != HugePages::kRequire) return Status::kOk;
  if (const Status status = segment.commit(0, 1); status != Status::kOk) return status;
  if (is_in_huge_pages(segment)) return Status::kOk;
  return fail(Status::kNoHugePages,
              fmt::format("Segment '{}' cannot have huge pages: {}", object.spec().name, object.huge_page_remedy()));
}

// Checks an existing segment, which keeps the pages that it was made with.
Status check_present_pages(const SegmentSpec& spec, const Segment& segment) {
  if (spec.huge_pages != HugePages::kRequire || is_in_huge_pages(segment)) return Status::kOk;
  return fail(Status::kNoHugePages,
              fmt::format("Segment '{}' was made without huge pages and keeps the pages it has. Attach with "
                          "MEMSTREAM_HUGEPAGES=try, or destroy it and create it with MEMSTREAM_HUGEPAGES=require.",
                          spec.name));
}

// Brings an object without content to READY. REQUIRES: the lock.
Status initialize(SegmentInitializer& initializer, SharedObject& object, std::unique_ptr<Segment>* segment) {
  if (object.size_bytes() == 0) {
    if (const Status status = object.give_size(); status != Status::kOk) return give_up(object, status);
  }
  if (object.size_bytes() < kMinSegmentSize || object.size_bytes() % page_size_bytes() != 0) {
    return fail(Status::kTruncated,
                fmt::format("Segment '{}' was never initialised, and no segment has its size of {} bytes: it was cut, "
                            "or another program made it. Remove it by hand, or choose another name (MEMSTREAM_NAME).",
                            object.spec().name, object.size_bytes()));
  }
  try {
    std::unique_ptr<Segment> made;
    Status status = object.map(Access::kReadWrite, &made);
    if (status == Status::kOk) status = check_new_pages(object, *made);
    if (status == Status::kOk) status = initializer.initialize(*made);
    if (status != Status::kOk) return give_up(object, status);
    *segment = std::move(made);
    return Status::kOk;
  } catch (...) {  // This process has no memory left.
    (void)object.remove_name();
    throw;
  }
}

// Maps an object that has a size, and reads its state after that. In this order a segment that was destroyed, or lost
// its name, before it was mapped is never taken for a live one.
Status map_and_look(Access access, const SegmentInitializer& initializer, SharedObject& object,
                    std::unique_ptr<Segment>* mapped, SegmentState* state) {
  Identity identity;
  Status status = object.map(access, mapped);
  if (status == Status::kOk) status = identify(object, initializer, &identity);
  if (status == Status::kOk) status = object.look_again();
  *state = identity.state;
  return status;
}

}  // namespace

Status LifecycleBackend::settle(SegmentInitializer& initializer, const Deadline& deadline, SharedObject& object,
                                std::unique_ptr<Segment>* segment) {
  if (const Status status = object.lock(deadline); status != Status::kOk) return status;
  if (const Status status = object.look_again(); status != Status::kOk) return status;
  Identity identity;
  if (const Status status = identify(object, initializer, &identity); status != Status::kOk) return status;
  switch (identity.state) {
    case SegmentState::kReady: {
      std::unique_ptr<Segment> mapped;
      Status status = object.map(Access::kReadWrite, &mapped);
      if (status == Status::kOk) status = check_present_pages(object.spec(), *mapped);
      if (status == Status::kOk) *segment = std::move(mapped);
      return status;
    }
    case SegmentState::kSuperseded:
      return hand_over(object, initializer);
    case SegmentState::kPending:  // Only a damaged header says so under this name.
    case SegmentState::kForeign:  // The engine's attach checks say what is wrong with it.
      return object.map(Access::kReadWrite, segment);
    case SegmentState::kDestroyed: {  // Its destroyer died between the mark and the removal.
      std::unique_ptr<Segment> mapped;
      Status status = object.map(Access::kReadWrite, &mapped);
      if (status != Status::kOk) return status;
      initializer.retire(mapped->data());
      status = object.remove_name();
      return status == Status::kOk ? Status::kGone : status;
    }
    case SegmentState::kBlank:
    case SegmentState::kUnfinished:
      break;
  }
  return initialize(initializer, object, segment);
}

std::size_t LifecycleBackend::rounded_size(const SegmentSpec& spec) const noexcept {
  const std::size_t page = spec.huge_pages == HugePages::kOff ? 0 : huge_page_size_bytes();
  return page == 0 ? spec.size_bytes : (spec.size_bytes + page - 1) / page * page;
}

Status LifecycleBackend::open(const SegmentSpec& spec, SegmentInitializer& initializer,
                              std::unique_ptr<Segment>* segment) {
  const DisableCancelScope uncancelled;
  const Deadline deadline(spec.timeout);
  SegmentSpec rounded = spec;
  rounded.size_bytes = rounded_size(spec);
  return retry_until_stable(rounded, deadline, [&] { return try_open(rounded, initializer, deadline, segment); });
}

Status LifecycleBackend::try_open(const SegmentSpec& spec, SegmentInitializer& initializer, const Deadline& deadline,
                                  std::unique_ptr<Segment>* segment) {
  std::unique_ptr<SharedObject> object;
  Status status = find(spec, Access::kReadWrite, initializer, &object);
  if (status == Status::kNoSegment) return try_create(spec, initializer, deadline, segment);
  if (status == Status::kOk) status = check_owner(*object);
  if (status != Status::kOk) return status;

  if (object->size_bytes() != 0) {
    std::unique_ptr<Segment> mapped;
    SegmentState state;
    status = map_and_look(Access::kReadWrite, initializer, *object, &mapped, &state);
    if (status != Status::kOk) return status;
    if (state == SegmentState::kReady) {
      if (status = check_present_pages(spec, *mapped); status != Status::kOk) return status;
      mapped->note_mode(object->ownership().mode);
      *segment = std::move(mapped);
      return status;
    }
  }
  return settle(initializer, deadline, *object, segment);
}

Status LifecycleBackend::try_create(const SegmentSpec& spec, SegmentInitializer& initializer, const Deadline& deadline,
                                    std::unique_ptr<Segment>* segment) {
  std::unique_ptr<SharedObject> object;
  Status status = create(spec, initializer, deadline, &object);
  if (status != Status::kOk) return status;
  try {
    status = settle(initializer, deadline, *object, segment);
    if (status == Status::kOk || status == Status::kBusy) return status;  // Busy: another process works on it.
    return discard(*object, status);
  } catch (...) {  // This process has no memory left.
    (void)object->discard();
    throw;
  }
}

Status LifecycleBackend::attach(const SegmentSpec& spec, Access access, SegmentInitializer& initializer,
                                std::unique_ptr<Segment>* segment) {
  const DisableCancelScope uncancelled;
  const Deadline deadline(spec.timeout);
  bool is_destroyed = false;
  const Status result = retry_until_stable(spec, deadline, [&] {
    std::unique_ptr<SharedObject> object;
    Status status = find(spec, access, initializer, &object);
    if (status == Status::kOk && access == Access::kReadWrite) status = check_owner(*object);
    if (status == Status::kOk && !is_of_named_owner(object->ownership(), spec)) {
      status = refuse_named_owner(object->ownership(), spec);
    }
    if (status != Status::kOk) return status;
    if (object->size_bytes() == 0) return not_ready(spec);

    std::unique_ptr<Segment> mapped;
    SegmentState state;
    status = map_and_look(access, initializer, *object, &mapped, &state);
    if (status != Status::kOk) return status;
    is_destroyed = state == SegmentState::kDestroyed;
    // Another process is about to move or to remove the name, or died before it did.
    if (state == SegmentState::kSuperseded || is_destroyed) {
      if (access == Access::kReadWrite) return settle(initializer, deadline, *object, &mapped);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return Status::kGone;
    }
    if (state != SegmentState::kReady && state != SegmentState::kForeign) return not_ready(spec);
    if (state == SegmentState::kReady) status = check_present_pages(spec, *mapped);
    if (status != Status::kOk) return status;
    mapped->note_mode(object->ownership().mode);
    *segment = std::move(mapped);
    return status;
  });
  const bool reads_destroyed = is_destroyed && access == Access::kReadOnly;
  return result == Status::kBusy && reads_destroyed ? still_named(spec) : result;
}

Status LifecycleBackend::remove(const SegmentSpec& spec, SegmentInitializer& initializer, const Segment* only,
                                const std::function<void(std::byte*)>& before_removal) {
  const DisableCancelScope uncancelled;
  const Deadline deadline(spec.timeout);
  return retry_until_stable(spec, deadline,
                            [&] { return try_remove(spec, initializer, deadline, only, before_removal); });
}

Status LifecycleBackend::no_longer_named(const SegmentSpec& spec) {
  return fail(Status::kNoSegment, fmt::format("The name '{}' belongs to another segment now: another process destroyed "
                                              "the segment that this one has open. Close it, and open the new one.",
                                              spec.name));
}

Status LifecycleBackend::find_mapped(const SegmentSpec& spec, const Segment& segment,
                                     const SegmentInitializer& initializer, std::unique_ptr<SharedObject>* object) {
  if (const Status status = find(spec, Access::kReadWrite, initializer, object); status != Status::kOk) return status;
  return (*object)->is_mapped_by(segment) ? Status::kOk : no_longer_named(spec);
}

Status LifecycleBackend::try_remove(const SegmentSpec& spec, SegmentInitializer& initializer, const Deadline& deadline,
                                    const Segment* only, const std::function<void(std::byte*)>& before_removal) {
  std::unique_ptr<SharedObject> object;
  Status status = only == nullptr ? find(spec, Access::kReadWrite, initializer, &object)
                                  : find_mapped(spec, *only, initializer, &object);
  if (status != Status::kOk) return status;
  status = check_owner(*object);
  // Check before setting the mark, which no process could take back.
  if (status == Status::kOk) status = object->may_remove_name();
  if (status == Status::kOk) status = object->lock(deadline);
  if (status == Status::kOk) status = object->look_again();
  if (status != Status::kOk) return status;

  Identity identity;
  status = identify(*object, initializer, &identity);
  if (status == Status::kTruncated) {
    identity.state = SegmentState::kForeign;
  } else if (status != Status::kOk) {
    return status;
  }

  if (identity.state == SegmentState::kForeign) {
    if (status = object->may_remove_foreign(); status != Status::kOk) return status;
  }
  if (identity.state != SegmentState::kForeign && identity.state != SegmentState::kBlank) {
    std::unique_ptr<Segment> mapped;
    if (status = object->map(Access::kReadWrite, &mapped); status != Status::kOk) return status;
    if (identity.state == SegmentState::kSuperseded) return hand_over(*object, initializer);
    before_removal(mapped->data());
  }
  if (status = remove_successor(*object, initializer, before_removal); status != Status::kOk) return status;
  return object->remove_name();
}

// ---- replacing ----

namespace {

// The message names the segment as its user does: what failed is a step on another one.
Status of_successor(const SharedObject& object, Status status) {
  const std::string reason = last_error();
  return fail(status, fmt::format("Segment '{}' has, or should get, a successor. {}", object.spec().name, reason));
}

}  // namespace

Status LifecycleBackend::find_successor(SharedObject& object, const SegmentInitializer& initializer,
                                        std::unique_ptr<SharedObject>* successor) {
  SegmentSpec spec = object.spec();
  spec.name = SegmentInitializer::successor_name(spec.name);
  return find(spec, Access::kReadWrite, initializer, successor);
}

Status LifecycleBackend::create_successor(SharedObject& object, const SegmentSpec& spec,
                                          const SegmentInitializer& initializer, const Deadline& deadline,
                                          std::unique_ptr<SharedObject>* successor) {
  SegmentSpec named = spec;
  named.name = SegmentInitializer::successor_name(object.spec().name);
  return create(named, initializer, deadline, successor);
}

Status LifecycleBackend::remove_successor(SharedObject& object, SegmentInitializer& initializer,
                                          const std::function<void(std::byte*)>& before_removal) {
  const std::string message = last_error();
  for (int looks = 0; looks < kLeastTries; ++looks) {
    std::unique_ptr<SharedObject> successor;
    Status status = find_successor(object, initializer, &successor);
    if (status == Status::kNoSegment) {
      static_cast<void>(fail(status, message));  // That there is none is no failure of the caller's.
      return Status::kOk;
    }
    if (status == Status::kOk) status = check_owner(*successor);
    if (status != Status::kOk) return of_successor(object, status);
    Identity identity;
    if (successor->size_bytes() != 0 && identify(*successor, initializer, &identity) == Status::kOk &&
        identity.state != SegmentState::kForeign && identity.state != SegmentState::kBlank) {
      std::unique_ptr<Segment> mapped;
      status = successor->map(Access::kReadWrite, &mapped);
      if (status != Status::kOk) return of_successor(object, status);
      before_removal(mapped->data());
    }
    if (status = successor->remove_name(); status != Status::kOk) return of_successor(object, status);
  }
  return Status::kOk;
}

Status LifecycleBackend::hand_over(SharedObject& object, SegmentInitializer& initializer) {
  std::unique_ptr<Segment> superseded;
  if (const Status status = object.map(Access::kReadWrite, &superseded); status != Status::kOk) return status;
  std::unique_ptr<SharedObject> successor;
  std::unique_ptr<Segment> mapped;
  // More than one look: a system call that failed once must not pass for a successor that somebody has removed.
  Status status = Status::kNoSegment;
  for (int looks = 0; status == Status::kNoSegment && looks < kLeastTries; ++looks) {
    status = find_successor(object, initializer, &successor);
  }
  if (status == Status::kOk) status = check_owner(*successor);
  if (status == Status::kOk) status = successor->map(Access::kReadWrite, &mapped);
  if (status != Status::kOk && status != Status::kNoSegment) return of_successor(object, status);
  // Somebody may have removed it by hand. There is nothing then that could have the name.
  const bool is_there = status == Status::kOk && initializer.is_successor(superseded->data(), mapped->data());
  // In this order: at each instant one segment of the name can be found, and it is the successor once that is ready.
  if (is_there) initializer.succeed(mapped->data());
  initializer.retire(superseded->data());
  status = is_there ? move_name(object, *successor) : object.remove_name();
  return status == Status::kOk ? Status::kGone : status;
}

Status LifecycleBackend::lock_to_replace(const SegmentSpec& spec, const SegmentInitializer& initializer,
                                         const Deadline& deadline, const Segment& current,
                                         std::unique_ptr<SharedObject>* object) {
  Status status = find_mapped(spec, current, initializer, object);
  if (status == Status::kOk) status = check_owner(**object);
  if (status == Status::kOk) status = (*object)->may_remove_name();
  if (status == Status::kOk) status = (*object)->lock(deadline);
  if (status == Status::kOk) status = (*object)->look_again();
  Identity identity;
  if (status == Status::kOk) status = identify(**object, initializer, &identity);
  return status == Status::kOk && identity.state != SegmentState::kReady ? no_longer_named(spec) : status;
}

Status LifecycleBackend::replace(const SegmentSpec& spec, SegmentInitializer& initializer, const Segment& current,
                                 const std::function<Status(Segment& successor)>& fill) {
  const DisableCancelScope uncancelled;
  const Deadline deadline(spec.timeout);
  std::unique_ptr<SharedObject> object;
  Status status = retry_until_stable(spec, deadline,
                                     [&] { return lock_to_replace(spec, initializer, deadline, current, &object); });
  if (status != Status::kOk) return status;

  const Ownership ownership = object->ownership();
  SegmentSpec next = spec;
  next.size_bytes = rounded_size(spec);
  next.mode = ownership.mode;
  if (ownership.group != ::getegid()) next.group = ownership.group;
  const auto dismiss = [&initializer](std::byte* bytes) { initializer.retire(bytes); };
  status = remove_successor(*object, initializer, dismiss);
  std::unique_ptr<SharedObject> successor;
  if (status != Status::kOk) return status;
  status = create_successor(*object, next, initializer, deadline, &successor);
  if (status != Status::kOk) return of_successor(*object, status);
  std::unique_ptr<Segment> segment;
  if (status = initialize(initializer, *successor, &segment); status != Status::kOk) {
    return of_successor(*object, status);
  }
  try {
    status = fill(*segment);
  } catch (...) {
    dismiss(segment->data());
    (void)successor->remove_name();
    throw;
  }
  if (status != Status::kOk) {
    dismiss(segment->data());
    return give_up(*successor, status);
  }
  status = hand_over(*object, initializer);
  return status == Status::kGone ? Status::kOk : status;
}

}  // namespace memstream
