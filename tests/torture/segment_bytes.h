// The bytes of a whole segment: to begin again from, and to look at without taking a lock.
#pragma once

#include <cstddef>
#include <vector>

#include "core/layout.h"
#include "tests/torture/cache_under_test.h"

namespace memstream::torture {

// The mapping under an open cache. It is found through the C interface: a view says where a value lies in memory, the
// entry says where in the segment. Puts one small key for that.
class SegmentBytes {
 public:
  explicit SegmentBytes(CacheUnderTest& cache);

  // The first shard.
  const ShardHeader& shard() const;

  // REQUIRES: nobody else uses the segment meanwhile.
  std::vector<std::byte> copy() const { return {begin_, begin_ + size_bytes_}; }
  void restore(const std::vector<std::byte>& bytes) const;

 private:
  std::byte* begin_;
  std::size_t size_bytes_;
};

}  // namespace memstream::torture
