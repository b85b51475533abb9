// A shard: one classic cache with its own lock, table and heap. No operation on a key ever takes two shards' locks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/base/prefetch.h"
#include "core/layout/block.h"
#include "core/layout/geometry.h"
#include "core/layout/hash.h"
#include "core/shard/arena.h"
#include "core/shard/eviction.h"
#include "core/shard/index.h"
#include "core/shard/pin_snapshot.h"
#include "core/shard/pins.h"
#include "core/shard/shard_lock.h"
#include "core/shard/shard_types.h"

namespace memstream {

// One process's handle on a shard; shared by its threads. `now_ms` is always the segment's clock.
class Shard final : private ShardRecovery {
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
  GetResult get(const Key& key, const ReadBuffer& room, const Deadline& deadline, std::uint64_t now_ms) noexcept;
  // The same in one look without a lock, if that ends in a copy or a miss, as it nearly always does. False if not, with
  // kOk for a value that was found and is only too large to be copied there. `got->read` is set with a copy only.
  // `accessed_at_ms()` is the instant of the access for the entry, `now_ms()` the one that an expiry is compared with.
  template <class Noted, class Now>
  bool try_get_fast(const Key& key, const ReadBuffer& room, Noted accessed_at_ms, Now now_ms,
                    GetResult* got) const noexcept;
  // And that look in its steps, which other keys' steps may come between: probe_start() and probe_bucket(), which
  // ask for the lines of the step behind them, and finish_get().
  struct Probe {
    Bucket* bucket = nullptr;
    std::uint64_t seq = 0;
    std::uint32_t cells = 0;
    std::uint32_t version = 0;
    std::uint32_t first_id = 0;  // The first entry whose tag fits, 0 if none.
    Index::InSlots in_slots;     // Those behind it.
  };
  template <bool kAsks>
  bool probe_start(const Key& key, Probe* probe) const noexcept;
  template <LineUse kUse>
  void probe_bucket(const Key& key, Probe* probe) const noexcept;
  template <class Now>
  bool finish_get(const Key& key, Probe* probe, const ReadBuffer& room, std::uint64_t accessed_at_ms, Now now_ms,
                  GetResult* got) const noexcept;

  // kOk or kMiss, and what a scan would report; counts no access. `visit` may be empty.
  Status inspect(const Key& key, const Deadline& deadline, std::uint64_t now_ms,
                 const std::function<void(const ScannedEntry&)>& visit) noexcept;

  // Visits live entries below number `*next`, all of them if that is 0, until `visit` returns false (that entry comes
  // again next time) or a bounded stretch has been looked at. Leaves in `*next` where to go on, 0 when it is done.
  Status scan(std::uint32_t* next, const Deadline& deadline, std::uint64_t now_ms,
              const std::function<bool(const ScannedEntry&)>& visit) noexcept;

  // kBusy: the numbers are filled in as well, but were read while somebody had the lock.
  Status statistics(const Deadline& deadline, ShardStatistics* statistics) noexcept;
  // Maps what is committed of the shard into this process, through `segment`, which is the one it lies in.
  Status prefault(const Deadline& deadline, const Segment& segment) noexcept;

  // ---- writing (core/shard/shard_write.cpp) ----

  Status store(const StoreRequest& request, const Deadline& deadline, std::uint64_t now_ms) noexcept;
  // What store() would come to now: kOk, kExists, kMiss, kConflict, kTooLarge. Spares filling a large block in vain.
  Status may_store(const StoreRequest& request, const Deadline& deadline, std::uint64_t now_ms) noexcept;
  Status remove(const Key& key, const Deadline& deadline, std::uint64_t now_ms) noexcept;
  Status touch(const Key& key, std::uint64_t expires_ms, const Deadline& deadline, std::uint64_t now_ms) noexcept;
  // `initial` null: kMiss if the key is absent.
  struct IncrementRequest {
    Key key;
    std::int64_t delta = 0;
    const std::int64_t* initial = nullptr;
    std::uint64_t expires_ms = 0;
    std::uint32_t redo = 0;  // As in StoreRequest.
  };
  Status increment(const IncrementRequest& request, const Deadline& deadline, std::uint64_t now_ms,
                   std::int64_t* result) noexcept;
  Status clear(const Deadline& deadline) noexcept;

