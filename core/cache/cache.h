// An open cache: a segment, its shards, and this process's place in it. One class in front of the whole engine.
#pragma once

#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/clock.h"
#include "core/base/fork_guard.h"
#include "core/base/local_counter.h"
#include "core/base/process_private.h"
#include "core/base/segment.h"
#include "core/base/thread_places.h"
#include "core/cache/access_clock.h"
#include "core/cache/access_trace.h"
#include "core/cache/batch_work.h"
#include "core/cache/format.h"
#include "core/cache/limit_table.h"
#include "core/cache/metrics_sum.h"
#include "core/cache/operation_scope.h"
#include "core/cache/processes.h"
#include "core/cache/reuse_sample.h"
#include "core/cache/watch_state.h"
#include "core/shard/shard.h"

namespace memstream {

// Everything about the segment at one moment; sums over its shards.
struct CacheStatistics {
  ShardStatistics shards{};
  std::uint64_t max_memory = 0;
  std::uint64_t max_value_size = 0;
  std::uint64_t shard_count = 0;
  std::uint64_t processes = 0;
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;
  std::uint64_t puts = 0;
  std::uint64_t dead_processes = 0;
  std::uint64_t view_copies = 0;
  std::uint64_t reachable_memory = 0;
  std::uint64_t busy_shards = 0;
  std::uint64_t created_unix_ms = 0;
  std::uint64_t now_unix_ms = 0;
};

struct ProcessInfo {
  std::uint32_t pid = 0;
  std::uint32_t pins = 0;
  std::uint64_t start_time = 0;
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;
  std::uint64_t puts = 0;
};

// What is in use at one moment.
struct CacheUsage {
  std::uint64_t rates = 0;  // Keys that have used up a part of their rate.
  std::uint64_t rate_places = 0;
  std::uint64_t semaphores = 0;  // Names of several permits, and of one permit, that living processes hold.
  std::uint64_t locks = 0;
  std::uint64_t permits = 0;
  std::uint64_t holders = 0;  // One for each name that a handle holds.
  std::uint64_t holder_places = 0;
  std::array<std::uint64_t, kWaitingKinds> waiters{};  // Threads of living processes, by Waiting.
};

// A lock that a thread holds at one moment.
struct LockHolder {
  enum class Kind : std::uint32_t { kWrite = 1, kRead = 2, kProcessTable = 3 };
  Kind kind = Kind::kWrite;
  std::uint32_t shard = 0;    // 0 for kProcessTable.
  std::uint32_t process = 0;  // 0: not known.
  std::uint32_t thread = 0;
};

// Whether a function is called by the only thread of a process.
enum class Threads { kOne, kMany };

// A block that this process holds, and the shard that it lies in.
struct PinnedValue : PinnedBlock {
  std::uint32_t shard = 0;
};

// What moving to a successor came to.
struct MoveReport {
  std::uint64_t copies = 0;      // Entries that were copied, some of them more than once.
  std::uint64_t passes = 0;      // Looks at what had changed meanwhile.
  std::uint64_t stopped_ns = 0;  // For how long writers were stopped at the end.
};

// The caller's memory for the values of a batch: filled from its start, at multiples of 16 bytes.
struct BatchBuffer {
  std::byte* data = nullptr;
  std::uint64_t size_bytes = 0;
  std::uint64_t used_bytes = 0;
  std::uint64_t needed_bytes = 0;  // By all values so far, whether they fitted or not.
};

// What a successor has from the near table of the segment before: the servers, by the same numbers. All else begins
// again, with epochs that nothing of the old segment has. REQUIRES: all shards of the old segment are held.
void move_near_table(const NearTable& from, NearTable& to) noexcept;
bool has_near_names(const NearTable& table) noexcept;

// Safe from all threads of a process, and after fork() in the child. If a signal handler forks in the middle of an
// operation, the caller has to abandon() the cache in the child; get() does so itself. Keys are 1 to kMaxKeySize bytes.
// Times to live are ms, 0 is for ever; instants in results are ms on the segment's clock, to_unix_ms() translates.
// Every function may return kGone and, unless it only reads without a lock, kBusy at the deadline.
class Cache final : private ForkAware {
 public:
  // Takes a segment that is open and checks it. kProcessTableFull and every status of check_header().
  static Status open(std::unique_ptr<Segment> segment, const std::string& name, std::chrono::milliseconds timeout,
                     std::unique_ptr<Cache>* cache);

  // Leaves the process table; what it still holds is let go.
  ~Cache();

