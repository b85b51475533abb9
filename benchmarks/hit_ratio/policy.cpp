#include "benchmarks/hit_ratio/policy.h"

#include <algorithm>
#include <numeric>

namespace memstream::bench {

std::size_t Policy::expected_objects() const noexcept {
  const std::uint64_t footprint = std::accumulate(sizes_.begin(), sizes_.end(), std::uint64_t{0});
  const double part = static_cast<double>(capacity_) / static_cast<double>(std::max<std::uint64_t>(footprint, 1));
  return std::max<std::size_t>(1, static_cast<std::size_t>(part * static_cast<double>(sizes_.size())));
}

std::vector<PolicyKind> all_policies() {
  std::vector<PolicyKind> all = {lru(),      fifo(), clock_policy(), sieve(), s3_fifo(),
                                 tiny_lfu(), arc(),  lirs(),         belady()};
  for (PolicyKind& candidate : candidates()) all.push_back(std::move(candidate));
  return all;
}

HitRatio simulate(const PolicyKind& kind, std::uint64_t capacity_bytes, const Trace& trace) {
  const std::unique_ptr<Policy> policy = kind.make(capacity_bytes, trace);
  return replay(trace, [&](std::uint32_t object, std::size_t position) { return policy->access(object, position); });
}

}  // namespace memstream::bench
