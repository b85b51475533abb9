// W-TinyLFU (Einziger, Friedman and Manes, 2017): a window of 1 %, a segmented LRU behind it, and a sketch of
// frequencies that decides who enters.
#include <algorithm>
#include <array>
#include <bit>

#include "benchmarks/hit_ratio/object_list.h"
#include "benchmarks/hit_ratio/policy.h"

namespace memstream::bench {
namespace {

// Count-min, four rows of counters up to 15, all halved after ten times as many additions as the cache has objects.
class Sketch {
 public:
  explicit Sketch(std::size_t objects)
      : mask_(std::bit_ceil(std::max<std::size_t>(objects, 16)) * 4 - 1),
        counters_(mask_ + 1),
        sample_(10 * std::max<std::size_t>(objects, 16)) {}

  void add(std::uint32_t object) {
    // Only the least of the four counters grow.
    const unsigned least = frequency(object);
    if (least < 15) {
      for (unsigned row = 0; row < kRows; ++row) {
        std::uint8_t& counter = counters_[place(object, row)];
        if (counter == least) ++counter;
      }
    }
    if (++additions_ == sample_) {
      for (std::uint8_t& counter : counters_) counter /= 2;
      additions_ /= 2;
    }
  }
  unsigned frequency(std::uint32_t object) const {
    unsigned least = 15;
    for (unsigned row = 0; row < kRows; ++row) least = std::min<unsigned>(least, counters_[place(object, row)]);
    return least;
  }

 private:
  static constexpr unsigned kRows = 4;
  std::size_t place(std::uint32_t object, unsigned row) const {
    static constexpr std::array<std::uint64_t, kRows> kSeeds = {0x9e37'79b9'7f4a'7c15, 0xc2b2'ae3d'27d4'eb4f,
                                                                0x1656'67b1'9e37'79f9, 0xff51'afd7'ed55'8ccd};
    std::uint64_t hash = (object + 1) * kSeeds[row];
    hash ^= hash >> 32;
    return static_cast<std::size_t>(hash * kSeeds[row] >> 20) & mask_;
  }

  std::size_t mask_;
  std::vector<std::uint8_t> counters_;
  std::size_t sample_;
  std::size_t additions_ = 0;
};

class TinyLfu final : public Policy {
 public:
  TinyLfu(std::uint64_t capacity_bytes, const Trace& trace)
      : Policy(capacity_bytes, trace),
        links_(objects()),
        window_(&links_, &trace.sizes),
        probation_(&links_, &trace.sizes),
        protected_(&links_, &trace.sizes),
        where_(objects(), Where::kNowhere),
        sketch_(expected_objects()) {}

  bool access(std::uint32_t object, std::size_t) override {
    sketch_.add(object);
    switch (where_[object]) {
      case Where::kWindow:
        window_.renew(object);
        return true;
      case Where::kProtected:
        protected_.renew(object);
        return true;
      case Where::kProbation:
        probation_.remove(object);
        put(object, Where::kProtected);
        while (protected_.bytes() > main_capacity() / 5 * 4) put(protected_.pop_oldest(), Where::kProbation);
        return true;
      case Where::kNowhere:
        break;
    }
    if (size_of(object) > capacity()) return false;
    put(object, Where::kWindow);
    while (window_.bytes() > window_capacity() && !window_.empty()) admit(window_.pop_oldest());
    return false;
  }

  bool holds(std::uint32_t object) const override { return where_[object] != Where::kNowhere; }

 private:
  enum class Where : std::uint8_t { kNowhere, kWindow, kProbation, kProtected };

  // A window smaller than one object admits each at once, which is what it should do.
  std::uint64_t window_capacity() const noexcept { return capacity() / 100; }
  std::uint64_t main_capacity() const noexcept { return capacity() - window_capacity(); }

  void put(std::uint32_t object, Where where) {
    ObjectList& list = where == Where::kWindow ? window_ : where == Where::kProbation ? probation_ : protected_;
    list.push(object);
    where_[object] = where;
  }
  // The candidate has to be more frequent than each one that goes for it.
  void admit(std::uint32_t candidate) {
    where_[candidate] = Where::kNowhere;
    const std::uint64_t size = size_of(candidate);
    if (size > main_capacity()) return;
    while (probation_.bytes() + protected_.bytes() + size > main_capacity()) {
      ObjectList& list = probation_.empty() ? protected_ : probation_;
      const std::uint32_t victim = list.oldest();
      if (sketch_.frequency(candidate) <= sketch_.frequency(victim)) return;
      list.remove(victim);
      where_[victim] = Where::kNowhere;
    }
    put(candidate, Where::kProbation);
  }

  Links links_;
  ObjectList window_;
  ObjectList probation_;
  ObjectList protected_;
  std::vector<Where> where_;
  Sketch sketch_;
};

}  // namespace

PolicyKind tiny_lfu() { return policy_kind<TinyLfu>("w-tinylfu"); }

}  // namespace memstream::bench
