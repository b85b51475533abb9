// Belady's rule: what is needed again last goes first, the newcomer included. With objects of one size nothing can do
// better; with different sizes it is a strong rule and no bound.
#include <set>

#include "benchmarks/hit_ratio/policy.h"

namespace memstream::bench {
namespace {

class Belady final : public Policy {
 public:
  Belady(std::uint64_t capacity_bytes, const Trace& trace)
      : Policy(capacity_bytes, trace), next_use_(trace.requests.size()), kept_until_(objects(), kAbsent) {
    std::vector<std::size_t> next(objects(), kNever);
    for (std::size_t position = trace.requests.size(); position-- > 0;) {
      std::size_t& use = next[trace.requests[position]];
      next_use_[position] = use;
      // A put brings its object along: until then nobody needs it.
      use = trace.op(position) == Op::kPut ? kNever : position;
    }
  }

  bool access(std::uint32_t object, std::size_t position) override {
    const bool hit = kept_until_[object] != kAbsent;
    if (hit) drop(object);
    const std::size_t next = next_use_[position];
    if (next == kNever || size_of(object) > capacity()) return hit;
    kept_until_[object] = next;
    by_next_use_.emplace(next, object);
    used_ += size_of(object);
    while (used_ > capacity()) drop(by_next_use_.rbegin()->second);
    return hit;
  }

  bool holds(std::uint32_t object) const override { return kept_until_[object] != kAbsent; }

 private:
  static constexpr std::size_t kNever = ~std::size_t{0};
  static constexpr std::size_t kAbsent = kNever - 1;

  void drop(std::uint32_t object) {
    by_next_use_.erase({kept_until_[object], object});
    kept_until_[object] = kAbsent;
    used_ -= size_of(object);
  }

  std::vector<std::size_t> next_use_;    // Of the object of each request.
  std::vector<std::size_t> kept_until_;  // The next use of each object that is there.
  std::set<std::pair<std::size_t, std::uint32_t>> by_next_use_;
  std::uint64_t used_ = 0;
};

}  // namespace

PolicyKind belady() { return policy_kind<Belady>("belady", false); }

}  // namespace memstream::bench
