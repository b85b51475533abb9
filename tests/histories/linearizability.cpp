#include "tests/histories/linearizability.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <unordered_set>

#include "core/layout/hash.h"

namespace memstream::histories {
namespace {

// ---- the model: a cache with one key ----

// The value after `operation` on a key whose value is `state`, nothing if it could not have come to this outcome.
std::optional<Value> apply(const Operation& operation, Value state) {
  if (operation.outcome == Outcome::kRefused) return state;
  const bool present = state != kAbsent;
  const auto given = [&](bool is_possible, Value next) { return is_possible ? std::optional(next) : std::nullopt; };
  if (operation.outcome == Outcome::kMiss) {
    const bool can_miss = operation.call != Call::kSet && operation.call != Call::kAdd &&
                          (operation.call != Call::kIncrement || operation.argument == kAbsent);
    return given(!present && can_miss, state);
  }
  const bool ok = operation.outcome == Outcome::kOk || operation.outcome == Outcome::kUnknown;
  switch (operation.call) {
    case Call::kRead:
      // Without a result it told a token that no other read explains: some value was there.
      return given(ok && present && (operation.result == kAbsent || operation.result == state), state);
    case Call::kSet:
      return given(ok, operation.argument);
    case Call::kAdd:
      return ok ? given(!present, operation.argument) : given(operation.outcome == Outcome::kExists && present, state);
    case Call::kReplace:
      return given(ok && present, operation.argument);
    case Call::kCompareAndSet:
      if (operation.outcome == Outcome::kConflict) return given(present && state != operation.expected, state);
      return given(ok && present && state == operation.expected, operation.argument);
    case Call::kDelete:
      return given(ok && present, kAbsent);
    case Call::kTouch:
      return given(ok && present, state);
    case Call::kIncrement:
      if (operation.outcome == Outcome::kNotNumeric) return given(present && !is_number(state), state);
      const Value next = (present ? state : operation.argument) + 1;
      const bool possible = present ? is_number(state) : operation.argument != kAbsent;
      return given(ok && possible && (operation.outcome == Outcome::kUnknown || operation.result == next), next);
  }
  return std::nullopt;
}

// ---- the search ----

// Which operations have been put in order, and the value after them: what Lowe's memory keeps.
struct Configuration {
  std::vector<std::uint64_t> done;
  Value state = kAbsent;

  bool operator==(const Configuration&) const = default;
};

struct HashOfConfiguration {
  std::size_t operator()(const Configuration& configuration) const noexcept {
    const std::uint64_t sum =
        hash_bytes(configuration.done.data(), configuration.done.size() * sizeof(configuration.done[0]));
    return sum ^ configuration.state * 0x9e37'79b9'7f4a'7c15ULL;
  }
};

constexpr std::uint32_t kNone = ~0U;

// The beginning or the end of an operation, in a list by time. An operation that was put in order leaves the list.
struct Moment {
  std::uint32_t operation = kNone;
  std::uint32_t end = kNone;  // Of a beginning: the moment of its end; kNone if it never returned.
  bool is_end = false;
  std::uint32_t previous = kNone;
  std::uint32_t next = kNone;
};

class Search {
 public:
  Search(const History& operations, const CheckOptions& options) : operations_(operations), options_(options) {
    build_list();
    current_.done.resize((operations.size() + 63) / 64);
  }

  Judgement run() {
    std::uint32_t moment = moments_[kHead].next;
    bool from_absent = false;  // Try the operation at `moment` on a key that has just been evicted.
    while (unexplained_ != 0) {
      if (moments_[moment].is_end) {
        // Nobody else can come first any more: the last choice was wrong.
        note_obstacle(moments_[moment].operation);
        if (choices_.empty()) return not_linearizable();
        const Choice last = choices_.back();
        choices_.pop_back();
        undo(last);
        moment = last.moment;
        from_absent = next_try(last.from_absent, &moment);
        continue;
      }
      if (take(moment, from_absent)) {
        if (seen_.size() > options_.most_configurations) return {Verdict::kUndecided, seen_.size(), ""};
        moment = moments_[kHead].next;
        from_absent = false;
      } else {
        from_absent = next_try(from_absent, &moment);
      }
    }
    return {Verdict::kLinearizable, seen_.size(), ""};
  }

