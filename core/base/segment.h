// The segment interface: memory that several processes map at once, and the backend that makes it.
//
// Words used in this library, each for one thing only:
//   Segment   operating-system memory under a name, mapped by this process.
//   Arena     the region inside a shard that holds blocks (key and value bytes).
//   Backend   a maker of segments: System V or POSIX, or a new folder under backends/.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/status.h"

namespace memstream {

enum class Access { kReadWrite, kReadOnly };

// Whether a segment uses huge pages: never, where available, or it fails without them.
enum class HugePages { kOff, kTry, kRequire };

// What to create or to attach. Checked by the caller (api/options.h), so that a backend can trust it.
struct SegmentSpec {
  std::string name;            // The user's name: 1 to 64 characters of [A-Za-z0-9._-], not starting with a dot.
  std::size_t size_bytes = 0;  // Used only when the segment is created; a multiple of the page size.
  unsigned mode = 0600;        // Permission bits of a new segment; the umask does not change them.
  std::optional<std::uint32_t> group = std::nullopt;  // Id of the group of a new segment; none: the creator's own.
  // The user whose segment is wanted, for reading. kNoUser, an id that no user has, means this user's own segment.
  static constexpr std::uint32_t kNoUser = ~std::uint32_t{0};
  std::uint32_t owner = kNoUser;
  bool any_owner = false;  // Accept an existing segment that belongs to another user, for writing too.
  // kTry and kRequire round the size of a new segment up to whole huge pages, even if none are available.
  HugePages huge_pages = HugePages::kOff;
  std::chrono::milliseconds timeout{1000};  // Bound on waiting for another creator.
};

// Memory of the operating system, mapped into this process. Destroying the object unmaps the segment and never removes
// it: a segment lives until its name is removed and the last process has detached.
class Segment {
 public:
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;
  virtual ~Segment() = default;

  // First byte; aligned to a page. Constant for the life of the object.
  virtual std::byte* data() const noexcept = 0;
  virtual std::size_t size_bytes() const noexcept = 0;
  virtual Access access() const noexcept = 0;

  // Permission bits that it had when this process opened it.
  unsigned mode() const noexcept { return mode_; }
  void note_mode(unsigned mode) noexcept { mode_ = mode; }

  // Bytes that the system allows for all such segments together, used or not: commit() can never get more. The largest
  // value of the type if the system sets no limit or does not tell.
  virtual std::size_t available_bytes() const noexcept = 0;

  // Bytes of available_bytes() that are still free: neither a segment nor anything else that shares them has taken
  // them. The largest value of the type if the system does not tell. One system call.
  virtual std::size_t left_bytes() const noexcept { return std::numeric_limits<std::size_t>::max(); }

  // Makes [offset_bytes, offset_bytes + size_bytes) safe to write: after kOk no write to it can raise SIGBUS for lack
  // of memory. kNoMemory when the machine, the container or the file system has no more; nothing is lost then. The
  // range may be committed already, in part or whole. Rounded outwards to pages. Safe from any thread and process.
  // REQUIRES: access() == kReadWrite, and the range lies inside the segment.
  virtual Status commit(std::size_t offset_bytes, std::size_t size_bytes) noexcept = 0;

  // Maps the pages of [offset_bytes, offset_bytes + size_bytes) into this process now, so that touching them costs no
  // page fault later. Changes no byte and raises no signal, whatever others do to the range meanwhile. kNoMemory if the
  // system has none for pages or page tables, kOsError if it offers no way to do it. Rounded outwards to pages.
  // REQUIRES: the range is committed and lies inside the segment.
  virtual Status prefault(std::size_t offset_bytes, std::size_t size_bytes) const noexcept = 0;

  // Whether the pages of [offset_bytes, offset_bytes + size_bytes) have memory, so that touching them raises no SIGBUS:
  // kOk, kNoMemory, or kOsError where the system refuses to tell. Maps them like prefault(), and may give memory to
  // pages without any. Leaves no message, because callers continue in either case.
  // REQUIRES: the range lies inside the segment.
  virtual Status look_for_memory(std::size_t offset_bytes, std::size_t size_bytes) const noexcept = 0;

  // Size in bytes of the pages that map the start of the segment in this process; 0 if the kernel does not tell. Reads
  // /proc, which takes some hundred microseconds.
  // REQUIRES: the first page is committed.
  virtual std::size_t kernel_page_size_bytes() const noexcept = 0;

  // Whether the segment still has its name, so that processes which open the name now come to this one. True if the
  // system does not tell: this process may have left the namespace or root directory in which it opened the segment.
  virtual bool has_name() const noexcept { return true; }

  // Revokes this process's access for good: touching the segment raises SIGSEGV from now on. For a child of fork() that
  // must not continue its parent's operation. Other processes are not affected.
  virtual void abandon() noexcept = 0;

 protected:
  Segment() = default;

