// What a name stands for in the operating system at one moment, opened but perhaps not mapped yet: the small part of a
// backend that knows system calls. The life cycle of segments is written once above it (backends/lifecycle_backend.h).
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "backends/ownership.h"
#include "core/base/clock.h"
#include "core/base/segment.h"

namespace memstream {

// Functions that find the object vanished, or its name passed on to another one, return Status::kGone without a
// message: the caller looks the name up again. The destructor drops the lock, closes, and never removes the object.
class SharedObject {
 public:
  SharedObject(const SharedObject&) = delete;
  SharedObject& operator=(const SharedObject&) = delete;
  virtual ~SharedObject() = default;

  // What the object was looked up for.
  const SegmentSpec& spec() const noexcept { return spec_; }
  // As of the lookup or of the last look_again(). A size of 0: just born, nobody has given it a size.
  virtual std::size_t size_bytes() const noexcept = 0;
  virtual Ownership ownership() const noexcept = 0;
  // Whether `segment` is a mapping of this very object.
  virtual bool is_mapped_by(const Segment& segment) const noexcept = 0;

  // Copies the first `size_bytes` bytes to `header`; kTruncated if there are fewer. A copy and not a look through a
  // mapping: on a full tmpfs reading a page that was never written raises SIGBUS, copying it gives zeros.
  virtual Status read_header(std::byte* header, std::size_t size_bytes) = 0;

  // Takes the creation lock, which the kernel drops when its holder dies; kBusy at the deadline. Held already: kOk.
  virtual Status lock(const Deadline& deadline) = 0;
  // Reads the size anew; kGone if the name no longer stands for this object. Under the lock the answer stays true.
  virtual Status look_again() = 0;

  // Gives size and mode to an object that has no size yet. REQUIRES: the lock.
  virtual Status give_size() = 0;
  // REQUIRES: size_bytes() is not 0.
  virtual Status map(Access access, std::unique_ptr<Segment>* segment) = 0;

  // Why a segment that was to be in huge pages is not, and what makes it possible: the end of a sentence.
  virtual std::string huge_page_remedy() const = 0;

  // Whether this user may take the name away, as far as that can be told before it is tried: kOk or kNoPermission.
  virtual Status may_remove_name() const = 0;
  // Whether the name may be taken from bytes that are not ours: kOk, or an error that says what to do by hand.
  virtual Status may_remove_foreign() const = 0;
  // Takes the name away; the memory goes with the last mapping. Gone already: kOk. REQUIRES: the lock.
  virtual Status remove_name() = 0;
  // Takes a new object away that this process made and could not finish; kOk if it is gone, or another process's by
  // now. Needs no memory.
  virtual Status discard() = 0;

 protected:
  explicit SharedObject(const SegmentSpec& spec) : spec_(spec) {}

 private:
  SegmentSpec spec_;
};

// Copies bytes that others may be writing at this moment. Whoever reads the copy knows that it may be torn, so the
// thread sanitizer is not asked for its opinion (nor would it know one segment from the next at the same address).
void copy_while_written(std::byte* to, const std::byte* from, std::size_t size_bytes) noexcept;

// Who an object says it is.
struct Identity {
  SegmentState state = SegmentState::kBlank;
  std::string name;  // The full name in its header; empty if there is none to be trusted.
};

// Reads the header of `object` through `initializer`. kTruncated if the object has a size and no room for a header.
Status identify(SharedObject& object, const SegmentInitializer& initializer, Identity* identity);

}  // namespace memstream
