// S3-FIFO (Yang, Zhang, Qiu, Yue and Rashmi, 2023), counted in bytes.
#include <algorithm>

#include "benchmarks/hit_ratio/object_list.h"
#include "benchmarks/hit_ratio/policy.h"

namespace memstream::bench {
namespace {

class S3Fifo final : public Policy {
 public:
  S3Fifo(std::uint64_t capacity_bytes, const Trace& trace)
      : Policy(capacity_bytes, trace),
        links_(objects()),
        small_(&links_, &trace.sizes),
        main_(&links_, &trace.sizes),
        ghosts_(&links_, &trace.sizes),
        where_(objects(), Where::kNowhere),
        frequency_(objects()) {}

  bool access(std::uint32_t object, std::size_t) override {
    if (where_[object] == Where::kSmall || where_[object] == Where::kMain) {
      frequency_[object] = static_cast<std::uint8_t>(std::min(frequency_[object] + 1, 3));
      return true;
    }
    if (size_of(object) > capacity()) return false;
    const bool returns = where_[object] == Where::kGhost;
    if (returns) ghosts_.remove(object);
    where_[object] = Where::kNowhere;
    while (small_.bytes() + main_.bytes() + size_of(object) > capacity()) evict();
    put(object, returns ? Where::kMain : Where::kSmall);
    frequency_[object] = 0;
    return false;
  }

  bool holds(std::uint32_t object) const override {
    return where_[object] == Where::kSmall || where_[object] == Where::kMain;
  }

 private:
  enum class Where : std::uint8_t { kNowhere, kSmall, kMain, kGhost };

  void put(std::uint32_t object, Where where) {
    ObjectList& list = where == Where::kSmall ? small_ : where == Where::kMain ? main_ : ghosts_;
    list.push(object);
    where_[object] = where;
  }
  void evict() {
    if (!small_.empty() && (small_.bytes() >= capacity() / 10 || main_.empty())) {
      evict_small();
    } else {
      evict_main();
    }
  }
  void evict_small() {
    const std::uint32_t object = small_.pop_oldest();
    if (frequency_[object] > 1) {
      frequency_[object] = 0;
      put(object, Where::kMain);
      return;
    }
    put(object, Where::kGhost);
    while (ghosts_.bytes() > capacity() / 10 * 9) where_[ghosts_.pop_oldest()] = Where::kNowhere;
  }
  void evict_main() {
    while (frequency_[main_.oldest()] > 0) {
      --frequency_[main_.oldest()];
      main_.renew(main_.oldest());
    }
    where_[main_.pop_oldest()] = Where::kNowhere;
  }

  Links links_;
  ObjectList small_;
  ObjectList main_;
  ObjectList ghosts_;
  std::vector<Where> where_;
  std::vector<std::uint8_t> frequency_;
};

}  // namespace

PolicyKind s3_fifo() { return policy_kind<S3Fifo>("s3-fifo"); }

}  // namespace memstream::bench
