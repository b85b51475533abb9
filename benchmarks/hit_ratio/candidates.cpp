// What the engine does (docs/eviction.md), with exact queues: S3-FIFO with a main queue that is filled first and gives
// way slowly, in what fits the engine's 32-byte entry and the 8 bytes that a bucket of its table has left. "fixed" is
// what it does with few entries. Four fingerprints of 16 bits here, five of 11 bits there.
#include <algorithm>

#include "benchmarks/hit_ratio/object_list.h"
#include "benchmarks/hit_ratio/policy.h"

namespace memstream::bench {
namespace {

struct Rule {
  unsigned least_small_percent;  // Of the capacity: what the small queue has at least ...
  unsigned most_small_percent;   // ... and at most. The same: it does not adapt.
  unsigned promote_above;        // What leaves the small queue with more hits than this goes to the main one.
};

constexpr unsigned kMostHits = 3;          // Hits are counted up to here: two bits.
constexpr unsigned kGhostsPerBucket = 4;   // Of 16 bits: what a bucket of the engine's table has left ...
constexpr unsigned kObjectsPerBucket = 6;  // ... beside so many entries.
// One in so many that the small queue would drop goes to the main one all the same, if that gives way: mostly, and
// where nothing that was dropped comes back.
constexpr unsigned kOneIn = 20;
constexpr unsigned kOneInOfALoop = 128;
constexpr std::uint64_t kDropsForAReturn = 100;  // Fewer returns are taken for chance.
constexpr std::uint64_t kMostBlocks = 8;  // What one return moves the border by, at most, in objects of average size.
constexpr double kChance = 1.125;         // The small queue is regretted so much more often, or does not grow.

// The fingerprints of what was dropped, a few for each bucket, oldest first. The lowest bit says from which queue.
class Ghosts {
 public:
  explicit Ghosts(std::size_t objects) : marks_((objects / kObjectsPerBucket + 1) * kGhostsPerBucket) {}

  void add(std::uint32_t object, bool from_main) {
    std::uint16_t* bucket = bucket_of(object);
    std::copy(bucket + 1, bucket + kGhostsPerBucket, bucket);
    bucket[kGhostsPerBucket - 1] = static_cast<std::uint16_t>(mark_of(object) | (from_main ? 1 : 0));
  }
  // Whether it is known, and where it was dropped; it is forgotten then.
  bool take(std::uint32_t object, bool* from_main) {
    std::uint16_t* bucket = bucket_of(object);
    std::uint16_t* end = bucket + kGhostsPerBucket;
    std::uint16_t* found =
        std::find_if(bucket, end, [&](std::uint16_t mark) { return (mark | 1) == (mark_of(object) | 1); });
    if (found == end) return false;
    *from_main = (*found & 1) != 0;
    std::copy_backward(bucket, found, found + 1);
    *bucket = 0;
    return true;
  }

