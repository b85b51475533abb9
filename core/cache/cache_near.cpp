// Copies of what a Redis server has: tokens, epochs and the heartbeat. docs/decisions/0024 says why nothing older than
// the caller's bound is served; the order of loads and stores here is that of its proof.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <limits>

#include "core/cache/cache_lookup.h"
#include "core/shard/near_counters.h"

namespace memstream {
namespace {

// The coarse clock may be a tick behind, of 10 ms with the slowest kernels.
constexpr std::uint64_t kNearClockGrainMs = 10;
// After that long without a sign of it another process takes the agent's role.
constexpr std::uint64_t kNearAgentIdleMs = 1000;
constexpr std::uint64_t kLongestNearTtl = std::uint64_t{1} << 46;

// Only forward: of two agents the slower one must not take back what the other has said.
void raise(std::atomic<std::uint64_t>& word, std::uint64_t value) noexcept {
  std::uint64_t now = word.load(std::memory_order_relaxed);
  while (now < value && !word.compare_exchange_weak(now, value, std::memory_order_acq_rel)) {
  }
}

// Of the master with that name, or the first free one; kNearMasters if there is neither.
std::uint32_t place_of_name(const NearTable& near, std::uint64_t name) noexcept {
  std::uint32_t number = 0;
  for (; number < kNearMasters; ++number) {
    const std::uint64_t owner = near.masters[number].name.load(std::memory_order_acquire);
    if (owner == 0 || owner == name) break;
  }
  return number;
}

void advance_epoch(NearTable& near, NearMaster& master) noexcept {
  std::uint32_t next = near.epochs.fetch_add(1, std::memory_order_acq_rel) + 1;
  if (next == 0) next = near.epochs.fetch_add(1, std::memory_order_acq_rel) + 1;
  std::uint32_t now = master.epoch.load(std::memory_order_relaxed);
  // If another one is later, it is as good: entries of both ends are over.
  while (is_later_epoch(next, now) && !master.epoch.compare_exchange_weak(now, next, std::memory_order_seq_cst)) {
  }
  master.advances.fetch_add(1, std::memory_order_relaxed);
}

// It also ends the tokens of a moment ago, which costs a fetch.
void note_removal(std::atomic<std::uint32_t>& counter, bool was_read) noexcept {
  constexpr std::uint32_t kOne = std::uint32_t{1} << kNearUnreadShift;
  std::uint32_t now = counter.load(std::memory_order_relaxed);
  for (;;) {
    const std::uint32_t unread = near_unread_of(now);
    if (unread == (was_read ? 0 : kNearMostUnread)) return;
    const std::uint32_t next = was_read ? now & (kOne - 1) : now + kOne;
    if (counter.compare_exchange_weak(now, next, std::memory_order_seq_cst)) return;
  }
}

void write_label(NearLabel& label, std::string_view name) noexcept {
  std::array<char, sizeof(NearLabel)> bytes{};
  name.substr(0, std::min(name.find('\n'), bytes.size())).copy(bytes.data(), bytes.size());
  for (std::uint32_t i = 0; i < NearLabel::kWords; ++i) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i * sizeof word, sizeof word);
    label.words[i].store(word, std::memory_order_relaxed);
  }
}

std::array<std::atomic<std::uint64_t>*, Cache::kNearCounts> words_of(NearCounts& counts) noexcept {
  return {&counts.hits,   &counts.fetches,  &counts.fills, &counts.conflicts,
          &counts.merged, &counts.bypasses, &counts.stale, &counts.errors};
}

}  // namespace

Status Cache::near_usable(std::uint32_t master) noexcept {
  if (const Status status = present(); status != Status::kOk) return status;
  if (const Status status = writable(); status != Status::kOk) return status;
  if (near_table_.load(std::memory_order_acquire) != nullptr && master < kNearMasters) return Status::kOk;
  return fail(Status::kInvalid, "Invalid master: expected one that memstream_near_core_claim() has given this handle.");
}

