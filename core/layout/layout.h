// The bytes of a segment. docs/layout.md shows them as tables; tests/layout/layout_test.cpp keeps the two
// together.
//
// Words, each for one thing only:
//   unit    16 bytes, the grain of the arena. Positions and sizes of blocks are counted in units from the shard's
//           start.
//   block   a run of units in the arena: header, key, value; or a free run.
//   entry   the 32-byte record of one key. Its `ref` names the block that holds key and value.
//   cell    288 bytes of a shard's table: one bucket and six entries.
//   table   the cells of a shard; it grows upwards from the shard header.
//   heap    the blocks of a shard; it grows downwards from the shard's end. The gap between the two is the wilderness.
//
// Authoritative: entries' refs, headers of the blocks, heap_begin, table_cells, cells, the pins of the processes, the
// redo records that shards name, and the owners of the leases. Everything else (buckets, free lists, counters, hands,
// the ring of retired blocks) is derived: core/shard/shard_rebuilder.cpp rebuilds it.
//
// No pointer is ever stored. Position 0 and entry 0 mean "none": both would lie in a header.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/layout/layout_areas.h"
#include "core/layout/layout_blocks.h"
#include "core/layout/layout_sizes.h"

namespace memstream {

inline constexpr std::uint64_t kMagic = 0x3142'4d52'5453'4d4dULL;  // "MMSTRMB1" in memory on a little-endian machine.
inline constexpr std::uint32_t kLayoutVersion = 9;
inline constexpr std::uint32_t kByteOrderMark = 0x01020304;

inline constexpr std::size_t kMaxKeySize = 1024;
inline constexpr std::size_t kMaxNameSize = 64;

inline constexpr std::uint32_t kMaxShards = 64;
inline constexpr std::uint64_t kMinSegmentSize = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kMaxShardSize = (std::uint64_t{1} << 36) - kPageSize;  // Positions have 32 bits.
inline constexpr std::uint32_t kPinsPerProcess = 128;
inline constexpr std::uint32_t kLeasesPerShard = 48;

static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic<std::uint32_t>::is_always_lock_free,
              "shared words must be lock-free to mean the same in every process");

// ---- entries and buckets ----

inline constexpr std::uint32_t kSlotsPerCell = 9;    // Nine runs of 32 bytes in a cell ...
inline constexpr std::uint32_t kBucketSlots = 3;     // ... of which the bucket takes the first three ...
inline constexpr std::uint32_t kEntriesPerCell = 6;  // ... and entries the rest.
inline constexpr std::uint32_t kBucketWidth = 8;     // Entries that a bucket names before it overflows into a chain.
inline constexpr std::uint32_t kMaxChain = 48;       // A longer overflow chain loses its coldest entry.

// The policy word of an entry: the tag of its hash in the upper 16 bits, below it what eviction remembers.
inline constexpr std::uint32_t kHits = 3;     // Two bits: reads since its queue's hand last passed, counted up to 3.
inline constexpr std::uint32_t kExpires = 4;  // Its block has an expiry: worth a look.
inline constexpr std::uint32_t kSeen = 8;     // Met by the walk of a rebuild.
inline constexpr std::uint32_t kSmall = 16;   // The queue of a live entry: the small one,
inline constexpr std::uint32_t kMain = 32;    // or the main one. A free entry is in neither.
inline constexpr std::uint32_t kYoung =
    64;  // Of the small queue: its hand passes once. Of the main one: two hits have been seen.
constexpr std::uint32_t policy_word(std::uint16_t tag) noexcept { return std::uint32_t{tag} << 16; }
constexpr std::uint16_t policy_tag(std::uint32_t policy) noexcept { return static_cast<std::uint16_t>(policy >> 16); }

