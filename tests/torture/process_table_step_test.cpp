// Two live processes never have one slot of the process table, and so never one redo record. A process is stopped at
// its instructions while it enters and leaves the table, another one comes meanwhile, and the first goes on or dies.
#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <set>
#include <vector>

#include "core/cache/processes.h"
#include "tests/support/test_shard.h"
#include "tests/torture/stepped_child.h"

namespace memstream::torture {
namespace {

constexpr std::chrono::milliseconds kPatience{4};  // With a lock that a stopped process holds.
constexpr std::chrono::milliseconds kPatienceOfChild{2000};
constexpr std::size_t kStride = 11;
constexpr std::uint32_t kNoSlot = ~std::uint32_t{0};

// A process table that parent and child share.
class SharedTable : private test::TestSegment {
 public:
  SharedTable() : bytes_(map_shared(geometry().size_bytes)), child_(map_shared(sizeof(std::atomic<std::uint32_t>))) {
    std::memcpy(bytes_, data(), geometry().size_bytes);
    child_word().store(kNoSlot);
  }
  SharedTable(const SharedTable&) = delete;
  SharedTable& operator=(const SharedTable&) = delete;
  ~SharedTable() {
    ::munmap(bytes_, geometry().size_bytes);
    ::munmap(child_, sizeof(std::atomic<std::uint32_t>));
  }

  // For the child. What it believes to have is known to the parent from the instruction on that returns it.
  void enter() {
    ProcessSlot* slot = nullptr;
    if (table_.claim(Deadline(kPatienceOfChild), &slot) != Status::kOk) ::_exit(1);
    child_word().store(table_.number_of(slot));
  }
  void leave() {
    ProcessSlot& slot = slot_at(child_word().exchange(kNoSlot));
    if (table_.give_back(Deadline(kPatienceOfChild), &slot) != Status::kOk) ::_exit(1);
  }
  std::uint32_t slot_of_child() const { return child_word().load(); }

  void child_has_died() { child_word().store(kNoSlot); }

  // For the parent. kNoSlot if the table stays locked.
  std::uint32_t claim() {
    ProcessSlot* slot = nullptr;
    return table_.claim(Deadline(kPatience), &slot) == Status::kOk ? table_.number_of(slot) : kNoSlot;
  }
  // Nothing the parent has may be the child's, or be taken for another's.
  void check_own(const std::vector<std::uint32_t>& own) {
    const std::set<std::uint32_t> distinct(own.begin(), own.end());
    CHECK(distinct.size() == own.size());
    CHECK(distinct.count(slot_of_child()) == 0);
    for (const std::uint32_t slot : own) {
      CHECK(slot_at(slot).pid == static_cast<std::uint32_t>(::getpid()));
      CHECK(attached().marks().is_own(slot));
    }
  }
  void give_all_back(std::vector<std::uint32_t>& own) {
    for (const std::uint32_t slot : own) {
      CHECK(table_.give_back(Deadline(kPatienceOfChild), &slot_at(slot)) == Status::kOk);
    }
    own.clear();
  }
  void forget_the_dead() {
    CHECK(table_.clean_up(Deadline(kPatienceOfChild)) == Status::kOk);
    CHECK(table_.count() == 0);
    child_word().store(kNoSlot);
  }

 private:
  static std::byte* map_shared(std::size_t size_bytes) {
    void* const bytes = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(bytes != MAP_FAILED);
    return static_cast<std::byte*>(bytes);
  }
  std::atomic<std::uint32_t>& child_word() const { return *reinterpret_cast<std::atomic<std::uint32_t>*>(child_); }
  ProcessSlot& slot_at(std::uint32_t index) const {
    return reinterpret_cast<ProcessSlot*>(bytes_ + geometry().process_slots_offset)[index];
  }

  std::byte* bytes_;  // The segment's, which was the parent's alone.
  std::byte* child_;  // A word: the slot that the child believes to have.
  ProcessTable table_{reinterpret_cast<SegmentHeader*>(bytes_), &slot_at(0), geometry().process_slots,
                      attached().residence};
};

struct Tally {
  int instructions = 0;
  int entered = 0;  // The parent got a slot while the child stood there ...
  int locked = 0;   // ... or found the table locked.
};

// Whether the child goes on to its end, or dies where it stands, when the parent has entered.
enum class Then { kGoOn, kDie };

Tally meet(const std::function<void(SharedTable&)>& begin, const std::function<void(SharedTable&)>& run, Then then) {
  SharedTable shared;
  Tally tally;
  const auto begin_child = [&] { begin(shared); };
  const auto run_child = [&] { run(shared); };
  const Route route(trace_of(begin_child, run_child));
  std::vector<std::uint32_t> own;
  for (std::size_t instruction = 0; instruction < route.instructions(); instruction += kStride) {
    shared.forget_the_dead();
    SteppedChild child(begin_child, run_child);
    if (!child.go(route.legs(instruction))) continue;
    ++tally.instructions;
    const auto enter = [&] {
      const std::uint32_t slot = shared.claim();
      if (slot != kNoSlot) own.push_back(slot);
      shared.check_own(own);
      return slot != kNoSlot;
    };
    ++(enter() ? tally.entered : tally.locked);
    if (then == Then::kGoOn) {
      child.finish();
    } else {
      child.kill();
      shared.child_has_died();
    }
    // What is free now, and what a dead process has left, is free for one only.
    CHECK(enter());
    CHECK(enter());
    shared.give_all_back(own);
    child.kill();
  }
  shared.forget_the_dead();
  MESSAGE(tally.instructions << " instructions, another one entered at " << tally.entered);
  return tally;
}

void check(const Tally& tally) {
  CHECK(tally.instructions > 50);
  CHECK(tally.entered > 5);
  CHECK(tally.locked > 20);
}

const auto kNothing = [](SharedTable&) {};
const auto kEnter = [](SharedTable& table) { table.enter(); };
const auto kLeave = [](SharedTable& table) { table.leave(); };
const auto kLeaveAndEnter = [](SharedTable& table) { table.leave(), table.enter(); };

}  // namespace

TEST_CASE("a process stopped at any instruction on its way into the table shares its slot with nobody") {
  check(meet(kNothing, kEnter, Then::kGoOn));
  check(meet(kNothing, kEnter, Then::kDie));
}

TEST_CASE(
    "a process stopped at any instruction on its way out of the table, and in again, shares its slot with nobody") {
  check(meet(kEnter, kLeaveAndEnter, Then::kGoOn));
  check(meet(kEnter, kLeave, Then::kDie));
}

}  // namespace memstream::torture
