// Locks that somebody alive keeps beyond the deadline: each call says CACHE_BUSY, has changed nothing, and works as
// soon as the lock is free. And the firewall of the C interface.
#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "api/guarded.h"
#include "api/memstream_metrics.h"
#include "backends/open_segment.h"
#include "core/cache/format.h"
#include "core/layout/layout.h"
#include "tests/support/child_process.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

constexpr std::size_t kLarge = 100 << 10;  // Goes through a pin.

// The segment behind the C interface's back.
class RawSegment {
 public:
  explicit RawSegment(const CacheSpec& cache) {
    std::unique_ptr<SegmentBackend> backend;
    SegmentFormat format(cache.name, 0);
    REQUIRE(make_backend_from_environment(&backend) == Status::kOk);
    REQUIRE(backend->attach({.name = cache.name}, Access::kReadWrite, format, &segment_) == Status::kOk);
  }
  pthread_mutex_t* registry_mutex() const { return &header().registry_mutex; }
  pthread_mutex_t* write_mutex(std::uint32_t shard = 0) const {
    const SegmentIdentity& identity = header().identity;
    auto* const of = segment_->data() + identity.shards_offset + shard * identity.shard_size;
    return &reinterpret_cast<ShardHeader*>(of)->write_mutex;
  }
  ThreadSlot& reader(std::uint32_t slot) const {
    return reinterpret_cast<ThreadSlot*>(segment_->data() + header().identity.thread_slots_offset)[slot];
  }

 private:
  SegmentHeader& header() const { return *reinterpret_cast<SegmentHeader*>(segment_->data()); }

  std::unique_ptr<Segment> segment_;
};

// The letter that /proc has for what a process does.
char state_of(pid_t process) {
  std::ifstream file("/proc/" + std::to_string(process) + "/stat");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  return text.at(text.rfind(')') + 2);
}

std::vector<memstream_lock_holder_t> lock_holders_of(memstream_t* cache) {
  std::vector<memstream_lock_holder_t> holders(64);
  std::size_t count = 0;
  if (memstream_lock_holders(cache, holders.data(), holders.size(), &count) != CACHE_OK) {
    throw std::runtime_error(cache_last_error());
  }
  holders.resize(count);
  return holders;
}

// Runs `body` while another thread holds `mutex`.
void while_held(pthread_mutex_t* mutex, const std::function<void()>& body) {
  Signal is_held;
  Signal is_over;
  std::thread holder([&] {
    ::pthread_mutex_lock(mutex);
    is_held.post();
    is_over.wait();
    ::pthread_mutex_unlock(mutex);
  });
  is_held.wait();
  body();
  is_over.post();
  holder.join();
}

TEST_CASE("a call that comes to no end within the deadline is busy, and is done when the lock is free") {
  const TemporarySegment segment("busy", 4 << 20, 1, 20);
  const OpenCache cache(segment.spec());
  const RawSegment raw(segment.spec());
  std::vector<std::byte> value(kLarge, std::byte{7});
  std::vector<std::byte> room(kLarge);
  std::size_t size = room.size();
  REQUIRE(memstream_set(cache, "key", 3, value.data(), value.size(), 0, 0) == CACHE_OK);
  memstream_reservation_t to_commit{};
  memstream_reservation_t to_abort{};
  REQUIRE(memstream_reserve(cache, "reserved", 8, kLarge, &to_commit) == CACHE_OK);
  REQUIRE(memstream_reserve(cache, "aborted", 7, kLarge, &to_abort) == CACHE_OK);
  std::memset(to_commit.data, 8, kLarge);

  while_held(raw.write_mutex(), [&] {
    CHECK(memstream_set(cache, "key", 3, "x", 1, 0, 0) == CACHE_BUSY);
    CHECK(std::string(cache_last_error()).find("MEMSTREAM_TIMEOUT_MS") != std::string::npos);
    CHECK(memstream_set(cache, "key", 3, room.data(), room.size(), 0, 0) == CACHE_BUSY);
    CHECK(memstream_delete(cache, "key", 3) == CACHE_BUSY);
    CHECK(memstream_clear(cache) == CACHE_BUSY);
    std::uint64_t problems = 0;
    CHECK(memstream_check(cache, &problems) == CACHE_BUSY);
    for (int tries = 0; tries < 2; ++tries) CHECK(memstream_commit(cache, &to_commit, 0, 0) == CACHE_BUSY);
    const cache_stats_t stats = stats_of(cache);
    CHECK(stats.busy_shards == 1);
    CHECK(stats.entries == 1);
    CHECK(stats.value_memory == kLarge);
    // Whoever reads, by copy or in place, and whoever lets go waits for nobody.
    CHECK(memstream_get(cache, "key", 3, room.data(), &size, nullptr) == CACHE_OK);
    CHECK(room == value);
    memstream_view_t view{};
    CHECK(memstream_view(cache, "key", 3, &view) == CACHE_OK);
    CHECK(std::memcmp(view.data, value.data(), kLarge) == 0);
    CHECK(memstream_release(cache, &view) == CACHE_OK);
    CHECK(memstream_abort(cache, &to_abort) == CACHE_OK);
  });

  CHECK(memstream_commit(cache, &to_commit, 0, 0) == CACHE_OK);
  size = room.size();
  CHECK(memstream_get(cache, "reserved", 8, room.data(), &size, nullptr) == CACHE_OK);
  CHECK(room == std::vector<std::byte>(kLarge, std::byte{8}));
  CHECK(memstream_exists(cache, "aborted", 7) == CACHE_MISS);
  CHECK(stats_of(cache).pinned_memory == 0);
  CHECK(stats_of(cache).busy_shards == 0);
  CHECK(problems_of(cache) == "");
}

