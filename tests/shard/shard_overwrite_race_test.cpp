// Readers beside a writer that overwrites a value in its block: they see the one before it or the new one, whole.
#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "core/shard/quick_get.h"
#include "tests/support/overwriting_shard.h"
#include "tests/support/scale.h"

namespace memstream::test {
namespace {

// Memory to copy to or from, of which the second half cannot be touched until `meanwhile` has been called, in the
// middle of the copy that comes to it: in a signal handler, so that it must not allocate. One at a time.
class InterruptingRoom {
 public:
  explicit InterruptingRoom(std::function<void()> meanwhile) : meanwhile_(std::move(meanwhile)) {
    void* pages = ::mmap(nullptr, 2 * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(pages != MAP_FAILED);
    border_ = static_cast<std::byte*>(pages) + kPageSize;
    REQUIRE(::mprotect(border_, kPageSize, PROT_NONE) == 0);
    current = this;
    struct sigaction action {};
    action.sa_sigaction = interrupt;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    REQUIRE(::sigaction(SIGSEGV, &action, &before_) == 0);
  }
  InterruptingRoom(const InterruptingRoom&) = delete;
  InterruptingRoom& operator=(const InterruptingRoom&) = delete;
  ~InterruptingRoom() {
    ::sigaction(SIGSEGV, &before_, nullptr);
    ::munmap(border_ - kPageSize, 2 * kPageSize);
  }

  // Of so many bytes, at most two pages.
  ReadBuffer of(std::size_t size_bytes) const { return {border_ - size_bytes / 2, size_bytes}; }
  // What holds this value.
  std::string_view with(const std::string& value) {
    std::byte* const begin = of(value.size()).data;
    REQUIRE(::mprotect(border_, kPageSize, PROT_READ | PROT_WRITE) == 0);
    std::memcpy(begin, value.data(), value.size());
    REQUIRE(::mprotect(border_, kPageSize, PROT_NONE) == 0);
    return {reinterpret_cast<const char*>(begin), value.size()};
  }
  // Makes the second half fault once more.
  void protect() const { REQUIRE(::mprotect(border_, kPageSize, PROT_NONE) == 0); }
  int interruptions() const { return interruptions_.load(); }

 private:
  static void interrupt(int, siginfo_t* info, void*) {
    auto* const address = static_cast<std::byte*>(info->si_addr);
    const bool is_here = address >= current->border_ && address < current->border_ + kPageSize;
    if (!is_here || ::mprotect(current->border_, kPageSize, PROT_READ | PROT_WRITE) != 0) ::_exit(70);
    ++current->interruptions_;
    current->meanwhile_();
  }
  static inline InterruptingRoom* current = nullptr;

  std::function<void()> meanwhile_;
  std::byte* border_ = nullptr;
  struct sigaction before_ {};
  std::atomic<int> interruptions_{0};
};

// Gets "key" while `store_next` stores `next` in the middle of the copy. The get must return all of `next`.
void check_interrupted_get(OverwritingShard& cache, const std::string& next,
                           const std::function<Status()>& store_next) {
  Status stored = Status::kInternal;
  InterruptingRoom room([&] { stored = store_next(); });
  const ReadBuffer bytes = room.of(next.size());
  const GetResult got = cache.shard.get(cache.key("key"), bytes, {cache.deadline(), cache.now_ms});
  CHECK(room.interruptions() == 1);
  CHECK(stored == Status::kOk);
  CHECK(got.status == Status::kOk);
  CHECK(std::string(reinterpret_cast<const char*>(bytes.data), bytes.size_bytes) == next);
  CHECK(got.read.cas == cache.read("key").cas);
}

// Stores pattern 1 of `size_bytes` under "key", then pattern 2. A view begins in the middle of the second copy. A put
// touches its source once before it takes the lock. So another thread holds the lock until the put waits for it, and
// makes the room fault again: the view begins when the put has found the old value unviewed.
PinnedBlock put_interrupted_by_view(OverwritingShard& cache, std::size_t size_bytes) {
  REQUIRE(cache.put("key", pattern(size_bytes, 1)) == Status::kOk);
  PinnedBlock view;
  Status viewed = Status::kInternal;
  bool is_locked_by_put = false;
  int calls = 0;
  pthread_mutex_t* const lock = &cache.header().write_mutex;
  InterruptingRoom room([&] {
    if (++calls != 2) return;
    is_locked_by_put = robust_mutex_is_mine(lock);
    viewed = cache.pin("key", &view);
  });
  const std::string_view next = room.with(pattern(size_bytes, 2));
  std::atomic<bool> is_locked{false};
  std::thread holder([&] {
    REQUIRE(robust_mutex_try_lock(lock) == LockOutcome::kAcquired);
    is_locked = true;
    while (room.interruptions() == 0 || !robust_mutex_is_awaited(lock)) std::this_thread::yield();
    room.protect();
    robust_mutex_unlock(lock);
  });
  while (!is_locked) std::this_thread::yield();
  const Status stored = cache.put("key", next);
  holder.join();
  REQUIRE(stored == Status::kOk);
  CHECK(room.interruptions() == 2);
  CHECK(is_locked_by_put);
  REQUIRE(viewed == Status::kOk);
  return view;
}

std::string text_of(const PinnedBlock& view) {
  return {reinterpret_cast<const char*>(view.value), view.read.value_size};
}

}  // namespace

TEST_CASE("a value whose record is written anew in the middle of the copy is not believed") {
  OverwritingShard cache;
  REQUIRE(cache.put("key", pattern(kRedoValueSize, 1)) == Status::kOk);
  cache.begin_overwriting("key", pattern(kRedoValueSize, 2), 0);
  const std::string next = pattern(kRedoValueSize, 3);
  check_interrupted_get(cache, next, [&] {
    cache.end_overwriting();
    return cache.put("key", next);
  });
}

TEST_CASE("a value that is overwritten in the middle of the copy is not believed") {
  OverwritingShard cache;
  REQUIRE(cache.put("key", pattern(kRedoValueSize, 1)) == Status::kOk);
  const std::string next = pattern(kRedoValueSize, 2);
  check_interrupted_get(cache, next, [&] { return cache.put("key", next); });
}

// The quick get saw the entry while its value was overwritten. At the end it finds the ref of the new value, of which
// its copy has only a part.
TEST_CASE("a quick get does not believe a value whose overwriting ends in the middle of the copy") {
  constexpr std::size_t kSize = 64;
  OverwritingShard cache;
  REQUIRE(cache.put("key", pattern(kSize, 1)) == Status::kOk);
  for (int i = 0; i < 2; ++i) static_cast<void>(cache.get("key"));
  const auto get_quickly = [&](const ReadBuffer& bytes) {
    ReadResult read;
    Entry* entry = nullptr;
    return cache.shard.get_quickly<false>(cache.key("key"), bytes.data, &bytes.size_bytes, &read, &entry);
  };
  std::array<std::byte, kSize> plain;
  REQUIRE(get_quickly({plain.data(), kSize}) == Shard::QuickAnswer::kHit);
  cache.begin_overwriting("key", pattern(kSize, 2), kSize);
  InterruptingRoom room([&] { cache.end_overwriting(); });
  CHECK(get_quickly(room.of(kSize)) == Shard::QuickAnswer::kNone);
  if (room.interruptions() == 0) cache.end_overwriting();
  CHECK(get_quickly({plain.data(), kSize}) == Shard::QuickAnswer::kHit);
}

// The writer has found the value unviewed, and copies the new one to its record. The commit tells it of the view.
TEST_CASE("a value that somebody begins to view just before the commit is not overwritten") {
  OverwritingShard cache;
  const PinnedBlock view = put_interrupted_by_view(cache, kRedoValueSize);
  CHECK(text_of(view) == pattern(kRedoValueSize, 1));
  CHECK(cache.position("key") != view.position);
  CHECK(cache.header().redo == 0);
  CHECK(cache.get("key") == pattern(kRedoValueSize, 2));
  REQUIRE(cache.unpin(view) == Status::kOk);
  CHECK(cache.statistics().pinned_memory == 0);
  CHECK(cache.problems() == "");
}

TEST_CASE("a value that somebody begins to view while the one after it is filled is kept") {
  OverwritingShard cache;
  const PinnedBlock view = put_interrupted_by_view(cache, 2 * kRedoValueSize);
  REQUIRE(cache.put("other", pattern(2 * kRedoValueSize, 3)) == Status::kOk);
  CHECK(text_of(view) == pattern(2 * kRedoValueSize, 1));
  REQUIRE(cache.unpin(view) == Status::kOk);
  CHECK(cache.statistics().pinned_memory == 0);
  CHECK(cache.problems() == "");
}

TEST_CASE("readers beside a writer that overwrites see whole values, each at least as new as the last") {
  // Small values, of which most are read without the record, and the largest, of which most are taken from it.
  for (const std::size_t least_size : {std::size_t{49}, kRedoValueSize - 15}) {
    CAPTURE(least_size);
    OverwritingShard cache;
    const auto size_of = [&](std::uint64_t number) { return least_size + number % 16; };
    // The number over and over, so that every word tells which value it is of.
    const auto value_of = [&](std::uint64_t number) {
      std::string value;
      while (value.size() < size_of(number)) value.append(reinterpret_cast<const char*>(&number), sizeof number);
      value.resize(size_of(number));
      return value;
    };
    REQUIRE(cache.put("key", value_of(0)) == Status::kOk);
    const std::uint32_t position = cache.position("key");
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> seen{0};
    std::atomic<std::uint64_t> wrong{0};
    const auto read = [&] {
      std::uint64_t newest = 0;
      std::string room(kRedoValueSize, '\0');
      while (!stop.load()) {
        const GetResult got =
            cache.shard.get(cache.key("key"), {reinterpret_cast<std::byte*>(room.data()), room.size()},
                            {cache.deadline(), cache.now_ms});
        std::uint64_t number = 0;
        std::memcpy(&number, room.data(), sizeof number);
        const std::size_t size = got.read.value_size;
        const bool whole = got.status == Status::kOk && size == size_of(number) &&
                           std::memcmp(room.data() + sizeof number, room.data(), size - sizeof number) == 0;
        if (!whole || number < newest) wrong.fetch_add(1);
        newest = number;
        seen.fetch_add(1);
      }
    };
    std::thread one(read);
    std::thread two(read);
    const auto writes = static_cast<std::uint64_t>(scaled(100'000));
    for (std::uint64_t number = 1; number <= writes; ++number) {
      REQUIRE(cache.put("key", value_of(number)) == Status::kOk);
    }
    while (seen.load() < 100) std::this_thread::yield();
    stop = true;
    one.join();
    two.join();
    CHECK(wrong == 0);
    CHECK(cache.position("key") == position);
    CHECK(cache.problems() == "");
  }
}

}  // namespace memstream::test
