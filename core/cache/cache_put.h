// The quick put, from the checks of every operation to its count.
#pragma once

#include "core/base/local_counter.h"
#include "core/cache/cache.h"
#include "core/shard/quick_put.h"

namespace memstream {

[[gnu::always_inline]] inline bool Cache::put_quickly(std::string_view key, const std::byte* value,
                                                      std::uint64_t value_size, Status* status) noexcept {
  const std::uint64_t now = now_ms();
  ProcessSlot* const slot = own_slot_at_once();
  if (slot == nullptr || now >= next_name_look_ms_.load(std::memory_order_relaxed) || key.size() - 1 >= kMaxKeySize ||
      is_gone()) [[unlikely]]
    return false;
  const Key hashed = make_key(key);
  if (sample_.has(hashed.hash)) [[unlikely]]
    return false;
  const std::uint32_t redo = claim_redo_of(*own_);
  if (redo == 0) [[unlikely]]
    return false;
  Status stored = Status::kOk;
  const bool is_tried = shard_of(hashed).put_quickly(hashed, value, value_size, redo, now, &stored);
  own_->redo_taken.store(false, std::memory_order_release);
  if (!is_tried || stored != Status::kOk) [[unlikely]] {
    // store() may find another way.
    if (!is_tried || stored == Status::kGone || stored == Status::kFull || stored == Status::kNoMemory) return false;
    note_outcome(Operation::kSet, stored);
    *status = stored;
    return true;
  }
  add_local(slot->counters.puts, 1);
  *status = Status::kOk;
  return true;
}

}  // namespace memstream
