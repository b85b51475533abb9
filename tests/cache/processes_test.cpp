// The table of processes: which slots are looked at, and what becomes of those of the dead.
#include "core/cache/processes.h"

#include <doctest/doctest.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>

#include "tests/support/child_process.h"
#include "tests/support/expectations.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

struct Table : TestSegment {
  ProcessTable table{&header(), &process_slot(0), geometry().process_slots, attached().residence};
  ProcessMarks marks = attached().marks();
  Deadline deadline{std::chrono::seconds(2)};

  ProcessSlot* claim() {
    ProcessSlot* slot = nullptr;
    REQUIRE(table.claim(deadline, &slot) == Status::kOk);
    return slot;
  }

  // What the kernel does when the process in `slot` has ended.
  void end(const ProcessSlot* slot) { marks.clear(table.number_of(slot)); }
};

TEST_CASE("processes take the first slot that is free, and those that somebody had are the ones looked at") {
  Table processes;
  CHECK(processes.table.used().empty());
  ProcessSlot* const first = processes.claim();
  ProcessSlot* const second = processes.claim();
  CHECK(first == &processes.process_slot(0));
  CHECK(second == &processes.process_slot(1));
  CHECK(processes.table.used().size() == 2);
  REQUIRE(processes.table.give_back(processes.deadline, first) == Status::kOk);
  CHECK(processes.table.used().size() == 2);
  CHECK(processes.claim() == first);
  CHECK(processes.table.used().size() == 2);
}

TEST_CASE("no more slots are in use than up to the last process, whoever leaves first") {
  Table processes;
  std::atomic<std::uint32_t>& in_use = processes.header().slots_in_use;
  CHECK(in_use == 0);
  ProcessSlot* slots[5];
  for (std::uint32_t i = 0; i < 5; ++i) {
    slots[i] = processes.claim();
    CHECK(in_use == i + 1);
  }
  const auto leave = [&](int slot) {
    REQUIRE(processes.table.give_back(processes.deadline, slots[slot]) == Status::kOk);
    return in_use.load();
  };
  CHECK(leave(2) == 5);
  CHECK(leave(3) == 5);
  CHECK(leave(4) == 2);
  CHECK(processes.claim() == slots[2]);
  CHECK(in_use == 3);
  in_use = 20;  // Of one that was killed on its way in.
  CHECK(leave(0) == 3);
  processes.end(slots[1]);
  processes.end(slots[2]);
  REQUIRE(processes.table.clean_up(processes.deadline) == Status::kOk);
  CHECK(in_use == 0);
}

TEST_CASE("the dead are found behind slots that were left, and their counts are kept") {
  Table processes;
  ProcessSlot* const left = processes.claim();
  ProcessSlot* const dead = processes.claim();
  processes.end(dead);
  dead->counters.hits = 7;
  dead->pins[3] = 4096;
  REQUIRE(processes.table.give_back(processes.deadline, left) == Status::kOk);
  CHECK(processes.table.sum().hits == 7);
  REQUIRE(processes.table.clean_up(processes.deadline) == Status::kOk);
  CHECK(dead->pid == 0);
  CHECK(dead->pins[3] == 0);
  CHECK(processes.header().dead_processes == 1);
  CHECK(processes.table.sum().hits == 7);
}

TEST_CASE("whoever finds the table full takes the place of a dead process, and is refused if all are alive") {
  Table processes;
  ProcessSlot* first = nullptr;
  for (std::uint32_t i = 0; i < processes.geometry().process_slots; ++i) {
    ProcessSlot* const slot = processes.claim();
    if (first == nullptr) first = slot;
  }
  ProcessSlot* claimed = nullptr;
  CHECK(processes.table.claim(processes.deadline, &claimed) == Status::kProcessTableFull);
  processes.end(first);
  first->pins[7] = 4096;
  first->pins_used = 8;
  CHECK(processes.claim() == first);
  CHECK(first->pins[7] == 0);
  CHECK(first->pins_used == 0);
}