TEST_CASE("locks that threads hold are listed with their process, without waiting for any") {
  const TemporarySegment segment("holders", 4 << 20, 2, 20);
  const OpenCache cache(segment.spec());
  const RawSegment raw(segment.spec());
  CHECK(lock_holders_of(cache).empty());
  std::size_t count = 0;
  while_held(raw.write_mutex(), [&] {
    const std::vector<memstream_lock_holder_t> holders = lock_holders_of(cache);
    REQUIRE(holders.size() == 1);
    CHECK(holders[0].kind == MEMSTREAM_LOCK_WRITE);
    CHECK(holders[0].shard == 0);
    CHECK(holders[0].pid == static_cast<std::uint32_t>(::getpid()));
    CHECK(holders[0].tid != holders[0].pid);  // The thread that holds it is another one.
    CHECK(memstream_lock_holders(cache, nullptr, 0, &count) == CACHE_OK);
    CHECK(count == 1);
  });

  Signal is_held;
  ChildProcess holder([&]() -> Complaint {
    ::pthread_mutex_lock(raw.write_mutex(1));
    ::pthread_mutex_lock(raw.registry_mutex());
    raw.reader(2).hold.store(hold_word(1, 7));
    ::pthread_mutex_lock(&raw.reader(2).mutex);
    ::pthread_mutex_lock(&raw.reader(3).mutex);  // Has not said yet what it reads.
    is_held.post();
    for (;;) ::pause();
  });
  is_held.wait();
  holder.send_signal(SIGSTOP);
  while (state_of(holder.id()) != 'T') std::this_thread::yield();
  memstream_options_t options = segment.spec().options();
  options.flags |= MEMSTREAM_OPEN_READ_ONLY;
  const OpenCache reader(options);
  for (memstream_t* const handle : {static_cast<memstream_t*>(cache), static_cast<memstream_t*>(reader)}) {
    const std::vector<memstream_lock_holder_t> holders = lock_holders_of(handle);
    REQUIRE(holders.size() == 3);
    for (const memstream_lock_holder_t& one : holders) {
      CHECK(one.pid == static_cast<std::uint32_t>(holder.id()));
      CHECK(one.tid == one.pid);
    }
    CHECK(holders[0].kind == MEMSTREAM_LOCK_WRITE);
    CHECK(holders[0].shard == 1);
    CHECK(holders[1].kind == MEMSTREAM_LOCK_READ);
    CHECK(holders[1].shard == 1);
    CHECK(holders[2].kind == MEMSTREAM_LOCK_PROCESSES);
  }
  holder.send_signal(SIGKILL);
  CHECK(holder.wait() == "killed by signal 9");
  CHECK(lock_holders_of(cache).empty());  // The kernel has taken the locks from it.
  CHECK(memstream_lock_holders(cache, nullptr, 1, &count) == CACHE_INVALID);
  CHECK(memstream_lock_holders(cache, nullptr, 0, nullptr) == CACHE_INVALID);
}

