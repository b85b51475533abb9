// What a walk over the entries finds: the highest of some measure, groups by prefix, how sizes and times are spread,
// where values lie. The commands that walk and the page use these parts, so that they agree.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cli/cache.h"
#include "cli/snapshot.h"

namespace memstream::cli {

// An entry as all JSON shows it.
Json entry_json(const memstream_entry_t& entry);

// The entries that are highest by some measure, with room for just those. Of equals the lowest key comes first.
class TopEntries {
 public:
  using Measure = std::uint64_t (*)(const memstream_entry_t&);
  TopEntries(std::size_t limit, Measure measure) : limit_(limit), measure_(measure) {}

  void add(const memstream_entry_t& entry);
  std::vector<memstream_entry_t> sorted() const;

 private:
  bool is_higher(const memstream_entry_t& a, const memstream_entry_t& b) const;

  std::size_t limit_;
  Measure measure_;
  std::vector<memstream_entry_t> heap_;  // The lowest of them is on top.
};

// Sums of entries by what their keys begin with.
class PrefixGroups {
 public:
  struct Group {
    std::uint64_t entries = 0;
    std::uint64_t stored_bytes = 0;
    std::uint64_t accesses = 0;
  };

  // A prefix ends behind the first of the separators. Where more than `limit` prefixes exist, the later ones count as
  // others; 0: no limit.
  explicit PrefixGroups(std::vector<std::string> separators, std::size_t limit = 0)
      : separators_(std::move(separators)), limit_(limit) {}

  void add(const memstream_entry_t& entry);
  // The largest in bytes first. A key without a separator is of the group "".
  std::vector<std::pair<std::string, Group>> sorted() const;
  const Group& all() const noexcept { return all_; }
  const Group& others() const noexcept { return others_; }

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  std::string_view prefix_of(std::string_view key) const;

  std::vector<std::string> separators_;
  std::size_t limit_;
  std::unordered_map<std::string, Group, Hash, std::equal_to<>> groups_;
  Group all_;
  Group others_;
};

// Entries by powers of two of a measure: bucket n holds 2^(n-1) to 2^n - 1, bucket 0 holds 0.
class Spread {
 public:
  enum class Of { kSize, kAge, kTtl, kIdle };
  Spread(Of of, std::uint64_t now_ms) : of_(of), now_ms_(now_ms) {}

  void add(const memstream_entry_t& entry);
  // Pairs of the bound that all values are below, and their number; empty buckets are left out.
  std::vector<std::pair<std::uint64_t, std::uint64_t>> buckets() const;
  std::uint64_t never() const noexcept { return never_; }  // Of kTtl: entries that never expire.
  Json json() const;

 private:
  Of of_;
  std::uint64_t now_ms_;
  std::array<std::uint64_t, 65> counts_{};
  std::uint64_t never_ = 0;
};
inline constexpr const char* kSpreadNames[] = {"size", "age", "ttl", "idle"};

// The bytes of a live block: header, key and value. An entry tells where its value begins.
struct BlockRange {
  std::uint64_t begin;
  std::uint64_t end;
};
BlockRange block_of(const memstream_entry_t& entry, std::uint64_t segment_size);

// Which part of each cell of the segment is live.
class FillMap {
 public:
  FillMap(std::uint64_t segment_size, std::size_t cells) : cell_bytes_(bytes_of(segment_size, cells)), fill_(cells) {}

  void add(const BlockRange& block);
  std::vector<double> parts() const;  // Of each cell, 0 to 1.

 private:
  static double bytes_of(std::uint64_t size, std::size_t cells) {
    return static_cast<double>(size) / static_cast<double>(cells);
  }

  double cell_bytes_;
  std::vector<double> fill_;
};

// All of this in one walk.
class Survey {
 public:
  static constexpr std::size_t kTop = 100;
  static constexpr std::size_t kPrefixes = 200;         // Shown.
  static constexpr std::size_t kPrefixesKnown = 20000;  // Told apart.
  static constexpr std::size_t kCells = 1536;

  Survey(std::uint64_t now_ms, std::uint64_t segment_size, const std::vector<std::string>& separators);

  void add(const memstream_entry_t& entry);
  std::uint64_t entries() const noexcept { return prefixes_.all().entries; }
  // `share` is the part of the entries that the walk has seen.
  Json json(double share, std::uint64_t end_ms) const;

 private:
  std::uint64_t begin_ms_;
  std::uint64_t segment_size_;
  TopEntries largest_;
  TopEntries most_read_;
  PrefixGroups prefixes_;
  std::vector<Spread> spreads_;
  FillMap map_;
};

}  // namespace memstream::cli