Status Cache::near_claim(std::string_view name, std::uint32_t* master) noexcept {
  look_around();
  if (const Status status = present(); status != Status::kOk) return status;
  if (const Status status = writable(); status != Status::kOk) return status;
  const Geometry& geometry = attached_.geometry;
  if (!geometry.has_near_table()) {
    return fail_without_throwing(Status::kInvalid, [&] {
      return fmt::format(
          "A segment of {} bytes has no near table. Make a new one with at least {} MiB (MEMSTREAM_SIZE).",
          geometry.size_bytes, kLeastNearSegment >> 20);
    });
  }
  if (has_checksums()) {
    return fail(Status::kInvalid,
                "A segment with checksums can be no near cache. Make a new one without (MEMSTREAM_CHECKSUM=off).");
  }
  const Area& area = geometry.areas[kNearArea];
  if (const Status status = segment_->commit(area.offset, kNearAreaSize); status != Status::kOk) return status;
  NearTable& near = near_table_of(segment_->data(), geometry);
  const std::uint64_t wanted = std::max<std::uint64_t>(hash_bytes(name.data(), name.size()), 1);  // 0 is a free place.
  std::uint32_t number = place_of_name(near, wanted);
  if (number < kNearMasters && near.masters[number].name.load(std::memory_order_acquire) != wanted) {
    // A new name. A process that resizes the segment has this lock while it copies the names.
    Shard& first = *shards_[0];
    if (const Status status = first.hold(Deadline(timeout_)); status != Status::kOk) return status;
    number = place_of_name(near, wanted);
    if (number < kNearMasters && near.masters[number].name.load(std::memory_order_relaxed) == 0) {
      write_label(near.labels[number], name);
      near.masters[number].name.store(wanted, std::memory_order_release);
    }
    first.let_go(false);
  }
  if (number < kNearMasters) {
    near_table_.store(&near, std::memory_order_release);
    *master = number;
    return Status::kOk;
  }
  return fail_without_throwing(Status::kFull, [&] {
    return fmt::format("The segment knows {} servers already. Use another MEMSTREAM_NAME for this one.", kNearMasters);
  });
}

// ---- another size ----

Status Cache::continue_near_table(const Cache& before) noexcept {
  const Geometry& geometry = attached_.geometry;
  if (before.near_table_.load(std::memory_order_acquire) == nullptr || !geometry.has_near_table()) return Status::kOk;
  const Status status = segment_->commit(geometry.areas[kNearArea].offset, kNearAreaSize);
  if (status == Status::kOk) {
    near_table_.store(&near_table_of(segment_->data(), geometry), std::memory_order_release);
  }
  return status;
}

// The table must have memory before this process may look at it.
Status Cache::near_table_to_move(const NearTable** table) noexcept {
  *table = nullptr;
  const Geometry& geometry = attached_.geometry;
  if (!geometry.has_near_table() || has_checksums()) return Status::kOk;
  const Status status = segment_->commit(geometry.areas[kNearArea].offset, kNearAreaSize);
  if (status == Status::kOk) *table = &near_table_of(segment_->data(), geometry);
  return status;
}

void move_near_table(const NearTable& from, NearTable& to) noexcept {
  // Far behind all that the old segment may still give: nothing of it passes for valid, neither entries nor tokens.
  std::uint32_t epoch = from.epochs.load(std::memory_order_acquire) + kNearEpochsOfSegment;
  for (std::uint32_t number = 0; number < kNearMasters; ++number) {
    const std::uint64_t name = from.masters[number].name.load(std::memory_order_acquire);
    to.masters[number].name.store(name, std::memory_order_relaxed);
    if (name == 0) continue;
    if (++epoch == 0) ++epoch;
    to.masters[number].epoch.store(epoch, std::memory_order_relaxed);
    for (std::uint32_t i = 0; i < NearLabel::kWords; ++i) {
      to.labels[number].words[i].store(from.labels[number].words[i].load(std::memory_order_relaxed),
                                       std::memory_order_relaxed);
    }
  }
  to.epochs.store(epoch, std::memory_order_release);
}

bool has_near_names(const NearTable& table) noexcept {
  return std::any_of(std::begin(table.masters), std::end(table.masters),
                     [](const NearMaster& master) { return master.name.load(std::memory_order_acquire) != 0; });
}

GetResult Cache::near_get(std::uint32_t master, std::string_view key, std::byte* buffer, std::uint64_t capacity,
                          std::uint64_t max_lag_ms) noexcept {
  const NearTable* const near = near_table_.load(std::memory_order_acquire);
  if (near == nullptr || master >= kNearMasters) [[unlikely]]
    return {near_usable(master), {}};
  // First what was heard, then the epoch, then the entry.
  const std::uint64_t heard_ms = near->masters[master].heard_ms.load(std::memory_order_acquire);
  const std::uint32_t epoch = near->masters[master].epoch.load(std::memory_order_acquire);
  GetResult got = get(key, buffer, capacity);
  const bool is_known = got.status == Status::kOk || got.status == Status::kTooSmall || got.status == Status::kMiss;
  if (!is_known) [[unlikely]]
    return got;
  if (heard_ms == 0 || near_now_ms() + kNearClockGrainMs > heard_ms + std::min(max_lag_ms, kLongestNearTtl))
      [[unlikely]]
    return {Status::kConflict, {}};
  if (got.status == Status::kMiss) return {Status::kMiss, {}};
  if (epoch == 0 || near_epoch_of(got.read.caller_flags) != epoch) [[unlikely]]
    got.status = Status::kMiss;
  return got;
}