TEST_CASE("who is busy is named, and whether it is stopped") {
  const TemporarySegment segment("named", 4 << 20, 1, 20);
  const OpenCache cache(segment.spec());
  const RawSegment raw(segment.spec());
  REQUIRE(memstream_set(cache, "key", 3, "value", 5, 0, 0) == CACHE_OK);
  const auto says = [](const std::string& part) {
    return std::string(cache_last_error()).find(part) != std::string::npos;
  };
  while_held(raw.write_mutex(), [&] {
    CHECK(memstream_delete(cache, "key", 3) == CACHE_BUSY);
    CHECK_MESSAGE(says("this process (" + std::to_string(::getpid()) + ") held its write lock"), cache_last_error());
  });

  Signal is_held;
  ChildProcess holder([&]() -> Complaint {
    ::pthread_mutex_lock(raw.write_mutex());
    ::pthread_mutex_lock(raw.registry_mutex());
    is_held.post();
    for (;;) ::pause();
  });
  is_held.wait();
  std::string command;  // As the kernel has it: under a tool that runs the program it is the tool's.
  std::getline(std::ifstream("/proc/" + std::to_string(holder.id()) + "/comm"), command);
  const std::string name = "process " + std::to_string(holder.id()) + " (" + command + ")";
  CHECK(memstream_delete(cache, "key", 3) == CACHE_BUSY);
  CHECK_MESSAGE(says(name + " held its write lock"), cache_last_error());
  holder.send_signal(SIGSTOP);
  while (state_of(holder.id()) != 'T') std::this_thread::yield();
  CHECK(memstream_delete(cache, "key", 3) == CACHE_BUSY);
  CHECK_MESSAGE(says(name + ", which is stopped (kill -CONT"), cache_last_error());
  const memstream_options_t options = segment.spec().options();
  memstream_t* newcomer = nullptr;
  CHECK(memstream_open(&options, &newcomer) == CACHE_BUSY);
  CHECK_MESSAGE(says(name + ", which is stopped"), cache_last_error());
  const cache_stats_t stats = stats_of(cache);
  CHECK(stats.busy_shards == 1);
  CHECK(stats.entries == 1);
  holder.send_signal(SIGKILL);
  CHECK(holder.wait() == "killed by signal 9");
  CHECK(memstream_delete(cache, "key", 3) == CACHE_OK);
}

TEST_CASE("a process table that is held keeps newcomers out until the deadline, and one whose holder died does not") {
  const TemporarySegment segment("table", 4 << 20, 1, 20);
  const OpenCache cache(segment.spec());
  const RawSegment raw(segment.spec());
  const memstream_options_t options = segment.spec().options();
  memstream_t* newcomer = nullptr;
  while_held(raw.registry_mutex(), [&] {
    CHECK(memstream_open(&options, &newcomer) == CACHE_BUSY);
    CHECK(newcomer == nullptr);
    CHECK(memstream_set(cache, "key", 3, "x", 1, 0, 0) == CACHE_OK);  // Who is in the table does not need it.
    CHECK(std::string(cache_last_error()).find("this process (" + std::to_string(::getpid()) + ") held its lock") !=
          std::string::npos);
    CHECK(stats_of(cache).processes == 1);  // Who only looks does not need it either.
    memstream_process_t process;
    std::size_t count = 0;
    CHECK(memstream_processes(cache, &process, 1, &count) == CACHE_OK);
    CHECK(count == 1);
  });
  CHECK(in_child([&] { return ::pthread_mutex_lock(raw.registry_mutex()) == 0 ? "" : "it cannot be locked"; }) == "");
  CHECK(memstream_open(&options, &newcomer) == CACHE_OK);
  CHECK(memstream_close(newcomer) == CACHE_OK);
  CHECK(stats_of(cache).processes == 1);
}

TEST_CASE("an exception becomes a status with a message, and passes no C function") {
  CHECK(guarded([] { return Status::kMiss; }) == CACHE_MISS);
  CHECK(guarded([]() -> Status { throw std::bad_alloc(); }) == CACHE_NO_MEMORY);
  CHECK(std::string(last_error()).find("no memory") != std::string::npos);
  CHECK(guarded([]() -> Status { throw std::runtime_error("what it was"); }) == CACHE_INTERNAL);
  CHECK(std::string(last_error()) == "what it was");
  CHECK(guarded([]() -> Status { throw 7; }) == CACHE_INTERNAL);
  CHECK(std::string(last_error()).find("unknown") != std::string::npos);
}

}  // namespace
}  // namespace memstream::test
