// The full C interface, first part: opening, closing, destroying; entries by key.
#include "api/memstream.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>

#include "api/arguments.h"
#include "api/following.h"
#include "api/grown_struct.h"
#include "api/guarded.h"
#include "api/handle.h"
#include "api/quick_get.h"
#include "core/cache/cache_put.h"
#include "core/cache/format.h"

using memstream::bytes_of;
using memstream::Cache;
using memstream::GetResult;
using memstream::guarded;
using memstream::has_one_thread;
using memstream::InFlightCalls;
using memstream::on_segment;
using memstream::require;
using memstream::require_bytes;
using memstream::Status;
using memstream::StoreMode;
using memstream::Threads;

namespace {

[[gnu::always_inline]] inline Status store_in(Cache& segment, const void* key, std::size_t key_size,
                                              const Cache::Value& value, StoreMode mode, std::uint64_t cas) {
  // The token is the caller's.
  return segment.store(bytes_of(key, key_size), value, mode,
                       mode == StoreMode::kCas ? cas ^ segment.token_salt() : cas);
}

[[gnu::always_inline]] inline Status store_value(memstream_t* cache, const void* key, std::size_t key_size,
                                                 const Cache::Value& value, StoreMode mode, std::uint64_t cas) {
  return store_in(cache->cache(), key, key_size, value, mode, cas);
}

// After kGone, which has changed nothing: once more as a call of its own, in the segment that took the place of the one
// before if one did. Not a part of the first call, which would be too large to stay inline.
[[gnu::cold, gnu::noinline]] int store_again(memstream_t* cache, const void* key, std::size_t key_size,
                                             const Cache::Value& value, StoreMode mode, std::uint64_t cas) noexcept {
  return guarded([&] {
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) { return store_in(segment, key, key_size, value, mode, cas); });
  });
}

// kNoAnswer if the put with all its cases has to answer.
[[gnu::always_inline]] inline int put_quickly(memstream_t* cache, const void* key, std::size_t key_size,
                                              const std::byte* value, std::size_t value_size) noexcept {
  Status status = Status::kOk;
  const bool is_answered = cache->cache().put_quickly(bytes_of(key, key_size), value, value_size, &status);
  return is_answered ? static_cast<int>(status) : memstream::kNoAnswer;
}

// Inline in each function that calls it, and so without a mode to look at: a third of what they do besides the store.
[[gnu::always_inline]] inline int store(memstream_t* cache, const void* key, size_t key_size, const void* value,
                                        size_t value_size, uint64_t ttl_ms, uint32_t flags, StoreMode mode,
                                        uint64_t cas) noexcept {
  const int status = guarded([&]() __attribute__((always_inline)) {
    if (const Status missing = require("cache, key", cache, key); missing != Status::kOk) return missing;
    if (const Status missing = require_bytes("value", value, value_size); missing != Status::kOk) return missing;
    return cache->calls_in_flight().operation<store_value>(
        cache, key, key_size, Cache::Value{static_cast<const std::byte*>(value), value_size, ttl_ms, flags}, mode, cas);
  });
  if (status != CACHE_GONE) [[likely]]
    return status;
  return store_again(cache, key, key_size, {static_cast<const std::byte*>(value), value_size, ttl_ms, flags}, mode,
                     cas);
}

// A put with all its cases.
[[gnu::noinline]] int set_otherwise(memstream_t* cache, const void* key, size_t key_size, const void* value,
                                    size_t value_size, uint64_t ttl_ms, uint32_t flags) noexcept {
  return store(cache, key, key_size, value, value_size, ttl_ms, flags, StoreMode::kSet, 0);
}

// A call that reads a value, by `read(segment, key, buffer, capacity)`.
template <class Guard, class Read>
int read_by(const Read& read, memstream_t* cache, const void* key, std::size_t key_size, void* value,
            std::size_t* value_size, memstream_meta_t* meta) noexcept {
  return guarded([&] {
    if (const Status status = require("cache, key, value_size", cache, key, value_size); status != Status::kOk)
      return status;
    if (const Status status = require_bytes("value", value, *value_size); status != Status::kOk) return status;
    const Guard guard(cache->calls_in_flight());
    const std::size_t capacity = *value_size;
    const Status status = on_segment(*cache, [&](Cache& segment) {
      const GetResult got = read(segment, bytes_of(key, key_size), static_cast<std::byte*>(value), capacity);
      if (got.status != Status::kOk && got.status != Status::kTooSmall) return got.status;
      *value_size = got.read.value_size;
      if (meta != nullptr) *meta = meta_of(segment, got.read);
      return got.status;
    });
    if (status != Status::kOk && status != Status::kTooSmall) *value_size = 0;
    return status;
  });
}

// A get with all its cases.
[[gnu::noinline]] int get_slowly(memstream_t* cache, const void* key, std::size_t key_size, void* value,
                                 std::size_t* value_size, memstream_meta_t* meta) noexcept {
  const auto read = [&](Cache& segment, std::string_view name, std::byte* buffer, std::size_t capacity) {
    return segment.get(name, buffer, capacity, meta != nullptr);
  };
  return read_by<InFlightCalls::Guard>(read, cache, key, key_size, value, value_size, meta);
}