 private:
  static constexpr std::uint32_t kHead = 0;

  struct Choice {
    std::uint32_t moment;
    Value state_before;
    bool from_absent;
  };

  void build_list() {
    std::vector<std::pair<std::uint64_t, std::uint32_t>> order;  // Instant, moment.
    moments_.emplace_back();
    const auto add = [&](std::uint64_t instant, const Moment& moment) {
      order.emplace_back(instant, static_cast<std::uint32_t>(moments_.size()));
      moments_.push_back(moment);
    };
    for (std::uint32_t i = 0; i < operations_.size(); ++i) {
      const bool returned = operations_[i].returned != 0;
      const auto end = static_cast<std::uint32_t>(moments_.size() + 1);
      add(operations_[i].invoked, {.operation = i, .end = returned ? end : kNone});
      if (!returned) continue;
      ++unexplained_;
      add(operations_[i].returned, {.operation = i, .is_end = true});
    }
    std::sort(order.begin(), order.end());
    std::uint32_t previous = kHead;
    for (const auto& [instant, moment] : order) {
      moments_[moment].previous = previous;
      moments_[previous].next = moment;
      previous = moment;
    }
  }

  // What to try after `from_absent` on `moment` led nowhere: the same operation on an evicted key, or the next moment.
  bool next_try(bool from_absent, std::uint32_t* moment) const {
    if (options_.evicts && !from_absent && current_.state != kAbsent) return true;
    *moment = moments_[*moment].next;
    return false;
  }

  // Puts the operation that begins at `moment` next in the order, if its outcome allows it and that leads to a
  // configuration that was not met before.
  bool take(std::uint32_t moment, bool from_absent) {
    const std::uint32_t operation = moments_[moment].operation;
    const std::optional<Value> next = apply(operations_[operation], from_absent ? kAbsent : current_.state);
    if (!next) return false;
    const Value before = current_.state;
    current_.done[operation / 64] ^= std::uint64_t{1} << operation % 64;
    current_.state = *next;
    if (!seen_.insert(current_).second) {
      current_.done[operation / 64] ^= std::uint64_t{1} << operation % 64;
      current_.state = before;
      return false;
    }
    choices_.push_back({moment, before, from_absent});
    unlink(moment);
    if (moments_[moment].end != kNone) {
      unlink(moments_[moment].end);
      --unexplained_;
    }
    return true;
  }

  void undo(const Choice& choice) {
    const Moment& begin = moments_[choice.moment];
    if (begin.end != kNone) {
      relink(begin.end);
      ++unexplained_;
    }
    relink(choice.moment);
    current_.done[begin.operation / 64] ^= std::uint64_t{1} << begin.operation % 64;
    current_.state = choice.state_before;
  }

  void unlink(std::uint32_t moment) {
    const Moment& gone = moments_[moment];
    moments_[gone.previous].next = gone.next;
    if (gone.next != kNone) moments_[gone.next].previous = gone.previous;
  }

  // The reverse of unlink(): its neighbours are what they were, since choices are undone last first.
  void relink(std::uint32_t moment) {
    const Moment& back = moments_[moment];
    moments_[back.previous].next = moment;
    if (back.next != kNone) moments_[back.next].previous = moment;
  }

  // The end that stopped the longest order so far: what the explanation shows.
  void note_obstacle(std::uint32_t operation) {
    if (choices_.size() < longest_order_) return;
    longest_order_ = choices_.size();
    obstacle_ = operation;
    state_at_obstacle_ = current_.state;
  }

