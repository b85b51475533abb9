// Verifying a shard: every invariant that docs/layout.md states, and every derived structure against the truth. In many
// holds of the lock, so that none lasts longer because the entries are more.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <thread>

#include "core/base/thread_cancel.h"
#include "core/shard/shard.h"

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
struct Shard::Checking {
  enum class Part { kHeap, kFreeLists, kEntries, kBuckets, kFreeEntries, kEnd };

  // What changes with every write that moves a block or an entry: the numbers of the shard and its free lists.
  static constexpr std::size_t kStateBegin = offsetof(ShardHeader, space);
  static constexpr std::size_t kStateSize = offsetof(ShardHeader, leases) - kStateBegin;
  struct State {
    std::array<std::byte, kStateSize> bytes{};
    std::uint64_t seq = 0;
  };

  std::vector<std::string> problems;
  std::optional<PinSnapshot> census;
  Part part = Part::kHeap;
  State state;  // At the end of the last hold.
  bool has_begun = false;
  bool is_at_rest = true;  // Nobody has changed the shard since the walk began. Otherwise it does not add up.

  std::uint32_t position = 0;
  bool previous_free = false;
  struct Heap {
    std::uint64_t used = 0, pinned = 0, free = 0, keys = 0, values = 0, retired = 0;
  } heap;

  std::uint32_t bin = 0;  // Of all levels.
  std::uint32_t in_list = 0;
  std::uint32_t previous_in_list = 0;
  std::uint64_t listed = 0, listed_blocks = 0;

  std::uint64_t id = 0;
  std::uint64_t live = 0, small = 0;

  std::uint32_t cell = 0;
  std::uint64_t named = 0;

  std::uint32_t free_id = 0;
  std::uint64_t free_entries = 0;
};

Status Shard::check(const Deadline& deadline, std::vector<std::string>* problems) {
  for (int tries = 1;; ++tries) {
    auto checking = std::make_unique<Checking>();
    // In a large shard that is written all the time, the entries are looked at one by one, and the sums are left out.
    if (tries > kTries) {
      checking->is_at_rest = false;
      checking->part = Checking::Part::kEntries;
    }
    const Status status = check_in_slices(*checking, deadline);
    if (status != Status::kOk) return status;
    if (checking->part != Checking::Part::kEnd) continue;
    for (const std::string& problem : checking->problems) {
      problems->push_back(fmt::format("shard {}: {}", number_, problem));
    }
    return Status::kOk;
  }
}

// Leaves `checking.part` before its end if the shard was changed between two holds.
Status Shard::check_in_slices(Checking& checking, const Deadline& deadline) {
  while (checking.part != Checking::Part::kEnd) {
    const auto begin = std::chrono::steady_clock::now();
    if (const Status status = lock_.lock(deadline); status != Status::kOk) return status;
    bool goes_on = true;
    try {
      goes_on = check_a_slice(checking);
    } catch (const CorruptionDetected& damage) {
      checking.problems.emplace_back(damage.what);
      checking.part = Checking::Part::kEnd;
    } catch (...) {  // No memory for the findings.
      lock_.unlock();
      throw;
    }
    const bool is_awaited = lock_.is_awaited();
    lock_.unlock();
    if (!goes_on) return Status::kOk;
    if (checking.part != Checking::Part::kEnd && is_awaited) {
      // The unlock has woken a thread that needs some time to take the lock.
      const DisableCancelScope uncancelled;
      std::this_thread::sleep_for(kPause);
    }
    deadline.prolong(std::chrono::steady_clock::now() - begin);
  }
  return Status::kOk;
}

