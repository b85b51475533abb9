// The operations that `step` walks through, each with the state of the cache that it begins in.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/torture/cache_under_test.h"
#include "tests/torture/segment_bytes.h"

namespace memstream::torture {

// What an operation works on. The peer makes it, children inherit it.
struct Scene {
  Scene(const Place& where, const Place& elsewhere)
      : place(where), other_place(elsewhere), cache(where), bytes(cache), looker(read_only(where)) {}

  Place place;        // Of `cache`.
  Place other_place;  // A name of its own for operations that create or destroy.
  CacheUnderTest cache;
  SegmentBytes bytes;
  CacheUnderTest looker;  // Takes no lock, waits for nobody.
};

using Action = std::function<void(Scene&)>;

struct Operation {
  std::string name;
  std::string description;
  Action prepare;       // By the peer, once.
  Action run;           // In the child, stepped.
  Action begin = {};    // In the child, before; enters the process table unless told otherwise.
  Action settle = {};   // By the peer, after each death; nothing unless told otherwise.
  bool evicts = false;  // Committed keys may go to make room.
};

const std::vector<Operation>& operations();

}  // namespace memstream::torture
