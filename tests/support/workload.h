// A mixed load of several workers on one cache, in which every worker checks all that it reads: the body of the stress
// tests, for processes and for threads.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>

#include "tests/support/child_process.h"
#include "tests/support/ledger.h"
#include "tests/support/test_cache.h"

namespace memstream::test {

struct WorkloadPlan {
  std::uint32_t workers = 1;
  std::uint32_t keys = 0;           // Key k is written by worker k % workers only, and read by all.
  std::size_t max_value_bytes = 0;  // Most values are far smaller.
  bool evicts = false;              // Whether the cache is too small for all the keys: then any read may miss.
  std::chrono::milliseconds duration{0};
};

// What the workers of one run have in common, in memory that survives each of them.
class Workload {
 public:
  explicit Workload(const WorkloadPlan& plan);

  // Runs one worker until the time is up, on a handle that other workers may use too. Throws std::runtime_error when it
  // reads a value that is torn, foreign or older than one it might see, misses one that must be there, or gets an
  // error.
  void run_worker(std::uint32_t worker, memstream_t* cache);

  // With all workers gone: lets nothing expire any more, then checks the cache, its counters against a scan, and the
  // shared counters against the increments that were acknowledged. Empty if all is well.
  Complaint verify_at_rest(memstream_t* cache);

  std::uint64_t operations() const { return totals_->operations; }
  std::uint64_t refusals() const { return totals_->refusals; }

  static constexpr std::uint32_t kCounters = 8;  // Keys that all workers increment.

  // Shared by all workers.
  struct Totals {
    std::atomic<std::uint64_t> operations;
    std::atomic<std::uint64_t> refusals;  // CACHE_FULL for a large value while views hold what would have to go.
    std::atomic<std::uint64_t> increments[kCounters];
  };

 private:
  WorkloadPlan plan_;
  SharedArray<KeyRecord> records_;
  SharedArray<Totals> shared_totals_;
  Totals* totals_;
};

}  // namespace memstream::test
