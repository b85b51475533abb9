// The redo record of a process: whoever enters a slot, which thread has it, and what an overwriting means to a lease.
// The segment lies in real shared memory, because a forked child takes part.
#include <doctest/doctest.h>
#include <linux/futex.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "backends/posix/posix_backend.h"
#include "core/base/robust_mutex.h"
#include "core/cache/cache_lookup.h"
#include "tests/support/expectations.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

using namespace std::chrono_literals;

// A segment of two shards, and a key in each: what is written to one may spoil what the record says of the other.
class TwoShards {
 public:
  TwoShards()
      : spec_{.name = "test-" + std::to_string(::getpid()) + "-record", .size_bytes = 2 * kMinSegmentSize},
        format_(spec_.name, 2),
        backend_(make_posix_backend()) {
    REQUIRE_MESSAGE(backend_->open(spec_, format_, &segment_) == Status::kOk, last_error());
    REQUIRE_MESSAGE(check_header(*segment_, spec_.name, &attached_) == Status::kOk, last_error());
    for (std::uint32_t shard = 0; shard < 2; ++shard) {
      while (hash_key(key_in[shard], attached_.hash_seed).shard(2) != shard) key_in[shard] += 'y';
    }
  }
  TwoShards(const TwoShards&) = delete;
  TwoShards& operator=(const TwoShards&) = delete;
  ~TwoShards() { (void)backend_->remove(spec_, format_, nullptr, mark_destroyed); }

  std::unique_ptr<Cache> open(std::chrono::milliseconds timeout = 10s) {
    std::unique_ptr<Segment> segment;
    std::unique_ptr<Cache> cache;
    REQUIRE_MESSAGE(backend_->attach(spec_, Access::kReadWrite, format_, &segment) == Status::kOk, last_error());
    REQUIRE_MESSAGE(Cache::open(std::move(segment), spec_.name, timeout, &cache) == Status::kOk, last_error());
    return cache;
  }
  ShardHeader& shard(std::uint32_t number) const {
    return *reinterpret_cast<ShardHeader*>(segment_->data() + attached_.geometry.shard_offset(number));
  }
  RedoRecord& record(std::uint32_t number) const {
    return reinterpret_cast<RedoRecord*>(segment_->data() + attached_.geometry.redo_records_offset())[number];
  }
  // The one live entry of a shard.
  Entry& entry(std::uint32_t number) const {
    for (std::uint32_t cell = 0; cell < shard(number).cells; ++cell) {
      for (std::uint32_t slot = kBucketSlots; slot < kSlotsPerCell; ++slot) {
        Entry& candidate = Index::entry_unchecked(&shard(number), EntryId{cell * kSlotsPerCell + slot});
        if (ref_is_live(candidate.ref)) return candidate;
      }
    }
    throw std::runtime_error("no entry");
  }
  std::uint32_t position(std::uint32_t number) const { return ref_block(entry(number).ref); }

  // The state in which the process in slot 0 leaves the first shard that is killed in the middle of a put of its key:
  // the value is committed, and of the block nothing is written. W is left as it is.
  void begin_overwriting(const std::string& value) const {
    Entry& overwritten = entry(0);
    const auto* block = reinterpret_cast<const BlockHeader*>(reinterpret_cast<const std::byte*>(&shard(0)) +
                                                             std::uint64_t{position(0)} * kUnitSize);
    RedoRecord& redo = record(0);
    redo.ref = ref_overwritten(overwritten.ref);
    redo.entry = owner_entry(block->owner);
    redo.shard = 0;
    redo.block.shape = block->shape.load();
    redo.block.owner = block->owner.load();
    std::memcpy(redo.value, value.data(), value.size());
    shard(0).redo = 1;
    shard(0).wait = 1;
    overwritten.ref = redo.ref.load();
  }

  std::string key_in[2] = {"x", "x"};

