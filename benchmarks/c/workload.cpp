#include "benchmarks/c/workload.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace memstream::bench {
namespace {

constexpr std::size_t kDraws = std::size_t{1} << 21;
constexpr std::uint64_t kSeed = 20240229;
constexpr double kZipfExponent = 0.99;
// A prime above every number of keys: multiplying by it modulo that number scatters the ranks without a collision.
constexpr std::uint64_t kScatter = 4'294'967'291;

}  // namespace

const char* name_of(Distribution distribution) noexcept {
  return distribution == Distribution::kUniform ? "uniform" : "zipf";
}

std::string Cell::name() const {
  return fmt::format("keys={}/size={}/dist={}/gets={}/processes={}", data.keys, data.value_size, name_of(distribution),
                     get_percent, processes);
}

std::vector<std::uint32_t> draw_keys(Distribution distribution, std::uint32_t keys) {
  std::vector<std::uint32_t> drawn(kDraws);
  std::mt19937_64 random(kSeed);
  if (distribution == Distribution::kUniform) {
    for (auto& key : drawn) key = static_cast<std::uint32_t>((random() >> 32) * keys >> 32);
    return drawn;
  }
  std::vector<double> cumulative(keys);
  double sum = 0;
  for (std::uint32_t rank = 0; rank < keys; ++rank) cumulative[rank] = sum += std::pow(rank + 1.0, -kZipfExponent);
  for (auto& key : drawn) {
    const double point = static_cast<double>(random() >> 11) * 0x1p-53 * sum;
    const auto found = std::upper_bound(cumulative.begin(), cumulative.end() - 1, point);
    const auto rank = static_cast<std::uint64_t>(found - cumulative.begin());
    key = static_cast<std::uint32_t>(rank * kScatter % keys);
  }
  return drawn;
}

}  // namespace memstream::bench