  // core/cache/cache_lookup.h. Of `read`, without `wants_all`, only the size is set.
  GetResult get(std::string_view key, std::byte* buffer, std::uint64_t capacity, bool wants_all = true) noexcept;
  // As Shard::get_quickly(), with the access clock of the calling thread. After kNone call get(); after kHit or kMiss
  // call note_quick_hit() or note_quick_miss(). These are separate, so that no register has to be saved for them.
  template <bool kWantsAll>
  Shard::QuickAnswer get_quickly(AccessClock& clock, std::string_view key, std::byte* buffer,
                                 const std::size_t* capacity, ReadResult* read, Entry** entry) noexcept;
  // Reads the access clock if get_quickly() needs that. Call it before another get_quickly() of the same key.
  void renew_quick(AccessClock& clock) noexcept;
  template <Threads kThreads>
  void note_quick_hit(const AccessClock& clock, Entry& entry) noexcept;
  template <Threads kThreads>
  void note_quick_miss() noexcept;
  // The access clock of the only thread of a process; and that of a thread among others, null if it has none (yet).
  AccessClock& clock_of_only_thread() noexcept { return own_->access_clock; }
  AccessClock* clock_among_threads() noexcept { return own_->access_clocks.own(); }
  AccessClock* claim_clock() noexcept { return own_->access_clocks.claim(); }
  Status exists(std::string_view key) noexcept;
  // Shard::stamp().
  Status stamp(std::string_view key, const Deadline& deadline, std::uint64_t* stamp) noexcept;
  Status inspect(std::string_view key,
                 const std::function<void(std::uint32_t shard, const ScannedEntry&)>& visit) noexcept;

  struct Value {
    const std::byte* data = nullptr;
    std::uint64_t size = 0;
    std::uint64_t ttl_ms = 0;
    std::uint32_t caller_flags = 0;
  };
  // `cas` is the token of the entry for StoreMode::kCas, that of the lease for StoreMode::kLease.
  Status store(std::string_view key, const Value& value, StoreMode mode, std::uint64_t cas) noexcept;
  // The same with tags (core/cache/cache_tags.cpp).
  Status store_tagged(std::string_view key, const Value& value, StoreMode mode, std::uint64_t cas,
                      const TagSet& tags) noexcept;
  // As store() with StoreMode::kSet, without expiry and flags, in fewer instructions (core/cache/cache_put.h). False if
  // store() has to do it. REQUIRES: a value of 1 to kRedoValueSize bytes.
  bool put_quickly(std::string_view key, const std::byte* value, std::uint64_t value_size, Status* status) noexcept;
  Status remove(std::string_view key) noexcept;
  Status touch(std::string_view key, std::uint64_t ttl_ms) noexcept;
  // As get(), and as touch() of the entry that it read. One that has replaced it meanwhile keeps its expiry. kTooSmall
  // changes nothing.
  GetResult get_and_touch(std::string_view key, std::byte* buffer, std::uint64_t capacity,
                          std::uint64_t ttl_ms) noexcept;
  Status increment(std::string_view key, std::int64_t delta, const std::int64_t* initial, std::uint64_t ttl_ms,
                   std::int64_t* result) noexcept;
  Status clear() noexcept;

  // ---- tags: many entries over at a time (core/cache/cache_tags.cpp, docs/decisions/0027) ----

  // Adds a tag, as it is now, to a set for entries that are stored later. kInvalid if the set is full.
  Status add_tag(std::string_view tag, TagSet* tags) noexcept;
  // All entries are over whose tags include this one and were taken before. In constant time, without a lock.
  Status invalidate(std::string_view tag) noexcept;
  // How often that was called, by all processes.
  Status invalidations(std::uint64_t* count) noexcept;

  // ---- many keys in one call (core/cache/cache_read.cpp and core/cache/cache_batch.cpp) ----

  // These functions process the items of `work`, and use its other parts. A caller with more items calls again, with
  // the same deadline. Each item gets a status of its own. The result is the error of one item, which last_error()
  // describes, or kOk if no item failed. kTooSmall does not count as a failure here.
  Status get_many(BatchWork& work, const Deadline& deadline, BatchBuffer* room) noexcept;
  Status store_many(BatchWork& work, const Deadline& deadline) noexcept;
  Status remove_many(BatchWork& work, const Deadline& deadline) noexcept;
  Deadline deadline() const noexcept { return Deadline(timeout_); }

  // ---- leases (core/cache/cache_lease.cpp) ----

