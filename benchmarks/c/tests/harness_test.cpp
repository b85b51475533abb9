// The harness checks what it measures: a store that loses, tears or mixes up values fails the run.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <map>
#include <string>

#include "benchmarks/c/plan.h"
#include "benchmarks/c/report.h"
#include "benchmarks/c/worker.h"

namespace memstream::bench {
namespace {

enum class Fault { kNone, kMissing, kForeign, kShort, kTorn };

// A store in private memory, good enough for one process, that spoils what it says of one key.
template <Fault fault, unsigned batch = 1>
class Planted {
 public:
  static constexpr const char* kName = "planted";
  static constexpr unsigned kBatch = batch;
  static constexpr unsigned kSampleEvery = 1;
  static constexpr unsigned kSweepEvery = 1;
  static constexpr bool kMayTear = false;

  Planted(const Environment&, const DataSet&) {}

  class Session {
   public:
    explicit Session(Planted& store) : values_(store.values_) {}

    template <class See>
    bool get(const Key& key, std::span<std::byte> room, See see) {
      std::string name(key.view());
      const bool spoilt = name == "user:00000007";
      if (spoilt && fault == Fault::kMissing) return false;
      if (spoilt && fault == Fault::kForeign) name = "user:00000008";
      const std::string& value = values_.at(name);
      std::memcpy(room.data(), value.data(), value.size());
      if (spoilt && fault == Fault::kTorn) room[value.size() - 8] ^= std::byte{1};
      see(room.data(), value.size() - (spoilt && fault == Fault::kShort ? 1 : 0));
      return true;
    }
    void put(const Key& key, std::span<const std::byte> value) {
      values_[std::string(key.view())].assign(reinterpret_cast<const char*>(value.data()), value.size());
    }
    template <class See>
    void get_batch(std::span<const Key> keys, std::span<std::byte> room, See see) {
      for (unsigned i = 0; i < keys.size(); ++i) {
        get(keys[i], room, [&](const void* data, std::size_t size) { see(i, data, size); });
      }
    }
    void put_batch(std::span<const Key> keys, std::span<std::byte> values) {
      const std::size_t size = values.size() / keys.size();
      for (std::size_t i = 0; i < keys.size(); ++i) put(keys[i], values.subspan(i * size, size));
    }

   private:
    std::map<std::string, std::string>& values_;
  };

