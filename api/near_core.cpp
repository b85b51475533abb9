// The C interface under near/: copies of values of another server.
#include <array>
#include <cstddef>
#include <cstring>
#include <string_view>
#include <tuple>

#include "api/arguments.h"
#include "api/following.h"
#include "api/guarded.h"
#include "api/handle.h"
#include "api/memstream_near_core.h"
#include "core/cache/cache_lookup.h"
#include "core/layout/hash.h"

using memstream::bytes_of;
using memstream::Cache;
using memstream::fail;
using memstream::GetResult;
using memstream::guarded;
using memstream::InFlightCalls;
using memstream::on_segment;
using memstream::require;
using memstream::require_bytes;
using memstream::Status;

namespace {

Status require_counts(const memstream_t* cache, const memstream_near_core_counts_t* counts) {
  if (const Status status = require("cache, counts", cache, counts); status != Status::kOk) return status;
  if (counts->struct_size == sizeof *counts) return Status::kOk;
  return fail(Status::kInvalid, "Invalid struct_size: expected sizeof (memstream_near_core_counts_t).");
}

template <class Look>
int describe(memstream_t* cache, memstream_near_core_state_t* state, Look look) {
  return guarded([&] {
    if (const Status status = require("cache, state", cache, state); status != Status::kOk) return status;
    if (state->struct_size != sizeof *state) {
      return fail(Status::kInvalid, "Invalid struct_size: expected sizeof (memstream_near_core_state_t).");
    }
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    Cache::NearState known;
    const Status status = look(&known);
    if (status != Status::kOk) return status;
    *state = {.struct_size = sizeof *state,
              .lag_ms = known.lag_ms,
              .invalidations = known.invalidations,
              .advances = known.advances,
              .agent_idle_ms = known.agent_idle_ms,
              .epoch = known.epoch,
              .agent_pid = known.agent_pid,
              .subscriptions = known.subscriptions,
              .reserved = 0,
              .label = {}};
    std::memcpy(state->label, known.label.data(), sizeof known.label);
    return status;
  });
}
static_assert(sizeof(memstream_near_core_state_t::label) >= std::tuple_size_v<decltype(Cache::NearState::label)>);

}  // namespace

extern "C" {

int memstream_near_core_claim(memstream_t* cache, const void* name, size_t name_size, uint32_t* server) {
  return guarded([&] {
    if (const Status status = require("cache, name, server", cache, name, server); status != Status::kOk) return status;
    if (name_size == 0 || name_size > memstream::kMaxKeySize) {
      return fail(Status::kInvalid, "Invalid name of a server: expected 1 to 1024 bytes.");
    }
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    const std::string_view known_as{static_cast<const char*>(name), name_size};
    return on_segment(*cache, [&](Cache& segment) { return segment.near_claim(known_as, server); });
  });
}

int memstream_near_core_get(memstream_t* cache, uint32_t server, const void* key, size_t key_size, void* value,
                            size_t* value_size, memstream_near_core_meta_t* meta, uint64_t max_lag_ms) {
  return guarded([&] {
    if (const Status status = require("cache, key, value_size, meta", cache, key, value_size, meta);
        status != Status::kOk)
      return status;
    if (const Status status = require_bytes("value", value, *value_size); status != Status::kOk) return status;
    const InFlightCalls::Guard guard(cache->calls_in_flight());
    const size_t capacity = *value_size;
    return on_segment(*cache, [&](Cache& segment) {
      const GetResult got =
          segment.near_get(server, bytes_of(key, key_size), static_cast<std::byte*>(value), capacity, max_lag_ms);
      const bool has_value = got.status == Status::kOk || got.status == Status::kTooSmall;
      const bool has_stale = got.status == Status::kMiss && got.read.cas != 0;
      *value_size = has_value ? got.read.value_size : 0;
      *meta = {.stale_cas = has_stale ? got.read.cas ^ segment.token_salt() : 0,
               .flags = static_cast<uint32_t>(got.read.caller_flags),
               .reserved = 0};
      return got.status;
    });
  });
}

int memstream_near_core_begin(memstream_t* cache, uint32_t server, const void* key, size_t key_size, uint64_t* token) {
  return guarded([&] {
    if (const Status status = require("cache, key, token", cache, key, token); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache,
                      [&](Cache& segment) { return segment.near_begin(server, bytes_of(key, key_size), token); });
  });
}

int memstream_near_core_store(memstream_t* cache, uint32_t server, const void* key, size_t key_size, const void* value,
                              size_t value_size, uint64_t ttl_ms, uint32_t flags, uint64_t token) {
  return guarded([&] {
    if (const Status status = require("cache, key", cache, key); status != Status::kOk) return status;
    if (const Status status = require_bytes("value", value, value_size); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    const Cache::Value stored{static_cast<const std::byte*>(value), value_size, ttl_ms, flags};
    return on_segment(
        *cache, [&](Cache& segment) { return segment.near_store(server, bytes_of(key, key_size), stored, token); });
  });
}

int memstream_near_core_invalidate(memstream_t* cache, uint32_t server, const void* key, size_t key_size) {
  return guarded([&] {
    if (const Status status = require("cache, key", cache, key); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) { return segment.near_invalidate(server, bytes_of(key, key_size)); });
  });
}

int memstream_near_core_advance(memstream_t* cache, uint32_t server) {
  return guarded([&] {
    if (const Status status = require("cache", cache); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) { return segment.near_advance(server); });
  });
}