  // kOk and `*token`: compute the value, then store() or release_lease(). If there is no place for another lease others
  // may get one too; the first that is stored ends them all. kExists: the key has an entry, and not the one `stale_cas`
  // names. kHeld: another thread or process that is alive computes it.
  Status lease(std::string_view key, std::uint64_t stale_cas, std::uint64_t lease_ms, std::uint64_t* token) noexcept;
  // kOk as soon as nobody alive holds a lease of the key, kHeld after `timeout`.
  Status wait_for_lease(std::string_view key, std::chrono::milliseconds timeout) noexcept;
  // The same for one lease and those that take it over: kOk when it was ended, kMiss when its holder died or its
  // time is over, and nobody has taken it. `*followed` is 0 at first.
  Status follow_lease(std::string_view key, std::uint64_t* followed, std::chrono::milliseconds timeout) noexcept;
  // Its value is stored with StoreMode::kLease: kConflict if the lease has ended.
  Status release_lease(std::string_view key, std::uint64_t token) noexcept;

  // ---- waiting for a change (core/cache/cache_wait.cpp; docs/decisions/0026) ----

  // kOk as soon as the key has an entry whose token is not `cas`; with `cas` 0 as soon as it has one. kMiss: it has
  // none, with `cas` 0 at the deadline. kExists: the token is still `cas` at the deadline.
  Status wait_for_change(std::string_view key, std::uint64_t cas, const Deadline& deadline) noexcept;

  // ---- watching which keys change (core/cache/cache_watch.cpp; docs/decisions/0030) ----

  // From here on read_changes() tells of each change that is begun later. kInvalid if the segment has no room to name
  // keys. These two may throw std::bad_alloc.
  Status begin_watch(WatchState* state);
  // Tells what has changed since, and lets writers know that somebody watches: call it every kWatchSlice. After
  // std::bad_alloc call it again, and look at all keys.
  Status read_changes(WatchState* state, const WatchVisitor& visitor);
  // Returns when there is something to tell, or after kWatchSlice. `is_wanted` is asked once wake_watchers() would end
  // the sleep.
  void sleep_until_change(const WatchState& state, const std::function<bool()>& is_wanted);
  void wake_watchers() noexcept;

  // ---- copies of what a Redis server has (core/cache/cache_near.cpp; docs/decisions/0024) ----

  // All but near_claim() need a master that near_claim() has given this handle, and are kInvalid otherwise.
  //
  // The number of the server of that name. Makes sure that the near table has memory. kInvalid if the segment has no
  // such table, or checksums in the place of epochs; kFull if there are too many servers.
  Status near_claim(std::string_view name, std::uint32_t* master) noexcept;
  // A get of what near_store() stored. kMiss also if its epoch is over; kConflict if nothing can be said of the last
  // `max_lag_ms`, whatever the cache has. With kMiss `read.cas` is the token of an entry whose epoch is over, or 0.
  GetResult near_get(std::uint32_t master, std::string_view key, std::byte* buffer, std::uint64_t capacity,
                     std::uint64_t max_lag_ms) noexcept;
  // Before the server is asked; near_store() then stores its answer, kConflict if the key was invalidated meanwhile.
  Status near_begin(std::uint32_t master, std::string_view key, std::uint64_t* token) noexcept;
  Status near_store(std::uint32_t master, std::string_view key, const Value& value, std::uint64_t token) noexcept;
  // No near_get() that begins later finds what was stored before. If the shard is busy, the epoch is advanced instead.
  Status near_invalidate(std::uint32_t master, std::string_view key) noexcept;
  // The same for all keys of the server.
  Status near_advance(std::uint32_t master) noexcept;
  Status near_note_subscription(std::uint32_t master) noexcept;
  // All that the server's writers did before that instant, on near_now_ms()'s clock, has been carried out here.
  Status near_heard(std::uint32_t master, std::uint64_t instant_ms) noexcept;
  std::uint64_t near_now_ms() const noexcept { return now_ms(); }
  // Takes the role of the server's agent, or keeps it: kOk. kHeld if another process has it, and was active lately.
  Status near_lead(std::uint32_t master) noexcept;
  Status near_yield(std::uint32_t master) noexcept;

  struct NearState {
    std::uint64_t lag_ms = 0;  // The largest value if the server was never heard.
    std::uint64_t invalidations = 0;
    std::uint64_t advances = 0;
    std::uint64_t agent_idle_ms = 0;
    std::uint32_t epoch = 0;
    std::uint32_t agent_pid = 0;  // 0: nobody has the role.
    std::uint32_t subscriptions = 0;
    bool is_claimed = false;
    std::array<char, sizeof(NearLabel) + 1> label{};
  };
  Status near_state(std::uint32_t master, NearState* state) noexcept;
  // The same of any number, for a handle that has claimed none and may be read-only. kMiss: there is nothing.
  Status near_look(std::uint32_t master, NearState* state) noexcept;

