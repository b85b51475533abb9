// See tags.h.
#include "core/shard/tags.h"

#include <bit>

namespace memstream {
namespace {

// The tags of a block that lies in the shard, where it has memory; null if it does not.
const BlockTags* tags_at_end(const Backing& backing, const BlockHeader* header, std::uint64_t stored_size) noexcept {
  const auto begin = static_cast<std::uint64_t>(reinterpret_cast<const std::byte*>(header) - backing.shard());
  // Not so of a redo record, which never has tags but after damage.
  if (begin >= backing.size_bytes() || stored_size > backing.size_bytes() - begin) return nullptr;
  const BlockPosition position{static_cast<std::uint32_t>(begin / kUnitSize)};
  if (stored_size > Backing::kStretchSize && !backing.reaches(position, stored_size)) return nullptr;
  return reinterpret_cast<const BlockTags*>(backing.shard() + begin + stored_size - sizeof(BlockTags));
}

}  // namespace

TagTable::TagTable(const Segment* segment, const Geometry& geometry) noexcept
    : segment_(segment),
      offset_(geometry.areas[kTagArea].offset),
      words_(reinterpret_cast<std::atomic<std::uint64_t>*>(segment->data() + offset_)),
      words_count_(geometry.tag_words()) {}

bool TagTable::is_over(const Backing& backing, const BlockHeader* header, std::uint64_t stored_size,
                       std::uint64_t expiry_word, std::uint64_t now_ms) const noexcept {
  if ((expiry_word & kHasTags) == 0) return true;
  const std::uint64_t instant = instant_of(expiry_word);
  if (instant != 0 && instant <= now_ms) return true;
  if (!has_memory()) return true;
  const BlockTags* const tags = tags_at_end(backing, header, stored_size);
  if (tags == nullptr) return true;
  for (const auto& word : tags->pairs) {
    const std::uint64_t pair = word.load(std::memory_order_relaxed);
    if (pair == 0) continue;
    const std::uint64_t number = pair >> kTagWordShift & (words_count_ - 1);
    if (((words_[number].load(std::memory_order_acquire) ^ pair) & kTagCountMask) != 0) return true;
  }
  return false;
}

TagPairs TagTable::pairs_of(const Backing& backing, const CheckedBlock& block) noexcept {
  TagPairs pairs{};
  if ((block.expires_ms() & kHasTags) == 0) return pairs;
  const BlockTags* const tags = tags_at_end(backing, block.header, block.stored_size);
  if (tags == nullptr) return {kInvalidTagPair};
  for (std::uint32_t i = 0; i < kTagsPerEntry; ++i) pairs[i] = tags->pairs[i].load(std::memory_order_relaxed);
  return pairs;
}

std::uint64_t TagTable::pair_of(KeyHash tag) const noexcept {
  const std::uint64_t number = word_number(tag);
  return tag_pair(number, words_[number].load(std::memory_order_seq_cst));
}

void TagTable::invalidate(KeyHash tag) noexcept {
  words_[word_number(tag)].fetch_add(1, std::memory_order_seq_cst);
  words_[0].fetch_add(1, std::memory_order_relaxed);
}

std::uint64_t TagTable::invalidations() const noexcept {
  if (words_count_ == 0) return 0;
  // The first page alone: a segment that has no tags needs no more.
  if (segment_->look_for_memory(offset_, kPageSize) == Status::kNoMemory) return 0;
  return words_[0].load(std::memory_order_relaxed);
}

bool TagTable::has_memory() const noexcept {
  if (words_count_ == 0) return false;
  if (knows_memory_.load(std::memory_order_relaxed)) return true;
  if (segment_->look_for_memory(offset_, words_count_ * sizeof(*words_)) == Status::kNoMemory) return false;
  knows_memory_.store(true, std::memory_order_relaxed);
  return true;
}

}  // namespace memstream