  // For whoever enters a process slot: finishes what its redo record says, if a process that had it before was killed
  // at that. Until kOk has come back nobody may write to the record.
  Status replay_redo(std::uint32_t record, const Deadline& deadline) noexcept;

  // ---- many keys at once (core/shard/shard_batch.cpp) ----

  // How many keys a batch writes in one hold of the lock at most, so that others wait no longer for it than for one
  // large put.
  static constexpr std::size_t kBatchHold = 32;
  // The numbers in a batch of the items that are this shard's: which of `requests`, `keys` and `statuses` are meant.
  using BatchOrder = std::span<const std::uint8_t>;
  // As store() and remove() for each, in this order, in one hold of the lock. REQUIRES: kBatchHold items at most;
  // values below kPinnedCopySize.
  void store_many(const StoreRequest* requests, BatchOrder order, Status* statuses, const Deadline& deadline,
                  std::uint64_t now_ms) noexcept;
  void remove_many(const Key* keys, BatchOrder order, Status* statuses, const Deadline& deadline,
                   std::uint64_t now_ms) noexcept;

  // For a value that a reader found damaged: drops its entry and counts it. kOk if the value is whole now, kMiss if
  // there is none any more, kCorrupt if it was dropped.
  Status drop_damaged(const Key& key, const Deadline& deadline) noexcept;
  // The checksum that the value should have, as StoreRequest::caller_flags has it; 0 where values have none.
  std::uint64_t checksum_for(const Key& key, const std::byte* value, std::uint64_t size_bytes) const noexcept {
    return geometry_.has_checksums() ? checksum_word(value, size_bytes, key.hash) : 0;
  }

  // Asks for the cache line of the lock.
  void prefetch_lock() const noexcept { prefetch_line<LineUse::kWrite>(&header_->write_mutex); }

  // ---- leases: one process of many computes a value (core/shard/shard_lease.cpp) ----

  // kExists if there is an entry, and not the stale one; kHeld if somebody alive has the lease; kFull if there is no
  // place for another lease, or no owner: the token stands then until the key changes, and keeps nobody away.
  Status grant_lease(const LeaseRequest& request, const Deadline& deadline, std::uint64_t now_ms,
                     std::uint64_t* token) noexcept;
  // Ends a lease without a value; kConflict if it is the owner's no more.
  Status release_lease(const Key& key, std::uint64_t owner, std::uint64_t token, const Deadline& deadline) noexcept;
  // Who has the lease of the key, dead or alive; 0: nobody. Takes no lock.
  std::uint64_t lease_holder(const Key& key, std::uint64_t now_ms) const noexcept;
  // The same of the lease `*followed` and of those that take it over; 0: it was ended. `*followed` 0: any of the key.
  std::uint64_t follow_lease(const Key& key, std::uint64_t now_ms, std::uint64_t* followed,
                             bool* is_over) const noexcept;
  // A word that changes with every lease of the shard that ends; loaded before lease_holder(), and waited on after.
  std::atomic<std::uint32_t>& lease_events() const noexcept { return header_->lease_events; }

  // ---- pins: reading and writing in place (core/shard/shard_pins.cpp; pin() in core/shard/shard_lookup.h) ----

  // Lets `pins` hold the block of the key's value: without a lock, unless the value is being written at that moment.
  // kFull if `pins` has no place left; the caller copies then. The instants are those of a get. What is held ends with
  // PinSet::release(), whatever has become of the key.
  template <class Now>
  Status pin(const Key& key, PinSet& pins, const Deadline& deadline, std::uint64_t accessed_at_ms, Now now_ms,
             PinnedBlock* pinned) noexcept;
  // A block for a value, pinned and owned by nobody.
  Status reserve(const Key& key, std::uint64_t value_size, PinSet& pins, const Deadline& deadline, std::uint64_t now_ms,
                 PinnedBlock* reserved) noexcept;
  // Makes a filled reservation the value of its key, as store() would; `request.value` is not used. The pin ends unless
  // the status is kBusy. A reservation whose pin ends before is given up.
  Status commit(const StoreRequest& request, const PinnedBlock& reserved, PinSet& pins, const Deadline& deadline,
                std::uint64_t now_ms) noexcept;
  // Where the block at `position` lies in the segment, as pins have it.
  std::uint64_t offset_of(std::uint32_t position) const noexcept {
    return offset_ + std::uint64_t{position} * kUnitSize;
  }