  // In the order of NearCounts.
  static constexpr std::size_t kNearCounts = sizeof(NearCounts) / sizeof(std::uint64_t);
  using NearCountValues = std::array<std::uint64_t, kNearCounts>;
  Status near_count(const NearCountValues& more) noexcept;
  // Also read-only. Zeros where there is nothing.
  Status near_counts(NearCountValues* counts) noexcept;
  // For a handle that went over to this segment: what near_claim() gave it in the one before is good here too.
  Status continue_near_table(const Cache& before) noexcept;

  // ---- rate limits and semaphores (core/cache/cache_limits.cpp; docs/decisions/0028) ----

  // All are kInvalid in a segment without such a table.
  //
  // kOk: the request may go on, and is counted. kHeld: not before `*wait_ms`; it is not counted. kFull: too many keys
  // have limits at this moment.
  Status limit(std::string_view key, const Rate& rate, std::uint64_t* wait_ms) noexcept;
  Status reset_limit(std::string_view key) noexcept;
  // Takes one of `permits` permits of a name: kOk and `*permit`, which is not 0; kHeld after `timeout`; kFull if too
  // many processes hold permits.
  Status acquire(std::string_view name, std::uint64_t permits, std::chrono::milliseconds timeout,
                 std::uint64_t* permit) noexcept;
  // kConflict if this process holds none, or `permit` is another's.
  Status give_back(std::string_view name, std::uint64_t permit) noexcept;
  // How many permits of a name living processes hold.
  Status count_held(std::string_view name, std::uint64_t* held) noexcept;
  // All that are in use. Also read-only, and of a segment without such a table. May throw std::bad_alloc.
  Status limits(std::vector<LimitInfo>* limits);

  // ---- what is in use now (core/cache/cache_usage.cpp) ----

  // These take no lock, and work read-only. They may throw std::bad_alloc.
  Status usage(CacheUsage* usage);
  // Shards in their order, then the process table. A hold mostly takes less than a microsecond: what is found twice is
  // worth a look.
  Status lock_holders(std::vector<LockHolder>* holders);
  // The accesses of sampled keys that the cursor has not seen: `*count` of them. Keeps noting on for a second. One key
  // in 2^`*shift` is sampled now. kInvalid in a segment without a ring.
  Status trace(AccessTrace::Cursor* cursor, std::span<TracedAccess> accesses, std::size_t* count,
               std::uint32_t* shift) noexcept;

  // kFull if no more can be held (the caller copies then), kReadOnly on a read-only attach.
  Status pin(std::string_view key, PinnedValue* held) noexcept;
  Status release(const PinnedValue& held) noexcept;
  // Notes that a view was copied because of kFull.
  void count_view_copy() noexcept { header()->view_copies.fetch_add(1, std::memory_order_relaxed); }
  Status reserve(std::string_view key, std::uint64_t value_size, PinnedValue* held) noexcept;
  Status commit(std::string_view key, const PinnedValue& held, const Value& value, StoreMode mode,
                std::uint64_t cas) noexcept;

  // `*cursor` 0 begins and 0 ends. Visits until `visit` returns false (that entry comes again next time) or everything
  // was visited.
  Status scan(std::uint64_t* cursor,
              const std::function<bool(std::uint32_t shard, const ScannedEntry&)>& visit) noexcept;

  // Never kBusy: a shard whose lock others hold for too long is read all the same.
  Status statistics(CacheStatistics* statistics) noexcept;
  // core/cache/cache_metrics.cpp. Sums over all processes and shards; zeros for a segment without metrics. No lock.
  Status metrics(MetricsSum* sum) noexcept;
  // Calls `visit` for entries that are read often, in no order, with a weight that tells how often lately.
  Status hot_entries(
      const std::function<void(std::uint32_t shard, const ScannedEntry&, std::uint64_t weight)>& visit) noexcept;
  // Maps all committed memory of the segment into this process, so that no operation meets a page fault there. Returns
  // what Segment::prefault() returns.
  Status prefault() noexcept;
  // These two may throw std::bad_alloc.
  Status processes(std::vector<ProcessInfo>* processes);
  Status check(std::vector<std::string>* problems);
  Status repair(RepairReport* report);
  // Frees what dead processes held, in all shards.
  Status reap(ReapReport* report);

  // Fills `successor`, a pending segment that nobody else knows, with the entries of this one, the hottest first, and
  // marks this one as superseded by it (core/cache/cache_move.cpp, docs/decisions/0025). kOk if and only if it has done
  // that. kNoMemory, kBusy: this segment is as it was. May throw std::bad_alloc, and has not done it then.
  Status move_to(Segment& successor, MoveReport* report);

