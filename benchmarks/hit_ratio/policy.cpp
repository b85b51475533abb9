#include "benchmarks/hit_ratio/policy.h"

#include <algorithm>

namespace memstream::bench {

Policy::Policy(std::uint64_t capacity_bytes, const Trace& trace) : capacity_(capacity_bytes), sizes_(trace.sizes) {
  const std::uint64_t footprint = std::max<std::uint64_t>(trace.footprint_bytes(), 1);
  const double part = static_cast<double>(capacity_bytes) / static_cast<double>(footprint);
  expected_objects_ = std::max<std::size_t>(1, static_cast<std::size_t>(part * static_cast<double>(sizes_.size())));
}

std::vector<PolicyKind> all_policies() {
  std::vector<PolicyKind> all = {lru(),      fifo(), clock_policy(), sieve(), s3_fifo(),
                                 tiny_lfu(), arc(),  lirs(),         belady()};
  for (PolicyKind& candidate : candidates()) all.push_back(std::move(candidate));
  return all;
}

HitRatio simulate(const PolicyKind& kind, std::uint64_t capacity_bytes, const Trace& trace) {
  const std::unique_ptr<Policy> policy = kind.make(capacity_bytes, trace);
  return replay(trace, [&](std::uint32_t object, std::size_t position) {
    if (trace.op(position) != Op::kGet || policy->holds(object)) return policy->access(object, position);
    policy->miss(object);
    return false;
  });
}

}  // namespace memstream::bench