// One key. 32 bytes, so that two share a cache line and none straddles one.
struct Entry {
  // Live bit, pinned hint, generation, position of the block. Storing it commits every write. Apart from the pinned
  // hint it never has the same value twice, until the 30-bit generation wraps. So a reader without a lock knows that
  // nothing moved.
  std::atomic<std::uint64_t> ref;
  std::atomic<std::uint32_t> hash;            // Low half of the key's hash: names the bucket.
  std::atomic<std::uint32_t> next;            // Next in the bucket's overflow chain, or in the list of free entries.
  std::atomic<std::uint64_t> last_access_ms;  // On the segment's clock.
  std::atomic<std::uint32_t> access_count;
  std::atomic<std::uint32_t> policy;
};
static_assert(sizeof(Entry) == 32 && offsetof(Entry, hash) == 8 && offsetof(Entry, next) == 12);
static_assert(offsetof(Entry, last_access_ms) == 16 && offsetof(Entry, access_count) == 24);
static_assert(offsetof(Entry, policy) == 28);

// Names up to eight entries, with a 16-bit tag of the hash for each. Empty slots hold entry 0. The hints say where the
// blocks are, so that a reader can prefetch an entry and its block at the same time.
struct Bucket {
  std::atomic<std::uint32_t> version;   // Odd while the bucket changes: a miss counts only if it did not move.
  std::atomic<std::uint32_t> overflow;  // First entry of the chain of those that found no slot.
  std::atomic<std::uint64_t> tags[2];   // Eight tags of 16 bits.
  std::atomic<std::uint32_t> slots[kBucketWidth];
  std::atomic<std::uint64_t> eviction;  // Fingerprints and marks: core/shard/fingerprints.h.
  // Positions of those entries' blocks; after damage they may be anything. A reader prefetches by them and trusts none.
  std::atomic<std::uint32_t> hints[kBucketWidth];
};
static_assert(offsetof(Bucket, hints) == kCacheLineSize && sizeof(Bucket) == kBucketSlots * sizeof(Entry));
static_assert(offsetof(Bucket, tags) == 8 && offsetof(Bucket, slots) == 24);

struct Cell {
  Bucket bucket;
  Entry entries[kEntriesPerCell];
};
static_assert(sizeof(Cell) == 288 && sizeof(Cell) == kSlotsPerCell * sizeof(Entry));
static_assert(offsetof(Cell, entries) == kBucketSlots * sizeof(Entry));

inline constexpr std::uint64_t kLiveBit = std::uint64_t{1} << 63;
inline constexpr std::uint64_t kPinnedHint = std::uint64_t{1} << 62;
inline constexpr std::uint64_t kGenerationMask = 0x3fff'ffff;

constexpr bool ref_is_live(std::uint64_t ref) noexcept { return (ref & kLiveBit) != 0; }
constexpr BlockPosition ref_block(std::uint64_t ref) noexcept { return BlockPosition{static_cast<std::uint32_t>(ref)}; }
// Whether the block was pinned since the entry got it. Only then a writer looks at the pins of the processes before
// it gives the block up. This bit is the only part of a ref that changes without W. It leaves the value as it is.
constexpr bool ref_has_pinned_hint(std::uint64_t ref) noexcept { return (ref & kPinnedHint) != 0; }
constexpr bool is_same_ref(std::uint64_t ref, std::uint64_t other) noexcept {
  return ((ref ^ other) & ~kPinnedHint) == 0;
}
constexpr std::uint64_t ref_next_generation(std::uint64_t ref) noexcept { return ((ref >> 32) + 1) & kGenerationMask; }
// The ref that follows `ref` when the entry gets a new block, and when it becomes empty.
constexpr std::uint64_t ref_live(std::uint64_t ref, BlockPosition block) noexcept {
  return kLiveBit | ref_next_generation(ref) << 32 | block;
}
constexpr std::uint64_t ref_empty(std::uint64_t ref) noexcept { return ref_next_generation(ref) << 32; }
// The ref while the value in the entry's block is overwritten: not live, and yet with a block. Then the one after it.
constexpr std::uint64_t ref_overwritten(std::uint64_t ref) noexcept {
  return ref_next_generation(ref) << 32 | ref_block(ref);
}
constexpr std::uint64_t ref_finished(std::uint64_t ref) noexcept { return kLiveBit | ref; }
constexpr bool ref_is_overwritten(std::uint64_t ref) noexcept { return !ref_is_live(ref) && ref_block(ref) != 0; }

