// What a process that watches a segment has seen of its changes (core/cache/cache_watch.cpp, docs/decisions/0030).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

namespace memstream {

// Belongs to one thread. Its words are those of the segment for which Cache::begin_watch() has filled it.
struct WatchState {
  std::vector<std::uint64_t> positions;  // In the rings of the shards.
  std::uint64_t changes_of_all = 0;
  std::uint64_t unpassed = 0;  // A bit for each shard whose W has not been passed since the announcement was renewed.
  std::uint64_t next_look_ms = 0;  // When to look for dead writers again.
  std::uint16_t lapses = 0;
  std::vector<std::uint64_t> words;  // Room for what is copied out of a ring.
};

// What Cache::read_changes() tells. Both functions may throw std::bad_alloc.
struct WatchVisitor {
  std::function<void(std::string_view key)> changed;
  std::function<void()> look_again;  // Any key may have changed.
};

// A killed writer or a destroyed segment delays a watcher by as much, and no sleep is longer.
inline constexpr std::chrono::milliseconds kWatchSlice{50};

}  // namespace memstream
