// LRU, FIFO, CLOCK and SIEVE: one list each.
#include <stdexcept>

#include "benchmarks/hit_ratio/object_list.h"
#include "benchmarks/hit_ratio/policy.h"

namespace memstream::bench {
namespace {

// One list from newest to oldest. What a hit does and which object goes is the rule's.
template <class Rule>
class OneList final : public Policy {
 public:
  OneList(std::uint64_t capacity_bytes, const Trace& trace)
      : Policy(capacity_bytes, trace),
        links_(objects()),
        list_(&links_, &trace.sizes),
        present_(objects()),
        marked_(objects()) {}

  bool access(std::uint32_t object, std::size_t) override {
    if (present_[object]) {
      rule_.hit(object, list_, marked_);
      return true;
    }
    if (size_of(object) > capacity()) return false;
    while (list_.bytes() + size_of(object) > capacity()) {
      const std::uint32_t victim = rule_.choose(list_, marked_);
      list_.remove(victim);
      present_[victim] = false;
    }
    list_.push(object);
    present_[object] = true;
    marked_[object] = false;
    return false;
  }

  bool holds(std::uint32_t object) const override { return present_[object]; }

 private:
  Links links_;
  ObjectList list_;
  std::vector<bool> present_;
  std::vector<bool> marked_;
  Rule rule_;
};

struct LruRule {
  void hit(std::uint32_t object, ObjectList& list, std::vector<bool>&) { list.renew(object); }
  std::uint32_t choose(ObjectList& list, std::vector<bool>&) { return list.oldest(); }
};

struct FifoRule {
  void hit(std::uint32_t, ObjectList&, std::vector<bool>&) {}
  std::uint32_t choose(ObjectList& list, std::vector<bool>&) { return list.oldest(); }
};

// The hand of the clock is the old end: what it spares goes to the new end.
struct ClockRule {
  void hit(std::uint32_t object, ObjectList&, std::vector<bool>& marked) { marked[object] = true; }
  std::uint32_t choose(ObjectList& list, std::vector<bool>& marked) {
    while (marked[list.oldest()]) {
      marked[list.oldest()] = false;
      list.renew(list.oldest());
    }
    return list.oldest();
  }
};

// The hand moves from old to new, and what it spares stays where it is.
struct SieveRule {
  void hit(std::uint32_t object, ObjectList&, std::vector<bool>& marked) { marked[object] = true; }
  std::uint32_t choose(ObjectList& list, std::vector<bool>& marked) {
    std::uint32_t at = hand == kNone ? list.oldest() : hand;
    while (marked[at]) {
      marked[at] = false;
      at = list.newer(at) == kNone ? list.oldest() : list.newer(at);
    }
    hand = list.newer(at);
    return at;
  }
  std::uint32_t hand = kNone;
};

class ShardedFifo final : public Policy {
 public:
  ShardedFifo(std::uint64_t capacity_bytes, const Trace& trace, std::uint32_t shards)
      : Policy(capacity_bytes, trace),
        links_(objects()),
        shards_(shards, ObjectList(&links_, &trace.sizes)),
        present_(objects()) {}

  bool access(std::uint32_t object, std::size_t) override {
    if (present_[object]) return true;
    const std::uint64_t share = capacity() / shards_.size();
    if (size_of(object) > share) return false;
    ObjectList& shard = shards_[shard_of(object)];
    while (shard.bytes() + size_of(object) > share) present_[shard.pop_oldest()] = false;
    shard.push(object);
    present_[object] = true;
    return false;
  }

  bool holds(std::uint32_t object) const override { return present_[object]; }

 private:
  std::size_t shard_of(std::uint32_t object) const noexcept {
    std::uint64_t bits = (object + std::uint64_t{1}) * 0x9e37'79b9'7f4a'7c15ULL;
    bits = (bits ^ bits >> 29) * 0xbf58'476d'1ce4'e5b9ULL;
    return static_cast<std::size_t>((bits >> 32) * shards_.size() >> 32);
  }

  Links links_;
  std::vector<ObjectList> shards_;
  std::vector<bool> present_;
};

}  // namespace

PolicyKind lru() { return policy_kind<OneList<LruRule>>("lru"); }
PolicyKind fifo() { return policy_kind<OneList<FifoRule>>("fifo"); }
PolicyKind clock_policy() { return policy_kind<OneList<ClockRule>>("clock"); }
PolicyKind sieve() { return policy_kind<OneList<SieveRule>>("sieve"); }
PolicyKind sharded_fifo(std::uint32_t shards) {
  if (shards == 0) throw std::invalid_argument("Invalid number of shards '0': expected 1 at least.");
  return {"fifo-shards", true, [shards](std::uint64_t capacity_bytes, const Trace& trace) {
            return std::make_unique<ShardedFifo>(capacity_bytes, trace, shards);
          }};
}

}  // namespace memstream::bench
