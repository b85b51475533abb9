// The places for pins beyond those of a process slot: chunks that processes claim, and that end with them.
#include "core/shard/pin_places.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/shard/shard.h"
#include "tests/support/memory_segment.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

std::string bytes_of(const PinnedBlock& pinned) {
  return {reinterpret_cast<const char*>(pinned.value), pinned.read.value_size};
}

TEST_CASE("what a pin of a chunk holds stays, through replace, delete and a rebuild, until the pin ends") {
  TestShard cache;
  REQUIRE(cache.set("key", pattern(100, 1)) == Status::kOk);
  std::vector<PinnedBlock> of_slot(kPinsPerProcess);
  REQUIRE(cache.set("other", "of the places in the slot") == Status::kOk);
  for (PinnedBlock& pinned : of_slot) REQUIRE(cache.pin("other", &pinned) == Status::kOk);
  PinnedBlock pinned;
  REQUIRE(cache.pin("key", &pinned) == Status::kOk);
  REQUIRE(pinned.pin >= kPinsPerProcess);
  REQUIRE(cache.set("key", pattern(100, 2)) == Status::kOk);
  REQUIRE(cache.remove("key") == Status::kOk);
  cache.recover();
  for (int i = 0; i < 20'000; ++i) REQUIRE(cache.set("k" + std::to_string(i), pattern(100, 3)) == Status::kOk);
  CHECK(bytes_of(pinned) == pattern(100, 1));
  CHECK(cache.statistics().pinned_memory >= 100);
  CHECK(cache.problems() == "");
  REQUIRE(cache.unpin(pinned) == Status::kOk);
  CHECK(cache.statistics().pinned_memory == 0);
  CHECK(cache.problems() == "");
}

TEST_CASE("the chunks of a process that has left its slot are free for others, with what it held") {
  TestShard cache;
  REQUIRE(cache.set("key", pattern(100, 1)) == Status::kOk);
  const std::uint64_t offset = cache.shard.offset_of(ref_block(cache.entry("key").ref));
  SegmentHeader& header = cache.TestSegment::header();
  header.slots_in_use = 3;
  ProcessSlot& gone = cache.process_slot(1);
  ProcessSlot& other = cache.process_slot(2);
  gone.pid = kDeadPid;
  gone.generation = 7;
  other.pid = kDeadPid + 1;
  PinSet of_gone(&gone, cache.places);
  std::uint32_t held = 0;
  while (of_gone.claim(offset) != PinSet::kNone) ++held;
  REQUIRE(held == kPinsPerProcess + cache.geometry().pin_chunks() * kPinsPerChunk);
  CHECK(cache.places.count(gone) == held);
  CHECK(cache.places.chunks_hold(offset));
  PinSet of_other(&other, cache.places);
  PinNumber pin;
  for (std::uint32_t i = 0; i < kPinsPerProcess; ++i) REQUIRE(of_other.claim(64) != PinSet::kNone);
  CHECK(of_other.claim(64) == PinSet::kNone);  // All chunks are those of the other one.
  SUBCASE("it left") { gone.pid = 0; }
  SUBCASE("the next process came into its slot") { gone.generation += 1; }
  SUBCASE("it was killed while it wiped a chunk") {
    for (std::uint32_t i = 0; i < cache.geometry().pin_chunks(); ++i) {
      auto* chunks = reinterpret_cast<PinChunk*>(cache.data() + cache.geometry().areas[kPinChunkArea].offset);
      chunks[i].owner |= std::uint64_t{1} << 63;
    }
    CHECK_FALSE(cache.places.chunks_hold(offset));
    CHECK(of_other.claim(64) == PinSet::kNone);  // It may still be at that.
    gone.pid = 0;
  }
  CHECK_FALSE(cache.places.chunks_hold(offset));
  for (std::uint32_t i = 0; i < cache.geometry().pin_chunks() * kPinsPerChunk; ++i) {
    pin = of_other.claim(64);
    REQUIRE(pin >= kPinsPerProcess);
    REQUIRE(of_other.holds(pin, 64));
  }
  CHECK(of_other.claim(64) == PinSet::kNone);
  CHECK_FALSE(of_gone.release(pin, 64));
  CHECK_FALSE(cache.places.chunks_hold(offset));
  CHECK(of_other.release(pin, 64));
}

TEST_CASE("without memory for a chunk there is no place for a pin") {
  TestShard cache;
  REQUIRE(cache.set("key", "value") == Status::kOk);
  std::vector<PinnedBlock> pinned(kPinsPerProcess + 1);
  for (std::uint32_t i = 0; i < kPinsPerProcess; ++i) REQUIRE(cache.pin("key", &pinned[i]) == Status::kOk);
  MemoryBackend::limit_committed_bytes(MemoryBackend::committed_bytes());
  CHECK(cache.pin("key", &pinned.back()) == Status::kFull);
  MemoryBackend::unlimit_committed_bytes();
  CHECK(cache.pin("key", &pinned.back()) == Status::kOk);
}

TEST_CASE("threads of one process share its chunks, and no place is given twice") {
  TestShard cache(std::uint64_t{16} << 20);
  constexpr std::uint32_t kThreads = 4, kEach = 300;
  std::vector<std::vector<PinNumber>> taken(kThreads);
  std::vector<std::thread> threads;
  for (std::uint32_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      PinSet pins(&cache.process_slot(0), cache.places);
      for (std::uint32_t i = 0; i < kEach; ++i) {
        const PinNumber dropped = pins.claim(64 * (thread + 1));
        taken[thread].push_back(pins.claim(64 * (thread + 1)));
        pins.drop(dropped);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<std::uint32_t> all;
  for (std::uint32_t thread = 0; thread < kThreads; ++thread) {
    for (const PinNumber pin : taken[thread]) {
      CHECK(cache.pins.holds(pin, 64 * (thread + 1)));
      all.insert(pin);
    }
  }
  CHECK(all.size() == kThreads * kEach);
  CHECK(cache.places.count(cache.process_slot(0)) == kThreads * kEach);
}

}  // namespace
}  // namespace memstream::test
