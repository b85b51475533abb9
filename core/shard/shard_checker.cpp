// See shard_checker.h.
#include "core/shard/shard_checker.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <thread>

#include "core/base/thread_cancel.h"
#include "core/layout/block.h"
#include "core/layout/corruption.h"

namespace memstream {
namespace {

constexpr std::uint32_t kLooksAtOnce = 2048;  // At blocks or entries in one hold of the lock.
constexpr int kTries = 3;                     // To find a large shard at rest.
constexpr std::chrono::microseconds kPause{20};

void expect_equal(std::vector<std::string>* problems, const char* what, std::uint64_t noted, std::uint64_t found) {
  if (noted != found) problems->push_back(fmt::format("{}: the shard notes {}, a walk finds {}", what, noted, found));
}

}  // namespace

// A walk through a shard, from one hold of W to the next.
struct ShardChecker::Walk {
  enum class Part { kHeap, kFreeLists, kEntries, kBuckets, kFreeEntries, kEnd };

  // What changes with every write that moves a block or an entry: the numbers of the shard and its free lists.
  static constexpr std::size_t kStateBegin = offsetof(ShardHeader, space);
  static constexpr std::size_t kStateSize = offsetof(ShardHeader, leases) - kStateBegin;
  struct State {
    std::array<std::byte, kStateSize> bytes{};
    std::uint64_t seq = 0;
  };

  std::vector<std::string> problems;
  std::optional<PinSnapshot> snapshot;
  Part part = Part::kHeap;
  State state;  // At the end of the last hold.
  bool has_begun = false;
  bool is_at_rest = true;  // Nobody has changed the shard since the walk began. Otherwise it does not add up.

  BlockPosition position;
  bool previous_free = false;
  struct Heap {
    std::uint64_t used = 0, pinned = 0, free = 0, keys = 0, values = 0, retired = 0;
  } heap;

  std::uint32_t bin = 0;  // Of all levels.
  BlockPosition in_list;
  BlockPosition previous_in_list;
  std::uint64_t listed = 0, listed_blocks = 0;

  std::uint64_t id = 0;
  std::uint64_t live = 0, small = 0;

  std::uint32_t cell = 0;
  std::uint64_t named = 0;

