// The bytes of a segment, continued: the tags of entries. Area 2 counts how often each tag was invalidated, and an
// entry with tags notes the counts as they were: docs/decisions/0027.
//
// Any bytes may lie here after damage: no number of it leads to a place outside the area.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/layout/layout_sizes.h"

namespace memstream {

inline constexpr std::uint32_t kTagArea = 2;
inline constexpr std::uint32_t kTagsPerEntry = 4;

// The area is an array of words, a power of two of them. Word 0 counts all invalidations. The others count those of the
// tags whose hash leads there; they only grow.
inline constexpr std::uint64_t kLeastTagWords = 512;
inline constexpr std::uint64_t kMostTagWords = std::uint64_t{1} << 16;

// A tag of an entry: the number of its word (16) | the count of that word when the tag was taken (48). 0: no tag.
inline constexpr std::uint32_t kTagWordShift = 48;
inline constexpr std::uint64_t kTagCountMask = (std::uint64_t{1} << kTagWordShift) - 1;
constexpr std::uint64_t tag_pair(std::uint64_t word_number, std::uint64_t count) noexcept {
  return word_number << kTagWordShift | (count & kTagCountMask);
}
// No count comes that far.
inline constexpr std::uint64_t kInvalidTagPair = tag_pair(1, kTagCountMask);

// The last bytes of a block whose entry has tags, behind the value and its slack. BlockExtras::expires_ms says whether
// there are any.
struct BlockTags {
  std::atomic<std::uint64_t> pairs[kTagsPerEntry];
};
static_assert(sizeof(BlockTags) == 2 * kUnitSize);

// In BlockExtras::expires_ms, above the instant: the block ends with BlockTags.
inline constexpr std::uint64_t kHasTags = std::uint64_t{1} << 63;
constexpr std::uint64_t instant_of(std::uint64_t expiry_word) noexcept { return expiry_word & ~kHasTags; }

}  // namespace memstream
