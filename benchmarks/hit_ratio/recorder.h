// What the generators of traces are made of.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "benchmarks/hit_ratio/trace.h"

namespace memstream::bench {

inline constexpr std::uint32_t kObjectSize = 1024;

// What a generator writes to. Gives objects their numbers as they come.
class Recorder {
 public:
  Recorder(std::string name, std::uint32_t objects, std::uint64_t seed) : scale(objects), random(seed) {
    trace_.name = std::move(name);
  }

  using SizeOf = std::uint32_t (*)(std::uint64_t object);
  void request(std::uint64_t object, Op op = Op::kFetch) {
    const auto [found, is_new] = numbers_.try_emplace(object, static_cast<std::uint32_t>(trace_.sizes.size()));
    if (is_new) trace_.sizes.push_back(size_of(object));
    trace_.requests.push_back(found->second);
    trace_.ops.push_back(op);
  }
  Trace& trace() noexcept { return trace_; }

  const std::uint32_t scale;
  std::mt19937_64 random;
  SizeOf size_of = [](std::uint64_t) { return kObjectSize; };

 private:
  Trace trace_;
  std::unordered_map<std::uint64_t, std::uint32_t> numbers_;
};

class Zipf {
 public:
  explicit Zipf(std::uint32_t objects, double exponent = 0.99) : cumulative_(objects) {
    double sum = 0;
    for (std::uint32_t rank = 0; rank < objects; ++rank) cumulative_[rank] = sum += std::pow(rank + 1.0, -exponent);
  }
  std::uint32_t operator()(std::mt19937_64& random) const { return up_to(size(), random); }
  // Among the first `objects` alone.
  std::uint32_t up_to(std::size_t objects, std::mt19937_64& random) const {
    const double point = static_cast<double>(random() >> 11) * 0x1p-53 * cumulative_[objects - 1];
    const auto end = cumulative_.begin() + static_cast<std::ptrdiff_t>(objects) - 1;
    return static_cast<std::uint32_t>(std::upper_bound(cumulative_.begin(), end, point) - cumulative_.begin());
  }
  std::size_t size() const noexcept { return cumulative_.size(); }

 private:
  std::vector<double> cumulative_;
};

}  // namespace memstream::bench
