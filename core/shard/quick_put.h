// A put over a small value of the same size, in as few instructions as it takes. docs/performance.md says how many.
//
// It overwrites only where nothing unusual is met. Everything else goes on in store_held(), with all its cases and in
// the same hold of the lock. What both rely on is said in core/shard/shard_overwrite.cpp.
#pragma once

#include "core/base/touch_source.h"
#include "core/shard/quick_get.h"
#include "core/shard/shard_operation.h"

namespace memstream {

// Why it is safe on any bytes. As for get_quickly(): the number of cells is one that has memory, and is still that of
// the shard when W is held. The block lies where match_plain_block() lets it.
//
// Why it changes the right value. With W held an entry that is live is the one of the key in its block, so that neither
// the bucket nor the hint that led to it is looked at again. Borders of the heap and free lists are neither used nor
// changed, so they are not looked at either.
//
// A lease ends with the write of its key: where there is one, store_held() sees to it.
//
// The value is copied to the record before W is locked: the record is this thread's, and no shard names it. So a
// caller's page that is slow to come makes nobody wait, and the hold is shorter by the copy.
[[gnu::always_inline]] inline bool Shard::put_quickly(const Key& key, const std::byte* value, std::uint64_t value_size,
                                                      std::uint32_t redo_number, std::uint64_t now_ms,
                                                      Status* status) noexcept {
  ShardHeader* const shard = header_;
  prefetch_lock();
  std::uint64_t table = quick_.table.load(std::memory_order_acquire);
  // None at all, as in a shard with checksums, equals no number of cells, whatever bytes stand in its place.
  if (table == 0 || !is_now(shard->cells, static_cast<std::uint32_t>(table))) [[unlikely]] {
    table = learn_table();
    if (table == 0) return false;
  }
  const auto cells = static_cast<std::uint32_t>(table);
  const std::uint32_t bits = key.hash.bucket_bits();
  Bucket& bucket = Index::bucket(shard, quick_bucket(bits, table));
  EntryId id;
  std::uint64_t hint = 0;
  if (Index::first_in_slots(bucket, key.hash, &id, &hint)) [[likely]] {
    if (id >= cells * kSlotsPerCell || !Index::names_entry_in_short(id)) [[unlikely]]
      return false;
  } else if (bucket.overflow.load(std::memory_order_acquire) != 0) {
    if (const Entry* const chained = find_in_chain(shard, bucket, bits, cells); chained != nullptr) {
      id = Index::number_of(shard, *chained);
      hint = ref_block(chained->ref.load(std::memory_order_relaxed));
    }
  }
  RedoRecord& redo = redo_.record(redo_number);
  if (id != 0) [[likely]] {
    const std::byte* const hinted = base() + hint * kUnitSize;
    prefetch_line<LineUse::kWrite>(&Index::entry_unchecked(shard, id));
    prefetch_line<LineUse::kWrite>(hinted);
    prefetch_line<LineUse::kWrite>(hinted + kCacheLineSize);
    // A reader that sees a word written to the record from here on also sees that its previous contents were carried
    // out.
    std::atomic_thread_fence(std::memory_order_release);
    redo.shard.store(number_, std::memory_order_relaxed);
    copy_to_shared(redo.value, value, value_size);
  } else {
    touch_source(value, value_size);
  }

  if (!lock_.lock_at_once()) [[unlikely]]
    return false;
  lock_.assert_held();
  if (id != 0 && is_now(shard->cells, cells) && overwrite_quickly(key, value_size, redo_number, redo, id, now_ms))
      [[likely]] {
    *status = Status::kOk;
  } else {
    const StoreRequest request{.key = {key.bytes, key.hash},  // A copy, so that the key itself can stay in registers.
                               .value = value,
                               .value_size = value_size,
                               .redo = redo_number};
    *status = store_held(request, bucket, cells, id, now_ms);
  }
  lock_.let_readers_in_at_once();
  lock_.unlock();
  return true;
}

// With W held and readers shut out. From the commit on nothing here can fail.
[[gnu::always_inline]] inline bool Shard::overwrite_quickly(const Key& key, std::uint64_t value_size,
                                                            std::uint32_t redo_number, RedoRecord& redo, EntryId id,
                                                            std::uint64_t now_ms) noexcept {
  ShardHeader* const shard = header_;
  Entry& entry = Index::entry_unchecked(shard, id);
  std::uint64_t ref = entry.ref.load(std::memory_order_relaxed);
  // A process that may be viewing the value goes on seeing it, so the new value needs a block of its own.
  if ((ref & (kLiveBit | kPinnedHint)) != kLiveBit || !is_now(entry.hash, key.hash.bucket_bits()) ||
      space().leases != 0) [[unlikely]]
    return false;
  PlainBlock block;
  if (!match_plain_block<PlainLook::kBriefly>(backing(), ref_block(ref), key.bytes.size(), &block) ||
      !equal_in_shared(block.bytes() + block.key_start, key.bytes.data(), key.bytes.size())) [[unlikely]]
    return false;
  const std::uint64_t slack = block.size - block.value_start - value_size;
  if (slack >= kSpareBytes) [[unlikely]]
    return false;

  auto& header = const_cast<BlockHeader&>(*block.header);
  auto* const target = reinterpret_cast<std::byte*>(&header) + block.value_start;
  // Of the block before it the shape says what it says since W was locked.
  constexpr std::uint64_t kKept =
      BlockShape{.size_units = ~0U, .flags = kBlockUsed | kBlockPrevFree, .key_size = 0x7ff}.pack();
  const std::uint64_t shape =
      (block.word & kKept) |
      BlockShape{.flags = created_flags(now_ms), .slack = static_cast<std::uint32_t>(slack)}.pack();
  const std::uint64_t owner = owner_word(id, now_ms);
  const std::uint64_t busy_ref = ref_overwritten(ref);
  redo.ref.store(busy_ref, std::memory_order_relaxed);
  redo.entry.store(id, std::memory_order_relaxed);
  redo.block.shape.store(shape, std::memory_order_relaxed);
  redo.block.owner.store(owner, std::memory_order_relaxed);
  shard->redo.store(redo_number, std::memory_order_release);

  // The commit, as in overwrite().
  if (!entry.ref.compare_exchange_strong(ref, busy_ref, std::memory_order_acq_rel)) [[unlikely]] {
    shard->redo.store(0, std::memory_order_release);
    return false;
  }
  std::atomic_thread_fence(std::memory_order_release);
  header.shape.store(shape, std::memory_order_relaxed);
  header.owner.store(owner, std::memory_order_relaxed);
  copy_to_shared(target, redo.value, value_size);
  entry.ref.store(ref_finished(busy_ref), std::memory_order_release);
  shard->redo.store(0, std::memory_order_release);

  // As policy_of_write() has it, of a value without an expiry under the tag that the entry has.
  const std::uint32_t kept =
      entry.policy.load(std::memory_order_relaxed) & (policy_word(0xffff) | kSmall | kMain | kYoung | kHits);
  entry.policy.store(kept + static_cast<std::uint32_t>((kept & kHits) != kHits), std::memory_order_relaxed);
  const std::uint64_t old_slack = block.rest >> (BlockShape::kSlackShift - 32);
  if (slack != old_slack) space().value_memory += old_slack - slack;
  waits_.note_change(entry.hash, &header);
  return true;
}

}  // namespace memstream
