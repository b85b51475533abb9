// LIRS (Jiang and Zhang, 2002), counted in bytes.
#include <algorithm>

#include "benchmarks/hit_ratio/object_list.h"
#include "benchmarks/hit_ratio/policy.h"

namespace memstream::bench {
namespace {

class Lirs final : public Policy {
 public:
  Lirs(std::uint64_t capacity_bytes, const Trace& trace)
      : Policy(capacity_bytes, trace),
        stack_links_(objects()),
        other_links_(objects()),
        stack_(&stack_links_, &trace.sizes),
        resident_(&other_links_, &trace.sizes),
        gone_(&other_links_, &trace.sizes),
        state_(objects(), State::kUnknown),
        in_stack_(objects()) {
    // 1 % for those with a high recency, as the paper has it, but room for one of them at least.
    const std::uint64_t average = trace.footprint_bytes() / std::max<std::uint64_t>(trace.sizes.size(), 1);
    low_capacity_ = capacity() - std::min(capacity(), std::max(capacity() / 100, average));
  }

  bool access(std::uint32_t object, std::size_t) override {
    if (state_[object] == State::kLow) {
      push_stack(object);
      prune();
      return true;
    }
    if (state_[object] == State::kHigh) {
      if (in_stack_[object]) {
        resident_.remove(object);
        become_low(object);
      } else {
        resident_.renew(object);
      }
      push_stack(object);
      demote_low();
      return true;
    }
    if (size_of(object) > capacity()) return false;
    make_room(size_of(object), object);
    if (state_[object] == State::kGone) {
      gone_.remove(object);
      become_low(object);
      push_stack(object);
      demote_low();
    } else if (low_bytes_ + size_of(object) <= low_capacity_ && resident_.empty()) {
      become_low(object);  // While the cache fills.
      push_stack(object);
    } else {
      state_[object] = State::kHigh;
      resident_.push(object);
      push_stack(object);
    }
    forget();
    return false;
  }

  bool holds(std::uint32_t object) const override {
    return state_[object] == State::kLow || state_[object] == State::kHigh;
  }

 private:
  // kGone: known by the stack alone.
  enum class State : std::uint8_t { kUnknown, kLow, kHigh, kGone };

  void become_low(std::uint32_t object) {
    state_[object] = State::kLow;
    low_bytes_ += size_of(object);
  }
  void push_stack(std::uint32_t object) {
    if (in_stack_[object]) stack_.remove(object);
    stack_.push(object);
    in_stack_[object] = true;
  }
  // The oldest of the stack is always one with low recency.
  void prune() {
    while (!stack_.empty() && state_[stack_.oldest()] != State::kLow) {
      const std::uint32_t object = stack_.pop_oldest();
      in_stack_[object] = false;
      if (state_[object] == State::kGone) {
        gone_.remove(object);
        state_[object] = State::kUnknown;
      }
    }
  }
  void demote_low() {
    while (low_bytes_ > low_capacity_ && !stack_.empty()) {
      prune();
      const std::uint32_t object = stack_.pop_oldest();
      in_stack_[object] = false;
      low_bytes_ -= size_of(object);
      state_[object] = State::kHigh;
      resident_.push(object);
      prune();
    }
    prune();
  }
  void make_room(std::uint64_t size, std::uint32_t object) {
    while (low_bytes_ + resident_.bytes() + size > capacity()) {
      if (resident_.empty()) {
        const std::uint64_t kept = low_capacity_;
        low_capacity_ = low_bytes_ - 1;  // Nothing else is left to give: the oldest with low recency goes.
        demote_low();
        low_capacity_ = kept;
        continue;
      }
      const std::uint32_t victim = resident_.pop_oldest();
      if (in_stack_[victim] && victim != object) {
        state_[victim] = State::kGone;
        gone_.push(victim);
      } else {
        state_[victim] = State::kUnknown;
      }
    }
  }
  // The stack remembers those that are gone up to twice the cache.
  void forget() {
    while (gone_.bytes() > 2 * capacity()) {
      const std::uint32_t object = gone_.pop_oldest();
      stack_.remove(object);
      in_stack_[object] = false;
      state_[object] = State::kUnknown;
    }
  }

  Links stack_links_;
  Links other_links_;
  ObjectList stack_;
  ObjectList resident_;  // High recency and present: Q.
  ObjectList gone_;      // High recency and not present, oldest first.
  std::vector<State> state_;
  std::vector<bool> in_stack_;
  std::uint64_t low_bytes_ = 0;
  std::uint64_t low_capacity_;
};

}  // namespace

PolicyKind lirs() { return policy_kind<Lirs>("lirs"); }

}  // namespace memstream::bench
