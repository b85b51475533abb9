// Reading a shard: without a lock where that works, under the shared lock where it does not.
#include <utility>

#include "core/shard.h"

namespace memstream {
namespace {

constexpr int kFastTries = 16;
// Access counts are exact up to here; then one access in kSampling adds kSampling, so that a hot entry's cache line is
// not written by every reader.
constexpr std::uint32_t kExactAccesses = 1024;
constexpr std::uint32_t kSampling = 16;
constexpr std::uint32_t kScanStretch = 8192;  // Entry numbers looked at in one hold of the shared lock.

bool sampled() noexcept {
  thread_local std::uint32_t accesses = 0;
  return ++accesses % kSampling == 0;
}

}  // namespace

// One try to read `key` without a lock. `consume(block, id, ref)` gets the contents while they may still change; what
// it made of them counts only if kFound comes back. Safe on any bytes.
//
// Why kFound can be believed: the entry's ref is loaded before the block is looked at and again after, and was the
// same. A block is given up only after its entry's ref has changed, and a ref never returns to an old value.
// Why kAbsent can be believed: neither the bucket nor the number of buckets changed while they were looked at.
template <class Consume>
Shard::Lookup Shard::lookup(const Key& key, Consume consume) const noexcept {
  const std::uint64_t seq = header_->seq.load(std::memory_order_acquire);
  const std::uint32_t cells = header_->cells.load(std::memory_order_acquire);
  if ((seq & 1) != 0 || cells == 0 || cells > max_cells_) return Lookup::kUnstable;

  const Bucket& bucket = Index::bucket(header_, Index::bucket_of(key.hash.bucket_bits(), cells));
  const std::uint32_t version = bucket.version.load(std::memory_order_acquire);
  bool moved = false;
  const bool found = Index::probe(header_, bucket, key.hash.tag(), cells, [&](std::uint32_t id) {
    const Entry& entry = Index::entry_unchecked(header_, id);
    if (entry.hash.load(std::memory_order_relaxed) != key.hash.bucket_bits()) return false;
    const std::uint64_t ref = entry.ref.load(std::memory_order_acquire);
    if (!ref_is_live(ref)) return false;
    BlockContents block;
    const bool same_key = read_block(base(), size_, ref_block(ref), &block) && block.key_is(key.bytes);
    if (same_key) consume(std::as_const(block), id, ref);
    std::atomic_thread_fence(std::memory_order_acquire);
    moved = entry.ref.load(std::memory_order_relaxed) != ref;
    return same_key || moved;
  });

  std::atomic_thread_fence(std::memory_order_acquire);
  if (moved || header_->seq.load(std::memory_order_relaxed) != seq) return Lookup::kUnstable;
  if (found) return Lookup::kFound;
  const bool stood_still = (version & 1) == 0 && bucket.version.load(std::memory_order_relaxed) == version &&
                           header_->cells.load(std::memory_order_relaxed) == cells;
  return stood_still ? Lookup::kAbsent : Lookup::kUnstable;
}

// Looks `key` up, fast if that works within a few tries. kOk or kMiss, or why there is no answer.
template <class Consume>
Status Shard::read(const Key& key, const Deadline& deadline, Consume consume) noexcept {
  Lookup outcome = Lookup::kUnstable;
  for (int tries = 0; tries < kFastTries && outcome == Lookup::kUnstable; ++tries) outcome = lookup(key, consume);
  while (outcome == Lookup::kUnstable) {
    if (read_only_) {
      // No lock may be taken, so all there is to do is to look again.
      if (deadline.passed())
        return fail(Status::kBusy, "The shard kept changing until the deadline, or it is damaged.");
      outcome = lookup(key, consume);
      continue;
    }
    const Status status = lock_.read_shared(deadline, [&] { outcome = lookup(key, consume); });
    if (status != Status::kOk) return status;
    // Nobody wrote during that look, so that what is unstable is damaged: under the write lock it is put right.
    if (outcome == Lookup::kUnstable) {
      const Status repaired = write(Exclusion::kWriters, deadline, [&] {
        outcome = lookup(key, consume);
        if (outcome == Lookup::kUnstable) throw ShardDamage{"a look-up that does not settle"};
        return Status::kOk;
      });
      if (repaired != Status::kOk) return repaired;
    }
  }
  return outcome == Lookup::kFound ? Status::kOk : Status::kMiss;
}

Status Shard::get(const Key& key, std::byte* room, std::uint64_t room_bytes, const Deadline& deadline,
                  std::uint64_t now_ms, ReadResult* result, bool* large) noexcept {
  enum class Took { kCopied, kExpired, kTooSmall, kLarge } took = Took::kCopied;
  std::uint32_t found_id = 0;
  const Status status = read(key, deadline, [&](const BlockContents& block, std::uint32_t id, std::uint64_t ref) {
    *result = {block.value_size, block.created_ms, block.expires_ms, cas_token(id, ref), block.caller_flags};
    found_id = id;
    if (block.expired(now_ms)) {
      took = Took::kExpired;
    } else if (block.value_size > room_bytes) {
      took = Took::kTooSmall;
    } else if (large != nullptr && block.value_size >= kPinnedCopySize) {
      took = Took::kLarge;
    } else {
      took = Took::kCopied;
      copy_from_shared(room, block.value, block.value_size);
    }
  });
  if (large != nullptr) *large = status == Status::kOk && took == Took::kLarge;
  if (status != Status::kOk) return status;
  switch (took) {
    case Took::kExpired:
      return Status::kMiss;
    case Took::kTooSmall:
      return Status::kTooSmall;
    case Took::kLarge:
      return Status::kOk;
    case Took::kCopied:
      break;
  }
  note_access(found_id, now_ms);
  return Status::kOk;
}

void Shard::note_access(std::uint32_t id, std::uint64_t now_ms) const noexcept {
  if (read_only_) return;
  Entry& entry = Index::entry_unchecked(header_, id);
  if (entry.access_count.load(std::memory_order_relaxed) < kExactAccesses) {
    entry.access_count.fetch_add(1, std::memory_order_relaxed);
  } else if (sampled()) {
    entry.access_count.fetch_add(kSampling, std::memory_order_relaxed);
  }
  if (entry.last_access_ms.load(std::memory_order_relaxed) != now_ms) {
    entry.last_access_ms.store(now_ms, std::memory_order_relaxed);
  }
  if ((entry.policy.load(std::memory_order_relaxed) & kReferenced) == 0) {
    entry.policy.fetch_or(kReferenced, std::memory_order_relaxed);
  }
}

Status Shard::inspect(const Key& key, const Deadline& deadline, std::uint64_t now_ms,
                      const std::function<void(const ScannedEntry&)>& visit) noexcept {
  std::uint32_t found_id = 0;
  bool expired = false;
  ScannedEntry scanned;
  const Status status = read(key, deadline, [&](const BlockContents& block, std::uint32_t id, std::uint64_t ref) {
    const Entry& entry = Index::entry_unchecked(header_, id);
    found_id = id;
    expired = block.expired(now_ms);
    scanned = {block, entry.last_access_ms.load(std::memory_order_relaxed),
               entry.access_count.load(std::memory_order_relaxed), cas_token(id, ref)};
  });
  if (status != Status::kOk) return status;
  if (expired) return Status::kMiss;
  if (visit) {
    scanned.block.key = reinterpret_cast<const std::byte*>(key.bytes.data());
    visit(scanned);
  }
  return Status::kOk;
}

// The entry `id` as it is now, its key copied to `key_room`; false if it is empty, expired, changing or makes no sense.
bool Shard::describe(std::uint32_t id, std::uint64_t now_ms, std::byte (&key_room)[kMaxKeySize],
                     ScannedEntry* scanned) const noexcept {
  const Entry& entry = Index::entry_unchecked(header_, id);
  const std::uint64_t ref = entry.ref.load(std::memory_order_acquire);
  if (!ref_is_live(ref) || !read_block(base(), size_, ref_block(ref), &scanned->block)) return false;
  copy_from_shared(key_room, scanned->block.key, scanned->block.key_size);
  scanned->block.key = key_room;
  scanned->last_access_ms = entry.last_access_ms.load(std::memory_order_relaxed);
  scanned->access_count = entry.access_count.load(std::memory_order_relaxed);
  scanned->cas = cas_token(id, ref);
  // A read-only attach has no lock that keeps the entry as it is.
  std::atomic_thread_fence(std::memory_order_acquire);
  return entry.ref.load(std::memory_order_relaxed) == ref && !scanned->block.expired(now_ms);
}

Status Shard::scan(std::uint32_t* next, const Deadline& deadline, std::uint64_t now_ms,
                   const std::function<bool(const ScannedEntry&)>& visit) noexcept {
  const auto stretch = [&] {
    const std::uint32_t cells = header_->cells.load(std::memory_order_acquire);
    const std::uint64_t end = std::uint64_t{cells > max_cells_ ? 0 : cells} * kSlotsPerCell;
    std::uint64_t id = *next;
    ScannedEntry scanned;
    std::byte key_room[kMaxKeySize];
    for (std::uint32_t looked = 0; id < end && looked < kScanStretch; ++looked, ++id) {
      id = Index::entry_at_or_after(static_cast<std::uint32_t>(id));
      if (describe(static_cast<std::uint32_t>(id), now_ms, key_room, &scanned) && !visit(scanned)) break;
    }
    *next = id < end ? static_cast<std::uint32_t>(id) : 0;
  };
  if (!read_only_) return lock_.read_shared(deadline, stretch);
  stretch();
  return Status::kOk;
}

Status Shard::statistics(const Deadline& deadline, ShardStatistics* statistics) noexcept {
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
    statistics->committed_memory = numbers.heap_committed <= numbers.table_committed
                                       ? size_
                                       : numbers.table_committed + (size_ - numbers.heap_committed);
    statistics->entries = numbers.entries;
    statistics->entry_capacity = cells * kEntriesPerCell;
  };
  if (read_only_) {
    copy();
    return Status::kOk;
  }
  // Not the shared lock: pins change these numbers under W alone.
  const Status status = lock_.lock(deadline);
  if (status != Status::kOk) return status;
  copy();
  lock_.unlock();
  return Status::kOk;
}

}  // namespace memstream