  // ---- verifying (core/shard/shard_check.cpp) ----

  // Appends a sentence for every invariant that does not hold. Changes nothing. In a large shard that somebody
  // changes between two holds of the lock, three times over, sums and free blocks are left out.
  Status check(const Deadline& deadline, std::vector<std::string>* problems);
  // Rebuilds the shard from its truth and, where values have checksums, drops those that do not fit. Adds to `report`.
  // In one hold of the lock.
  Status repair(const Deadline& deadline, RepairReport* report);

 private:
  struct Checking;
  Status check_in_slices(Checking& checking, const Deadline& deadline);
  // Calls copy() while no writer is at work; on a read-only attach at once.
  template <class Copy>
  Status copy_numbers(const Deadline& deadline, const Copy& copy) noexcept;

  enum class Lookup { kFound, kAbsent, kUnstable };
  enum class CopyOutcome { kCopied, kExpired, kTooSmall, kLarge };
  // To here every access is noted in the entry's line. Beyond, one in 2, from twice, 4, 8 times as many on in 4, 8, 16,
  // adds that number (standard deviation: a tenth); the others keep the instant from lagging by more than kAccessLagMs.
  static constexpr std::uint32_t kExactAccesses = 64;
  static constexpr int kMostDoublings = 4;
  static constexpr std::uint64_t kAccessLagMs = 1000;

  // Reading.
  template <class Consume>
  Lookup lookup(const Key& key, const Consume& consume) const noexcept;
  template <bool kAsks, class Consume>
  Lookup probe_finish(const Key& key, Probe* probe, const Consume& consume) const noexcept;
  template <bool kAsks, class Now>
  bool try_pin(const Key& key, PinSet& pins, std::uint64_t accessed_at_ms, Now now_ms, PinnedBlock* pinned,
               Status* status) noexcept;
  template <class Now>
  [[gnu::cold, gnu::noinline]] Status pin_slow(const Key& key, PinSet& pins, const Deadline& deadline,
                                               std::uint64_t accessed_at_ms, Now now_ms, PinnedBlock* pinned) noexcept;
  template <bool kAsks>
  Lookup find_candidate(const Key& key, Probe* probe, FoundEntry* candidate) const noexcept;
  template <class Consume>
  Status read(const Key& key, const Deadline& deadline, Consume consume) noexcept;
  template <class Consume>
  Lookup read_redo(const Key& key, const Consume& consume) const noexcept;
  // A value that is being overwritten: its block as far as it is the same before and after, and what that becomes.
  struct Overwriting {
    const RedoRecord* record = nullptr;
    CheckedBlock block;
    CheckedBlock becomes;  // With the header and the value of the record.
  };
  bool find_redo(std::uint32_t id, std::uint64_t ref, Overwriting* found) const noexcept;
  template <class Now>
  CopyOutcome copy_out(const FoundEntry& candidate, const ReadBuffer& room, Now now_ms,
                       ReadResult* result) const noexcept;
  void record_access(Entry& entry, std::uint64_t accessed_at_ms) const noexcept;
  void note_miss(const Key& key, const Probe& probe) const noexcept;
  static std::uint64_t note_sampled_access(Entry& entry, std::uint32_t count) noexcept;
  bool describe(std::uint32_t id, std::uint64_t now_ms, std::byte (&key_room)[kMaxKeySize],
                ScannedEntry* scanned) const noexcept;
  // Before W is locked: asks for the lines of a write.
  void prefetch_write(const Key& key) const noexcept;

