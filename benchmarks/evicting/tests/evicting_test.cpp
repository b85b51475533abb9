// What is measured of full caches is checked: a wrong value fails the run, and the caches hold what they say.
#include <doctest/doctest.h>
#include <unistd.h>

#include <map>

#include "benchmarks/evicting/worker.h"

namespace memstream::bench {
namespace {

constexpr Bounds kSmall{std::uint64_t{4} << 20, 64};
const Draws kNoDraws(1);

Order fill(std::uint64_t puts) { return {Distribution::kUniform, 0, 0, false, true, puts}; }

enum class Fault { kNone, kTorn, kForeign, kShort };

// A store in private memory that keeps everything, and spoils every value.
template <Fault fault>
class Spoiling {
 public:
  static constexpr const char* kName = "spoiling";
  Spoiling(const std::string&, const Bounds&) {}

  class Session {
   public:
    explicit Session(Spoiling&) {}
    template <class See>
    bool get(const Key& key, std::span<std::byte> room, See see) {
      const auto found = values_.find(std::string(key.view()));
      if (found == values_.end()) return false;
      std::memcpy(room.data(), found->second.data(), room.size());
      if (fault == Fault::kTorn) room[room.size() - 8] ^= std::byte{1};
      if (fault == Fault::kForeign) room[4] ^= std::byte{1};
      see(room.data(), room.size() - (fault == Fault::kShort ? 1 : 0));
      return true;
    }
    void put(const Key& key, std::span<const std::byte> value) {
      values_[std::string(key.view())].assign(value.begin(), value.end());
    }

   private:
    std::map<std::string, std::vector<std::byte>> values_;
  };
};

template <Fault fault>
double hits_of_a_spoiling_store() {
  EvictingStore<Spoiling<fault>> store("", kSmall);
  Crowd crowd(store, {10, 64}, 1, kNoDraws);
  return crowd.run({Distribution::kUniform, 0, 0}, std::chrono::milliseconds(5)).hit_ratio;
}

}  // namespace

TEST_CASE("a torn, foreign or short value fails the run; a store that keeps everything hits") {
  CHECK(hits_of_a_spoiling_store<Fault::kNone>() > 0.5);
  for (const auto run : {hits_of_a_spoiling_store<Fault::kTorn>, hits_of_a_spoiling_store<Fault::kForeign>}) {
    CHECK_THROWS_WITH_AS(run(), doctest::Contains("spoiling: a wrong or torn value of 64 bytes"), std::runtime_error);
  }
  CHECK_THROWS_WITH_AS(hits_of_a_spoiling_store<Fault::kShort>(),
                       doctest::Contains("spoiling: a wrong or torn value of 63 bytes"), std::runtime_error);
}

TEST_CASE("every cache takes all kinds of access by two processes, and a key space of four times its size misses") {
  for (const BoundedCache& cache : bounded_caches()) {
    CAPTURE(cache.name);
    const std::unique_ptr<Prepared> store = cache.make("evicting-test-" + std::to_string(::getpid()), kSmall);
    Crowd crowd(*store, kSmall.data(), 2, kNoDraws);
    CHECK(crowd.run(fill(kSmall.items_that_fit() / 2), std::chrono::milliseconds(0)).operations_per_second > 0);
    CHECK(crowd.run(fill(kSmall.most_items() / 2), std::chrono::milliseconds(0)).operations_per_second > 0);
    double hits[2] = {};
    for (const Distribution distribution : {Distribution::kUniform, Distribution::kZipf}) {
      crowd.run({distribution, 0, 0}, std::chrono::milliseconds(150));
      const Round round = crowd.run({distribution, 0, 0}, std::chrono::milliseconds(50));
      hits[distribution == Distribution::kZipf ? 1 : 0] = round.hit_ratio;
    }
    CHECK(hits[0] > 0.1);  // Between a quarter and a half of the keys fit.
    CHECK(hits[0] < 0.6);
    CHECK(hits[1] > hits[0]);
    CHECK(hits[1] < 1);
  }
}

}  // namespace memstream::bench
