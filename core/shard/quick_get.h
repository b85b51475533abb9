// A get of a small value in as few instructions as it takes: so few that the processor has the next get under way while
// it waits for the memory of this one. docs/performance.md says what they are.
//
// It answers only where nothing unusual is met, and leaves everything else to Shard::try_get_fast(), which makes the
// same look-up with all its cases. What both rely on is said in core/shard/shard_lookup.h.
#pragma once

#include "core/shard/shard_lookup.h"

namespace memstream {

// Whether the lower halves of two words are equal. A compiler that knew it would go on with the one of the ref, which
// is there later.
[[gnu::always_inline]] inline bool is_same_hidden(std::uint64_t one, std::uint64_t other) noexcept {
#if defined(__x86_64__)
  bool is_same;
  asm("cmpl %k2, %k1" : "=@cce"(is_same) : "r"(one), "r"(other));
  return is_same;
#else
  asm("" : "+r"(one));
  return static_cast<std::uint32_t>(one) == static_cast<std::uint32_t>(other);
#endif
}

// The bucket of a table as QuickShard has it, as Index::bucket_of() gives it.
[[gnu::always_inline]] inline std::uint32_t Shard::quick_bucket(std::uint32_t bits, std::uint64_t table) noexcept {
  const auto cells = static_cast<std::uint32_t>(table);
  const auto mask = static_cast<std::uint32_t>(table >> 32);
  const std::uint32_t wider = bits & mask;
  return wider < cells ? wider : bits & mask >> 1;
}

// The first entry of a bucket's overflow chain with that hash. Null if there is none.
inline Entry* Shard::find_in_chain(ShardHeader* shard, const Bucket& bucket, std::uint32_t hash,
                                   std::uint32_t cells) noexcept {
  Index::InChain in_chain(shard, bucket, cells);
  for (EntryId id = in_chain.next(); id != 0; id = in_chain.next()) {
    Entry& entry = Index::entry_unchecked(shard, id);
    if (entry.hash.load(std::memory_order_relaxed) == hash) return &entry;
  }
  return nullptr;
}

// Why it is safe on any bytes. The number of cells is one that this process has found to have memory, so the bucket and
// every entry that is let pass lie in the table. The block lies where match_plain_block() lets it.
//
// Why a hit can be believed. The block is that of the ref: the hint only says so before the ref is there, so that the
// processor goes on to the block without it. The ref was live and the same before and after the copy. As for the seq,
// that of `quick_` is even, was seen before this get began, by this thread or one that stored it with release, and is
// there still: nobody has rebuilt the shard since. The hash of the entry is not looked at: the key in its block is.
//
// Why a miss can be believed. No slot has the tag, and no entry of the chain the hash; neither bucket nor number of
// cells nor seq changed meanwhile, and the bucket was in no change.
template <bool kWantsAll>
[[gnu::always_inline]] inline Shard::QuickAnswer Shard::get_quickly(const Key& key, std::byte* room,
                                                                    const std::size_t* room_bytes, ReadResult* read,
                                                                    Entry** found) const noexcept {
  ShardHeader* const shard = header_;
  const std::uint64_t seq = quick_.seq.load(std::memory_order_acquire);
  const std::uint64_t table = quick_.table.load(std::memory_order_acquire);
  const auto cells = static_cast<std::uint32_t>(table);
  if (!is_now(shard->cells, cells)) [[unlikely]]
    return QuickAnswer::kNone;
  std::atomic_thread_fence(std::memory_order_acquire);
  const std::uint32_t bits = key.hash.bucket_bits();
  Bucket& bucket = Index::bucket(shard, quick_bucket(bits, table));
  prefetch_line<LineUse::kRead>(bucket.hints);
  EntryId id;
  std::uint64_t position = 0;
  Entry* entry = nullptr;
  if (Index::first_in_slots(bucket, key.hash, &id, &position)) [[likely]] {
    if (id >= cells * kSlotsPerCell || !Index::names_entry_in_short(id)) [[unlikely]]
      return QuickAnswer::kNone;
    entry = &Index::entry_unchecked(shard, id);
  } else {
    // Once more, for the version that comes first.
    const std::uint32_t version = bucket.version.load(std::memory_order_acquire);
    if (Index::has_in_slots(bucket, key.hash)) return QuickAnswer::kNone;
    if (bucket.overflow.load(std::memory_order_acquire) != 0) entry = find_in_chain(shard, bucket, bits, cells);
    if (entry == nullptr) {
      std::atomic_thread_fence(std::memory_order_acquire);
      const bool stood_still = (version & 1) == 0 && is_now(bucket.version, version) && is_now(shard->cells, cells) &&
                               cells != 0 && is_now(shard->seq, seq);
      if (!stood_still) [[unlikely]]
        return QuickAnswer::kNone;
      note_miss(key, bucket);
      return QuickAnswer::kMiss;
    }
    position = ref_block(entry->ref.load(std::memory_order_relaxed));
  }

  // A ref that is not live becomes the same but live when an overwriting ends: the last look would not see that.
  const std::uint64_t ref = entry->ref.load(std::memory_order_acquire);
  if (!ref_is_live(ref) || !is_same_hidden(ref, position)) [[unlikely]]
    return QuickAnswer::kNone;
  constexpr PlainLook kLook = kWantsAll ? PlainLook::kKnows : PlainLook::kBriefly;
  PlainBlock block;
  if (!match_plain_block<kLook>(backing(), position, key.bytes.size(), &block) || block.value_size > *room_bytes)
      [[unlikely]]
    return QuickAnswer::kNone;
  if constexpr (kWantsAll) {
    if (block.has_extras() && extras_of(*block.header).expires_ms.load(std::memory_order_relaxed) != 0)
      return QuickAnswer::kNone;
  }
  if (!equal_in_shared(block.bytes() + block.key_start, key.bytes.data(), key.bytes.size())) [[unlikely]]
    return QuickAnswer::kNone;
  if (!copy_small_from_shared(room, block.bytes() + block.value_start, block.value_size)) [[unlikely]]
    return QuickAnswer::kNone;
  read->value_size = block.value_size;
  if constexpr (kWantsAll) {
    read->created_ms = created_of(block.header->owner.load(std::memory_order_relaxed), block.flags());
    read->cas = cas_token(Index::number_of(shard, *entry), EntryRef{ref}, BlockShape{.flags = block.flags()}.moves());
    if (block.has_extras()) read->caller_flags = extras_of(*block.header).caller_flags.load(std::memory_order_relaxed);
  }
  std::atomic_thread_fence(std::memory_order_acquire);
  if (!is_now(entry->ref, ref) || !is_now(shard->seq, seq)) [[unlikely]]
    return QuickAnswer::kNone;
  *found = entry;
  return QuickAnswer::kHit;
}

}  // namespace memstream