// ---- shards ----

// The free lists: segregated fit with two levels, as TLSF has them. Sizes below 16 units have a list each, larger ones
// sixteen lists for every power of two.
inline constexpr std::uint32_t kBinsPerLevel = 16;
inline constexpr std::uint32_t kBinLevels = 29;  // Level 0: 0 to 15 units; level n: 2^(n+3) to 2^(n+4) - 1 units.

struct FreeLists {
  std::uint32_t level_bitmap;
  std::uint16_t bin_bitmap[kBinLevels];
  std::uint16_t unused;
  std::uint32_t heads[kBinLevels][kBinsPerLevel];
};
static_assert(sizeof(FreeLists) == 4 + 60 + 4 * kBinLevels * kBinsPerLevel);

struct ShardSpace {
  std::uint64_t max_memory;                // Bytes of the shard: the budget that table and heap share.
  std::uint64_t used_memory;               // Bytes in blocks of live entries.
  std::uint64_t pinned_memory;             // Bytes in blocks that only pins keep.
  std::uint64_t key_memory;                // Bytes of live keys.
  std::uint64_t value_memory;              // Bytes of live values.
  std::uint64_t free_memory;               // Bytes in free blocks (the wilderness not counted).
  std::uint64_t table_committed;           // The shard's bytes below this offset are committed ...
  std::uint64_t heap_committed;            // ... and those from this offset on.
  std::uint64_t commit_retry_ms;           // After a refusal: not before this time again.
  std::atomic<std::uint32_t> table_cells;  // Cells that the table has room for (authoritative).
  std::atomic<std::uint32_t> heap_begin;   // Position of the lowest block; the shard's end if none (authoritative).
  std::uint32_t heap_end;                  // Position behind the last block; constant.
  std::uint32_t entries;                   // Live entries.
  std::uint32_t free_entry;                // First of the list of free entries.
  std::uint32_t reclaim_hand;              // Block at which the next window for a large value begins.
  std::uint32_t leases;                    // Those that have an owner, dead or alive. Bit 31: see lease_changes.

  // Eviction: core/shard/eviction.h.
  std::uint32_t small_hand;     // Entry that the hand of the small queue comes to next.
  std::uint64_t small_memory;   // Bytes in blocks of entries of the small queue.
  std::uint64_t small_target;   // Bytes that it should have.
  std::uint32_t main_hand;      // As small_hand, of the main queue.
  std::uint32_t small_left;     // Counts what left the small queue without hits.
  std::uint32_t small_drops;    // What each queue dropped lately ...
  std::uint32_t small_returns;  // ... and what of that was asked for or stored again: they are halved together.
  std::uint32_t main_drops;
  std::uint32_t main_returns;
  std::uint32_t small_read;  // What left the small queue with hits lately; halved with small_drops.
  std::uint32_t main_debt;   // Entries that the main queue owes for ghost hits of gets.
  std::atomic<std::uint64_t>
      asks;  // New gets of dropped keys, counted without W: of the main queue (32) | others (32).

  std::uint32_t
      retired_hand;  // Of the ring of retired blocks, used blocks that no entry owns: the next one; 0: there is none.
  std::uint32_t retired;  // How many there are.

  // Eviction again: whether the main queue is read (core/shard/eviction_probe.cpp).
  std::uint32_t main_looks;        // Entries of the main queue that this sweep looked at ...
  std::uint32_t main_reads;        // ... and those of them that were read since the last one.
  std::uint32_t usual_reads;       // Of a sweep that found some, on average.
  std::uint32_t idle_sweeps;       // Sweeps since the last one that found some ...
  std::uint32_t most_idle_sweeps;  // ... and the most of these between two such, and one; 0: it was never read enough.
  std::uint32_t main_is_stale;     // Its entries go in order, read or not, until the small queue has its part.
};

