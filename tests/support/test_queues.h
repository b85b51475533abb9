// A shard in memory of this process whose two queues the test sees.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <string>

#include "core/shard/eviction.h"
#include "tests/support/test_shard.h"

namespace memstream::test {

inline constexpr std::size_t kValueSize = 200;

class TestQueues : public TestShard {
 public:
  explicit TestQueues(std::uint64_t size_bytes = kMinSegmentSize)
      : TestShard(size_bytes),
        index_(&header()),
        arena_(&header(), geometry().shards_offset, shard_size(), &segment()),
        pin_table_(PinPlaces(&segment(), geometry()), geometry().shards_offset),
        tag_table_(&segment(), geometry()),
        eviction(&header(), &index_, &arena_, &pin_table_, &tag_table_) {}

  static std::string name(int number) { return "key-" + std::to_string(number); }
  void put(int number) { REQUIRE(set(name(number), pattern(kValueSize, 1)) == Status::kOk); }
  bool has(int number) { return get(name(number)).has_value(); }
  // Puts new keys, from `*next` on, until so many have been evicted since.
  void evict(int* next, std::uint64_t evictions) {
    const std::uint64_t before = counters().evictions;
    while (counters().evictions < before + evictions) put((*next)++);
  }
  // Puts keys until the main queue has its part and each new key costs another one.
  int fill() {
    int next = 0;
    evict(&next, 6000);
    return next;
  }
  bool is_in(int number, std::uint32_t queue) { return (entry(name(number)).policy & queue) != 0; }
  std::uint32_t hits(int number) { return entry(name(number)).policy & kHits; }
  double small_part() const {
    return static_cast<double>(space().small_memory) / static_cast<double>(space().used_memory);
  }
  ShardSpace& space() const noexcept { return header().space; }
  std::uint64_t small_target() const {
    const WriteLockScope held(header());
    return eviction.small_target();
  }
  // Calls visit(entry number, entry) for every live entry.
  template <class Visit>
  void for_each_entry(Visit visit) {
    for (EntryId id; id < header().cells * kSlotsPerCell; ++id) {
      if (!Index::names_entry(id, header().cells)) continue;
      Entry& current = Index::entry_unchecked(&header(), id);
      if (ref_is_live(current.ref)) visit(id, current);
    }
  }

 private:
  Index index_;
  Arena arena_;
  PinTable pin_table_;
  TagTable tag_table_;

 public:
  Eviction eviction;
};

}  // namespace memstream::test
