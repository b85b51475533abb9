#include "benchmarks/c/crowd.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/interprocess/anonymous_shared_memory.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

#include "benchmarks/c/interrupt.h"

namespace memstream::bench {
namespace {

constexpr std::size_t kControlSize = 4096;
static_assert(sizeof(Control) <= kControlSize);
constexpr char kGo = 'g';
constexpr char kEnd = 'e';

void make_pipe(int (&ends)[2]) {
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe2");
}

// One worker to a core when there are cores enough: nobody is moved in the middle of a round.
void pin(unsigned index, unsigned workers) {
  const long cores = ::sysconf(_SC_NPROCESSORS_ONLN);
  if (cores < static_cast<long>(workers)) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(index, &set);
  static_cast<void>(::sched_setaffinity(0, sizeof set, &set));  // A container may forbid it; then nobody is pinned.
}

}  // namespace

bool WorkerContext::wait_for_order() {
  char byte = 0;
  ssize_t got = 0;
  do {
    got = ::read(orders, &byte, 1);
  } while (got < 0 && errno == EINTR);
  return got == 1 && byte == kGo;
}

void WorkerContext::answer() {
  if (::write(answers, "x", 1) != 1) throw std::runtime_error("the parent of a worker is gone");
}

void WorkerContext::meet() {
  control->arrived.fetch_add(1);
  while (control->arrived.load(std::memory_order_relaxed) < workers) ::sched_yield();
}

Crowd::Crowd(Prepared& store, const DataSet& data, unsigned processes, const Draws& draws)
    : processes_(processes),
      memory_(boost::interprocess::anonymous_shared_memory(kControlSize + processes * sizeof(WorkerResult))) {
  new (memory_.get_address()) Control{};
  std::signal(SIGPIPE, SIG_IGN);  // A worker may be gone when it is told to go.
  try {
    for (unsigned index = 0; index < processes; ++index) start(store, data, index, draws);
    wait_for_answers();
  } catch (...) {
    end();
    throw;
  }
}

Crowd::~Crowd() { end(); }

Control& Crowd::control() const noexcept { return *static_cast<Control*>(memory_.get_address()); }

WorkerResult& Crowd::result(std::size_t index) const noexcept {
  auto* bytes = static_cast<std::byte*>(memory_.get_address()) + kControlSize;
  return *reinterpret_cast<WorkerResult*>(bytes + index * sizeof(WorkerResult));
}

void Crowd::start(Prepared& store, const DataSet& data, unsigned index, const Draws& draws) {
  int orders[2];
  int answers[2];
  make_pipe(orders);
  make_pipe(answers);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    std::signal(SIGINT, SIG_IGN);  // The parent ends the workers, and cleans up.
    std::signal(SIGTERM, SIG_DFL);
    ::close(orders[1]);
    ::close(answers[0]);
    for (const Worker& other : workers_) {
      ::close(other.orders);
      ::close(other.answers);
    }
    pin(index, processes_);
    WorkerContext context{data, index, processes_, &draws, &control(), &result(index), orders[0], answers[1]};
    try {
      store.work(context);
    } catch (const std::exception& error) {
      std::strncpy(result(index).error, error.what(), sizeof result(index).error - 1);
      ::_exit(1);
    }
    ::_exit(0);  // No destructor of the parent's objects runs here: the store is the parent's.
  }
  ::close(orders[0]);
  ::close(answers[1]);
  workers_.push_back({pid, orders[1], answers[0]});
}

void Crowd::wait_for_answers() {
  for (std::size_t index = 0; index < workers_.size(); ++index) {
    char byte = 0;
    ssize_t got = 0;
    do {
      got = ::read(workers_[index].answers, &byte, 1);
    } while (got < 0 && errno == EINTR);
    if (got == 1) continue;
    const std::string error = result(index).error;
    throw std::runtime_error(error.empty() ? "a worker ended without a word" : error);
  }
}

Round Crowd::run(const Order& order, std::chrono::milliseconds duration) {
  stop_if_interrupted();
  control().order = order;
  control().arrived.store(0);
  control().stop.store(0);
  for (const Worker& worker : workers_) {
    if (::write(worker.orders, &kGo, 1) != 1) throw std::runtime_error("a worker takes no order");
  }
  std::this_thread::sleep_for(duration);
  control().stop.store(1);
  wait_for_answers();

  Round round;
  double slowest = 0;
  double operations = 0;
  for (std::size_t index = 0; index < workers_.size(); ++index) {
    const WorkerResult& one = result(index);
    const double rate = static_cast<double>(one.operations) * 1e9 / static_cast<double>(one.elapsed_ns);
    round.operations_per_second += rate;
    slowest = index == 0 ? rate : std::min(slowest, rate);
    round.torn += one.torn;
    round.hit_ratio += static_cast<double>(one.hits);
    operations += static_cast<double>(one.operations);
    gets_.add(one.gets);
    puts_.add(one.puts);
  }
  const double mean = round.operations_per_second / static_cast<double>(workers_.size());
  const auto cores = static_cast<double>(::sysconf(_SC_NPROCESSORS_ONLN));
  // No more than the cores run at the same time, whatever each comes to in its own time.
  if (order.by_processor_time) {
    round.operations_per_second = mean * std::min(cores, static_cast<double>(workers_.size()));
  }
  round.slowest_to_mean = mean > 0 ? slowest / mean : 0;
  round.hit_ratio = operations > 0 ? round.hit_ratio / operations : 0;
  return round;
}

void Crowd::take_latencies(Histogram* gets, Histogram* puts) {
  gets->add(gets_);
  puts->add(puts_);
  gets_ = {};
  puts_ = {};
}

void Crowd::end() noexcept {
  for (const Worker& worker : workers_) {
    // Closing the pipe alone would not do: workers of other crowds have inherited its end.
    static_cast<void>(::write(worker.orders, &kEnd, 1) == 1);
    ::close(worker.orders);
    ::close(worker.answers);
  }
  // A worker that waits for the others would wait for ever once one of them has given up.
  control().arrived.store(processes_);
  control().stop.store(1);
  for (const Worker& worker : workers_) ::waitpid(worker.pid, nullptr, 0);
  workers_.clear();
}

}  // namespace memstream::bench
