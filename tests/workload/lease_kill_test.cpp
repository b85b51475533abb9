// Leases among processes: waiting for them, and what becomes of them when their holders are killed or stopped.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/child_process.h"
#include "tests/support/leases.h"
#include "tests/support/ledger.h"
#include "tests/support/scale.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::uint64_t kSegmentSize = 16 << 20;

milliseconds since(Clock::time_point begin) { return std::chrono::duration_cast<milliseconds>(Clock::now() - begin); }

// A process that holds the lease of kKey until it is ended. `more` runs in it with the lease.
class Holder {
 public:
  explicit Holder(const CacheSpec& spec, const std::function<void(memstream_t*, std::uint64_t)>& more = {})
      : process_([this, spec, more]() -> Complaint {
          const OpenCache own(spec);
          std::uint64_t lease = 0;
          const int status = lease_of(own, kKey, &lease);
          has_it_.post();
          if (status != CACHE_OK) return "no lease: " + std::to_string(status);
          if (more) more(own, lease);
          for (;;) std::this_thread::sleep_for(milliseconds(100));
        }) {
    has_it_.wait();
  }
  void signal(int number) const { process_.send_signal(number); }
  void kill() {
    process_.send_signal(SIGKILL);
    CHECK(process_.wait() == "killed by signal 9");
  }

 private:
  Signal has_it_;
  ChildProcess process_;
};

