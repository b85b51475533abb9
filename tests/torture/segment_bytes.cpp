#include "tests/torture/segment_bytes.h"

#include <linux/futex.h>

#include <algorithm>
#include <cstdint>
#include <string_view>

namespace memstream::torture {

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

LockWord SegmentBytes::write_lock() const {
  // The first word of the C library's mutex is the futex that the kernel knows.
  const auto* futex = reinterpret_cast<const std::uint32_t*>(&shard().write_mutex);
  const std::uint32_t word = __atomic_load_n(futex, __ATOMIC_RELAXED);
  return {.holder = static_cast<pid_t>(word & FUTEX_TID_MASK),
          .has_waiters = (word & FUTEX_WAITERS) != 0,
          .holder_died = (word & FUTEX_OWNER_DIED) != 0};
}

void SegmentBytes::restore(const std::vector<std::byte>& bytes) const { std::copy(bytes.begin(), bytes.end(), begin_); }

}  // namespace memstream::torture