// Of keys and callers that get_short_key() has no answer for.
[[gnu::noinline]] int get_otherwise(memstream_t* cache, const void* key, std::size_t key_size, void* value,
                                    std::size_t* value_size, memstream_meta_t* meta) noexcept {
  const int status = memstream::get_any_key(cache, key, key_size, value, value_size, meta);
  return status != memstream::kNoAnswer ? status : get_slowly(cache, key, key_size, value, value_size, meta);
}

// REQUIRES: no pointer is NULL, but for `meta`; has_one_thread().
[[gnu::noinline]] int get_alone(memstream_t* cache, const void* key, std::size_t key_size, void* value,
                                std::size_t* value_size, memstream_meta_t* meta) noexcept {
  const int status = memstream::get_short_key<Threads::kOne>(cache, key, key_size, value, value_size, meta);
  if (status != memstream::kNoAnswer) [[likely]]
    return status;
  return get_otherwise(cache, key, key_size, value, value_size, meta);
}

// The same among threads: the call was not answered, and is over.
[[gnu::noinline]] int get_otherwise_among_threads(memstream_t* cache, const void* key, std::size_t key_size,
                                                  void* value, std::size_t* value_size,
                                                  memstream_meta_t* meta) noexcept {
  int status = memstream::kNoAnswer;
  if (InFlightCalls::Place* const place = cache->calls_in_flight().enter(); place != nullptr) {
    status = memstream::get_any_key_among_threads(cache, key, key_size, value, value_size, meta);
    InFlightCalls::leave(*place);
  }
  return status != memstream::kNoAnswer ? status : get_slowly(cache, key, key_size, value, value_size, meta);
}

// REQUIRES: no pointer is NULL, but for `meta`.
[[gnu::noinline]] int get_among_threads(memstream_t* cache, const void* key, std::size_t key_size, void* value,
                                        std::size_t* value_size, memstream_meta_t* meta) noexcept {
  InFlightCalls::Place* const place = cache->calls_in_flight().enter();
  if (place != nullptr) [[likely]] {
    const int status = memstream::get_short_key<Threads::kMany>(cache, key, key_size, value, value_size, meta);
    InFlightCalls::leave(*place);
    if (status != memstream::kNoAnswer) [[likely]]
      return status;
  }
  return get_otherwise_among_threads(cache, key, key_size, value, value_size, meta);
}

[[gnu::always_inline]] inline Status delete_key(memstream_t* cache, const void* key, std::size_t key_size) {
  return cache->cache().remove(bytes_of(key, key_size));
}

// As store_again().
[[gnu::cold, gnu::noinline]] int delete_again(memstream_t* cache, const void* key, std::size_t key_size) noexcept {
  return guarded([&] {
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) { return segment.remove(bytes_of(key, key_size)); });
  });
}

}  // namespace

namespace memstream {

[[gnu::noinline]] int get_any_key(memstream_t* cache, const void* key, std::size_t key_size, void* value,
                                  std::size_t* value_size, memstream_meta_t* meta) noexcept {
  if (key_size - 1 >= kMaxKeySize) [[unlikely]]
    return kNoAnswer;
  Cache& segment = cache->cache();
  AccessClock& clock = segment.clock_of_only_thread();
  segment.renew_quick(clock);
  return get_quickly<Threads::kOne, true>(segment, clock, key, key_size, value, value_size, meta);
}

[[gnu::noinline]] int get_any_key_among_threads(memstream_t* cache, const void* key, std::size_t key_size, void* value,
                                                std::size_t* value_size, memstream_meta_t* meta) noexcept {
  if (key_size - 1 >= kMaxKeySize) [[unlikely]]
    return kNoAnswer;
  Cache& segment = cache->cache();
  AccessClock* const clock = segment.claim_clock();
  if (clock == nullptr) return kNoAnswer;
  segment.renew_quick(*clock);
  return get_quickly<Threads::kMany, true>(segment, *clock, key, key_size, value, value_size, meta);
}

}  // namespace memstream

