// What the engine does (docs/eviction.md), with exact queues: S3-FIFO with a main queue that is filled first and gives
// way slowly, in what fits the engine's 32-byte entry and the 8 bytes that a bucket of its table has left. "fixed" is
// what it does with few entries. Four fingerprints of 16 bits here, five of 11 bits there.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "benchmarks/hit_ratio/object_list.h"
#include "benchmarks/hit_ratio/policy.h"

namespace memstream::bench {
namespace {

struct Rule {
  unsigned least_small_percent;  // Of the capacity: what the small queue has at least ...
  unsigned most_small_percent;   // ... and at most. The same: it does not adapt.
  unsigned promote_above = 0;
  unsigned window = 0, main_window = 0, long_small = 33, throttle = 0, square = 0, exchange = 0;
  unsigned read_factor = 16;  // What leaves the small queue with more hits than this goes to the main one.
};

constexpr unsigned kMostHits = 3;          // Hits are counted up to here: two bits.
constexpr unsigned kGhostsPerBucket = 5;   // Of 16 bits: what a bucket of the engine's table has left ...
constexpr unsigned kObjectsPerBucket = 6;  // ... beside so many entries.
// One in so many that the small queue would drop goes to the main one all the same, if that gives way: mostly, and
// where nothing that was dropped comes back.
constexpr unsigned kOneIn = 20;
constexpr unsigned kOneInOfALoop = 128;
constexpr std::uint64_t kDropsForAReturn = 100;  // Fewer returns are taken for chance.
constexpr std::uint64_t kMostBlocks = 16;  // What one return moves the border by, at most, in objects of average size.
constexpr double kChance = 1.125;          // The small queue is regretted so much more often, or does not grow.

// The fingerprints of what was dropped, a few for each bucket, oldest first. The lowest bit says from which queue.
class Ghosts {
 public:
  explicit Ghosts(std::size_t objects)
      : marks_((objects / kObjectsPerBucket + 1) * kGhostsPerBucket), asked_(objects / kObjectsPerBucket + 1) {}

