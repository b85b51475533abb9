// Tags: which entries are over because one of their tags was invalidated. docs/decisions/0027 has the proof.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>

#include "core/base/segment.h"
#include "core/base/status.h"
#include "core/layout/block.h"
#include "core/layout/geometry.h"
#include "core/layout/hash.h"
#include "core/layout/layout_tags.h"

namespace memstream {

using TagPairs = std::array<std::uint64_t, kTagsPerEntry>;

// Tags as they were at one moment, for entries to be stored later. memstream_tags_t has the same words.
struct TagSet {
  std::uint64_t segment = 0;  // Whose counts these are, as uuid_word() has it. 0: none yet.
  TagPairs pairs{};
  std::uint64_t unused[3] = {};
};
static_assert(sizeof(TagSet) == 8 * sizeof(std::uint64_t));

// One process's handle on area 2; shared by its threads.
class TagTable {
 public:
  TagTable(const Segment* segment, const Geometry& geometry) noexcept;
  TagTable(const TagTable&) = delete;
  TagTable& operator=(const TagTable&) = delete;

  // Whether the time of a live entry's block is over at `now_ms`: it has expired, or one of its tags was invalidated.
  // Safe on any bytes. Of a block beyond a Backing::kStretchSize without known memory the answer is "over".
  [[gnu::always_inline]] bool is_over(const Backing& backing, const CheckedBlock& block,
                                      std::uint64_t now_ms) const noexcept {
    const std::uint64_t word = block.expires_ms();
    return may_be_over(word, now_ms) && is_over(backing, block.header, block.stored_size, word, now_ms);
  }

  // The tags of such a block; none if it has none. REQUIRES: as is_over().
  static TagPairs pairs_of(const Backing& backing, const CheckedBlock& block) noexcept;

  // The functions below need an area that has memory: segment.commit() of the area has returned kOk.
  std::uint64_t pair_of(KeyHash tag) const noexcept;
  void invalidate(KeyHash tag) noexcept;
  // How often that was called. 0 without memory.
  std::uint64_t invalidations() const noexcept;

 private:
  // Of a block with this expiry word. By value, so that the caller's block can stay in registers.
  [[gnu::cold, gnu::noinline]] bool is_over(const Backing& backing, const BlockHeader* header,
                                            std::uint64_t stored_size, std::uint64_t expiry_word,
                                            std::uint64_t now_ms) const noexcept;
  std::uint64_t word_number(KeyHash tag) const noexcept { return 1 + ((tag.value >> 32) * (words_count_ - 1) >> 32); }
  bool has_memory() const noexcept;

  const Segment* segment_;
  std::uint64_t offset_;  // Of the area in the segment.
  std::atomic<std::uint64_t>* words_;
  std::uint64_t words_count_;                      // A power of two.
  mutable std::atomic<bool> knows_memory_{false};  // Without it reading may fail.
};

}  // namespace memstream
