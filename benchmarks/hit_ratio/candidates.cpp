// What the engine does (docs/eviction.md), with exact queues, in what fits the engine's 32-byte entry and the 8 bytes
// that a bucket of its table has left. Five fingerprints of 16 bits here, of 10 bits there, and
// here a round of the main queue is a round for every bucket at once. Without the sweep that notices a main queue that
// nobody reads any more.
#include <algorithm>
#include <cmath>
#include <utility>

#include "benchmarks/hit_ratio/object_list.h"
#include "benchmarks/hit_ratio/policy.h"

namespace memstream::bench {
namespace {

constexpr unsigned kLeastSmallPercent = 5;  // Of the capacity: what the small queue has at least ...
constexpr unsigned kMostSmallPercent = 99;  // ... and at most, which it begins with.
constexpr unsigned kLongSmallPercent = 33;  // With more than that, one hit in it says little.
constexpr unsigned kMostHits = 3;           // Hits are counted up to here: two bits.
constexpr unsigned kGhostsPerBucket = 5;    // Of 16 bits: what a bucket of the engine's table has left ...
constexpr unsigned kObjectsPerBucket = 6;   // ... beside so many entries.
constexpr unsigned kSparseInReach = 3;      // While half of the objects leave one: what a small queue might have kept.
// One in so many that the small queue would drop goes to the main one all the same, if that gives way: mostly, and
// where nothing that was dropped comes back.
constexpr unsigned kOneIn = 20;
constexpr unsigned kOneInOfALoop = 128;
constexpr std::uint64_t kDropsForAReturn = 100;  // Fewer returns are taken for chance.
constexpr std::uint64_t kFewReturnsPart = 25;    // Fewer than one in so many: half of the objects leave fingerprints.
constexpr std::uint64_t kReadPart = 16;          // Fewer than one in so many read: the small queue is of no use.
constexpr std::uint64_t kMostTimes = 16;         // What one return moves the border by, at most, in average objects.
constexpr double kChance = 1.125;                // The small queue is regretted so much more often, or does not grow.

// The fingerprints of what was dropped, a few for each bucket, oldest first. The lowest bit says from which queue.
class Ghosts {
 public:
  enum class Found { kNot, kNew, kAskedBefore };
  struct Ask {
    Found found = Found::kNot;
    bool from_main = false;
    bool is_late = false;  // A round of the main queue has gone by since it was dropped.
  };

  explicit Ghosts(std::size_t objects)
      : buckets_(objects / kObjectsPerBucket + 1),
        marks_(buckets_ * kGhostsPerBucket),
        rounds_(marks_.size()),
        asked_(buckets_),
        is_sparse_(buckets_) {}

  // Whether an object leaves a fingerprint while half of them do. The halves take turns.
  static bool is_in_half(std::uint32_t object, std::uint64_t turn) { return ((hash(object) >> 41 ^ turn) & 1) != 0; }

