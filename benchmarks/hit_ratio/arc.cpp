// ARC (Megiddo and Modha, 2003), counted in bytes.
#include <algorithm>

#include "benchmarks/hit_ratio/object_list.h"
#include "benchmarks/hit_ratio/policy.h"

namespace memstream::bench {
namespace {

class Arc final : public Policy {
 public:
  Arc(std::uint64_t capacity_bytes, const Trace& trace)
      : Policy(capacity_bytes, trace),
        links_(objects()),
        once_(&links_, &trace.sizes),
        often_(&links_, &trace.sizes),
        once_ghosts_(&links_, &trace.sizes),
        often_ghosts_(&links_, &trace.sizes),
        where_(objects(), Where::kNowhere) {}

  bool access(std::uint32_t object, std::size_t) override {
    const std::uint64_t size = size_of(object);
    switch (where_[object]) {
      case Where::kOnce:
      case Where::kOften:
        list(where_[object]).remove(object);
        put(object, Where::kOften);
        return true;
      case Where::kOnceGhost:
        target_ =
            std::min(capacity(), target_ + std::max(size, ratio(size, often_ghosts_.bytes(), once_ghosts_.bytes())));
        readmit(object, false);
        return false;
      case Where::kOftenGhost: {
        const std::uint64_t step = std::max(size, ratio(size, once_ghosts_.bytes(), often_ghosts_.bytes()));
        target_ -= std::min(target_, step);
        readmit(object, true);
        return false;
      }
      case Where::kNowhere:
        break;
    }
    if (size > capacity()) return false;
    // Both lists of what was seen once together, and all four, have their bounds.
    while (once_.bytes() + once_ghosts_.bytes() + size > capacity()) {
      if (!once_ghosts_.empty()) {
        where_[once_ghosts_.pop_oldest()] = Where::kNowhere;
      } else {
        where_[once_.pop_oldest()] = Where::kNowhere;
      }
    }
    while (once_.bytes() + often_.bytes() + once_ghosts_.bytes() + often_ghosts_.bytes() + size > 2 * capacity() &&
           !often_ghosts_.empty()) {
      where_[often_ghosts_.pop_oldest()] = Where::kNowhere;
    }
    make_room(size, false);
    put(object, Where::kOnce);
    return false;
  }

  bool holds(std::uint32_t object) const override {
    return where_[object] == Where::kOnce || where_[object] == Where::kOften;
  }

 private:
  enum class Where : std::uint8_t { kNowhere, kOnce, kOften, kOnceGhost, kOftenGhost };

  ObjectList& list(Where where) noexcept {
    switch (where) {
      case Where::kOnce:
        return once_;
      case Where::kOften:
        return often_;
      case Where::kOnceGhost:
        return once_ghosts_;
      default:
        return often_ghosts_;
    }
  }
  static std::uint64_t ratio(std::uint64_t size, std::uint64_t above, std::uint64_t below) noexcept {
    return below == 0 ? size
                      : static_cast<std::uint64_t>(static_cast<double>(size) * static_cast<double>(above) /
                                                   static_cast<double>(below));
  }
  void put(std::uint32_t object, Where where) {
    list(where).push(object);
    where_[object] = where;
  }
  void readmit(std::uint32_t object, bool from_often) {
    list(where_[object]).remove(object);
    where_[object] = Where::kNowhere;
    if (size_of(object) > capacity()) return;
    make_room(size_of(object), from_often);
    put(object, Where::kOften);
  }
  void make_room(std::uint64_t size, bool from_often) {
    while (once_.bytes() + often_.bytes() + size > capacity()) {
      const bool from_once = !once_.empty() && (once_.bytes() > target_ || (from_often && once_.bytes() == target_));
      if (from_once || often_.empty()) {
        put(once_.pop_oldest(), Where::kOnceGhost);
      } else {
        put(often_.pop_oldest(), Where::kOftenGhost);
      }
    }
  }

  Links links_;
  ObjectList once_;   // T1
  ObjectList often_;  // T2
  ObjectList once_ghosts_;
  ObjectList often_ghosts_;
  std::vector<Where> where_;
  std::uint64_t target_ = 0;  // Bytes that `once_` should have: p.
};

}  // namespace

PolicyKind arc() { return policy_kind<Arc>("arc"); }

}  // namespace memstream::bench
