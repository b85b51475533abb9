#include "benchmarks/hit_ratio/real_cache.h"

#include <fmt/format.h>

#include <algorithm>

#include "api/memstream.h"
#include "benchmarks/support/open_cache.h"

namespace memstream::bench {
namespace {

constexpr std::uint64_t kLeastSegment = std::uint64_t{1} << 20;
constexpr std::uint64_t kItemCost = 68;  // Entry, bucket, block header, rounding.
constexpr std::uint64_t kKeySize = 12;
constexpr std::uint64_t kTtlMs = 86'400'000;

// What is no room for objects (docs/layout.md): headers, and a slot, a thread slot and a redo record for each process
// that may attach. The interface does not tell.
constexpr std::uint64_t fixed_cost(std::uint64_t segment_bytes) {
  const std::uint64_t processes = std::max<std::uint64_t>(segment_bytes / (256 << 10), 32);
  return (16 << 10) + processes * (1152 + 64) + std::min<std::uint64_t>(processes, 256) * 1152;
}

}  // namespace

std::optional<RealReplay> replay_through_library(std::uint64_t capacity_bytes, const Trace& trace,
                                                 std::uint32_t shards) {
  const std::uint64_t footprint = trace.footprint_bytes();
  const double items =
      static_cast<double>(capacity_bytes) / static_cast<double>(footprint) * static_cast<double>(trace.sizes.size());
  RealReplay result;
  result.segment_bytes = capacity_bytes + static_cast<std::uint64_t>(items * kItemCost);
  result.segment_bytes += fixed_cost(result.segment_bytes);
  if (result.segment_bytes < kLeastSegment) return std::nullopt;
  result.segment_bytes = (result.segment_bytes + 4095) / 4096 * 4096;

  const OpenCache cache("posix", result.segment_bytes, shards);
  std::vector<char> room(*std::max_element(trace.sizes.begin(), trace.sizes.end()));
  char key[16];
  std::size_t value_size = 0;
  const auto get = [&] {
    std::size_t size = room.size();
    const int status = memstream_get(cache.handle(), key, kKeySize, room.data(), &size, nullptr);
    if (status != CACHE_MISS) require_ok(status, "memstream_get");
    if (status == CACHE_OK && size != value_size)
      throw std::runtime_error(fmt::format("key {} has {} bytes", key, size));
    return status == CACHE_OK;
  };
  const auto put = [&] {
    const std::uint64_t ttl_ms = trace.expires ? kTtlMs : 0;
    const int status = memstream_set(cache.handle(), key, kKeySize, room.data(), value_size, ttl_ms, 0);
    if (status != CACHE_TOO_LARGE) require_ok(status, "memstream_set");
  };
  result.ratio = replay(trace, [&](std::uint32_t object, std::size_t position) {
    *fmt::format_to_n(key, kKeySize, "{:012}", object).out = 0;
    // The size of an object is that of its key and its value.
    value_size = trace.sizes[object] > kKeySize ? trace.sizes[object] - kKeySize : 0;
    const Op op = trace.op(position);
    const bool hit = op != Op::kPut && get();
    if (!hit && op != Op::kGet) put();
    return hit;
  });
  cache_stats_t stats{};
  stats.struct_size = sizeof stats;
  require_ok(memstream_stats(cache.handle(), &stats), "memstream_stats");
  result.held_bytes = stats.key_memory + stats.value_memory;
  return result;
}

}  // namespace memstream::bench
