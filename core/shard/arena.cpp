#include "core/shard/arena.h"

#include <algorithm>
#include <bit>

#include "core/layout/block.h"
#include "core/layout/geometry.h"

namespace memstream {
namespace {

constexpr std::uint64_t kCommitRetryMs = 1000;
constexpr std::uint64_t kMinCommitStep = std::uint64_t{64} << 10;
constexpr std::uint64_t kMaxCommitStep = std::uint64_t{2} << 20;

// Other shards look at the marks of what is committed.
void set_mark(std::uint64_t& mark, std::uint64_t offset_bytes) noexcept {
  std::atomic_ref(mark).store(offset_bytes, std::memory_order_relaxed);
}

struct Bin {
  std::uint32_t level;
  std::uint32_t index;
};

// The list that a free block of `units` belongs to.
constexpr Bin bin_of(std::uint32_t units) noexcept {
  if (units < kBinsPerLevel) return {0, units};
  const auto power = static_cast<std::uint32_t>(std::bit_width(units)) - 1;
  return {power - 3, units >> (power - 4) & (kBinsPerLevel - 1)};
}
static_assert(bin_of(15).level == 0 && bin_of(16).level == 1 && bin_of(0xffff'ffff).level == kBinLevels - 1);

// The first list in which every block holds `units`; level kBinLevels if there is none.
constexpr Bin bin_that_fits(std::uint32_t units) noexcept {
  if (units < kBinsPerLevel) return {0, units};
  const auto power = static_cast<std::uint32_t>(std::bit_width(units)) - 1;
  const std::uint64_t rounded = std::uint64_t{units} + (std::uint64_t{1} << (power - 4)) - 1;
  if (rounded > 0xffff'ffff) return {kBinLevels, 0};
  return bin_of(static_cast<std::uint32_t>(rounded));
}

}  // namespace

// ---- the free lists ----

void Arena::reset_free_lists() noexcept {
  FreeLists& free_lists = lists();
  free_lists.level_bitmap = 0;
  std::fill(std::begin(free_lists.bin_bitmap), std::end(free_lists.bin_bitmap), std::uint16_t{0});
  for (auto& level : free_lists.heads) std::fill(std::begin(level), std::end(level), 0U);
  space().free_memory = 0;
}

[[gnu::noinline]] void Arena::insert_free(BlockPosition position, BlockHeader& header, std::uint32_t units) {
  insert_marked(position, header, units);
  mark_next(BlockPosition{position + units}, true);
}

[[gnu::always_inline]] inline void Arena::insert_marked(BlockPosition position, BlockHeader& header,
                                                        std::uint32_t units) {
  const Bin bin = bin_of(units);
  std::uint32_t& head = lists().heads[bin.level][bin.index];
  header.owner.store(links_word(BlockPosition{head}, BlockPosition{0}), std::memory_order_relaxed);
  if (head != 0) {
    BlockHeader& old_head = block(BlockPosition{head});
    const std::uint64_t links = old_head.owner.load(std::memory_order_relaxed);
    old_head.owner.store(links_word(link_next(links), position), std::memory_order_relaxed);
  }
  head = position;
  lists().bin_bitmap[bin.level] = static_cast<std::uint16_t>(lists().bin_bitmap[bin.level] | 1U << bin.index);
  lists().level_bitmap |= 1U << bin.level;
  space().free_memory += std::uint64_t{units} * kUnitSize;
  // The last four bytes say the size, so that a neighbour that is freed later finds this block's start.
  size_mark_before(BlockPosition{position + units}).store(units, std::memory_order_relaxed);
}

[[gnu::always_inline]] inline void Arena::remove_free(BlockPosition position, const BlockHeader& removed,
                                                      std::uint32_t units) {
  const Bin bin = bin_of(units);
  const std::uint64_t links = removed.owner.load(std::memory_order_relaxed);
  const BlockPosition next = link_next(links);
  const BlockPosition previous = link_previous(links);
  std::uint32_t& head = lists().heads[bin.level][bin.index];
  if (previous != 0) {
    BlockHeader& header = block(previous);
    header.owner.store(links_word(next, link_previous(header.owner.load(std::memory_order_relaxed))),
                       std::memory_order_relaxed);
  } else {
    if (head != position) throw CorruptionDetected{"a free block that its list does not know"};
    head = next;
  }
  if (next != 0) {
    BlockHeader& header = block(next);
    header.owner.store(links_word(link_next(header.owner.load(std::memory_order_relaxed)), previous),
                       std::memory_order_relaxed);
  }
  if (head == 0) {
    std::uint16_t& bins = lists().bin_bitmap[bin.level];
    bins = static_cast<std::uint16_t>(bins & ~(1U << bin.index));
    if (bins == 0) lists().level_bitmap &= ~(1U << bin.level);
  }
  space().free_memory -= std::uint64_t{units} * kUnitSize;
}

[[gnu::always_inline]] inline Arena::HeapBlock Arena::find_free(std::uint32_t units) const {
  // The head of the block's own list may fit although not every block there does.
  const Bin own = bin_of(units);
  if (const std::uint32_t own_head = lists().heads[own.level][own.index]; own_head != 0) {
    const HeapBlock found = look_at(BlockPosition{own_head});
    if (found.shape.size_units >= units) return found;
  }

  const Bin bin = bin_that_fits(units);
  if (bin.level >= kBinLevels) return {};
  std::uint32_t level = bin.level;
  std::uint32_t bins = lists().bin_bitmap[level] & (~0U << bin.index);
  if (bins == 0) {
    const std::uint32_t levels = level + 1 < kBinLevels ? lists().level_bitmap & (~0U << (level + 1)) : 0;
    if (levels == 0) return {};
    level = static_cast<std::uint32_t>(std::countr_zero(levels));
    if (level >= kBinLevels) throw CorruptionDetected{"a free list that does not exist"};
    bins = lists().bin_bitmap[level];
  }
  if (bins == 0) throw CorruptionDetected{"a free list bitmap that contradicts itself"};
  const HeapBlock found = look_at(BlockPosition{lists().heads[level][std::countr_zero(bins)]});
  if (found.shape.size_units < units) throw CorruptionDetected{"a free block in the wrong list"};
  return found;
}

BlockPosition Arena::a_largest_free() const {
  const std::uint32_t levels = lists().level_bitmap;
  if (levels == 0) return BlockPosition{0};
  const auto level = static_cast<std::uint32_t>(std::bit_width(levels)) - 1;
  if (level >= kBinLevels) throw CorruptionDetected{"a free list that does not exist"};
  const std::uint32_t bins = lists().bin_bitmap[level];
  if (bins == 0) throw CorruptionDetected{"a free list bitmap that contradicts itself"};
  return BlockPosition{lists().heads[level][static_cast<std::uint32_t>(std::bit_width(bins)) - 1]};
}

// ---- allocating and freeing ----

BlockPosition Arena::allocate(Units units, std::uint64_t now_ms) {
  units = Units{std::max<std::uint64_t>(units, kMinBlockUnits)};
  const BlockPosition position = allocate_from_lists(units);
  if (position != 0) [[likely]]
    return position;
  return units <= heap_end() ? allocate_from_wilderness(units, now_ms) : BlockPosition{0};
}

BlockPosition Arena::allocate_from_lists(Units units) {
  if (units > heap_end()) return BlockPosition{0};
  const HeapBlock found = find_free(static_cast<std::uint32_t>(units));
  return found.position != 0 ? take(found, static_cast<std::uint32_t>(units)) : BlockPosition{0};
}

BlockPosition Arena::allocate_at(BlockPosition position, std::uint32_t units) {
  return take(look_at(position), std::max(units, kMinBlockUnits));
}

[[gnu::always_inline]] inline BlockPosition Arena::take(const HeapBlock& found, std::uint32_t units) {
  const BlockPosition position = found.position;
  BlockHeader& header = *found.header;
  const std::uint32_t size_units = found.shape.size_units;
  if (found.shape.used() || size_units < units) throw CorruptionDetected{"a used block in a free list"};
  remove_free(position, header, size_units);
  const std::uint32_t rest = size_units - units;
  if (rest >= kMinBlockUnits) {
    // First the header of the rest, then the shorter size that uncovers it.
    const BlockPosition rest_position{position + units};
    set_shape(block(rest_position), {.size_units = rest});
    set_shape(header, {.size_units = units, .flags = kBlockUsed});
    insert_free(rest_position, rest);
  } else {
    set_shape(header, {.size_units = size_units, .flags = kBlockUsed});
    mark_next(BlockPosition{position + size_units}, false);
  }
  // A reader that sees a byte written to the block from here on also sees that the last owner gave the block up. Pairs
  // with the acquire fence in the fast read.
  std::atomic_thread_fence(std::memory_order_release);
  return position;
}

BlockPosition Arena::allocate_from_wilderness(Units units, std::uint64_t now_ms) {
  const std::uint64_t bytes = units * kUnitSize;
  if (bytes > wilderness_bytes()) return BlockPosition{0};
  const BlockPosition position{static_cast<std::uint32_t>(heap_begin() - units)};
  if (!commit_heap(std::uint64_t{position} * kUnitSize, now_ms)) return BlockPosition{0};
  auto* header = reinterpret_cast<BlockHeader*>(base() + std::uint64_t{position} * kUnitSize);
  set_shape(*header, {.size_units = static_cast<std::uint32_t>(units), .flags = kBlockUsed});
  space().heap_begin.store(position, std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_release);
  return position;
}

std::uint32_t Arena::join_next(BlockPosition position) {
  const HeapBlock first = look_at(position);
  const BlockPosition next{position + first.shape.size_units};
  const HeapBlock second = look_at(next);
  if (!first.shape.used() || !second.shape.used()) throw CorruptionDetected{"a free block where a used one should be"};
  const std::uint32_t units = second.shape.size_units;
  keep_hand_on_a_block(next, BlockPosition{next + units}, position);
  // One store. As in take(): a reader that sees what is written here later sees that the last owner let go of it.
  BlockShape joined = first.shape;
  joined.size_units += units;
  set_shape(*first.header, joined);
  std::atomic_thread_fence(std::memory_order_release);
  return units;
}

void Arena::cut_to(BlockPosition position, std::uint32_t units) {
  const HeapBlock whole = look_at(position);
  if (whole.shape.size_units < units + kMinBlockUnits) return;
  const BlockPosition rest{position + units};
  set_shape(block(rest), {.size_units = whole.shape.size_units - units, .flags = kBlockUsed});
  BlockShape cut = whole.shape;
  cut.size_units = units;
  set_shape(*whole.header, cut);
  free(rest);
}

BlockPosition Arena::free(BlockPosition position) {
  // The ref that gave the block up was stored before; what is written into the block from here on must not be seen by a
  // reader that does not see that. A release store alone lets later stores pass it.
  std::atomic_thread_fence(std::memory_order_release);
  const HeapBlock freed = look_at(position);
  BlockHeader* header = freed.header;
  BlockPosition begin = position;
  BlockPosition end{position + freed.shape.size_units};
  if ((freed.shape.flags & kBlockPrevFree) != 0 && position > heap_begin()) {
    const std::uint32_t previous_units = size_mark_before(position).load(std::memory_order_relaxed);
    if (previous_units > position - heap_begin()) throw CorruptionDetected{"a free block of impossible size"};
    const HeapBlock neighbour = look_at(BlockPosition{position - previous_units});
    if (neighbour.shape.used() || neighbour.shape.size_units != previous_units) {
      throw CorruptionDetected{"a free block that is not free"};
    }
    remove_free(neighbour.position, *neighbour.header, previous_units);
    begin = neighbour.position;
    header = neighbour.header;
  }
  bool is_marked = false;  // The block behind all that becomes one.
  if (end < heap_end()) {
    const HeapBlock neighbour = look_at(end);
    if (!neighbour.shape.used()) {
      remove_free(end, *neighbour.header, neighbour.shape.size_units);
      end += neighbour.shape.size_units;
      is_marked = true;
    }
  }
  if (begin == heap_begin()) {
    space().heap_begin.store(end, std::memory_order_release);
    keep_hand_on_a_block(begin, end, end);
    if (end < heap_end()) mark_next(end, false);
    return BlockPosition{0};
  }
  keep_hand_on_a_block(begin, end, begin);
  set_shape(*header, {.size_units = end - begin});
  insert_marked(begin, *header, end - begin);
  if (!is_marked) mark_next(end, true);
  return begin;
}

[[gnu::always_inline]] inline void Arena::mark_next(BlockPosition next_position, bool previous_is_free) {
  if (next_position >= heap_end()) return;
  constexpr std::uint64_t kMark = BlockShape{.flags = kBlockPrevFree}.pack();
  std::atomic<std::uint64_t>& shape = block(next_position).shape;
  const std::uint64_t word = shape.load(std::memory_order_relaxed);
  shape.store(previous_is_free ? word | kMark : word & ~kMark, std::memory_order_release);
}

inline void Arena::keep_hand_on_a_block(BlockPosition begin, BlockPosition end, BlockPosition moved_to) noexcept {
  std::uint32_t& hand = space().reclaim_hand;
  if (hand >= begin && hand < end) hand = moved_to;
}

// ---- the border between table and heap, and the memory under both ----

bool Arena::raise_table(std::uint64_t now_ms) {
  const std::uint64_t new_end = table_end_bytes() + kTableStepSize;
  const std::uint32_t cells = space().table_cells.load(std::memory_order_relaxed);
  if (new_end > std::uint64_t{heap_begin()} * kUnitSize || !commit_table(new_end, now_ms)) return false;
  if (!backing_.has_cells(cells + kTableStepCells)) {  // The shard claims memory that it does not have.
    forget_commits();
    if (!commit_table(new_end, now_ms) || !backing_.has_cells(cells + kTableStepCells)) return false;
  }
  space().table_cells.store(cells + kTableStepCells, std::memory_order_release);
  return true;
}

void Arena::forget_commits() noexcept {
  space().table_committed = page_ceil(table_end_bytes());
  space().heap_committed = shard_size_bytes_;
}

bool Arena::is_refused_for_now(std::uint64_t now_ms) const noexcept {
  const std::uint64_t retry_ms = space().commit_retry_ms;
  return now_ms < retry_ms && retry_ms - now_ms <= kCommitRetryMs;  // A later instant is damage.
}

bool Arena::commit_heap(std::uint64_t from_bytes, std::uint64_t now_ms) {
  ShardSpace& s = space();
  if (from_bytes >= s.heap_committed || s.heap_committed <= s.table_committed) {
    const std::uint64_t size = std::uint64_t{heap_begin()} * kUnitSize - from_bytes;
    if (backing_.reaches(BlockPosition{static_cast<std::uint32_t>(from_bytes / kUnitSize)}, size)) return true;
    forget_commits();  // The shard claims memory that it does not have.
  }
  if (is_refused_for_now(now_ms)) return false;
  // As much again as the heap has, so that no shard takes memory far ahead of its use when there may be little.
  const std::uint64_t has = shard_size_bytes_ - s.heap_committed;
  const std::uint64_t step = std::clamp(page_floor(has), kMinCommitStep, kMaxCommitStep);
  const std::uint64_t least = std::max(page_floor(from_bytes), s.table_committed);
  // In whole stretches from the shard's end: of those a process asks once whether they have memory.
  const std::uint64_t wanted = shard_size_bytes_ - (least > step ? least - step : 0);
  const std::uint64_t whole = (wanted + Backing::kStretchSize - 1) / Backing::kStretchSize * Backing::kStretchSize;
  const std::uint64_t ahead = std::max(shard_size_bytes_ - std::min(whole, shard_size_bytes_), s.table_committed);
  for (const std::uint64_t lower : {ahead, least}) {
    if (commit(lower, s.heap_committed)) {
      const std::uint64_t taken = s.heap_committed - lower;
      set_mark(s.heap_committed, lower);
      commit_table_in_proportion(taken);
      return true;
    }
  }
  note_commit_failure(now_ms);
  return false;
}

void Arena::commit_first_step() noexcept {
  ShardSpace& s = space();
  const std::uint64_t lower = s.heap_committed - kMinCommitStep;
  if (lower <= s.table_committed) return;
  // Without a look at the others: they may not be laid out yet.
  if (segment_->commit(shard_offset_bytes_ + lower, kMinCommitStep) == Status::kOk) set_mark(s.heap_committed, lower);
}

// Memory that the heap has taken can never become table when the system gives no more. So the table gets its part with
// every step of the heap: as large beside it as it is now. A refusal here means nothing yet.
void Arena::commit_table_in_proportion(std::uint64_t heap_step_bytes) {
  ShardSpace& s = space();
  const std::uint64_t heap_bytes = shard_size_bytes_ - std::uint64_t{heap_begin()} * kUnitSize;
  const std::uint64_t grown_bytes = table_end_bytes() - kShardHeaderSize - kTableStepSize;
  if (heap_bytes == 0 || grown_bytes == 0) return;
  const std::uint64_t share = page_floor(heap_step_bytes * grown_bytes / heap_bytes);
  const std::uint64_t upper = s.table_committed + share;
  if (share != 0 && upper < s.heap_committed && commit(s.table_committed, upper)) {
    set_mark(s.table_committed, upper);
  }
}

bool Arena::commit_table(std::uint64_t to_bytes, std::uint64_t now_ms) {
  ShardSpace& s = space();
  if (to_bytes <= s.table_committed || s.heap_committed <= s.table_committed) return true;
  if (is_refused_for_now(now_ms)) return false;
  const std::uint64_t least = std::min(page_ceil(to_bytes), s.heap_committed);
  const std::uint64_t ahead = std::min(least + kMinCommitStep, s.heap_committed);
  for (const std::uint64_t upper : {ahead, least}) {
    if (commit(s.table_committed, upper)) {
      set_mark(s.table_committed, upper);
      return true;
    }
  }
  note_commit_failure(now_ms);
  return false;
}

bool Arena::commit(std::uint64_t from_bytes, std::uint64_t to_bytes) noexcept {
  const std::uint64_t bytes = to_bytes - from_bytes;
  return share_.may_take(bytes) && segment_->commit(shard_offset_bytes_ + from_bytes, bytes) == Status::kOk;
}

void Arena::note_commit_failure(std::uint64_t now_ms) noexcept {
  space().commit_retry_ms = now_ms + kCommitRetryMs;
  ++shard_->counters.commit_failures;
}

}  // namespace memstream
