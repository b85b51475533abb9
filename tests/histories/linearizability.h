// Decides whether a history of one key is linearizable: whether its operations can be put in one order that respects
// real time and in which each of them gave what a cache with this one key would have given.
//
// The method is that of Wing and Gong, with Lowe's memory of the configurations that were met already. A cache is
// linearizable if each of its keys is, so that histories are checked key by key.
#pragma once

#include <cstdint>
#include <string>

#include "tests/histories/history.h"

namespace memstream::histories {

enum class Verdict : std::uint8_t {
  kLinearizable,
  kNot,
  kUndecided,  // More configurations than the search may visit.
};

struct Judgement {
  Verdict verdict = Verdict::kLinearizable;
  std::uint64_t configurations = 0;  // Visited.
  std::string explanation;           // If not linearizable: the operations around the point that nothing explains.
};

struct CheckOptions {
  bool evicts = false;  // The key may vanish at any moment, as in a cache that is too small.
  std::uint64_t most_configurations = 4'000'000;
};

// Checks the operations of one key, in any order. REQUIRES: all have the same key.
Judgement check_key(const History& operations, const CheckOptions& options);

// Gives reads that tell only a token the value it belongs to, where another read tells both. Empty, or what is wrong:
// one value with two tokens, or one token with two values. REQUIRES: as check_key().
std::string resolve_tokens(History& operations);

// Splits the history by key, resolves the tokens and checks every key; stops at the first that is not linearizable.
Judgement check_history(const History& operations, std::uint32_t keys, const CheckOptions& options);

// One line about an operation.
std::string describe(const Operation& operation);

}  // namespace memstream::histories
