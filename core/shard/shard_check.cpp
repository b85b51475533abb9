// Verifying a shard: every invariant that docs/layout.md states, and every derived structure against the truth.
#include <fmt/format.h>

#include <algorithm>

#include "core/shard/shard.h"

namespace memstream {
namespace {

void expect_equal(std::vector<std::string>* problems, const char* what, std::uint64_t noted, std::uint64_t found) {
  if (noted != found) problems->push_back(fmt::format("{}: the shard notes {}, a walk finds {}", what, noted, found));
}

}  // namespace

Status Shard::check(const Deadline& deadline, std::vector<std::string>* problems) {
  if (const Status status = lock_.lock(deadline); status != Status::kOk) return status;
  std::vector<std::string> found;
  try {
    require_sound_borders();
    check_heap(&found);
    check_free_lists(&found);
    check_entries(&found);
    expect_equal(&found, "leases", leases_in_use(), count_leases());
    if (header_->redo.load(std::memory_order_relaxed) != 0) found.emplace_back("an overwriting that did not end");
    if ((header_->seq.load(std::memory_order_relaxed) & 1) != 0) found.emplace_back("a rebuild that did not end");
  } catch (const ShardDamage& damage) {
    found.emplace_back(damage.what);
  } catch (...) {  // No memory for the findings.
    lock_.unlock();
    throw;
  }
  lock_.unlock();
  for (const std::string& problem : found) problems->push_back(fmt::format("shard {}: {}", number_, problem));
  return Status::kOk;
}

void Shard::check_heap(std::vector<std::string>* problems) const {
  const ShardSpace& s = space();
  PinCensus census = pin_census();
  std::uint64_t used = 0, pinned = 0, free = 0, keys = 0, values = 0, orphans = 0;
  bool previous_free = false;
  for (std::uint32_t position = arena_.heap_begin(); position < arena_.heap_end();) {
    const BlockShape shape = arena_.shape(position);
    const bool marked = (shape.flags & kBlockPrevFree) != 0;
    if (marked != previous_free)
      problems->push_back(fmt::format("block {}: wrong mark about the block before it", position));
    if (!shape.used() && (previous_free || position == arena_.heap_begin())) {
      problems->push_back(fmt::format("block {}: free beside free space", position));
    }
    BlockContents block;
    if (!shape.used()) {
      free += shape.size_bytes();
    } else if (!read_block(backing(), position, &block)) {
      problems->push_back(fmt::format("block {}: its sizes contradict one another", position));
    } else {
      const bool has_owner = owning_ref(position) != 0;
      static_cast<void>(census.holds(position));
      const bool is_marked = (shape.flags & kBlockOrphan) != 0;
      if (!has_owner && !is_marked) problems->push_back(fmt::format("block {}: used by nobody", position));
      if (has_owner && is_marked) problems->push_back(fmt::format("block {}: live, and marked as nobody's", position));
      orphans += has_owner ? 0 : 1;
      (has_owner ? used : pinned) += shape.size_bytes();
      keys += has_owner ? block.key_size : 0;
      values += has_owner ? block.value_size : 0;
    }
    previous_free = !shape.used();
    position += shape.size_units;
  }
  if (census.strays() != 0) {
    problems->push_back(fmt::format("{} pins of processes name what is no block", census.strays()));
  }
  expect_equal(problems, "orphans", s.orphans, orphans);
  std::uint64_t in_ring = 0;
  for (std::uint32_t position = s.orphan_hand; position != 0 && in_ring <= orphans; ++in_ring) {
    if (position == s.orphan_hand && in_ring != 0) break;
    position = next_orphan(position);
  }
  expect_equal(problems, "orphans in their ring", orphans, in_ring);
  expect_equal(problems, "used memory", s.used_memory, used);
  expect_equal(problems, "pinned memory", s.pinned_memory, pinned);
  expect_equal(problems, "free memory", s.free_memory, free);
  expect_equal(problems, "key memory", s.key_memory, keys);
  expect_equal(problems, "value memory", s.value_memory, values);
}

void Shard::check_free_lists(std::vector<std::string>* problems) const {
  std::uint64_t listed = 0;
  std::uint64_t count = 0;
  const std::uint64_t most_blocks = size_ / (kMinBlockUnits * kUnitSize);
  for (std::uint32_t level = 0; level < kBinLevels; ++level) {
    for (std::uint32_t bin = 0; bin < kBinsPerLevel; ++bin) {
      const std::uint32_t head = header_->free_lists.heads[level][bin];
      const bool marked = (header_->free_lists.bin_bitmap[level] >> bin & 1) != 0;
      if (marked != (head != 0))
        problems->push_back(fmt::format("free list {}/{}: wrong bit in the bitmap", level, bin));
      std::uint32_t previous = 0;
      for (std::uint32_t position = head; position != 0;) {
        const BlockShape shape = arena_.shape(position);
        if (shape.used()) problems->push_back(fmt::format("block {}: used and in a free list", position));
        if (++count > most_blocks) throw ShardDamage{"a free list that does not end"};
        listed += shape.size_bytes();
        const std::uint64_t links = arena_.block(position).owner.load(std::memory_order_relaxed);
        // So a walk that comes back to where it has been is noticed there.
        if (link_previous(links) != previous) throw ShardDamage{"a free list that is not linked both ways"};
        previous = position;
        position = link_next(links);
      }
    }
    const bool marked = (header_->free_lists.level_bitmap >> level & 1) != 0;
    if (marked != (header_->free_lists.bin_bitmap[level] != 0)) {
      problems->push_back(fmt::format("free lists of level {}: wrong bit in the bitmap", level));
    }
  }
  expect_equal(problems, "memory in free lists", space().free_memory, listed);
}

void Shard::check_entries(std::vector<std::string>* problems) const {
  std::uint64_t live = 0;
  std::uint64_t small = 0;
  for (std::uint64_t id = 0; id < std::uint64_t{index_.cells()} * kSlotsPerCell; ++id) {
    id = Index::entry_at_or_after(static_cast<std::uint32_t>(id));
    const auto current = static_cast<std::uint32_t>(id);
    const std::uint64_t ref = index_.entry(current).ref.load(std::memory_order_relaxed);
    const std::uint32_t policy = index_.entry(current).policy.load(std::memory_order_relaxed);
    const std::uint32_t queues = policy & (kSmall | kMain);
    if (ref_is_live(ref) ? queues != kSmall && queues != kMain : queues != 0) {
      problems->push_back(fmt::format("entry {}: in the wrong number of eviction queues", current));
    }
    if (ref_is_overwritten(ref)) problems->push_back(fmt::format("entry {}: a value half overwritten", current));
    if (!ref_is_live(ref)) continue;
    ++live;
    const BlockContents block(checked_block(ref_block(ref)));
    const std::string_view bytes(reinterpret_cast<const char*>(block.key), block.key_size);
    const Key key{bytes, hash_key(bytes, hash_seed_)};
    if (block.entry != current)
      problems->push_back(fmt::format("entry {}: its block names entry {}", current, block.entry));
    if ((policy & (kSmall | kExpires)) != 0 && !eviction_.is_marked(current)) {
      problems->push_back(fmt::format("entry {}: eviction will not look at it", current));
    }
    if (queues == kSmall) small += block.stored_size;
    if (find(key).id != current) {
      problems->push_back(fmt::format("entry {}: its key does not lead to it", current));
    } else if (const std::uint32_t hint = index_.hint_of(current); hint != 0 && hint != ref_block(ref)) {
      problems->push_back(fmt::format("entry {}: its bucket looks for its block elsewhere", current));
    }
    if (!is_whole(key, checked_block(ref_block(ref)))) {
      problems->push_back(fmt::format("entry {}: its value does not fit its checksum", current));
    }
    if (key.hash.shard(geometry_.shards) != number_) {
      problems->push_back(fmt::format("entry {}: its key belongs to another shard", current));
    }
  }
  expect_equal(problems, "entries", space().entries, live);
  expect_equal(problems, "memory of the small queue", space().small_memory, small);

  std::uint64_t named = 0;
  for (std::uint32_t cell = 0; cell < index_.cells(); ++cell) {
    const Bucket& bucket = Index::bucket(header_, cell);
    if ((bucket.version.load(std::memory_order_relaxed) & 1) != 0) {
      problems->push_back(fmt::format("bucket {}: a change that did not end", cell));
    }
    for (const auto& slot : bucket.slots) named += slot.load(std::memory_order_relaxed) != 0 ? 1U : 0U;
    for (std::uint32_t id = bucket.overflow.load(), steps = 0; id != 0; id = index_.entry(id).next.load()) {
      if (++steps > kMaxChain) throw ShardDamage{"a chain that does not end"};
      ++named;
    }
  }
  expect_equal(problems, "entries in buckets", space().entries, named);

  std::uint64_t free = 0;
  for (std::uint32_t id = space().free_entry; id != 0; id = index_.entry(id).next.load()) {
    if (++free > index_.entry_capacity()) throw ShardDamage{"a list of free entries that does not end"};
  }
  expect_equal(problems, "free entries", index_.entry_capacity() - live, free);
}

}  // namespace memstream