bool Shard::check_a_slice(Checking& checking) {
  require_valid_bounds();
  Checking::State state{.seq = header_->seq.load(std::memory_order_relaxed)};
  copy_from_shared(state.bytes.data(), base() + Checking::kStateBegin, Checking::kStateSize);
  // Changed by misses too.
  constexpr std::size_t kAsks = offsetof(ShardSpace, asks);
  std::fill_n(state.bytes.begin() + kAsks, sizeof(ShardSpace::asks), std::byte{0});
  if (checking.is_at_rest && checking.has_begun) {
    if (state.seq != checking.state.seq || state.bytes != checking.state.bytes) return false;
  } else if (checking.is_at_rest) {
    checking.census.emplace(pin_snapshot());
    checking.position = arena_.heap_begin();
  }
  checking.has_begun = true;
  checking.state = state;

  std::uint32_t looks = kLooksAtOnce;
  using Part = Checking::Part;
  if (checking.part == Part::kHeap && check_heap(checking, &looks)) checking.part = Part::kFreeLists;
  if (checking.part == Part::kFreeLists && check_free_lists(checking, &looks)) checking.part = Part::kEntries;
  if (checking.part == Part::kEntries && check_entries(checking, &looks)) checking.part = Part::kBuckets;
  if (checking.part == Part::kBuckets && check_buckets(checking, &looks)) {
    checking.part = checking.is_at_rest ? Part::kFreeEntries : Part::kEnd;
  }
  if (checking.part == Part::kFreeEntries && check_free_entries(checking, &looks)) checking.part = Part::kEnd;
  if (checking.part != Part::kEnd) return true;
  std::vector<std::string>& found = checking.problems;
  expect_equal(&found, "leases", leases_in_use(), count_leases());
  if (header_->redo.load(std::memory_order_relaxed) != 0) found.emplace_back("an overwriting that did not end");
  if ((header_->seq.load(std::memory_order_relaxed) & 1) != 0) found.emplace_back("a rebuild that did not end");
  return true;
}

// Each of these looks at `*looks` blocks or entries at most, and is true behind the last.

bool Shard::check_heap(Checking& checking, std::uint32_t* looks) const {
  std::vector<std::string>* const problems = &checking.problems;
  const ShardSpace& s = space();
  PinSnapshot& census = *checking.census;
  std::uint32_t& position = checking.position;
  bool& previous_free = checking.previous_free;
  auto& [used, pinned, free, keys, values, retired] = checking.heap;
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
    } else if (!read_block(backing(), position, &block)) {
      problems->push_back(fmt::format("block {}: its sizes contradict one another", position));
    } else {
      const bool has_owner = owning_ref(position) != 0;
      static_cast<void>(census.holds(position));
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
  if (census.dangling_pins() != 0) {
    problems->push_back(fmt::format("{} pins of processes name what is no block", census.dangling_pins()));
  }
  expect_equal(problems, "retired", s.retired, retired);
  std::uint64_t in_ring = 0;
  for (std::uint32_t block = s.retired_hand; block != 0 && in_ring <= retired; ++in_ring) {
    if (block == s.retired_hand && in_ring != 0) break;
    block = next_retired(block);
  }
  expect_equal(problems, "retired in their ring", retired, in_ring);
  expect_equal(problems, "used memory", s.used_memory, used);
  expect_equal(problems, "pinned memory", s.pinned_memory, pinned);
  expect_equal(problems, "free memory", s.free_memory, free);
  expect_equal(problems, "key memory", s.key_memory, keys);
  expect_equal(problems, "value memory", s.value_memory, values);
  return true;
}