  // By the wall clock as it was set up to a quarter of a second ago.
  std::uint64_t to_unix_ms(std::uint64_t segment_ms) const noexcept {
    return created_unix_ms_.load(std::memory_order_relaxed) + segment_ms;
  }
  const AttachedHeader& attached() const noexcept { return attached_; }
  const Segment& segment() const noexcept { return *segment_; }
  bool is_gone() const noexcept {
    return state_.load(std::memory_order_relaxed)->load(std::memory_order_relaxed) !=
           static_cast<std::uint32_t>(HeaderState::kReady);
  }
  // Periodic checks: whether the wall clock was set, and whether the segment still has its name.
  [[gnu::cold]] void look_around() noexcept;
  void look_at_clock() noexcept;
  // Asks the system whether the segment still has its name. If the name was removed (rm, ipcrm), the next process to
  // open it makes a second segment; so this one is gone from here on, for all attached processes.
  [[gnu::cold]] void look_for_name() noexcept;
  bool read_only() const noexcept { return read_only_; }
  // Whether the segment is gone because another one has taken its place.
  bool is_superseded() const noexcept {
    return header_->state.load(std::memory_order_acquire) == static_cast<std::uint32_t>(HeaderState::kSuperseded);
  }
  // How many blocks this process holds by pins: a segment that is gone must stay mapped as long as there are any.
  std::uint32_t pins() const noexcept {
    const ProcessSlot* own = own_->slot.load(std::memory_order_acquire);
    return own != nullptr ? pin_places_.count(*own) : 0;
  }
  // What the owner of several caches calls this one, and wants to be told: that this process looks around.
  class LookListener {
   public:
    virtual void on_look() noexcept = 0;

   protected:
    ~LookListener() = default;
  };
  void set_number(std::uint32_t number) noexcept { number_ = number; }
  std::uint32_t number() const noexcept { return number_; }
  void listen(LookListener* listener) noexcept { listener_.store(listener, std::memory_order_release); }
  // Differs from segment to segment, so that no token of one fits an entry of another.
  std::uint64_t token_salt() const noexcept { return token_salt_; }

  // For a child that a signal handler forked in the middle of an operation. Returning into the operation would use the
  // parent's locks and redo record. So the child never touches the segment again: kGone from here on.
  void abandon() noexcept;
  std::uint64_t shard_offset(std::uint32_t shard) const noexcept { return attached_.geometry.shard_offset(shard); }

 private:
  Cache(std::unique_ptr<Segment> segment, const AttachedHeader& attached, std::chrono::milliseconds timeout);

  class Move;

  void after_fork_in_child() noexcept override;

