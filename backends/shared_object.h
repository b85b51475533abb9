// The object of the operating system that has a name at one moment, opened but perhaps not mapped yet. This is the
// small part of a backend that makes system calls. The life cycle of segments above it is the same for all backends
// (backends/lifecycle_backend.h).
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "backends/ownership.h"
#include "core/base/clock.h"
#include "core/base/segment.h"

namespace memstream {

// A function that finds the object gone, or its name on another object, returns Status::kGone without a message, and
// the caller looks the name up again. The destructor releases the lock and closes; it never removes the object.
class SharedObject {
 public:
  SharedObject(const SharedObject&) = delete;
  SharedObject& operator=(const SharedObject&) = delete;
  virtual ~SharedObject() = default;

  // The access that the object was looked up for.
  const SegmentSpec& spec() const noexcept { return spec_; }
  // As of the lookup or the last look_again(). 0: the object is new and has no size yet.
  virtual std::size_t size_bytes() const noexcept = 0;
  virtual Ownership ownership() const noexcept = 0;
  // Whether `segment` is a mapping of this very object.
  virtual bool is_mapped_by(const Segment& segment) const noexcept = 0;

  // Copies the first `size_bytes` bytes to `header`; kTruncated if there are fewer. It copies instead of mapping
  // because, on a full tmpfs, reading a page that was never written raises SIGBUS, while a copy gives zeros.
  virtual Status read_header(std::byte* header, std::size_t size_bytes) = 0;

  // Takes the creation lock, which the kernel releases when its holder dies. kBusy at the deadline. kOk if this object
  // holds it already.
  virtual Status lock(const Deadline& deadline) = 0;
  // Reads the size again; kGone if the name belongs to another object now. Under the lock the answer stays true.
  virtual Status look_again() = 0;

  // Gives size and mode to an object that has no size yet. REQUIRES: the lock.
  virtual Status give_size() = 0;
  // REQUIRES: size_bytes() is not 0.
  virtual Status map(Access access, std::unique_ptr<Segment>* segment) = 0;

  // Why a segment got no huge pages although they are required, and the remedy: the end of a sentence, and perhaps
  // more.
  virtual std::string huge_page_remedy() const = 0;

  // Whether this user may remove the name, as far as that is known before trying: kOk or kNoPermission.
  virtual Status may_remove_name() const = 0;
  // Whether the name may be removed from bytes that are not a segment: kOk, or an error that says what to do by hand.
  virtual Status may_remove_foreign() const = 0;
  // Removes the name; the memory is freed with the last mapping. kOk if it is gone already. REQUIRES: the lock.
  virtual Status remove_name() = 0;
  // Removes a new object that this process made and could not complete. kOk if it is gone, or belongs to another
  // process by now. Needs no memory.
  virtual Status discard() = 0;

 protected:
  explicit SharedObject(const SegmentSpec& spec) : spec_(spec) {}

 private:
  SegmentSpec spec_;
};

// Copies bytes that other processes may be writing at this moment. Readers of the copy expect that it may be torn. The
// thread sanitizer does not watch it, because it cannot tell two segments at one address apart.
void copy_while_written(std::byte* to, const std::byte* from, std::size_t size_bytes) noexcept;

// The identity that an object's header claims.
struct Identity {
  SegmentState state = SegmentState::kBlank;
  std::string name;  // The full name in its header; empty if the header cannot be trusted.
};

// Reads the header of `object` through `initializer`. kTruncated if the object has a size that is too small for a
// header.
Status identify(SharedObject& object, const SegmentInitializer& initializer, Identity* identity);

}  // namespace memstream