extern "C" {

// ---- open, close, destroy ----

void memstream_options_init_sized(memstream_options_t* options, size_t size) {
  if (options == nullptr) return;
  const memstream_options_t defaults = memstream::default_options(size);
  std::memcpy(options, &defaults, std::min(size, sizeof defaults));
}

// In parentheses, since the header makes a macro of the name.
void(memstream_options_init)(memstream_options_t* options) {
  memstream_options_init_sized(options, memstream::kFirstOptionsSize);
}

int memstream_open(const memstream_options_t* options, memstream_t** cache) {
  return guarded([&] {
    if (const Status status = require("cache", cache); status != Status::kOk) return status;
    *cache = nullptr;
    std::unique_ptr<memstream_handle> handle;
    const Status status = memstream_handle::open(options, &handle);
    *cache = handle.release();
    return status;
  });
}

const char* memstream_open_note(memstream_t* cache) { return cache != nullptr ? cache->open_note() : ""; }

int memstream_close(memstream_t* cache) {
  return guarded([&] {
    // Where nobody can tell whether another thread still uses it, it stays until the process ends.
    if (cache != nullptr && cache->calls_in_flight().wait_until_empty()) delete cache;
    return Status::kOk;
  });
}

int memstream_destroy(memstream_t* cache) {
  return guarded([&] {
    if (const Status status = require("cache", cache); status != Status::kOk) return status;
    return cache->destroy();
  });
}

int memstream_destroy_named(const memstream_options_t* options) {
  return guarded([&] {
    memstream::OpenOptions open_options;
    if (const Status status = memstream::read_options(options, &open_options); status != Status::kOk) return status;
    memstream::SegmentFormat format(open_options.spec.name, 0);
    return open_options.backend->remove(open_options.spec, format, nullptr, memstream::mark_destroyed);
  });
}

// ---- entries ----

int memstream_get(memstream_t* cache, const void* key, size_t key_size, void* value, size_t* value_size,
                  memstream_meta_t* meta) {
  const bool is_whole = cache != nullptr && key != nullptr && value != nullptr && value_size != nullptr;
  if (!is_whole) [[unlikely]]
    return get_slowly(cache, key, key_size, value, value_size, meta);
  // Each of these saves the registers that it needs.
  return has_one_thread() ? get_alone(cache, key, key_size, value, value_size, meta)
                          : get_among_threads(cache, key, key_size, value, value_size, meta);
}

int memstream_set(memstream_t* cache, const void* key, size_t key_size, const void* value, size_t value_size,
                  uint64_t ttl_ms, uint32_t flags) {
  const bool is_plain = cache != nullptr && key != nullptr && value != nullptr && (ttl_ms | flags) == 0 &&
                        value_size - 1 < memstream::kRedoValueSize;
  if (is_plain) [[likely]] {
    const auto* const bytes = static_cast<const std::byte*>(value);
    const int status = cache->calls_in_flight().operation<put_quickly>(cache, key, key_size, bytes, value_size);
    if (status != memstream::kNoAnswer) [[likely]]
      return status;
  }
  return set_otherwise(cache, key, key_size, value, value_size, ttl_ms, flags);
}

int memstream_add(memstream_t* cache, const void* key, size_t key_size, const void* value, size_t value_size,
                  uint64_t ttl_ms, uint32_t flags) {
  return store(cache, key, key_size, value, value_size, ttl_ms, flags, StoreMode::kAdd, 0);
}

int memstream_replace(memstream_t* cache, const void* key, size_t key_size, const void* value, size_t value_size,
                      uint64_t ttl_ms, uint32_t flags) {
  return store(cache, key, key_size, value, value_size, ttl_ms, flags, StoreMode::kReplace, 0);
}

int memstream_cas(memstream_t* cache, const void* key, size_t key_size, const void* value, size_t value_size,
                  uint64_t ttl_ms, uint32_t flags, uint64_t cas) {
  return store(cache, key, key_size, value, value_size, ttl_ms, flags, StoreMode::kCas, cas);
}

int memstream_delete(memstream_t* cache, const void* key, size_t key_size) {
  const int status = guarded([&] {
    if (const Status missing = require("cache, key", cache, key); missing != Status::kOk) return missing;
    return cache->calls_in_flight().operation<delete_key>(cache, key, key_size);
  });
  return status != CACHE_GONE ? status : delete_again(cache, key, key_size);
}

int memstream_touch(memstream_t* cache, const void* key, size_t key_size, uint64_t ttl_ms) {
  return guarded([&] {
    if (const Status status = require("cache, key", cache, key); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) { return segment.touch(bytes_of(key, key_size), ttl_ms); });
  });
}

int memstream_get_and_touch(memstream_t* cache, const void* key, size_t key_size, uint64_t ttl_ms, void* value,
                            size_t* value_size, memstream_meta_t* meta) {
  const auto read = [&](Cache& segment, std::string_view name, std::byte* buffer, std::size_t capacity) {
    return segment.get_and_touch(name, buffer, capacity, ttl_ms);
  };
  return read_by<InFlightCalls::OperationGuard>(read, cache, key, key_size, value, value_size, meta);
}

int memstream_incr(memstream_t* cache, const void* key, size_t key_size, int64_t delta, const int64_t* initial,
                   uint64_t ttl_ms, int64_t* result) {
  return guarded([&] {
    if (const Status status = require("cache, key", cache, key); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) {
      return segment.increment(bytes_of(key, key_size), delta, initial, ttl_ms, result);
    });
  });
}

int memstream_exists(memstream_t* cache, const void* key, size_t key_size) {
  return guarded([&] {
    if (const Status status = require("cache, key", cache, key); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) { return segment.exists(bytes_of(key, key_size)); });
  });
}

int memstream_clear(memstream_t* cache) {
  return guarded([&] {
    if (const Status status = require("cache", cache); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) { return segment.clear(); });
  });
}

}  // extern "C"
