// What is on its way from one segment to its successor: docs/decisions/0025.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/layout/hash.h"

namespace memstream {

// An entry and how hot it is: sorted by `order`, the hottest come first.
struct RankedEntry {
  std::uint64_t order = 0;  // Queue and hits, then the time since the last access.
  std::uint64_t bytes = 0;  // That it takes.
  std::uint32_t shard = 0;
  EntryId id;
};

// A copy of an entry. Key and value lie in MovingBatch::bytes.
struct MovingEntry {
  std::uint64_t hash = 0;
  std::uint64_t begin = 0;  // Of the key; the value is behind it.
  std::uint64_t value_size = 0;
  std::uint64_t expires_ms = 0;
  std::uint64_t created_ms = 0;
  std::uint64_t caller_flags = 0;  // With the checksum above them.
  std::uint64_t last_access_ms = 0;
  std::uint32_t access_count = 0;
  std::uint32_t hits = 0;
  std::uint32_t key_size = 0;
};

struct MovingBatch {
  static constexpr std::size_t kEnoughEntries = 256;
  static constexpr std::size_t kEnoughBytes = std::size_t{256} << 10;

  std::vector<std::byte> bytes;
  std::vector<MovingEntry> entries;
  std::vector<std::uint64_t> gone;  // Hashes of keys whose entry was another one before: they may be there no more.

  bool has_enough() const noexcept { return entries.size() >= kEnoughEntries || bytes.size() >= kEnoughBytes; }
  std::string_view key_of(const MovingEntry& entry) const noexcept {
    return {reinterpret_cast<const char*>(bytes.data()) + entry.begin, entry.key_size};
  }
  const std::byte* value_of(const MovingEntry& entry) const noexcept {
    return bytes.data() + entry.begin + entry.key_size;
  }
  void clear() noexcept {
    bytes.clear();
    entries.clear();
    gone.clear();
  }
};

// Of each entry of a shard, by number, what it was when it was taken.
struct TakenEntries {
  struct Taken {
    std::uint64_t stamp = 0;  // Another one after each write. 0: no entry.
    std::uint64_t hash = 0;   // Of the key that the successor may have because of it; 0: none.
  };
  std::vector<Taken> entries;
};

}  // namespace memstream