struct ShardCounters {
  std::uint64_t deletes;
  std::uint64_t evictions;
  std::uint64_t expirations;
  std::uint64_t recoveries;
  std::uint64_t damaged;
  std::uint64_t commit_failures;
};

// The right to compute the value of one key. Granted and ended under W; waiters look for the end without a lock.
struct Lease {
  std::atomic<std::uint64_t> owner;     // The holder's slot + 1 (32) | its generation (32); 0: free (authoritative).
  std::atomic<std::uint64_t> hash;      // Of the key, all 64 bits.
  std::atomic<std::uint64_t> token;     // Number of the grant (56) << 8 | number of the lease; the holder's proof.
  std::atomic<std::uint64_t> until_ms;  // On the segment's clock: others may take it from then on. 0: never.
};
static_assert(sizeof(Lease) == 32 && kLeasesPerShard < 0x100);

struct ShardHeader {
  // The only line that a fast read touches here. Written when the table grows, when the shard is rebuilt.
  std::atomic<std::uint64_t> seq;    // Odd while the whole shard is being rebuilt.
  std::atomic<std::uint32_t> cells;  // Cells in use: the number of buckets (authoritative).
  std::uint32_t index;
  std::byte unused0[48];

  // The lock: docs/locking.md.
  pthread_mutex_t write_mutex;                // W: robust; serialises writers.
  std::atomic<std::uint64_t> epoch;           // rw[epoch & 1] is the one in use.
  std::atomic<std::uint32_t> wait;            // A writer is in the shard or waits for slow readers: no new ones.
  std::atomic<std::uint32_t> needs_recovery;  // A recovery was begun and not finished.
  std::atomic<std::uint32_t> redo;            // Number + 1 of the redo record being carried out (authoritative).
  std::atomic<std::uint16_t> announced[2];    // Slow readers at rw[0] and rw[1], and those that died there.
  pthread_rwlock_t rw[2];                     // Only ever try-locked.
  std::atomic<std::uint32_t> lease_events;    // Counts leases that ended; waiters sleep on it.
  std::byte unused2[52 - sizeof(pthread_mutex_t)];

  ShardSpace space;        // Under W.
  ShardCounters counters;  // Under W.
  FreeLists free_lists;    // Under W.
  Lease leases[kLeasesPerShard];
  std::uint32_t lease_changes[32];  // Under W: changes of keys, by hash. Counted once a lease has found no place.
};
inline constexpr std::size_t kShardHeaderSize = kPageSize;
static_assert(sizeof(ShardHeader) <= kShardHeaderSize);
static_assert(offsetof(ShardHeader, write_mutex) == 64 && offsetof(ShardHeader, space) == 256);
#if defined(__x86_64__)
static_assert(sizeof(pthread_mutex_t) == 40 && offsetof(ShardHeader, epoch) == 104);
static_assert(offsetof(ShardHeader, wait) == 112 && offsetof(ShardHeader, needs_recovery) == 116);
// A write that meets no slow reader touches one line of the lock.
static_assert(offsetof(ShardHeader, redo) == 120 && offsetof(ShardHeader, announced) == 124);
static_assert(sizeof(pthread_rwlock_t) == 56 && offsetof(ShardHeader, rw) == 128);
static_assert(offsetof(ShardHeader, lease_events) == 240 && offsetof(ShardHeader, unused2) == 244);
#elif defined(__aarch64__)
// The mutex has eight bytes more, which move the words behind it by as many.
static_assert(sizeof(pthread_mutex_t) == 48 && sizeof(pthread_rwlock_t) == 56);
static_assert(offsetof(ShardHeader, announced) == 132 && offsetof(ShardHeader, lease_events) == 248);
#endif

// ---- the segment's own tables ----

// Counts of what happens all the time; one cache line per process, so that no two processes write to the same one.
struct ProcessCounters {
  std::atomic<std::uint64_t> hits;
  std::atomic<std::uint64_t> misses;
  std::atomic<std::uint64_t> puts;
};