  // Writing; all with W held.
  enum class Exclusion { kWriters, kEverybody };
  template <class Operation>
  Status write(Exclusion exclusion, const Deadline& deadline, Operation operation) noexcept;
  template <class Operation>
  void write_many(BatchOrder order, Status* statuses, const Deadline& deadline, Operation operation) noexcept;
  FoundEntry find(const Key& key) const;
  FoundEntry find_fresh(const Key& key, std::uint64_t now_ms);
  FoundEntry live_entry(std::uint32_t id) const;
  // Whether the value has the checksum that stands with it, or needs none.
  bool is_whole(const Key& key, const CheckedBlock& block) const noexcept {
    return !geometry_.has_checksums() ||
           checksum_of_word(block.caller_flags()) == checksum_for(key, block.value, block.value_size);
  }
  void remove_damaged(const FoundEntry& found);
  std::uint64_t remove_damaged_values();
  void note_expiry(const FoundEntry& found) noexcept;
  Status admit(const StoreRequest& request, const FoundEntry& found) const noexcept;
  Status check_size(const StoreRequest& request) const noexcept;
  Status store_if_admitted(const StoreRequest& request, std::uint64_t now_ms);
  Status store_value(const StoreRequest& request, const FoundEntry& found, std::uint64_t now_ms);
  Status remove_key(const Key& key, std::uint64_t now_ms);
  CheckedBlock fill(std::uint32_t position, const StoreRequest& request, bool has_extras, std::uint64_t created_ms);
  static void set_extras(BlockHeader& header, const StoreRequest& request) noexcept;
  void publish(std::uint32_t position, const CheckedBlock& block, const StoreRequest& request, const FoundEntry& found,
               std::uint32_t new_id, std::uint64_t now_ms, bool is_pinned = false);
  static std::uint32_t policy_of_write(std::uint32_t old_policy, const StoreRequest& request) noexcept {
    // A write counts as a hit, and does not change the queue.
    return policy_word(request.key.hash.tag()) | (request.expires_ms != 0 ? kExpires : 0) |
           (old_policy & (kSmall | kMain | kYoung)) | std::min((old_policy & kHits) + 1, kHits);
  }
  bool may_overwrite(const StoreRequest& request, const FoundEntry& found, std::uint64_t units) const noexcept;
  bool overwrite(const StoreRequest& request, const FoundEntry& found, std::uint64_t now_ms) noexcept;
  static void apply(const RedoRecord& redo, BlockHeader& header, std::byte* value, std::uint64_t value_size) noexcept;
  void finish_overwrite();
  CheckedBlock checked_block(std::uint32_t position) const {
    CheckedBlock block;
    if (!check_block(backing(), position, &block)) throw CorruptionDetected{"a live entry whose block makes no sense"};
    return block;
  }
  std::uint64_t owning_ref(std::uint32_t position) const noexcept;
  std::uint64_t owning_ref(std::uint32_t id, std::uint32_t position) const noexcept;
  // Whether the shard was rebuilt or emptied since `seq` was loaded.
  bool was_rebuilt_since(std::uint64_t seq) const noexcept {
    return header_->seq.load(std::memory_order_relaxed) != seq;
  }

  // Pins. A retired block is a used block that no entry owns. With W held, but for the first two.
  enum class Pinned { kPinned, kExpired, kNoPlace };
  static void describe_pinned(const FoundEntry& found, PinnedBlock* pinned) noexcept;
  [[gnu::cold]] Status pin_locked(const Key& key, PinSet& pins, const Deadline& deadline, std::uint64_t accessed_at_ms,
                                  std::uint64_t now_ms, PinnedBlock* pinned) noexcept;
  static constexpr std::uint32_t kRetiredChecks = 2;  // Before something else is done about room.
  static constexpr std::uint32_t kEveryRetired = ~std::uint32_t{0};
  bool is_retired(std::uint32_t position) const;
  std::uint32_t next_retired(std::uint32_t position) const;
  void retire_block(std::uint32_t position, std::uint64_t stored_size);
  void link_retired(std::uint32_t position, std::uint32_t next);
  void remove_retired(std::uint32_t position);
  template <class IsHeld>
  void reclaim_retired(std::uint32_t looks, const IsHeld& is_held);
  void free_some_retired();
  void free_retired();