  SegmentHeader* header() const noexcept { return header_; }
  std::uint64_t now_ms() const noexcept { return monotonic_ms() - attached_.created_monotonic_ms; }
  // The same, and every kNameLookMs a look around: what an operation begins with, or a get that reads the clock.
  std::uint64_t now_and_look() noexcept {
    const std::uint64_t now = now_ms();
    if (now >= next_name_look_ms_.load(std::memory_order_relaxed)) [[unlikely]]
      look_around();
    return now;
  }
  // The instant that a get or a view notes.
  std::uint64_t access_instant() noexcept {
    if (has_one_thread()) [[likely]]
      return access_instant(own_->access_clock);
    AccessClock* const clock = clock_among_threads();
    return clock != nullptr ? access_instant(*clock) : now_and_look();
  }
  std::uint64_t access_instant(AccessClock& clock) noexcept {
    const std::uint64_t instant = clock.now([this] { return now_and_look(); });
    if (!is_inside()) [[unlikely]]
      clock.stop();
    return instant;
  }
  std::uint64_t expiry(std::uint64_t ttl_ms) const noexcept;
  // The first checks of every operation: whether the key is valid, the segment there, and writing allowed.
  static bool is_possible(std::string_view key) noexcept { return !key.empty() && key.size() <= kMaxKeySize; }
  Status usable(std::string_view key) const noexcept {
    if (!is_possible(key) || is_gone()) [[unlikely]]
      return why_unusable(key);
    return Status::kOk;
  }
  Status present() const noexcept { return is_gone() ? why_gone() : Status::kOk; }
  Status writable() noexcept { return is_inside() ? Status::kOk : why_not_writable(); }
  // Whether this process may take locks of the segment.
  Status lockable() noexcept { return is_inside() || read_only_ ? Status::kOk : enter(); }
  [[gnu::cold]] Status why_unusable(std::string_view key) const noexcept;
  [[gnu::cold]] Status why_gone() const noexcept;
  [[gnu::cold]] Status why_not_writable() noexcept;
  Key make_key(std::string_view key) const noexcept { return {key, hash_key(key, hash_seed_)}; }
  Shard& shard_of(const Key& key) noexcept { return *shards_[key.hash.shard(attached_.geometry.shards)]; }
  // A get that the fast look-up left unsettled. `is_large`: only because the value is large.
  [[gnu::cold]] GetResult get_slow(std::string_view key, std::byte* buffer, std::uint64_t capacity,
                                   bool is_large) noexcept;
  [[gnu::cold]] GetResult get_hashed(const Key& key, std::byte* buffer, std::uint64_t capacity,
                                     const OpContext& context) noexcept;
  // A get after the checks of key and segment, and a get of a sampled key.
  GetResult answer(const Key& key, std::byte* buffer, std::uint64_t capacity, bool wants_all) noexcept;
  // Not cold: its time is measured and stands for that of all gets.
  [[gnu::noinline]] GetResult get_sampled(std::string_view key, std::byte* buffer, std::uint64_t capacity,
                                          bool wants_all) noexcept;
  [[gnu::cold]] bool note_get(const Key& key) noexcept;
  // For a trace: what a read of a sampled key came to.
  [[gnu::cold]] void trace_read(const Key& key, Status status, std::uint64_t size) noexcept;
  [[gnu::cold]] void note_hot(const Entry& entry) noexcept;
  [[gnu::cold]] void note_set_time(const Stopwatch& took) noexcept;
  // Counts what ProcessCounters and ShardCounters do not.
  [[gnu::cold]] void note_outcome(Operation operation, Status status) noexcept;
  Status noted(Operation operation, Status status) noexcept {
    note_outcome(operation, status);
    return status;
  }
  // REQUIRES: this process has just entered the slot of that number.
  void claim_metrics(std::uint32_t slot) noexcept;
  // Where this process reads metrics; null if it cannot.
  const std::byte* readable_metrics() const noexcept;
  ReadBuffer room_for(std::byte* buffer, std::uint64_t capacity) const noexcept {
    return {buffer, capacity, ReadBuffer::kLarge, true, !read_only_};
  }
  bool has_checksums() const noexcept { return attached_.geometry.has_checksums(); }
  // What pin() returned as `status`, once the held value has been compared with its checksum: a damaged value is let go
  // and dropped, and a value that came meanwhile is pinned instead.
  [[gnu::noinline]] Status pin_verified(const Key& key, PinSet& pins, const Deadline& deadline, Status status,
                                        PinnedValue* held) noexcept;
  // Drops a value that does not match its checksum. kOk: the value has changed meanwhile, look it up again.
  [[gnu::cold]] Status drop_damaged(const Key& key, const Deadline& deadline) noexcept;
  GetResult get_large(const Key& key, std::byte* buffer, std::uint64_t capacity, const OpContext& context) noexcept;
  // What store() and store_tagged() do. `tags` null: there are none.
  Status store_value(std::string_view key, const Value& value, StoreMode mode, std::uint64_t cas,
                     const TagPairs* tags) noexcept;
  Status store_request(const StoreRequest& request, const OpContext& context) noexcept;
  Status store_hashed(const StoreRequest& request, const OpContext& context) noexcept;
  Status store_large(const StoreRequest& request, const OpContext& context) noexcept;
  // Runs an operation that needs room. If there is none, ends the pins of dead processes and runs it once more.
  template <class Operation>
  Status retry_after_reaping(Operation operation);
  [[gnu::cold]] bool reap_dead_processes();
  // Checks the items of a batch. An invalid key fails its own item; a problem of the segment fails all of them. kOk if
  // no item failed; `*usable` counts the items that did not, and `work.keys` has their hashes.
  Status begin_batch(BatchWork& work, bool writes, std::size_t* usable) noexcept;
  void count_read(Status status) noexcept;
  void count_reads(std::uint64_t hits, std::uint64_t misses) noexcept;
  template <Threads kThreads>
  static void count_quickly(std::atomic<std::uint64_t>& counter) noexcept;
  void count_puts(std::uint64_t puts) noexcept {
    if (ProcessSlot* own = slot(); own != nullptr) [[likely]]
      add_local(own->counters.puts, puts);
  }
  Status grant_lease(std::string_view key, std::uint64_t stale_cas, std::uint64_t lease_ms,
                     std::uint64_t* token) noexcept;

