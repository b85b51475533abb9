// Tags: a count for each in area 2, and entries that note the counts. docs/decisions/0027 has the proof, which depends
// on the order of loads and stores here.
#include <fmt/format.h>

#include <algorithm>

#include "core/cache/cache.h"

namespace memstream {

Status Cache::tags_usable(std::string_view tag) noexcept {
  static_cast<void>(now_and_look());
  if (tag.empty() || tag.size() > kMaxKeySize) {
    return fail_without_throwing(Status::kInvalid, [&] {
      return fmt::format("Invalid tag of {} bytes: expected 1 to {} bytes.", tag.size(), kMaxKeySize);
    });
  }
  if (const Status status = present(); status != Status::kOk) return status;
  if (const Status status = writable(); status != Status::kOk) return status;
  if (has_tag_memory_.load(std::memory_order_relaxed)) [[likely]]
    return Status::kOk;
  const Area& area = attached_.geometry.areas[kTagArea];
  if (attached_.geometry.tag_words() == 0)
    return fail(Status::kCorrupt, "The segment has no table of tags. Destroy it, and open it again.");
  if (const Status status = segment_->commit(area.offset, area.size_bytes); status != Status::kOk) return status;
  has_tag_memory_.store(true, std::memory_order_relaxed);
  return Status::kOk;
}

Status Cache::add_tag(std::string_view tag, TagSet* tags) noexcept {
  if (const Status status = tags_usable(tag); status != Status::kOk) return status;
  // A set of another segment stays one: what is stored with it is over from the start.
  if (tags->segment == 0) tags->segment = token_salt_;
  if (tags->segment != token_salt_) return Status::kOk;
  const std::uint64_t pair = tags_.pair_of(make_key(tag).hash);
  for (std::uint64_t& place : tags->pairs) {
    // One word twice: the older count stays, since that is the one that an invalidation has to end.
    if (place >> kTagWordShift == pair >> kTagWordShift) return Status::kOk;
    if (place != 0) continue;
    place = pair;
    return Status::kOk;
  }
  return fail_without_throwing(Status::kInvalid, [&] {
    return fmt::format("Invalid tags: expected at most {} for an entry. Use fewer, or a common one.", kTagsPerEntry);
  });
}

Status Cache::invalidate(std::string_view tag) noexcept {
  if (const Status status = tags_usable(tag); status != Status::kOk) return status;
  tags_.invalidate(make_key(tag).hash);
  shards_[0]->waits().note_change_of_all();  // Which keys have the tag, nobody knows.
  // If a successor took the place of the segment meanwhile, entries may have gone to it with counts of its own: the
  // caller invalidates there too. Otherwise those come later than this.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return present();
}

Status Cache::invalidations(std::uint64_t* count) noexcept {
  look_around();
  *count = 0;
  if (const Status status = present(); status != Status::kOk) return status;
  *count = tags_.invalidations();
  return Status::kOk;
}

}  // namespace memstream