  // `rounds`: of the main queue, so far.
  void add(std::uint32_t object, bool from_main, double rounds, bool is_sparse) {
    is_sparse_[index_of(object)] = is_sparse;
    std::uint16_t* bucket = bucket_of(object);
    double* bucket_rounds = rounds_.data() + (bucket - marks_.data());
    std::copy(bucket_rounds + 1, bucket_rounds + kGhostsPerBucket, bucket_rounds);
    bucket_rounds[kGhostsPerBucket - 1] = rounds;
    std::copy(bucket + 1, bucket + kGhostsPerBucket, bucket);
    bucket[kGhostsPerBucket - 1] = static_cast<std::uint16_t>(mark_of(object) | (from_main ? 1 : 0));
    asked_[index_of(object)] = 0;
  }
  // Whether it is known, and where and when it was dropped. It is remembered that somebody asked for it. Of the late
  // ones every other one says nothing, as if it had been asked for, and what no small queue could have kept neither.
  Ask ask(std::uint32_t object, double rounds) {
    const std::uint16_t* found = find(object);
    if (found == nullptr) return {};
    Ask answer{.found = Found::kNew, .from_main = (*found & 1) != 0};
    const double phase = static_cast<double>(index_of(object)) / static_cast<double>(buckets_);
    answer.is_late = std::floor(rounds + phase) != std::floor(*(rounds_.data() + (found - marks_.data())) + phase);
    const auto age = static_cast<std::size_t>(bucket_of(object) + kGhostsPerBucket - 1 - found);
    const bool is_in_reach = !is_sparse_[index_of(object)] || age < kSparseInReach;
    const bool is_evidence = answer.from_main || (is_in_reach && (!answer.is_late || (hash(object) >> 40 & 1) != 0));
    if (!is_evidence || std::exchange(asked_[index_of(object)], *found) == *found) answer.found = Found::kAskedBefore;
    return answer;
  }
  void forget(std::uint32_t object) {
    std::uint16_t* found = find(object);
    if (found == nullptr) return;
    std::uint16_t* bucket = bucket_of(object);
    double* bucket_rounds = rounds_.data() + (bucket - marks_.data());
    std::copy_backward(bucket_rounds, bucket_rounds + (found - bucket), bucket_rounds + (found - bucket) + 1);
    std::copy_backward(bucket, found, found + 1);
    *bucket = 0;
    asked_[index_of(object)] = 0;
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
  std::size_t index_of(std::uint32_t object) const {
    return static_cast<std::size_t>((hash(object) & 0xffff'ffff) * buckets_ >> 32);
  }
  std::uint16_t* bucket_of(std::uint32_t object) { return marks_.data() + index_of(object) * kGhostsPerBucket; }
  std::uint16_t* find(std::uint32_t object) {
    std::uint16_t* bucket = bucket_of(object);
    std::uint16_t* end = bucket + kGhostsPerBucket;
    std::uint16_t* found =
        std::find_if(bucket, end, [&](std::uint16_t mark) { return (mark | 1) == (mark_of(object) | 1); });
    return found == end ? nullptr : found;
  }

  std::size_t buckets_;
  std::vector<std::uint16_t> marks_;
  std::vector<double> rounds_;
  std::vector<std::uint16_t> asked_;  // The fingerprint that was asked for last, of each bucket.
  std::vector<bool> is_sparse_;       // Whether the newest came while half of the objects left one, of each bucket.
};

// How often a queue dropped something, and how often that was regretted; the past fades.
struct Regret {
  std::uint64_t drops = 0;
  std::uint64_t returns = 0;

  double rate() const noexcept { return static_cast<double>(returns) / static_cast<double>(drops + 16); }
  // How many times as often as `other` it was regretted, from 1 to kMostTimes.
  std::uint64_t times(const Regret& other) const noexcept {
    if (rate() >= other.rate() * kMostTimes) return kMostTimes;
    return std::max<std::uint64_t>(1, static_cast<std::uint64_t>(rate() / other.rate()));
  }
  void fade() noexcept {
    drops /= 2;
    returns /= 2;
  }
};

class StayFifo final : public Policy {
 public:
  StayFifo(std::uint64_t capacity_bytes, const Trace& trace)
      : Policy(capacity_bytes, trace),
        links_(objects()),
        small_(&links_, &trace.sizes),
        main_(&links_, &trace.sizes),
        ghosts_(expected_objects()),
        where_(objects(), Where::kNowhere),
        hits_(objects()),
        small_target_(percent(kMostSmallPercent)) {}

  bool access(std::uint32_t object, std::size_t) override {
    if (where_[object] != Where::kNowhere) {
      hits_[object] = static_cast<std::uint8_t>(std::min<unsigned>(hits_[object] + 1U, kMostHits));
      return true;
    }
    const std::uint64_t size = size_of(object);
    if (size > capacity()) return false;
    const Ghosts::Ask ask = count_return(object);
    const bool returns = ask.found != Ghosts::Found::kNot && ghost_hits_significant();
    ghosts_.forget(object);
    while (small_.bytes() + main_.bytes() + size > capacity()) evict(size);
    // What the main queue dropped does not go straight back: in a loop it would push out what is needed next. Nor does
    // what comes late, since all that is there is asked for sooner.
    const bool is_late = ask.is_late && !is_long();
    put(object, returns && !ask.from_main && !is_late ? Where::kMain : Where::kSmall);
    return false;
  }
  void miss(std::uint32_t object) override {
    const Ghosts::Ask ask = count_return(object);
    if (ask.found == Ghosts::Found::kNew && !ask.from_main && ghost_hits_significant() && !has_all()) ++main_debt_;
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
    const bool is_sparse = remembers_half();
    if (from_main || !is_sparse || Ghosts::is_in_half(object, left_small_ / expected_objects())) {
      ghosts_.add(object, from_main, rounds_, is_sparse);
    }
    Regret& regret = from_main ? main_regret_ : small_regret_;
    if (++regret.drops < (from_main ? expected_objects() / 4 : 2 * expected_objects()) + 64) return;
    regret.fade();
    if (!from_main) small_read_ /= 2;
  }
  bool ghost_hits_significant() const noexcept {
    return (small_regret_.returns + main_regret_.returns) * kDropsForAReturn >
           small_regret_.drops + main_regret_.drops + 2 * kDropsForAReturn;
  }
  // Where few come back, half of the objects leave a fingerprint, and all fingerprints reach twice as far.
  bool remembers_half() const noexcept {
    return small_regret_.drops > expected_objects() / 4 &&
           small_regret_.returns * kFewReturnsPart < small_regret_.drops && !has_all();
  }
  // The same of the small queue alone.
  bool small_drops_return() const noexcept {
    return small_regret_.returns * kDropsForAReturn > small_regret_.drops + 2 * kDropsForAReturn;
  }
  Ghosts::Ask count_return(std::uint32_t object) {
    const Ghosts::Ask ask = ghosts_.ask(object, rounds_);
    if (ask.found != Ghosts::Found::kNew) return ask;
    ++(ask.from_main ? main_regret_ : small_regret_).returns;
    if (ghost_hits_significant()) adapt();
    return ask;
  }
  bool is_long() const noexcept { return small_target_ > percent(kLongSmallPercent); }
  bool has_all() const noexcept { return small_target_ >= percent(kMostSmallPercent); }
  void forget_regret() noexcept {
    small_regret_ = main_regret_ = Regret{};
    small_read_ = 0;
  }
  void set_target(std::uint64_t bytes) noexcept {
    small_target_ = std::clamp(bytes, percent(kLeastSmallPercent), percent(kMostSmallPercent));
  }
  void take_from_small(std::uint64_t bytes) noexcept { set_target(small_target_ - std::min(small_target_, bytes)); }
  std::uint64_t average_size() const noexcept {
    return (small_.bytes() + main_.bytes()) / std::max<std::size_t>(1, small_.count() + main_.count());
  }
  // The queue whose drops are regretted more often gets room from the other with each object that returns.
  void adapt() {
    if (small_regret_.rate() > main_regret_.rate() * kChance) {
      const bool had_all = has_all();
      set_target(small_target_ + average_size() * small_regret_.times(main_regret_));
      if (!had_all && has_all()) forget_regret();
    } else if (small_regret_.rate() <= main_regret_.rate()) {
      take_from_small(average_size() * main_regret_.times(small_regret_));
    }
  }

  // The newcomer counts as one of the small queue: without it, rounding could leave that below its target for ever, and
  // the main queue would take in whatever the small one loses.
  void evict(std::uint64_t newcomer_bytes) {
    if (main_debt_ != 0 && !main_.empty()) {
      --main_debt_;
      evict_from_main();
      return;
    }
    main_debt_ = 0;
    bool is_first = true;
    while (!small_.empty() && (small_.bytes() + newcomer_bytes > small_target_ + average_size() / 2 || main_.empty())) {
      if (evict_from_small(std::exchange(is_first, false))) return;
    }
    evict_from_main();
  }
  // False if it moved to the main queue.
  bool evict_from_small(bool is_first) {
    const std::uint32_t object = small_.pop_oldest();
    const unsigned hits = hits_[object];
    if (hits != 0) ++small_read_;
    if (hits == kMostHits && is_long() && main_regret_.drops < 64) take_from_small(size_of(object));
    if (hits == 0 && is_first) shrink_small(size_of(object));
    // The main queue is filled before anything is dropped, and keeps what it has: that is what helps in a loop.
    const bool main_has_room = small_.bytes() >= small_target_;
    if (hits > (is_long() ? 1U : 0U) || main_has_room ||
        (!has_all() && ++left_small_ % (small_drops_return() ? kOneIn : kOneInOfALoop) == 0 && main_head_is_cold())) {
      put(object, Where::kMain);
      return false;
    }
    drop(object);
    return true;
  }
  // Room for the main queue, where the small one is of no use.
  void shrink_small(std::uint64_t bytes) {
    if (small_regret_.drops < expected_objects() / 4 || small_read_ * kReadPart >= small_regret_.drops) return;
    if (!ghost_hits_significant()) {
      take_from_small(bytes);
    } else if (has_all()) {
      set_target(0);
      forget_regret();
    }
  }
  // Whether the oldest of the main queue has no hits. If it has, it goes round; in a loop, where nothing else takes
  // hits from the main queue, with one less.
  bool main_head_is_cold() {
    if (main_.empty() || hits_[main_.oldest()] == 0) return true;
    if (!small_drops_return()) --hits_[main_.oldest()];
    renew_main();
    return false;
  }
  void evict_from_main() {
    while (hits_[main_.oldest()] > 0) {
      --hits_[main_.oldest()];
      renew_main();
    }
    count_main_step();
    drop(main_.pop_oldest());
  }
  void renew_main() {
    count_main_step();
    main_.renew(main_.oldest());
  }
  void count_main_step() noexcept { rounds_ += 1 / static_cast<double>(std::max<std::size_t>(main_.count(), 1)); }

  Links links_;
  ObjectList small_;
  ObjectList main_;
  Ghosts ghosts_;
  std::vector<Where> where_;
  std::vector<std::uint8_t> hits_;
  std::uint64_t small_target_;
  Regret small_regret_;
  Regret main_regret_;
  double rounds_ = 0;  // That the main queue has gone.
  std::uint64_t left_small_ = 0;
  std::uint64_t small_read_ = 0;
  std::uint64_t main_debt_ = 0;  // What the main queue gives up for objects that were asked for in vain.
};

}  // namespace

std::vector<PolicyKind> candidates() { return {policy_kind<StayFifo>("stay-fifo")}; }

}  // namespace memstream::bench
