// The table of processes: which slots are looked at, and what becomes of those of the dead.
#include "core/processes.h"

#include <doctest/doctest.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include "tests/support/expectations.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

struct Table : TestSegment {
  ProcessTable table{&header(), &process_slot(0), geometry().process_slots};
  Deadline deadline{std::chrono::seconds(2)};
  DropPin drop_pin = [](ProcessSlot* slot, std::uint32_t pin, std::uint64_t) {
    slot->pins[pin] = 0;
    return Status::kOk;
  };

  ProcessSlot* claim() {
    ProcessSlot* slot = nullptr;
    REQUIRE(table.claim(deadline, drop_pin, &slot) == Status::kOk);
    return slot;
  }
};

TEST_CASE("processes take the first slot that is free, and those that somebody had are the ones looked at") {
  Table processes;
  CHECK(processes.table.used().empty());
  ProcessSlot* const first = processes.claim();
  ProcessSlot* const second = processes.claim();
  CHECK(first == &processes.process_slot(0));
  CHECK(second == &processes.process_slot(1));
  CHECK(processes.table.used().size() == 2);
  REQUIRE(processes.table.give_back(processes.deadline, processes.drop_pin, first) == Status::kOk);
  CHECK(processes.table.used().size() == 2);
  CHECK(processes.claim() == first);
  CHECK(processes.table.used().size() == 2);
}

TEST_CASE("the dead are found behind slots that were left, and their counts are kept") {
  Table processes;
  ProcessSlot* const left = processes.claim();
  ProcessSlot* const dead = processes.claim();
  dead->pid = kDeadPid;
  dead->counters.hits = 7;
  dead->pins[3] = 4096;
  REQUIRE(processes.table.give_back(processes.deadline, processes.drop_pin, left) == Status::kOk);
  CHECK(processes.table.sum().hits == 7);
  REQUIRE(processes.table.clean_up(processes.deadline, processes.drop_pin) == Status::kOk);
  CHECK(dead->pid == 0);
  CHECK(dead->pins[3] == 0);
  CHECK(processes.header().dead_processes == 1);
  CHECK(processes.table.sum().hits == 7);
}

TEST_CASE("one of the dead whose pins cannot be dropped keeps no other one in the table") {
  Table processes;
  ProcessSlot* const holding = processes.claim();
  ProcessSlot* const other = processes.claim();
  for (ProcessSlot* slot : {holding, other}) slot->pid = kDeadPid;
  holding->pins[0] = 4096;
  const DropPin busy = [](ProcessSlot*, std::uint32_t, std::uint64_t) { return Status::kBusy; };
  CHECK(processes.table.clean_up(Deadline(std::chrono::milliseconds(0)), busy) == Status::kBusy);
  CHECK(holding->pid == kDeadPid);
  CHECK(holding->pins[0] == 4096);
  CHECK(other->pid == 0);
  CHECK(processes.header().dead_processes == 1);
}

TEST_CASE("the table is free while a shard is waited for in which a pin has to be dropped") {
  Table processes;
  ProcessSlot* const slot = processes.claim();
  slot->pins[0] = 4096;
  pthread_mutex_t& mutex = processes.header().registry_mutex;
  std::atomic<bool> somebody_came = false;
  const DropPin busy_until_then = [&](ProcessSlot* of, std::uint32_t pin, std::uint64_t offset) {
    return somebody_came ? processes.drop_pin(of, pin, offset) : Status::kBusy;
  };
  std::thread newcomer([&] {
    ::pthread_mutex_lock(&mutex);
    somebody_came = true;
    ::pthread_mutex_unlock(&mutex);
  });
  SUBCASE("one of a dead process") {
    slot->pid = kDeadPid;
    CHECK(processes.table.clean_up(processes.deadline, busy_until_then) == Status::kOk);
  }
  SUBCASE("one of a process that leaves") {
    CHECK(processes.table.give_back(processes.deadline, busy_until_then, slot) == Status::kOk);
  }
  newcomer.join();
  CHECK(slot->pid == 0);
}

TEST_CASE("whoever finds the table full is refused if all are alive, and waits for the pins of the dead if not") {
  Table processes;
  ProcessSlot* first = nullptr;
  for (std::uint32_t i = 0; i < processes.geometry().process_slots; ++i) {
    ProcessSlot* const slot = processes.claim();
    if (first == nullptr) first = slot;
  }
  ProcessSlot* claimed = nullptr;
  CHECK(processes.table.claim(processes.deadline, processes.drop_pin, &claimed) == Status::kProcessTableFull);
  first->pid = kDeadPid;
  first->pins[0] = 4096;
  int tries = 0;
  const DropPin busy_twice = [&](ProcessSlot* slot, std::uint32_t pin, std::uint64_t offset) {
    return ++tries > 2 ? processes.drop_pin(slot, pin, offset) : Status::kBusy;
  };
  CHECK(processes.table.claim(Deadline(std::chrono::milliseconds(0)), busy_twice, &claimed) == Status::kBusy);
  CHECK(processes.table.claim(processes.deadline, busy_twice, &claimed) == Status::kOk);
  CHECK(claimed == first);
}

TEST_CASE("the slots of this process stay, and that of an earlier one that had its pid goes") {
  Table processes;
  ProcessSlot* const earlier = processes.claim();
  ProcessSlot* const own = processes.claim();
  --earlier->start_time;
  REQUIRE(processes.table.clean_up(processes.deadline, processes.drop_pin) == Status::kOk);
  CHECK(earlier->pid == 0);
  CHECK(own->pid != 0);
  CHECK(processes.header().dead_processes == 1);
}

TEST_CASE("a slot whose first process has only said its pid is looked at") {
  Table processes;
  processes.process_slot(0).pid = kDeadPid;
  CHECK(processes.table.used().size() == 1);
  REQUIRE(processes.table.clean_up(processes.deadline, processes.drop_pin) == Status::kOk);
  CHECK(processes.process_slot(0).pid == 0);
}

TEST_CASE("all slots are looked at when all were taken") {
  Table processes;
  for (std::uint32_t i = 0; i < processes.geometry().process_slots; ++i) processes.claim()->pid = kDeadPid;
  CHECK(processes.table.used().size() == processes.geometry().process_slots);
  CHECK(processes.claim() == &processes.process_slot(0));
  CHECK(processes.header().dead_processes == processes.geometry().process_slots);
}

}  // namespace
}  // namespace memstream::test
