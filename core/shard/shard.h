// A shard: one classic cache with its own lock, table and heap. No operation on a key ever takes two shards' locks.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/base/prefetch.h"
#include "core/layout/block.h"
#include "core/layout/geometry.h"
#include "core/shard/cas_token.h"
#include "core/shard/metrics.h"
#include "core/shard/moving.h"
#include "core/shard/op_context.h"
#include "core/shard/reclaimer.h"
#include "core/shard/shard_lock.h"
#include "core/shard/shard_parts.h"
#include "core/shard/shard_rebuilder.h"
#include "core/shard/shard_types.h"
#include "core/shard/table_shrinker.h"
#include "core/shard/write_lock.h"

namespace memstream {

// One process's handle on a shard; shared by its threads. All instants are ms on the segment's clock.
class Shard final {
 public:
  // How a get reads values from here on: pinned, and copied outside every lock.
  static constexpr std::uint64_t kPinnedCopySize = ReadBuffer::kLarge;

  // With a read-only segment only get, scan and statistics may be called.
  // May throw std::bad_alloc.
  Shard(Segment* segment, const Geometry& geometry, std::uint32_t index, std::uint64_t hash_seed);
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  // Lays out a blank shard. `is_committed`: the whole of it, so that it never asks the system for memory.
  // REQUIRES: its first two pages are committed and zero.
  Status initialize(bool is_committed) noexcept;

  // ---- reading (core/shard/shard_lookup.h and core/shard/shard_read.cpp) ----

  // Copies the value. kTooSmall if it exceeds the room; `read.value_size` is set then too. With `room.leaves_large` a
  // value of `room.copy_below` and more is not copied; kOk comes back for it, and its size tells.
  GetResult get(const Key& key, const ReadBuffer& room, const OpContext& context) noexcept;
  // What one look without a lock came to. kAnswered: a copy or a miss, as nearly always. kLarge: the value was found,
  // and is only too large to be copied there. kUnsettled: get() has to answer.
  enum class FastGet { kAnswered, kLarge, kUnsettled };
  // That look. `*got` counts with kAnswered only, `got->read` with a copy only. `accessed_at_ms()` is the instant of
  // the access for the entry, `now_ms()` the one that an expiry is compared with.
  template <class Noted, class Now>
  FastGet try_get_fast(const Key& key, const ReadBuffer& room, Noted accessed_at_ms, Now now_ms,
                       GetResult* got) const noexcept;
  // The same in fewer instructions, for a process with one thread that is not read-only (core/shard/quick_get.h). It
  // answers for most gets of small values. With kNone it may have written to the room, and try_get_fast() has to
  // answer. With a hit `*entry` is what note_access() is to be called for. `read` is set with a hit only, all of it if
  // kWantsAll, else the size.
  enum class QuickAnswer { kHit, kMiss, kNone };
  template <bool kWantsAll>
  QuickAnswer get_quickly(const Key& key, std::byte* room, const std::size_t* room_bytes, ReadResult* read,
                          Entry** entry) const noexcept;
  // Returns whether this access is one of the few that note_hot() is to be called for.
  static bool note_access(Entry& entry, std::uint64_t accessed_at_ms) noexcept;
  [[gnu::cold]] void note_hot_entry(const Entry& entry) const noexcept;
  // The same look in steps, so that the steps of other keys can come between: probe_start() and probe_bucket(), which
  // prefetch the lines of the next step, and finish_get().
  struct Probe {
    Bucket* bucket = nullptr;
    std::uint64_t seq = 0;
    std::uint32_t cells = 0;
    std::uint32_t version = 0;
    EntryId first_id;         // The first entry whose tag fits, 0 if none.
    Index::InSlots in_slots;  // Those behind it.
  };
  template <bool kAsks>
  bool probe_start(const Key& key, Probe* probe) const noexcept;
  template <LineUse kUse>
  void probe_bucket(const Key& key, Probe* probe) const noexcept;
  template <class Now>
  FastGet finish_get(const Key& key, Probe* probe, const ReadBuffer& room, std::uint64_t accessed_at_ms, Now now_ms,
                     GetResult* got) const noexcept;

