// The bytes of a whole segment: to begin again from, and to look at without taking a lock.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <vector>

#include "core/layout/layout.h"
#include "tests/torture/cache_under_test.h"

namespace memstream::torture {

// What the word of a mutex says.
struct LockWord {
  pid_t holder = 0;  // 0: nobody, or somebody dead.
  bool has_waiters = false;
  bool holder_died = false;
};

// The mapping under an open cache. It is found through the C interface: a view says where a value lies in memory, the
// entry says where in the segment. Puts one small key for that.
class SegmentBytes {
 public:
  explicit SegmentBytes(CacheUnderTest& cache);

  // The first shard.
  const ShardHeader& shard() const;
  // Of its write mutex.
  LockWord write_lock() const;
  // Whether a process has a thread slot, and has said that it reads the shard.
  bool reads_slowly(pid_t process_id) const;

  // Whether somebody, who may be dead, has begun to overwrite a value in its block and has not ended.
  bool is_overwriting() const;

  // REQUIRES: nobody else uses the segment meanwhile.
  std::vector<std::byte> copy() const { return {begin_, begin_ + size_bytes_}; }
  void restore(const std::vector<std::byte>& bytes) const;

 private:
  std::byte* begin_;
  std::size_t size_bytes_;
};

}  // namespace memstream::torture
