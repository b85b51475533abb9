// Several threads and processes at once on one name: who initialises, who waits, what becomes of the work of the dead.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/backend_kinds.h"
#include "tests/support/child_process.h"
#include "tests/support/expectations.h"
#include "tests/support/scale.h"

namespace memstream::test {
namespace {

using std::chrono::milliseconds;

// Backends whose segments other processes see; the bodies with threads run in memory, too.
#define SYSTEM_BACKENDS Posix, SysV
#define EVERY_BACKEND Posix, SysV, InMemory

constexpr int kProcesses = 8;

// Opens the segment, and complains unless it is ready and initialised exactly once.
template <class Kind>
Complaint open_and_check(NamedBackend<Kind>& named, std::unique_ptr<Segment>* segment) {
  if (named.backend->open(named.spec, named.initializer, segment) != Status::kOk) return last_error();
  const TestHeader& header = header_of(**segment);
  if (header.state != kTestReady) return "state " + std::to_string(header.state);
  if (header.initializations != 1) return std::to_string(header.initializations) + " initialisations";
  return "";
}

// Processes that create one name at the same time. Process i asks for `modes[i % 2]`. Each must get the one segment.
template <class Kind>
void create_together(const unsigned (&modes)[2]) {
  NamedBackend<Kind> named;
  named.spec.timeout = milliseconds(60'000);
  Signal start;
  std::vector<std::unique_ptr<ChildProcess>> processes;
  for (int i = 0; i < kProcesses; ++i) {
    processes.push_back(std::make_unique<ChildProcess>([&, i]() -> Complaint {
      named.spec.mode = modes[i % 2];
      start.wait();
      std::unique_ptr<Segment> segment;
      const Complaint complaint = open_and_check(named, &segment);
      if (complaint.empty()) ++header_of(*segment).token;
      return complaint;
    }));
  }
  start.post(kProcesses);
  for (const auto& process : processes) CHECK(process->wait() == "");
  const auto segment = named.open();
  CHECK(header_of(*segment).token == kProcesses);
  CHECK(header_of(*segment).initializations == 1);
}

TEST_CASE_TEMPLATE("of processes that create a name at once one initialises, and all have its segment", Kind,
                   SYSTEM_BACKENDS) {
  for (int round = 0; round < scaled(50); ++round) {
    CAPTURE(round);
    create_together<Kind>({0600, 0600});
  }
}

TEST_CASE_TEMPLATE("processes of one user that want different modes make one segment", Kind, SYSTEM_BACKENDS) {
  for (int round = 0; round < scaled(20); ++round) {
    CAPTURE(round);
    create_together<Kind>({0600, 0660});
  }
}

TEST_CASE_TEMPLATE("of threads that create a name at once one initialises", Kind, EVERY_BACKEND) {
  for (int round = 0; round < scaled(20); ++round) {
    NamedBackend<Kind> named;
    named.spec.timeout = milliseconds(60'000);
    std::atomic<int> failures = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < kProcesses; ++i) {
      threads.emplace_back([&] {
        std::unique_ptr<Segment> segment;
        if (!open_and_check(named, &segment).empty()) ++failures;
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(failures == 0);
    CHECK(named.initializer.initializations() == 1);
  }
}

TEST_CASE_TEMPLATE("who waits for a creator gives up at the deadline, and takes nothing away from it", Kind,
                   EVERY_BACKEND) {
  NamedBackend<Kind> named;
  std::atomic<bool> has_begun = false;
  std::atomic<bool> may_end = false;
  TestInitializer slow(named.spec.name, [&](TestHeader&) {
    has_begun = true;
    while (!may_end) std::this_thread::yield();
    return Status::kOk;
  });
  std::unique_ptr<Segment> created;
  std::thread creator([&] { (void)named.backend->open(named.spec, slow, &created); });
  while (!has_begun) std::this_thread::yield();

  named.spec.timeout = milliseconds(30);
  const auto begin = std::chrono::steady_clock::now();
  CHECK(named.try_open() == Status::kBusy);
  CHECK(std::chrono::steady_clock::now() - begin >= milliseconds(30));
  CHECK(message_has(named.spec.name));
  named.spec.timeout = milliseconds(0);
  CHECK(named.try_open() == Status::kBusy);
  CHECK(named.remove() == Status::kBusy);
  CHECK(named.try_attach() == Status::kNoSegment);

  may_end = true;
  creator.join();
  REQUIRE(created != nullptr);
  header_of(*created).token = 1;
  CHECK(header_of(*named.open()).token == 1);
  CHECK(named.initializer.initializations() == 0);
}

TEST_CASE_TEMPLATE("who waited for a segment that was removed meanwhile gets a new one with a name", Kind,
                   EVERY_BACKEND) {
  NamedBackend<Kind> named;
  named.spec.timeout = milliseconds(60'000);
  std::atomic<bool> has_begun = false;
  TestInitializer failing(named.spec.name, [&](TestHeader&) {
    has_begun = true;
    std::this_thread::sleep_for(milliseconds(50));  // Time for the others to come and wait.
    return fail(Status::kNoMemory, "the creator gives up");
  });
  std::thread creator([&] {
    std::unique_ptr<Segment> segment;
    (void)named.backend->open(named.spec, failing, &segment);
  });
  while (!has_begun) std::this_thread::yield();
  std::vector<std::unique_ptr<Segment>> segments(4);
  std::vector<std::thread> waiters;
  for (auto& segment : segments) {
    waiters.emplace_back([&named, &segment] { (void)named.backend->open(named.spec, named.initializer, &segment); });
  }
  creator.join();
  for (std::thread& waiter : waiters) waiter.join();

  CHECK(named.initializer.initializations() == 1);
  const auto found = named.open();
  header_of(*found).token = 8;
  for (const auto& segment : segments) {
    REQUIRE(segment != nullptr);
    CHECK(header_of(*segment).token == 8);
  }
}

TEST_CASE_TEMPLATE("who waited for a replacement that is given up replaces the segment itself", Kind, SYSTEM_BACKENDS) {
  NamedBackend<Kind> named;
  named.spec.timeout = milliseconds(60'000);
  const auto current = named.open();
  std::atomic<bool> has_begun = false;
  Status first = Status::kOk;
  std::thread resizer([&] {
    TestInitializer initializer(named.spec.name);
    first = named.backend->replace(named.spec, initializer, *current, [&](Segment&) {
      has_begun = true;
      std::this_thread::sleep_for(milliseconds(50));  // Time for the other one to come and wait.
      return fail(Status::kNoMemory, "the first one gives up");
    });
  });
  while (!has_begun) std::this_thread::yield();
  const Status second = named.backend->replace(named.spec, named.initializer, *current, [&](Segment&) {
    return fail(Status::kBusy, "the second one had its turn");
  });
  CHECK(second == Status::kBusy);
  CHECK(message_has("the second one had its turn"));
  resizer.join();
  CHECK(first == Status::kNoMemory);

  // Without the name there is nothing that could be replaced.
  REQUIRE(named.remove() == Status::kOk);
  CHECK(named.backend->replace(named.spec, named.initializer, *current, [](Segment&) { return Status::kOk; }) ==
        Status::kNoSegment);
}

// A process that dies, or stops, in the middle of an initialisation.
template <class Kind>
struct CreatorHalfway {
  explicit CreatorHalfway(NamedBackend<Kind>& named)
      : process([&]() -> Complaint {
          TestInitializer initializer(named.spec.name, [&](TestHeader&) {
            is_halfway.post();
            may_go_on.wait();
            return Status::kOk;
          });
          std::unique_ptr<Segment> segment;
          return named.backend->open(named.spec, initializer, &segment) == Status::kOk ? "" : last_error();
        }) {
    is_halfway.wait();
  }
  Signal is_halfway;
  Signal may_go_on;
  ChildProcess process;
};

TEST_CASE_TEMPLATE("a creator killed halfway frees those who wait, and one of them finishes its work", Kind,
                   SYSTEM_BACKENDS) {
  NamedBackend<Kind> named;
  named.spec.timeout = milliseconds(60'000);
  CreatorHalfway<Kind> creator(named);
  std::vector<std::unique_ptr<ChildProcess>> waiters;
  for (int i = 0; i < kProcesses; ++i) {
    waiters.push_back(std::make_unique<ChildProcess>([&]() -> Complaint {
      named.spec.size_bytes = 2 * kMinSegmentSize;
      if (named.open()->size_bytes() != kMinSegmentSize) return "not initialised in place";
      ++header_of(*named.open()).token;
      return "";
    }));
  }
  std::this_thread::sleep_for(milliseconds(50));
  creator.process.send_signal(SIGKILL);
  CHECK(creator.process.wait() == "killed by signal 9");
  for (const auto& waiter : waiters) CHECK(waiter->wait() == "");
  const auto segment = named.open();
  CHECK(header_of(*segment).initializations == 2);
  CHECK(header_of(*segment).token == kProcesses);
}

TEST_CASE_TEMPLATE("what a killed creator left can be removed", Kind, SYSTEM_BACKENDS) {
  NamedBackend<Kind> named;
  {
    CreatorHalfway<Kind> creator(named);
    creator.process.send_signal(SIGKILL);
    CHECK(creator.process.wait() == "killed by signal 9");
  }
  CHECK(Kind::traces_of(named.spec.name) != "");
  CHECK(named.remove() == Status::kOk);
  CHECK(Kind::traces_of(named.spec.name) == "");
}

TEST_CASE_TEMPLATE("a stopped creator is not taken for a dead one", Kind, SYSTEM_BACKENDS) {
  NamedBackend<Kind> named;
  CreatorHalfway<Kind> creator(named);
  creator.process.send_signal(SIGSTOP);
  creator.may_go_on.post();
  named.spec.timeout = milliseconds(50);
  CHECK(named.try_open() == Status::kBusy);
  creator.process.send_signal(SIGCONT);
  CHECK(creator.process.wait() == "");
  CHECK(header_of(*named.open()).initializations == 1);
  CHECK(named.initializer.initializations() == 0);
}

TEST_CASE_TEMPLATE("creators killed at any moment leave what the next one can use", Kind, SYSTEM_BACKENDS) {
  for (int round = 0; round < scaled(200); ++round) {
    CAPTURE(round);
    NamedBackend<Kind> named;
    ChildProcess creator([&]() -> Complaint {
      while (named.try_open() == Status::kOk && named.remove() == Status::kOk) continue;
      return last_error();
    });
    std::this_thread::sleep_for(std::chrono::microseconds(200 + round * 37 % 1000));
    creator.send_signal(SIGKILL);
    CHECK(creator.wait() == "killed by signal 9");
    const auto segment = named.open();
    CHECK(header_of(*segment).state == kTestReady);
    REQUIRE(named.remove() == Status::kOk);
    CHECK(Kind::traces_of(named.spec.name) == "");
  }
}

TEST_CASE_TEMPLATE("while processes create and remove one name, none ever has a segment that was made twice", Kind,
                   SYSTEM_BACKENDS) {
  NamedBackend<Kind> named;
  named.spec.timeout = milliseconds(60'000);
  std::vector<std::unique_ptr<ChildProcess>> processes;
  for (int i = 0; i < 4; ++i) {
    processes.push_back(std::make_unique<ChildProcess>([&]() -> Complaint {
      for (int round = 0; round < scaled(500); ++round) {
        std::unique_ptr<Segment> segment;
        if (named.backend->open(named.spec, named.initializer, &segment) != Status::kOk) return last_error();
        if (header_of(*segment).initializations != 1) return "initialised more than once";
        const Status status = named.remove(segment.get());
        if (status != Status::kOk && status != Status::kNoSegment) return last_error();
        // Whoever removed it marked it first; a segment that has lost its name unmarked would strand its users.
        if (header_of(*segment).state != kTestDestroyed) return "lost its name without a mark";
      }
      return "";
    }));
  }
  for (const auto& process : processes) CHECK(process->wait() == "");
  CHECK(Kind::traces_of(named.spec.name) == "");
}

}  // namespace
}  // namespace memstream::test