 private:
  unsigned mode_ = 0;
};

// The state of a segment, as the engine reads it from the first bytes (core/cache/format.h).
enum class SegmentState {
  kBlank,       // All zero: sized, but not initialised.
  kUnfinished,  // Ours, and its creator died before it was ready.
  kReady,       // Initialised; may still be refused by the attach checks (version, name, ...).
  kDestroyed,   // Marked by destroy: detach, and look the name up again.
  kPending,     // Laid out to take the place of another segment, and not found under any user's name yet.
  kSuperseded,  // Another segment has taken its place: give that one the name, and look the name up again.
  kForeign,     // Not ours, or damaged: never initialise, never write. The attach checks say what is wrong.
};

// The engine's part in creation, called by the backend at the right moments and under its creation lock.
class SegmentInitializer {
 public:
  virtual ~SegmentInitializer() = default;
  // Bytes that state_of() reads.
  virtual std::size_t header_size_bytes() const noexcept = 0;
  // Reads `header_size_bytes()` bytes at `header`, which is aligned to a page and may be a private copy; may be called
  // while another process initialises.
  virtual SegmentState state_of(const std::byte* header) const noexcept = 0;
  // The full name that the header at `header` (as for state_of) carries; empty if it carries none that can be trusted.
  // System V needs it: there a name is found by a hash, and only this tells two names with one hash apart.
  virtual std::string name_of(const std::byte* header) const = 0;
  // Lays out a blank or unfinished segment; ends by storing "ready". Called with the creation lock held.
  virtual Status initialize(Segment& segment) = 0;

  // All under the creation lock. Headers are mapped. Whether `superseded` names `successor`; makes a successor ready;
  // removes what belongs to a superseded, dismissed or destroyed segment besides its memory. The last two may be
  // repeated.
  virtual bool is_successor(const std::byte* /*superseded*/, const std::byte* /*successor*/) const noexcept {
    return false;
  }
  virtual void succeed(std::byte* /*successor*/) noexcept {}
  virtual void retire(std::byte* /*segment*/) noexcept {}

  // The name of the segment that is to take the place of `name`. No user can choose it.
  static std::string successor_name(const std::string& name) { return name + "+next"; }
};

struct SegmentInfo {
  std::string name;       // The user's name where it is known, otherwise empty.
  std::string system_id;  // Its name in the operating system: "/memstream.default", "shmid 3".
  std::size_t size_bytes = 0;
  unsigned mode = 0;
  std::uint32_t owner_uid = 0;
  std::uint64_t attached = 0;  // Attach count where the system keeps one (System V), else 0.
};

// A maker of segments. All functions are safe from any thread and process at once; the creation lock they use is
// dropped by the kernel when its holder dies.
class SegmentBackend {
 public:
  virtual ~SegmentBackend() = default;

  virtual const char* name() const noexcept = 0;

  // Creates the segment if it is absent, attaches if it is present. Exactly one process initialises it; one whose
  // creator died before "ready" is initialised in place, with the size it has. A segment marked destroyed, or removed
  // between two steps, is looked up again. Never shrinks, wipes or removes a segment that was ready.
  // kNoHugePages if they are required, and the creator cannot have them or the segment has none.
  virtual Status open(const SegmentSpec& spec, SegmentInitializer& initializer, std::unique_ptr<Segment>* segment) = 0;

  // Attaches to a segment that is ready. kNoSegment if there is none (or only an unfinished one), kNoHugePages as
  // above. With Access::kReadOnly the mapping is read-only, and another owner's segment is accepted if its mode allows
  // reading.
  virtual Status attach(const SegmentSpec& spec, Access access, SegmentInitializer& initializer,
                        std::unique_ptr<Segment>* segment) = 0;

  // Removes the name; memory goes with the last detach. `before_removal` gets the writable mapping of a segment that
  // is ready, unfinished or marked destroyed, so that the engine can mark it and remove what belongs to it; it is not
  // called in any other state. kNoSegment if absent. If `only` is not null, removes the name only while it still names
  // that very segment; kNoSegment otherwise.
  virtual Status remove(const SegmentSpec& spec, SegmentInitializer& initializer, const Segment* only,
                        const std::function<void(std::byte*)>& before_removal) = 0;

  // Makes a second segment of `spec.size_bytes` with owner, group and mode of `current`, lets `fill` fill it, and
  // gives it the name. `initializer` leaves it pending. `fill` marks `current` as superseded by its last store, and
  // returns kOk if and only if it has done that; otherwise the second segment is removed. kNoSegment if `current` has
  // lost its name, kBusy if another process creates, removes or replaces at that time. Whoever is killed in here
  // leaves either segment under the name: the next open() or remove() completes what was begun.
  virtual Status replace(const SegmentSpec& spec, SegmentInitializer& initializer, const Segment& current,
                         const std::function<Status(Segment& successor)>& fill) = 0;

  // Every segment of this library that the caller can see, in any state.
  virtual Status list(SegmentInitializer& initializer, std::vector<SegmentInfo>* segments) = 0;
};

}  // namespace memstream
