// Rate limits and semaphores through the C interface: among processes that fork, stop and are killed.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "api/memstream_limits.h"
#include "backends/open_segment.h"
#include "core/cache/format.h"
#include "core/layout/geometry.h"
#include "tests/support/child_process.h"
#include "tests/support/scale.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::uint64_t kSize = 16 << 20;
constexpr std::uint64_t kYearMs = std::uint64_t{366} * 86'400'000;  // So long that nothing of a rate is restored.
constexpr std::string_view kName = "user:7";

int limit(memstream_t* cache, std::uint64_t rate, std::uint64_t period_ms, std::uint64_t burst,
          std::uint64_t* wait_ms = nullptr, std::string_view key = kName) {
  std::uint64_t ignored = 0;
  return memstream_limit(cache, key.data(), key.size(), rate, period_ms, burst,
                         wait_ms != nullptr ? wait_ms : &ignored);
}
int reset(memstream_t* cache, std::string_view key = kName) {
  return memstream_limit_reset(cache, key.data(), key.size());
}
int acquire(memstream_t* cache, std::uint64_t permits, std::uint64_t timeout_ms = 0, std::string_view name = kName) {
  std::uint64_t permit = 1;
  const int status = memstream_semaphore_acquire(cache, name.data(), name.size(), permits, timeout_ms, &permit);
  if ((status == CACHE_OK) != (permit != 0)) throw std::runtime_error("a status and a permit that disagree");
  return status;
}
int give_back(memstream_t* cache, std::uint64_t permit, std::string_view name = kName) {
  return memstream_semaphore_release(cache, name.data(), name.size(), permit);
}
// All permits of a handle have one number.
std::uint64_t permit_of(memstream_t* cache) {
  constexpr std::string_view kProbe = "probe";
  std::uint64_t permit = 0;
  if (memstream_semaphore_acquire(cache, kProbe.data(), kProbe.size(), 65'535, 0, &permit) != CACHE_OK ||
      give_back(cache, permit, kProbe) != CACHE_OK) {
    throw std::runtime_error(cache_last_error());
  }
  return permit;
}
int give_back(memstream_t* cache) { return give_back(cache, permit_of(cache)); }
std::uint64_t held(memstream_t* cache, std::string_view name = kName) {
  std::uint64_t held = 0;
  if (memstream_semaphore_held(cache, name.data(), name.size(), &held) != CACHE_OK) {
    throw std::runtime_error(cache_last_error());
  }
  return held;
}
bool says(std::string_view part) { return std::string_view(cache_last_error()).find(part) != std::string_view::npos; }
std::int64_t ms_since(steady_clock::time_point start) {
  return std::chrono::duration_cast<milliseconds>(steady_clock::now() - start).count();
}

TEST_CASE("all handles share the limit of a key, and learn how long to wait") {
  const TemporarySegment segment("limit", kSize);
  const OpenCache cache(segment.spec());
  const OpenCache other(segment.spec());
  std::uint64_t wait_ms = 99;
  CHECK(limit(cache, 1, 3'600'000, 2, &wait_ms) == CACHE_OK);
  CHECK(wait_ms == 0);
  CHECK(limit(other, 1, 3'600'000, 2, &wait_ms) == CACHE_OK);
  CHECK(limit(cache, 1, 3'600'000, 2, &wait_ms) == CACHE_HELD);
  CHECK(wait_ms > 3'500'000);
  CHECK(wait_ms <= 3'600'000);
  CHECK(limit(cache, 1, 3'600'000, 2, &wait_ms, "user:8") == CACHE_OK);
  CHECK(memstream_clear(cache) == CACHE_OK);  // Which ends values, and no limits.
  CHECK(limit(other, 1, 3'600'000, 2, &wait_ms) == CACHE_HELD);
  CHECK(reset(other) == CACHE_OK);
  CHECK(reset(other) == CACHE_MISS);
  CHECK(limit(cache, 1, 3'600'000, 2, &wait_ms) == CACHE_OK);
  // A caller that waits as it is told may go on.
  CHECK(limit(cache, 50, 1000, 1, &wait_ms, "short") == CACHE_OK);
  while (limit(cache, 50, 1000, 1, &wait_ms, "short") == CACHE_HELD) {
    CHECK(wait_ms >= 1);
    CHECK(wait_ms <= 20);
    std::this_thread::sleep_for(milliseconds(wait_ms));
  }
  CHECK(problems_of(cache) == "");
}

TEST_CASE("what cannot be is refused with a sentence") {
  const TemporarySegment segment("limit-refused", kSize);
  const OpenCache cache(segment.spec());
  std::uint64_t wait_ms = 0;
  CHECK(memstream_limit(nullptr, "k", 1, 1, 1, 1, &wait_ms) == CACHE_INVALID);
  CHECK(memstream_limit(cache, "k", 1, 1, 1, 1, nullptr) == CACHE_INVALID);
  CHECK(memstream_limit(cache, "", 0, 1, 1, 1, &wait_ms) == CACHE_BAD_KEY);
  CHECK(limit(cache, 1, 0, 1) == CACHE_INVALID);
  CHECK(says("Invalid period_ms 0: expected 1 to 31622400000."));
  CHECK(limit(cache, 1, kYearMs + 1, 1) == CACHE_INVALID);
  CHECK(limit(cache, 0, 1, 1) == CACHE_INVALID);
  CHECK(says("Invalid rate 0: expected 1 to 1000000 in 1 ms"));
  CHECK(limit(cache, 1'000'001, 1, 1) == CACHE_INVALID);
  CHECK(limit(cache, 1'000'000, 1, 1) == CACHE_OK);
  CHECK(limit(cache, 1, kYearMs, 0) == CACHE_INVALID);
  CHECK(limit(cache, 1, kYearMs, 2) == CACHE_INVALID);
  CHECK(says("Invalid burst 2: expected 1 to 1"));
  CHECK(memstream_limit_reset(nullptr, "k", 1) == CACHE_INVALID);
  CHECK(memstream_limit_reset(cache, "", 0) == CACHE_BAD_KEY);
  std::uint64_t permit = 0;
  CHECK(memstream_semaphore_acquire(nullptr, "k", 1, 1, 0, &permit) == CACHE_INVALID);
  CHECK(memstream_semaphore_acquire(cache, "k", 1, 1, 0, nullptr) == CACHE_INVALID);
  CHECK(acquire(cache, 0) == CACHE_INVALID);
  CHECK(acquire(cache, 65'536) == CACHE_INVALID);
  CHECK(says("Invalid permits 65536: expected 1 to 65535."));
  CHECK(acquire(cache, 1, 0, "") == CACHE_BAD_KEY);
  CHECK(give_back(cache, 1, "") == CACHE_BAD_KEY);
  CHECK(memstream_semaphore_release(nullptr, "k", 1, 1) == CACHE_INVALID);
  CHECK(memstream_semaphore_held(cache, "k", 1, nullptr) == CACHE_INVALID);

  memstream_options_t options = segment.spec().options();
  options.flags = MEMSTREAM_OPEN_READ_ONLY;
  const OpenCache reader(options);
  CHECK(limit(reader, 1, 1, 1) == CACHE_READ_ONLY);
  CHECK(acquire(reader, 1) == CACHE_READ_ONLY);

  const TemporarySegment small("limit-small", kSize / 2);
  const OpenCache none(small.spec());
  CHECK(limit(none, 1, 1, 1) == CACHE_INVALID);
  CHECK(says("has no rate limits and semaphores. Make a new one with at least 16 MiB"));
  CHECK(acquire(none, 1) == CACHE_INVALID);
  CHECK(give_back(none, 1) == CACHE_INVALID);
}

TEST_CASE("a table of limits that is full refuses new keys until the old ones are restored") {
  const TemporarySegment segment("limit-full", kSize);
  const OpenCache cache(segment.spec());
  int full = 0;
  for (int i = 0; i < 2000; ++i) {
    const int status = limit(cache, 1, kYearMs, 1, nullptr, "key" + std::to_string(i));
    CHECK((status == CACHE_OK || status == CACHE_FULL));
    full += status == CACHE_FULL ? 1 : 0;
  }
  CHECK(full >= 2000 - 512);
  CHECK(says("Use a larger MEMSTREAM_SIZE, or shorter periods."));
  CHECK(limit(cache, 1, kYearMs, 1, nullptr, "key0") == CACHE_HELD);
}

TEST_CASE("a semaphore gives as many permits as it has, and each is given back once") {
  const TemporarySegment segment("permits", kSize);
  const OpenCache cache(segment.spec());
  const OpenCache other(segment.spec());
  CHECK(acquire(cache, 2) == CACHE_OK);
  CHECK(acquire(other, 2) == CACHE_OK);
  CHECK(held(cache) == 2);
  CHECK(acquire(cache, 2) == CACHE_HELD);
  CHECK(acquire(cache, 2, 0, "another") == CACHE_OK);
  const auto start = steady_clock::now();
  CHECK(acquire(cache, 2, 30) == CACHE_HELD);
  CHECK(ms_since(start) >= 29);
  CHECK(give_back(cache) == CACHE_OK);
  CHECK(give_back(cache) == CACHE_CONFLICT);
  CHECK(give_back(other, 0) == CACHE_CONFLICT);
  CHECK(give_back(other, permit_of(cache)) == CACHE_CONFLICT);
  CHECK(acquire(other, 2) == CACHE_OK);
  CHECK(give_back(other) == CACHE_OK);
  CHECK(give_back(other) == CACHE_OK);
  CHECK(give_back(other) == CACHE_CONFLICT);
  CHECK(held(cache) == 0);
}

TEST_CASE("a waiter goes on when a permit is given back, and when its holder's handle is closed") {
  const TemporarySegment segment("permit-wait", kSize);
  const OpenCache cache(segment.spec());
  for (const bool gives_back : {true, false}) {
    std::thread holder;
    std::atomic<bool> is_free{false};  // The waiter may outlive the block.
    {
      const OpenCache first(segment.spec());
      REQUIRE(acquire(first, 1) == CACHE_OK);
      // Any thread of the process may give it back.
      std::thread waiter([&] {
        CHECK(acquire(cache, 1, 10'000) == CACHE_OK);
        CHECK(is_free);
      });
      std::this_thread::sleep_for(milliseconds(80));
      is_free = true;
      if (gives_back) {
        std::thread([&] { CHECK(give_back(first) == CACHE_OK); }).join();
        waiter.join();
      } else {
        holder = std::move(waiter);
      }
    }
    if (holder.joinable()) holder.join();
    CHECK(give_back(cache) == CACHE_OK);
  }
}

TEST_CASE("a child of fork has none of its parent's permits") {
  const TemporarySegment segment("permit-fork", kSize);
  const OpenCache cache(segment.spec());
  REQUIRE(acquire(cache, 1) == CACHE_OK);
  const std::uint64_t permit = permit_of(cache);
  CHECK(in_child([&]() -> Complaint {
          if (give_back(cache, permit) != CACHE_CONFLICT) return "the child gave back what its parent has";
          if (give_back(cache) != CACHE_CONFLICT) return "the child gave its parent's permit back";
          if (acquire(cache, 1) != CACHE_HELD) return "the child has its parent's permit";
          return "";
        }) == "");
  CHECK(held(cache) == 1);
  CHECK(give_back(cache) == CACHE_OK);
}

TEST_CASE("the permit of a killed process is free within 100 ms, and a stopped one keeps its own") {
  const TemporarySegment segment("permit-kill", kSize);
  const OpenCache cache(segment.spec());
  for (int round = 0; round < scaled(10); ++round) {
    const Signal has_it;
    const Signal never;
    ChildProcess holder([&]() -> Complaint {
      const OpenCache own(segment.spec());
      if (acquire(own, 1, 10'000) != CACHE_OK) return cache_last_error();
      has_it.post();
      never.wait();
      return "";
    });
    has_it.wait();
    holder.send_signal(SIGSTOP);
    CHECK(acquire(cache, 1, 120) == CACHE_HELD);
    std::atomic<std::int64_t> waited_ms{-1};
    std::atomic<bool> is_killed{false};
    steady_clock::time_point killed;
    std::thread waiter([&] {
      CHECK(acquire(cache, 1, 10'000) == CACHE_OK);
      CHECK(is_killed);
      waited_ms = ms_since(killed);
    });
    std::this_thread::sleep_for(milliseconds(20));
    killed = steady_clock::now();
    is_killed = true;
    holder.send_signal(SIGKILL);
    waiter.join();
    CHECK(waited_ms <= 100);
    CHECK(holder.wait() == "killed by signal 9");
    CHECK(give_back(cache) == CACHE_OK);
  }
}

// The bytes of a segment of which a test changes what a process in the middle of a call would change.
class RawSegment {
 public:
  explicit RawSegment(const std::string& name) : format_(name, 0) {
    REQUIRE(make_backend_from_environment(&backend_) == Status::kOk);
    REQUIRE(backend_->attach({.name = name}, Access::kReadWrite, format_, &raw_) == Status::kOk);
  }
  Geometry geometry() const { return geometry_of(reinterpret_cast<const SegmentHeader*>(raw_->data())->identity); }
  ShardHeader& first_shard() const { return *reinterpret_cast<ShardHeader*>(raw_->data() + geometry().shards_offset); }
  LimitHead& limits() const {
    return *reinterpret_cast<LimitHead*>(raw_->data() + geometry().areas[kLimitArea].offset);
  }

 private:
  std::unique_ptr<SegmentBackend> backend_;
  SegmentFormat format_;
  std::unique_ptr<Segment> raw_;
};

TEST_CASE("a shard's lock that is held keeps only new keys and new permits waiting") {
  const TemporarySegment segment("limit-busy", kSize, 1, 50);
  const OpenCache cache(segment.spec());
  CHECK(limit(cache, 1, kYearMs, 1) == CACHE_OK);
  REQUIRE(acquire(cache, 2) == CACHE_OK);
  const std::uint64_t permit = permit_of(cache);
  const RawSegment raw(segment.spec().name);
  const Signal is_held;
  const Signal is_over;
  std::thread holder([&] {
    ::pthread_mutex_lock(&raw.first_shard().write_mutex);
    is_held.post();
    is_over.wait();
    ::pthread_mutex_unlock(&raw.first_shard().write_mutex);
  });
  is_held.wait();
  CHECK(limit(cache, 1, kYearMs, 1) == CACHE_HELD);
  CHECK(limit(cache, 1, kYearMs, 1, nullptr, "new") == CACHE_BUSY);
  CHECK(reset(cache) == CACHE_BUSY);
  CHECK(acquire(cache, 2) == CACHE_BUSY);
  CHECK(acquire(cache, 1) == CACHE_HELD);
  CHECK(give_back(cache, permit) == CACHE_OK);
  is_over.post();
  holder.join();
  CHECK(limit(cache, 1, kYearMs, 1, nullptr, "new") == CACHE_OK);
  CHECK(held(cache) == 0);
}

TEST_CASE("a request that a resize may have missed waits for it, but not for a dead process") {
  const TemporarySegment segment("limit-mover", kSize, 1, 60);
  const OpenCache cache(segment.spec());
  const RawSegment raw(segment.spec().name);
  CHECK(limit(cache, 10, kYearMs, 10) == CACHE_OK);
  std::uint64_t dead = 0;
  {
    const OpenCache gone(segment.spec());
    dead = permit_of(gone);
  }
  raw.limits().mover = dead;
  CHECK(limit(cache, 10, kYearMs, 10) == CACHE_OK);
  CHECK(raw.limits().mover == 0);
  raw.limits().mover = permit_of(cache);  // Which lives, as this process does.
  const auto start = steady_clock::now();
  CHECK(limit(cache, 10, kYearMs, 10) == CACHE_BUSY);
  CHECK(ms_since(start) >= 60);
  CHECK(says("The request is counted."));
  memstream_options_t options = segment.spec().options();
  options.timeout_ms = 10'000;  // A busy machine may let the thread sleep for long.
  const OpenCache patient(options);
  std::thread mover([&] {
    std::this_thread::sleep_for(milliseconds(20));
    raw.limits().mover = 0;
  });
  CHECK(limit(patient, 10, kYearMs, 10) == CACHE_OK);
  CHECK(raw.limits().mover == 0);
  mover.join();
}

TEST_CASE("what is in use is listed, and what dead processes held is not") {
  const TemporarySegment segment("limit-list", kSize);
  const OpenCache cache(segment.spec());
  std::size_t count = 99;
  CHECK(memstream_limits(cache, nullptr, 0, &count) == CACHE_OK);
  CHECK(count == 0);
  CHECK(memstream_limits(cache, nullptr, 1, &count) == CACHE_INVALID);
  CHECK(memstream_limits(nullptr, nullptr, 0, &count) == CACHE_INVALID);
  CHECK(limit(cache, 10, 600'000, 5) == CACHE_OK);
  CHECK(limit(cache, 10, 600'000, 5) == CACHE_OK);
  CHECK(limit(cache, 1'000'000, 1000, 1, nullptr, "restored immediately") == CACHE_OK);
  CHECK(acquire(cache, 3, 0, "a name that is longer than the label") == CACHE_OK);
  CHECK(acquire(cache, 3, 0, "a name that is longer than the label") == CACHE_OK);
  CHECK(in_child([&]() -> Complaint {
          const OpenCache own(segment.spec());
          if (acquire(own, 1, 0, "of the dead") != CACHE_OK) return cache_last_error();
          ::kill(::getpid(), SIGKILL);
          return "";
        }) == "killed by signal 9");
  std::this_thread::sleep_for(milliseconds(5));
  memstream_options_t options = segment.spec().options();
  options.flags = MEMSTREAM_OPEN_READ_ONLY;
  const OpenCache reader(options);
  for (memstream_t* const handle : {static_cast<memstream_t*>(cache), static_cast<memstream_t*>(reader)}) {
    memstream_limit_info_t found[4];
    REQUIRE(memstream_limits(handle, found, 4, &count) == CACHE_OK);
    REQUIRE(count == 2);
    CHECK(found[0].kind == MEMSTREAM_LIMIT_RATE);
    CHECK(found[0].label == kName);
    CHECK(found[0].used == 2);
    CHECK(found[0].most == 5);
    CHECK(found[0].interval_ns == 60'000'000'000);
    CHECK(found[0].restored_in_ms > 110'000);
    CHECK(found[0].restored_in_ms <= 120'000);
    CHECK(found[0].pid == 0);
    CHECK(found[1].kind == MEMSTREAM_LIMIT_PERMITS);
    CHECK(std::string_view(found[1].label) == "a name that is longer th");
    CHECK(found[1].used == 2);
    CHECK(found[1].most == 3);
    CHECK(found[1].pid == static_cast<std::uint32_t>(::getpid()));
    CHECK(found[1].held_for_ms < 60'000);
  }
  const TemporarySegment small("limit-list-small", kSize / 2);
  const OpenCache none(small.spec());
  CHECK(memstream_limits(none, nullptr, 0, &count) == CACHE_OK);
  CHECK(count == 0);
}

TEST_CASE("the permits of very many processes that die together are free together") {
  constexpr std::uint64_t kPermits = 70;
  const TemporarySegment segment("permit-kills", 4 * kSize);
  const OpenCache cache(segment.spec());
  const Signal has_it;
  const Signal never;
  std::vector<std::unique_ptr<ChildProcess>> holders;
  for (std::uint64_t i = 0; i < kPermits; ++i) {
    holders.push_back(std::make_unique<ChildProcess>([&]() -> Complaint {
      const OpenCache own(segment.spec());
      if (acquire(own, kPermits) != CACHE_OK) return "no permit was free";
      has_it.post();
      never.wait();
      return "";
    }));
    has_it.wait();
  }
  CHECK(acquire(cache, kPermits) == CACHE_HELD);
  for (const auto& holder : holders) holder->send_signal(SIGKILL);
  for (const auto& holder : holders) CHECK(holder->wait() == "killed by signal 9");
  CHECK(acquire(cache, 1) == CACHE_OK);
  CHECK(held(cache) == 1);
}

TEST_CASE("a resized segment has its limits, and is not resized while a permit is held") {
  const TemporarySegment segment("limit-resize", kSize);
  const OpenCache cache(segment.spec());
  const OpenCache other(segment.spec());
  CHECK(limit(cache, 1, kYearMs, 1) == CACHE_OK);
  CHECK(limit(cache, 1, kYearMs, 1, nullptr, "another") == CACHE_OK);
  REQUIRE(acquire(other, 1) == CACHE_OK);
  memstream_resize_report_t report{};
  report.struct_size = sizeof report;
  CHECK(memstream_resize(cache, 2 * kSize, &report) == CACHE_BUSY);
  CHECK(says("holds a semaphore or a lock"));
  CHECK(give_back(other) == CACHE_OK);
  CHECK(memstream_resize(cache, kSize / 2, &report) == CACHE_BAD_SIZE);
  CHECK(says("since the segment has rate limits or semaphores"));
  CHECK(memstream_resize(cache, 2 * kSize, &report) == CACHE_OK);
  CHECK(limit(other, 1, kYearMs, 1) == CACHE_HELD);
  CHECK(limit(cache, 1, kYearMs, 1, nullptr, "another") == CACHE_HELD);
  CHECK(limit(cache, 1, kYearMs, 1, nullptr, "new") == CACHE_OK);
  CHECK(acquire(other, 1) == CACHE_OK);
  CHECK(acquire(cache, 1) == CACHE_HELD);
}

TEST_CASE("requests that are counted while the segment is resized are not let through once more") {
  const TemporarySegment segment("limit-resizes", 2 * kSize);  // Chance fills no bucket with so few keys.
  const OpenCache cache(segment.spec());
  constexpr std::uint64_t kBurst = 5'000'000;
  constexpr std::uint64_t kInterval = 6'000;  // Milliseconds.
  for (int i = 0; i < 250; ++i) REQUIRE(limit(cache, 1, kYearMs, 1, nullptr, "key" + std::to_string(i)) == CACHE_OK);
  std::atomic<bool> is_over{false};
  std::atomic<std::uint64_t> passed{0};
  const auto start = steady_clock::now();
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      const OpenCache own(segment.spec());
      while (!is_over) {
        const int status = limit(own, 1, kInterval, kBurst);
        if (status == CACHE_OK) ++passed;
        CHECK_MESSAGE((status == CACHE_OK || status == CACHE_BUSY), status);
      }
    });
  }
  while (passed == 0) std::this_thread::yield();
  memstream_resize_report_t report{};
  report.struct_size = sizeof report;
  for (int i = 0; i < scaled(20); ++i) {
    CHECK(memstream_resize(cache, (3 - static_cast<std::uint64_t>(i) % 2) * kSize, &report) == CACHE_OK);
  }
  is_over = true;
  for (std::thread& thread : threads) thread.join();
  // What is left is what was not let through.
  std::uint64_t left = 0;
  while (limit(cache, 1, kInterval, kBurst) == CACHE_OK) ++left;
  CHECK(passed > 0);
  const auto restored = static_cast<std::uint64_t>(ms_since(start)) / kInterval + 1;
  MESSAGE(passed.load() << " requests during the moves");
  CHECK(passed + left <= kBurst + restored);
}

// What the processes of a torture share beside the segment.
struct Shared {
  static constexpr int kProcesses = 8;
  std::atomic<std::uint64_t> passed;
  // Bit n: process n is inside. Bit 8 + n: it will be killed, and does not count. One word, so that a look is of one
  // instant.
  std::atomic<std::uint32_t> inside;
  std::atomic<std::uint32_t> most;  // Inside at a time.
  std::atomic<std::uint64_t> entered[kProcesses];
  std::atomic<std::uint32_t> errors;
  std::atomic<bool> is_over;
};

void note_most(Shared& shared, std::uint32_t bits) {
  const auto count = static_cast<std::uint32_t>(std::popcount(bits & ~(bits >> 8) & 0xff));
  std::uint32_t most = shared.most;
  while (most < count && !shared.most.compare_exchange_weak(most, count)) {
  }
}

TEST_CASE("eight processes that are killed at random exceed no limit, and none starves") {
  constexpr std::uint64_t kRate = 2000;  // A second.
  constexpr std::uint64_t kBurst = 20;
  constexpr std::uint64_t kPermits = 3;
  const TemporarySegment segment("limit-torture", kSize, 0, 5000);
  const OpenCache cache(segment.spec());
  void* const memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  Shared& shared = *new (memory) Shared{};
  const auto work = [&](int number) {
    const OpenCache own(segment.spec());
    const std::uint64_t permit = permit_of(own);
    const std::uint32_t bit = 1U << number;
    while (!shared.is_over) {
      const int allowed = limit(own, kRate, 1000, kBurst);
      if (allowed == CACHE_OK) ++shared.passed;
      if (allowed != CACHE_OK && allowed != CACHE_HELD) ++shared.errors;
      const int taken = acquire(own, kPermits, 10'000);
      if (taken != CACHE_OK) {
        ++shared.errors;
        continue;
      }
      note_most(shared, shared.inside.fetch_or(bit) | bit);
      ++shared.entered[number];
      std::this_thread::sleep_for(std::chrono::microseconds(50));
      shared.inside.fetch_and(~bit);
      if (give_back(own, permit) != CACHE_OK) ++shared.errors;
    }
  };
  const auto begin = [&](int number) {
    const pid_t child = ::fork();
    if (child == 0) {
      work(number);
      ::quick_exit(0);
    }
    return child;
  };
  const auto start = steady_clock::now();
  std::array<pid_t, Shared::kProcesses> children{};
  for (int number = 0; number < Shared::kProcesses; ++number)
    children[static_cast<std::size_t>(number)] = begin(number);
  std::mt19937 random(25);
  int kills = 0;
  // Longer where a busy machine has not given each process its turn yet.
  const auto all_entered = [&] {
    return std::all_of(std::begin(shared.entered), std::end(shared.entered),
                       [](const auto& entered) { return entered > 0; });
  };
  while (steady_clock::now() - start < stress_time(4) ||
         (!all_entered() && steady_clock::now() - start < std::chrono::seconds(60))) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 10'000));
    const int number = static_cast<int>(random() % Shared::kProcesses);
    shared.inside.fetch_or(0x100U << number);
    ::kill(children[static_cast<std::size_t>(number)], SIGKILL);
    ::waitpid(children[static_cast<std::size_t>(number)], nullptr, 0);
    shared.inside.fetch_and(~(0x101U << number));
    children[static_cast<std::size_t>(number)] = begin(number);
    ++kills;
  }
  shared.is_over = true;
  for (const pid_t child : children) {
    int status = -1;
    ::waitpid(child, &status, 0);
    CHECK(status == 0);
  }
  const auto elapsed_ms = static_cast<std::uint64_t>(ms_since(start)) + 1;
  MESSAGE(kills << " kills, " << shared.passed.load() << " requests, " << shared.most.load() << " inside");
  CHECK(shared.errors == 0);
  CHECK(shared.passed <= kBurst + elapsed_ms * kRate / 1000);
  CHECK(shared.passed >= elapsed_ms * kRate / 1000 / 20);
  CHECK(shared.most == kPermits);
  for (const auto& entered : shared.entered) CHECK(entered > 0);
  CHECK(held(cache) == 0);
  CHECK(acquire(cache, kPermits) == CACHE_OK);
  CHECK(problems_of(cache) == "");
  ::munmap(memory, sizeof(Shared));
}

}  // namespace
}  // namespace memstream::test
