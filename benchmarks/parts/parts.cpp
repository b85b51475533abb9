// The parts of an operation, each alone and in one process: hash, locks, look-up, heap. For what a change to one of
// them does; what they are worth together, memstream-bench says.
#include <benchmark/benchmark.h>
#include <pthread.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "core/base/robust_mutex.h"
#include "core/layout/hash.h"
#include "core/shard/arena.h"
#include "core/shard/shard_lock.h"
#include "tests/support/test_shard.h"

namespace memstream::bench {
namespace {

constexpr std::uint64_t kSegmentSize = std::uint64_t{32} << 20;
constexpr std::uint32_t kKeys = 50'000;

std::string key_of(std::uint64_t number) {
  std::string digits = std::to_string(number);
  return "user:" + std::string(8 - digits.size(), '0') + digits;
}

void require_ok(Status status) {
  if (status != Status::kOk) throw std::runtime_error("a part of the engine refused");
}

void hash_of_a_key(benchmark::State& state) {
  const std::string key(static_cast<std::size_t>(state.range(0)), 'k');
  std::uint64_t seed = 1;
  for (auto unused : state) benchmark::DoNotOptimize(seed = hash_key(key, seed).value);
}
BENCHMARK(hash_of_a_key)->Arg(13)->Arg(64)->Arg(250);

void robust_mutex(benchmark::State& state) {
  pthread_mutex_t mutex;
  require_ok(robust_mutex_init(&mutex));
  for (auto unused : state) {
    if (robust_mutex_lock(&mutex, Deadline(std::chrono::seconds(1))) != LockOutcome::kAcquired) std::abort();
    robust_mutex_unlock(&mutex);
  }
}
BENCHMARK(robust_mutex);

// What a write does to the lock of its shard.
void write_lock_of_a_shard(benchmark::State& state) {
  struct NoRecovery final : ShardRecovery {
    void repair_after_death() noexcept override { std::abort(); }
  } recovery;
  test::TestShard shard(kSegmentSize);
  ShardLock lock(&shard.header(), shard.header().index, shard.thread_slots(), shard.geometry().thread_slots, &recovery);
  for (auto unused : state) {
    require_ok(lock.lock(shard.deadline()));
    require_ok(lock.exclude_readers(shard.deadline()));
    lock.let_readers_in();
    lock.unlock();
  }
}
BENCHMARK(write_lock_of_a_shard);

// A look-up and nothing else: neither copy nor statistics.
void find_in_the_index(benchmark::State& state) {
  test::TestShard shard(kSegmentSize);
  std::vector<std::string> keys;
  for (std::uint32_t number = 0; number < kKeys; ++number) {
    keys.push_back(key_of(number));
    require_ok(shard.set(keys.back(), std::string(64, 'v')));
  }
  std::uint64_t number = 0;
  for (auto unused : state) {
    number = (number + 27'644'437) % kKeys;
    const Key key = shard.key(keys[number]);
    benchmark::DoNotOptimize(shard.shard.inspect(key, {shard.deadline(), shard.now_ms}, {}));
  }
}
BENCHMARK(find_in_the_index);

// Blocks of one size, taken and given back in another order.
void allocate_and_free(benchmark::State& state) {
  test::TestShard shard(kSegmentSize);
  Arena arena(&shard.header(), shard.geometry().shards_offset, shard.shard_size(), &shard.segment());
  const auto units = static_cast<std::uint64_t>(state.range(0)) / kUnitSize;
  std::vector<memstream::BlockPosition> blocks(64);
  for (auto& block : blocks) block = arena.allocate(memstream::Units{units}, shard.now_ms);
  std::size_t next = 0;
  for (auto unused : state) {
    next = (next + 27) % blocks.size();
    arena.free(blocks[next]);
    blocks[next] = arena.allocate(memstream::Units{units}, shard.now_ms);
    if (blocks[next] == 0) throw std::runtime_error("the heap gives nothing");
  }
}
BENCHMARK(allocate_and_free)->Arg(112)->Arg(1088)->Arg(65'600);

}  // namespace
}  // namespace memstream::bench

BENCHMARK_MAIN();
