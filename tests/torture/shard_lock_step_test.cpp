// A writer and a slow reader that come to a shard at the same time: one of them is stopped at each of its instructions
// in turn, the other goes in as far as it gets, and the first goes on.
#include <doctest/doctest.h>
#include <sys/mman.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <new>

#include "core/shard/shard_lock.h"
#include "tests/torture/stepped_child.h"

namespace memstream::torture {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kSlots = 4;
constexpr std::chrono::milliseconds kPatience{4};  // Counts from the first obstacle.

class NoRecovery final : public ShardRecovery {
 public:
  void repair_after_death() noexcept override {}  // The shard has no contents.
};

// The words of a shard's lock, in memory that parent and child share.
class SharedLock {
 public:
  SharedLock()
      : words_(static_cast<Words*>(
            ::mmap(nullptr, sizeof(Words), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
    REQUIRE(words_ != MAP_FAILED);
    begin_anew();
  }
  SharedLock(const SharedLock&) = delete;
  SharedLock& operator=(const SharedLock&) = delete;
  ~SharedLock() { ::munmap(words_, sizeof(Words)); }

  // REQUIRES: nobody uses the lock any more.
  void begin_anew() {
    new (words_) Words{};
    REQUIRE(ShardLock::initialize(&words_->shard) == Status::kOk);
    for (ThreadSlot& slot : words_->slots) REQUIRE(robust_mutex_init(&slot.mutex) == Status::kOk);
    lock_ = ShardLock(&words_->shard, 0, words_->slots, kSlots, &recovery_);
  }

  // Goes in as a writer with W, or as a reader, runs `inside` there, and comes out. False if it did not get in.
  bool write(std::chrono::milliseconds for_lock, const std::function<void()>& inside) {
    if (lock_.lock(Deadline(for_lock)) != Status::kOk) return false;
    lock_.assert_held();
    const bool is_inside = lock_.exclude_readers(Deadline(kPatience)) == Status::kOk;
    if (is_inside) {
      inside();
      lock_.let_readers_in();
    }
    lock_.unlock();
    return is_inside;
  }
  bool read(std::chrono::milliseconds for_lock, const std::function<void()>& inside) {
    return lock_.read_shared(Deadline(for_lock), inside) == Status::kOk;
  }

  // For the child, when it is inside: whether the parent is there too. And what the parent learns of it.
  void note_entry() noexcept {
    words_->entries.fetch_add(1);
    words_->meetings.fetch_add(words_->parent_inside.load());
  }
  void set_parent_inside(bool is_inside) noexcept { words_->parent_inside.store(is_inside ? 1 : 0); }
  std::uint32_t entries() const noexcept { return words_->entries.load(); }
  std::uint32_t meetings() const noexcept { return words_->meetings.load(); }

 private:
  struct Words {
    ShardHeader shard;
    ThreadSlot slots[kSlots];
    std::atomic<std::uint32_t> parent_inside;
    std::atomic<std::uint32_t> entries;
    std::atomic<std::uint32_t> meetings;
  };

  Words* words_;
  NoRecovery recovery_;
  ShardLock lock_{nullptr, 0, nullptr, 0, nullptr};
};

// What came of all instructions.
struct Tally {
  std::uint32_t instructions = 0;
  std::uint32_t entered = 0;   // The parent came in while the child stood there ...
  std::uint32_t refused = 0;   // ... or did not.
  std::uint32_t entries = 0;   // The child came in, before that or afterwards ...
  std::uint32_t meetings = 0;  // ... or while the parent was there.
};

// Stops a child at each instruction of `of_child`, lets `of_parent` go in, and the child go on meanwhile.
Tally meet_at_every_instruction(SharedLock& shared, const std::function<void()>& of_child,
                                const std::function<bool(const std::function<void()>& inside)>& of_parent) {
  Tally tally;
  const auto begin = [] {};
  const Route route(trace_of(begin, of_child));
  for (std::size_t instruction = 0; instruction < route.instructions(); ++instruction) {
    shared.begin_anew();
    SteppedChild child(begin, of_child);
    if (!child.go(route.legs(instruction))) continue;
    ++tally.instructions;
    const bool entered = of_parent([&] {
      shared.set_parent_inside(true);
      child.finish();
      shared.set_parent_inside(false);
    });
    ++(entered ? tally.entered : tally.refused);
    tally.entries += shared.entries();
    tally.meetings += shared.meetings();
  }
  MESSAGE(tally.instructions << " instructions, the other came in at " << tally.entered);
  return tally;
}

void check(const Tally& tally) {
  CHECK(tally.instructions > 50);
  CHECK(tally.entered > 10);
  CHECK(tally.refused > 10);
  CHECK(tally.entries > 0);
  CHECK(tally.meetings == 0);
}

}  // namespace

TEST_CASE("a writer stopped at any instruction does not come in beside a slow reader that came meanwhile") {
  SharedLock shared;
  check(meet_at_every_instruction(
      shared, [&] { (void)shared.write(kPatience, [&] { shared.note_entry(); }); },
      [&](const std::function<void()>& inside) { return shared.read(0ms, inside); }));
}

TEST_CASE("a slow reader stopped at any instruction does not come in beside a writer that came meanwhile") {
  SharedLock shared;
  check(meet_at_every_instruction(
      shared, [&] { (void)shared.read(kPatience, [&] { shared.note_entry(); }); },
      [&](const std::function<void()>& inside) { return shared.write(0ms, inside); }));
}

}  // namespace memstream::torture