 private:
  std::map<std::string, std::string> values_;
};

constexpr DataSet kSmall{100, 64};

template <Fault fault, unsigned batch = 1>
Round run_planted(unsigned processes) {
  static const Draws draws(kSmall.keys);
  PreparedStore<Planted<fault, batch>> store({}, kSmall);
  Crowd crowd(store, kSmall, processes, draws);
  return crowd.run({Distribution::kUniform, 50, 0}, std::chrono::milliseconds(20));
}

}  // namespace

TEST_CASE("a store that keeps its promises passes, one process and three, key by key and in batches") {
  CHECK(run_planted<Fault::kNone>(1).operations_per_second > 0);
  const Round round = run_planted<Fault::kNone>(3);
  CHECK(round.operations_per_second > 0);
  CHECK(round.torn == 0);
  CHECK(round.slowest_to_mean > 0);
  CHECK(run_planted<Fault::kNone, 16>(2).operations_per_second > 0);
}

TEST_CASE("by time of the processor, more processes than cores count as much as the cores") {
  static const Draws draws(kSmall.keys);
  PreparedStore<Planted<Fault::kNone>> store({}, kSmall);
  const auto cores = static_cast<unsigned>(::sysconf(_SC_NPROCESSORS_ONLN));
  const auto rate_of = [&](unsigned processes) {
    Crowd crowd(store, kSmall, processes, draws);
    return crowd.run({Distribution::kUniform, 100, 0, true}, std::chrono::milliseconds(60)).operations_per_second;
  };
  CHECK(rate_of(8 * cores) < 4 * rate_of(cores));
}

TEST_CASE("crowds end in any order") {
  static const Draws draws(kSmall.keys);
  PreparedStore<Planted<Fault::kNone>> store({}, kSmall);
  for (const bool first_first : {true, false}) {
    auto first = std::make_unique<Crowd>(store, kSmall, 2, draws);
    auto second = std::make_unique<Crowd>(store, kSmall, 2, draws);
    CHECK(first->run({Distribution::kUniform, 100, 0}, std::chrono::milliseconds(5)).operations_per_second > 0);
    CHECK(second->run({Distribution::kUniform, 100, 0}, std::chrono::milliseconds(5)).operations_per_second > 0);
    (first_first ? first : second).reset();
  }
}

TEST_CASE("a missing value fails the run") {
  CHECK_THROWS_WITH(run_planted<Fault::kMissing>(2), "planted: no value for user:00000007, which was stored");
  CHECK_THROWS_WITH((run_planted<Fault::kMissing, 16>(1)), "planted: no value for user:00000007, which was stored");
}

TEST_CASE("the value of another key fails the run") {
  CHECK_THROWS_WITH(run_planted<Fault::kForeign>(1), "planted: a wrong value of 64 bytes for user:00000007");
}

TEST_CASE("a value of the wrong size fails the run") {
  CHECK_THROWS_WITH(run_planted<Fault::kShort>(1), "planted: a wrong value of 63 bytes for user:00000007");
}

TEST_CASE("a torn value is found") {
  CHECK_THROWS_WITH(run_planted<Fault::kTorn>(1), "planted: torn values before the first write");
  std::byte value[32];
  stamp(value, 5, 1);
  CHECK(judge(value, 32, 5, 32) == Verdict::kWhole);
  std::byte newer[32];
  stamp(newer, 5, 2);
  std::memcpy(value, newer, 16);
  CHECK(judge(value, 32, 5, 32) == Verdict::kTorn);
  CHECK(judge(value, 32, 6, 32) == Verdict::kWrong);
}

TEST_CASE("every contender passes a short run of its own, with all kinds of access") {
  const std::string tag = "bench-test-" + std::to_string(::getpid());
  const Environment environment{"/dev/shm/" + tag, tag};
  REQUIRE(::mkdir(environment.scratch.c_str(), 0700) == 0);
  REQUIRE(::chmod(environment.scratch.c_str(), 0777) == 0);
  static const Draws draws(kSmall.keys);
  for (const Contender& contender : all_contenders()) {
    CAPTURE(contender.name);
    for (const DataSet data : {kSmall, DataSet{kSmall.keys, 20'000}}) {
      const std::unique_ptr<Prepared> store = contender.prepare(environment, data);
      Crowd crowd(*store, data, 2, draws);
      const Round round = crowd.run({Distribution::kZipf, 50, 0}, std::chrono::milliseconds(20));
      CHECK(round.operations_per_second > 0);
      if (!store->may_tear()) CHECK(round.torn == 0);
      Histogram gets{};
      Histogram puts{};
      crowd.take_latencies(&gets, &puts);
      CHECK(gets.samples + puts.samples > 0);
    }
  }
  CHECK(::rmdir(environment.scratch.c_str()) == 0);  // Whoever took part has cleaned up.
}

TEST_CASE("a value that a contender really stored torn, or for another key, fails each contender's run") {
  const std::string tag = "bench-planted-" + std::to_string(::getpid());
  Environment environment{"/dev/shm/" + tag, tag, Plant::kNothing};
  REQUIRE(::mkdir(environment.scratch.c_str(), 0700) == 0);
  REQUIRE(::chmod(environment.scratch.c_str(), 0777) == 0);
  static const Draws draws(kSmall.keys);
  for (const Contender& contender : all_contenders()) {
    CAPTURE(contender.name);
    for (const Plant planted : {Plant::kTorn, Plant::kForeign}) {
      environment.planted = planted;
      const std::unique_ptr<Prepared> store = contender.prepare(environment, kSmall);
      const std::string words = planted == Plant::kTorn ? ": torn values before the first write"
                                                        : ": a wrong value of 64 bytes for user:000000";
      std::string error;
      try {
        const Crowd crowd(*store, kSmall, 2, draws);
      } catch (const std::runtime_error& thrown) {
        error = thrown.what();
      }
      CHECK_MESSAGE(error.starts_with(contender.name + words), error);
    }
  }
  CHECK(::rmdir(environment.scratch.c_str()) == 0);
}

TEST_CASE("two processes that write the same few values of the seqlock tear none") {
  const DataSet few{2, 100'000};
  static const Draws draws(few.keys);
  for (const Contender& contender : all_contenders()) {
    if (contender.name != "seqlock") continue;
    const std::unique_ptr<Prepared> store = contender.prepare({"", "bench-few-" + std::to_string(::getpid())}, few);
    Crowd crowd(*store, few, 4, draws);
    const Round round = crowd.run({Distribution::kUniform, 50, 0}, std::chrono::milliseconds(300));
    CHECK(round.operations_per_second > 0);
    CHECK(round.torn == 0);
  }
}

TEST_CASE("Zipf draws the first rank as often as its exponent says, uniform all keys alike") {
  constexpr std::uint32_t kKeys = 1000;
  for (const Distribution distribution : {Distribution::kUniform, Distribution::kZipf}) {
    std::vector<double> counts(kKeys);
    const auto drawn = draw_keys(distribution, kKeys);
    for (const std::uint32_t key : drawn) counts.at(key) += 1.0 / static_cast<double>(drawn.size());
    std::sort(counts.begin(), counts.end(), std::greater<>());
    double sum = 0;
    for (std::uint32_t rank = 1; rank <= kKeys; ++rank) sum += std::pow(rank, -0.99);
    const bool is_zipf = distribution == Distribution::kZipf;
    CHECK(counts[0] == doctest::Approx(is_zipf ? 1 / sum : 1.0 / kKeys).epsilon(is_zipf ? 0.02 : 0.15));
    CHECK(counts[kKeys - 1] > 0);
    CHECK(draw_keys(distribution, kKeys) == drawn);
  }
}

TEST_CASE("a histogram's quantiles are within one bucket, and its buckets leave no gap") {
  Histogram histogram{};
  for (std::uint64_t ns = 1; ns <= 100'000; ++ns) histogram.add(ns);
  for (const double part : {0.5, 0.99, 0.999}) {
    CHECK(static_cast<double>(histogram.quantile(part)) == doctest::Approx(part * 100'000).epsilon(0.04));
  }
  CHECK(histogram.max_ns == 100'000);
  for (unsigned bucket = 1; bucket < 1000; ++bucket) {
    CHECK(Histogram::bucket_of(Histogram::floor_of(bucket)) == bucket);
    CHECK(Histogram::bucket_of(Histogram::floor_of(bucket) - 1) == bucket - 1);
  }
}

TEST_CASE("a ratio is the median of the rounds' ratios") {
  Outcome a;
  a.rates = {10, 40, 30};
  Outcome limit;
  limit.rates = {20, 50, 40};
  CHECK(ratio(a, limit) == doctest::Approx(0.75));
  CHECK(median({4, 1, 3, 2}) == doctest::Approx(2.5));
}

TEST_CASE("a report compares with the limit, and with two processes, where these took part") {
  const auto outcome = [](const char* name, std::vector<double> rates) {
    Outcome one;
    one.contender = name;
    one.slowest_to_mean = std::vector<double>(rates.size(), 1);
    one.rates = std::move(rates);
    return one;
  };
  const std::vector<Outcome> two = {outcome("limit", {10, 20}), outcome("other", {5, 8})};
  const std::vector<Outcome> four = {outcome("limit", {8, 30}), outcome("other", {4, 6})};
  const nlohmann::json report = to_json({kSmall, Distribution::kZipf, 95, 4}, four, &two, 0);
  CHECK(report["contenders"][0]["ratio_to_two_processes"] == doctest::Approx((0.8 + 1.5) / 2));
  CHECK(report["contenders"][1]["ratio_to_two_processes"] == doctest::Approx((0.8 + 0.75) / 2));
  CHECK(report["contenders"][1]["ratio_to_limit"] == doctest::Approx((0.5 + 0.2) / 2));
  const nlohmann::json alone = to_json({kSmall, Distribution::kZipf, 95, 4}, {four[1]}, nullptr, 0);
  CHECK_FALSE(alone["contenders"][0].contains("ratio_to_two_processes"));
  CHECK_FALSE(alone["contenders"][0].contains("ratio_to_limit"));
  const std::vector<Outcome> batches = {outcome("limit", {10}), outcome("limit-batches", {40}),
                                        outcome("memstream-batches", {30})};
  const nlohmann::json beside = to_json({kSmall, Distribution::kUniform, 100, 1}, batches, nullptr, 0);
  CHECK(beside["contenders"][2]["ratio_to_limit"] == doctest::Approx(0.75));
  const nlohmann::json without =
      to_json({kSmall, Distribution::kUniform, 100, 1}, {batches[0], batches[2]}, nullptr, 0);
  CHECK_FALSE(without["contenders"][1].contains("ratio_to_limit"));
}

TEST_CASE("cells and contenders are chosen by name, and a name that does not exist is refused") {
  const Plan full = make_plan({.full = true});
  CHECK(full.cells.size() == 192);
  std::size_t grouped = 0;
  for (const DataSet& data : full.data_sets()) {
    CHECK(full.processes_of(data) == std::vector<unsigned>{1, 2, 4, 16});
    for (const std::vector<Cell>& group : full.groups_of(data)) {
      grouped += group.size();
      for (const Cell& cell : group) {
        CHECK(cell.data == data);
        CHECK(cell.distribution == group.front().distribution);
        CHECK(cell.get_percent == group.front().get_percent);
      }
    }
  }
  CHECK(grouped == full.cells.size());
  CHECK(full.rounds == 5);
  CHECK(full.fills == 1);
  CHECK(make_plan({.fills = 3}).fills == 3);
  const Plan yardstick = make_plan({.yardstick = true});
  CHECK(yardstick.contenders.size() == 6);
  CHECK(yardstick.contenders.front().name == "limit");
  CHECK(yardstick.cells.size() == 19);
  CHECK(yardstick.rounds == 5);
  CHECK(make_plan({.yardstick = true, .contenders = {"tdb"}}).contenders.size() == 1);
  const Plan plan =
      make_plan({.full = true, .contenders = {"limit", "lmdb"}, .cells = {"keys=1000000/size=64/processes=2/gets=95"}});
  CHECK(plan.contenders.size() == 2);
  CHECK(plan.cells.size() == 2);
  CHECK(plan.data_sets().size() == 1);
  CHECK(plan.groups_of(plan.data_sets().front()).size() == 2);  // Two distributions.
  for (const Contender& contender : make_plan({.backend = "sysv", .cells = {"size=64"}}).contenders) {
    const bool is_ours = contender.name.starts_with("memstream-");
    CHECK_MESSAGE((!is_ours || contender.name.starts_with("memstream-sysv")), contender.name);
  }
  CHECK(make_plan({.backend = "sysv", .contenders = {"memstream-sysv"}}).contenders.size() == 1);
  CHECK_THROWS(make_plan({.contenders = {"nobody"}}));
  CHECK_THROWS(make_plan({.backend = "nobody"}));
  CHECK_THROWS(make_plan({.cells = {"size=65"}}));
}

}  // namespace memstream::bench