  // kOk or kMiss, and what a scan would report; counts no access. `visit` may be empty.
  Status inspect(const Key& key, const OpContext& context,
                 const std::function<void(const ScannedEntry&)>& visit) noexcept;

  // Visits live entries below number `*next`, all of them if that is 0, until `visit` returns false (that entry comes
  // again next time) or a bounded stretch has been looked at. Leaves in `*next` where to go on, 0 when it is done.
  Status scan(std::uint32_t* next, const OpContext& context,
              const std::function<bool(const ScannedEntry&)>& visit) noexcept;

  // The entry of that number, if it is live and has a hash of which `is_meant(hash)` is true.
  Status inspect_entry(EntryId id, const OpContext& context, const std::function<bool(std::uint32_t hash)>& is_meant,
                       const std::function<void(const ScannedEntry&)>& visit) noexcept;
  // A number for what stands under a key (core/shard/shard_stamp.cpp). If two calls give the same one, and it is not
  // kUnsettledStamp, then every get of the key between them finds the same value, or none.
  static constexpr std::uint64_t kUnsettledStamp = 0;
  Status stamp(const Key& key, const OpContext& context, std::uint64_t* stamp) noexcept;
  // About how many entries are live. Takes no lock.
  std::uint64_t about_entries() const noexcept {
    return std::uint64_t{header_->cells.load(std::memory_order_relaxed)} * kEntriesPerCell;
  }

  // kBusy: the numbers are filled in as well, but were read while another thread had the lock.
  Status statistics(const Deadline& deadline, ShardStatistics* statistics) noexcept;
  // Maps what is committed of the shard into this process, through `segment`, which is the one it lies in.
  Status prefault(const Deadline& deadline, const Segment& segment) noexcept;

  // ---- writing (core/shard/shard_write.cpp) ----

  Status store(const StoreRequest& request, const OpContext& context) noexcept;
  // A put without expiry and flags in fewer instructions, above all where it overwrites a value of about the same size
  // (core/shard/quick_put.h). False if nothing was done, and store() has to do it. `redo` is as StoreRequest has it,
  // and not 0. REQUIRES: at most kRedoValueSize bytes, and 1 at least.
  bool put_quickly(const Key& key, const std::byte* value, std::uint64_t value_size, std::uint32_t redo,
                   std::uint64_t now_ms, Status* status) noexcept;
  // What store() would return now: kOk, kExists, kMiss, kConflict, kTooLarge. Avoids filling a large block for nothing.
  Status may_store(const StoreRequest& request, const OpContext& context) noexcept;
  Status remove(const Key& key, const OpContext& context) noexcept;
  // The same, and whether the entry was read since it was stored (core/shard/shard_near.cpp).
  Status remove_copy(const Key& key, const OpContext& context, bool* was_read) noexcept;
  Status touch(const Key& key, std::uint64_t expires_ms, const OpContext& context) noexcept;
  // The same if the entry is still the one of that token: kConflict if it is another.
  Status renew(const Key& key, std::uint64_t cas, std::uint64_t expires_ms, const OpContext& context) noexcept;
  Status increment(const IncrementRequest& request, const OpContext& context, std::int64_t* result) noexcept;
  Status clear(const Deadline& deadline) noexcept;

  // For a process that enters a slot: carries out the slot's redo record, if the process that had it before was killed
  // while it did that. The caller must not write to the record before kOk has come back.
  Status replay_redo(std::uint32_t record, const Deadline& deadline) noexcept;

  // ---- many keys at once (core/shard/shard_batch.cpp) ----

