// The C interface of rate limits and semaphores.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <vector>

#include "api/arguments.h"
#include "api/following.h"
#include "api/guarded.h"
#include "api/handle.h"
#include "api/memstream_limits.h"

using memstream::bytes_of;
using memstream::Cache;
using memstream::fail;
using memstream::fail_without_throwing;
using memstream::guarded;
using memstream::InFlightCalls;
using memstream::on_segment;
using memstream::Rate;
using memstream::require;
using memstream::require_bytes;
using memstream::Status;

namespace {

constexpr uint64_t kNsPerMs = 1'000'000;
constexpr uint64_t kLongestPeriodMs = uint64_t{366} * 86'400 * 1'000;
// Longer than any caller waits, and small enough to add to a point in time without overflow.
constexpr uint64_t kLongestPermitWaitMs = uint64_t{1} << 40;

// The interval is rounded up, so that rounding never lets more through.
Status rate_of(uint64_t rate, uint64_t period_ms, uint64_t burst, Rate* result) noexcept {
  if (period_ms == 0 || period_ms > kLongestPeriodMs) {
    return fail_without_throwing(Status::kInvalid, [&] {
      return fmt::format("Invalid period_ms {}: expected 1 to {}.", period_ms, kLongestPeriodMs);
    });
  }
  const uint64_t period_ns = period_ms * kNsPerMs;
  if (rate == 0 || rate > period_ns) {
    return fail_without_throwing(Status::kInvalid, [&] {
      return fmt::format("Invalid rate {}: expected 1 to {} in {} ms, one per nanosecond.", rate, period_ns, period_ms);
    });
  }
  const uint64_t interval_ns = (period_ns + rate - 1) / rate;
  const uint64_t most = memstream::kLongestRateSpanNs / interval_ns;
  if (burst == 0 || burst > most) {
    return fail_without_throwing(Status::kInvalid, [&] {
      return fmt::format("Invalid burst {}: expected 1 to {}, which this rate restores within 400 days.", burst, most);
    });
  }
  *result = {interval_ns, burst};
  return Status::kOk;
}

}  // namespace

extern "C" {

int memstream_limit(memstream_t* cache, const void* key, size_t key_size, uint64_t rate, uint64_t period_ms,
                    uint64_t burst, uint64_t* wait_ms) {
  return guarded([&] {
    if (const Status status = require("cache, key, wait_ms", cache, key, wait_ms); status != Status::kOk) return status;
    *wait_ms = 0;
    Rate wanted;
    if (const Status status = rate_of(rate, period_ms, burst, &wanted); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) { return segment.limit(bytes_of(key, key_size), wanted, wait_ms); });
  });
}

int memstream_limit_reset(memstream_t* cache, const void* key, size_t key_size) {
  return guarded([&] {
    if (const Status status = require("cache, key", cache, key); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) { return segment.reset_limit(bytes_of(key, key_size)); });
  });
}

int memstream_semaphore_acquire(memstream_t* cache, const void* name, size_t name_size, uint64_t permits,
                                uint64_t timeout_ms, uint64_t* permit) {
  return guarded([&] {
    if (const Status status = require("cache, name, permit", cache, name, permit); status != Status::kOk) return status;
    *permit = 0;
    if (permits == 0 || permits > memstream::kMostPermits) {
      return fail_without_throwing(Status::kInvalid, [&] {
        return fmt::format("Invalid permits {}: expected 1 to {}.", permits, memstream::kMostPermits);
      });
    }
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    const std::chrono::milliseconds timeout(std::min(timeout_ms, kLongestPermitWaitMs));
    return on_segment(
        *cache, [&](Cache& segment) { return segment.acquire(bytes_of(name, name_size), permits, timeout, permit); });
  });
}

int memstream_semaphore_release(memstream_t* cache, const void* name, size_t name_size, uint64_t permit) {
  return guarded([&] {
    if (const Status status = require("cache, name", cache, name); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) { return segment.give_back(bytes_of(name, name_size), permit); });
  });
}

int memstream_semaphore_held(memstream_t* cache, const void* name, size_t name_size, uint64_t* held) {
  return guarded([&] {
    if (const Status status = require("cache, name, held", cache, name, held); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) { return segment.count_held(bytes_of(name, name_size), held); });
  });
}

int memstream_limits(memstream_t* cache, memstream_limit_info_t* limits, size_t capacity, size_t* count) {
  return guarded([&] {
    if (const Status status = require("cache, count", cache, count); status != Status::kOk) return status;
    if (const Status status = require_bytes("limits", limits, capacity); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    std::vector<memstream::LimitInfo> found;
    const Status status = on_segment(*cache, [&](Cache& segment) { return segment.limits(&found); });
    if (status != Status::kOk) return status;
    for (std::size_t i = 0; i < std::min(capacity, found.size()); ++i) {
      const memstream::LimitInfo& of = found[i];
      limits[i] = {.kind = of.pid == 0 ? uint32_t{MEMSTREAM_LIMIT_RATE} : uint32_t{MEMSTREAM_LIMIT_PERMITS},
                   .pid = of.pid,
                   .used = of.used,
                   .most = of.most,
                   .interval_ns = of.interval_ns,
                   .restored_in_ms = of.restored_in_ms,
                   .held_for_ms = of.held_for_ms,
                   .reserved = {},
                   .label = {}};
      std::memcpy(limits[i].label, of.label.data(), of.label.size());
    }
    *count = found.size();
    return Status::kOk;
  });
}
static_assert(sizeof(memstream_limit_info_t::label) > sizeof(memstream::LimitInfo::label));

}  // extern "C"