 private:
  SegmentSpec spec_;
  SegmentFormat format_;
  std::unique_ptr<SegmentBackend> backend_;
  std::unique_ptr<Segment> segment_;
  AttachedHeader attached_;
};

Status put(Cache& cache, const std::string& key, const std::string& value, StoreMode mode = StoreMode::kSet,
           std::uint64_t token = 0) {
  return cache.store(key, {reinterpret_cast<const std::byte*>(value.data()), value.size()}, mode, token);
}

std::optional<std::string> get(Cache& cache, const std::string& key) {
  std::string room(64, '\0');
  const GetResult got = cache.get(key, reinterpret_cast<std::byte*>(room.data()), room.size());
  if (got.status != Status::kOk) return std::nullopt;
  return room.substr(0, got.read.value_size);
}

std::string problems_of(Cache& cache) {
  std::vector<std::string> problems;
  REQUIRE(cache.check(&problems) == Status::kOk);
  std::string all;
  for (const std::string& problem : problems) all += problem + "\n";
  return all;
}

void die_with(pthread_mutex_t* mutex) {
  std::thread([&] { REQUIRE(robust_mutex_try_lock(mutex) == LockOutcome::kAcquired); }).join();
}

}  // namespace

TEST_CASE("a record says in which shard it was last used") {
  TwoShards segment;
  const auto cache = segment.open();
  for (const std::uint32_t shard : {1U, 0U, 1U}) {
    REQUIRE(put(*cache, segment.key_in[shard], "one") == Status::kOk);
    REQUIRE(put(*cache, segment.key_in[shard], "two") == Status::kOk);
    CHECK(segment.record(0).shard == shard);
  }
}

TEST_CASE("whoever enters the slot of a process that died overwriting a value finishes that first") {
  TwoShards segment;
  {
    const auto before = segment.open();
    REQUIRE(put(*before, segment.key_in[0], pattern(64, 1)) == Status::kOk);
    REQUIRE(put(*before, segment.key_in[1], pattern(64, 2)) == Status::kOk);
  }
  segment.begin_overwriting(pattern(64, 3));
  die_with(&segment.shard(0).write_mutex);
  const auto cache = segment.open();
  CHECK(segment.shard(0).redo == 0);
  CHECK(segment.shard(0).counters.recoveries == 1);
  const std::uint32_t position = segment.position(1);
  REQUIRE(put(*cache, segment.key_in[1], pattern(64, 4)) == Status::kOk);  // In the record of the dead one.
  CHECK(segment.position(1) == position);
  CHECK(segment.record(0).ref == (segment.entry(1).ref & ~kLiveBit));
  CHECK(get(*cache, segment.key_in[0]) == pattern(64, 3));
  CHECK(get(*cache, segment.key_in[1]) == pattern(64, 4));
  CHECK(problems_of(*cache) == "");
}

TEST_CASE("a record that cannot be had because the shard is busy is left as it is, and the process does without") {
  TwoShards segment;
  {
    const auto before = segment.open();
    REQUIRE(put(*before, segment.key_in[0], pattern(64, 1)) == Status::kOk);
    REQUIRE(put(*before, segment.key_in[1], pattern(64, 2)) == Status::kOk);
  }
  segment.begin_overwriting(pattern(64, 3));
  Signal locked, done;
  std::thread holder([&] {
    REQUIRE(robust_mutex_try_lock(&segment.shard(0).write_mutex) == LockOutcome::kAcquired);
    locked.post();
    done.wait();
  });
  locked.wait();
  const auto cache = segment.open(20ms);
  const std::uint64_t ref = segment.record(0).ref;
  const std::uint32_t position = segment.position(1);
  CHECK(put(*cache, segment.key_in[1], pattern(64, 4)) == Status::kOk);
  CHECK(segment.position(1) != position);
  CHECK(segment.record(0).ref == ref);
  CHECK(segment.shard(0).redo == 1);
  CHECK(get(*cache, segment.key_in[0]) == pattern(64, 3));
  done.post();
  holder.join();  // It ends with the lock, so that the next one recovers.
  CHECK(put(*cache, segment.key_in[1], pattern(64, 5)) == Status::kOk);
  CHECK(problems_of(*cache) == "");
  CHECK(get(*cache, segment.key_in[0]) == pattern(64, 3));
  CHECK(segment.shard(0).counters.recoveries == 1);
}

