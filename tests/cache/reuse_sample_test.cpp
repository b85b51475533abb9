// The sample of keys behind the miss-ratio curve, held against caches that are simulated: one that evicts the coldest
// key, with all keys, at several sizes.
#include "core/cache/reuse_sample.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <list>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "tests/support/scale.h"
#include "tests/support/test_shard.h"

namespace memstream::test {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

// Hits of a cache that evicts the key that was asked for longest ago.
class ColdestGoes {
 public:
  explicit ColdestGoes(std::size_t keys) : most_(keys) {}
  void get(std::uint64_t key) {
    ++gets_;
    if (const auto found = where_.find(key); found != where_.end()) {
      ++hits_;
      order_.splice(order_.begin(), order_, found->second);
      return;
    }
    if (order_.size() == most_) {
      where_.erase(order_.back());
      order_.pop_back();
    }
    order_.push_front(key);
    where_[key] = order_.begin();
  }
  double hit_ratio() const { return static_cast<double>(hits_) / static_cast<double>(gets_); }

 private:
  std::size_t most_;
  std::uint64_t gets_ = 0;
  std::uint64_t hits_ = 0;
  std::list<std::uint64_t> order_;
  std::unordered_map<std::uint64_t, std::list<std::uint64_t>::iterator> where_;
};

class Sampled : public TestSegment {
 public:
  explicit Sampled(std::uint32_t notes_per_second = 100'000'000)
      : TestSegment(64 * kMiB), sample_(segment(), geometry(), notes_per_second) {}

  SegmentMetrics& metrics() { return metrics_of_segment(segment(), geometry()); }
  ReuseSample& sample() { return sample_; }
  KeyHash hash(std::uint64_t key) const {
    // Not the segment's own seed, which differs from run to run, and with it which keys are sampled.
    return hash_key({reinterpret_cast<const char*>(&key), sizeof key}, 1);
  }
  void get(std::uint64_t key, std::uint64_t live_entries) {
    ++gets_;
    if (sample_.has(hash(key))) sample_.note(hash(key), live_entries);
  }
  // Of a cache of so many entries, as the command computes it.
  double hit_ratio(double entries) {
    double hits = static_cast<double>(gets_) - static_cast<double>(metrics().references.load());
    for (std::uint32_t bucket = 0; bucket < kAgeBuckets; ++bucket) {
      const auto begin = static_cast<double>(histogram_bound(bucket));
      const auto end = static_cast<double>(histogram_bound(bucket + 1));
      if (begin >= entries) break;
      hits +=
          std::min(1.0, (entries - begin) / (end - begin)) * static_cast<double>(metrics().distances[bucket].load());
    }
    return hits / static_cast<double>(gets_);
  }

 private:
  std::uint64_t gets_ = 0;
  ReuseSample sample_;
};

// Keys of which the n-th is asked for in proportion to 1 / n to the power of `skew`.
class Zipf {
 public:
  Zipf(std::size_t keys, double skew) {
    double sum = 0;
    for (std::size_t key = 1; key <= keys; ++key) sums_.push_back(sum += std::pow(static_cast<double>(key), -skew));
  }
  std::uint64_t operator()(std::mt19937_64& random) const {
    const double at = std::uniform_real_distribution<>(0, sums_.back())(random);
    return static_cast<std::uint64_t>(std::lower_bound(sums_.begin(), sums_.end(), at) - sums_.begin());
  }

