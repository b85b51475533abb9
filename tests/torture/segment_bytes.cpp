#include "tests/torture/segment_bytes.h"

#include <algorithm>
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

void SegmentBytes::restore(const std::vector<std::byte>& bytes) const { std::copy(bytes.begin(), bytes.end(), begin_); }

}  // namespace memstream::torture
