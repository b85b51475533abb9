// Threads that read and write one cache at once through one handle and through several, while others scan it.
#include <doctest/doctest.h>

#include <atomic>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/scale.h"
#include "tests/support/test_cache.h"
#include "tests/support/workload.h"

namespace memstream::test {
namespace {

constexpr int kDefaultSeconds = 8;
constexpr int kRuns = 3;
constexpr std::uint32_t kThreads = 8;
constexpr std::int64_t kPatientMs = 20'000;

// Runs bodies in threads and keeps what they complain about.
class CheckedThreads {
 public:
  template <class Body>
  void start(Body body) {
    threads_.emplace_back([this, body] {
      try {
        body();
      } catch (const std::exception& error) {
        const std::lock_guard guard(mutex_);
        complaints_ += std::string(error.what()) + "\n";
      }
    });
  }
  std::string join() {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    return complaints_;
  }

 private:
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::string complaints_;
};

// Scans and asks for statistics and processes until the workers are done.
void look_on(memstream_t* cache, const std::atomic<bool>& is_done) {
  while (!is_done) {
    const cache_stats_t stats = stats_of(cache);
    // Entry by entry only: a key that is removed and put again while the scan is on its way may well be seen twice.
    scan_all(cache, [&](const memstream_entry_t& entry) {
      const bool is_possible = entry.key_size > 0 && entry.stored_size >= entry.key_size + entry.value_size &&
                               entry.data_offset + entry.value_size <= stats.max_memory;
      if (!is_possible) throw std::runtime_error("a scan reports an impossible entry");
    });
    memstream_process_t processes[4];
    std::size_t count = 0;
    if (memstream_processes(cache, processes, std::size(processes), &count) != CACHE_OK) {
      throw std::runtime_error(cache_last_error());
    }
    if (const std::string problems = problems_of(cache); !problems.empty()) throw std::runtime_error(problems);
  }
}

void run_threads(WorkloadPlan plan, const TemporarySegment& segment, bool share_handle) {
  plan.workers = kThreads;
  plan.duration = stress_time(kDefaultSeconds) / kRuns;
  Workload workload(plan);
  const OpenCache cache(segment.spec());
  CheckedThreads workers;
  CheckedThreads onlookers;
  std::atomic<bool> is_done = false;
  onlookers.start([&] { look_on(cache, is_done); });
  for (std::uint32_t worker = 0; worker < plan.workers; ++worker) {
    workers.start([&, worker] {
      if (share_handle) return workload.run_worker(worker, cache);
      const OpenCache own(segment.spec());
      workload.run_worker(worker, own);
    });
  }
  CHECK(workers.join() == "");
  is_done = true;
  CHECK(onlookers.join() == "");
  CHECK(workload.verify_at_rest(cache) == "");
  CHECK(stats_of(cache).damaged == 0);
  MESSAGE(workload.operations() << " operations, " << stats_of(cache).evictions << " evictions");
}

TEST_CASE("threads that share a handle on a small cache read only what was written") {
  const TemporarySegment segment("small", 8 << 20, 2, kPatientMs);
  run_threads({.keys = 20'000, .max_value_bytes = 80 << 10, .evicts = true}, segment, true);
}

TEST_CASE("threads with a handle each on a small cache read only what was written") {
  const TemporarySegment segment("handles", 8 << 20, 1, kPatientMs);
  run_threads({.keys = 20'000, .max_value_bytes = 80 << 10, .evicts = true}, segment, false);
}

TEST_CASE("threads on a cache that holds everything lose nothing") {
  const TemporarySegment segment("large", 256 << 20, 0, kPatientMs);
  run_threads({.keys = 400, .max_value_bytes = 200 << 10, .evicts = false}, segment, true);
}

}  // namespace
}  // namespace memstream::test
