// The last error of a thread, and the sentences of the statuses.
#include "core/base/status.h"

#include <doctest/doctest.h>

#include <cerrno>
#include <set>
#include <string>
#include <thread>

namespace memstream::test {
namespace {

TEST_CASE("a failure returns its status and keeps its message for the thread that failed") {
  CHECK(fail(Status::kBadSize, "the size is wrong") == Status::kBadSize);
  CHECK(std::string(last_error()) == "the size is wrong");
  std::string in_thread = "not looked yet";
  std::thread([&] {
    in_thread = last_error();
    (void)fail(Status::kBusy, "another thread's");
  }).join();
  CHECK(in_thread == "");
  CHECK(std::string(last_error()) == "the size is wrong");
}

TEST_CASE("a failed system call is told with its call, segment, reason and remedy") {
  CHECK(fail_errno(Status::kNoMemory, "shmget", "orders", ENOSPC, "See ipcs -l.") == Status::kNoMemory);
  CHECK(std::string(last_error()) == "shmget of segment 'orders' failed: No space left on device. See ipcs -l.");
  (void)fail_errno(Status::kOsError, "shmget", "orders", 123456, "See ipcs -l.");
  CHECK(std::string(last_error()) == "shmget of segment 'orders' failed: unknown error. See ipcs -l.");
}

TEST_CASE("a message that is too long is cut and shows it") {
  const std::string longest(2047, 'x');
  (void)fail(Status::kInvalid, longest);
  CHECK(last_error() == longest);
  for (const std::string& too_long : {longest + "y", std::string(100'000, 'x')}) {
    (void)fail(Status::kInvalid, too_long);
    CHECK(last_error() == longest.substr(0, 2044) + "...");
    (void)fail_errno(Status::kInvalid, "call", too_long, ENOENT, "remedy");
    CHECK(std::string(last_error()).ends_with("x..."));
    CHECK(std::string(last_error()).size() == 2047);
  }
  (void)fail(Status::kInvalid, "short");
  CHECK(std::string(last_error()) == "short");
}

TEST_CASE("every status has a sentence of its own, and no other number has one") {
  const std::string unknown = status_sentence(static_cast<Status>(-1000));
  std::set<std::string> sentences;
  int statuses = 0;
  for (int number = -100; number <= 10; ++number) {
    const std::string sentence = status_sentence(static_cast<Status>(number));
    if (sentence == unknown) continue;
    ++statuses;
    CHECK(sentence.ends_with('.'));
    sentences.insert(sentence);
  }
  CHECK(statuses == 48);  // As many as core/base/status.h declares.
  CHECK(sentences.size() == 48);
}

}  // namespace
}  // namespace memstream::test
