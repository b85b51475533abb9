// Histories whose verdict is known, and random small ones whose verdict a search through all orders gives.
#include "tests/histories/linearizability.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace memstream::histories {
namespace {

constexpr Value kA = make_value(Origin::kBytes, 1);
constexpr Value kB = make_value(Origin::kBytes, 2);
constexpr Value kTen = make_value(Origin::kNumber, 10);
constexpr Value kTwenty = make_value(Origin::kNumber, 20);

// ---- writing histories down; instants are chosen by hand ----

struct Span {
  std::uint64_t invoked;
  std::uint64_t returned;  // 0: never.
};

Operation read(Span span, Value result) {
  return {.invoked = span.invoked,
          .returned = span.returned,
          .outcome = result == kAbsent ? Outcome::kMiss : Outcome::kOk,
          .result = result};
}

Operation write(Span span, Call call, Value argument, Outcome outcome = Outcome::kOk, Value expected = kAbsent) {
  return {.invoked = span.invoked,
          .returned = span.returned,
          .call = call,
          .outcome = span.returned == 0 ? Outcome::kUnknown : outcome,
          .argument = argument,
          .expected = expected};
}

Operation set(Span span, Value argument) { return write(span, Call::kSet, argument); }

Operation remove(Span span, Outcome outcome = Outcome::kOk) { return write(span, Call::kDelete, kAbsent, outcome); }

Operation cas(Span span, Value expected, Value argument, Outcome outcome = Outcome::kOk) {
  return write(span, Call::kCompareAndSet, argument, outcome, expected);
}

Operation increment(Span span, Value result, Value begins = kAbsent) {
  Operation operation = write(span, Call::kIncrement, begins, result == kAbsent ? Outcome::kMiss : Outcome::kOk);
  operation.result = result;
  return operation;
}

bool is_linearizable(const History& history, bool evicts = false) {
  const Judgement judgement = check_key(history, {.evicts = evicts});
  REQUIRE(judgement.verdict != Verdict::kUndecided);
  CHECK(judgement.explanation.empty() == (judgement.verdict == Verdict::kLinearizable));
  return judgement.verdict == Verdict::kLinearizable;
}

// ---- one after the other ----

TEST_CASE("operations one after the other must give what a cache gives") {
  CHECK(is_linearizable({}));
  CHECK(is_linearizable({read({1, 2}, kAbsent), set({3, 4}, kA), read({5, 6}, kA), remove({7, 8}),
                         read({9, 10}, kAbsent), remove({11, 12}, Outcome::kMiss)}));
  CHECK_FALSE(is_linearizable({set({1, 2}, kA), read({3, 4}, kAbsent)}));
  CHECK_FALSE(is_linearizable({set({1, 2}, kA), set({3, 4}, kB), read({5, 6}, kA)}));
  CHECK_FALSE(is_linearizable({read({1, 2}, kA), set({3, 4}, kA)}));
  CHECK_FALSE(is_linearizable({set({1, 2}, kA), remove({3, 4}), read({5, 6}, kA)}));
  CHECK_FALSE(is_linearizable({set({1, 2}, kA), remove({3, 4}, Outcome::kMiss)}));
}

TEST_CASE("add and replace depend on whether the key is there") {
  CHECK(is_linearizable({write({1, 2}, Call::kAdd, kA), write({3, 4}, Call::kAdd, kB, Outcome::kExists),
                         write({5, 6}, Call::kReplace, kB), read({7, 8}, kB)}));
  CHECK(is_linearizable({write({1, 2}, Call::kReplace, kA, Outcome::kMiss), read({3, 4}, kAbsent)}));
  CHECK_FALSE(is_linearizable({write({1, 2}, Call::kAdd, kA, Outcome::kExists)}));
  CHECK_FALSE(is_linearizable({set({1, 2}, kA), write({3, 4}, Call::kAdd, kB)}));
  CHECK_FALSE(is_linearizable({write({1, 2}, Call::kReplace, kA)}));
  CHECK_FALSE(is_linearizable({set({1, 2}, kA), write({3, 4}, Call::kReplace, kB, Outcome::kMiss)}));
}

TEST_CASE("a compare-and-set succeeds on the write that its token came from and on no other") {
  CHECK(is_linearizable({set({1, 2}, kA), cas({3, 4}, kA, kB), cas({5, 6}, kA, kTen, Outcome::kConflict),
                         remove({7, 8}), cas({9, 10}, kB, kTen, Outcome::kMiss)}));
  CHECK_FALSE(is_linearizable({set({1, 2}, kA), set({3, 4}, kB), cas({5, 6}, kA, kTen)}));
  CHECK_FALSE(is_linearizable({set({1, 2}, kA), cas({3, 4}, kA, kB, Outcome::kConflict)}));
  CHECK_FALSE(is_linearizable({cas({1, 2}, kA, kB, Outcome::kConflict)}));
  // Both at once from one token: one of them must have failed.
  CHECK_FALSE(is_linearizable({set({1, 2}, kA), cas({3, 6}, kA, kB), cas({4, 5}, kA, kTen)}));
}

TEST_CASE("increments count, and only numbers") {
  CHECK(is_linearizable({set({1, 2}, kTen), increment({3, 4}, kTen + 1), increment({5, 6}, kTen + 2)}));
  CHECK(is_linearizable({increment({1, 2}, kAbsent), increment({3, 4}, kTen + 1, kTen), read({5, 6}, kTen + 1)}));
  CHECK(is_linearizable({set({1, 2}, kA), write({3, 4}, Call::kIncrement, kAbsent, Outcome::kNotNumeric)}));
  CHECK_FALSE(is_linearizable({set({1, 2}, kTen), write({3, 4}, Call::kIncrement, kAbsent, Outcome::kNotNumeric)}));
  CHECK_FALSE(is_linearizable({set({1, 2}, kA), increment({3, 4}, kA + 1)}));
  // A lost update: both were told the same sum.
  CHECK_FALSE(is_linearizable({set({1, 2}, kTen), increment({3, 6}, kTen + 1), increment({4, 5}, kTen + 1)}));
  CHECK_FALSE(is_linearizable({set({1, 2}, kTen), increment({3, 4}, kAbsent)}));
  CHECK_FALSE(is_linearizable({increment({1, 2}, kAbsent, kTen)}));
}

TEST_CASE("touch tells whether the key is there and changes nothing") {
  CHECK(is_linearizable({set({1, 2}, kA), write({3, 4}, Call::kTouch, kAbsent), cas({5, 6}, kA, kB)}));
  CHECK(is_linearizable({write({1, 2}, Call::kTouch, kAbsent, Outcome::kMiss)}));
  CHECK_FALSE(is_linearizable({write({1, 2}, Call::kTouch, kAbsent)}));
  CHECK_FALSE(is_linearizable({set({1, 2}, kA), write({3, 4}, Call::kTouch, kAbsent, Outcome::kMiss)}));
}

// ---- at once ----

TEST_CASE("operations that overlap may take effect in any order, but in one order for all") {
  CHECK(is_linearizable({set({1, 10}, kA), read({2, 3}, kAbsent), read({4, 5}, kA)}));
  CHECK(is_linearizable({set({1, 4}, kA), set({2, 3}, kB), read({5, 6}, kA)}));
  CHECK(is_linearizable({set({1, 4}, kA), set({2, 3}, kB), read({5, 6}, kB)}));
  // New and then old again.
  CHECK_FALSE(is_linearizable({set({1, 10}, kA), read({2, 3}, kA), read({4, 5}, kAbsent)}));
  // Two readers that saw the two writes in different orders.
  CHECK_FALSE(
      is_linearizable({set({1, 20}, kA), set({2, 19}, kB), read({3, 4}, kA), read({5, 6}, kB), read({7, 8}, kA)}));
}

// ---- with deaths ----

TEST_CASE("an operation whose client was killed took effect at any time after its beginning, or never") {
  CHECK(is_linearizable({set({1, 0}, kA), read({2, 3}, kAbsent)}));
  CHECK(is_linearizable({set({1, 0}, kA), read({2, 3}, kA)}));
  CHECK(is_linearizable({set({1, 0}, kA), set({2, 3}, kB), read({4, 5}, kB), read({6, 7}, kA)}));
  CHECK(is_linearizable({set({1, 2}, kA), remove({3, 0}), read({4, 5}, kAbsent)}));
  CHECK(is_linearizable({set({1, 2}, kTen), increment({3, 0}, kAbsent), increment({4, 5}, kTen + 2)}));
  CHECK(is_linearizable({set({1, 2}, kA), cas({3, 0}, kA, kB), read({4, 5}, kB)}));
  CHECK(is_linearizable({set({1, 2}, kB), cas({3, 0}, kA, kTen), read({4, 5}, kB)}));
  // Once, and not undone, and not before it began.
  CHECK_FALSE(is_linearizable({set({1, 0}, kA), read({2, 3}, kA), read({4, 5}, kAbsent)}));
  CHECK_FALSE(
      is_linearizable({set({1, 0}, kA), read({2, 3}, kA), set({4, 5}, kB), read({6, 7}, kB), read({8, 9}, kA)}));
  CHECK_FALSE(is_linearizable({read({1, 2}, kA), set({3, 0}, kA)}));
  CHECK_FALSE(is_linearizable({set({1, 2}, kTen), increment({3, 0}, kAbsent), increment({4, 5}, kTen + 3)}));
  CHECK_FALSE(is_linearizable({set({1, 2}, kB), cas({3, 0}, kA, kTen), read({4, 5}, kTen)}));
}

// ---- with eviction ----

TEST_CASE("in a cache that evicts a key may vanish, and stays away until it is written again") {
  const History vanished = {set({1, 2}, kA), read({3, 4}, kAbsent), write({5, 6}, Call::kAdd, kB)};
  CHECK(is_linearizable(vanished, true));
  CHECK_FALSE(is_linearizable(vanished, false));
  CHECK(is_linearizable({set({1, 2}, kA), write({3, 4}, Call::kAdd, kB), read({5, 6}, kB)}, true));
  CHECK(is_linearizable({set({1, 2}, kA), increment({3, 4}, kTen + 1, kTen)}, true));
  CHECK_FALSE(is_linearizable({set({1, 2}, kA), read({3, 4}, kAbsent), read({5, 6}, kA)}, true));
  CHECK_FALSE(is_linearizable({set({1, 2}, kA), set({3, 4}, kB), read({5, 6}, kA)}, true));
  CHECK_FALSE(is_linearizable({set({1, 2}, kA), read({3, 4}, kAbsent), cas({5, 6}, kA, kB)}, true));
  const History refused = {set({1, 2}, kA), write({3, 4}, Call::kSet, kB, Outcome::kRefused), read({5, 6}, kA)};
  CHECK(is_linearizable(refused, true));
}

// ---- tokens ----

Operation with_token(Operation operation, std::uint64_t token) {
  operation.token = token;
  return operation;
}

Operation token_only(Span span, std::uint64_t token) {
  return {.invoked = span.invoked, .returned = span.returned, .outcome = Outcome::kOk, .token = token};
}

TEST_CASE("a read of the token alone counts as a read of the value that the token belongs to") {
  History history = {set({1, 2}, kA), with_token(read({3, 4}, kA), 77), set({5, 6}, kB), token_only({7, 8}, 77)};
  CHECK(is_linearizable(history));  // A token that nothing explains: some value is there.
  CHECK(resolve_tokens(history) == "");
  CHECK_FALSE(is_linearizable(history));
  CHECK_FALSE(is_linearizable({token_only({1, 2}, 77)}));
}

TEST_CASE("two writes with one token, and one write with two tokens, are found") {
  History one_token = {with_token(read({1, 2}, kA), 77), with_token(read({3, 4}, kB), 77)};
  CHECK(resolve_tokens(one_token).find("have one token") != std::string::npos);
  History two_tokens = {with_token(read({1, 2}, kA), 77), with_token(read({3, 4}, kA), 78)};
  CHECK(resolve_tokens(two_tokens).find("has the tokens") != std::string::npos);
  CHECK(check_history(one_token, 1, {}).verdict == Verdict::kNot);
}

TEST_CASE("a history of several keys is judged key by key") {
  Operation other = read({3, 4}, kAbsent);
  other.key = 1;
  CHECK(check_history({set({1, 2}, kA), other}, 2, {}).verdict == Verdict::kLinearizable);
  other.key = 0;
  const Judgement judgement = check_history({set({1, 2}, kA), other}, 2, {});
  CHECK(judgement.verdict == Verdict::kNot);
  CHECK(judgement.explanation.find("key 0") != std::string::npos);
  CHECK(judgement.explanation.find(describe(other)) != std::string::npos);
}

TEST_CASE("a search that would take too long says that it did not decide") {
  History history;
  for (std::uint32_t i = 0; i < 12; ++i) history.push_back(set({1 + i, 100 + i}, make_value(Origin::kBytes, 1 + i)));
  history.push_back(read({200, 201}, kTen));  // No order ends with it, so that all are tried.
  CHECK(check_key(history, {.most_configurations = 100}).verdict == Verdict::kUndecided);
  CHECK(check_key(history, {}).verdict == Verdict::kNot);
}

// ---- against a search through all orders ----

// A cache with one key, as simple as can be: what `operation` comes to, and the value after it.
Operation performed(Operation operation, Value& state) {
  const bool present = state != kAbsent;
  operation.outcome = present ? Outcome::kOk : Outcome::kMiss;
  operation.result = kAbsent;
  switch (operation.call) {
    case Call::kRead:
      operation.result = state;
      break;
    case Call::kSet:
      operation.outcome = Outcome::kOk;
      state = operation.argument;
      break;
    case Call::kAdd:
      operation.outcome = present ? Outcome::kExists : Outcome::kOk;
      if (!present) state = operation.argument;
      break;
    case Call::kReplace:
      if (present) state = operation.argument;
      break;
    case Call::kCompareAndSet:
      if (present && state != operation.expected) operation.outcome = Outcome::kConflict;
      if (operation.outcome == Outcome::kOk) state = operation.argument;
      break;
    case Call::kDelete:
      state = kAbsent;
      break;
    case Call::kTouch:
      break;
    case Call::kIncrement:
      if (present && !is_number(state)) operation.outcome = Outcome::kNotNumeric;
      if (!present && operation.argument != kAbsent) operation.outcome = Outcome::kOk;
      if (operation.outcome == Outcome::kOk) operation.result = state = (present ? state : operation.argument) + 1;
      break;
  }
  return operation;
}

// Whether some order of the operations, those without a return in it or not, gives every outcome.
bool some_order_explains(const History& history) {
  std::vector<std::size_t> order(history.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto explains = [&](unsigned left_out) {
    Value state = kAbsent;
    std::uint64_t latest = 0;  // Beginning of an operation that is already in the order.
    for (const std::size_t index : order) {
      const Operation& operation = history[index];
      if (operation.returned == 0 && (left_out >> index & 1) != 0) continue;
      if (operation.returned != 0 && operation.returned < latest) return false;
      latest = std::max(latest, operation.invoked);
      const Operation result = performed(operation, state);
      if (operation.returned != 0 && (result.outcome != operation.outcome || result.result != operation.result)) {
        return false;
      }
    }
    return true;
  };
  do {
    for (unsigned left_out = 0; left_out < 1U << history.size(); ++left_out) {
      if (explains(left_out)) return true;
    }
  } while (std::next_permutation(order.begin(), order.end()));
  return false;
}

TEST_CASE("random small histories get the verdict that a search through all orders gives") {
  constexpr std::size_t kOperations = 5;
  constexpr Value kValues[] = {kA, kB, kTen, kTwenty};
  std::mt19937 random(1);
  const auto below = [&](std::uint32_t limit) { return static_cast<std::uint32_t>(random() % limit); };
  int linearizable = 0;
  int others = 0;
  for (int round = 0; round < 3000; ++round) {
    CAPTURE(round);
    std::vector<std::uint64_t> instants(2 * kOperations);
    std::iota(instants.begin(), instants.end(), std::uint64_t{1});
    std::shuffle(instants.begin(), instants.end(), random);
    History history;
    Value state = kAbsent;
    for (std::size_t i = 0; i < kOperations; ++i) {
      Operation operation{.invoked = std::min(instants[2 * i], instants[2 * i + 1]),
                          .returned = std::max(instants[2 * i], instants[2 * i + 1]),
                          .call = static_cast<Call>(below(8)),
                          .argument = kValues[below(4)],
                          .expected = kValues[below(4)]};
      if (operation.call == Call::kIncrement && below(2) == 0) operation.argument = kAbsent;
      // Outcomes of an order that is not the one in time: some histories are linearizable, some are not.
      operation = performed(operation, state);
      if (below(6) == 0) operation.returned = 0;
      if (operation.returned == 0) operation.outcome = Outcome::kUnknown;
      history.push_back(operation);
    }
    const bool expected = some_order_explains(history);
    ++(expected ? linearizable : others);
    CHECK(is_linearizable(history) == expected);
  }
  CHECK(linearizable > 300);
  CHECK(others > 300);
}

}  // namespace
}  // namespace memstream::histories
