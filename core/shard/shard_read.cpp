// Reading a shard: without a lock where that works, under the shared lock where it does not.
#include <algorithm>
#include <bit>

#include "core/base/local_counter.h"
#include "core/base/pieces.h"
#include "core/shard/shard_lookup.h"
#include "core/shard/shard_operation.h"

namespace memstream {
namespace {

constexpr int kFastTries = 16;
constexpr std::uint32_t kHotFraction = 1U << 22;  // One in 1024 accesses is noted among the hot ones.
constexpr std::uint32_t kScanStretch = 8192;      // Entry numbers looked at in one hold of the shared lock.

}  // namespace

// As lookup(), of a key whose value is being overwritten: what it is to become stands in a redo record, and has been
// committed. So no reader waits for a writer that stands still or is dead. This look never reports kAbsent.
template <class Consume>
Shard::Lookup Shard::read_redo(const Key& key, const Consume& consume) const noexcept {
  Probe probe;
  if (!probe_start<true>(key, &probe)) return Lookup::kUnstable;
  probe_bucket<LineUse::kRead>(key, &probe);
  const auto take_from = [&](EntryId id) {
    Entry& entry = Index::entry_unchecked(header_, id);
    const std::uint64_t ref = entry.ref.load(std::memory_order_acquire);
    RedoLog::Overwriting found;
    if (!ref_is_overwritten(ref) || !redo_.find(id, EntryRef{ref}, &found) || !found.block.key_is(key.bytes))
      return false;
    const FoundEntry candidate{.entry = &entry, .ref = EntryRef{ref_finished(ref)}, .id = id, .block = found.becomes};
    consume(candidate);
    std::atomic_thread_fence(std::memory_order_acquire);
    return entry.ref.load(std::memory_order_relaxed) == ref &&
           header_->seq.load(std::memory_order_relaxed) == probe.seq;
  };
  for (EntryId id = probe.first_id; id != 0; id = probe.in_slots.next()) {
    if (take_from(id)) return Lookup::kFound;
  }
  Index::InChain in_chain(header_, *probe.bucket, probe.cells);
  for (EntryId id = in_chain.next(); id != 0; id = in_chain.next()) {
    if (take_from(id)) return Lookup::kFound;
  }
  return Lookup::kUnstable;
}

// Looks `key` up, fast if that works within a few tries. kOk or kMiss, or why there is no answer.
template <class Consume>
Status Shard::read(const Key& key, const Deadline& deadline, Consume consume) noexcept {
  Lookup outcome = Lookup::kUnstable;
  const auto attempt = [&] { outcome = lookup(key, consume); };
  int tries = 0;
  for (; tries < kFastTries && outcome == Lookup::kUnstable; ++tries) attempt();
  if (tries > 1) count(metrics_.read_retries, static_cast<std::uint64_t>(tries - 1));
  if (outcome == Lookup::kUnstable) count(metrics_.slow_reads);
  while (outcome == Lookup::kUnstable) {
    outcome = read_redo(key, consume);
    if (outcome == Lookup::kFound) break;
    if (read_only_) {
      // No lock may be taken, so all there is to do is to look again.
      if (deadline.passed())
        return fail(
            Status::kBusy,
            "The shard kept changing until the deadline, or it is damaged. Try again, or verify it (memstream check).");
      attempt();
      continue;
    }
    const Status status = lock_.read_shared(deadline, attempt);
    if (status != Status::kOk) return status;
    // Nobody wrote during that look, so that what is unstable is damaged: under the write lock it is put right.
    if (outcome == Lookup::kUnstable) {
      const Status repaired = write(Exclusion::kWriters, deadline, [&]() MEMSTREAM_NEEDS_W {
        attempt();
        if (outcome == Lookup::kUnstable) throw CorruptionDetected{"a look-up that does not settle"};
        return Status::kOk;
      });
      if (repaired != Status::kOk) return repaired;
    }
  }
  return outcome == Lookup::kFound ? Status::kOk : Status::kMiss;
}

GetResult Shard::get(const Key& key, const ReadBuffer& room, const OpContext& context) noexcept {
  GetResult got;
  const auto now = [&] { return context.now_ms; };
  if (try_get_fast(key, room, now, now, &got) == FastGet::kAnswered) return got;
  CopyOutcome copied = CopyOutcome::kExpired;
  Entry* entry = nullptr;
  got.status = read(key, context.deadline, [&](const FoundEntry& candidate) {
    entry = candidate.entry;
    copied = copy_out<Tags::kCompared>(candidate, room, now, &got.read);
  });
  if (got.status != Status::kOk) return got;
  switch (copied) {
    case CopyOutcome::kExpired:
      got.status = Status::kMiss;
      break;
    case CopyOutcome::kTooSmall:
      got.status = Status::kTooSmall;
      break;
    case CopyOutcome::kLarge:
      break;
    case CopyOutcome::kCopied:
      record_access(*entry, context.now_ms);
      break;
  }
  return got;
}

// An entry beyond the accesses that are all counted.
bool Shard::note_often_read(Entry& entry, std::uint64_t accessed_at_ms) noexcept {
  const std::uint32_t count = entry.access_count.load(std::memory_order_relaxed);
  // The multiples of the golden ratio, as fractions of 2^32: wherever a key stands in a loop over keys, its accesses
  // meet all of the range alike. A variable of the thread costs a call of the dynamic linker's; one thread alone needs
  // none.
  static constexpr std::uint32_t kGoldenRatio = 0x9e3779b9;
  static std::uint32_t fraction_of_process = 0;
  thread_local std::uint32_t fraction_of_thread = 0;
  const std::uint32_t fraction =
      has_one_thread() ? fraction_of_process += kGoldenRatio : fraction_of_thread += kGoldenRatio;
  // At least one: since it was looked at, the entry may have become that of a new key.
  const int doublings = std::clamp(static_cast<int>(std::bit_width(count / kExactAccesses)), 1, kMostDoublings);
  std::uint64_t may_lag_ms = kAccessLagMs;
  const bool is_counted = fraction >> (32 - doublings) == 0;
  if (is_counted) {
    add_unlocked(entry.access_count, 1U << doublings);
    may_lag_ms = 0;
  }
  if (entry.last_access_ms.load(std::memory_order_relaxed) + may_lag_ms < accessed_at_ms)
    entry.last_access_ms.store(accessed_at_ms, std::memory_order_relaxed);
  return fraction < kHotFraction;
}

void Shard::note_hot_entry(const Entry& entry) const noexcept {
  note_hot(segment_metrics_,
           hot_name(number_, Index::number_of(header_, entry), entry.hash.load(std::memory_order_relaxed)));
}

Status Shard::inspect(const Key& key, const OpContext& context,
                      const std::function<void(const ScannedEntry&)>& visit) noexcept {
  ScannedEntry scanned;
  bool is_over = false;
  const Status status = read(key, context.deadline, [&](const FoundEntry& candidate) {
    const Entry& entry = *candidate.entry;
    is_over = tags_.is_over(backing(), candidate.block, context.now_ms);
    scanned = {BlockContents(candidate.block), entry.last_access_ms.load(std::memory_order_relaxed),
               entry.access_count.load(std::memory_order_relaxed), cas_token(candidate)};
    // Where the value is, or is going to be when it is being overwritten, and not where a redo record has it.
    const std::byte* const block = base() + std::uint64_t{candidate.position()} * kUnitSize;
    if (reinterpret_cast<const std::byte*>(candidate.block.header) != block) {
      scanned.block.value = block + candidate.block.unaligned_value_start();
    }
  });
  if (status != Status::kOk) return status;
  if (is_over) return Status::kMiss;
  if (visit) {
    scanned.block.key = reinterpret_cast<const std::byte*>(key.bytes.data());
    visit(scanned);
  }
  return Status::kOk;
}

// The entry `id` as it is now, its key copied to `key_room`; false if it is empty, expired, changing or corrupt.
bool Shard::describe(EntryId id, std::uint64_t now_ms, std::byte (&key_room)[kMaxKeySize],
                     ScannedEntry* scanned) const noexcept {
  const Entry& entry = Index::entry_unchecked(header_, id);
  const std::uint64_t ref = entry.ref.load(std::memory_order_acquire);
  CheckedBlock block;
  if (ref_is_overwritten(ref)) {
    RedoLog::Overwriting found;
    if (!redo_.find(id, EntryRef{ref}, &found)) return false;
    block = found.becomes;
    scanned->block = BlockContents(block);
    scanned->block.key = found.block.key();
    scanned->block.value = found.block.value;
  } else {
    if (!ref_is_live(ref) || !check_block(backing(), ref_block(ref), &block)) return false;
    scanned->block = BlockContents(block);
  }
  const bool is_over = tags_.is_over(backing(), block, now_ms);
  copy_from_shared(key_room, scanned->block.key, scanned->block.key_size);
  scanned->block.key = key_room;
  scanned->last_access_ms = entry.last_access_ms.load(std::memory_order_relaxed);
  scanned->access_count = entry.access_count.load(std::memory_order_relaxed);
  scanned->cas = cas_token(id, EntryRef{ref_finished(ref)}, scanned->block.moves);
  // A read-only attach has no lock that keeps the entry as it is.
  std::atomic_thread_fence(std::memory_order_acquire);
  return is_same_ref(entry.ref.load(std::memory_order_relaxed), ref) && !is_over;
}

Status Shard::inspect_entry(EntryId id, const OpContext& context,
                            const std::function<bool(std::uint32_t hash)>& is_meant,
                            const std::function<void(const ScannedEntry&)>& visit) noexcept {
  std::byte key_room[kMaxKeySize];
  ScannedEntry scanned;
  bool is_there = false;
  const auto look = [&] {
    const std::uint32_t cells = header_->cells.load(std::memory_order_acquire);
    is_there = backing().has_cells(cells) && Index::names_entry(id, cells) &&
               is_meant(Index::entry_unchecked(header_, id).hash.load(std::memory_order_relaxed)) &&
               describe(id, context.now_ms, key_room, &scanned);
  };
  if (read_only_) {
    look();
  } else if (const Status status = lock_.read_shared(context.deadline, look); status != Status::kOk) {
    return status;
  }
  if (!is_there) return Status::kMiss;
  visit(scanned);
  return Status::kOk;
}

Status Shard::scan(std::uint32_t* next, const OpContext& context,
                   const std::function<bool(const ScannedEntry&)>& visit) noexcept {
  // Downwards: a table that shrinks meanwhile moves entries down, where they are met once more rather than never.
  const auto stretch = [&] {
    const std::uint32_t cells = header_->cells.load(std::memory_order_acquire);
    const std::uint32_t end = backing().has_cells(cells) ? cells * kSlotsPerCell : 0;
    std::uint32_t below = *next == 0 ? end : std::min(*next, end);  // Those are still to come.
    ScannedEntry scanned;
    std::byte key_room[kMaxKeySize];
    for (std::uint32_t looked = 0; below != 0 && looked < kScanStretch; ++looked, --below) {
      const EntryId id{below - 1};
      if (!Index::names_entry(id, cells)) continue;
      if (describe(id, context.now_ms, key_room, &scanned) && !visit(scanned)) break;
    }
    *next = below;
  };
  if (!read_only_) return lock_.read_shared(context.deadline, stretch);
  stretch();
  return Status::kOk;
}

template <class Copy>
Status Shard::copy_numbers(const Deadline& deadline, const Copy& copy) noexcept {
  if (read_only_) {
    copy();
    return Status::kOk;
  }
  // Not the shared lock: pins change these numbers under W alone.
  const Status status = lock_.lock(deadline);
  if (status != Status::kOk) return status;
  lock_.assert_held();
  copy();
  lock_.unlock();
  return Status::kOk;
}

Status Shard::prefault(const Deadline& deadline, const Segment& segment) noexcept {
  std::uint64_t table_end = 0;
  std::uint64_t heap_begin = 0;
  const Status status = copy_numbers(deadline, [&] {
    copy_from_shared(&table_end, &header_->space.table_committed, sizeof table_end);
    copy_from_shared(&heap_begin, &header_->space.heap_committed, sizeof heap_begin);
  });
  if (status != Status::kOk) return status;
  // The numbers may be damaged: stay within the shard.
  table_end = std::min(table_end, size_);
  heap_begin = std::clamp(heap_begin, table_end, size_);
  const auto map = [&](auto offset, auto size) { return segment.prefault(offset, size); };
  const Status table = in_pieces(offset_, table_end, deadline, map);
  return table == Status::kOk ? in_pieces(offset_ + heap_begin, size_ - heap_begin, deadline, map) : table;
}

Status Shard::statistics(const Deadline& deadline, ShardStatistics* statistics) noexcept {
  std::uint32_t retired = 0;
  const auto copy = [&] {
    // Loaded as bytes: a read-only attach looks while others write.
    alignas(ShardSpace) std::byte bytes[sizeof(ShardSpace)];
    copy_from_shared(bytes, &header_->space, sizeof(ShardSpace));
    const auto& numbers = *reinterpret_cast<const ShardSpace*>(bytes);
    copy_from_shared(&statistics->counters, &header_->counters, sizeof(ShardCounters));
    const std::uint64_t cells = header_->cells.load(std::memory_order_relaxed);
    const std::uint64_t table_cells = numbers.table_cells.load(std::memory_order_relaxed);
    statistics->max_memory = numbers.max_memory;
    statistics->used_memory = numbers.used_memory;
    statistics->pinned_memory = numbers.pinned_memory;
    statistics->key_memory = numbers.key_memory;
    statistics->value_memory = numbers.value_memory;
    statistics->table_memory = table_cells * sizeof(Cell);
    statistics->committed_memory = committed_bytes(numbers, size_);
    statistics->entries = numbers.entries;
    statistics->entry_capacity = cells * kEntriesPerCell;
    retired = numbers.retired;
  };
  const Status status = copy_numbers(deadline, copy);
  if (status == Status::kBusy) copy();  // What a read-only attach would see.
  if (status != Status::kOk || retired == 0 || read_only_) return status;
  // What views have held until a moment ago is no longer pinned.
  const Status freed = write(Exclusion::kWriters, deadline, [&]() MEMSTREAM_NEEDS_W {
    retired_.free_all();
    return Status::kOk;
  });
  return freed == Status::kOk ? copy_numbers(deadline, copy) : freed;
}

}  // namespace memstream
