// Recording a history: a cache of its own, clients that are real processes, some of them killed at work, and a look at
// the cache when all are gone.
#pragma once

#include <cstdint>
#include <string>

#include "tests/histories/history.h"

namespace memstream::histories {

struct RecordingPlan {
  std::string backend;  // "sysv" or "posix".
  std::uint32_t clients = 8;
  std::uint32_t operations = 300;  // Of each client.
  std::uint32_t keys = 5;
  std::uint32_t most_deaths = 3;  // So many clients at most are killed at work.
  bool evicts = false;            // In a cache that is too small, instead of one that holds everything.
  std::uint64_t seed = 1;
};

struct Recording {
  History history;        // Ends with a read of every key by somebody who came last.
  std::string complaint;  // What went wrong apart from the order of things; empty if nothing did.
  std::uint64_t deaths = 0;
  std::uint64_t unknown = 0;  // Operations in which a client was killed.
  std::uint64_t recoveries = 0;
  std::uint64_t evictions = 0;
};

Recording record_history(const RecordingPlan& plan);

}  // namespace memstream::histories