TEST_CASE("who waits is woken at once by the value, by the release, and by anybody else's write") {
  const TemporarySegment segment("lease-wait", kSegmentSize);
  const OpenCache cache(segment.spec());
  CHECK(wait_for(cache, 1000) == CACHE_OK);  // Nobody has it.
  const std::vector<std::function<void(memstream_t*, std::uint64_t)>> ends = {
      [](memstream_t* own, std::uint64_t lease) { fulfil(own, lease); },
      [](memstream_t* own, std::uint64_t lease) { release(own, lease); },
      [](memstream_t* own, std::uint64_t) { set(own, "newer"); },
      [](memstream_t* own, std::uint64_t) { memstream_delete(own, kKey.data(), kKey.size()); },
  };
  struct Times {
    std::atomic<Clock::time_point> began;
    std::atomic<Clock::time_point> ended;
  };
  for (const auto& end : ends) {
    const SharedArray<Times> times(1);
    // Half of the 50 ms in which the holder is looked for all the same, and the lease ends just after such a look. One
    // of many is enough: another process may have the processor just then.
    bool woken = false;
    for (int i = 0; i < 30 && !woken; ++i) {
      memstream_delete(cache, kKey.data(), kKey.size());
      times[0].began = Clock::time_point{};
      Holder holder(segment.spec(), [&](memstream_t* own, std::uint64_t lease) {
        while (times[0].began.load() == Clock::time_point{}) std::this_thread::sleep_for(milliseconds(1));
        std::this_thread::sleep_until(times[0].began.load() + milliseconds(105));
        times[0].ended = Clock::now();
        end(own, lease);
      });
      times[0].began = Clock::now();
      CHECK(wait_for(cache, 10'000) == CACHE_OK);
      woken = since(times[0].ended) < milliseconds(25);
      holder.kill();
    }
    CHECK(woken);
  }
}

TEST_CASE("who waits for a holder that goes on is told so when the time is over") {
  const TemporarySegment segment("lease-timeout", kSegmentSize);
  const OpenCache cache(segment.spec());
  Holder holder(segment.spec());
  for (const std::uint64_t timeout_ms : {0U, 20U, 200U}) {
    const auto begin = Clock::now();
    CHECK(wait_for(cache, timeout_ms) == CACHE_HELD);
    CHECK(since(begin) >= milliseconds(timeout_ms));
  }
  holder.kill();
}

TEST_CASE("the lease of a killed process is free within a tenth of a second") {
  const TemporarySegment segment("lease-killed", kSegmentSize);
  const OpenCache cache(segment.spec());
  const int rounds = static_cast<int>(scaled(20));
  milliseconds shortest = milliseconds::max();
  for (int round = 0; round < rounds; ++round) {
    Holder holder(segment.spec());
    CHECK(lease_of(cache) == CACHE_HELD);
    std::thread waiter([&] { CHECK(wait_for(cache, 10'000) == CACHE_OK); });
    std::this_thread::sleep_for(milliseconds(10));
    const auto begin = Clock::now();
    holder.kill();
    waiter.join();
    shortest = std::min(shortest, since(begin));
    CHECK(release(cache, must_lease(cache)) == CACHE_OK);
  }
  CHECK(shortest < milliseconds(300));  // 50 where nobody else has the processor.
  CHECK(stats_of(cache).dead_processes == static_cast<std::uint64_t>(rounds));
  CHECK(problems_of(cache) == "");
}

TEST_CASE("a stopped process keeps its lease") {
  const TemporarySegment segment("lease-stopped", kSegmentSize);
  const OpenCache cache(segment.spec());
  Holder holder(segment.spec());
  holder.signal(SIGSTOP);
  CHECK(wait_for(cache, 300) == CACHE_HELD);
  CHECK(lease_of(cache) == CACHE_HELD);
  holder.kill();
  CHECK(wait_for(cache, 1000) == CACHE_OK);
}

TEST_CASE("when no place is left for a lease everybody may compute, and the places of the dead are found") {
  const TemporarySegment segment("lease-full", kSegmentSize, 1);
  const OpenCache cache(segment.spec());
  const auto key = [](int i) { return "key-" + std::to_string(i); };
  CHECK(in_child([&]() -> Complaint {
          const OpenCache own(segment.spec());
          for (int i = 0; i < 20; ++i) must_lease(own, key(i));
          ::raise(SIGKILL);
          return "";
        }) == "killed by signal 9");
  std::uint64_t lease = 1;
  int places = 0;
  for (; places < 48; ++places) {
    REQUIRE(lease_of(cache, key(100 + places), &lease) == CACHE_OK);
    CHECK(lease_of(cache, key(100 + places)) == CACHE_HELD);
  }
  const std::string last = key(100 + 48);
  std::uint64_t second = 0;
  CHECK(lease_of(cache, last, &lease) == CACHE_OK);
  CHECK(lease_of(cache, last, &second) == CACHE_OK);
  CHECK(fulfil(cache, lease, "computed", last) == CACHE_OK);
  CHECK(get(cache, last) == "computed");
  CHECK(fulfil(cache, second, "computed twice", last) == CACHE_CONFLICT);
  CHECK(get(cache, last) == "computed");
  CHECK(lease_of(cache, last) == CACHE_EXISTS);
  CHECK(problems_of(cache) == "");
}

// Eight processes want the same keys, one after the other; some are killed while they compute.
TEST_CASE("of many processes one computes each key, also when they are killed at it") {
  const TemporarySegment segment("lease-many", kSegmentSize);
  const OpenCache cache(segment.spec());
  const auto keys = static_cast<int>(scaled(60));
  const SharedArray<std::atomic<int>> begun(static_cast<std::size_t>(keys));
  const SharedArray<std::atomic<int>> died(static_cast<std::size_t>(keys));
  const auto work = [&](bool may_die) -> Complaint {
    const OpenCache own(segment.spec());
    for (int i = 0; i < keys; ++i) {
      const std::string key = "key-" + std::to_string(i);
      while (get(own, key) != key) {
        std::uint64_t lease = 0;
        const int status = lease_of(own, key, &lease);
        if (status == CACHE_HELD) {
          if (wait_for(own, 10'000, key) != CACHE_OK) return key + " was waited for in vain";
          continue;
        }
        if (status == CACHE_EXISTS) continue;
        if (status != CACHE_OK) return cache_last_error();
        ++begun[static_cast<std::size_t>(i)];
        if (may_die && i % 10 == 3) {
          ++died[static_cast<std::size_t>(i)];
          ::raise(SIGKILL);
        }
        std::this_thread::sleep_for(milliseconds(1));
        if (fulfil(own, lease, key, key) != CACHE_OK) return key + " was taken away: " + cache_last_error();
      }
    }
    return "";
  };
  std::vector<std::unique_ptr<ChildProcess>> processes;
  for (int i = 0; i < 8; ++i) {
    processes.push_back(std::make_unique<ChildProcess>([&, i] { return work(i % 2 == 0); }));
  }
  int killed = 0;
  for (const auto& process : processes) {
    const Complaint complaint = process->wait();
    killed += complaint == "killed by signal 9" ? 1 : 0;
    CHECK((complaint == "" || complaint == "killed by signal 9"));
  }
  int deaths = 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(keys); ++i) {
    CAPTURE(i);
    CHECK(begun[i] - died[i] == 1);
    deaths += died[i];
  }
  CHECK(deaths == killed);
  CHECK(problems_of(cache) == "");
}

}  // namespace
}  // namespace memstream::test
