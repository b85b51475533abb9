// Processes that read and write one cache at once and check all that they read: nothing torn, foreign or resurrected.
// MEMSTREAM_TEST_SECONDS says how long the whole takes on one backend.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
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

// Every word of a value says which write it is of. Each key has one writer. The processes only get and put, so that a
// get often meets a put in the middle.
Complaint get_and_put_at_full_speed(std::uint32_t worker, std::uint32_t workers, std::chrono::milliseconds duration,
                                    memstream_t* cache) {
  constexpr std::uint32_t kKeys = 8;
  constexpr std::uint32_t kOperationsPerClockLook = 4096;
  using Value = std::array<std::uint64_t, 8>;
  const auto key_of = [](std::uint64_t number) { return "hot-key-" + std::to_string(number % kKeys); };
  std::array<std::uint64_t, kKeys> newest{};
  const auto end = std::chrono::steady_clock::now() + duration;
  std::uint64_t version = 0;
  while (std::chrono::steady_clock::now() < end) {
    for (std::uint32_t i = 0; i < kOperationsPerClockLook; ++i) {
      const std::uint64_t number = i / 2 % kKeys;
      const std::string key = key_of(number);
      Value value;
      if (i % 2 == 0 && number % workers == worker) {
        value.fill(++version);
        if (memstream_set(cache, key.data(), key.size(), value.data(), sizeof value, 0, 0) != CACHE_OK) return "set";
        newest[number] = version;
      }
      std::size_t size = sizeof value;
      const int status = memstream_get(cache, key.data(), key.size(), value.data(), &size, nullptr);
      if (status == CACHE_MISS) continue;
      if (status != CACHE_OK) return "get";
      if (size != sizeof value || std::adjacent_find(value.begin(), value.end(), std::not_equal_to{}) != value.end()) {
        return key + ": a torn value";
      }
      if (value[0] < newest[number]) return key + ": an old value came back";
      newest[number] = value[0];
    }
  }
  return "";
}

TEST_CASE("processes that get and put a few small values at full speed see each whole and in order") {
  for (const std::uint32_t workers : {2U, 4U}) {
    CAPTURE(workers);
    const TemporarySegment segment("hot", 8 << 20, 2, kPatientMs);
    const OpenCache cache(segment.spec());
    std::vector<std::unique_ptr<ChildProcess>> processes;
    for (std::uint32_t worker = 0; worker < workers; ++worker) {
      processes.push_back(std::make_unique<ChildProcess>([&, worker] {
        const OpenCache own(segment.spec());
        return get_and_put_at_full_speed(worker, workers, stress_time(kDefaultSeconds) / kRuns, own);
      }));
    }
    for (const auto& process : processes) CHECK(process->wait() == "");
  }
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
