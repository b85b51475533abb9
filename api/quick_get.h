// The quick get, from the arguments of a C function to its status.
#pragma once

#include <climits>
#include <cstddef>
#include <cstdint>

#include "api/arguments.h"
#include "api/handle.h"
#include "api/memstream.h"
#include "core/cache/cache_lookup.h"

namespace memstream {

// Instead of a status: the get with all its cases has to answer.
inline constexpr int kNoAnswer = INT_MIN;

// Where a get of one thread finds its clock. REQUIRES: has_one_thread() for Threads::kOne; with kMany the call was
// entered. No pointer is NULL, but for `meta`; keys of 1 to kMaxKeySize bytes.
template <Threads kThreads, bool kWantsAll>
[[gnu::always_inline]] inline int get_quickly(Cache& cache, AccessClock& clock, const void* key, std::size_t key_size,
                                              void* value, std::size_t* value_size, memstream_meta_t* meta) noexcept {
  using Answer = Shard::QuickAnswer;
  ReadResult read;
  Entry* entry = nullptr;
  const Answer answer = cache.get_quickly<kWantsAll>(clock, bytes_of(key, key_size), static_cast<std::byte*>(value),
                                                     value_size, &read, &entry);
  if (answer == Answer::kHit) [[likely]] {
    *value_size = read.value_size;
    if (kWantsAll && meta != nullptr) *meta = meta_of(cache, read);
    cache.note_quick_hit<kThreads>(clock, *entry);
    return static_cast<int>(Status::kOk);
  }
  if (answer == Answer::kNone) return kNoAnswer;
  *value_size = 0;
  cache.note_quick_miss<kThreads>();
  return static_cast<int>(Status::kMiss);
}

// The same where get_short_key() has no answer, and with all that is known of the entry. Among threads one that has no
// clock gets one.
int get_any_key(memstream_t* cache, const void* key, std::size_t key_size, void* value, std::size_t* value_size,
                memstream_meta_t* meta) noexcept;
int get_any_key_among_threads(memstream_t* cache, const void* key, std::size_t key_size, void* value,
                              std::size_t* value_size, memstream_meta_t* meta) noexcept;

// Of the keys of which the hash takes one branch, and the comparison too; of the others kNoAnswer.
template <Threads kThreads>
[[gnu::always_inline]] inline int get_short_key(memstream_t* cache, const void* key, std::size_t key_size, void* value,
                                                std::size_t* value_size, const memstream_meta_t* meta) noexcept {
  constexpr std::size_t kLeast = HashSeed::kShortLeast;
  constexpr std::size_t kMost = HashSeed::kShortMost;
  if (((key_size - kLeast) | reinterpret_cast<std::uintptr_t>(meta)) > kMost - kLeast) [[unlikely]]
    return kNoAnswer;
  if (key_size < kLeast || key_size > kMost) __builtin_unreachable();  // The line above is too clever for a compiler.
  if constexpr (kThreads == Threads::kOne) {
    Cache& segment = cache->cache();
    return get_quickly<kThreads, false>(segment, segment.clock_of_only_thread(), key, key_size, value, value_size,
                                        nullptr);
  } else {
    Cache& segment = cache->cache();
    AccessClock* const clock = segment.clock_among_threads();
    if (clock == nullptr) [[unlikely]]
      return kNoAnswer;
    return get_quickly<kThreads, false>(segment, *clock, key, key_size, value, value_size, nullptr);
  }
}

}  // namespace memstream
