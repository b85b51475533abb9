// W, the write lock of a shard, as lock contracts name it.
#pragma once

#include "core/base/robust_mutex.h"
#include "core/base/thread_safety.h"
#include "core/layout/layout.h"

namespace memstream {

// What a thread has while it holds W of the shard that it works on. No operation takes two shards' locks, so one name
// does for all shards.
class MEMSTREAM_CAPABILITY("write lock of the shard") WriteLock {};
inline constexpr WriteLock kWriteLock;

// On a function or a lambda: the caller holds W. Clang refuses a call from code that does not.
#define MEMSTREAM_NEEDS_W MEMSTREAM_REQUIRES(kWriteLock)

// For the assertions of debug builds.
inline bool holds_write_lock(ShardHeader* header) noexcept { return robust_mutex_is_mine(&header->write_mutex); }

}  // namespace memstream
