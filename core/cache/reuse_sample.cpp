#include "core/cache/reuse_sample.h"

#include <algorithm>

#include "core/base/clock.h"

namespace memstream {
namespace {

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr int kGenerationBits = 24;
constexpr std::uint32_t kGenerationMask24 = (1U << kGenerationBits) - 1;
// This many generations together have as many keys as the cache holds now.
constexpr std::uint64_t kGenerationsPerCache = 32;

// The bits of the tag: neither bucket nor shard depends on them.
constexpr std::uint64_t mask_for(std::uint32_t shift) noexcept { return ((std::uint64_t{1} << shift) - 1) << 32; }

constexpr std::uint64_t key_word(KeyHash hash, std::uint32_t generation) noexcept {
  return (hash.value & ~std::uint64_t{kGenerationMask24}) | (generation & kGenerationMask24);
}
constexpr bool is_key(std::uint64_t word, KeyHash hash) noexcept { return (word ^ hash.value) >> kGenerationBits == 0; }
constexpr std::uint32_t age_of(std::uint64_t word, std::uint32_t generation) noexcept {
  return (generation - static_cast<std::uint32_t>(word)) & kGenerationMask24;
}

}  // namespace

ReuseSample::ReuseSample(const Segment& segment, const Geometry& geometry, std::uint32_t notes_per_second) noexcept
    : metrics_(metrics_of_segment(segment, geometry)), window_cost_(notes_per_second / (1000 / kWindowMs) * kNoteCost) {
  if (&metrics_ == &unread_metrics<SegmentMetrics>) return;
  keys_ = &metrics_at<MetricWord>(segment, geometry, geometry.sampled_keys_offset());
  key_count_ = geometry.sampled_keys();
  mask_.store(mask_for(shift()), kRelaxed);
}

std::uint32_t ReuseSample::shift() const noexcept {
  return std::clamp(metrics_.sample_shift.load(kRelaxed), kLeastShift, kMostShift);
}

bool ReuseSample::note(KeyHash hash, std::uint64_t live_entries) noexcept {
  if (keys_ == nullptr) return false;  // The chance of a hash that fits every mask.
  if (is_near(hash)) {
    near_notes_.store(near_notes_.load(kRelaxed) + 1, kRelaxed);
    spend(1);
    return false;
  }
  if (!may_measure(hash)) return false;
  reference(hash, live_entries);
  return true;
}

bool ReuseSample::may_measure(KeyHash hash) noexcept {
  spend(kNoteCost);
  return follow_shift(hash);
}

bool ReuseSample::is_near(KeyHash hash) noexcept {
  const std::uint32_t now = sequence_.load(kRelaxed);
  Recent& recent = recents_[hash.value % kRecents];
  const bool is_near = recent.hash.load(kRelaxed) == hash.value && now - recent.sequence.load(kRelaxed) < kNear;
  if (is_near) return true;
  sequence_.store(now + 1, kRelaxed);
  recent.hash.store(hash.value, kRelaxed);
  recent.sequence.store(now + 1, kRelaxed);
  return false;
}

// The clock is read when so much has been spent as a window allows. If that took no longer, less is sampled from then
// on.
void ReuseSample::spend(std::uint32_t cost) noexcept {
  const std::uint32_t spent = spent_.load(kRelaxed) + cost;
  spent_.store(spent, kRelaxed);
  if (spent < window_cost_) [[likely]]
    return;
  spent_.store(0, kRelaxed);
  const std::uint64_t now = monotonic_ms();
  const bool is_fast = now - window_begin_ms_.load(kRelaxed) < kWindowMs;
  window_begin_ms_.store(now, kRelaxed);
  if (is_fast) raise_shift(shift());
}

// Others may have made the sample smaller. False if the key is not in it any more.
bool ReuseSample::follow_shift(KeyHash hash) noexcept {
  mask_.store(mask_for(shift()), kRelaxed);
  return has(hash);
}

// Drops half of the sample. A process that dies in here leaves keys that no get touches any more; they age out.
void ReuseSample::raise_shift(std::uint32_t from) noexcept {
  std::uint32_t present = metrics_.sample_shift.load(kRelaxed);
  if (from >= kMostShift || std::max(present, kLeastShift) != from) return;
  if (!metrics_.sample_shift.compare_exchange_strong(present, from + 1, kRelaxed)) return;
  const std::uint64_t mask = mask_for(from + 1);
  mask_.store(mask, kRelaxed);
  const std::uint32_t generation = metrics_.generation.load(kRelaxed);
  for (std::uint32_t i = 0; i < key_count_; ++i) {
    std::uint64_t key = keys_[i].load(kRelaxed);
    if (key == 0 || (key & mask) == 0) continue;
    if (keys_[i].compare_exchange_strong(key, 0, kRelaxed)) count_key_out(key, generation);
  }
}

void ReuseSample::count_key_out(std::uint64_t key, std::uint32_t generation) noexcept {
  if (age_of(key, generation) >= kReuseGenerations) return;
  std::atomic<std::uint32_t>& keys = metrics_.keys_of_generation[key % kReuseGenerations];
  const std::uint32_t before = keys.load(kRelaxed);
  if (before != 0) keys.fetch_sub(1, kRelaxed);
}

// Keys of the sample whose last get came after that of a key of this age. Of its own generation, half of them.
std::uint64_t ReuseSample::keys_since(std::uint32_t generation, std::uint32_t age) const noexcept {
  std::uint64_t keys = 0;
  for (std::uint32_t younger = 0; younger < age; ++younger) {
    keys += metrics_.keys_of_generation[(generation - younger) % kReuseGenerations].load(kRelaxed);
  }
  return keys + metrics_.keys_of_generation[(generation - age) % kReuseGenerations].load(kRelaxed) / 2;
}

void ReuseSample::reference(KeyHash hash, std::uint64_t live_entries) noexcept {
  const std::uint32_t generation = metrics_.generation.load(kRelaxed) & kGenerationMask24;
  const std::uint32_t step = shift();
  const std::uint64_t weight = std::uint64_t{1} << step;
  MetricWord* const set = keys_ + hash.value % (key_count_ / kWays) * kWays;
  MetricWord* place = nullptr;
  MetricWord* oldest = set;
  for (MetricWord* key = set; key < set + kWays; ++key) {
    const std::uint64_t word = key->load(kRelaxed);
    if (word != 0 && is_key(word, hash)) {
      place = key;
      break;
    }
    const std::uint64_t best = oldest->load(kRelaxed);
    if (best != 0 && (word == 0 || age_of(word, generation) > age_of(best, generation))) oldest = key;
  }
  const std::uint64_t before = place != nullptr ? place->load(kRelaxed) : 0;
  const std::uint32_t age = age_of(before, generation);
  if (before != 0 && age < kReuseGenerations) {
    count_in(metrics_.distances, keys_since(generation, age) << step, weight);
  } else {
    count(metrics_.first_references, weight);
  }
  if (const std::uint32_t near_notes = near_notes_.exchange(0, kRelaxed); near_notes != 0) {
    count_in(metrics_.distances, kNear / 2 << step, near_notes * weight);
    count(metrics_.sampled_references, near_notes);
    count(metrics_.references, near_notes * weight);
  }
  count(metrics_.sampled_references);
  count(metrics_.references, weight);

  if (place == nullptr) place = oldest;
  const std::uint64_t replaced = place->exchange(key_word(hash, generation), kRelaxed);
  if (replaced != 0) count_key_out(replaced, generation);
  const std::uint32_t keys = metrics_.keys_of_generation[generation % kReuseGenerations].fetch_add(1, kRelaxed) + 1;
  if (keys >= keys_per_generation(live_entries)) enter_generation(generation, live_entries);
}

std::uint32_t ReuseSample::keys_per_generation(std::uint64_t live_entries) const noexcept {
  const std::uint64_t sampled = live_entries >> shift();
  const std::uint64_t most = key_count_ / 2 / kReuseGenerations;
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(sampled / kGenerationsPerCache, 1, most));
}

void ReuseSample::enter_generation(std::uint32_t generation, std::uint64_t live_entries) noexcept {
  std::atomic<std::uint32_t>& keys = metrics_.keys_of_generation[(generation + 1) % kReuseGenerations];
  const std::uint32_t forgotten = keys.load(kRelaxed);
  std::uint32_t present = generation;
  if (!metrics_.generation.compare_exchange_strong(present, (generation + 1) & kGenerationMask24, kRelaxed)) return;
  keys.fetch_sub(forgotten, kRelaxed);
  // All generations together are to be four times what the cache holds, and have no more keys than half the places.
  const std::uint64_t sampled = live_entries >> shift();
  if (sampled * kReuseGenerations / kGenerationsPerCache > key_count_ / 2) raise_shift(shift());
}

}  // namespace memstream
