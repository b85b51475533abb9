// How long one operation keeps the others of a shard waiting: not longer because a value is larger or the entries are
// more. What is compared is how often others get in meanwhile, which a busy machine does not change.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>

#include "tests/support/child_process.h"
#include "tests/support/scale.h"
#include "tests/support/test_cache.h"

namespace memstream::test {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::int64_t kPatientMs = 60'000;

// A cache of one shard that is full of small values.
class FullOfSmallValues {
 public:
  FullOfSmallValues(const std::string& purpose, std::uint64_t size_bytes)
      : segment_(purpose, size_bytes, 1, kPatientMs), cache_(options(segment_.spec())) {
    while (stats_of(cache_).evictions == 0) fill(4096);
  }

  // Puts so many more.
  void fill(int count) const {
    const std::string value(64, 'v');
    for (int i = 0; i < count; ++i) {
      const std::string key = "key-" + std::to_string(next_++);
      REQUIRE(memstream_set(cache_, key.data(), key.size(), value.data(), value.size(), 0, 0) == CACHE_OK);
    }
  }

  static memstream_options_t options(const CacheSpec& spec) {
    memstream_options_t options = spec.options();
    options.max_value = spec.size_bytes / 4;
    return options;
  }

  memstream_t* cache() const { return cache_; }
  OpenCache another() const { return OpenCache(options(segment_.spec())); }

 private:
  TemporarySegment segment_;
  OpenCache cache_;
  mutable int next_ = 0;
};

// What somebody else who writes to the same shard meets while an operation runs.
struct Meanwhile {
  int writes = 0;
  std::chrono::milliseconds longest_wait{};
  std::chrono::milliseconds took{};
};

template <class Operation>
Meanwhile watch(const FullOfSmallValues& full, Operation operation) {
  const OpenCache own = full.another();
  std::atomic<int> state{0};
  Meanwhile met;
  std::thread other([&] {
    while (state != 1) std::this_thread::yield();
    while (state == 1) {
      const auto begin = Clock::now();
      CHECK(memstream_set(own, "other", 5, "value", 5, 0, 0) == CACHE_OK);
      const auto wait = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin);
      met.longest_wait = std::max(met.longest_wait, wait);
      ++met.writes;
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  });
  const auto begin = Clock::now();
  state = 1;
  operation();
  state = 2;
  met.took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin);
  other.join();
  MESSAGE(met.writes << " writes of others in " << met.took.count() << " ms, the longest wait "
                     << met.longest_wait.count() << " ms");
  return met;
}

TEST_CASE("a large value that takes the place of many small ones lets others write meanwhile") {
  const FullOfSmallValues full("many", static_cast<std::uint64_t>(std::max(16, scaled(128))) * kMiB);
  const std::uint64_t size = stats_of(full.cache()).max_memory / 4 - 64 * 1024;
  const std::uint64_t evictions = stats_of(full.cache()).evictions;
  memstream_reservation_t room{};
  const Meanwhile met =
      watch(full, [&] { REQUIRE(memstream_reserve(full.cache(), "large", 5, size, &room) == CACHE_OK); });
  const std::uint64_t evicted = stats_of(full.cache()).evictions - evictions;
  MESSAGE(evicted << " values evicted for " << size << " bytes");
  // A hold empties 2048 blocks at most.
  CHECK(met.writes >= static_cast<int>(evicted / 2048 / 4));
  CHECK(met.writes >= 5);
  CHECK(problems_of(full.cache()) == "");
  std::memset(room.data, 1, room.size);
  CHECK(memstream_commit(full.cache(), &room, 0, 0) == CACHE_OK);
  CHECK(problems_of(full.cache()) == "");
}

