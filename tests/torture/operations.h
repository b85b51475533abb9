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
  CacheUnderTest looker;      // Takes no lock, waits for nobody.
  std::string unsettled_key;  // A get without a lock cannot tell whether it is there; if the scene is about that.
};

using Action = std::function<void(Scene&)>;

// What an operation does to a key whose value is another one afterwards.
enum class Effect { kSets, kSetsIfUnchanged, kSetsIfAbsent, kSetsIfPresent, kIncrements, kRemoves };

struct Operation {
  std::string name;
  std::string description;
  Action prepare;      // By the peer, once.
  Action run;          // In the child, stepped.
  Action begin = {};   // In the child, before; enters the process table unless told otherwise.
  Action settle = {};  // By the peer, after each death; nothing unless told otherwise.
  Effect effect = Effect::kSets;
  bool evicts = false;       // Committed keys may go to make room.
  bool uses_other = false;   // Makes or unmakes the segment of other_place.
  bool finds_wreck = false;  // Begins with what a dead process left, which a peer at work would clear away before.
};

const std::vector<Operation>& operations();

}  // namespace memstream::torture