// Redo record for an in-place overwrite (core/shard/shard_overwrite.cpp). It is valid while the entry's ref equals
// `ref` and the shard points to this record. The first process slots have one each.
inline constexpr std::size_t kRedoValueSize = 1088;
inline constexpr std::uint32_t kMaxRedoRecords = 256;
struct RedoRecord {
  std::atomic<std::uint64_t> ref;  // As ref_overwritten() gives it.
  std::atomic<std::uint32_t> entry;
  std::atomic<std::uint32_t> shard;  // In which it was last used.
  BlockHeader block;
  BlockExtras extras;  // Behind the header, as in a block. If the block has them.
  std::byte unused[16];
  std::byte value[kRedoValueSize];
};
static_assert(sizeof(RedoRecord) % kCacheLineSize == 0 && offsetof(RedoRecord, value) == kCacheLineSize);

// What a thread may wait for: the index of ProcessSlot::waiters.
enum class Waiting : std::uint32_t { kChange, kPermit, kLease };
inline constexpr std::uint32_t kWaitingKinds = 3;

// One attached process (a process that opens the segment twice has two). Claimed and given back under the registry
// mutex.
struct ProcessSlot {
  // One cache line with the first pins: a look for pins on a block mostly needs no other line.
  std::atomic<std::uint32_t> pid;         // 0: free.
  std::atomic<std::uint32_t> generation;  // One more with each process that enters the slot.
  std::atomic<std::uint64_t> start_time;  // Clock ticks since boot, for statistics; 0: not known.
  std::atomic<std::uint32_t> pins_used;   // Places behind these were never taken by this process.
  std::atomic<std::uint32_t> pin_chunk;   // In which a pin was taken last: a hint.
  std::atomic<std::uint64_t>
      pins[kPinsPerProcess];  // Offset of a block in the segment | kPinIsTentative; 0: free (authoritative).
  std::byte unused2[40];
  ProcessCounters counters;
  std::atomic<std::uint64_t> image;  // Of the program that claimed the slot: exec() keeps the pid and the mark.
  std::atomic<std::uint32_t> waiters[kWaitingKinds];  // Threads that wait now. They end with the process.
  std::byte unused3[20];
};
static_assert(sizeof(ProcessSlot) == 128 + 8 * kPinsPerProcess && offsetof(ProcessSlot, pins) == 24);
static_assert(offsetof(ProcessSlot, counters) % kCacheLineSize == 0);
// In a pin: its process has not yet verified that the block is still that of its key.
inline constexpr std::uint64_t kPinIsTentative = 1;

// A place in which a slow reader announces itself. Whoever locks the mutex has the slot; the kernel says when it died.
struct ThreadSlot {
  pthread_mutex_t mutex;            // Robust.
  std::atomic<std::uint64_t> hold;  // 0, or (shard + 1) << 48 | (epoch + 1) of the shard that is being read.
  std::byte unused[56 - sizeof(pthread_mutex_t)];
};
static_assert(sizeof(ThreadSlot) == kCacheLineSize && offsetof(ThreadSlot, hold) == sizeof(pthread_mutex_t));
constexpr std::uint64_t hold_word(std::uint32_t shard, std::uint64_t epoch) noexcept {
  return (std::uint64_t{shard} + 1) << 48 | (epoch + 1);
}
constexpr std::uint64_t hold_shard(std::uint64_t hold) noexcept { return (hold >> 48) - 1; }
constexpr std::uint64_t hold_epoch(std::uint64_t hold) noexcept { return (hold & 0xffff'ffff'ffff) - 1; }

// What a segment was made with: each value has a checksum, in its BlockExtras.
inline constexpr std::uint32_t kFeatureChecksums = 1;
inline constexpr std::uint32_t kKnownFeatures = kFeatureChecksums;

enum class HeaderState : std::uint32_t {
  kBlank = 0,
  kInitializing = 1,
  kReady = 2,
  kDestroyed = 3,
  kPending = 4,    // Laid out, to be filled with the entries of another segment and to take its place.
  kSuperseded = 5  // Another segment has taken its place: SegmentHeader::successor.
};