TEST_CASE("a table that stays locked beyond the deadline is busy to whoever comes, goes, or cleans up") {
  Table processes;
  ProcessSlot* const slot = processes.claim();
  pthread_mutex_t& mutex = processes.header().registry_mutex;
  const Deadline now{std::chrono::milliseconds(0)};
  std::atomic<int> stage = 0;
  std::thread holder([&] {
    ::pthread_mutex_lock(&mutex);
    stage = 1;
    while (stage != 2) std::this_thread::yield();
    ::pthread_mutex_unlock(&mutex);
  });
  while (stage != 1) std::this_thread::yield();
  ProcessSlot* claimed = nullptr;
  CHECK(processes.table.claim(now, &claimed) == Status::kBusy);
  CHECK(processes.table.clean_up(now) == Status::kBusy);
  CHECK(processes.table.give_back(now, slot) == Status::kBusy);
  stage = 2;
  holder.join();
  CHECK(slot->pid != 0);
  CHECK(claimed == nullptr);
}

TEST_CASE("a live process keeps its slot, whatever its pid and start time say") {
  Table processes;
  ProcessSlot* const live = processes.claim();
  live->pid = kDeadPid;
  --live->start_time;
  REQUIRE(processes.table.clean_up(processes.deadline) == Status::kOk);
  CHECK(live->pid == kDeadPid);
  CHECK(processes.table.owner_is_alive(processes.table.lease_owner_of(live)));
  CHECK(processes.header().dead_processes == 0);
}

TEST_CASE("a process whose pid another one has by now is gone") {
  Table processes;
  ProcessSlot* const dead = processes.claim();
  processes.end(dead);
  CHECK(dead->pid == static_cast<std::uint32_t>(::getpid()));
  CHECK_FALSE(processes.table.owner_is_alive(processes.table.lease_owner_of(dead)));
  REQUIRE(processes.table.clean_up(processes.deadline) == Status::kOk);
  CHECK(dead->pid == 0);
}

TEST_CASE("a slot that looks free while its process lives is nobody else's") {
  Table processes;
  ProcessSlot* const live = processes.claim();
  live->pid = 0;
  CHECK(processes.claim() == live + 1);
}

TEST_CASE("what a program held before exec() is free when the next program of the process comes") {
  Table processes;
  ProcessSlot* const former = processes.claim();
  former->pins[2] = 4096;
  former->pins_used = 3;
  ++former->image;
  CHECK(processes.claim() == former);
  CHECK(former->pins[2] == 0);
  CHECK(processes.marks.is_own(0));
  CHECK(processes.header().dead_processes == 1);
  // And what another process held before is its own: the kernel keeps who set the mark.
  const Complaint complaint = in_child([&]() -> Complaint {
    former->pid = static_cast<std::uint32_t>(::getpid());
    ++former->image;
    return processes.claim() == former + 1 ? "" : "the slot of another process was taken";
  });
  CHECK(complaint == "");
}

TEST_CASE("without its semaphores nobody is known to be dead, and nobody enters") {
  Table processes;
  ProcessSlot* const slot = processes.claim();
  processes.marks.remove();
  CHECK_FALSE(processes.marks.exist());
  REQUIRE(processes.table.clean_up(processes.deadline) == Status::kOk);
  CHECK(slot->pid != 0);
  CHECK(processes.table.owner_is_alive(processes.table.lease_owner_of(slot)));
  ProcessSlot* claimed = nullptr;
  CHECK(processes.table.claim(processes.deadline, &claimed) == Status::kCorrupt);
  CHECK(claimed == nullptr);
  CHECK_MESSAGE(std::string(last_error()).find("RemoveIPC") != std::string::npos, last_error());
  bool is_marked = true;
  CHECK(processes.table.arrive(processes.deadline, &is_marked) == Status::kCorrupt);
  CHECK_FALSE(is_marked);
}

TEST_CASE("a slot whose first process has only said its pid is looked at") {
  Table processes;
  processes.process_slot(0).pid = kDeadPid;
  CHECK(processes.table.used().size() == 1);
  REQUIRE(processes.table.clean_up(processes.deadline) == Status::kOk);
  CHECK(processes.process_slot(0).pid == 0);
}

TEST_CASE("all slots are looked at when all were taken") {
  Table processes;
  for (std::uint32_t i = 0; i < processes.geometry().process_slots; ++i) processes.end(processes.claim());
  CHECK(processes.table.used().size() == processes.geometry().process_slots);
  CHECK(processes.claim() == &processes.process_slot(0));
  CHECK(processes.header().dead_processes == processes.geometry().process_slots);
}

}  // namespace
}  // namespace memstream::test
