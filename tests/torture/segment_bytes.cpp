#include "tests/torture/segment_bytes.h"

#include <linux/futex.h>

#include <algorithm>
#include <cstdint>
#include <string_view>

namespace memstream::torture {

namespace {

LockWord word_of(const pthread_mutex_t& mutex) {
  // The first word of the C library's mutex is the futex that the kernel knows.
  const std::uint32_t word = __atomic_load_n(reinterpret_cast<const std::uint32_t*>(&mutex), __ATOMIC_RELAXED);
  return {.holder = static_cast<pid_t>(word & FUTEX_TID_MASK),
          .has_waiters = (word & FUTEX_WAITERS) != 0,
          .holder_died = (word & FUTEX_OWNER_DIED) != 0};
}

}  // namespace

SegmentBytes::SegmentBytes(CacheUnderTest& cache) {
  constexpr std::string_view kAnchor = "anchor";
  cache.put(kAnchor, "where");
  memstream_view_t view;
  require(memstream_view(cache.handle(), kAnchor.data(), kAnchor.size(), &view), "memstream_view");
  memstream_entry_t entry;
  require(memstream_entry_info(cache.handle(), kAnchor.data(), kAnchor.size(), &entry), "memstream_entry_info");
  begin_ = static_cast<std::byte*>(const_cast<void*>(view.data)) - entry.data_offset;
  require(memstream_release(cache.handle(), &view), "memstream_release");
  cache.remove(kAnchor);
  memstream_info_t info{};
  info.struct_size = sizeof info;
  require(memstream_info(cache.handle(), &info), "memstream_info");
  size_bytes_ = info.size_bytes;
}

const ShardHeader& SegmentBytes::shard() const {
  const auto& identity = reinterpret_cast<const SegmentHeader*>(begin_)->identity;
  return *reinterpret_cast<const ShardHeader*>(begin_ + identity.shards_offset);
}

LockWord SegmentBytes::write_lock() const { return word_of(shard().write_mutex); }

bool SegmentBytes::reads_slowly(pid_t process_id) const {
  const auto& identity = reinterpret_cast<const SegmentHeader*>(begin_)->identity;
  const auto* slots = reinterpret_cast<const ThreadSlot*>(begin_ + identity.thread_slots_offset);
  return std::any_of(slots, slots + identity.thread_slots, [&](const ThreadSlot& slot) {
    return word_of(slot.mutex).holder == process_id && slot.hold.load() != 0;
  });
}

bool SegmentBytes::is_overwriting() const {
  const std::uint32_t number = shard().redo.load();
  if (number == 0) return false;
  const auto& identity = reinterpret_cast<const SegmentHeader*>(begin_)->identity;
  const auto* slots = reinterpret_cast<const ProcessSlot*>(begin_ + identity.process_slots_offset);
  const RedoRecord& record = reinterpret_cast<const RedoRecord*>(slots + identity.process_slots)[number - 1];
  const auto* table = reinterpret_cast<const Entry*>(begin_ + identity.shards_offset + kShardHeaderSize);
  return table[record.entry.load()].ref.load() == record.ref.load();
}

void SegmentBytes::restore(const std::vector<std::byte>& bytes) const { std::copy(bytes.begin(), bytes.end(), begin_); }

}  // namespace memstream::torture