  // Leases; with W held.
  Lease* choose_lease(std::uint64_t now_ms) noexcept;
  bool lease_is_void(const Lease& lease, std::uint64_t now_ms) const noexcept;
  bool lease_stands(const Key& key, std::uint64_t owner, std::uint64_t token) const noexcept;
  void end_lease(Lease& lease) noexcept;
  void end_marked_lease_of(const Key& key) noexcept;
  // Of whomever: whoever writes a key ends its lease, so that nothing older is stored over it.
  void end_lease_of(const Key& key) noexcept;
  void end_all_leases() noexcept;
  std::uint32_t leases_in_use() const noexcept;
  std::uint32_t count_leases() const noexcept;
  void recount_leases() noexcept;

  // What everything else relies on: whether the words that say where table and heap begin and end, and how much memory
  // is committed, can be true. With W held they cannot change after.
  bool bounds_are_valid() const noexcept;
  bool commits_are_valid() const noexcept;
  void require_valid_bounds() const {
    if (!bounds_are_valid() || !commits_are_valid())
      throw CorruptionDetected{"borders of table and heap that cannot be"};
  }

  // Making room (core/shard/shard_reclaim.cpp); with W held.
  std::uint32_t take_entry(std::uint64_t newcomer_bytes, std::uint64_t now_ms);
  std::uint32_t make_entry(std::uint64_t newcomer_bytes, std::uint64_t now_ms);
  std::uint32_t make_room(std::uint64_t units, std::uint64_t now_ms);
  std::uint32_t evict_for(std::uint64_t units, std::uint64_t now_ms);
  struct Window {  // Blocks in [begin, end), each of them evictable().
    std::uint32_t begin = 0;
    std::uint32_t end = 0;
  };
  std::uint32_t evict_coldest(std::uint64_t units, std::uint64_t now_ms);
  static constexpr std::uint32_t kAnyLooks = ~std::uint32_t{0};
  bool find_window(std::uint64_t units, std::uint64_t now_ms, std::uint32_t looks, Window* window);
  std::uint32_t clear_window(const Window& window, std::uint64_t units, std::uint64_t now_ms);
  bool relocate(const FoundEntry& found);
  // The same for a large value, in many holds of W (core/shard/shard_clearing.cpp).
  struct Clearing;
  Status reserve_in_slices(Clearing& clearing, const Deadline& deadline, PinnedBlock* reserved) noexcept;
  Status clear_a_slice(Clearing& clearing, PinnedBlock* reserved);
  Status begin_clearing(Clearing& clearing, PinnedBlock* reserved);
  bool must_commit_more(std::uint64_t units, std::uint64_t now_ms);
  static constexpr std::uint32_t kNoStart = 0;
  static constexpr std::uint32_t kWilderness = 1;  // No block lies there.
  std::uint32_t find_start(std::uint64_t units, std::uint64_t now_ms);
  Status start_at(Clearing& clearing, std::uint32_t position);
  bool clear_next(Clearing& clearing, std::uint32_t position);
  bool empty_block(std::uint32_t position, std::uint64_t now_ms);
  void stop_clearing(Clearing& clearing);
  Status keep_reserved(Clearing& clearing, std::uint32_t position, PinnedBlock* reserved);
  std::uint64_t move_to(std::uint32_t position, const FoundEntry& found, std::uint64_t expires_ms);
  Status give_expiry(const FoundEntry& found, std::uint64_t expires_ms, std::uint64_t now_ms);
  bool make_wilderness(std::uint64_t bytes, std::uint64_t now_ms);
  bool evict_one(std::uint64_t newcomer_bytes, std::uint64_t now_ms);
  std::uint32_t evict(const FoundEntry& found, std::uint64_t now_ms);
  void count_eviction(const FoundEntry& found, std::uint64_t now_ms) noexcept;
  std::uint32_t remove_entry(const FoundEntry& found);
  std::uint64_t drop_entry(const FoundEntry& found);
  void count_out(const CheckedBlock& block) noexcept;
  std::uint32_t release_block(std::uint64_t ref, const CheckedBlock& block);
  bool defer_free_if_pinned(std::uint64_t ref, const CheckedBlock& block);
  bool evictable(std::uint32_t position, const BlockShape& shape) const noexcept;
  bool is_new(std::uint32_t position) const;
  // The table (core/shard/shard_shrink.cpp). Whoever holds a FoundEntry or a free entry must not shrink it.
  void fit_table(const StoreRequest& request) {
    if (index_.cells() <= space().entries) [[likely]]
      return;  // It may be six times too large, and most are not.
    shrink_table_for(request);
  }
  std::uint32_t cells_that_do() const noexcept;
  void shrink_table_for(const StoreRequest& request);
  void move_entries_below(std::uint32_t cells);
  void move_entry(const FoundEntry& found, std::uint32_t to_id);
  bool was_moving(std::uint32_t id, std::uint64_t ref) const noexcept;
  Status no_room(std::uint64_t bytes) const noexcept;
  std::string holders() const;