Status Cache::near_begin(std::uint32_t master, std::string_view key, std::uint64_t* token) noexcept {
  if (const Status status = near_usable(master); status != Status::kOk) return status;
  if (const Status status = usable(key); status != Status::kOk) return status;
  const NearTable& near = *near_table_.load(std::memory_order_relaxed);
  const std::uint32_t epoch = near.masters[master].epoch.load(std::memory_order_seq_cst);
  const std::uint32_t counter = near.counters[near_counter_number(make_key(key).hash)].load(std::memory_order_seq_cst);
  *token = near_epoch_word(epoch) | counter;
  return Status::kOk;
}

Status Cache::near_store(std::uint32_t master, std::string_view key, const Value& value, std::uint64_t token) noexcept {
  const std::uint64_t now = now_and_look();
  if (const Status status = near_usable(master); status != Status::kOk) return status;
  if (const Status status = usable(key); status != Status::kOk) return status;
  const std::uint32_t epoch = near_epoch_of(token);
  const NearTable& near = *near_table_.load(std::memory_order_relaxed);
  // An entry of an epoch that is over would only take room.
  if (epoch == 0 || near.masters[master].epoch.load(std::memory_order_acquire) != epoch) {
    return noted(Operation::kFulfil, Status::kConflict);
  }
  const RedoClaim redo(*this);
  const StoreRequest request{.key = make_key(key),
                             .value = value.data,
                             .value_size = value.size,
                             .expires_ms = value.ttl_ms == 0 ? 0 : now + std::min(value.ttl_ms, kLongestNearTtl),
                             .caller_flags = near_epoch_word(epoch) | value.caller_flags,
                             .mode = StoreMode::kNear,
                             .cas = token,
                             .redo = redo.record()};
  const Status status = store_hashed(request, {Deadline(timeout_), now});
  if (status == Status::kOk) count_puts(1);
  return noted(Operation::kFulfil, status);
}

// Which keys these are, nobody knows: watchers have to look again.
void Cache::end_copies(NearMaster& master) noexcept {
  advance_epoch(*near_table_.load(std::memory_order_relaxed), master);
  shards_[0]->waits().note_change_of_all();
}

Status Cache::near_invalidate(std::uint32_t master, std::string_view key) noexcept {
  const std::uint64_t now = now_and_look();
  if (const Status status = near_usable(master); status != Status::kOk) return status;
  // Redis has keys that a cache cannot have: of these nothing was ever stored.
  if (!is_possible(key)) return Status::kOk;
  NearTable& near = *near_table_.load(std::memory_order_relaxed);
  NearMaster& of = near.masters[master];
  const Key hashed = make_key(key);
  std::atomic<std::uint32_t>& counter = near.counters[near_counter_number(hashed.hash)];
  counter.fetch_add(1, std::memory_order_seq_cst);
  of.invalidations.fetch_add(1, std::memory_order_relaxed);
  bool was_read = false;
  const Status status = shard_of(hashed).remove_copy(hashed, {Deadline(timeout_), now}, &was_read);
  if (status == Status::kOk) note_removal(counter, was_read);
  if (status != Status::kOk && status != Status::kMiss) end_copies(of);
  return present();
}

Status Cache::near_advance(std::uint32_t master) noexcept {
  if (const Status status = near_usable(master); status != Status::kOk) return status;
  end_copies(near_table_.load(std::memory_order_relaxed)->masters[master]);
  return present();
}

Status Cache::near_note_subscription(std::uint32_t master) noexcept {
  if (const Status status = near_usable(master); status != Status::kOk) return status;
  near_table_.load(std::memory_order_relaxed)->masters[master].subscriptions.fetch_add(1, std::memory_order_relaxed);
  return Status::kOk;
}

Status Cache::near_heard(std::uint32_t master, std::uint64_t instant_ms) noexcept {
  if (const Status status = near_usable(master); status != Status::kOk) return status;
  // Nobody can have heard of what is yet to come.
  if (instant_ms > now_ms()) {
    return fail(Status::kInvalid, "Invalid instant: expected one that memstream_near_core_now() has given before.");
  }
  raise(near_table_.load(std::memory_order_relaxed)->masters[master].heard_ms, instant_ms);
  return Status::kOk;
}

