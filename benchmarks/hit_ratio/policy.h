// Which objects a cache of so many bytes keeps: reference implementations, for simulation alone.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "benchmarks/hit_ratio/trace.h"

namespace memstream::bench {

class Policy {
 public:
  // The trace must outlive the policy.
  Policy(std::uint64_t capacity_bytes, const Trace& trace);
  Policy(const Policy&) = delete;
  Policy& operator=(const Policy&) = delete;
  virtual ~Policy() = default;

  // Request number `position` of the trace is for `object`. True: it was there. False: it was not, and the policy has
  // made room for it, or decided against it. REQUIRES: positions come in order.
  virtual bool access(std::uint32_t object, std::size_t position) = 0;
  // Whether it is there.
  virtual bool holds(std::uint32_t object) const = 0;
  // Somebody asked for `object`, which is not there and which nobody stores.
  virtual void miss(std::uint32_t /*object*/) {}

 protected:
  std::uint64_t size_of(std::uint32_t object) const noexcept { return sizes_[object]; }
  std::size_t objects() const noexcept { return sizes_.size(); }
  std::uint64_t capacity() const noexcept { return capacity_; }
  // How many objects of average size the cache holds, at least 1: for what counts objects and not bytes.
  std::size_t expected_objects() const noexcept { return expected_objects_; }

 private:
  std::uint64_t capacity_;
  const std::vector<std::uint32_t>& sizes_;
  std::size_t expected_objects_;
};

struct PolicyKind {
  std::string name;
  bool online;  // False: it knows the future.
  std::function<std::unique_ptr<Policy>(std::uint64_t capacity_bytes, const Trace& trace)> make;
};

template <class Kind>
PolicyKind policy_kind(std::string name, bool online = true) {
  return {std::move(name), online, [](std::uint64_t capacity_bytes, const Trace& trace) {
            return std::make_unique<Kind>(capacity_bytes, trace);
          }};
}

// By file: recency.cpp, arc.cpp, lirs.cpp, tiny_lfu.cpp, s3_fifo.cpp, belady.cpp, candidates.cpp.
PolicyKind lru();
PolicyKind fifo();
PolicyKind clock_policy();
PolicyKind sieve();
PolicyKind arc();
PolicyKind lirs();
PolicyKind tiny_lfu();
PolicyKind s3_fifo();
PolicyKind belady();
// "fifo-shards": one FIFO for each of so many shards with an equal part of the bytes each. A hash says which object is
// in which, so that chance gives some more than they can hold. Throws std::invalid_argument for no shards.
PolicyKind sharded_fifo(std::uint32_t shards);
std::vector<PolicyKind> candidates();

// All that need to know nothing but the capacity.
std::vector<PolicyKind> all_policies();

// What a replay counts.
struct HitRatio {
  std::uint64_t requests = 0;
  std::uint64_t hits = 0;
  std::uint64_t bytes = 0;
  std::uint64_t hit_bytes = 0;

  double objects() const noexcept { return static_cast<double>(hits) / static_cast<double>(requests); }
  double bytes_ratio() const noexcept { return static_cast<double>(hit_bytes) / static_cast<double>(bytes); }
};

// Replays a trace through `access(object, position)`, which says whether the object was there. A hit on an object whose
// time has come counts as a miss: it is fetched anew, and lives in the same place.
template <class Access>
HitRatio replay(const Trace& trace, Access access) {
  HitRatio result;
  std::vector<std::uint64_t> expires(trace.ttls.empty() ? 0 : trace.sizes.size());
  for (std::size_t position = 0; position < trace.requests.size(); ++position) {
    const std::uint32_t object = trace.requests[position];
    bool hit = access(object, position);
    if (!expires.empty()) {
      if (hit && expires[object] != 0 && expires[object] <= position) hit = false;
      if (!hit) expires[object] = trace.ttls[position] == 0 ? 0 : position + trace.ttls[position];
    }
    if (position < trace.counted_from || trace.op(position) == Op::kPut) continue;
    ++result.requests;
    result.bytes += trace.sizes[object];
    if (hit) {
      ++result.hits;
      result.hit_bytes += trace.sizes[object];
    }
  }
  return result;
}

HitRatio simulate(const PolicyKind& kind, std::uint64_t capacity_bytes, const Trace& trace);

}  // namespace memstream::bench
