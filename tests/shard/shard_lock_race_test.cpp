// A writer and a slow reader that come at the same moment, a great many times: one of the two sees the other.
#include <doctest/doctest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include "core/shard/shard_lock.h"
#include "tests/support/scale.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

using namespace std::chrono_literals;

class NoRecovery final : public ShardRecovery {
 public:
  void repair_after_death() noexcept override { FAIL("nobody has died"); }
};

// Puts the calling thread on the first or the last processor of those that it may use. On a machine at work both would
// often be given the same one, and take turns instead of meeting.
class OnProcessor {
 public:
  explicit OnProcessor(bool is_first) {
    REQUIRE(::sched_getaffinity(0, sizeof before_, &before_) == 0);
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &before_)) continue;
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      if (is_first) break;
    }
    REQUIRE(::sched_setaffinity(0, sizeof one, &one) == 0);
  }
  OnProcessor(const OnProcessor&) = delete;
  OnProcessor& operator=(const OnProcessor&) = delete;
  ~OnProcessor() { ::sched_setaffinity(0, sizeof before_, &before_); }

 private:
  cpu_set_t before_;
};

// Stays for a moment, and says whether somebody is there.
bool meets(const std::atomic<bool>& other) {
  for (int looks = 0; looks < 4; ++looks) {
    if (other.load()) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("a writer is never in a shard together with a slow reader") {
  const TestSegment segment;
  auto* shard = reinterpret_cast<ShardHeader*>(segment.data() + segment.geometry().shards_offset);
  NoRecovery recovery;
  ShardLock lock(shard, 0, segment.thread_slots(), segment.geometry().thread_slots, &recovery);
  std::atomic<bool> has_writer{false};
  std::atomic<bool> has_reader{false};
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> reads{0};
  std::uint64_t met_by_reader = 0;
  std::uint64_t met_by_writer = 0;
  std::thread reader([&] {
    const OnProcessor first(true);
    while (!stop.load()) {
      const Status status = lock.read_shared(Deadline(20s), [&] {
        has_reader.store(true);
        met_by_reader += meets(has_writer) ? 1 : 0;
        has_reader.store(false);
      });
      reads += status == Status::kOk ? 1 : 0;
    }
  });
  const OnProcessor last(false);
  const int least = scaled(2'000'000);
  int writes = 0;
  int written = 0;
  // Where the processors are busy the reader's thread may begin late: no end before it has come in.
  for (; writes < least || reads.load() == 0; ++writes) {
    const Deadline deadline(20s);
    if (lock.lock(deadline) != Status::kOk) continue;
    lock.assert_held();
    if (lock.exclude_readers(deadline) == Status::kOk) {
      has_writer.store(true);
      met_by_writer += meets(has_reader) ? 1 : 0;
      has_writer.store(false);
      lock.let_readers_in();
      ++written;
    }
    lock.unlock();
  }
  stop = true;
  reader.join();
  CHECK(written == writes);
  CHECK(met_by_reader == 0);
  CHECK(met_by_writer == 0);
  CHECK(shard->announced[0] == 0);
  CHECK(shard->wait == 0);
  MESSAGE(reads.load() << " reads beside " << writes << " writes");
}

}  // namespace memstream::test
