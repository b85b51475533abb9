// A backend whose segments are ordinary memory of this process: for unit tests of the engine, and a third backend that
// the conformance suite proves to keep the same contract.
//
// Names live in one registry, so that two MemoryBackend objects see the same segments, as two SysV backends would.
// Under the address sanitizer, pages that were not committed are poisoned: an engine that touches memory before
// commit() is caught at the instruction.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <string>

#include "backends/lifecycle_backend.h"

namespace memstream::test {

class MemoryBackend final : public LifecycleBackend {
 public:
  const char* name() const noexcept override { return "memory"; }
  Status list(SegmentInitializer& initializer, std::vector<SegmentInfo>* segments) override;

  // From now on commit() gives kNoMemory rather than let all segments together hold more than `bytes`, as a full tmpfs
  // does. Pages that are committed already stay so.
  static void limit_committed_bytes(std::size_t bytes);
  static void unlimit_committed_bytes();
  static std::size_t committed_bytes();

  // Makes the segment `name` belong to another user. REQUIRES: there is one.
  static void change_owner(const std::string& name, uid_t owner);
  static bool exists(const std::string& name);

  // A segment of these bytes, all of them committed, as another program could have left it. REQUIRES: `bytes` is
  // aligned to a page, goes on to the next page border behind its end, and outlives the segment.
  static void place(const std::string& name, std::span<std::byte> bytes);

 private:
  Status find(const SegmentSpec& spec, Access access, const SegmentInitializer& initializer,
              std::unique_ptr<SharedObject>* object) override;
  Status move_name(SharedObject& object, SharedObject& successor) override;
  Status create(const SegmentSpec& spec, const SegmentInitializer& initializer, const Deadline& deadline,
                std::unique_ptr<SharedObject>* object) override;
  std::size_t huge_page_size_bytes() const noexcept override { return 0; }
};

}  // namespace memstream::test