 private:
  std::vector<double> sums_;
};

void compare(const std::function<std::uint64_t(std::mt19937_64&)>& next_key, std::size_t live_entries,
             double tolerance) {
  Sampled sampled;
  std::vector<double> factors{0.25, 0.5, 1, 2};
  std::vector<ColdestGoes> caches;
  for (const double factor : factors)
    caches.emplace_back(static_cast<std::size_t>(factor * static_cast<double>(live_entries)));
  std::mt19937_64 random(1);
  for (int i = 0; i < scaled(1'000'000); ++i) {
    const std::uint64_t key = next_key(random);
    sampled.get(key, live_entries);
    for (ColdestGoes& cache : caches) cache.get(key);
  }
  for (std::size_t i = 0; i < factors.size(); ++i) {
    CAPTURE(factors[i]);
    const double found = sampled.hit_ratio(factors[i] * static_cast<double>(live_entries));
    const double real = caches[i].hit_ratio();
    CAPTURE(found);
    CAPTURE(real);
    CHECK(std::abs(found - real) < tolerance);
  }
}

TEST_CASE("the curve of a skewed load is that of caches which evict the coldest key") {
  const Zipf zipf(200'000, 0.9);
  compare([&](std::mt19937_64& random) { return zipf(random); }, 40'000, 0.1);
}

TEST_CASE("the curve of keys that are equally likely is a straight line") {
  compare([](std::mt19937_64& random) { return random() % 100'000; }, 40'000, 0.1);
}

TEST_CASE("a loop over more keys than a cache has hits nothing there, and all where they fit") {
  std::uint64_t next = 0;
  Sampled sampled;
  constexpr std::uint64_t kKeys = 60'000;
  // Twenty turns, whatever the scale: the first one hits nothing, and of five it is a fifth.
  for (int i = 0; i < 1'200'000; ++i) sampled.get(next++ % kKeys, 40'000);
  CHECK(sampled.hit_ratio(40'000) < 0.25);
  CHECK(sampled.hit_ratio(80'000) > 0.75);
}

TEST_CASE("a sample that covers too little takes longer steps, and keeps its places") {
  Sampled sampled;
  const std::uint32_t before = sampled.sample().shift();
  for (std::uint64_t key = 0; key < 400'000; ++key) sampled.get(key, 400'000);
  CHECK(sampled.sample().shift() > before);
  std::uint64_t keys = 0;
  for (const auto& count : sampled.metrics().keys_of_generation) keys += count.load();
  CHECK(keys > 0);
  CHECK(keys <= sampled.geometry().sampled_keys());
}

TEST_CASE("a process that notes too much takes longer steps") {
  Sampled sampled(1000);
  const std::uint32_t before = sampled.sample().shift();
  std::mt19937_64 random(4);
  for (int i = 0; i < 200'000; ++i) sampled.get(random() % 100'000, 100'000);
  CHECK(sampled.sample().shift() > before);
}

TEST_CASE("a key that is asked for again and again is counted, and nearly for nothing") {
  Sampled sampled;
  std::uint64_t key = 0;
  while (!sampled.sample().has(sampled.hash(key))) ++key;
  CHECK(sampled.sample().note(sampled.hash(key), 1000));
  for (int i = 0; i < 100; ++i) CHECK_FALSE(sampled.sample().note(sampled.hash(key), 1000));
  // The next key that is not near brings them along.
  std::uint64_t other = key + 1;
  while (!sampled.sample().has(sampled.hash(other))) ++other;
  CHECK(sampled.sample().note(sampled.hash(other), 1000));
  CHECK(sampled.metrics().sampled_references.load() == 102);
}

TEST_CASE("any bytes in the tables lead to wrong numbers and nowhere else") {
  Sampled sampled;
  std::mt19937_64 random(2);
  auto* const area = reinterpret_cast<std::byte*>(&sampled.metrics());
  for (int round = 0; round < 20; ++round) {
    for (std::uint64_t i = 0; i < sampled.geometry().metrics_places_offset(); ++i) area[i] = std::byte(random());
    for (std::uint64_t key = 0; key < 2000; ++key) sampled.get(key, random());
    CHECK(sampled.sample().shift() <= ReuseSample::kMostShift);
    for (int i = 0; i < 100; ++i) note_hot(sampled.metrics(), random());
  }
}

TEST_CASE("buckets of a histogram lie side by side and are a quarter wide at most") {
  for (std::uint32_t bucket = 0; bucket < kAgeBuckets; ++bucket) {
    const std::uint64_t begin = histogram_bound(bucket);
    const std::uint64_t end = histogram_bound(bucket + 1);
    CHECK(histogram_bucket(begin, kAgeBuckets) == bucket);
    CHECK(histogram_bucket(end - 1, kAgeBuckets) == bucket);
    CHECK((end - begin) * 4 <= std::max<std::uint64_t>(begin, 4));
  }
  CHECK(histogram_bucket(~std::uint64_t{0}, kAgeBuckets) == kAgeBuckets - 1);
  CHECK(histogram_bound(300) == ~std::uint64_t{0});
}

TEST_CASE("an entry that is noted often stays among the hot ones, whatever else is noted once") {
  Sampled sampled;
  std::mt19937_64 random(3);
  const std::uint64_t hot = hot_name(3, EntryId{77}, 0x12345678);
  CHECK(hot_shard(hot) == 3);
  CHECK(hot_entry(hot) == 77);
  CHECK(is_hot_hash(hot, 0x12345678));
  CHECK_FALSE(is_hot_hash(hot, 0x12345679));
  for (int i = 0; i < 20'000; ++i) note_hot(sampled.metrics(), i % 10 == 0 ? hot : random());
  std::uint64_t weight = 0;
  std::uint64_t most = 0;
  for (const HotEntry& entry : sampled.metrics().hot) {
    most = std::max(most, entry.weight.load());
    if (entry.name.load() == hot) weight = entry.weight.load();
  }
  CHECK(weight == most);
  CHECK(weight > 50);
}

}  // namespace
}  // namespace memstream::test