  // Verifying; with W held.
  bool check_a_slice(Checking& checking);
  bool check_heap(Checking& checking, std::uint32_t* looks) const;
  bool check_free_lists(Checking& checking, std::uint32_t* looks) const;
  bool check_entries(Checking& checking, std::uint32_t* looks) const;
  bool check_buckets(Checking& checking, std::uint32_t* looks) const;
  bool check_free_entries(Checking& checking, std::uint32_t* looks) const;

  // Rebuilding (core/shard/shard_rebuild.cpp); with W held and slow readers shut out.
  void recover() noexcept override;
  void begin_rebuild() noexcept;
  void end_rebuild() noexcept;
  void repair_after_damage() noexcept;
  Status reset_after_corruption(const CorruptionDetected& damage) noexcept;
  void rebuild();
  void rebuild_borders();
  void rebuild_heap();
  struct RebuildBlock;
  struct RebuildGroup;
  std::uint32_t look_ahead(std::uint32_t position, RebuildGroup* group) const;
  void prefetch_chains(const RebuildGroup& group) const noexcept;
  bool rebuild_block(const RebuildBlock& met, bool is_held);
  bool rebuild_entry(const RebuildBlock& met);
  void rebuild_entries();
  void close_free_run(std::uint32_t begin, std::uint32_t end);
  void empty() noexcept;
  void make_blank() noexcept;

  // Another one after every write of the entry, and the same where the value has only moved: each move is a generation.
  static std::uint64_t cas_token(std::uint32_t id, std::uint64_t ref, std::uint32_t moves) noexcept {
    const auto generation = static_cast<std::uint32_t>(ref >> 32);
    return (((generation - moves) & kGenerationMask) | kLiveBit >> 32) ^ id * 0x9e37'79b9'7f4a'7c15ULL;
  }
  static std::uint64_t cas_token(const FoundEntry& found) noexcept {
    return cas_token(found.id, found.ref, found.block.moves());
  }
  ShardSpace& space() const noexcept { return header_->space; }
  const Backing& backing() const noexcept { return arena_.backing(); }
  // Whether all of a block has it. Of one that is no larger than a stretch that is known.
  bool has_memory_for(const FoundEntry& found) const noexcept {
    const std::uint64_t size = found.block.stored_size;
    return size <= Backing::kStretchSize || backing().reaches(found.position(), size);
  }
  std::byte* base() const noexcept { return reinterpret_cast<std::byte*>(header_); }

  PinSnapshot pin_snapshot() const noexcept { return {pins_.places(), geometry_.process_slots, offset_, size_}; }

  ShardHeader* header_;
  std::uint32_t number_;  // Of the shard in the segment.
  std::uint64_t offset_;  // Of the shard in the segment, bytes.
  std::uint64_t size_;    // Of the shard, bytes.
  std::uint64_t hash_seed_;
  bool read_only_;
  Geometry geometry_;
  RedoRecord* redo_records_;
  PinTable pins_;
  Arena arena_;
  Index index_;
  Eviction eviction_;
  ShardLock lock_;
};

}  // namespace memstream
