#include "tests/torture/crowd.h"

#include <algorithm>
#include <utility>

#include "tests/torture/worker.h"

namespace memstream::torture {

Crowd::Crowd(const Place& place, const Load& load, std::uint64_t seed) : place_(place), random_(seed), ledger_(load) {
  for (std::size_t index = 0; index < Ledger::kProcesses; ++index) processes_.push_back(start(index));
}

Process Crowd::start(std::size_t index) {
  return Process([this, index, seed = random_()] { Worker(place_, ledger_, index, seed).work(); });
}

std::optional<std::size_t> Crowd::index_of(pid_t process_id) const {
  const auto found = std::find_if(processes_.begin(), processes_.end(),
                                  [&](const Process& process) { return process.id() == process_id; });
  if (found == processes_.end()) return std::nullopt;
  return static_cast<std::size_t>(found - processes_.begin());
}

void Crowd::audit(CacheUnderTest& cache, std::size_t index) const {
  std::string value;
  for (std::size_t key = 0; key < ledger_.load().keys; ++key) {
    const std::uint64_t stored = ledger_.last_stored(index, key);
    const bool found = cache.get(Ledger::key(index, key), &value);
    ledger_.verify(index, key, stored, found ? std::optional<std::string>(value) : std::nullopt);
  }
}

void Crowd::replace(CacheUnderTest& cache, std::size_t index) {
  std::string value;
  for (std::size_t key = 0; key < ledger_.load().keys; ++key) {
    const bool found = cache.get(Ledger::key(index, key), &value);
    ledger_.settle(index, key, found ? std::optional<std::string>(value) : std::nullopt);
  }
  processes_[index] = start(index);
}

}  // namespace memstream::torture
