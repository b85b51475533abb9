#include "core/cache/cache.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "core/base/copied_thread.h"
#include "core/cache/cache_lookup.h"

namespace memstream {
namespace {

// An instant too far away to be told from "never", and small enough to be added to.
constexpr std::uint64_t kFarFuture = std::uint64_t{1} << 46;

constexpr std::chrono::milliseconds kNoWait{0};

constexpr std::uint64_t kClockGrainMs = 50;

constexpr std::atomic<std::uint32_t> kDestroyed{static_cast<std::uint32_t>(HeaderState::kDestroyed)};

// How long a process that got no slot works without one before it tries again.
constexpr std::uint64_t kRetryMs = 500;

Operation operation_of(StoreMode mode) noexcept {
  switch (mode) {
    case StoreMode::kSet:
      return Operation::kSet;
    case StoreMode::kAdd:
      return Operation::kAdd;
    case StoreMode::kReplace:
      return Operation::kReplace;
    case StoreMode::kCas:
      return Operation::kCas;
    case StoreMode::kLease:
    case StoreMode::kNear:
      break;
  }
  return Operation::kFulfil;
}

// Stands for the header of a segment that this process must not touch. Its state is blank, so no operation starts.
constinit SegmentHeader abandoned_header{};

}  // namespace

// ---- opening and closing ----

Status Cache::open(std::unique_ptr<Segment> segment, const std::string& name, std::chrono::milliseconds timeout,
                   std::unique_ptr<Cache>* cache) {
  AttachedHeader attached;
  if (const Status status = check_header(*segment, name, &attached); status != Status::kOk) return status;
  auto opened = std::unique_ptr<Cache>(new Cache(std::move(segment), attached, timeout));
  if (!opened->own_) return fail(Status::kNoMemory, fmt::format("Segment '{}': {}", name, last_error()));
  if (!opened->read_only()) {
    opened->own_->membership.store(Membership::kEntering, std::memory_order_relaxed);
    const Status status = opened->join(Deadline(timeout));
    if (status != Status::kOk) return fail(status, fmt::format("Segment '{}': {}", name, last_error()));
    // A process that joins cleans up after those that have ended, as far as it can without waiting.
    static_cast<void>(opened->process_table_.clean_up(Deadline(kNoWait)));
  }
  opened->look_at_clock();
  *cache = std::move(opened);
  return Status::kOk;
}

Cache::Cache(std::unique_ptr<Segment> segment, const AttachedHeader& attached, std::chrono::milliseconds timeout)
    : segment_(std::move(segment)),
      attached_(attached),
      hash_seed_(attached.hash_seed),
      token_salt_(uuid_word(attached.uuid)),
      timeout_(timeout),
      header_(reinterpret_cast<SegmentHeader*>(segment_->data())),
      state_(&header_->state),
      next_name_look_ms_(now_ms() + kNameLookMs),
      created_unix_ms_(attached.created_unix_ms),
      read_only_(segment_->access() == Access::kReadOnly),
      copy_below_(attached.geometry.has_checksums() ? 0 : ReadBuffer::kLarge),
      leaves_large_(!read_only_ || attached.geometry.has_checksums()),
      shards_(attached.geometry.shards),
      pin_places_(segment_.get(), attached.geometry),
      process_table_(header_, reinterpret_cast<ProcessSlot*>(segment_->data() + attached.geometry.process_slots_offset),
                     attached.geometry.process_slots, attached.residence, &pin_places_),
      sample_(*segment_, attached.geometry),
      trace_(*segment_, attached.geometry, attached.created_monotonic_ms),
      tags_(segment_.get(), attached.geometry) {
  for (std::uint32_t index = 0; index < attached.geometry.shards; ++index) {
    shards_[index].emplace(segment_.get(), attached.geometry, index, attached.hash_seed);
  }
}

Cache::~Cache() {
  if (!own_) return;
  // If the deadline passes, the slot stays until another process finds that this one has ended.
  if (is_inside()) static_cast<void>(process_table_.give_back(Deadline(timeout_), own_->slot));
  if (own_->is_marked) process_table_.leave();
}

void Cache::after_fork_in_child() noexcept {
  if (slow_read_.is_set_by_this_thread()) abandon();
}

void Cache::abandon() noexcept {
  segment_->abandon();
  near_table_.store(nullptr, std::memory_order_relaxed);
  header_ = &abandoned_header;
  state_.store(&abandoned_header.state, std::memory_order_relaxed);
}

Status Cache::enter() noexcept {
  if (is_gone()) return why_gone();
  for (;;) {
    Membership membership = own_->membership.load(std::memory_order_acquire);
    if (membership == Membership::kInside) return Status::kOk;
    if (membership == Membership::kGuest && monotonic_ms() < own_->retry_ms) return Status::kOk;
    if (membership == Membership::kEntering) {
      std::this_thread::yield();
      continue;
    }
    if (!own_->membership.compare_exchange_strong(membership, Membership::kEntering, std::memory_order_acq_rel)) {
      continue;
    }
    const Status status = join(Deadline(timeout_));
    return own_->membership.load(std::memory_order_relaxed) == Membership::kOutside ? status : Status::kOk;
  }
}

Status Cache::know_thread() noexcept {
  note_thread_layout();
  if (own_->pid == 0) own_->pid = ::getpid();
  if (own_->pid != ::getpid()) {
    return fail(Status::kOsError,
                "This process shares its memory with another one (vfork(), CLONE_VM). Use the cache in the other one.");
  }
  if (adopt_copied_thread()) return Status::kOk;
  return fail(Status::kOsError,
              "The C library takes this process for its parent, because a bare system call made it. Use fork() or "
              "_Fork().");
}

Status Cache::join(const Deadline& deadline) noexcept {
  const auto become = [this](Membership membership) { own_->membership.store(membership, std::memory_order_release); };
  if (const Status status = know_thread(); status != Status::kOk) {
    become(Membership::kOutside);
    return status;
  }
  try {
    if (!own_->is_marked) {
      const Status status = process_table_.arrive(deadline, &own_->is_marked);
      if (status != Status::kOk) {
        become(Membership::kOutside);
        return is_gone() ? why_gone() : status;  // Destroying takes the semaphores away.
      }
    }
    ProcessSlot* entered = nullptr;
    const Status status = own_->is_marked ? process_table_.claim(deadline, &entered)
                                          : ProcessMarks::explain(ProcessMarks::Outcome::kForbidden);
    if (status == Status::kOk && entered != nullptr) {
      own_->generation = entered->generation.load(std::memory_order_relaxed);
      replay_redo(process_table_.number_of(entered));
      claim_metrics(process_table_.number_of(entered));
      own_->slot.store(entered, std::memory_order_release);
      become(Membership::kInside);
    } else {
      own_->retry_ms = monotonic_ms() + kRetryMs;
      become(Membership::kGuest);
    }
    return status != Status::kOk && is_gone() ? why_gone() : status;
  } catch (...) {
    become(Membership::kOutside);
    return fail(Status::kNoMemory,
                "This process has no memory left to enter the segment. Free some, or raise its limit (ulimit -v).");
  }
}

ProcessSlot* Cache::slot_after_entering() noexcept {
  if (!read_only_) static_cast<void>(enter());
  return own_->slot.load(std::memory_order_acquire);
}

// Only damage, or a hostile process, gives a slot away whose mark is set.
ProcessSlot* Cache::replace_lost_slot() noexcept {
  if (own_->slot.exchange(nullptr, std::memory_order_acq_rel) != nullptr) {
    own_->access_clock.stop();
    own_->membership.store(Membership::kOutside, std::memory_order_release);
  }
  return slot_after_entering();
}

Status Cache::uncounted(Status read) noexcept {
  const Status status = lockable();
  return status == Status::kOk ? read : status;
}

void Cache::replay_redo(std::uint32_t record) noexcept {
  own_->redo_record = 0;  // For a process that has none.
  if (record >= attached_.geometry.redo_records()) return;
  const auto* records =
      reinterpret_cast<const RedoRecord*>(segment_->data() + attached_.geometry.redo_records_offset());
  // Work on earlier shards was finished before the record named this one.
  const std::uint32_t last = records[record].shard.load(std::memory_order_relaxed);
  const bool is_settled =
      last >= shards_.size() || shards_[last]->replay_redo(record, Deadline(timeout_)) == Status::kOk;
  // A busy shard may still need the record: then this process does not use it.
  own_->redo_record = is_settled ? record + 1 : 0;
}

// ---- the first checks of every operation ----

Status Cache::why_unusable(std::string_view key) const noexcept {
  if (is_possible(key)) return why_gone();
  return fail_without_throwing(Status::kBadKey, [&] {
    return fmt::format("Key is {} bytes long; keys must be 1 to {} bytes.", key.size(), kMaxKeySize);
  });
}

Status Cache::why_gone() const noexcept {
  if (header_ == &abandoned_header) {
    return fail(Status::kGone,
                "This process was forked by a signal handler in the middle of a call. Connect again to use the cache.");
  }
  if (is_superseded()) return fail(Status::kGone, "The segment was resized. Connect again to use its successor.");
  return fail(Status::kGone,
              "The segment was destroyed, or its name was removed (rm, ipcrm). Connect again for a new one.");
}

void Cache::look_around() noexcept {
  look_at_clock();
  look_for_name();
  if (LookListener* const listener = listener_.load(std::memory_order_acquire); listener != nullptr) {
    listener->on_look();
  }
}

// The two clocks are not read at the same instant, and each is up to a tick old. A difference of little more than that
// does not mean that the wall clock was set, so it does not move instants.
void Cache::look_at_clock() noexcept {
  const std::uint64_t created = unix_ms() - now_ms();
  const std::uint64_t known = created_unix_ms_.load(std::memory_order_relaxed);
  if (created - known + kClockGrainMs > 2 * kClockGrainMs) created_unix_ms_.store(created, std::memory_order_relaxed);
}

void Cache::look_for_name() noexcept {
  if (header_ == &abandoned_header) return;
  next_name_look_ms_.store(now_ms() + kNameLookMs, std::memory_order_relaxed);
  // A segment that was superseded says so before it loses its name.
  if (is_gone() || segment_->has_name() || is_superseded()) return;
  state_.store(&kDestroyed, std::memory_order_relaxed);
  if (!read_only_) mark_destroyed(segment_->data());
}

Status Cache::why_not_writable() noexcept {
  if (!read_only_) return enter();
  return fail(Status::kReadOnly, "The cache is open for reading only. Open it without the read-only flag to write.");
}

std::uint64_t Cache::expiry(std::uint64_t ttl_ms) const noexcept {
  return ttl_ms == 0 ? 0 : now_ms() + std::min(ttl_ms, kFarFuture);
}

// ---- writing ----

template <class Operation>
Status Cache::retry_after_reaping(Operation operation) {
  const Status status = operation();
  if (status != Status::kFull && status != Status::kNoMemory) [[likely]]
    return status;
  return reap_dead_processes() ? operation() : status;
}

bool Cache::reap_dead_processes() {
  const std::uint64_t dead = header()->dead_processes.load(std::memory_order_relaxed);
  // If the deadline ends it early, the dead processes found so far still count.
  static_cast<void>(process_table_.clean_up(Deadline(timeout_)));
  return header()->dead_processes.load(std::memory_order_relaxed) != dead;
}

// Inline in both, and so without tags to look for in the first.
[[gnu::always_inline]] inline Status Cache::store_value(std::string_view key, const Value& value, StoreMode mode,
                                                        std::uint64_t cas, const TagPairs* tags) noexcept {
  const std::uint64_t now = now_and_look();
  if (const Status status = usable(key); status != Status::kOk) return status;
  if (const Status status = writable(); status != Status::kOk) return status;
  const RedoClaim redo(*this);
  StoreRequest request{.key = make_key(key),
                       .value = value.data,
                       .value_size = value.size,
                       .expires_ms = value.ttl_ms == 0 ? 0 : now + std::min(value.ttl_ms, kFarFuture),
                       .caller_flags = value.caller_flags,
                       .mode = mode,
                       .cas = cas,
                       .lease_owner = mode == StoreMode::kLease ? process_table_.lease_owner_of(slot()) : 0,
                       .redo = redo.record()};
  if (tags != nullptr) {
    request.expires_ms |= kHasTags;
    request.tags = tags;
    request.redo = 0;  // Tags lie behind the value, where a redo record does not reach.
  }
  if (has_checksums()) [[unlikely]]
    request.caller_flags |= checksum_word(value.data, value.size, request.key.hash);
  std::optional<Stopwatch> took;
  const bool is_sampled = sample_.has(request.key.hash);
  if (is_sampled) [[unlikely]]
    if (sample_.may_measure(request.key.hash)) took.emplace();
  const Deadline deadline(timeout_);
  const Status status = store_request(request, {deadline, now});
  if (is_sampled) [[unlikely]] {
    if (took) note_set_time(*took);
    if (status == Status::kOk) trace_.note(request.key.hash, AccessKind::kStore, value.size);
  }
  if (status == Status::kOk) count_puts(1);
  if (status != Status::kOk || mode != StoreMode::kSet) note_outcome(operation_of(mode), status);
  return status;
}

Status Cache::store(std::string_view key, const Value& value, StoreMode mode, std::uint64_t cas) noexcept {
  return store_value(key, value, mode, cas, nullptr);
}

Status Cache::store_tagged(std::string_view key, const Value& value, StoreMode mode, std::uint64_t cas,
                           const TagSet& tags) noexcept {
  return store_value(key, value, mode, cas, &pairs_of(tags));
}

void Cache::note_set_time(const Stopwatch& took) noexcept {
  ProcessMetrics* own = own_->metrics.load(std::memory_order_relaxed);
  if (own != nullptr) count_in(own->set_ns, took.ns());
}

// Most puts end with the first try.
[[gnu::always_inline]] inline Status Cache::store_request(const StoreRequest& request,
                                                          const OpContext& context) noexcept {
  if (request.value_size < Shard::kPinnedCopySize) [[likely]] {
    const Status status = shard_of(request.key).store(request, context);
    if (status != Status::kFull && status != Status::kNoMemory) [[likely]]
      return status;
    if (!reap_dead_processes()) return status;
  }
  return store_hashed(request, context);
}

Status Cache::store_hashed(const StoreRequest& request, const OpContext& context) noexcept {
  return retry_after_reaping([&] {
    return request.value_size >= Shard::kPinnedCopySize ? store_large(request, context)
                                                        : shard_of(request.key).store(request, context);
  });
}

// Fills a reservation outside every lock. When nothing more can be pinned it copies under the lock like a small one.
Status Cache::store_large(const StoreRequest& request, const OpContext& context) noexcept {
  PinSet pins(exclusive_slot(), pin_places_);
  PinnedBlock reserved;
  Shard& shard = shard_of(request.key);
  if (const Status status = shard.may_store(request, context); status != Status::kOk) return status;
  const Status status = shard.reserve(request.key, request.value_size, pins, context, &reserved, request.has_tags());
  if (status == Status::kFull) return shard.store(request, context);
  if (status != Status::kOk) return status;
  copy_to_shared(reserved.value, request.value, request.value_size);
  const Status committed = shard.commit_reservation(request, reserved, pins, context);
  // The value is not stored then, so its room must not stay taken either.
  if (committed == Status::kBusy || committed == Status::kGone)
    pins.release(reserved.pin, shard.offset_of(reserved.position));
  return committed;
}

Status Cache::remove(std::string_view key) noexcept {
  const std::uint64_t now = now_and_look();
  if (const Status status = usable(key); status != Status::kOk) return status;
  if (const Status status = writable(); status != Status::kOk) return status;
  const Key hashed = make_key(key);
  const Status status = shard_of(hashed).remove(hashed, {Deadline(timeout_), now});
  return status == Status::kOk ? status : noted(Operation::kDelete, status);
}

Status Cache::touch(std::string_view key, std::uint64_t ttl_ms) noexcept {
  const std::uint64_t now = now_and_look();
  if (const Status status = usable(key); status != Status::kOk) return status;
  if (const Status status = writable(); status != Status::kOk) return status;
  const Key hashed = make_key(key);
  return noted(Operation::kTouch, retry_after_reaping([&] {
                 return shard_of(hashed).touch(hashed, expiry(ttl_ms), {Deadline(timeout_), now});
               }));
}

GetResult Cache::get_and_touch(std::string_view key, std::byte* buffer, std::uint64_t capacity,
                               std::uint64_t ttl_ms) noexcept {
  if (const Status status = usable(key); status != Status::kOk) return {status, {}};
  if (const Status status = writable(); status != Status::kOk) return {status, {}};
  GetResult got = get(key, buffer, capacity);
  if (got.status != Status::kOk) return got;
  const std::uint64_t now = now_and_look();
  const Key hashed = make_key(key);
  const std::uint64_t expires_ms = expiry(ttl_ms);
  const Status status =
      noted(Operation::kTouch, retry_after_reaping([&] {
              return shard_of(hashed).renew(hashed, got.read.cas, expires_ms, {Deadline(timeout_), now});
            }));
  // An entry that went after it was read, or was replaced, was renewed before that as far as anybody can tell.
  if (status == Status::kMiss || status == Status::kConflict) return got;
  if (status != Status::kOk) return {status, {}};
  got.read.expires_ms = expires_ms;
  return got;
}

Status Cache::increment(std::string_view key, std::int64_t delta, const std::int64_t* initial, std::uint64_t ttl_ms,
                        std::int64_t* result) noexcept {
  const std::uint64_t now = now_and_look();
  if (const Status status = usable(key); status != Status::kOk) return status;
  if (const Status status = writable(); status != Status::kOk) return status;
  const Key hashed = make_key(key);
  const RedoClaim redo(*this);
  const IncrementRequest request{hashed, delta, initial, expiry(ttl_ms), redo.record()};
  const Status status = retry_after_reaping([&] {
    return shard_of(hashed).increment(request, {Deadline(timeout_), now}, result);
  });
  if (status == Status::kOk) count_puts(1);
  return noted(Operation::kIncrement, status);
}

Status Cache::clear() noexcept {
  if (const Status status = present(); status != Status::kOk) return status;
  if (const Status status = writable(); status != Status::kOk) return status;
  for (auto& shard : shards_) {
    if (const Status status = shard->clear(Deadline(timeout_)); status != Status::kOk) return status;
  }
  return Status::kOk;
}

// ---- in place ----

Status Cache::pin(std::string_view key, PinnedValue* held) noexcept {
  if (const Status status = usable(key); status != Status::kOk) return status;
  ProcessSlot* own = exclusive_slot();
  if (own == nullptr) [[unlikely]] {
    if (const Status status = writable(); status != Status::kOk) return status;
  }
  const Key hashed = make_key(key);
  if (sample_.has(hashed.hash)) [[unlikely]]
    note_get(hashed);
  PinSet pins(own, pin_places_);
  held->shard = hashed.hash.shard(attached_.geometry.shards);
  const auto now = [this] { return now_and_look(); };
  const Deadline deadline(timeout_);
  Status status = shards_[held->shard]->pin(hashed, pins, deadline, access_instant(), now, held);
  if (has_checksums()) [[unlikely]]
    status = pin_verified(hashed, pins, deadline, status, held);
  if (sample_.has(hashed.hash)) [[unlikely]]
    trace_read(hashed, status, held->read.value_size);
  if (status == Status::kOk) [[likely]] {  // With a pin it has a slot.
    add_local(own->counters.hits, 1);
    return Status::kOk;
  }
  count_read(status);
  if (status != Status::kMiss) note_outcome(Operation::kGet, status);
  return status;
}

Status Cache::pin_verified(const Key& key, PinSet& pins, const Deadline& deadline, Status status,
                           PinnedValue* held) noexcept {
  Shard& shard = *shards_[held->shard];
  const auto now = [this] { return now_and_look(); };
  while (status == Status::kOk) {
    const std::uint64_t checksum = checksum_word(held->value, held->read.value_size, key.hash);
    if (checksum == checksum_of_word(held->read.caller_flags)) break;
    pins.release(held->pin, shard.offset_of(held->position));
    status = drop_damaged(key, deadline);
    if (status != Status::kOk) break;
    if (deadline.passed()) return fail(Status::kBusy, "The value kept changing until the deadline. Try again.");
    status = shard.pin(key, pins, deadline, access_instant(), now, held);
  }
  return status;
}

Status Cache::drop_damaged(const Key& key, const Deadline& deadline) noexcept {
  if (read_only_) return damaged_value(true);
  const Status status = shard_of(key).drop_damaged(key, deadline);
  return status == Status::kCorrupt ? damaged_value(false) : status;
}

Status Cache::release(const PinnedValue& held) noexcept {
  ProcessSlot* own = own_slot_at_once();
  if (own != nullptr && held.shard < attached_.geometry.shards) [[likely]] {
    const std::uint64_t offset = shards_[held.shard]->offset_of(held.position);
    if (PinSet::release_from_slot(own, held.pin, offset)) [[likely]]
      return Status::kOk;
  }
  return release_otherwise(held);
}

Status Cache::release_otherwise(const PinnedValue& held) noexcept {
  PinSet pins(exclusive_slot(), pin_places_);
  if (held.shard >= attached_.geometry.shards)
    return fail(Status::kBadHandle,
                "Invalid view or reservation: expected one that this library gave. Pass it unchanged, and once.");
  if (pins.release(held.pin, shards_[held.shard]->offset_of(held.position))) return Status::kOk;
  return fail(Status::kBadHandle,
              "This process does not hold that view or reservation: it was released before, or taken before a fork. "
              "End each one once, in the process that took it.");
}

Status Cache::reserve(std::string_view key, std::uint64_t value_size, PinnedValue* held) noexcept {
  const std::uint64_t now = now_and_look();
  if (const Status status = usable(key); status != Status::kOk) return status;
  if (const Status status = writable(); status != Status::kOk) return status;
  const Key hashed = make_key(key);
  PinSet pins(exclusive_slot(), pin_places_);
  held->shard = hashed.hash.shard(attached_.geometry.shards);
  return retry_after_reaping([&] {
    return shards_[held->shard]->reserve(hashed, value_size, pins, {Deadline(timeout_), now}, held);
  });
}

Status Cache::commit(std::string_view key, const PinnedValue& held, const Value& value, StoreMode mode,
                     std::uint64_t cas) noexcept {
  const std::uint64_t now = now_and_look();
  if (const Status status = usable(key); status != Status::kOk) return status;
  if (const Status status = writable(); status != Status::kOk) return status;
  PinSet pins(exclusive_slot(), pin_places_);
  StoreRequest request{.key = make_key(key),
                       .value_size = held.read.value_size,
                       .expires_ms = expiry(value.ttl_ms),
                       .caller_flags = value.caller_flags,
                       .mode = mode,
                       .cas = cas};
  if (!pins.holds(held.pin, shards_[held.shard]->offset_of(held.position))) {
    return fail(Status::kBadHandle,
                "This process does not hold that reservation: it was committed or aborted before, or made before a "
                "fork. End each one once, in the process that made it.");
  }
  if (has_checksums()) request.caller_flags |= checksum_word(held.value, request.value_size, request.key.hash);
  const Status status = shards_[held.shard]->commit_reservation(request, held, pins, {Deadline(timeout_), now});
  if (status == Status::kOk) count_puts(1);
  return noted(Operation::kCommit, status);
}

}  // namespace memstream