  EntryId free_id;
  std::uint64_t free_entries = 0;
};

ShardChecker::ShardChecker(const ShardParts& parts, ShardLock* lock) noexcept
    : parts_(parts),
      header_(parts.header),
      arena_(parts.arena),
      index_(parts.index),
      contents_(parts.contents),
      lock_(*lock) {}

Status ShardChecker::check(const Deadline& deadline, std::vector<std::string>* problems) {
  for (int tries = 1;; ++tries) {
    auto walk = std::make_unique<Walk>();
    // In a large shard that is written all the time, the entries are looked at one by one, and the sums are left out.
    if (tries > kTries) {
      walk->is_at_rest = false;
      walk->part = Walk::Part::kEntries;
    }
    const Status status = walk_in_slices(*walk, deadline);
    if (status != Status::kOk) return status;
    if (walk->part != Walk::Part::kEnd) continue;
    for (const std::string& problem : walk->problems) {
      problems->push_back(fmt::format("shard {}: {}", parts_.number, problem));
    }
    return Status::kOk;
  }
}

// Leaves `walk.part` before its end if the shard was changed between two holds.
Status ShardChecker::walk_in_slices(Walk& walk, const Deadline& deadline) {
  while (walk.part != Walk::Part::kEnd) {
    const auto begin = std::chrono::steady_clock::now();
    if (const Status status = lock_.lock(deadline); status != Status::kOk) return status;
    lock_.assert_held();
    bool goes_on = true;
    try {
      goes_on = check_a_slice(walk);
    } catch (const CorruptionDetected& damage) {
      walk.problems.emplace_back(damage.what);
      walk.part = Walk::Part::kEnd;
    } catch (...) {  // No memory for the findings.
      lock_.unlock();
      throw;
    }
    const bool is_awaited = lock_.is_awaited();
    lock_.unlock();
    if (!goes_on) return Status::kOk;
    if (walk.part != Walk::Part::kEnd && is_awaited) {
      // The unlock has woken a thread that needs some time to take the lock.
      const DisableCancelScope uncancelled;
      std::this_thread::sleep_for(kPause);
    }
    deadline.prolong(std::chrono::steady_clock::now() - begin);
  }
  return Status::kOk;
}

bool ShardChecker::check_a_slice(Walk& walk) {
  assert(holds_write_lock(header_));
  contents_.require_valid_bounds();
  Walk::State state{.seq = header_->seq.load(std::memory_order_relaxed)};
  copy_from_shared(state.bytes.data(), parts_.base() + Walk::kStateBegin, Walk::kStateSize);
  // Changed by misses too.
  constexpr std::size_t kAsks = offsetof(ShardSpace, asks);
  std::fill_n(state.bytes.begin() + kAsks, sizeof(ShardSpace::asks), std::byte{0});
  if (walk.is_at_rest && walk.has_begun) {
    if (state.seq != walk.state.seq || state.bytes != walk.state.bytes) return false;
  } else if (walk.is_at_rest) {
    walk.snapshot.emplace(parts_.pin_snapshot());
    walk.position = arena_.heap_begin();
  }
  walk.has_begun = true;
  walk.state = state;

  std::uint32_t looks = kLooksAtOnce;
  using Part = Walk::Part;
  if (walk.part == Part::kHeap && check_heap(walk, &looks)) walk.part = Part::kFreeLists;
  if (walk.part == Part::kFreeLists && check_free_lists(walk, &looks)) walk.part = Part::kEntries;
  if (walk.part == Part::kEntries && check_entries(walk, &looks)) walk.part = Part::kBuckets;
  if (walk.part == Part::kBuckets && check_buckets(walk, &looks)) {
    walk.part = walk.is_at_rest ? Part::kFreeEntries : Part::kEnd;
  }
  if (walk.part == Part::kFreeEntries && check_free_entries(walk, &looks)) walk.part = Part::kEnd;
  if (walk.part != Part::kEnd) return true;
  std::vector<std::string>& found = walk.problems;
  expect_equal(&found, "leases", parts_.leases.in_use(), parts_.leases.count());
  if (header_->redo.load(std::memory_order_relaxed) != 0) found.emplace_back("an overwriting that did not end");
  if ((header_->seq.load(std::memory_order_relaxed) & 1) != 0) found.emplace_back("a rebuild that did not end");
  return true;
}

// Each of these looks at `*looks` blocks or entries at most, and is true behind the last.

bool ShardChecker::check_heap(Walk& walk, std::uint32_t* looks) const {
  assert(holds_write_lock(header_));
  std::vector<std::string>* const problems = &walk.problems;
  const ShardSpace& s = space();
  PinSnapshot& snapshot = *walk.snapshot;
  BlockPosition& position = walk.position;
  bool& previous_free = walk.previous_free;
  auto& [used, pinned, free, keys, values, retired] = walk.heap;
  for (; position < arena_.heap_end() && *looks != 0; --*looks) {
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
    } else if (!read_block(arena_.backing(), position, &block)) {
      problems->push_back(fmt::format("block {}: its sizes contradict one another", position));
    } else {
      const bool has_owner = contents_.owning_ref(position) != 0;
      static_cast<void>(snapshot.holds(position));
      const bool is_marked = (shape.flags & kBlockRetired) != 0;
      if (!has_owner && !is_marked) problems->push_back(fmt::format("block {}: used by nobody", position));
      if (has_owner && is_marked) problems->push_back(fmt::format("block {}: live, and marked as nobody's", position));
      retired += has_owner ? 0 : 1;
      (has_owner ? used : pinned) += shape.size_bytes();
      keys += has_owner ? block.key_size : 0;
      values += has_owner ? block.value_size : 0;
    }
    previous_free = !shape.used();
    position += shape.size_units;
  }
  if (position < arena_.heap_end()) return false;
  if (snapshot.dangling_pins() != 0) {
    problems->push_back(fmt::format("{} pins of processes name what is no block", snapshot.dangling_pins()));
  }
  expect_equal(problems, "retired", s.retired, retired);
  std::uint64_t in_ring = 0;
  for (BlockPosition block{s.retired_hand}; block != 0 && in_ring <= retired; ++in_ring) {
    if (block == s.retired_hand && in_ring != 0) break;
    block = parts_.retired.next_of(block);
  }
  expect_equal(problems, "retired in their ring", retired, in_ring);
  expect_equal(problems, "used memory", s.used_memory, used);
  expect_equal(problems, "pinned memory", s.pinned_memory, pinned);
  expect_equal(problems, "free memory", s.free_memory, free);
  expect_equal(problems, "key memory", s.key_memory, keys);
  expect_equal(problems, "value memory", s.value_memory, values);
  return true;
}

bool ShardChecker::check_free_lists(Walk& walk, std::uint32_t* looks) const {
  assert(holds_write_lock(header_));
  std::vector<std::string>* const problems = &walk.problems;
  const std::uint64_t most_blocks = parts_.size / (kMinBlockUnits * kUnitSize);
  for (; walk.bin < kBinLevels * kBinsPerLevel; ++walk.bin) {
    const std::uint32_t level = walk.bin / kBinsPerLevel;
    const std::uint32_t bin = walk.bin % kBinsPerLevel;
    BlockPosition& position = walk.in_list;
    if (position == 0) {
      position = BlockPosition{header_->free_lists.heads[level][bin]};
      walk.previous_in_list = BlockPosition{0};
      const bool marked = (header_->free_lists.bin_bitmap[level] >> bin & 1) != 0;
      if (marked != (position != 0))
        problems->push_back(fmt::format("free list {}/{}: wrong bit in the bitmap", level, bin));
    }
    for (; position != 0; --*looks) {
      if (*looks == 0) return false;
      const BlockShape shape = arena_.shape(position);
      if (shape.used()) problems->push_back(fmt::format("block {}: used and in a free list", position));
      if (++walk.listed_blocks > most_blocks) throw CorruptionDetected{"a free list that does not end"};
      walk.listed += shape.size_bytes();
      const std::uint64_t links = arena_.block(position).owner.load(std::memory_order_relaxed);
      // So a walk that comes back to where it has been is noticed there.
      if (link_previous(links) != walk.previous_in_list)
        throw CorruptionDetected{"a free list that is not linked both ways"};
      walk.previous_in_list = position;
      position = link_next(links);
    }
    const bool marked = (header_->free_lists.level_bitmap >> level & 1) != 0;
    if (bin + 1 == kBinsPerLevel && marked != (header_->free_lists.bin_bitmap[level] != 0)) {
      problems->push_back(fmt::format("free lists of level {}: wrong bit in the bitmap", level));
    }
  }
  expect_equal(problems, "memory in free lists", space().free_memory, walk.listed);
  return true;
}

