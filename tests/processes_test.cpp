// The table of processes: which slots are looked at, and what becomes of those of the dead.
#include "core/processes.h"

#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>

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
