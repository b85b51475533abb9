// What takes part in the comparison, seen from outside: a store that is filled once and then used by forked processes.
//
// A contender is a class of its own (benchmarks/c/contenders/), and the loop that measures it is compiled for it alone
// (benchmarks/c/worker.h): no virtual call and no function pointer stands between the clock and the store. It has
//
//   static constexpr const char* kName;
//   static constexpr unsigned kBatch;          keys in one call; 1: get() and put(), more: get_batch() and put_batch()
//   static constexpr unsigned kSampleEvery;    one call in so many is timed
//   static constexpr unsigned kSweepEvery;     one key in so many is read by each process before the measurement
//   static constexpr bool kMayTear;            true only for what has no locks at all
//   Contender(const Environment&, const DataSet&)   makes the empty store, in the parent
//   class Session                              what one process works with; Session(Contender&), after the fork
//     template <class See> bool get(const Key&, std::span<std::byte> room, See see)
//                                              copies the value to `room` and calls see(data, size); false: missing
//     void put(const Key&, std::span<const std::byte> value)
//     get_batch(std::span<const Key>, room, see), put_batch(std::span<const Key>, std::span<std::byte> values)
//                                              see(index, data, size); the values lie one behind the other
//
// Whatever goes wrong is a std::runtime_error.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "benchmarks/c/workload.h"

namespace memstream::bench {

struct WorkerContext;

// A wrong value for the first key, which every process reads before the measurement: to see that it fails the run.
enum class Plant { kNothing, kTorn, kForeign };

struct Environment {
  std::string scratch;  // A directory on tmpfs that goes with the benchmark: sockets, files of embedded stores.
  std::string tag;      // Tells the names of this run from those of another.
  Plant planted = Plant::kNothing;
};

// A filled store, and the loop for its workers.
class Prepared {
 public:
  Prepared() = default;
  Prepared(const Prepared&) = delete;
  Prepared& operator=(const Prepared&) = delete;
  virtual ~Prepared() = default;

  // Runs in a forked process until there are no more orders.
  virtual void work(WorkerContext& context) = 0;
  virtual bool may_tear() const noexcept = 0;
};

struct Contender {
  std::string name;
  std::function<std::unique_ptr<Prepared>(const Environment&, const DataSet&)> prepare;
};

// All of them, the limit first.
std::vector<Contender> all_contenders();

}  // namespace memstream::bench
