// Writing a small value over the one before it, and finishing that for a writer that was killed.
//
// A value is overwritten in the block that it has: no list of free blocks, no neighbour, no count of the shard is
// touched, and two processes that write to one shard take fewer lines from each other. A redo record makes half a value
// impossible: the process's record holds all that the block is to become, and the shard names it, before the first byte
// of the block changes. docs/locking.md says why a reader never believes a mixture.
#include <algorithm>

#include "core/base/touch_source.h"
#include "core/shard/shard_find.h"
#include "core/shard/shard_operation.h"

namespace memstream {
namespace {

// What is left of the block of `found` behind the request's value; a huge number if that does not fit.
[[gnu::always_inline]] inline std::uint64_t slack_of(const StoreRequest& request, const FoundEntry& found) noexcept {
  return found.block.stored_size - found.block.value_start() - request.value_size;
}

}  // namespace

[[gnu::always_inline]] inline bool Shard::may_overwrite(const StoreRequest& request, const FoundEntry& found) noexcept {
  if (request.redo == 0 || found.id == 0 || request.value_size > kRedoValueSize) [[unlikely]]
    return false;
  if (found.block.has_extras() != request.has_extras() || (found.block.flags & kBlockAligned) != 0) [[unlikely]]
    return false;
  // A process that may be viewing the value goes on seeing it, so the new value needs a block of its own.
  return slack_of(request, found) < kSpareBytes && !ref_has_pinned_hint(found.ref);
}

// Inline, since a put reads back what it has just written: the compiler and the processor still have it.
[[gnu::always_inline]] inline void RedoLog::apply(const RedoRecord& redo, BlockHeader& header, std::byte* value,
                                                  std::uint64_t value_size) noexcept {
  const auto copy =
      [](std::atomic<std::uint64_t> & to, const std::atomic<std::uint64_t>& from) __attribute__((always_inline)) {
    to.store(from.load(std::memory_order_relaxed), std::memory_order_relaxed);
  };
  copy(header.shape, redo.block.shape);
  copy(header.owner, redo.block.owner);
  if (BlockShape::unpack(redo.block.shape.load(std::memory_order_relaxed)).has_extras()) {
    BlockExtras& extras = extras_of(header);
    copy(extras.expires_ms, redo.extras.expires_ms);
    copy(extras.caller_flags, redo.extras.caller_flags);
  }
  copy_to_shared(value, redo.value, value_size);
}

// False, and nothing has happened, if somebody has begun to view the value since it was found.
// REQUIRES: may_overwrite(). From the commit on nothing here can fail.
[[gnu::always_inline]] inline bool Shard::overwrite(const StoreRequest& request, const FoundEntry& found,
                                                    std::uint64_t now_ms) noexcept {
  RedoRecord& redo = redo_.record(request.redo);
  const CheckedBlock& old = found.block;
  // From what was checked. It says of the block before it what it says since W was locked.
  const BlockShape shape{
      .size_units = static_cast<std::uint32_t>(old.stored_size / kUnitSize),
      .flags = kBlockUsed | (old.flags & (kBlockPrevFree | kBlockExtras)) | created_flags(now_ms),
      .slack = static_cast<std::uint32_t>(slack_of(request, found)),
      .key_size = old.key_size,
  };

  const std::uint64_t ref = ref_overwritten(found.ref);
  // A reader that sees a word written to the record from here on also sees that its previous contents were carried out.
  std::atomic_thread_fence(std::memory_order_release);
  redo.ref.store(ref, std::memory_order_relaxed);
  redo.entry.store(found.id, std::memory_order_relaxed);
  redo.shard.store(number_, std::memory_order_relaxed);
  redo.block.shape.store(shape.pack(), std::memory_order_relaxed);
  redo.block.owner.store(owner_word(found.id, now_ms), std::memory_order_relaxed);
  redo.extras.expires_ms.store(request.expires_ms, std::memory_order_relaxed);
  redo.extras.caller_flags.store(request.caller_flags, std::memory_order_relaxed);
  copy_to_shared(redo.value, request.value, request.value_size);
  header_->redo.store(request.redo, std::memory_order_release);

  // The commit: a recovery that finds this ref carries the record out. No reader may see a new byte of the block before
  // it. A view begins by changing the ref, and only where it is live.
  std::uint64_t unviewed = found.ref;
  if (!found.entry->ref.compare_exchange_strong(unviewed, ref, std::memory_order_acq_rel)) [[unlikely]] {
    header_->redo.store(0, std::memory_order_release);
    return false;
  }
  std::atomic_thread_fence(std::memory_order_release);
  RedoLog::apply(redo, const_cast<BlockHeader&>(*old.header), const_cast<std::byte*>(old.value), request.value_size);
  found.entry->ref.store(ref_finished(ref), std::memory_order_release);
  header_->redo.store(0, std::memory_order_release);

  const std::uint32_t old_policy = found.entry->policy.load(std::memory_order_relaxed);
  const std::uint32_t policy = policy_of_write(old_policy, request);
  if (policy != old_policy) {
    eviction_.recount(found.id, old_policy, policy, old.stored_size, old.stored_size);
    found.entry->policy.store(policy, std::memory_order_relaxed);
  }
  if (old.value_size != request.value_size) space().value_memory += request.value_size - old.value_size;
  leases_.end_of(request.key);
  waits_.note_change(request.key.hash.bucket_bits(), old.header);
  return true;
}

// Stores unconditionally; `found` is the key's entry, if it has one.
Status Shard::store_value(const StoreRequest& request, const FoundEntry& found, std::uint64_t now_ms) {
  if (may_overwrite(request, found) && overwrite(request, found, now_ms)) return Status::kOk;
  return store_in_new_block(request, found, now_ms);
}

// ---- a put ----

// What a put does once the shard is its own. What it does most is in one function with no other call.
[[gnu::always_inline]] inline Status Shard::store_if_allowed(const StoreRequest& request, const Probe& probe,
                                                             std::uint64_t now_ms) {
  table_shrinker_.fit(request);
  if (request.mode == StoreMode::kSet) [[likely]] {
    FoundEntry first;
    if (find_first(request.key, probe, &first)) [[likely]] {
      if (is_fresh(first, now_ms)) [[likely]] {
        if (may_overwrite(request, first)) [[likely]] {
          if (overwrite(request, first, now_ms)) [[likely]]
            return Status::kOk;
        }
        const FoundEntry found = first;  // Copied, so that the other one can stay in registers.
        return store_in_new_block(request, found, now_ms);
      }
    } else if (probe.first_id == 0 && stands(probe) && probe.bucket->overflow.load(std::memory_order_relaxed) == 0) {
      return store_in_new_block(request, {}, now_ms);
    }
  }
  const Probe seen = probe;
  return store_otherwise(request, seen, now_ms);
}

Status Shard::store_otherwise(const StoreRequest& request, const Probe& probe, std::uint64_t now_ms) {
  const FoundEntry found = find_fresh_probed(request.key, probe, now_ms);
  if (request.mode != StoreMode::kSet) {
    if (const Status status = check_mode(request, found); status != Status::kOk) return status;
  }
  return found.id == 0 ? store_in_new_block(request, found, now_ms) : store_value(request, found, now_ms);
}

// One of many, or one more time.
[[gnu::flatten]] Status Shard::store_one(const StoreRequest& request, std::uint64_t now_ms) {
  Probe probe;
  if (probe_start<false>(request.key, &probe)) [[likely]]
    probe_bucket<LineUse::kWrite>(request.key, &probe);
  return store_if_allowed(request, probe, now_ms);
}

[[gnu::flatten]] Status Shard::store(const StoreRequest& request, const OpContext& context) noexcept {
  if (const Status status = check_size(request); status != Status::kOk) [[unlikely]]
    return status;
  Probe probe;
  prefetch_write(request.key, &probe);
  if (probe.bucket != nullptr && probe.first_id == 0) {  // Then the key may only be in the chain.
    const EntryId overflow{probe.bucket->overflow.load(std::memory_order_relaxed)};
    prefetch_line<LineUse::kWrite>(&Index::entry_unchecked(header_, overflow));
  }
  touch_source(request.value, request.value_size);
  const std::uint64_t now_ms = context.now_ms;
  return write(
      Exclusion::kEverybody, context.deadline,
      [&]() MEMSTREAM_NEEDS_W __attribute__((always_inline)) { return store_if_allowed(request, probe, now_ms); },
      [&]() MEMSTREAM_NEEDS_W { return store_one(request, now_ms); });
}

// ---- a quick put ----

std::uint64_t Shard::learn_table() const noexcept {
  Probe probe;
  if (!probe_start<false>({}, &probe)) return 0;
  std::atomic_thread_fence(std::memory_order_acquire);
  if (!is_now(header_->seq, probe.seq)) return 0;
  remember(probe);
  const std::uint64_t table = quick_.table.load(std::memory_order_acquire);
  return static_cast<std::uint32_t>(table) == probe.cells ? table : 0;
}

bool RedoLog::find(EntryId id, EntryRef ref, Overwriting* found) const noexcept {
  const std::uint32_t number = header_->redo.load(std::memory_order_acquire) - 1;
  if (number >= geometry_.redo_records()) return false;
  const RedoRecord& redo = redo_records_[number];
  if (redo.ref.load(std::memory_order_acquire) != ref || redo.entry.load(std::memory_order_relaxed) != id) return false;
  CheckedBlock& block = found->block;
  if (!check_block(backing(), ref_block(ref), &block)) return false;
  const BlockShape shape = BlockShape::unpack(redo.block.shape.load(std::memory_order_relaxed));
  const std::uint64_t value_end = shape.size_bytes() - shape.slack;
  const std::uint64_t value_start = shape.value_start(ref_block(ref));
  // The key stays as it is, and with it everything but the end of the value.
  if (!shape.used() || (shape.flags & kBlockAligned) != 0 || !block.value_is_unaligned() ||
      shape.size_bytes() != block.stored_size || shape.key_size != block.key_size ||
      shape.has_extras() != block.has_extras() || value_start > value_end || value_end - value_start > kRedoValueSize ||
      owner_entry(redo.block.owner.load(std::memory_order_relaxed)) != id) {
    return false;
  }
  found->record = &redo;
  found->becomes = {.header = &redo.block,
                    .value = redo.value,
                    .value_size = value_end - value_start,
                    .stored_size = block.stored_size,
                    .key_size = block.key_size,
                    .flags = shape.flags,
                    .key_start = block.key_start};
  return true;
}

void RedoLog::finish() {
  const std::uint32_t number = header_->redo.load(std::memory_order_relaxed) - 1;
  const EntryId id{number < geometry_.redo_records() ? redo_records_[number].entry.load(std::memory_order_relaxed) : 0};
  if (Index::names_entry(id, index_.cells())) {
    Entry& entry = index_.entry(id);
    const std::uint64_t ref = entry.ref.load(std::memory_order_relaxed);
    Overwriting found;
    if (ref_is_overwritten(ref) && find(id, EntryRef{ref}, &found)) {
      apply(*found.record, const_cast<BlockHeader&>(*found.block.header), const_cast<std::byte*>(found.block.value),
            found.becomes.value_size);
      entry.ref.store(ref_finished(ref), std::memory_order_release);
    }
  }
  header_->redo.store(0, std::memory_order_release);
}

Status Shard::replay_redo(std::uint32_t record, const Deadline& deadline) noexcept {
  if (!redo_.names(record)) [[likely]]
    return Status::kOk;
  // Its writer died with the lock, so the next holder carries it out. If the shard still names it, something wrote over
  // the number.
  return write(Exclusion::kEverybody, deadline, [&]() MEMSTREAM_NEEDS_W {
    if (redo_.names(record)) throw CorruptionDetected{"an overwriting that nobody is at"};
    return Status::kOk;
  });
}

}  // namespace memstream
