// Memory that is less than all shards can use: none of them takes what the others have a right to.
#include "core/shard/memory_share.h"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/shard/shard_lookup.h"
#include "tests/support/memory_segment.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

constexpr std::uint32_t kShards = 4;
constexpr std::uint64_t kSegmentSize = std::uint64_t{32} << 20;
constexpr std::uint64_t kStep = std::uint64_t{64} << 10;  // What a shard has taken from the start.

// A segment of 32 MiB with four shards, for which the system has `more_bytes` beyond what it has at first.
class ShortSegment : public TestSegment {
 public:
  explicit ShortSegment(std::uint64_t more_bytes) : TestSegment(kSegmentSize, kShards) {
    for (std::uint32_t number = 0; number < kShards; ++number) {
      shards_[number] = std::make_unique<Shard>(&segment(), geometry(), number, attached().hash_seed);
      at_first_ += committed(number);
    }
    let_have(more_bytes);
  }
  ShortSegment(const ShortSegment&) = delete;
  ShortSegment& operator=(const ShortSegment&) = delete;
  ~ShortSegment() { MemoryBackend::unlimit_committed_bytes(); }

  static void let_have(std::uint64_t more_bytes) {
    MemoryBackend::limit_committed_bytes(MemoryBackend::committed_bytes() + more_bytes);
  }

  std::uint64_t committed(std::uint32_t number) const {
    return committed_bytes(reinterpret_cast<const ShardHeader*>(data() + geometry().shard_offset(number))->space,
                           geometry().shard_size);
  }
  // That of all shards together, of which each is committed `at_first` from the start.
  std::uint64_t at_first() const { return at_first_; }

  // Stores new values in one shard until it has evicted a hundred, or has stored `most`. Every put must succeed.
  void fill(std::uint32_t number, std::size_t value_size, int most = 1'000'000) {
    const std::string value = pattern(value_size, number);
    for (int i = 0; i < most && statistics(number).counters.evictions < 100; ++i) {
      REQUIRE(put(number, "key-" + std::to_string(i), value) == Status::kOk);
    }
  }
  Status put(std::uint32_t number, const std::string& key_text, const std::string& value) {
    const StoreRequest request{.key = {key_text, hash_key(key_text, attached().hash_seed)},
                               .value = reinterpret_cast<const std::byte*>(value.data()),
                               .value_size = value.size()};
    return shards_[number]->store(request, {Deadline(std::chrono::milliseconds(2000)), now_ms_++});
  }
  ShardStatistics statistics(std::uint32_t number) {
    ShardStatistics statistics{};
    REQUIRE(shards_[number]->statistics(Deadline(std::chrono::milliseconds(2000)), &statistics) == Status::kOk);
    return statistics;
  }

 private:
  std::array<std::unique_ptr<Shard>, kShards> shards_;
  std::uint64_t at_first_ = 0;
  std::uint64_t now_ms_ = 1000;
};

TEST_CASE("a shard that is filled alone leaves each other one three quarters of an equal part") {
  for (const std::size_t value_size : {40U, 1000U, 30'000U}) {
    CAPTURE(value_size);
    ShortSegment cache(8U << 20);
    const std::uint64_t all = cache.at_first() + (8U << 20);
    const std::uint64_t right = all / kShards * 3 / 4;
    cache.fill(0, value_size);
    CHECK(cache.statistics(0).counters.commit_failures > 0);
    CHECK(cache.committed(0) <= all - (kShards - 1) * right);
    CHECK(cache.committed(0) > all - (kShards - 1) * right - 2 * kStep);  // And has all the rest.
    for (std::uint32_t number = 1; number < kShards; ++number) {
      CHECK(cache.committed(number) < 2 * kStep);
      cache.fill(number, value_size);
      CHECK(cache.committed(number) >= right - 2 * kStep);
      CHECK(cache.statistics(number).used_memory + cache.statistics(number).table_memory > right * 3 / 4);
    }
  }
}

TEST_CASE("shards that are filled side by side get equal parts") {
  ShortSegment cache(8U << 20);
  const std::uint64_t all = cache.at_first() + (8U << 20);
  const std::string value = pattern(1000, 1);
  for (int i = 0; i < 12'000; ++i) {
    for (std::uint32_t number = 0; number < kShards; ++number) {
      REQUIRE(cache.put(number, "key-" + std::to_string(i), value) == Status::kOk);
    }
  }
  for (std::uint32_t number = 0; number < kShards; ++number)
    CHECK(cache.committed(number) > all / kShards * 3 / 4 - kStep);
}

TEST_CASE("where there is memory for all shards, each takes all it can use") {
  ShortSegment cache(kSegmentSize);
  for (std::uint32_t number = 0; number < kShards; ++number) {
    cache.fill(number, 1000);
    CHECK(cache.committed(number) > cache.geometry().shard_size - kStep);
    CHECK(cache.statistics(number).counters.commit_failures == 0);
  }
}

TEST_CASE("a value that is larger than the part of its shard is stored as long as the others keep their right") {
  ShortSegment cache(8U << 20);
  const std::uint64_t part = (cache.at_first() + (8U << 20)) / kShards;
  CHECK(cache.put(0, "larger", pattern(part * 5 / 4, 1)) == Status::kOk);
  CHECK(cache.put(1, "largest", pattern(part * 7 / 4, 1)) == Status::kNoMemory);
  CHECK(cache.put(1, "small", pattern(1000, 1)) == Status::kOk);
}

TEST_CASE("when the system has more memory the shard that was held back takes its part of that") {
  ShortSegment cache(4U << 20);
  cache.fill(0, 1000);
  const std::uint64_t before = cache.committed(0);
  ShortSegment::let_have(kSegmentSize);
  const std::string value = pattern(1000, 2);
  for (int i = 0; i < 20'000; ++i) REQUIRE(cache.put(0, "more-" + std::to_string(i), value) == Status::kOk);
  CHECK(cache.committed(0) > before);
  CHECK(cache.committed(0) > cache.geometry().shard_size - kStep);
}

TEST_CASE("what is left goes to whoever has less than its right, also where it is not enough for all of them") {
  ShortSegment cache(kSegmentSize);
  cache.fill(0, 1000);
  ShortSegment::let_have(1U << 20);  // As if another program had taken the rest.
  cache.fill(1, 1000);
  CHECK(cache.committed(1) > (1U << 20));
  CHECK(cache.statistics(1).counters.commit_failures > 0);
}

TEST_CASE("marks that cannot be true count as a shard that has all its memory") {
  ShardSpace space{};
  space.table_committed = 8192;
  space.heap_committed = 1U << 20;
  CHECK(committed_bytes(space, 2U << 20) == 8192 + (1U << 20));
  space.heap_committed = 4096;
  CHECK(committed_bytes(space, 2U << 20) == 2U << 20);
  space.heap_committed = ~0ULL;
  CHECK(committed_bytes(space, 2U << 20) == 2U << 20);
  space.table_committed = ~0ULL;
  CHECK(committed_bytes(space, 2U << 20) == 2U << 20);
}

TEST_CASE("a shard that has no others beside it takes all") { CHECK(MemoryShare().may_take(~0ULL)); }

}  // namespace
}  // namespace memstream::test