uint64_t memstream_near_core_now(memstream_t* cache) {
  uint64_t now = 0;
  const int status = guarded([&] {
    if (const Status missing = require("cache", cache); missing != Status::kOk) return missing;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    now = cache->cache().near_now_ms();
    return Status::kOk;
  });
  return status == CACHE_OK ? now : 0;
}

int memstream_near_core_heard(memstream_t* cache, uint32_t server, uint64_t instant_ms) {
  return guarded([&] {
    if (const Status status = require("cache", cache); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) { return segment.near_heard(server, instant_ms); });
  });
}

int memstream_near_core_lead(memstream_t* cache, uint32_t server) {
  return guarded([&] {
    if (const Status status = require("cache", cache); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) { return segment.near_lead(server); });
  });
}

int memstream_near_core_yield(memstream_t* cache, uint32_t server) {
  return guarded([&] {
    if (const Status status = require("cache", cache); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) { return segment.near_yield(server); });
  });
}

int memstream_near_core_state(memstream_t* cache, uint32_t server, memstream_near_core_state_t* state) {
  return describe(cache, state, [&](Cache::NearState* known) {
    return on_segment(*cache, [&](Cache& segment) { return segment.near_state(server, known); });
  });
}

int memstream_near_core_look(memstream_t* cache, uint32_t server, memstream_near_core_state_t* state) {
  return describe(cache, state, [&](Cache::NearState* known) {
    return on_segment(*cache, [&](Cache& segment) { return segment.near_look(server, known); });
  });
}

uint32_t memstream_near_core_epoch_of(uint64_t token) { return memstream::near_epoch_of(token); }

uint32_t memstream_near_core_unread_of(uint64_t token) {
  return memstream::near_unread_of(static_cast<uint32_t>(token));
}

int memstream_near_core_note_subscription(memstream_t* cache, uint32_t server) {
  return guarded([&] {
    if (const Status status = require("cache", cache); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    return on_segment(*cache, [&](Cache& segment) { return segment.near_note_subscription(server); });
  });
}

int memstream_near_core_count(memstream_t* cache, const memstream_near_core_counts_t* more) {
  return guarded([&] {
    if (const Status status = require_counts(cache, more); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    const Cache::NearCountValues values{more->hits,   more->fetches,  more->fills, more->conflicts,
                                        more->merged, more->bypasses, more->stale, more->errors};
    return on_segment(*cache, [&](Cache& segment) { return segment.near_count(values); });
  });
}

int memstream_near_core_counts(memstream_t* cache, memstream_near_core_counts_t* counts) {
  return guarded([&] {
    if (const Status status = require_counts(cache, counts); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    Cache::NearCountValues values{};
    const Status status = on_segment(*cache, [&](Cache& segment) { return segment.near_counts(&values); });
    *counts = {sizeof *counts, values[0], values[1], values[2], values[3], values[4], values[5], values[6], values[7]};
    return status;
  });
}

}  // extern "C"
