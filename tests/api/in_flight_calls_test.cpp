// Calls in progress, of one thread and of more threads than there are places: a thread that closes waits for each.
#include "api/in_flight_calls.h"

#include <doctest/doctest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/child_process.h"
#include "tests/support/page_map.h"
#include "tests/support/scale.h"

namespace memstream::test {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMoreThanPlaces = ThreadPlaces<int>::kPlaces + 16;

// A thread that stays in what `inside` makes of it until it is let go.
class ThreadInside {
 public:
  template <class Inside>
  explicit ThreadInside(Inside inside)
      : thread_([this, inside] {
          inside([this] {
            is_inside_.set_value();
            leave_.get_future().wait();
          });
        }) {
    is_inside_.get_future().wait();
  }
  ThreadInside(const ThreadInside&) = delete;
  ThreadInside& operator=(const ThreadInside&) = delete;
  ~ThreadInside() {
    leave();
    thread_.join();
  }
  void leave() {
    if (!has_left_.exchange(true)) leave_.set_value();
  }

 private:
  std::promise<void> is_inside_;
  std::promise<void> leave_;
  std::atomic<bool> has_left_{false};
  std::thread thread_;
};

// Once there was a thread, nothing here passes for a process with one.
void require_threads() {
  static ThreadInside other([](const std::function<void()>& wait) { wait(); });
  REQUIRE(!has_one_thread());
}

// Whether wait_until_empty() returns only after `leave()`.
bool waits_for(InFlightCalls& calls, const std::function<void()>& leave) {
  std::future<bool> closing = std::async(std::launch::async, [&] { return calls.wait_until_empty(); });
  const bool has_waited = closing.wait_for(30ms) == std::future_status::timeout;
  leave();
  return has_waited && closing.get();
}

template <class Guard>
auto inside(InFlightCalls& calls) {
  return [&calls](const std::function<void()>& wait) {
    const Guard guard(calls);
    wait();
  };
}

// The first of these: a process that has been given the fence goes on with it, and so do its children.
TEST_CASE("where the kernel refuses the fence from the start, calls are counted by locked instructions") {
  const Complaint complaint = in_child([]() -> Complaint {
    if (Complaint obstacle = refuse_system_call(SYS_membarrier, EPERM); !obstacle.empty()) return obstacle;
    InFlightCalls calls;
    ThreadInside get(inside<InFlightCalls::Guard>(calls));
    { const InFlightCalls::Guard first(calls); }
    if (calls.enter() != nullptr) return "a call counts on the fence";
    if (calls.is_empty()) return "a call is not counted";
    if (!waits_for(calls, [&] { get.leave(); })) return "a close does not wait for a call";
    return calls.is_empty() ? "" : "a call that has ended is still counted";
  });
  CHECK(complaint == "");
}

TEST_CASE("threads that live at once have places of their own, as many as there are") {
  ThreadPlaces<int> places;
  CHECK(places.own() == nullptr);
  std::mutex mutex;
  std::set<const int*> claimed;
  std::size_t without = 0;
  {
    std::vector<std::unique_ptr<ThreadInside>> threads;
    for (std::size_t i = 0; i < kMoreThanPlaces; ++i) {
      threads.push_back(std::make_unique<ThreadInside>([&](const std::function<void()>& wait) {
        const int* const place = places.claim();
        {
          const std::lock_guard guard(mutex);
          CHECK(places.own() == place);
          CHECK(places.claim() == place);
          if (place == nullptr) {
            ++without;
          } else {
            CHECK(claimed.insert(place).second);
          }
        }
        wait();
      }));
    }
  }
  CHECK(claimed.size() + without == kMoreThanPlaces);
  CHECK(claimed.size() >= ThreadPlaces<int>::kPlaces / 2);
  CHECK(without >= kMoreThanPlaces - ThreadPlaces<int>::kPlaces);
}

TEST_CASE("earlier calls have ended when each of them has, whatever calls began since") {
  require_threads();
  InFlightCalls calls;
  const InFlightCalls::OperationGuard own(calls);
  InFlightCalls::Earlier earlier;
  std::vector<std::unique_ptr<ThreadInside>> threads;
  // More than there are places: some of them are counted.
  for (std::size_t i = 0; i < kMoreThanPlaces; ++i) {
    threads.push_back(std::make_unique<ThreadInside>(inside<InFlightCalls::Guard>(calls)));
  }
  std::thread([&] {
    const InFlightCalls::Guard call(calls);
    calls.note_earlier(&earlier);
    CHECK(!calls.has_ended(&earlier));
  }).join();
  InFlightCalls::Earlier later;
  for (std::size_t i = 0; i < kMoreThanPlaces; ++i) {
    CHECK(!calls.has_ended(&earlier));
    threads[i]->leave();
  }
  threads.clear();
  CHECK(!calls.has_ended(&earlier));  // This thread's own call was in progress.
  std::thread([&] {
    const InFlightCalls::Guard call(calls);
    calls.note_earlier(&later);
    CHECK(!calls.has_ended(&later));
  }).join();
}

TEST_CASE("a call that begins after the note does not count, though its thread is in a call for ever") {
  require_threads();
  InFlightCalls calls;
  InFlightCalls::Earlier earlier;
  {
    ThreadInside before(inside<InFlightCalls::Guard>(calls));
    const InFlightCalls::Guard first(calls);
  }
  calls.note_earlier(&earlier);
  const ThreadInside after(inside<InFlightCalls::Guard>(calls));
  const InFlightCalls::OperationGuard own(calls);
  CHECK(calls.has_ended(&earlier));
}

TEST_CASE("a close waits for a get and for an operation of another thread") {
  require_threads();
  InFlightCalls calls;
  CHECK(calls.is_empty());
  CHECK(calls.wait_until_empty());
  ThreadInside get(inside<InFlightCalls::Guard>(calls));
  CHECK(!calls.is_empty());
  CHECK(waits_for(calls, [&] { get.leave(); }));
  ThreadInside operation(inside<InFlightCalls::OperationGuard>(calls));
  CHECK(!calls.is_empty());
  CHECK(waits_for(calls, [&] { operation.leave(); }));
  CHECK(calls.is_empty());
}

TEST_CASE("a thread that has a place enters by it, once at a time") {
  require_threads();
  InFlightCalls calls;
  CHECK(calls.enter() == nullptr);  // It has none yet.
  { const InFlightCalls::Guard first(calls); }
  InFlightCalls::Place* const place = calls.enter();
  REQUIRE(place != nullptr);
  CHECK(calls.enter() == nullptr);
  CHECK(!calls.is_empty());
  InFlightCalls::leave(*place);
  CHECK(calls.is_empty());
}

TEST_CASE("a close waits for a call inside a call") {
  require_threads();
  InFlightCalls calls;
  ThreadInside both([&](const std::function<void()>& wait) {
    const InFlightCalls::Guard outer(calls);
    const InFlightCalls::Guard inner(calls);
    wait();
  });
  CHECK(waits_for(calls, [&] { both.leave(); }));
  CHECK(calls.is_empty());
}

TEST_CASE("a close waits for each of more threads than there are places") {
  require_threads();
  InFlightCalls calls;
  std::vector<std::unique_ptr<ThreadInside>> threads;
  for (std::size_t i = 0; i < kMoreThanPlaces; ++i) {
    threads.push_back(std::make_unique<ThreadInside>(inside<InFlightCalls::OperationGuard>(calls)));
  }
  while (!threads.empty()) {
    CHECK(!calls.is_empty());
    if (threads.size() == 1 || threads.size() == kMoreThanPlaces / 2) {
      std::vector<std::unique_ptr<ThreadInside>> last;
      last.swap(threads);
      CHECK(waits_for(calls, [&] {
        for (const auto& thread : last) thread->leave();
      }));
    } else {
      threads.pop_back();
    }
  }
  CHECK(calls.is_empty());
}

TEST_CASE("a steady stream of calls keeps no close waiting") {
  require_threads();
  InFlightCalls calls;
  std::atomic<bool> is_over = false;
  std::thread stream([&] {
    while (!is_over) {
      const InFlightCalls::Guard guard(calls);
      std::this_thread::sleep_for(1ms);
    }
  });
  for (int i = 0; i < scaled(50); ++i) CHECK(calls.wait_until_empty());
  is_over = true;
  stream.join();
}

TEST_CASE("an operation marks its own thread and no other, and a get marks none") {
  require_threads();
  InFlightCalls calls;
  const ThreadInside other(inside<InFlightCalls::OperationGuard>(calls));
  CHECK(!calls.has_operation_of_this_thread());
  {
    const InFlightCalls::Guard get(calls);
    CHECK(!calls.has_operation_of_this_thread());
  }
  {
    const InFlightCalls::OperationGuard operation(calls);
    CHECK(calls.has_operation_of_this_thread());
    // One without a place of its own.
    std::thread([&] { CHECK(!calls.has_operation_of_this_thread()); }).join();
  }
  CHECK(!calls.has_operation_of_this_thread());
}

TEST_CASE("the calls of the parent's other threads are over for a child") {
  require_threads();
  InFlightCalls calls;
  const ThreadInside get(inside<InFlightCalls::Guard>(calls));
  const InFlightCalls::OperationGuard own(calls);
  const Complaint complaint = in_child([&]() -> Complaint {
    if (!calls.has_operation_of_this_thread()) return "the child has lost its own call";
    calls.reset();
    if (calls.is_empty()) return "the child's own call is over before its end";
    return "";
  });
  CHECK(complaint == "");
  const Complaint other = [&] {
    InFlightCalls unused;
    const ThreadInside inside_it(inside<InFlightCalls::Guard>(unused));
    return in_child([&]() -> Complaint {
      unused.reset();
      return unused.is_empty() && unused.wait_until_empty() ? "" : "the child waits for a thread that it has not";
    });
  }();
  CHECK(other == "");
}

void pause_for(int steps) {
  std::atomic<int> step{0};
  while (step.fetch_add(1, std::memory_order_relaxed) < steps) {
  }
}

// A store and a load in each of two threads: not both may miss the other's store.
TEST_CASE("of a call and a close one sees the other") {
  require_threads();
  InFlightCalls calls;
  std::atomic<int> round{0};
  std::atomic<int> ready{0};
  std::atomic<bool> is_closed{false};
  std::atomic<bool> is_inside{false};
  const int rounds = scaled(5000);
  int seen_inside = 0;
  int kept_out = 0;
  std::thread caller([&] {
    { const InFlightCalls::Guard first(calls); }
    for (int current = 1; current <= rounds; ++current) {
      while (round.load() != current) std::this_thread::yield();
      ready.store(current);
      pause_for(current % 89);
      InFlightCalls::Place* const place = calls.enter();
      if (is_closed.load(std::memory_order_relaxed)) {
        ++kept_out;
      } else {
        is_inside.store(true, std::memory_order_relaxed);
        pause_for(current % 64);
        is_inside.store(false, std::memory_order_relaxed);
      }
      InFlightCalls::leave(*place);
      round.store(-current);
    }
  });
  for (int current = 1; current <= rounds; ++current) {
    is_closed.store(false);
    round.store(current);
    while (ready.load() != current) {
    }
    pause_for(current % 97);
    is_closed.store(true, std::memory_order_relaxed);
    if (!calls.wait_until_empty()) ++seen_inside;
    if (is_inside.load(std::memory_order_relaxed)) ++seen_inside;
    while (round.load() != -current) std::this_thread::yield();
  }
  caller.join();
  CHECK(seen_inside == 0);
  MESSAGE(kept_out << " of " << rounds << " calls were kept out");
}

// The child starts no thread: the thread sanitizer allows none there.
TEST_CASE("where the kernel refuses the fence later, a close says that it cannot know") {
  require_threads();
  InFlightCalls calls;
  { const InFlightCalls::Guard first(calls); }
  CHECK(calls.is_empty());
  const Complaint complaint = in_child([&]() -> Complaint {
    if (has_one_thread()) return "the child passes for a process with one thread";
    if (Complaint obstacle = refuse_system_call(SYS_membarrier, EPERM); !obstacle.empty()) return obstacle;
    return calls.wait_until_empty() || calls.is_empty() ? "it claims to know" : "";
  });
  CHECK(complaint == "");
}

}  // namespace
}  // namespace memstream::test