 private:
  static std::uint64_t hash(std::uint32_t object) {
    std::uint64_t bits = (object + std::uint64_t{1}) * 0x9e37'79b9'7f4a'7c15ULL;
    bits = (bits ^ bits >> 29) * 0xbf58'476d'1ce4'e5b9ULL;
    return bits ^ bits >> 32;
  }
  // Never 0, which is an empty place.
  static std::uint16_t mark_of(std::uint32_t object) {
    return static_cast<std::uint16_t>((hash(object) >> 48 | 2) & ~std::uint64_t{1});
  }
  std::uint16_t* bucket_of(std::uint32_t object) {
    const std::size_t buckets = marks_.size() / kGhostsPerBucket;
    return marks_.data() + static_cast<std::size_t>((hash(object) & 0xffff'ffff) * buckets >> 32) * kGhostsPerBucket;
  }

  std::vector<std::uint16_t> marks_;
};

// How often a queue dropped something, and how often that was regretted; the past fades.
struct Regret {
  std::uint64_t drops = 0;
  std::uint64_t returns = 0;

  double rate() const noexcept { return static_cast<double>(returns) / static_cast<double>(drops + 1); }
  // How many times as often as `other` it was regretted, from 1 to kMostBlocks.
  std::uint64_t times(const Regret& other) const noexcept {
    if (rate() >= other.rate() * kMostBlocks) return kMostBlocks;
    return std::max<std::uint64_t>(1, static_cast<std::uint64_t>(rate() / other.rate()));
  }
  void fade() noexcept {
    drops /= 2;
    returns /= 2;
  }
};

class StayFifo final : public Policy {
 public:
  StayFifo(const Rule& rule, std::uint64_t capacity_bytes, const Trace& trace)
      : Policy(capacity_bytes, trace),
        rule_(rule),
        links_(objects()),
        small_(&links_, &trace.sizes),
        main_(&links_, &trace.sizes),
        ghosts_(expected_objects()),
        where_(objects(), Where::kNowhere),
        hits_(objects()),
        small_target_(percent(rule.least_small_percent)) {}

  bool access(std::uint32_t object, std::size_t) override {
    if (where_[object] != Where::kNowhere) {
      hits_[object] = static_cast<std::uint8_t>(std::min<unsigned>(hits_[object] + 1U, kMostHits));
      return true;
    }
    const std::uint64_t size = size_of(object);
    if (size > capacity()) return false;
    bool from_main = false;
    const bool returns = ghosts_.take(object, &from_main);
    if (returns) ++(from_main ? main_regret_ : small_regret_).returns;
    const bool counts = returns && drops_return();
    if (counts) adapt();
    while (small_.bytes() + main_.bytes() + size > capacity()) evict(size);
    // What the main queue dropped does not go straight back: in a loop it would push out what is needed next.
    put(object, counts && !from_main ? Where::kMain : Where::kSmall);
    return false;
  }

 private:
  enum class Where : std::uint8_t { kNowhere, kSmall, kMain };

  std::uint64_t percent(unsigned part) const noexcept { return capacity() * part / 100; }
  void put(std::uint32_t object, Where where) {
    (where == Where::kSmall ? small_ : main_).push(object);
    where_[object] = where;
    hits_[object] = 0;
  }
  void drop(std::uint32_t object) {
    const bool from_main = where_[object] == Where::kMain;
    where_[object] = Where::kNowhere;
    ghosts_.add(object, from_main);
    ++(from_main ? main_regret_ : small_regret_).drops;
    if (main_regret_.drops + small_regret_.drops < 4 * expected_objects() + 256) return;
    main_regret_.fade();
    small_regret_.fade();
  }
  bool drops_return() const noexcept {
    return (small_regret_.returns + main_regret_.returns) * kDropsForAReturn > small_regret_.drops + main_regret_.drops;
  }
  // The queue whose drops are regretted more often gets room from the other with each object that returns.
  void adapt() {
    const std::uint64_t average_size =
        (small_.bytes() + main_.bytes()) / std::max<std::size_t>(1, small_.count() + main_.count());
    if (small_regret_.rate() > main_regret_.rate() * kChance) {
      small_target_ += average_size * small_regret_.times(main_regret_);
      small_target_ = std::min(small_target_, percent(rule_.most_small_percent));
    } else if (small_regret_.rate() <= main_regret_.rate()) {
      small_target_ -= std::min(small_target_, average_size * main_regret_.times(small_regret_));
    }
    small_target_ = std::max(small_target_, percent(rule_.least_small_percent));
  }

  // The newcomer counts as one of the small queue: without it, rounding could leave that below its target for ever, and
  // the main queue would take in whatever the small one loses.
  void evict(std::uint64_t newcomer_bytes) {
    if (!small_.empty() && (small_.bytes() + newcomer_bytes > small_target_ || main_.empty())) {
      leave_small();
    } else {
      leave_main();
    }
  }
  void leave_small() {
    const std::uint32_t object = small_.pop_oldest();
    // The main queue is filled before anything is dropped, and keeps what it has: that is what helps in a loop.
    const bool main_has_room = main_.bytes() + size_of(object) <= capacity() - small_target_;
    if (hits_[object] > rule_.promote_above || main_has_room ||
        (++left_small_ % (drops_return() ? kOneIn : kOneInOfALoop) == 0 && main_gives_way())) {
      put(object, Where::kMain);
    } else {
      drop(object);
    }
  }
  // Whether the oldest of the main queue has no hits. If it has, it goes round; in a loop, where nothing else takes
  // hits from the main queue, with one less.
  bool main_gives_way() {
    if (main_.empty() || hits_[main_.oldest()] == 0) return true;
    if (!drops_return()) --hits_[main_.oldest()];
    main_.renew(main_.oldest());
    return false;
  }
  void leave_main() {
    while (hits_[main_.oldest()] > 0) {
      --hits_[main_.oldest()];
      main_.renew(main_.oldest());
    }
    drop(main_.pop_oldest());
  }

  Rule rule_;
  Links links_;
  ObjectList small_;
  ObjectList main_;
  Ghosts ghosts_;
  std::vector<Where> where_;
  std::vector<std::uint8_t> hits_;
  std::uint64_t small_target_;
  Regret small_regret_;
  Regret main_regret_;
  std::uint64_t left_small_ = 0;
};

PolicyKind candidate(std::string name, const Rule& rule) {
  return {std::move(name), true, [rule](std::uint64_t capacity_bytes, const Trace& trace) {
            return std::make_unique<StayFifo>(rule, capacity_bytes, trace);
          }};
}

}  // namespace

std::vector<PolicyKind> candidates() {
  return {candidate("stay-fifo-fixed", {10, 10, 1}), candidate("stay-fifo", {5, 80, 0})};
}

}  // namespace memstream::bench
