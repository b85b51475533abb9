// The life of a segment, the same for every backend: who creates it, who waits, who initialises what a dead creator
// left, when a name is looked up again. A backend derives from this class and adds finding, creating and listing.
//
//   ABSENT -> EMPTY -> SIZED -> INIT -> READY -> DESTROYED
//
// Everything between EMPTY and READY, and every removal of a name, happens under the creation lock. So whoever holds
// the lock and still finds the name standing for the object knows that nobody else creates, initialises or removes it
// now, and that an object that is not ready was left by a process that died.
#pragma once

#include <functional>
#include <memory>

#include "backends/shared_object.h"

namespace memstream {

class LifecycleBackend : public SegmentBackend {
 public:
  Status open(const SegmentSpec& spec, SegmentInitializer& initializer, std::unique_ptr<Segment>* segment) final;
  Status attach(const SegmentSpec& spec, Access access, SegmentInitializer& initializer,
                std::unique_ptr<Segment>* segment) final;
  Status remove(const SegmentSpec& spec, SegmentInitializer& initializer, const Segment* only,
                const std::function<void(std::byte*)>& before_removal) final;

 protected:
  // kNoSegment: what this process has open is no longer what the name stands for.
  static Status no_longer_named(const SegmentSpec& spec);

 private:
  // What the name stands for now. kNoSegment if nothing does.
  virtual Status find(const SegmentSpec& spec, Access access, const SegmentInitializer& initializer,
                      std::unique_ptr<SharedObject>* object) = 0;
  // The object that `segment` is a mapping of, if it still has the name. kNoSegment otherwise.
  virtual Status find_mapped(const SegmentSpec& spec, const Segment& segment, const SegmentInitializer& initializer,
                             std::unique_ptr<SharedObject>* object);
  // A new object under the name, not initialised. kGone if somebody else made one meanwhile.
  virtual Status create(const SegmentSpec& spec, const SegmentInitializer& initializer, const Deadline& deadline,
                        std::unique_ptr<SharedObject>* object) = 0;

  // Of the huge pages that a new segment may be given; 0 if there are none.
  virtual std::size_t huge_page_size_bytes() const noexcept = 0;

  // One try each; kGone: the name changed hands in between, try again.
  Status try_open(const SegmentSpec& spec, SegmentInitializer& initializer, const Deadline& deadline,
                  std::unique_ptr<Segment>* segment);
  Status try_create(const SegmentSpec& spec, SegmentInitializer& initializer, const Deadline& deadline,
                    std::unique_ptr<Segment>* segment);
  Status try_remove(const SegmentSpec& spec, SegmentInitializer& initializer, const Deadline& deadline,
                    const Segment* only, const std::function<void(std::byte*)>& before_removal);
};

}  // namespace memstream