  // How many keys a batch writes in one hold of the lock at most, so that others wait no longer for it than for one
  // large put.
  static constexpr std::size_t kBatchHold = 32;
  // The numbers in a batch of the items that are this shard's: which of `requests`, `keys` and `statuses` are meant.
  using BatchOrder = std::span<const std::uint8_t>;
  // As store() and remove() for each, in this order, in one hold of the lock. REQUIRES: kBatchHold items at most;
  // values below kPinnedCopySize.
  void store_many(const StoreRequest* requests, BatchOrder order, Status* statuses, const OpContext& context) noexcept;
  void remove_many(const Key* keys, BatchOrder order, Status* statuses, const OpContext& context) noexcept;

  // For a value that a reader found damaged: drops its entry and counts it. kOk if the value is whole now, kMiss if
  // there is none any more, kCorrupt if it was dropped.
  Status drop_damaged(const Key& key, const Deadline& deadline) noexcept;
  // Prefetches the cache line of the lock.
  void prefetch_lock() const noexcept { prefetch_line<LineUse::kWrite>(&header_->write_mutex); }

  // ---- leases: one process of many computes a value (core/shard/shard_lease.cpp) ----

  // LeaseTable::grant(), and kExists if there is an entry that the request does not call stale.
  Status grant_lease(const LeaseRequest& request, const OpContext& context, std::uint64_t* token) noexcept;
  // LeaseTable::release().
  Status release_lease(const Key& key, std::uint64_t owner, std::uint64_t token, const Deadline& deadline) noexcept;
  // Frees what processes held that are dead: leases, the lock, blocks that only pins kept. Adds to `report`.
  Status reap(const Deadline& deadline, const std::function<bool(std::uint64_t owner)>& is_alive,
              ReapReport* report) noexcept;
  // For what needs no lock.
  const LeaseTable& leases() const noexcept { return leases_; }
  const WaitTable& waits() const noexcept { return waits_; }
  // Takes W and lets it go: what happened before is seen by all that lock it later, and the other way round.
  Status pass_write_lock(const Deadline& deadline) noexcept;
  // Repairs the shard if the last holder of W was killed. Does not wait for a holder that is alive.
  void mend_after_death(const Deadline& deadline) noexcept;

  // ---- pins: reading and writing in place (core/shard/shard_pins.cpp; pin() in core/shard/shard_lookup.h) ----

  // Lets `pins` hold the block of the key's value: without a lock, unless the value is being written at that moment.
  // kFull if `pins` has no place left; the caller copies then. The instants are those of a get. PinSet::release() ends
  // the pin, also when the key has gone meanwhile.
  template <class Now>
  Status pin(const Key& key, PinSet& pins, const Deadline& deadline, std::uint64_t accessed_at_ms, Now now_ms,
             PinnedBlock* pinned) noexcept;
  // A block for a value, pinned and owned by nobody. `has_tags`: with room for them.
  Status reserve(const Key& key, std::uint64_t value_size, PinSet& pins, const OpContext& context,
                 PinnedBlock* reserved, bool has_tags = false) noexcept;
  // Makes a filled reservation the value of its key, as store() would; `request.value` is not used. The pin ends unless
  // the status is kBusy. A reservation whose pin ends before is given up.
  Status commit_reservation(const StoreRequest& request, const PinnedBlock& reserved, PinSet& pins,
                            const OpContext& context) noexcept;
  // Where the block at `position` lies in the segment, as pins have it.
  std::uint64_t offset_of(BlockPosition position) const noexcept {
    return offset_ + std::uint64_t{position} * kUnitSize;
  }

  // ---- moving to a successor (core/shard/shard_move.cpp) ----

