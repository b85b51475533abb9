// The processes of a measurement: forked once for each store and number of processes, then told round by round what to
// do, so that no round pays for a fork or for the first touch of a page.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <boost/interprocess/mapped_region.hpp>
#include <chrono>
#include <cstdint>
#include <vector>

#include "benchmarks/c/contender.h"
#include "benchmarks/c/histogram.h"

namespace memstream::bench {

// What the workers are to do next. The parent writes it while they wait.
struct Order {
  Distribution distribution;
  std::uint32_t get_percent;
  std::uint32_t round;
  bool by_processor_time = false;  // Else by the clock on the wall.
  // Of a cache that may be full (benchmarks/evicting/):
  bool new_keys = false;   // Puts of keys that were never stored; else gets, and puts of what is missing.
  std::uint64_t puts = 0;  // By each worker, instead of as many as the duration allows; 0: the duration counts.
};

// What one worker found out; in shared memory, on pages of its own.
struct alignas(4096) WorkerResult {
  std::uint64_t operations;
  std::uint64_t elapsed_ns;  // By the clock that the order names.
  std::uint64_t torn;
  std::uint64_t hits;
  Histogram gets;
  Histogram puts;
  char error[512];  // "" unless the worker gave up.
};

struct Control {
  Order order;
  alignas(64) std::atomic<std::uint32_t> arrived;
  alignas(64) std::atomic<std::uint32_t> stop;
};

// The key numbers that were drawn for a data set; made before the fork and never written again.
struct Draws {
  explicit Draws(std::uint32_t keys)
      : uniform(draw_keys(Distribution::kUniform, keys)), zipf(draw_keys(Distribution::kZipf, keys)) {}

  const std::vector<std::uint32_t>& of(Distribution distribution) const noexcept {
    return distribution == Distribution::kUniform ? uniform : zipf;
  }

  std::vector<std::uint32_t> uniform;
  std::vector<std::uint32_t> zipf;
};

// A worker's view of all this.
struct WorkerContext {
  DataSet data;
  unsigned index;
  unsigned workers;
  const Draws* draws;
  Control* control;
  WorkerResult* result;
  int orders;   // Pipe to read from: a byte for each order, another one at the end.
  int answers;  // Pipe to write to: a byte for each order that was carried out.

  // Blocks; false when there are no more orders.
  bool wait_for_order();
  void answer();
  // Returns when all workers have arrived.
  void meet();
};

// What all workers together did in one round.
struct Round {
  double operations_per_second = 0;
  double slowest_to_mean = 0;  // Operations of the slowest process, in parts of the mean.
  std::uint64_t torn = 0;
  double hit_ratio = 0;  // Of all operations; only where a get may miss.
};

class Crowd {
 public:
  // Forks the workers and waits until each has opened the store and read it through. Throws std::runtime_error with
  // the words of the first that cannot.
  Crowd(Prepared& store, const DataSet& data, unsigned processes, const Draws& draws);
  Crowd(const Crowd&) = delete;
  Crowd& operator=(const Crowd&) = delete;
  ~Crowd();

  Round run(const Order& order, std::chrono::milliseconds duration);

  // Adds the latencies of all rounds since the last call.
  void take_latencies(Histogram* gets, Histogram* puts);

 private:
  struct Worker {
    pid_t pid;
    int orders;
    int answers;
  };
  void start(Prepared& store, const DataSet& data, unsigned index, const Draws& draws);
  void wait_for_answers();
  Control& control() const noexcept;
  WorkerResult& result(std::size_t index) const noexcept;
  void end() noexcept;

  unsigned processes_;
  boost::interprocess::mapped_region memory_;
  std::vector<Worker> workers_;
  Histogram gets_{};
  Histogram puts_{};
};

}  // namespace memstream::bench
