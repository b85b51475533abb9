// The requests that a shard takes, and the answers that it gives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/base/status.h"
#include "core/layout/block.h"
#include "core/layout/hash.h"
#include "core/layout/layout.h"
#include "core/shard/tags.h"

namespace memstream {

struct Key {
  std::string_view bytes;
  KeyHash hash;
};

enum class StoreMode { kSet, kAdd, kReplace, kCas, kLease, kNear };

// A value to store. Instants are ms on the segment's clock.
struct StoreRequest {
  Key key;
  const std::byte* value = nullptr;
  std::uint64_t value_size = 0;
  std::uint64_t expires_ms = 0;    // 0: never. With kHasTags if and only if there are `tags`.
  std::uint64_t caller_flags = 0;  // Above those 32 bits the checksum or the epoch, where values have one.
  StoreMode mode = StoreMode::kSet;
  std::uint64_t cas = 0;          // The token: for kCas of the entry, for kLease of the lease, for kNear of the fill.
  std::uint64_t lease_owner = 0;  // For kLease: who stores.
  // Number + 1 of a redo record that is this thread's for the call: the value may be overwritten in place. 0: none.
  // 0 with tags.
  std::uint32_t redo = 0;
  const TagPairs* tags = nullptr;

  bool has_tags() const noexcept { return expires_ms >> 63 != 0; }
  // Of the value and of the tags behind it.
  std::uint64_t value_and_tags_size() const noexcept { return value_size + (expires_ms >> 63) * sizeof(BlockTags); }
  // Whether its block has to have BlockExtras.
  bool has_extras() const noexcept { return expires_ms != 0 || caller_flags != 0 || value_size >= kAlignedValueSize; }
};

// A number to add to the one that a key's value is. `initial` null: kMiss if the key is absent.
struct IncrementRequest {
  Key key;
  std::int64_t delta = 0;
  const std::int64_t* initial = nullptr;
  std::uint64_t expires_ms = 0;
  std::uint32_t redo = 0;  // As in StoreRequest.
};

// A process that asks for the right to compute a key's value.
struct LeaseRequest {
  Key key;
  std::uint64_t stale_cas = 0;   // An entry with this token is as good as none. 0: none is.
  std::uint64_t owner = 0;       // 0: a process that has no place in the process table.
  std::uint64_t dead_owner = 0;  // Known to have died: its lease is taken over.
  std::uint64_t until_ms = 0;    // 0: for as long as the owner lives.
};

// What a read brought.
struct ReadResult {
  std::uint64_t value_size = 0;
  std::uint64_t created_ms = 0;
  std::uint64_t expires_ms = 0;
  std::uint64_t cas = 0;
  std::uint64_t caller_flags = 0;  // As in StoreRequest.
};

// kCorrupt, with what to do. `read_only`: who found it could not drop it.
Status damaged_value(bool read_only) noexcept;

// What a get came to.
struct GetResult {
  Status status = Status::kMiss;
  ReadResult read;  // With kOk; the size with kTooSmall too.
};

// Where a get copies a value to, and from what size on a value is large.
struct ReadBuffer {
  static constexpr std::uint64_t kLarge = std::uint64_t{32} << 10;

  std::byte* data = nullptr;
  std::uint64_t size_bytes = 0;
  std::uint64_t copy_below = kLarge;  // At most kLarge: of smaller blocks all bytes are known to have memory.
  bool wants_all = true;              // Or of what a read brings nothing but value and size.
  bool leaves_large = false;          // Then it is found, and not copied.
};

// A block that a pin holds in place, and which pin that is.
struct PinnedBlock {
  std::byte* value = nullptr;
  ReadResult read;
  BlockPosition position;
  PinNumber pin;
};

// An entry as a scan sees it. `block.key` is valid only during the visit.
struct ScannedEntry {
  BlockContents block;
  std::uint64_t last_access_ms = 0;
  std::uint64_t access_count = 0;
  std::uint64_t cas = 0;
};

// What a repair found and dropped.
struct RepairReport {
  std::uint64_t problems = 0;         // That a check found before.
  std::uint64_t dropped_entries = 0;  // Whose block was not theirs, or no block.
  std::uint64_t damaged_values = 0;   // Entries dropped because the value did not fit its checksum.
  std::uint64_t emptied_shards = 0;   // Of which nothing could be rebuilt.
  std::uint64_t entries = 0;          // That are left.
};

// What dead processes held, and what became free.
struct ReapReport {
  std::uint64_t processes = 0;    // That had ended without leaving, since this process attached.
  std::uint64_t pins = 0;         // Views and reservations that they held.
  std::uint64_t leases = 0;       // That they held.
  std::uint64_t locks = 0;        // Shards that were repaired, because a holder of the lock had died.
  std::uint64_t freed_bytes = 0;  // Of blocks that only pins had kept.
};

// A consistent copy of the shard's numbers.
struct ShardStatistics {
  std::uint64_t max_memory, used_memory, pinned_memory, key_memory, value_memory, table_memory, committed_memory;
  std::uint64_t entries, entry_capacity;
  ShardCounters counters;

  ShardStatistics& operator+=(const ShardStatistics& other) noexcept;
};

}  // namespace memstream
