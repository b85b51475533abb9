// Processes that read and write one cache at once and check all that they read: nothing torn, foreign or resurrected.
// MEMSTREAM_TEST_SECONDS says how long the whole takes on one backend.
#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/support/child_process.h"
#include "tests/support/scale.h"
#include "tests/support/test_cache.h"
#include "tests/support/workload.h"

namespace memstream::test {
namespace {

constexpr int kDefaultSeconds = 5;
constexpr std::uint32_t kProcessCounts[] = {1, 2, 4, 8};
constexpr int kRuns = 2 * static_cast<int>(std::size(kProcessCounts));  // Each on a small and on a large segment.
constexpr std::int64_t kPatientMs = 20'000;  // More than a loaded machine needs: CACHE_BUSY would be a defect.

// Operations after which a small segment has certainly been full: eight processes take up to 65,000. Under a tool that
// slows everything down there are fewer.
constexpr std::uint64_t kEnoughToFill = 100'000;

// Runs the plan with a process per worker, then verifies.
void run_processes(WorkloadPlan plan, const TemporarySegment& segment) {
  plan.duration = stress_time(kDefaultSeconds) / kRuns;
  Workload workload(plan);
  const OpenCache cache(segment.spec());
  {
    std::vector<std::unique_ptr<ChildProcess>> processes;
    for (std::uint32_t worker = 0; worker < plan.workers; ++worker) {
      processes.push_back(std::make_unique<ChildProcess>([&, worker]() -> Complaint {
        const OpenCache own(segment.spec());
        workload.run_worker(worker, own);
        return "";
      }));
    }
    for (const auto& process : processes) CHECK(process->wait() == "");
  }
  CHECK(workload.verify_at_rest(cache) == "");
  const cache_stats_t stats = stats_of(cache);
  CHECK(stats.processes == 1);
  CHECK(stats.dead_processes == 0);
  CHECK(stats.recoveries == 0);
  CHECK(stats.damaged == 0);
  if (!plan.evicts) CHECK(stats.evictions == 0);
  if (plan.evicts && workload.operations() >= kEnoughToFill) CHECK(stats.evictions > 0);
  MESSAGE(plan.workers << " processes: " << workload.operations() << " operations, " << stats.evictions
                       << " evictions, " << stats.entry_capacity << " entries of room, " << workload.refusals()
                       << " refused");
}

TEST_CASE("processes on a cache that is far too small read only what was written") {
  for (const std::uint32_t workers : kProcessCounts) {
    CAPTURE(workers);
    const TemporarySegment segment("small", 8 << 20, 2, kPatientMs);
    run_processes({.workers = workers, .keys = 40'000, .max_value_bytes = 400 << 10, .evicts = true}, segment);
  }
}

TEST_CASE("processes on a cache that holds everything lose nothing and read only what was written") {
  for (const std::uint32_t workers : kProcessCounts) {
    CAPTURE(workers);
    const TemporarySegment segment("large", 512 << 20, 0, kPatientMs);
    run_processes({.workers = workers, .keys = 800, .max_value_bytes = 300 << 10, .evicts = false}, segment);
  }
}

}  // namespace
}  // namespace memstream::test