TEST_CASE("a check of many entries lets others write meanwhile, and finds a cache at rest to add up") {
  const FullOfSmallValues full("check", static_cast<std::uint64_t>(std::max(16, scaled(64))) * kMiB);
  const std::uint64_t entries = stats_of(full.cache()).entries;
  REQUIRE(entries > 50'000);
  const auto check = [&] { CHECK(problems_of(full.cache()) == ""); };
  CHECK(watch(full, check).writes >= static_cast<int>(entries / 2048 / 4));
  check();
}

TEST_CASE("a check beside a writer that adds keys and evicts others finds nothing wrong") {
  const FullOfSmallValues full("beside", 16 * kMiB);
  const OpenCache own = full.another();
  const std::uint64_t evictions = stats_of(full.cache()).evictions;
  std::atomic<bool> ends{false};
  std::thread other([&] {
    for (int i = 0; !ends; ++i) {
      const std::string key = "new-" + std::to_string(i);
      CHECK(memstream_set(own, key.data(), key.size(), "value", 5, 0, 0) == CACHE_OK);
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  });
  for (int round = 0; round < 3; ++round) CHECK(problems_of(full.cache()) == "");
  ends = true;
  other.join();
  CHECK(stats_of(full.cache()).evictions > evictions);
}

TEST_CASE("a process that is killed while it makes room for a large value leaves a cache that works") {
  const FullOfSmallValues full("kill", 32 * kMiB);
  const std::string large(7 * kMiB, 'x');
  for (int round = 0; round < scaled(40); ++round) {
    CAPTURE(round);
    {
      const Signal begun;
      const ChildProcess child([&]() -> Complaint {
        const OpenCache own = full.another();
        begun.post();
        for (int i = 0;; ++i) {
          const std::string key = "large-" + std::to_string(i);
          if (memstream_set(own, key.data(), key.size(), large.data(), large.size(), 0, 0) != CACHE_OK) {
            return cache_last_error();
          }
          full.fill(2'000);
        }
      });
      begun.wait();
      std::this_thread::sleep_for(std::chrono::microseconds(500 + 700 * (round % 20)));
      child.send_signal(SIGKILL);
    }
    full.fill(20'000);
    REQUIRE(problems_of(full.cache()) == "");
    REQUIRE(memstream_set(full.cache(), "mine", 4, large.data(), large.size(), 0, 0) == CACHE_OK);
    REQUIRE(problems_of(full.cache()) == "");
  }
  CHECK(stats_of(full.cache()).pinned_memory == 0);
  CHECK(stats_of(full.cache()).damaged == 0);
}

// A page of memory that stays missing until it is given.
class MissingPage {
 public:
  MissingPage() : fd_(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC))) {
    if (fd_ < 0) return;
    uffdio_api api{};
    api.api = UFFD_API;
    REQUIRE(ioctl(fd_, UFFDIO_API, &api) == 0);
    page_ = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(page_ != MAP_FAILED);
    uffdio_register range{};
    range.range = {reinterpret_cast<std::uint64_t>(page_), kSize};
    range.mode = UFFDIO_REGISTER_MODE_MISSING;
    REQUIRE(ioctl(fd_, UFFDIO_REGISTER, &range) == 0);
  }
  MissingPage(const MissingPage&) = delete;
  MissingPage& operator=(const MissingPage&) = delete;
  ~MissingPage() {
    if (page_ != nullptr) ::munmap(page_, kSize);
    if (fd_ >= 0) ::close(fd_);
  }

  static constexpr std::size_t kSize = 4096;
  bool is_possible() const { return fd_ >= 0; }
  const void* data() const { return page_; }
  // Until somebody reads it.
  void wait() const {
    uffd_msg message{};
    REQUIRE(::read(fd_, &message, sizeof message) == sizeof message);
    REQUIRE(message.event == UFFD_EVENT_PAGEFAULT);
  }
  void give() const {
    uffdio_zeropage zero{};
    zero.range = {reinterpret_cast<std::uint64_t>(page_), kSize};
    REQUIRE(ioctl(fd_, UFFDIO_ZEROPAGE, &zero) == 0);
  }

 private:
  int fd_;
  void* page_ = nullptr;
};

TEST_CASE("a value in memory that comes slowly keeps nobody waiting") {
  for (const bool in_batch : {false, true}) {
    CAPTURE(in_batch);
    const TemporarySegment segment("slow", kMiB, 1);
    const OpenCache cache(segment.spec());
    const MissingPage page;
    if (!page.is_possible()) {
      MESSAGE("skipped: this system gives no userfaultfd");
      return;
    }
    std::thread slow([&] {
      const OpenCache own(segment.spec());
      memstream_item_t item{};
      item.key = "slow";
      item.key_size = 4;
      item.value = const_cast<void*>(page.data());
      item.value_size = MissingPage::kSize;
      const int status = in_batch ? memstream_set_many(own, &item, 1)
                                  : memstream_set(own, "slow", 4, page.data(), MissingPage::kSize, 0, 0);
      CHECK(status == CACHE_OK);
    });
    page.wait();
    CHECK(memstream_set(cache, "other", 5, "value", 5, 0, 0) == CACHE_OK);
    page.give();
    slow.join();
  }
}

}  // namespace
}  // namespace memstream::test
