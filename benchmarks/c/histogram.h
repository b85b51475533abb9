// Latencies in buckets whose width grows with them: 1/32 of the value at most. Plain words, so that it can lie in
// shared memory and be added up.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace memstream::bench {

struct Histogram {
  static constexpr unsigned kSubBits = 5;
  static constexpr unsigned kSubBuckets = 1U << kSubBits;
  static constexpr unsigned kOctaves = 36;  // Up to 2^41 ns, half an hour.

  std::uint32_t counts[kOctaves * kSubBuckets];
  std::uint64_t samples;
  std::uint64_t max_ns;

  static constexpr unsigned bucket_of(std::uint64_t ns) noexcept {
    if (ns < kSubBuckets) return static_cast<unsigned>(ns);
    const auto octave = static_cast<unsigned>(std::bit_width(ns)) - kSubBits;
    return std::min(octave * kSubBuckets + static_cast<unsigned>(ns >> (octave - 1)) - kSubBuckets,
                    kOctaves * kSubBuckets - 1);
  }
  // The least value of a bucket.
  static constexpr std::uint64_t floor_of(unsigned bucket) noexcept {
    const unsigned octave = bucket / kSubBuckets;
    const std::uint64_t within = bucket % kSubBuckets;
    return octave == 0 ? within : (within + kSubBuckets) << (octave - 1);
  }

  void add(std::uint64_t ns) noexcept {
    ++counts[bucket_of(ns)];
    ++samples;
    max_ns = std::max(max_ns, ns);
  }
  void add(const Histogram& other) noexcept {
    for (unsigned bucket = 0; bucket < kOctaves * kSubBuckets; ++bucket) counts[bucket] += other.counts[bucket];
    samples += other.samples;
    max_ns = std::max(max_ns, other.max_ns);
  }
  // The value that `part` of the samples do not exceed, to the width of a bucket; 0 without samples.
  std::uint64_t quantile(double part) const noexcept {
    const auto wanted = static_cast<std::uint64_t>(part * static_cast<double>(samples));
    std::uint64_t seen = 0;
    for (unsigned bucket = 0; bucket < kOctaves * kSubBuckets; ++bucket) {
      seen += counts[bucket];
      if (seen > wanted) return floor_of(bucket);
    }
    return max_ns;
  }
};

}  // namespace memstream::bench
