// The life cycle of a segment, the same for every backend. It decides which process creates a segment, which ones wait,
// which one initialises what a dead creator left, and when a name is looked up again. A backend derives from this class
// and adds finding, creating and listing.
//
//   ABSENT -> EMPTY -> SIZED -> INIT -> READY -> DESTROYED
//                                 \              SUPERSEDED
//                                  -> PENDING -> READY
//
// A successor lies under a name of its own, pending, until the segment whose place it takes is marked superseded. From
// that store on the successor is the segment of the name, and each process that finds the mark gives it the name.
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
  Status replace(const SegmentSpec& spec, SegmentInitializer& initializer, const Segment& current,
                 const std::function<Status(Segment& successor)>& fill) final;

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

  // The successor of `object`, in any state: kNoSegment if there is none. Makes a new one beside it; `spec` is as for
  // create(). Both use the name that successor_name() gives, unless a backend keeps it elsewhere.
  virtual Status find_successor(SharedObject& object, const SegmentInitializer& initializer,
                                std::unique_ptr<SharedObject>* successor);
  virtual Status create_successor(SharedObject& object, const SegmentSpec& spec, const SegmentInitializer& initializer,
                                  const Deadline& deadline, std::unique_ptr<SharedObject>* successor);
  // Gives the name of `object` to its successor, which is ready. May be repeated. REQUIRES: the lock of `object`.
  virtual Status move_name(SharedObject& object, SharedObject& successor) = 0;

  // Removes what a process left that was killed before its successor took over. REQUIRES: the lock of `object`.
  Status remove_successor(SharedObject& object, SegmentInitializer& initializer,
                          const std::function<void(std::byte*)>& before_removal);
  // Completes what a process began that marked `object` as superseded. kGone: look the name up again.
  // REQUIRES: the lock of `object`.
  Status hand_over(SharedObject& object, SegmentInitializer& initializer);
  // Decides under the lock what to do with an object that was not ready when it was found.
  Status settle(SegmentInitializer& initializer, const Deadline& deadline, SharedObject& object,
                std::unique_ptr<Segment>* segment);

  // The size of a new segment: whole pages, also whole huge pages where some are wanted.
  std::size_t rounded_size(const SegmentSpec& spec) const noexcept;
  // Size of the huge pages that a new segment may get; 0 if there are none.
  virtual std::size_t huge_page_size_bytes() const noexcept = 0;

  // One attempt each. kGone: the name moved to another object meanwhile, so try again.
  Status try_open(const SegmentSpec& spec, SegmentInitializer& initializer, const Deadline& deadline,
                  std::unique_ptr<Segment>* segment);
  Status try_create(const SegmentSpec& spec, SegmentInitializer& initializer, const Deadline& deadline,
                    std::unique_ptr<Segment>* segment);
  Status try_remove(const SegmentSpec& spec, SegmentInitializer& initializer, const Deadline& deadline,
                    const Segment* only, const std::function<void(std::byte*)>& before_removal);
  // Finds and locks the object that `current` maps. kNoSegment unless it is ready and has the name.
  Status lock_to_replace(const SegmentSpec& spec, const SegmentInitializer& initializer, const Deadline& deadline,
                         const Segment& current, std::unique_ptr<SharedObject>* object);
};

}  // namespace memstream