  // Repairs damage, then takes W for the functions that follow, and keeps it. No operation of this process may be
  // called on the shard meanwhile.
  Status hold(const Deadline& deadline) noexcept;
  // `superseded`: nobody gets the lock again.
  void let_go(bool superseded) noexcept;
  // REQUIRES of these three: hold(). They may throw std::bad_alloc, and then have taken nothing.
  //
  // Adds a number for each live entry: the entry, and how hot it is. `*next` as for scan(), 0 at the beginning and end.
  void rank(std::uint32_t* next, std::vector<RankedEntry>* ranked) const;
  // Copies the entry if it is live and not what `taken` says of it. And all such entries from `*next` on, until the
  // batch has enough or some thousand entries were looked at. `*next` is 0 at the end.
  void take(EntryId id, TakenEntries& taken, MovingBatch* batch) const;
  void take_changed(std::uint32_t* next, TakenEntries& taken, MovingBatch* batch) const;
  // The key of an entry with that hash; empty if there is none. For a shard that nobody else has.
  std::string find_hash(KeyHash hash, const Deadline& deadline);
  // Whether there is an entry that moves: one without tags. REQUIRES: hold().
  bool has_key(const Key& key) const noexcept;
  // Stores a copy, with all that was known of the entry.
  Status put_moved(const Key& key, const MovingEntry& entry, const std::byte* value, const Deadline& deadline) noexcept;

  // ---- verifying (core/shard/shard_checker.h and core/shard/shard_repair.cpp) ----

  // ShardChecker::check().
  Status check(const Deadline& deadline, std::vector<std::string>* problems);
  // Rebuilds the shard from authoritative state. Drops values that do not match their checksum. Adds to `report`.
  // In one hold of the lock.
  Status repair(const Deadline& deadline, RepairReport* report);

 private:
  // Calls copy() while no writer is in the shard; on a read-only attach immediately.
  template <class Copy>
  Status copy_numbers(const Deadline& deadline, const Copy& copy) noexcept;

  enum class Lookup { kFound, kAbsent, kUnstable };
  enum class CopyOutcome { kCopied, kExpired, kTooSmall, kLarge };

  // Reading.
  template <class Consume>
  Lookup lookup(const Key& key, const Consume& consume) const noexcept;
  template <bool kAsks, class Consume>
  Lookup probe_finish(const Key& key, Probe* probe, const Consume& consume) const noexcept;
  // What one look for a pin came to. kUnsettled: the shard kept changing, or must be asked for memory.
  enum class FastPin { kPinned, kMiss, kNoPlace, kUnsettled };
  static Status status_of(FastPin outcome) noexcept;
  template <bool kAsks, class Now>
  FastPin try_pin(const Key& key, PinSet& pins, std::uint64_t accessed_at_ms, Now now_ms, PinnedBlock* pinned) noexcept;
  template <class Now>
  [[gnu::cold, gnu::noinline]] Status pin_slow(const Key& key, PinSet& pins, const Deadline& deadline,
                                               std::uint64_t accessed_at_ms, Now now_ms, PinnedBlock* pinned) noexcept;
  template <bool kAsks>
  Lookup find_candidate(const Key& key, Probe* probe, FoundEntry* candidate) const noexcept;
  std::uint64_t stamp_of_index(const Key& key) const noexcept;
  template <class Consume>
  Status read(const Key& key, const Deadline& deadline, Consume consume) noexcept;
  template <class Consume>
  Lookup read_redo(const Key& key, const Consume& consume) const noexcept;
  // Whether copy_out() compares tags: without that all entries that have some count as expired, and the next way asks.
  enum class Tags { kLeft, kCompared };
  template <Tags kTags, class Now>
  CopyOutcome copy_out(const FoundEntry& candidate, const ReadBuffer& room, Now now_ms,
                       ReadResult* result) const noexcept;
  void record_access(Entry& entry, std::uint64_t accessed_at_ms) const noexcept;
  void note_miss(const Key& key, Bucket& bucket) const noexcept;
  void remember(const Probe& probe) const noexcept;
  static std::uint32_t quick_bucket(std::uint32_t bits, std::uint64_t table) noexcept;
  static Entry* find_in_chain(ShardHeader* shard, const Bucket& bucket, std::uint32_t hash,
                              std::uint32_t cells) noexcept;
  static bool note_often_read(Entry& entry, std::uint64_t accessed_at_ms) noexcept;
  bool describe(EntryId id, std::uint64_t now_ms, std::byte (&key_room)[kMaxKeySize],
                ScannedEntry* scanned) const noexcept;
  // Prefetches the lines of a write before W is locked. Leaves in `probe` what it saw, without a bucket if it saw none.
  void prefetch_write(const Key& key, Probe* probe) const noexcept;
  Probe probe_of(const Key& key) const noexcept;