bool Shard::check_free_lists(Checking& checking, std::uint32_t* looks) const {
  std::vector<std::string>* const problems = &checking.problems;
  const std::uint64_t most_blocks = size_ / (kMinBlockUnits * kUnitSize);
  for (; checking.bin < kBinLevels * kBinsPerLevel; ++checking.bin) {
    const std::uint32_t level = checking.bin / kBinsPerLevel;
    const std::uint32_t bin = checking.bin % kBinsPerLevel;
    std::uint32_t& position = checking.in_list;
    if (position == 0) {
      position = header_->free_lists.heads[level][bin];
      checking.previous_in_list = 0;
      const bool marked = (header_->free_lists.bin_bitmap[level] >> bin & 1) != 0;
      if (marked != (position != 0))
        problems->push_back(fmt::format("free list {}/{}: wrong bit in the bitmap", level, bin));
    }
    for (; position != 0; --*looks) {
      if (*looks == 0) return false;
      const BlockShape shape = arena_.shape(position);
      if (shape.used()) problems->push_back(fmt::format("block {}: used and in a free list", position));
      if (++checking.listed_blocks > most_blocks) throw CorruptionDetected{"a free list that does not end"};
      checking.listed += shape.size_bytes();
      const std::uint64_t links = arena_.block(position).owner.load(std::memory_order_relaxed);
      // So a walk that comes back to where it has been is noticed there.
      if (link_previous(links) != checking.previous_in_list)
        throw CorruptionDetected{"a free list that is not linked both ways"};
      checking.previous_in_list = position;
      position = link_next(links);
    }
    const bool marked = (header_->free_lists.level_bitmap >> level & 1) != 0;
    if (bin + 1 == kBinsPerLevel && marked != (header_->free_lists.bin_bitmap[level] != 0)) {
      problems->push_back(fmt::format("free lists of level {}: wrong bit in the bitmap", level));
    }
  }
  expect_equal(problems, "memory in free lists", space().free_memory, checking.listed);
  return true;
}

bool Shard::check_entries(Checking& checking, std::uint32_t* looks) const {
  std::vector<std::string>* const problems = &checking.problems;
  std::uint64_t& id = checking.id;
  for (; id < std::uint64_t{index_.cells()} * kSlotsPerCell; ++id, --*looks) {
    if (*looks == 0) return false;
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
    ++checking.live;
    const BlockContents block(checked_block(ref_block(ref)));
    const std::string_view bytes(reinterpret_cast<const char*>(block.key), block.key_size);
    const Key key{bytes, hash_key(bytes, hash_seed_)};
    if (block.entry != current)
      problems->push_back(fmt::format("entry {}: its block names entry {}", current, block.entry));
    if ((policy & (kSmall | kExpires)) != 0 && !eviction_.is_marked(current)) {
      problems->push_back(fmt::format("entry {}: eviction will not look at it", current));
    }
    if (queues == kSmall) checking.small += block.stored_size;
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
  if (!checking.is_at_rest) return true;
  expect_equal(problems, "entries", space().entries, checking.live);
  expect_equal(problems, "memory of the small queue", space().small_memory, checking.small);
  return true;
}

bool Shard::check_buckets(Checking& checking, std::uint32_t* looks) const {
  std::vector<std::string>* const problems = &checking.problems;
  for (std::uint32_t& cell = checking.cell; cell < index_.cells(); ++cell, --*looks) {
    if (*looks == 0) return false;
    const Bucket& bucket = Index::bucket(header_, cell);
    if ((bucket.version.load(std::memory_order_relaxed) & 1) != 0) {
      problems->push_back(fmt::format("bucket {}: a change that did not end", cell));
    }
    for (const auto& slot : bucket.slots) checking.named += slot.load(std::memory_order_relaxed) != 0 ? 1U : 0U;
    for (std::uint32_t id = bucket.overflow.load(), steps = 0; id != 0; id = index_.entry(id).next.load()) {
      if (++steps > kMaxChain) throw CorruptionDetected{"a chain that does not end"};
      ++checking.named;
    }
  }
  if (checking.is_at_rest) expect_equal(problems, "entries in buckets", space().entries, checking.named);
  return true;
}

bool Shard::check_free_entries(Checking& checking, std::uint32_t* looks) const {
  std::uint32_t& id = checking.free_id;
  if (checking.free_entries == 0) id = space().free_entry;
  for (; id != 0; id = index_.entry(id).next.load(), --*looks) {
    if (*looks == 0) return false;
    if (++checking.free_entries > index_.entry_capacity()) {
      throw CorruptionDetected{"a list of free entries that does not end"};
    }
  }
  expect_equal(&checking.problems, "free entries", index_.entry_capacity() - checking.live, checking.free_entries);
  return true;
}

}  // namespace memstream