  void add(std::uint32_t object, bool from_main) {
    std::uint16_t* bucket = bucket_of(object);
    std::copy(bucket + 1, bucket + kGhostsPerBucket, bucket);
    std::uint8_t& asked = asked_[static_cast<std::size_t>(bucket - marks_.data()) / kGhostsPerBucket];
    if (asked != 0) --asked;
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
  // As take(), but it is only noted that somebody asked for it. False if it was noted before.
  bool ask(std::uint32_t object, bool* from_main) {
    std::uint16_t* bucket = bucket_of(object);
    for (unsigned i = 0; i < kGhostsPerBucket; ++i) {
      if ((bucket[i] | 1) != (mark_of(object) | 1)) continue;
      std::uint8_t& asked = asked_[static_cast<std::size_t>(bucket - marks_.data()) / kGhostsPerBucket];
      if (asked == i + 1) return false;
      asked = static_cast<std::uint8_t>(i + 1);
      *from_main = (bucket[i] & 1) != 0;
      return true;
    }
    return false;
  }
  bool take(std::uint32_t object, bool* from_main, bool* asked) {
    std::uint16_t* bucket = bucket_of(object);
    bool before = false;
    const std::size_t index = static_cast<std::size_t>(bucket - marks_.data()) / kGhostsPerBucket;
    const std::uint8_t old = asked_[index];
    *asked = old != 0 && (bucket[old - 1] | 1) == (mark_of(object) | 1);
    const bool taken = take(object, &before);
    if (taken) asked_[index] = 0;
    *from_main = before;
    return taken;
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
  std::vector<std::uint8_t> asked_;
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
  bool holds(std::uint32_t object) const override { return where_[object] != Where::kNowhere; }

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

class Fresh final : public Policy {
 public:
  Fresh(const Rule& rule, std::uint64_t capacity_bytes, const Trace& trace)
      : Policy(capacity_bytes, trace),
        rule_(rule),
        links_(objects()),
        small_(&links_, &trace.sizes),
        main_(&links_, &trace.sizes),
        ghosts_(expected_objects()),
        where_(objects(), Where::kNowhere),
        hits_(objects()),
        small_target_(percent(rule.most_small_percent)) {}

  bool access(std::uint32_t object, std::size_t) override {
    if (where_[object] != Where::kNowhere) {
      hits_[object] = static_cast<std::uint8_t>(std::min<unsigned>(hits_[object] + 1U, kMostHits));
      return true;
    }
    const std::uint64_t size = size_of(object);
    if (size > capacity()) return false;
    bool from_main = false;
    bool asked = false;
    const bool returns = ghosts_.take(object, &from_main, &asked);
    if (returns && !asked) ++(from_main ? main_regret_ : small_regret_).returns;
    const bool counts = returns && drops_return();
    if (counts && !asked) adapt();
    while (small_.bytes() + main_.bytes() + size > capacity()) evict(size);
    // What the main queue dropped does not go straight back: in a loop it would push out what is needed next.
    bool admit = counts && !from_main;
    if (admit && rule_.throttle != 0 && main_regret_.rate() > small_regret_.rate()) {
      const double part = small_regret_.rate() / main_regret_.rate();
      credit_ += rule_.throttle == 3   ? std::max(part, 0.5)
                 : rule_.throttle == 1 ? part
                 : rule_.throttle == 2 ? part * part
                                       : part * part * part * part;
      admit = credit_ >= 1;
      if (admit) credit_ -= 1;
    }
    put(object, admit ? Where::kMain : Where::kSmall);
    return false;
  }
  void miss(std::uint32_t object) override {
    bool from_main = false;
    if (!ghosts_.ask(object, &from_main)) return;
    ++(from_main ? main_regret_ : small_regret_).returns;
    if (!drops_return()) return;
    adapt();
    if (!from_main) ++main_owes_;
  }
  bool holds(std::uint32_t object) const override { return where_[object] != Where::kNowhere; }

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
    ++drops_;
    ghosts_.add(object, from_main);
    ++(from_main ? main_regret_ : small_regret_).drops;
    if (getenv("DBG") && ++dbg_ % 1000 == 0)
      fprintf(stderr, "small %.3f target %.3f rs %.3f (%lu) rm %.3f (%lu) read %lu\n",
              double(small_.bytes()) / double(capacity()), double(small_target_) / double(capacity()),
              small_regret_.rate(), small_regret_.drops, main_regret_.rate(), main_regret_.drops, small_read_);
    if (rule_.window == 0) {
      if (main_regret_.drops + small_regret_.drops < 4 * expected_objects() + 256) return;
      main_regret_.fade();
      small_regret_.fade();
      small_read_ /= 2;
    } else {
      if (main_regret_.drops > expected_objects() * rule_.main_window / 8 + 64) main_regret_.fade();
      if (small_regret_.drops > expected_objects() * rule_.window / 8 + 64) small_regret_.fade(), small_read_ /= 2;
    }
  }
  bool drops_return() const noexcept {
    return (small_regret_.returns + main_regret_.returns) * kDropsForAReturn > small_regret_.drops + main_regret_.drops;
  }
  // The queue whose drops are regretted more often gets room from the other with each object that returns.
  std::uint64_t step(std::uint64_t times) const noexcept {
    return rule_.square == 1                 ? times * times
           : rule_.square == 2 && times >= 4 ? 4 * times
           : rule_.square == 3 && times >= 3 ? 2 * times
                                             : times;
  }
  void adapt() {
    const std::uint64_t average_size =
        (small_.bytes() + main_.bytes()) / std::max<std::size_t>(1, small_.count() + main_.count());
    if (small_regret_.rate() > main_regret_.rate() * kChance) {
      small_target_ += average_size * step(small_regret_.times(main_regret_));
      small_target_ = std::min(small_target_, percent(rule_.most_small_percent));
    } else if (small_regret_.rate() <= main_regret_.rate()) {
      small_target_ -= std::min(small_target_, average_size * step(main_regret_.times(small_regret_)));
    }
    small_target_ = std::max(small_target_, percent(rule_.least_small_percent));
  }

  // The newcomer counts as one of the small queue: without it, rounding could leave that below its target for ever, and
  // the main queue would take in whatever the small one loses.
  void evict(std::uint64_t newcomer_bytes) {
    if (main_owes_ != 0 && !main_.empty()) {
      --main_owes_;
      leave_main();
      return;
    }
    if (!small_.empty() && (small_.bytes() + newcomer_bytes > small_target_ || main_.empty())) {
      leave_small();
    } else {
      leave_main();
    }
  }
  void leave_small() {
    const std::uint32_t object = small_.pop_oldest();
    // The main queue is filled before anything is dropped, and keeps what it has: that is what helps in a loop.
    if (hits_[object] != 0) {
      ++small_read_;
    } else if (small_regret_.drops > expected_objects() / 4 && drops_ != last_shrink_ &&
               (!drops_return() || small_target_ >= percent(rule_.most_small_percent)) &&
               small_read_ * rule_.read_factor < small_regret_.drops) {
      last_shrink_ = drops_;
      if (drops_return()) {
        small_target_ = 0;
        small_regret_ = main_regret_ = Regret{};
        small_read_ = 0;
      }
      small_target_ =
          std::max(percent(rule_.least_small_percent), small_target_ - std::min(small_target_, size_of(object)));
    }
    const bool main_has_room = main_.bytes() + size_of(object) <= capacity() - small_target_;
    if (hits_[object] > (small_target_ > percent(rule_.long_small) ? 1U : 0U) || main_has_room ||
        (++left_small_ >= (drops_return() ? kOneIn : one_in_ / 8) && main_gives_way())) {
      put(object, Where::kMain);
    } else {
      drop(object);
    }
  }
  // Whether the oldest of the main queue has no hits. If it has, it goes round; in a loop, where nothing else takes
  // hits from the main queue, with one less.
  bool main_gives_way() {
    left_small_ = 0;
    if (main_.empty()) return true;
    if (hits_[main_.oldest()] == 0) {
      if (!drops_return() && rule_.exchange) one_in_ = std::min(one_in_ + one_in_ / rule_.exchange, 8 * 256U);
      return true;
    }
    if (!drops_return() && rule_.exchange) one_in_ = std::max(one_in_ - one_in_ / 16, 8 * 16U);
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
  std::uint64_t small_read_ = 0;
  unsigned dbg_ = 0;
  std::uint64_t drops_ = 0, last_shrink_ = 0;
  unsigned one_in_ = 8 * 128;
  double credit_ = 0;
  std::uint64_t main_owes_ = 0;
};

PolicyKind candidate(std::string name, const Rule& rule) {
  return {std::move(name), true, [rule](std::uint64_t capacity_bytes, const Trace& trace) {
            return std::make_unique<StayFifo>(rule, capacity_bytes, trace);
          }};
}

PolicyKind fresh(std::string name, const Rule& rule) {
  return {std::move(name), true, [rule](std::uint64_t capacity_bytes, const Trace& trace) {
            return std::make_unique<Fresh>(rule, capacity_bytes, trace);
          }};
}

}  // namespace

std::vector<PolicyKind> candidates() {
  return {candidate("stay-fifo-fixed", {10, 10, 1}), candidate("stay-fifo", {5, 80, 0}),
          fresh("x0", {5, 99, 0, 16, 2, 33, 0, 0, 0}), fresh("q2", {5, 99, 0, 16, 2, 33, 0, 2, 0}),
          fresh("q3", {5, 99, 0, 16, 2, 33, 0, 3, 0})};
}

}  // namespace memstream::bench
