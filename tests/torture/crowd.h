// Eight processes that read and write one cache, and a log outside the segment of what each was told is stored.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <random>

#include "tests/torture/cache_under_test.h"

namespace memstream::torture {

// A forked process; killed in the destructor.
class Process {
 public:
  template <class Body>
  explicit Process(Body body) : process_id_(begin()) {
    if (process_id_ != 0) return;
    end_with(body);
  }
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  ~Process();

  void send(int signal) const;
  // SIGKILL, and waits until the kernel has let go of its locks. Throws Finding if it had ended by itself.
  void kill();
  // Waits for its end. False if it was killed; throws Finding if its body did.
  bool wait();

 private:
  static pid_t begin();
  template <class Body>
  [[noreturn]] static void end_with(Body body) {
    try {
      body();
    } catch (const std::exception& error) {
      complain(error.what());
    }
    leave();
  }
  [[noreturn]] static void complain(const char* what);
  [[noreturn]] static void leave();

  pid_t process_id_;
};

class Crowd {
 public:
  static constexpr std::size_t kProcesses = 8;
  static constexpr std::size_t kKeys = 16;  // Of each process; nobody else writes them.

  Crowd(const Place& place, std::uint64_t seed);
  Crowd(const Crowd&) = delete;
  Crowd& operator=(const Crowd&) = delete;
  ~Crowd();

  Process& process(std::size_t index) { return processes_[index]; }
  // In place of one that was killed.
  void replace(std::size_t index);

  // Compares what `cache` has of the process's keys with its log: every version that it was told of or a later one,
  // whole. Returns the number of writes that were lost. Throws Finding for a value that nobody wrote.
  std::uint64_t audit(CacheUnderTest& cache, std::size_t index) const;

 private:
  // Versions of one key: the last that was begun, and the last that the library said is stored.
  struct Note {
    std::atomic<std::uint64_t> begun;
    std::atomic<std::uint64_t> stored;
  };
  using Log = std::array<std::array<Note, kKeys>, kProcesses>;

  Process start(std::size_t index);
  void work(std::size_t index, std::uint64_t seed) const;

  Place place_;
  std::mt19937_64 random_;
  Log* log_;
  std::vector<Process> processes_;
};

}  // namespace memstream::torture
