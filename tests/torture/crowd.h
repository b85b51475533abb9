// Eight processes that work on one cache with every operation there is.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <random>
#include <vector>

#include "tests/torture/cache_under_test.h"
#include "tests/torture/ledger.h"
#include "tests/torture/process.h"

namespace memstream::torture {

class Crowd {
 public:
  Crowd(const Place& place, const Load& load, std::uint64_t seed);

  const Ledger& ledger() const { return ledger_; }
  Process& process(std::size_t index) { return processes_[index]; }
  // Which of them has that id.
  std::optional<std::size_t> index_of(pid_t process_id) const;

  // Reads every key of a process through `cache`, and compares with what it was told. Throws Finding.
  void audit(CacheUnderTest& cache, std::size_t index) const;
  // The same for one that was killed, and puts a new process in its place.
  void replace(CacheUnderTest& cache, std::size_t index);

 private:
  Process start(std::size_t index);

  Place place_;
  std::mt19937_64 random_;
  Ledger ledger_;
  std::vector<Process> processes_;
};

}  // namespace memstream::torture