TEST_CASE("while one thread has the record of the process another one's value gets a block of its own") {
  TwoShards segment;
  const auto cache = segment.open();
  for (const std::string& key : segment.key_in) REQUIRE(put(*cache, key, pattern(64, 1)) == Status::kOk);
  pthread_mutex_t& mutex = segment.shard(0).write_mutex;
  REQUIRE(robust_mutex_try_lock(&mutex) == LockOutcome::kAcquired);
  Status status = Status::kInternal;
  std::thread first([&] { status = put(*cache, segment.key_in[0], pattern(64, 2)); });
  // It has the record as soon as it waits for the lock.
  const std::atomic_ref<int> word(mutex.__data.__lock);
  while ((static_cast<std::uint32_t>(word.load()) & FUTEX_WAITERS) == 0) std::this_thread::yield();
  const std::uint32_t position = segment.position(1);
  CHECK(put(*cache, segment.key_in[1], pattern(64, 3)) == Status::kOk);
  CHECK(segment.position(1) != position);
  CHECK(segment.record(0).ref == 0);
  robust_mutex_unlock(&mutex);
  first.join();
  CHECK(status == Status::kOk);
  CHECK(segment.record(0).ref == (segment.entry(0).ref & ~kLiveBit));
  // And gives it back.
  const std::uint32_t next = segment.position(1);
  CHECK(put(*cache, segment.key_in[1], pattern(64, 4)) == Status::kOk);
  CHECK(segment.position(1) == next);
  CHECK(get(*cache, segment.key_in[0]) == pattern(64, 2));
  CHECK(get(*cache, segment.key_in[1]) == pattern(64, 4));
  CHECK(problems_of(*cache) == "");
}

TEST_CASE("a forked child overwrites by a record of its own") {
  TwoShards segment;
  const auto cache = segment.open();
  REQUIRE(put(*cache, segment.key_in[0], pattern(64, 1)) == Status::kOk);
  REQUIRE(put(*cache, segment.key_in[0], pattern(64, 2)) == Status::kOk);
  const std::uint64_t ref = segment.record(0).ref;
  CHECK(ref != 0);
  CHECK(in_child([&] { return unless(put(*cache, segment.key_in[0], pattern(64, 3)), Status::kOk); }) == "");
  CHECK(segment.record(0).ref == ref);
  CHECK(segment.record(1).ref == (segment.entry(0).ref & ~kLiveBit));
  CHECK(get(*cache, segment.key_in[0]) == pattern(64, 3));
}

TEST_CASE("overwriting a value ends the lease of its key") {
  TwoShards segment;
  const auto cache = segment.open();
  const std::string& key = segment.key_in[0];
  REQUIRE(put(*cache, key, "stale") == Status::kOk);
  const std::uint32_t position = segment.position(0);
  std::byte room[64];
  std::uint64_t token = 0;
  REQUIRE(cache->lease(key, cache->get(key, room, sizeof room).read.cas, 0, &token) == Status::kOk);
  REQUIRE(token != 0);
  REQUIRE(put(*cache, key, "fresh") == Status::kOk);
  CHECK(segment.position(0) == position);
  CHECK(put(*cache, key, "late.", StoreMode::kLease, token) == Status::kConflict);
  CHECK(get(*cache, key) == "fresh");
  CHECK(cache->lease(key, cache->get(key, room, sizeof room).read.cas, 0, &token) == Status::kOk);
  CHECK(put(*cache, key, "again", StoreMode::kLease, token) == Status::kOk);
  CHECK(segment.position(0) == position);
  CHECK(get(*cache, key) == "again");
}

}  // namespace memstream::test