  // This process's slot; entered on first use after a fork. Null when it has none: it works on, uncounted, without pins
  // and leases, and tries again later.
  ProcessSlot* slot() noexcept {
    ProcessSlot* own = own_->slot.load(std::memory_order_acquire);
    if (own != nullptr) [[likely]]
      return own;
    return slot_after_entering();
  }
  bool is_inside() const noexcept { return own_->slot.load(std::memory_order_acquire) != nullptr; }
  // The slot, if it is still this process's own: for what no other process may share.
  ProcessSlot* exclusive_slot() noexcept {
    ProcessSlot* own = own_slot_at_once();
    return own != nullptr ? own : replace_lost_slot();
  }
  // The same without a function call: null if this process has no slot, or may have lost it.
  ProcessSlot* own_slot_at_once() const noexcept {
    const OwnState& state = *own_;
    ProcessSlot* own = state.slot.load(std::memory_order_acquire);
    const bool is_own = own != nullptr && own->generation.load(std::memory_order_relaxed) == state.generation;
    return is_own ? own : nullptr;
  }
  [[gnu::cold]] ProcessSlot* slot_after_entering() noexcept;
  [[gnu::cold]] ProcessSlot* replace_lost_slot() noexcept;
  [[gnu::cold]] Status release_otherwise(const PinnedValue& held) noexcept;
  // The status of a read that no slot counts: an error if this process may not read the segment.
  [[gnu::cold]] Status uncounted(Status read) noexcept;
  // kOk if this process may lock from here on, with or without a slot.
  [[gnu::cold]] Status enter() noexcept;
  // Whether this thread may take the locks of the segment. REQUIRES: as join().
  Status know_thread() noexcept;
  // kOk only with a slot. REQUIRES: membership is kEntering, and this thread has set it.
  Status join(const Deadline& deadline) noexcept;

  // This process's redo record, for one of its threads at a time. A put without it takes a block of its own.
  class RedoClaim {
   public:
    explicit RedoClaim(Cache& cache) noexcept : cache_(cache), record_(cache.claim_redo()) {}
    RedoClaim(const RedoClaim&) = delete;
    RedoClaim& operator=(const RedoClaim&) = delete;
    ~RedoClaim() {
      if (record_ != 0) cache_.own_->redo_taken.store(false, std::memory_order_release);
    }
    // As StoreRequest::redo has it.
    std::uint32_t record() const noexcept { return record_; }

   private:
    Cache& cache_;
    std::uint32_t record_;
  };
  // Counts the calling thread among those that wait, as long as it lives.
  class CountedWaiter {
   public:
    CountedWaiter(Cache& cache, Waiting what) noexcept
        : cache_(cache), slot_(cache.own_slot_at_once()), what_(static_cast<std::uint32_t>(what)) {
      if (slot_ != nullptr) slot_->waiters[what_].fetch_add(1, std::memory_order_relaxed);
    }
    CountedWaiter(const CountedWaiter&) = delete;
    CountedWaiter& operator=(const CountedWaiter&) = delete;
    // A child that a signal handler has forked meanwhile has no slot, and a slot that was lost is another process's.
    ~CountedWaiter() {
      if (slot_ != nullptr && slot_ == cache_.own_slot_at_once()) {
        slot_->waiters[what_].fetch_sub(1, std::memory_order_relaxed);
      }
    }

   private:
    Cache& cache_;
    ProcessSlot* slot_;
    std::uint32_t what_;
  };
  // Sleeps until a lease of the shard ends, for a slice at most. False: the deadline has passed.
  bool wait_for_lease_event(std::atomic<std::uint32_t>& events, std::uint32_t seen, const Deadline& deadline,
                            std::optional<CountedWaiter>* counted) noexcept;

  std::uint32_t claim_redo() noexcept { return exclusive_slot() != nullptr ? claim_redo_of(*own_) : 0; }
  struct OwnState;
  // REQUIRES: there is a slot, which no other process shares.
  static std::uint32_t claim_redo_of(OwnState& own) noexcept {
    const std::uint32_t record = own.redo_record;
    if (record == 0) return 0;
    std::atomic<bool>& taken = own.redo_taken;
    if (!has_one_thread()) return taken.exchange(true, std::memory_order_acquire) ? 0 : record;
    if (taken.load(std::memory_order_relaxed)) return 0;
    taken.store(true, std::memory_order_relaxed);
    return record;
  }
  // REQUIRES: this process has just entered the slot of that number.
  void replay_redo(std::uint32_t record) noexcept;

