#include "core/shard/metrics.h"

namespace memstream {
namespace {

constexpr std::uint32_t kWays = 4;  // Entries of a set: a name can stand in any of them. They share a cache line.
constexpr std::uint32_t kSets = kHotEntries / kWays;
constexpr std::uint64_t kNotesPerHalving = 4096;  // All weights are halved then, so that they tell of late.

std::uint32_t set_of(std::uint64_t name) noexcept {
  return static_cast<std::uint32_t>(name * 0x9e37'79b9'7f4a'7c15ULL >> 60) % kSets;
}

void halve(SegmentMetrics& metrics) noexcept {
  for (HotEntry& hot : metrics.hot) {
    hot.weight.store(hot.weight.load(std::memory_order_relaxed) / 2, std::memory_order_relaxed);
  }
}

}  // namespace

void note_hot(SegmentMetrics& metrics, std::uint64_t name) noexcept {
  if (metrics.hot_notes.fetch_add(1, std::memory_order_relaxed) % kNotesPerHalving == kNotesPerHalving - 1) {
    halve(metrics);
  }
  HotEntry* const set = &metrics.hot[set_of(name) * kWays];
  HotEntry* weakest = set;
  for (HotEntry* hot = set; hot < set + kWays; ++hot) {
    if (hot->name.load(std::memory_order_relaxed) == name) return count(hot->weight);
    if (hot->weight.load(std::memory_order_relaxed) < weakest->weight.load(std::memory_order_relaxed)) weakest = hot;
  }
  const std::uint64_t weight = weakest->weight.load(std::memory_order_relaxed);
  if (weight > 1) {
    weakest->weight.store(weight - 1, std::memory_order_relaxed);
    return;
  }
  weakest->name.store(name, std::memory_order_relaxed);
  weakest->weight.store(1, std::memory_order_relaxed);
}

}  // namespace memstream
