// What a name has in the operating system: shared memory, and on System V the semaphore that guards its creation.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <set>
#include <string>

#include "tests/torture/cache_under_test.h"

namespace memstream::torture {

struct Leftovers {
  std::size_t segments = 0;
  std::size_t semaphores = 0;
};

// `creators`: the processes that may have made segments. REQUIRES: nobody makes or removes that segment meanwhile.
Leftovers leftovers_of(const Place& place, const std::set<pid_t>& creators);

}  // namespace memstream::torture
