// The redo records that overwrite small values in place, as one shard names and reads them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/layout/block.h"
#include "core/layout/geometry.h"
#include "core/layout/layout.h"
#include "core/shard/arena.h"
#include "core/shard/index.h"
#include "core/shard/write_lock.h"

namespace memstream {

// A record holds all that a block is to become. The shard names it before the first byte of the block changes, so a
// reader or a recovery finds a whole value whatever the writer got done. docs/locking.md has the protocol.
class RedoLog {
 public:
  // REQUIRES: geometry and arena are those of the shard, and outlive this.
  RedoLog(ShardHeader* header, RedoRecord* records, const Geometry& geometry, const Arena& arena) noexcept
      : header_(header), redo_records_(records), geometry_(geometry), arena_(arena), index_(header) {}

  // A value that is being overwritten: its block as far as it is the same before and after, and what that becomes.
  struct Overwriting {
    const RedoRecord* record = nullptr;
    CheckedBlock block;
    CheckedBlock becomes;  // With the header and the value of the record.
  };

  // The record that StoreRequest::redo means. REQUIRES: the request has one.
  RedoRecord& record(std::uint32_t redo) const noexcept { return redo_records_[redo - 1]; }
  // Whether the shard names this record, counted from 0.
  bool names(std::uint32_t record) const noexcept {
    return header_->redo.load(std::memory_order_acquire) == record + 1;
  }

  // What is known of entry `id`, whose ref is `ref`, one of those that ref_overwritten() gives. False if no record is
  // about it, or the record contradicts the block. Safe on any bytes; the record stands still while the entry has that
  // ref.
  bool find(EntryId id, EntryRef ref, Overwriting* found) const noexcept;

  // Carries out what the record says, on the block that it is about.
  static void apply(const RedoRecord& redo, BlockHeader& header, std::byte* value, std::uint64_t value_size) noexcept;

  // For a rebuild: what a killed writer had committed becomes the value of its key. May run again.
  // REQUIRES: the caller holds the shard's write lock. Throws CorruptionDetected.
  void finish() MEMSTREAM_NEEDS_W;

 private:
  const Backing& backing() const noexcept { return arena_.backing(); }

  ShardHeader* header_;
  RedoRecord* redo_records_;
  const Geometry& geometry_;
  const Arena& arena_;
  Index index_;
};

}  // namespace memstream
