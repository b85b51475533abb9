// The segment header: laying out a new segment, and checking an existing one before anything in it is trusted.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "core/base/segment.h"
#include "core/cache/residence.h"
#include "core/layout/geometry.h"
#include "core/layout/layout.h"

namespace memstream {

// The engine's part in creating a segment.
class SegmentFormat final : public SegmentInitializer {
 public:
  // `prefaults`: a new segment is committed whole and pre-faulted before it is ready, within `prefault_timeout`. `mode`
  // and `group`: of the semaphores that say who is alive. `features`: those of a new segment.
  SegmentFormat(std::string name, const ShardChoice& choice, bool prefaults = false,
                std::chrono::milliseconds prefault_timeout = std::chrono::hours(1), unsigned mode = 0600,
                std::optional<std::uint32_t> group = std::nullopt, std::uint32_t features = 0)
      : name_(std::move(name)),
        choice_(choice),
        prefaults_(prefaults),
        prefault_timeout_(prefault_timeout),
        mode_(mode),
        group_(group),
        features_(features) {}
  SegmentFormat(std::string name, std::uint32_t shards, bool prefaults = false,
                std::chrono::milliseconds prefault_timeout = std::chrono::hours(1), unsigned mode = 0600,
                std::optional<std::uint32_t> group = std::nullopt)
      : SegmentFormat(std::move(name), ShardChoice{.shards = shards}, prefaults, prefault_timeout, mode, group) {}

  std::size_t header_size_bytes() const noexcept override { return kPageSize; }
  SegmentState state_of(const std::byte* header) const noexcept override;
  std::string name_of(const std::byte* header) const override;
  Status initialize(Segment& segment) override;

  // What a successor has from the segment whose place it takes: instants and hashes mean the same in both.
  struct Inheritance {
    std::uint64_t created_unix_ms = 0;
    std::uint64_t created_monotonic_ms = 0;
    std::uint64_t hash_seed = 0;
  };
  // From here on it lays out a successor, which stays pending.
  void inherit(const Inheritance& inheritance) noexcept { inheritance_ = inheritance; }
  bool is_successor(const std::byte* superseded, const std::byte* successor) const noexcept override;
  void succeed(std::byte* successor) noexcept override;
  void retire(std::byte* segment) noexcept override;

  // Whether this object has laid out a segment, and whether that is pre-faulted in this process.
  bool has_created() const noexcept { return has_created_; }
  bool has_prefaulted() const noexcept { return has_created_ && prefaults_; }

 private:
  Status lay_out(Segment& segment, const Geometry& geometry, bool is_blank);
  Status write_identity(Segment& segment, const Geometry& geometry, const MarkSet& marks) const;
  Status write_tables(Segment& segment, const Geometry& geometry) const;

  std::string name_;
  ShardChoice choice_;
  bool prefaults_;
  std::chrono::milliseconds prefault_timeout_;
  unsigned mode_;
  std::optional<std::uint32_t> group_;
  std::uint32_t features_;
  std::optional<Inheritance> inheritance_;
  bool has_created_ = false;
};

// Everything an attached process needs to know; copied once, so that later writes to the header cannot mislead it.
struct AttachedHeader {
  Geometry geometry;
  std::uint64_t hash_seed = 0;
  std::uint64_t created_unix_ms = 0;
  std::uint64_t created_monotonic_ms = 0;
  std::uint32_t layout_version = 0;
  std::uint8_t uuid[16] = {};
  Residence residence;

  ProcessMarks marks() const noexcept { return {residence.marks, geometry.process_slots}; }
};

// Checks that `segment` is what it should be. Each fault has its own status, and a message with a remedy. A read-only
// attach takes no lock, so that it may cross C libraries, and pid and IPC namespaces. arrive() decides whether this
// process may write (core/cache/residence.h).
Status check_header(const Segment& segment, const std::string& name, AttachedHeader* attached);

// Tells all attached processes that the segment is destroyed, and removes its semaphores. If this process dies in
// between, the next one to find the segment removes them.
void mark_destroyed(std::byte* bytes) noexcept;

}  // namespace memstream
