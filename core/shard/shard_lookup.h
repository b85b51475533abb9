// The look-up without a lock, the get that is made of it, and the pin that a view is: inline, since this is what a
// cache does most of the time.
// docs/performance.md follows a get through this file.
#pragma once

#include <utility>

#include "core/base/local_counter.h"
#include "core/shard/shard.h"

namespace memstream {

// To here every access is noted in the entry's line. Beyond, one in 2, from twice, 4, 8 times as many on in 4, 8, 16,
// adds that number (standard deviation: a tenth); the others keep the instant from lagging by more than kAccessLagMs.
inline constexpr std::uint32_t kExactAccesses = 64;
inline constexpr int kMostDoublings = 4;
inline constexpr std::uint64_t kAccessLagMs = 1000;

// One try to read `key` without a lock. `consume(candidate)` gets the entry and its block while they may still change;
// what it made of them counts only if kFound comes back. Safe on any bytes.
//
// Why kFound can be believed: the entry's ref is loaded before the block is looked at and again after, and was the same
// but for the pinned hint. A block is given up only after its entry's ref changed, and a ref never returns to an old
// value.
// Why kAbsent can be believed: neither the bucket nor the number of buckets changed while they were looked at.
template <class Consume>
[[gnu::always_inline]] inline Shard::Lookup Shard::lookup(const Key& key, const Consume& consume) const noexcept {
  Probe probe;
  if (!probe_start<true>(key, &probe)) [[unlikely]]
    return Lookup::kUnstable;
  probe_bucket<LineUse::kRead>(key, &probe);
  return probe_finish<true>(key, &probe, consume);
}

// The steps of lookup(), between which a batch looks at other keys. Each step prefetches the cache lines that the next
// one needs. The first step reads the shard's line, which says where the bucket is. False if the shard is being rebuilt
// or is corrupt. Without kAsks it is also false where this process would first have to ask the system about memory; the
// last step returns kUnstable there.
template <bool kAsks>
[[gnu::always_inline]] inline bool Shard::probe_start(const Key& key, Probe* probe) const noexcept {
  probe->seq = header_->seq.load(std::memory_order_acquire);
  probe->cells = header_->cells.load(std::memory_order_acquire);
  if ((probe->seq & 1) != 0 || !(kAsks ? backing().has_cells(probe->cells) : backing().knows_cells(probe->cells)))
      [[unlikely]]
    return false;
  probe->bucket = &Index::bucket(header_, Index::bucket_of(key.hash.bucket_bits(), probe->cells));
  prefetch_line<LineUse::kRead>(probe->bucket);
  prefetch_line<LineUse::kRead>(probe->bucket->hints);
  return true;
}

// The second step reads the bucket, which names the entries and says where their blocks are, and prefetches both
// together. Of the block it prefetches what a key of 16 bytes and a value of 64 need. The processor's own prefetcher
// follows larger values. The hint may be wrong: a prefetch of an address without memory does nothing.
template <LineUse kUse>
[[gnu::always_inline]] inline void Shard::probe_bucket(const Key& key, Probe* probe) const noexcept {
  constexpr std::size_t kSmallBlock = sizeof(BlockHeader) + 16 + 64;
  probe->version = probe->bucket->version.load(std::memory_order_acquire);
  probe->in_slots = Index::InSlots(*probe->bucket, key.hash, probe->cells);
  const std::byte* const block = base() + std::uint64_t{probe->in_slots.hint()} * kUnitSize;
  probe->first_id = probe->in_slots.next();
  if (probe->first_id == 0) return;
  prefetch_line<kUse>(&Index::entry_unchecked(header_, probe->first_id));
  prefetch_line<kUse>(block);
  prefetch_line<kUse>(block + kCacheLineSize);
  prefetch_line<kUse>(block + kSmallBlock - 1);
}

// The last step reads the entries and their blocks.
template <bool kAsks, class Consume>
[[gnu::always_inline]] inline Shard::Lookup Shard::probe_finish(const Key& key, Probe* probe,
                                                                const Consume& consume) const noexcept {
  FoundEntry candidate;
  Lookup outcome = find_candidate<kAsks>(key, probe, &candidate);
  if (outcome == Lookup::kFound) {
    consume(std::as_const(candidate));
    std::atomic_thread_fence(std::memory_order_acquire);
    const bool moved = !is_same_ref(candidate.entry->ref.load(std::memory_order_relaxed), candidate.ref);
    if (moved) outcome = Lookup::kUnstable;
  }

  std::atomic_thread_fence(std::memory_order_acquire);
  if (header_->seq.load(std::memory_order_relaxed) != probe->seq) return Lookup::kUnstable;
  if (outcome != Lookup::kAbsent) return outcome;
  const std::uint32_t version = probe->version;
  const bool stood_still = (version & 1) == 0 && probe->bucket->version.load(std::memory_order_relaxed) == version &&
                           header_->cells.load(std::memory_order_relaxed) == probe->cells;
  return stood_still ? Lookup::kAbsent : Lookup::kUnstable;
}

// The entry that seems to have the key. kUnstable if one that did not was changing.
template <bool kAsks>
[[gnu::always_inline]] inline Shard::Lookup Shard::find_candidate(const Key& key, Probe* probe,
                                                                  FoundEntry* candidate) const noexcept {
  ShardHeader* const shard = header_;
  const auto look_at = [&](EntryId id) __attribute__((always_inline)) {
    Entry& entry = Index::entry_unchecked(shard, id);
    if (entry.hash.load(std::memory_order_relaxed) != key.hash.bucket_bits()) return Lookup::kAbsent;
    const std::uint64_t ref = entry.ref.load(std::memory_order_acquire);
    if (!ref_is_live(ref)) return ref_is_overwritten(ref) ? Lookup::kUnstable : Lookup::kAbsent;
    *candidate = {.entry = &entry, .ref = EntryRef{ref}, .id = id, .block = {}};
    if (check_plain_block<kAsks>(backing(), ref_block(ref), key.bytes.size(), &candidate->block) &&
        equal_in_shared(candidate->block.key(), key.bytes.data(), key.bytes.size())) [[likely]]
      return Lookup::kFound;
    if (check_block<kAsks>(backing(), ref_block(ref), &candidate->block) && candidate->block.key_is(key.bytes))
      return Lookup::kFound;
    if (!kAsks) return Lookup::kUnstable;  // Its memory may be unknown. Two keys seldom have one hash.
    std::atomic_thread_fence(std::memory_order_acquire);
    const bool moved = !is_same_ref(entry.ref.load(std::memory_order_relaxed), ref);
    return moved ? Lookup::kUnstable : Lookup::kAbsent;
  };
  for (EntryId id = probe->first_id; id != 0; id = probe->in_slots.next()) {
    if (const Lookup outcome = look_at(id); outcome != Lookup::kAbsent) return outcome;
  }
  Index::InChain in_chain(shard, *probe->bucket, probe->cells);
  for (EntryId id = in_chain.next(); id != 0; id = in_chain.next()) {
    if (const Lookup outcome = look_at(id); outcome != Lookup::kAbsent) return outcome;
  }
  return Lookup::kAbsent;
}

// What a get does with the block of its key.
template <Shard::Tags kTags, class Now>
[[gnu::always_inline]] inline Shard::CopyOutcome Shard::copy_out(const FoundEntry& candidate, const ReadBuffer& room,
                                                                 Now now_ms, ReadResult* result) const noexcept {
  const CheckedBlock& block = candidate.block;
  const std::uint64_t expires_ms = block.expires_ms();
  result->value_size = block.value_size;
  if (room.wants_all) {
    result->created_ms = block.created_ms();
    result->expires_ms = expires_ms;
    result->cas = cas_token(candidate);
    result->caller_flags = block.caller_flags();
  }
  if constexpr (kTags == Tags::kLeft) {
    if (expires_ms != 0 && may_be_over(expires_ms, now_ms())) return CopyOutcome::kExpired;
  } else {
    if (tags_.is_over(backing(), block, now_ms())) return CopyOutcome::kExpired;
    result->expires_ms = instant_of(expires_ms);
  }
  if (block.value_size > room.size_bytes) return CopyOutcome::kTooSmall;
  if (block.value_size >= room.copy_below) {
    if (room.leaves_large) return CopyOutcome::kLarge;
    if (!has_memory_for(candidate)) return CopyOutcome::kExpired;
  }
  copy_from_shared(room.data, block.value, block.value_size);
  return CopyOutcome::kCopied;
}

template <class Noted, class Now>
[[gnu::always_inline]] inline Shard::FastGet Shard::try_get_fast(const Key& key, const ReadBuffer& room,
                                                                 Noted accessed_at_ms, Now now_ms,
                                                                 GetResult* got) const noexcept {
  Probe probe;
  if (!probe_start<false>(key, &probe)) [[unlikely]]
    return FastGet::kUnsettled;
  const std::uint64_t noted = accessed_at_ms();  // While the bucket is on its way.
  probe_bucket<LineUse::kRead>(key, &probe);
  const FastGet outcome = finish_get(key, &probe, room, noted, now_ms, got);
  if (outcome == FastGet::kAnswered) remember(probe);
  return outcome;
}

// For the next get_quickly(), of any thread. That function reads no value with a checksum, and no table with more
// entries than it can count.
[[gnu::always_inline]] inline void Shard::remember(const Probe& probe) const noexcept {
  if (is_now(quick_.seq, probe.seq) &&
      static_cast<std::uint32_t>(quick_.table.load(std::memory_order_relaxed)) == probe.cells)
    return;
  if (geometry_.has_checksums() || probe.cells > Index::kMostCellsInShort) return;
  quick_.table.store(std::uint64_t{Index::bits_for(probe.cells)} << 32 | probe.cells, std::memory_order_release);
  quick_.seq.store(probe.seq, std::memory_order_release);
}

template <class Now>
[[gnu::always_inline]] inline Shard::FastGet Shard::finish_get(const Key& key, Probe* probe, const ReadBuffer& room,
                                                               std::uint64_t accessed_at_ms, Now now_ms,
                                                               GetResult* got) const noexcept {
  CopyOutcome copied = CopyOutcome::kExpired;
  ReadResult read;
  Entry* entry = nullptr;
  const auto consume = [&](const FoundEntry& candidate) __attribute__((always_inline)) {
    entry = candidate.entry;
    copied = copy_out<Tags::kLeft>(candidate, room, now_ms, &read);
  };
  const Lookup outcome = probe_finish<false>(key, probe, consume);
  if (outcome == Lookup::kFound && copied == CopyOutcome::kCopied) [[likely]] {
    record_access(*entry, accessed_at_ms);
    *got = {Status::kOk, read};
    return FastGet::kAnswered;
  }
  got->status = Status::kMiss;
  if (outcome != Lookup::kAbsent) {
    return outcome == Lookup::kFound && copied == CopyOutcome::kLarge ? FastGet::kLarge : FastGet::kUnsettled;
  }
  note_miss(key, *probe->bucket);
  return FastGet::kAnswered;
}

// For a key that is not there. A bucket has fingerprints only once its shard was full.
[[gnu::always_inline]] inline void Shard::note_miss(const Key& key, Bucket& bucket) const noexcept {
  if ((bucket.eviction.load(std::memory_order_relaxed) & kGhosts) == 0 || read_only_) return;
  Eviction::note_miss(header_, bucket, key.hash.tag());
}

[[gnu::always_inline]] inline void Shard::record_access(Entry& entry, std::uint64_t accessed_at_ms) const noexcept {
  if (!read_only_ && note_access(entry, accessed_at_ms)) [[unlikely]]
    note_hot_entry(entry);
}

// Several processes may note at the same time: then one of two counts or instants may be lost, and both are only for
// statistics. What eviction goes by is exchanged.
[[gnu::always_inline]] inline bool Shard::note_access(Entry& entry, std::uint64_t accessed_at_ms) noexcept {
  bool is_hot = false;
  if (is_above_now(entry.access_count, kExactAccesses - 1)) [[unlikely]] {
    is_hot = note_often_read(entry, accessed_at_ms);
  } else {
    add_unlocked(entry.access_count, 1U);
    // Only a later one: what others have noted may be younger. No branch, since the line is written to anyway.
    const std::uint64_t noted_ms = entry.last_access_ms.load(std::memory_order_relaxed);
    entry.last_access_ms.store(std::max(noted_ms, accessed_at_ms), std::memory_order_relaxed);
  }
  // Of the whole word, so that a hit never carries into the next bit. A hit that another thread overtakes is not
  // counted.
  std::uint32_t policy = entry.policy.load(std::memory_order_relaxed);
  const std::uint32_t next = policy + 1;
  if ((next & kHits) != 0) [[likely]]
    entry.policy.compare_exchange_strong(policy, next, std::memory_order_relaxed);
  return is_hot;
}

// The lock first: while its line comes from its last holder, the lines of the entry are on their way too. A writer that
// waited for them with the lock held would make others wait as well.
[[gnu::always_inline]] inline void Shard::prefetch_write(const Key& key, Probe* probe) const noexcept {
  prefetch_lock();
  if (!probe_start<false>(key, probe)) [[unlikely]]
    return;
  probe_bucket<LineUse::kWrite>(key, probe);
  std::atomic_thread_fence(std::memory_order_acquire);  // The slots, before the version is looked at again.
}

inline void Shard::describe_pinned(const FoundEntry& found, PinnedBlock* pinned) noexcept {
  const CheckedBlock& block = found.block;
  pinned->position = found.position();
  pinned->value = const_cast<std::byte*>(block.value);
  pinned->read = {block.value_size, block.created_ms(), block.expires_ms(), cas_token(found), block.caller_flags()};
}

inline Status Shard::status_of(FastPin outcome) noexcept {
  if (outcome == FastPin::kPinned) [[likely]]
    return Status::kOk;
  return outcome == FastPin::kMiss ? Status::kMiss : Status::kFull;
}

// As a get, with a pin in the place of the copy. Why it holds: the pin is set before the ref is looked at for the last
// time, and a writer looks at the pins after it has changed the ref. So either the change is seen here, or the pin
// there. The pinned hint tells the writer that there may be a pin; the exchange that changes the ref clears it in the
// same step.
template <class Now>
inline Status Shard::pin(const Key& key, PinSet& pins, const Deadline& deadline, std::uint64_t accessed_at_ms,
                         Now now_ms, PinnedBlock* pinned) noexcept {
  const FastPin outcome = try_pin<false>(key, pins, accessed_at_ms, now_ms, pinned);
  if (outcome != FastPin::kUnsettled) [[likely]]
    return status_of(outcome);
  return pin_slow(key, pins, deadline, accessed_at_ms, now_ms, pinned);
}

// Once more, asking for memory that this process does not know of yet, and then under the lock.
template <class Now>
Status Shard::pin_slow(const Key& key, PinSet& pins, const Deadline& deadline, std::uint64_t accessed_at_ms, Now now_ms,
                       PinnedBlock* pinned) noexcept {
  const FastPin outcome = try_pin<true>(key, pins, accessed_at_ms, now_ms, pinned);
  if (outcome != FastPin::kUnsettled) return status_of(outcome);
  return pin_locked(key, pins, accessed_at_ms, {deadline, now_ms()}, pinned);
}

template <bool kAsks, class Now>
[[gnu::always_inline]] inline Shard::FastPin Shard::try_pin(const Key& key, PinSet& pins, std::uint64_t accessed_at_ms,
                                                            Now now_ms, PinnedBlock* pinned) noexcept {
  Probe probe;
  if (!probe_start<kAsks>(key, &probe)) [[unlikely]]
    return FastPin::kUnsettled;
  probe_bucket<LineUse::kRead>(key, &probe);
  Pinned did = Pinned::kExpired;
  Entry* entry = nullptr;
  pinned->pin = PinSet::kNone;
  const auto consume = [&](const FoundEntry& candidate) __attribute__((always_inline)) {
    entry = candidate.entry;
    describe_pinned(candidate, pinned);
    const std::uint64_t expires_ms = pinned->read.expires_ms;
    did = Pinned::kExpired;
    if constexpr (kAsks) {
      if (tags_.is_over(backing(), candidate.block, now_ms())) return;
      pinned->read.expires_ms = instant_of(expires_ms);
    } else {
      if (expires_ms != 0 && may_be_over(expires_ms, now_ms())) return;
    }
    if (!has_memory_for(candidate)) return;
    did = Pinned::kNoPlace;
    pinned->pin = pins.claim(offset_of(pinned->position) | kPinIsTentative);
    if (pinned->pin == PinSet::kNone) return;
    did = Pinned::kPinned;
    std::atomic_thread_fence(std::memory_order_seq_cst);
    std::uint64_t ref = candidate.ref;
    // If it fails somebody else has set the bit, or the ref has changed otherwise, as the last look at it tells.
    if (!ref_has_pinned_hint(ref))
      entry->ref.compare_exchange_strong(ref, ref | kPinnedHint, std::memory_order_acq_rel);
  };
  const Lookup outcome = probe_finish<kAsks>(key, &probe, consume);
  if (outcome == Lookup::kFound && did == Pinned::kPinned) [[likely]] {
    pins.validate(pinned->pin, offset_of(pinned->position));
    record_access(*entry, accessed_at_ms);
    return FastPin::kPinned;
  }
  if (pinned->pin != PinSet::kNone) pins.drop(pinned->pin);
  if (outcome == Lookup::kUnstable) return FastPin::kUnsettled;
  // Its tags may be good: the other look compares them.
  if (!kAsks && outcome == Lookup::kFound && did == Pinned::kExpired) return FastPin::kUnsettled;
  if (outcome == Lookup::kAbsent) note_miss(key, *probe.bucket);
  return outcome == Lookup::kFound && did == Pinned::kNoPlace ? FastPin::kNoPlace : FastPin::kMiss;
}

}  // namespace memstream