// Two agents do no harm, so nothing here needs more than one word at a time.
Status Cache::near_lead(std::uint32_t master) noexcept {
  const std::uint64_t now = now_and_look();
  if (const Status status = near_usable(master); status != Status::kOk) return status;
  const std::uint64_t own = process_table_.lease_owner_of(exclusive_slot());
  if (own == 0) {
    return fail(
        Status::kProcessTableFull,
        "This process has no process slot yet, and an agent needs one. Try again later; a larger MEMSTREAM_SIZE "
        "has more slots.");
  }
  NearMaster& of = near_table_.load(std::memory_order_relaxed)->masters[master];
  std::uint64_t agent = of.agent.load(std::memory_order_acquire);
  if (agent != own) {
    const bool is_active = now < of.agent_ms.load(std::memory_order_acquire) + kNearAgentIdleMs;
    if (agent != 0 && is_active && process_table_.owner_is_alive(agent)) return Status::kHeld;
    if (!of.agent.compare_exchange_strong(agent, own, std::memory_order_acq_rel)) return Status::kHeld;
  }
  raise(of.agent_ms, now);
  return Status::kOk;
}

Status Cache::near_yield(std::uint32_t master) noexcept {
  if (const Status status = near_usable(master); status != Status::kOk) return status;
  std::uint64_t own = process_table_.lease_owner_of(own_->slot.load(std::memory_order_acquire));
  NearMaster& of = near_table_.load(std::memory_order_relaxed)->masters[master];
  if (own != 0) of.agent.compare_exchange_strong(own, 0, std::memory_order_acq_rel);
  return Status::kOk;
}

Status Cache::near_state(std::uint32_t master, NearState* state) noexcept {
  if (const Status status = near_usable(master); status != Status::kOk) return status;
  const NearTable& near = *near_table_.load(std::memory_order_relaxed);
  near_describe(near.masters[master], near.labels[master], state);
  return Status::kOk;
}

Status Cache::near_look(std::uint32_t master, NearState* state) noexcept {
  look_around();
  if (const Status status = present(); status != Status::kOk) return status;
  const NearTable* const near = readable_near_table();
  if (near == nullptr || master >= kNearMasters) return Status::kMiss;
  near_describe(near->masters[master], near->labels[master], state);
  return state->is_claimed ? Status::kOk : Status::kMiss;
}

Status Cache::near_count(const NearCountValues& more) noexcept {
  if (const Status status = near_usable(0); status != Status::kOk) return status;
  const auto words = words_of(near_table_.load(std::memory_order_relaxed)->counts);
  for (std::size_t i = 0; i < more.size(); ++i) {
    if (more[i] != 0) words[i]->fetch_add(more[i], std::memory_order_relaxed);
  }
  return Status::kOk;
}

Status Cache::near_counts(NearCountValues* counts) noexcept {
  look_around();
  *counts = {};
  if (const Status status = present(); status != Status::kOk) return status;
  const NearTable* const near = readable_near_table();
  if (near == nullptr) return Status::kOk;
  const auto words = words_of(const_cast<NearTable*>(near)->counts);  // Only to read.
  for (std::size_t i = 0; i < counts->size(); ++i) (*counts)[i] = words[i]->load(std::memory_order_relaxed);
  return Status::kOk;
}

const NearTable* Cache::readable_near_table() const noexcept {
  if (const NearTable* const claimed = near_table_.load(std::memory_order_acquire); claimed != nullptr) return claimed;
  const Geometry& geometry = attached_.geometry;
  if (!geometry.has_near_table()) return nullptr;
  const std::uint64_t offset = geometry.areas[kNearArea].offset;
  if (segment_->look_for_memory(offset, kNearAreaSize) == Status::kNoMemory) return nullptr;
  return &near_table_of(segment_->data(), geometry);
}

void Cache::near_describe(const NearMaster& of, const NearLabel& label, NearState* state) noexcept {
  const std::uint64_t heard_ms = of.heard_ms.load(std::memory_order_acquire);
  const std::uint64_t agent = of.agent.load(std::memory_order_acquire);
  const std::uint64_t agent_ms = of.agent_ms.load(std::memory_order_acquire);
  const std::uint64_t now = now_ms();
  state->lag_ms = heard_ms == 0 ? std::numeric_limits<std::uint64_t>::max() : now - std::min(now, heard_ms);
  state->epoch = of.epoch.load(std::memory_order_acquire);
  state->invalidations = of.invalidations.load(std::memory_order_relaxed);
  state->advances = of.advances.load(std::memory_order_relaxed);
  state->agent_idle_ms = now - std::min(now, agent_ms);
  state->agent_pid = process_table_.pid_of(agent);
  state->subscriptions = of.subscriptions.load(std::memory_order_relaxed);
  state->is_claimed = of.name.load(std::memory_order_relaxed) != 0;
  state->label = {};
  for (std::uint32_t i = 0; i < NearLabel::kWords; ++i) {
    const std::uint64_t word = label.words[i].load(std::memory_order_relaxed);
    std::memcpy(state->label.data() + i * sizeof word, &word, sizeof word);
  }
}

}  // namespace memstream