bool ShardChecker::check_entries(Walk& walk, std::uint32_t* looks) const {
  assert(holds_write_lock(header_));
  std::vector<std::string>* const problems = &walk.problems;
  std::uint64_t& id = walk.id;
  for (; id < std::uint64_t{index_.cells()} * kSlotsPerCell; ++id, --*looks) {
    if (*looks == 0) return false;
    const EntryId current = Index::entry_at_or_after(EntryId{static_cast<std::uint32_t>(id)});
    id = current;
    const std::uint64_t ref = index_.entry(current).ref.load(std::memory_order_relaxed);
    const std::uint32_t policy = index_.entry(current).policy.load(std::memory_order_relaxed);
    const std::uint32_t queues = policy & (kSmall | kMain);
    if (ref_is_live(ref) ? queues != kSmall && queues != kMain : queues != 0) {
      problems->push_back(fmt::format("entry {}: in the wrong number of eviction queues", current));
    }
    if (ref_is_overwritten(ref)) problems->push_back(fmt::format("entry {}: a value half overwritten", current));
    if (!ref_is_live(ref)) continue;
    ++walk.live;
    const BlockContents block(contents_.checked_block(ref_block(ref)));
    const std::string_view bytes(reinterpret_cast<const char*>(block.key), block.key_size);
    const Key key{bytes, hash_key(bytes, parts_.hash_seed)};
    if (block.entry != current)
      problems->push_back(fmt::format("entry {}: its block names entry {}", current, block.entry));
    if ((policy & (kSmall | kExpires)) != 0 && !parts_.eviction.is_marked(current)) {
      problems->push_back(fmt::format("entry {}: eviction will not look at it", current));
    }
    if (queues == kSmall) walk.small += block.stored_size;
    if (contents_.find(key).id != current) {
      problems->push_back(fmt::format("entry {}: its key does not lead to it", current));
    } else if (const BlockPosition hint = index_.hint_of(current); hint != 0 && hint != ref_block(ref)) {
      problems->push_back(fmt::format("entry {}: its bucket looks for its block elsewhere", current));
    }
    if (!contents_.is_whole(key, contents_.checked_block(ref_block(ref)))) {
      problems->push_back(fmt::format("entry {}: its value does not fit its checksum", current));
    }
    if (key.hash.shard(parts_.geometry.shards) != parts_.number) {
      problems->push_back(fmt::format("entry {}: its key belongs to another shard", current));
    }
  }
  if (!walk.is_at_rest) return true;
  expect_equal(problems, "entries", space().entries, walk.live);
  expect_equal(problems, "memory of the small queue", space().small_memory, walk.small);
  return true;
}

bool ShardChecker::check_buckets(Walk& walk, std::uint32_t* looks) const {
  assert(holds_write_lock(header_));
  std::vector<std::string>* const problems = &walk.problems;
  for (std::uint32_t& cell = walk.cell; cell < index_.cells(); ++cell, --*looks) {
    if (*looks == 0) return false;
    const Bucket& bucket = Index::bucket(header_, cell);
    if ((bucket.version.load(std::memory_order_relaxed) & 1) != 0) {
      problems->push_back(fmt::format("bucket {}: a change that did not end", cell));
    }
    for (const auto& slot : bucket.slots) walk.named += slot.load(std::memory_order_relaxed) != 0 ? 1U : 0U;
    std::uint32_t steps = 0;
    for (EntryId id{bucket.overflow.load()}; id != 0; id = EntryId{index_.entry(id).next.load()}) {
      if (++steps > kMaxChain) throw CorruptionDetected{"a chain that does not end"};
      ++walk.named;
    }
  }
  if (walk.is_at_rest) expect_equal(problems, "entries in buckets", space().entries, walk.named);
  return true;
}

bool ShardChecker::check_free_entries(Walk& walk, std::uint32_t* looks) const {
  assert(holds_write_lock(header_));
  EntryId& id = walk.free_id;
  if (walk.free_entries == 0) id = EntryId{space().free_entry};
  for (; id != 0; id = EntryId{index_.entry(id).next.load()}, --*looks) {
    if (*looks == 0) return false;
    if (++walk.free_entries > index_.entry_capacity()) {
      throw CorruptionDetected{"a list of free entries that does not end"};
    }
  }
  expect_equal(&walk.problems, "free entries", index_.entry_capacity() - walk.live, walk.free_entries);
  return true;
}

}  // namespace memstream
