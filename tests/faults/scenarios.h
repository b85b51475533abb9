// What is done while something fails: the ways through the library, from the first call to the last.
#pragma once

#include <memory>
#include <string>

#include "tests/faults/journal.h"
#include "tests/support/test_cache.h"

namespace memstream::test {

struct Scenario {
  const char* name;
  // Whether somebody else has made the segment before, holds it open meanwhile, and goes on with it after.
  bool has_peer;
  // Done before, without faults; may be null. Throws if it fails. What it returns is destroyed after the run.
  std::shared_ptr<void> (*prepare)(const CacheSpec& spec);
  // An error that the calls may end in even without faults; 0: none.
  int expected_error;
  // REQUIRES: uses nothing of functions.h itself, and allocates nothing.
  void (*run)(Journal& journal, const CacheSpec& spec);
};

extern const Scenario kScenarios[];
extern const std::size_t kScenarioCount;

// What a peer does with the cache before and after; complains if anything is not as it should be.
std::string use_as_peer(memstream_t* cache);

}  // namespace memstream::test
