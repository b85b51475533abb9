// The life cycle of a segment, the same for every backend. It decides which process creates a segment, which ones wait,
// which one initialises what a dead creator left, and when a name is looked up again. A backend derives from this class
// and adds finding, creating and listing.
//
//   ABSENT -> EMPTY -> SIZED -> INIT -> READY -> DESTROYED
//
// Every step between EMPTY and READY, and every removal of a name, happens under the creation lock. A process that
// holds the lock and finds the object under its name therefore knows two things: no other process creates, initialises
// or removes it now, and the creator of an object that is not ready has died.
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
  // kNoSegment: the name belongs to another segment than the one that this process has open.
  static Status no_longer_named(const SegmentSpec& spec);

 private:
  // Finds the object that has the name now. kNoSegment if there is none.
  virtual Status find(const SegmentSpec& spec, Access access, const SegmentInitializer& initializer,
                      std::unique_ptr<SharedObject>* object) = 0;
  // Finds the object that `segment` maps, if it still has the name. kNoSegment otherwise.
  virtual Status find_mapped(const SegmentSpec& spec, const Segment& segment, const SegmentInitializer& initializer,
                             std::unique_ptr<SharedObject>* object);
  // Makes a new object under the name, not initialised. kGone if another process made one meanwhile.
  virtual Status create(const SegmentSpec& spec, const SegmentInitializer& initializer, const Deadline& deadline,
                        std::unique_ptr<SharedObject>* object) = 0;

  // Size of the huge pages that a new segment may get; 0 if there are none.
  virtual std::size_t huge_page_size_bytes() const noexcept = 0;

  // One attempt each. kGone: the name moved to another object meanwhile, so try again.
  Status try_open(const SegmentSpec& spec, SegmentInitializer& initializer, const Deadline& deadline,
                  std::unique_ptr<Segment>* segment);
  Status try_create(const SegmentSpec& spec, SegmentInitializer& initializer, const Deadline& deadline,
                    std::unique_ptr<Segment>* segment);
  Status try_remove(const SegmentSpec& spec, SegmentInitializer& initializer, const Deadline& deadline,
                    const Segment* only, const std::function<void(std::byte*)>& before_removal);
};

}  // namespace memstream