// Written once by the creator, before "ready"; covered by the checksum.
struct SegmentIdentity {
  std::uint64_t magic;
  std::uint32_t layout_version;
  std::uint32_t byte_order;
  std::uint16_t mutex_size;
  std::uint16_t mutex_alignment;
  std::uint16_t rwlock_size;
  std::uint16_t rwlock_alignment;
  char libc[40];     // Name and version of the C library, NUL-terminated.
  char boot_id[40];  // Of the running kernel.
  std::uint64_t ipc_namespace;
  std::uint8_t uuid[16];
  std::uint64_t hash_seed;
  std::uint64_t created_unix_ms;       // The same instant on two clocks:
  std::uint64_t created_monotonic_ms;  // times in the segment count from it.
  std::uint64_t size_bytes;
  std::uint64_t process_slots_offset;
  std::uint64_t thread_slots_offset;
  std::uint64_t shards_offset;
  std::uint64_t shard_size;
  std::uint32_t process_slots;
  std::uint32_t thread_slots;
  std::uint32_t shards;
  std::uint32_t features;        // kFeatureChecksums.
  std::uint64_t time_namespace;  // 0: the kernel has none.
  std::int64_t marks_created_s;  // The semaphores that say who is alive: core/base/process_marks.h.
  std::int32_t marks_id;
  std::int32_t marks_key;
  char name[kMaxNameSize + 8];  // NUL-terminated.
  Area areas[kAreas];           // Between the thread slots and the first shard, in this order.
};

struct SegmentHeader {
  SegmentIdentity identity;
  std::uint64_t checksum;                    // XXH3 of `identity`.
  std::atomic<std::uint64_t> pid_namespace;  // Whose processes may lock; their thread ids stand in the locks.
  std::atomic<std::int32_t> new_marks_key;   // Stored before the semaphores are made: a creator may die in between.
  std::atomic<std::uint32_t> has_unmarked;   // A process works without a mark: nobody can tell when it ends.
  std::byte unused0[56];
  std::atomic<std::uint32_t> state;  // HeaderState.
  std::byte unused1[4];
  std::atomic<std::uint64_t> successor;  // Of which segment, as uuid_word() has it. Counts if the state says so.
  // On CLOCK_MONOTONIC_COARSE: until then somebody may wait for a change of an entry (core/shard/wait_table.h).
  // 0: nobody does.
  std::atomic<std::uint64_t> awaited_until_ms;
  // As watched_word() has it: until then somebody watches what keys change (core/shard/watch_table.h). Writers look at
  // it if the word before says something.
  std::atomic<std::uint64_t> watched;
  std::byte unused3[32];
  pthread_mutex_t registry_mutex;  // Robust; guards claiming and giving back of process slots.
  ProcessCounters retired;         // Counts of processes that have gone.
  std::atomic<std::uint64_t> dead_processes;
  std::atomic<std::uint32_t> slots_in_use;       // Process slots behind these are free.
  std::atomic<std::uint32_t> pin_chunks_in_use;  // Pin chunks behind these were never claimed.
  std::atomic<std::uint64_t> view_copies;        // Views that were copied because no place for a pin was free.
  std::byte unused2[80 - sizeof(pthread_mutex_t)];
};
// What SegmentHeader::successor says of a segment: the first half of its uuid.
inline std::uint64_t uuid_word(const std::uint8_t (&uuid)[16]) noexcept {
  std::uint64_t word = 0;
  std::memcpy(&word, uuid, sizeof word);
  return word;
}
static_assert(sizeof(SegmentHeader) <= kPageSize);
static_assert(offsetof(SegmentHeader, state) % kCacheLineSize == 0);
static_assert(offsetof(SegmentHeader, registry_mutex) % kCacheLineSize == 0);
static_assert(offsetof(SegmentHeader, registry_mutex) == 576 && sizeof(SegmentHeader) == 704);
#if defined(__x86_64__)
static_assert(offsetof(SegmentHeader, retired) == 616 && offsetof(SegmentHeader, unused2) == 664);
#endif

}  // namespace memstream
