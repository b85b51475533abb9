// The full C interface, fourth part: leases.
#include <algorithm>
#include <chrono>
#include <cstddef>

#include "api/arguments.h"
#include "api/following.h"
#include "api/guarded.h"
#include "api/handle.h"
#include "api/memstream.h"

using memstream::bytes_of;
using memstream::Cache;
using memstream::guarded;
using memstream::InFlightCalls;
using memstream::kLongestWaitMs;
using memstream::on_segment;
using memstream::require;
using memstream::require_bytes;
using memstream::Status;
using memstream::StoreMode;

extern "C" {

int memstream_lease(memstream_t* cache, const void* key, size_t key_size, uint64_t stale_cas, uint64_t lease_ms,
                    uint64_t* lease) {
  return guarded([&] {
    if (const Status status = require("cache, key, lease", cache, key, lease); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) {
      const uint64_t stale = stale_cas == 0 ? 0 : stale_cas ^ segment.token_salt();
      return segment.lease(bytes_of(key, key_size), stale, lease_ms, lease);
    });
  });
}

int memstream_lease_wait(memstream_t* cache, const void* key, size_t key_size, uint64_t timeout_ms) {
  return guarded([&] {
    if (const Status status = require("cache, key", cache, key); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    const std::chrono::milliseconds timeout(std::min(timeout_ms, kLongestWaitMs));
    return on_segment(*cache, [&](Cache& segment) { return segment.wait_for_lease(bytes_of(key, key_size), timeout); });
  });
}

int memstream_lease_follow(memstream_t* cache, const void* key, size_t key_size, uint64_t* followed,
                           uint64_t timeout_ms) {
  return guarded([&] {
    if (const Status status = require("cache, key, followed", cache, key, followed); status != Status::kOk)
      return status;
    const InFlightCalls::Guard guard(cache->calls_in_flight());
    const std::chrono::milliseconds timeout(std::min(timeout_ms, kLongestWaitMs));
    return on_segment(*cache, [&](Cache& segment) {
      const Status status = segment.follow_lease(bytes_of(key, key_size), followed, timeout);
      if (status == Status::kGone) *followed = 0;  // It has ended with its segment.
      return status;
    });
  });
}

int memstream_lease_fulfil(memstream_t* cache, const void* key, size_t key_size, const void* value, size_t value_size,
                           uint64_t ttl_ms, uint32_t flags, uint64_t lease) {
  return guarded([&] {
    if (const Status status = require("cache, key", cache, key); status != Status::kOk) return status;
    if (const Status status = require_bytes("value", value, value_size); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    const Cache::Value stored{static_cast<const std::byte*>(value), value_size, ttl_ms, flags};
    return on_segment(*cache, [&](Cache& segment) {
      return segment.store(bytes_of(key, key_size), stored, StoreMode::kLease, lease);
    });
  });
}

int memstream_lease_release(memstream_t* cache, const void* key, size_t key_size, uint64_t lease) {
  return guarded([&] {
    if (const Status status = require("cache, key", cache, key); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) { return segment.release_lease(bytes_of(key, key_size), lease); });
  });
}

}  // extern "C"