  // Writing; all with W held.
  enum class Exclusion { kWriters, kEverybody };
  template <class Operation>
  Status write(Exclusion exclusion, const Deadline& deadline, Operation operation) noexcept;
  template <class Operation, class Again>
  Status write(Exclusion exclusion, const Deadline& deadline, Operation operation, Again again) noexcept;
  template <class Operation>
  void write_many(BatchOrder order, Status* statuses, const Deadline& deadline, Operation operation) noexcept;
  FoundEntry find_fresh(const Key& key, std::uint64_t now_ms) MEMSTREAM_NEEDS_W;
  bool stands(const Probe& probe) const noexcept;
  bool find_first(const Key& key, const Probe& probe, FoundEntry* found) const noexcept;
  FoundEntry find_probed(const Key& key, const Probe& probe) const MEMSTREAM_NEEDS_W;
  FoundEntry find_fresh_probed(const Key& key, const Probe& probe, std::uint64_t now_ms) MEMSTREAM_NEEDS_W;
  [[gnu::cold]] void remove_expired(const FoundEntry& found) MEMSTREAM_NEEDS_W;
  void remove_damaged(const FoundEntry& found) MEMSTREAM_NEEDS_W;
  Status set_expiry(const Key& key, const FoundEntry& found, std::uint64_t expires_ms,
                    std::uint64_t now_ms) MEMSTREAM_NEEDS_W;
  std::uint64_t remove_damaged_values() MEMSTREAM_NEEDS_W;
  Status check_mode(const StoreRequest& request, const FoundEntry& found) const noexcept MEMSTREAM_NEEDS_W;
  [[gnu::cold]] bool is_fill_valid(KeyHash hash, std::uint64_t token) const noexcept MEMSTREAM_NEEDS_W;
  Status check_size(const StoreRequest& request) const noexcept {
    return request.value_size <= surely_fits_ ? Status::kOk : check_large_size(request);
  }
  [[gnu::cold]] Status check_large_size(const StoreRequest& request) const noexcept;
  Status store_if_allowed(const StoreRequest& request, const Probe& probe, std::uint64_t now_ms) MEMSTREAM_NEEDS_W;
  [[gnu::noinline]] Status store_one(const StoreRequest& request, std::uint64_t now_ms) MEMSTREAM_NEEDS_W;
  [[gnu::noinline]] Status store_otherwise(const StoreRequest& request, const Probe& probe,
                                           std::uint64_t now_ms) MEMSTREAM_NEEDS_W;
  Status store_value(const StoreRequest& request, const FoundEntry& found, std::uint64_t now_ms) MEMSTREAM_NEEDS_W;
  [[gnu::noinline]] Status store_in_new_block(const StoreRequest& request, const FoundEntry& found,
                                              std::uint64_t now_ms) MEMSTREAM_NEEDS_W;
  Status store_in_new_block_inline(const StoreRequest& request, const FoundEntry& found,
                                   std::uint64_t now_ms) MEMSTREAM_NEEDS_W;
  Status remove_key(const Key& key, const Probe& probe, std::uint64_t now_ms) MEMSTREAM_NEEDS_W;
  void publish(BlockPosition position, const CheckedBlock& block, const StoreRequest& request, const FoundEntry& found,
               EntryId new_id, std::uint64_t now_ms, bool is_pinned) MEMSTREAM_NEEDS_W;
  void publish_inline(BlockPosition position, const CheckedBlock& block, const StoreRequest& request,
                      const FoundEntry& found, EntryId new_id, std::uint64_t now_ms, bool is_pinned) MEMSTREAM_NEEDS_W;
  static bool may_overwrite(const StoreRequest& request, const FoundEntry& found) noexcept;
  bool overwrite(const StoreRequest& request, const FoundEntry& found, std::uint64_t now_ms) noexcept MEMSTREAM_NEEDS_W;
  bool overwrite_quickly(const Key& key, std::uint64_t value_size, std::uint32_t redo_number, RedoRecord& redo,
                         EntryId id, std::uint64_t now_ms) noexcept MEMSTREAM_NEEDS_W;
  // The table as QuickShard has it, where that is another one than quick_ knows. 0 if it cannot be told.
  [[gnu::noinline]] std::uint64_t learn_table() const noexcept;
  // What a put does once the shard is its own, readers are shut out and overwrite_quickly() has done nothing. `id`: the
  // entry that seemed to have the key, 0 if none did. `cells`, `bucket`: how many there were, and the one of the key.
  [[gnu::noinline]] Status store_held(const StoreRequest& request, Bucket& bucket, std::uint32_t cells, EntryId id,
                                      std::uint64_t now_ms) noexcept MEMSTREAM_NEEDS_W;

