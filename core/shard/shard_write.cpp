// Changing a shard: find the entry, fill a free block, store the ref, tidy up.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string>

#include "core/base/touch_source.h"
#include "core/shard/shard_find.h"
#include "core/shard/shard_operation.h"

namespace memstream {
namespace {

constexpr std::uint64_t kIntegerText = 24;   // Bytes that hold any 64-bit integer in decimal.
constexpr std::uint32_t kClearBatch = 1024;  // Entries removed in one hold of the lock.

}  // namespace

// ---- finding, with W held: nothing moves ----

FoundEntry ShardContents::live_entry(EntryId id) const {
  FoundEntry found;
  found.entry = &index_.entry(id);
  found.ref = EntryRef{found.entry->ref.load(std::memory_order_relaxed)};
  if (!ref_is_live(found.ref)) throw CorruptionDetected{"an empty entry where a live one should be"};
  found.id = id;
  found.block = checked_block(found.position());
  return found;
}

FoundEntry ShardContents::find(const Key& key) const {
  const std::uint32_t cells = index_.cells();
  if (!backing().has_cells(cells)) throw CorruptionDetected{"a table of impossible size"};
  const Bucket& bucket = Index::bucket(header_, Index::bucket_of(key.hash.bucket_bits(), cells));
  FoundEntry found;
  const auto has_key = [&](EntryId id) MEMSTREAM_NEEDS_W __attribute__((always_inline)) {
    Entry& entry = Index::entry_unchecked(header_, id);
    if (entry.hash.load(std::memory_order_relaxed) != key.hash.bucket_bits()) return false;
    const std::uint64_t ref = entry.ref.load(std::memory_order_relaxed);
    if (!ref_is_live(ref)) throw CorruptionDetected{"an empty entry in a bucket"};
    found.block = checked_block(ref_block(ref));
    if (!found.block.key_is(key.bytes)) return false;
    found.entry = &entry;
    found.ref = EntryRef{ref};
    found.id = id;
    return true;
  };
  Index::InSlots in_slots(bucket, key.hash.tag(), cells);
  for (EntryId id = in_slots.next(); id != 0; id = in_slots.next()) {
    if (has_key(id)) return found;
  }
  Index::InChain in_chain(header_, bucket, cells);
  for (EntryId id = in_chain.next(); id != 0; id = in_chain.next()) {
    if (has_key(id)) return found;
  }
  return found;
}

// As find(), but an entry whose time has come is removed and not found.
FoundEntry Shard::find_fresh(const Key& key, std::uint64_t now_ms) {
  FoundEntry found = contents_.find(key);
  if (found.id != 0 && tags_.is_over(backing(), found.block, now_ms)) {
    remove_expired(found);
    found = {};
  }
  return found;
}

void Shard::remove_expired(const FoundEntry& found) {
  reclaimer_.remove_entry(found);
  ++header_->counters.expirations;
}

// ---- storing ----

Status Shard::check_large_size(const StoreRequest& request) const noexcept {
  const std::uint64_t limit = max_value_size(geometry_, request.key.bytes.size());
  if (request.value_and_tags_size() <= limit) return Status::kOk;
  return fail_without_throwing(Status::kTooLarge, [&] {
    const std::uint64_t size = geometry_.size_bytes;
    const std::string remedy =
        request.value_size <= largest_max_value(size)
            ? fmt::format(
                  "A new segment of this size holds it: destroy this one and open it with max_value={} "
                  "(MEMSTREAM_MAX_VALUE).",
                  request.value_size)
            : fmt::format(
                  "No segment of {} bytes can hold it. Make a new one with size={} (MEMSTREAM_SIZE) and "
                  "max_value={} (MEMSTREAM_MAX_VALUE), or split the value.",
                  size, page_ceil(4 * request.value_size), request.value_size);
    return fmt::format("A value of {} bytes is larger than the limit of {} bytes for this segment. {}",
                       request.value_size, limit, remedy);
  });
}

// Whether the request's mode allows it, given the entry that its key has now.
Status Shard::check_mode(const StoreRequest& request, const FoundEntry& found) const noexcept {
  switch (request.mode) {
    case StoreMode::kSet:
      return Status::kOk;
    case StoreMode::kAdd:
      return found.id == 0 ? Status::kOk : Status::kExists;
    case StoreMode::kReplace:
      return found.id == 0 ? Status::kMiss : Status::kOk;
    case StoreMode::kLease:
      return leases_.stands(request.key, request.lease_owner, request.cas) ? Status::kOk : Status::kConflict;
    case StoreMode::kNear:
      return is_fill_valid(request.key.hash, request.cas) ? Status::kOk : Status::kConflict;
    case StoreMode::kCas:
      if (found.id == 0) return Status::kMiss;
      return cas_token(found) == request.cas ? Status::kOk : Status::kConflict;
  }
  return Status::kInvalid;
}

Status Shard::may_store(const StoreRequest& request, const OpContext& context) noexcept {
  if (const Status status = check_size(request); status != Status::kOk) return status;
  if (request.mode == StoreMode::kSet) return Status::kOk;
  return write(Exclusion::kEverybody, context.deadline,
               [&]() MEMSTREAM_NEEDS_W { return check_mode(request, find_fresh(request.key, context.now_ms)); });
}

// Writes everything of the block but the value and its owner.
[[gnu::always_inline]] inline CheckedBlock ShardContents::fill_inline(BlockPosition position,
                                                                      const StoreRequest& request, bool has_extras,
                                                                      std::uint64_t created_ms) {
  Arena::HeapBlock filled = arena_.look_at(position);
  BlockHeader& header = *filled.header;
  BlockShape& shape = filled.shape;
  shape.key_size = static_cast<std::uint32_t>(request.key.bytes.size());
  shape.flags &= kBlockUsed | kBlockPrevFree;
  shape.flags |= created_flags(created_ms);
  if (request.value_size >= kAlignedValueSize) shape.flags |= kBlockAligned;
  if (has_extras) shape.flags |= kBlockExtras;
  const std::uint64_t value_start = shape.value_start(position);
  // Of a block up to a stretch arena_.look_at() knows.
  if (shape.size_bytes() > Backing::kStretchSize && !backing().reaches(position, shape.size_bytes())) {
    throw CorruptionDetected{"a block without memory"};
  }
  if (value_start + request.value_size > shape.size_bytes()) throw CorruptionDetected{"a block that is too small"};
  shape.slack = static_cast<std::uint32_t>(shape.size_bytes() - value_start - request.value_size);
  auto* const bytes = reinterpret_cast<std::byte*>(&header);
  copy_to_shared(bytes + shape.key_start(), request.key.bytes.data(), request.key.bytes.size());
  header.owner.store(owner_word(EntryId{0}, created_ms), std::memory_order_relaxed);
  Arena::set_shape(header, shape);
  if (has_extras) {
    if (request.has_tags() && shape.slack < sizeof(BlockTags))
      throw CorruptionDetected{"a block without room for tags"};
    set_extras(header, request);
  }
  return {.header = &header,
          .value = bytes + value_start,
          .value_size = request.value_size,
          .stored_size = shape.size_bytes(),
          .key_size = shape.key_size,
          .flags = shape.flags,
          .key_start = shape.key_start()};
}

CheckedBlock ShardContents::fill(BlockPosition position, const StoreRequest& request, bool has_extras,
                                 std::uint64_t created_ms) {
  return fill_inline(position, request, has_extras, created_ms);
}

// Of a block that has them.
void ShardContents::set_extras(BlockHeader& header, const StoreRequest& request) noexcept {
  BlockExtras& extras = extras_of(header);
  extras.expires_ms.store(request.expires_ms, std::memory_order_relaxed);
  extras.caller_flags.store(request.caller_flags, std::memory_order_relaxed);
  if (request.has_tags()) [[unlikely]] {
    const std::uint64_t size = BlockShape::unpack(header.shape.load(std::memory_order_relaxed)).size_bytes();
    auto& tags = *reinterpret_cast<BlockTags*>(reinterpret_cast<std::byte*>(&header) + size - sizeof(BlockTags));
    for (std::uint32_t i = 0; i < kTagsPerEntry; ++i)
      tags.pairs[i].store((*request.tags)[i], std::memory_order_relaxed);
  }
}

// The commit: makes the filled block the value of the request's key. `found` is the key's entry; if it has none,
// `new_id` is a free one. Making room may have evicted the entry in the meantime, or moved its block. `is_pinned`: the
// block is held already, by the process that filled it.
[[gnu::always_inline]] inline void Shard::publish_inline(BlockPosition position, const CheckedBlock& block,
                                                         const StoreRequest& request, const FoundEntry& found,
                                                         EntryId new_id, std::uint64_t now_ms, bool is_pinned) {
  const KeyHash hash = request.key.hash;
  const bool replaces = found.id != 0 && ref_is_live(found.entry->ref.load(std::memory_order_relaxed));
  if (found.id != 0 && !replaces) new_id = index_.take_free_entry();
  if (!replaces && new_id == 0) throw CorruptionDetected{"an evicted entry that did not become free"};
  const EntryId id = replaces ? found.id : new_id;
  Entry& entry = replaces ? *found.entry : index_.entry(new_id);
  const_cast<BlockHeader*>(block.header)->owner.store(owner_word(id, now_ms), std::memory_order_relaxed);

  std::uint64_t old_ref = entry.ref.load(std::memory_order_relaxed);
  CheckedBlock old_block = found.block;
  std::uint32_t policy = policy_word(hash.tag()) | (request.expires_ms != 0 ? kExpires : 0);
  if (replaces) {
    const std::uint32_t old_policy = entry.policy.load(std::memory_order_relaxed);
    policy = policy_of_write(old_policy, request);
    // A ref never comes back.
    if (!is_same_ref(old_ref, found.ref)) [[unlikely]]
      old_block = contents_.checked_block(ref_block(old_ref));
    eviction_.recount(id, old_policy, policy, old_block.stored_size, block.stored_size);
  } else {
    if (const EntryId coldest = index_.overfull(hash.bucket_bits()); coldest != 0) {
      reclaimer_.evict(contents_.live_entry(coldest), Removal::kChain, now_ms);
    }
    entry.hash.store(hash.bucket_bits(), std::memory_order_relaxed);
    entry.access_count.store(0, std::memory_order_relaxed);
    entry.last_access_ms.store(now_ms, std::memory_order_relaxed);
    policy |= eviction_.admit(hash, id);
    eviction_.count_in(id, policy, block.stored_size);
  }
  entry.policy.store(policy, std::memory_order_relaxed);

  const std::uint64_t ref = ref_live(old_ref, position) | (is_pinned ? kPinnedHint : 0);
  old_ref = entry.ref.exchange(ref, std::memory_order_acq_rel);

  ShardSpace& s = space();
  s.used_memory += block.stored_size;
  s.key_memory += block.key_size;
  s.value_memory += block.value_size;
  if (replaces) {
    index_.renew_hint(id);
    reclaimer_.release_block(EntryRef{old_ref}, old_block);
  } else {
    ++s.entries;
    index_.link(id);
  }
  leases_.end_of(request.key);
  waits_.note_change(hash.bucket_bits(), block.header);
}

void Shard::publish(BlockPosition position, const CheckedBlock& block, const StoreRequest& request,
                    const FoundEntry& found, EntryId new_id, std::uint64_t now_ms, bool is_pinned) {
  publish_inline(position, block, request, found, new_id, now_ms, is_pinned);
}

// Stores unconditionally, in a block of its own; `found` is the key's entry, if it has one.
[[gnu::always_inline]] inline Status Shard::store_in_new_block_inline(const StoreRequest& request,
                                                                      const FoundEntry& found, std::uint64_t now_ms) {
  Units units = block_units_for(request.key.bytes.size(), request.value_size, request.has_extras());
  if (request.has_tags()) [[unlikely]]
    units = block_units_for(request.key.bytes.size(), request.value_and_tags_size(), true);
  Reclaimer::BlockWanted room{.units = units};
  EntryId new_id;
  if (found.id == 0) {
    new_id = reclaimer_.take_entry(units * kUnitSize, now_ms, &room);
    if (new_id == 0) return reclaimer_.no_room(sizeof(Entry));
  }
  const BlockPosition position = room.position != 0 ? room.position : reclaimer_.make_room(units, now_ms);
  if (position == 0) {
    if (new_id != 0) index_.give_free_entry(new_id);
    return reclaimer_.no_room(units * kUnitSize);
  }
  const CheckedBlock block = contents_.fill_inline(position, request, request.has_extras(), now_ms);
  copy_to_shared(const_cast<std::byte*>(block.value), request.value, request.value_size);
  publish_inline(position, block, request, found, new_id, now_ms, false);
  return Status::kOk;
}

Status Shard::store_in_new_block(const StoreRequest& request, const FoundEntry& found, std::uint64_t now_ms) {
  return store_in_new_block_inline(request, found, now_ms);
}

Status Shard::store_held(const StoreRequest& request, Bucket& bucket, std::uint32_t cells, EntryId id,
                         std::uint64_t now_ms) noexcept {
  try {
    contents_.require_valid_bounds();
    table_shrinker_.fit(request);
    Probe probe;
    if (index_.cells() == cells) [[likely]] {
      if (id == 0 && !Index::has_in_slots(bucket, request.key.hash) &&
          bucket.overflow.load(std::memory_order_relaxed) == 0) [[likely]]
        return store_in_new_block_inline(request, {}, now_ms);
      if (id != 0) {
        probe.bucket = &bucket;
        probe.seq = header_->seq.load(std::memory_order_relaxed);
        probe.cells = cells;
        probe.version = bucket.version.load(std::memory_order_relaxed);
        probe.first_id = id;
      }
    }
    return store_otherwise(request, probe, now_ms);
  } catch (const CorruptionDetected&) {
    rebuilder_.repair();
    try {
      return store_one(request, now_ms);
    } catch (const CorruptionDetected& damage) {
      return rebuilder_.reset_after_corruption(damage);
    }
  }
}

// ---- the other changes ----

Status Shard::remove(const Key& key, const OpContext& context) noexcept {
  Probe probe;
  prefetch_write(key, &probe);
  return write(Exclusion::kEverybody, context.deadline,
               [&]() MEMSTREAM_NEEDS_W { return remove_key(key, probe, context.now_ms); });
}

Status Shard::remove_key(const Key& key, const Probe& probe, std::uint64_t now_ms) {
  const FoundEntry found = find_fresh_probed(key, probe, now_ms);
  if (found.id != 0) {
    reclaimer_.remove_entry(found);
    ++header_->counters.deletes;
  }
  // Also when there was nothing to remove: a caller that deletes a key while it is computed does not want the result.
  leases_.end_of(key);
  return found.id != 0 ? Status::kOk : Status::kMiss;
}

Status Shard::touch(const Key& key, std::uint64_t expires_ms, const OpContext& context) noexcept {
  return write(Exclusion::kEverybody, context.deadline, [&]() MEMSTREAM_NEEDS_W {
    const FoundEntry found = find_fresh(key, context.now_ms);
    if (found.id == 0) return Status::kMiss;
    return set_expiry(key, found, expires_ms, context.now_ms);
  });
}

Status Shard::renew(const Key& key, std::uint64_t cas, std::uint64_t expires_ms, const OpContext& context) noexcept {
  return write(Exclusion::kEverybody, context.deadline, [&]() MEMSTREAM_NEEDS_W {
    const FoundEntry found = find_fresh(key, context.now_ms);
    if (found.id == 0) return Status::kMiss;
    if (cas_token(found) != cas) return Status::kConflict;
    return set_expiry(key, found, expires_ms, context.now_ms);
  });
}

Status Shard::set_expiry(const Key& key, const FoundEntry& found, std::uint64_t expires_ms, std::uint64_t now_ms) {
  if (expires_ms == 0 && !found.block.has_extras()) return Status::kOk;  // It has none to be taken away.
  if (!found.block.has_extras()) {
    const Status status = reclaimer_.give_expiry(found, expires_ms, now_ms);
    if (status == Status::kOk) waits_.note_change(key.hash.bucket_bits(), key.bytes);
    return status;
  }
  if (expires_ms != 0) eviction_.note_expiry(found);
  extras_of(arena_.block(found.position()))
      .expires_ms.store(expires_ms | (found.block.expires_ms() & kHasTags), std::memory_order_release);
  waits_.note_change(key.hash.bucket_bits(), key.bytes);
  return Status::kOk;
}

Status Shard::increment(const IncrementRequest& request, const OpContext& context, std::int64_t* result) noexcept {
  Probe probe;
  prefetch_write(request.key, &probe);
  return write(Exclusion::kEverybody, context.deadline, [&]() MEMSTREAM_NEEDS_W {
    const FoundEntry found = find_fresh_probed(request.key, probe, context.now_ms);
    if (found.id == 0 && request.initial == nullptr) return Status::kMiss;
    std::int64_t number = found.id == 0 ? *request.initial : 0;
    StoreRequest to_store{.key = request.key, .expires_ms = request.expires_ms, .redo = request.redo};
    TagPairs tags;
    if (found.id != 0) {
      if (!contents_.is_whole(request.key, found.block)) [[unlikely]] {
        remove_damaged(found);
        return damaged_value(false);
      }
      const BlockContents block(found.block);
      const auto* text = reinterpret_cast<const char*>(block.value);
      const auto [end, error] = std::from_chars(text, text + block.value_size, number);
      if (error != std::errc{} || end != text + block.value_size) {
        return fail(
            Status::kNotNumeric,
            "The value is not a decimal 64-bit integer in text. Store a number under this key, or use another key.");
      }
      to_store.expires_ms = found.block.expires_ms();
      if (block.has_tags) {
        tags = TagTable::pairs_of(backing(), found.block);
        to_store.tags = &tags;
        to_store.redo = 0;
      }
      to_store.caller_flags = block.caller_flags & 0xffff'ffff;
    }
    if (__builtin_add_overflow(number, request.delta, &number)) {
      return fail(Status::kNotNumeric,
                  "The sum does not fit into 64 bits, and the value is unchanged. Add less, or store another number.");
    }
    char text[kIntegerText];
    const char* end = std::to_chars(text, text + sizeof text, number).ptr;
    to_store.value = reinterpret_cast<const std::byte*>(text);
    to_store.value_size = static_cast<std::uint64_t>(end - text);
    to_store.caller_flags |= contents_.checksum_for(to_store.key, to_store.value, to_store.value_size);
    const Status status = store_value(to_store, found, context.now_ms);
    if (status == Status::kOk && result != nullptr) *result = number;
    return status;
  });
}

// A value that something wrote over is lost: its entry goes, and the next process that computes the key may store it.
void Shard::remove_damaged(const FoundEntry& found) {
  reclaimer_.remove_entry(found);
  ++header_->counters.damaged;
}

Status Shard::drop_damaged(const Key& key, const Deadline& deadline) noexcept {
  return write(Exclusion::kEverybody, deadline, [&]() MEMSTREAM_NEEDS_W {
    const FoundEntry found = contents_.find(key);
    if (found.id == 0) return Status::kMiss;
    if (contents_.is_whole(key, found.block)) return Status::kOk;
    remove_damaged(found);
    return Status::kCorrupt;
  });
}

// Leases end before the first entry goes, so that no value computed earlier is stored behind the walk. They end again
// after the last, since a value computed meanwhile may depend on entries that have gone.
Status Shard::clear(const Deadline& deadline) noexcept {
  // Downwards: a table that shrinks meanwhile moves entries down.
  std::uint64_t next = 0;
  bool is_first = true;
  do {
    const Status status = write(Exclusion::kEverybody, deadline, [&]() MEMSTREAM_NEEDS_W {
      if (next == 0) leases_.end_all();
      const std::uint64_t end = std::uint64_t{index_.cells()} * kSlotsPerCell;
      next = is_first ? end : std::min(next, end);
      is_first = false;
      std::uint32_t removed = 0;
      while (next != 0 && removed < kClearBatch) {
        const EntryId current{static_cast<std::uint32_t>(--next)};
        if (current % kSlotsPerCell == 0) eviction_.forget_ghosts(current / kSlotsPerCell);
        if (!Index::names_entry(current, index_.cells())) continue;
        if (!ref_is_live(index_.entry(current).ref.load(std::memory_order_relaxed))) continue;
        reclaimer_.remove_entry(contents_.live_entry(current));
        ++removed;
      }
      // If this process is killed in here, the next one to clear counts what it removes.
      count(metrics_.removals[static_cast<std::uint32_t>(Removal::kCleared)], removed);
      if (next == 0) {
        leases_.end_all();
        eviction_.forget_past();
      }
      return Status::kOk;
    });
    if (status != Status::kOk) return status;
  } while (next != 0);
  return Status::kOk;
}

}  // namespace memstream