  // Those of a set, for an entry of this segment.
  const TagPairs& pairs_of(const TagSet& tags) const noexcept {
    return tags.segment == token_salt_ ? tags.pairs : kTagsOfNoSegment;
  }
  static constexpr TagPairs kTagsOfNoSegment{kInvalidTagPair};
  // kOk if a tag may be used here: its size, the segment, and memory for the table.
  Status tags_usable(std::string_view tag) noexcept;
  // What an operation on limits or semaphores asks first. Makes sure that the table has memory.
  Status limit_table(std::string_view key, std::optional<LimitTable>* table) noexcept;
  std::uint64_t limit_now_ns() const noexcept;
  Shard& lock_of_limits(std::uint32_t number) noexcept { return *shards_[number % attached_.geometry.shards]; }
  // What a request that was counted comes to, if the segment is moving: kGone if it has to be counted in the successor.
  Status after_counting(const LimitTable& table) noexcept;
  std::uint32_t holder_process(pid_t thread) const noexcept;
  // Where this process reads limits: none if the segment has none, or nobody has used them.
  std::optional<LimitTable> readable_limits() const noexcept;
  // None if the segment has none that anybody has used.
  Status limits_to_move(std::optional<LimitTable>* table) noexcept;
  bool holds_permits(const LimitTable& table) const noexcept {
    return table.is_any_held([this](std::uint64_t owner) { return process_table_.owner_is_alive(owner); });
  }

  // What an operation on watches asks first.
  Status watchable() noexcept;

  // What an operation on the near table asks first.
  Status near_usable(std::uint32_t master) noexcept;
  void end_copies(NearMaster& master) noexcept;
  // Null: the segment has none, or its memory cannot be had.
  const NearTable* readable_near_table() const noexcept;
  void near_describe(const NearMaster& of, const NearLabel& label, NearState* state) noexcept;
  // Null if the segment has none, or cannot be a near cache.
  Status near_table_to_move(const NearTable** table) noexcept;

  std::unique_ptr<Segment> segment_;
  AttachedHeader attached_;
  HashSeed hash_seed_;
  std::uint64_t token_salt_;
  std::chrono::milliseconds timeout_;
  SegmentHeader* header_;
  // The state word of the header. Where this process must not write to the header, a word that says "destroyed".
  std::atomic<const std::atomic<std::uint32_t>*> state_;
  static constexpr std::uint64_t kNameLookMs = 250;
  std::atomic<std::uint64_t> next_name_look_ms_;
  std::atomic<std::uint64_t> created_unix_ms_;  // When the segment was made, by the wall clock as it is set now.
  bool read_only_;
  std::uint32_t number_ = 0;
  std::atomic<LookListener*> listener_{nullptr};
  std::uint64_t copy_below_;  // With checksums 0: each value is verified on the slow way.
  bool leaves_large_;         // Large values are read through a pin, where pins are possible.
  // In one array, so that a get finds a shard by its number with a shift: the size is a power of two.
  struct alignas(std::bit_ceil(sizeof(std::optional<Shard>))) PlacedShard : std::optional<Shard> {};
  std::vector<PlacedShard> shards_;
  PinPlaces pin_places_;
  ProcessTable process_table_;

  // What this process is to the segment: nothing at first, and nothing again in every copy of its address space.
  enum class Membership : int { kOutside, kEntering, kInside, kGuest };
  struct OwnState {
    std::atomic<ProcessSlot*> slot;  // Null unless `membership` is kInside.
    std::atomic<Membership> membership;
    std::atomic<bool> redo_taken;
    std::atomic<ProcessMetrics*> metrics;  // Null if there is no memory for them, or no slot.
    pid_t pid;                             // Of the process that this is; 0: it has not asked for a slot yet.
    bool is_marked;                        // Counted among those that may lock.
    std::uint32_t redo_record;             // As StoreRequest::redo has it, of the slot.
    std::uint32_t generation;              // Of the slot.
    std::uint64_t retry_ms;                // A guest does not ask for a slot before this time.
    // Good for another call only while there is a slot. A thread that takes the slot away from other threads lets them
    // note a few more gets, which nothing counts.
    AccessClock access_clock;
    ThreadPlaces<AccessClock> access_clocks;  // Of the threads, where there is more than one.
  };
  ProcessPrivate<OwnState> own_;
  OperationMark slow_read_;
  ReuseSample sample_;
  AccessTrace trace_;
  TagTable tags_;
  std::atomic<bool> has_tag_memory_{false};      // Once tags_usable() has made sure of it.
  std::atomic<NearTable*> near_table_{nullptr};  // Once near_claim() has made sure of its memory.
  std::atomic<bool> has_limit_memory_{false};    // Once limit_table() has made sure of it.
  ForkRegistration fork_registration_{this};
};

}  // namespace memstream