  Judgement not_linearizable() const {
    constexpr std::size_t kShown = 24;
    const Operation& obstacle = operations_[obstacle_];
    std::vector<const Operation*> around;
    for (const Operation& operation : operations_) {
      if (operation.invoked <= obstacle.returned) around.push_back(&operation);
    }
    std::sort(around.begin(), around.end(), [](const auto* a, const auto* b) {
      return (a->returned == 0 ? a->invoked : a->returned) < (b->returned == 0 ? b->invoked : b->returned);
    });
    std::string text = fmt::format("key {}: nothing explains this operation; before it the value was {:#x}:\n  {}\n",
                                   obstacle.key, state_at_obstacle_, describe(obstacle));
    text += "the operations that ended last before, or never did:\n";
    const std::size_t first = around.size() > kShown ? around.size() - kShown : 0;
    for (std::size_t i = first; i < around.size(); ++i) text += "  " + describe(*around[i]) + '\n';
    return {Verdict::kNot, seen_.size(), text};
  }

  const History& operations_;
  const CheckOptions& options_;
  std::vector<Moment> moments_;
  std::vector<Choice> choices_;  // The order so far.
  Configuration current_;
  std::unordered_set<Configuration, HashOfConfiguration> seen_;
  std::size_t unexplained_ = 0;  // Operations that returned and are not in the order.
  std::size_t longest_order_ = 0;
  std::uint32_t obstacle_ = 0;
  Value state_at_obstacle_ = kAbsent;
};

}  // namespace

Judgement check_key(const History& operations, const CheckOptions& options) {
  return Search(operations, options).run();
}

std::string resolve_tokens(History& operations) {
  std::map<std::uint64_t, Value> value_of_token;
  std::map<Value, std::uint64_t> token_of_value;
  for (const Operation& operation : operations) {
    if (operation.call != Call::kRead || operation.result == kAbsent) continue;
    const auto [value, new_token] = value_of_token.emplace(operation.token, operation.result);
    const auto [token, new_value] = token_of_value.emplace(operation.result, operation.token);
    if (value->second != operation.result) {
      return fmt::format("key {}: the values {:#x} and {:#x} have one token, {:#x}", operation.key, value->second,
                         operation.result, operation.token);
    }
    if (token->second != operation.token) {
      return fmt::format("key {}: the value {:#x} has the tokens {:#x} and {:#x}", operation.key, operation.result,
                         token->second, operation.token);
    }
  }
  for (Operation& operation : operations) {
    if (operation.call != Call::kRead || operation.outcome != Outcome::kOk || operation.result != kAbsent) continue;
    if (const auto known = value_of_token.find(operation.token); known != value_of_token.end()) {
      operation.result = known->second;
    }
  }
  return "";
}

Judgement check_history(const History& operations, std::uint32_t keys, const CheckOptions& options) {
  std::vector<History> by_key(keys);
  for (const Operation& operation : operations) by_key.at(operation.key).push_back(operation);
  std::uint64_t configurations = 0;
  for (History& history : by_key) {
    if (const std::string problem = resolve_tokens(history); !problem.empty()) return {Verdict::kNot, 0, problem};
    Judgement judgement = check_key(history, options);
    configurations += judgement.configurations;
    if (judgement.verdict != Verdict::kLinearizable) return judgement;
  }
  return {Verdict::kLinearizable, configurations, ""};
}

std::string describe(const Operation& operation) {
  constexpr std::array kCalls = {"read", "set", "add", "replace", "cas", "delete", "touch", "increment"};
  constexpr std::array kOutcomes = {"never returned", "ok", "miss", "exists", "conflict", "not numeric", "refused"};
  std::string text = fmt::format("client {} {:>7}..{:<7} {:9}", operation.client, operation.invoked,
                                 operation.returned == 0 ? "never" : std::to_string(operation.returned),
                                 kCalls.at(static_cast<std::size_t>(operation.call)));
  if (operation.expected != kAbsent) text += fmt::format(" if {:#x}", operation.expected);
  if (operation.argument != kAbsent) text += fmt::format(" value {:#x}", operation.argument);
  text += fmt::format(" -> {}", kOutcomes.at(static_cast<std::size_t>(operation.outcome)));
  if (operation.result != kAbsent) text += fmt::format(" {:#x}", operation.result);
  return text;
}

}  // namespace memstream::histories