  // Pins.
  enum class Pinned { kPinned, kExpired, kNoPlace };
  static void describe_pinned(const FoundEntry& found, PinnedBlock* pinned) noexcept;
  [[gnu::cold]] Status pin_locked(const Key& key, PinSet& pins, std::uint64_t accessed_at_ms, const OpContext& context,
                                  PinnedBlock* pinned) noexcept;

  ShardParts parts() noexcept;
  ShardSpace& space() const noexcept { return header_->space; }
  const Backing& backing() const noexcept { return arena_.backing(); }
  // Whether all of a block has memory. A block no larger than a stretch is known to have it.
  bool has_memory_for(const FoundEntry& found) const noexcept {
    const std::uint64_t size = found.block.stored_size;
    return size <= Backing::kStretchSize || backing().reaches(found.position(), size);
  }
  std::byte* base() const noexcept { return reinterpret_cast<std::byte*>(header_); }

  ShardHeader* header_;
  // What get_quickly() knows of the shard, from a look-up that came to its end. Any thread may read and write it at any
  // time. The two words need not be of one moment: each says something that was true when it was stored, and stays
  // useful as long as the shard says the same.
  struct QuickShard {
    // As many cells as there were, all with memory, and above them Index::bits_for() these. With no cells a get reads
    // no more than the first bucket, which lies in the two pages that a shard has from the start.
    std::atomic<std::uint64_t> table{0};
    std::atomic<std::uint64_t> seq{1};  // As it was before and after.
  };
  mutable QuickShard quick_;
  std::uint32_t number_;  // Of the shard in the segment.
  std::uint64_t offset_;  // Of the shard in the segment, bytes.
  std::uint64_t size_;    // Of the shard, bytes.
  std::uint64_t hash_seed_;
  bool read_only_;
  Geometry geometry_;
  SegmentMetrics& segment_metrics_;
  ShardMetrics& metrics_;
  std::uint64_t surely_fits_;  // The largest value that fits with any key.
  WaitTable waits_;
  PinTable pins_;
  TagTable tags_;
  Arena arena_;
  Index index_;
  Eviction eviction_;
  ShardContents contents_;
  LeaseTable leases_;
  RetiredBlocks retired_;
  RedoLog redo_;
  Reclaimer reclaimer_;
  ShardRebuilder rebuilder_;
  TableShrinker table_shrinker_;
  ShardLock lock_;
};

}  // namespace memstream
