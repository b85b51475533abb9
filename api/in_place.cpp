// The full C interface, second part: reading and writing values without a copy.
#include <cstddef>
#include <memory>
#include <string_view>
#include <utility>

#include "api/arguments.h"
#include "api/guarded.h"
#include "api/handle.h"
#include "api/memstream.h"
#include "core/cache/cache_lookup.h"

using memstream::bytes_of;
using memstream::Cache;
using memstream::GetResult;
using memstream::guarded;
using memstream::InFlightCalls;
using memstream::meta_of;
using memstream::OwnedBytes;
using memstream::PinnedItem;
using memstream::PinnedValue;
using memstream::require;
using memstream::Status;
using memstream::StoreMode;

namespace {

// Takes a view as a copy in memory of the library: for a read-only handle, and when no place for a pin is free.
[[gnu::cold]] Status view_copy(memstream_t* cache, std::string_view key, memstream_view_t* view) {
  *view = {};
  std::uint64_t capacity = memstream::Shard::kPinnedCopySize;
  for (;;) {
    PinnedItem item;
    item.copy = std::make_unique<OwnedBytes>(capacity);
    const GetResult got = cache->cache().get(key, item.copy->data(), capacity);
    if (got.status == Status::kTooSmall) {
      capacity = got.read.value_size;
      continue;
    }
    if (got.status != Status::kOk) return got.status;
    view->data = item.copy->data();
    view->size = got.read.value_size;
    view->meta = meta_of(cache->cache(), got.read);
    view->token = cache->keep(std::move(item));
    return Status::kOk;
  }
}

// Where nothing was pinned: `status` says why.
[[gnu::cold]] Status view_otherwise(memstream_t* cache, std::string_view key, memstream_view_t* view, Status status) {
  *view = {};
  if (status != Status::kFull) return status;
  const Status copied = view_copy(cache, key, view);
  if (copied == Status::kOk) cache->cache().count_view_copy();
  return copied;
}

[[gnu::always_inline]] inline Status view_value(memstream_t* cache, const void* key, std::size_t key_size,
                                                memstream_view_t* view) {
  if (cache->cache().read_only()) return view_copy(cache, bytes_of(key, key_size), view);
  PinnedValue held;
  const Status status = cache->cache().pin(bytes_of(key, key_size), &held);
  if (status != Status::kOk) [[unlikely]]
    return view_otherwise(cache, bytes_of(key, key_size), view, status);
  view->data = held.value;
  view->size = held.read.value_size;
  view->meta = meta_of(cache->cache(), held.read);
  view->token = memstream_handle::pinned_token(held);
  return Status::kOk;
}

[[gnu::cold]] Status release_copy(memstream_t* cache, std::uint64_t token) {
  PinnedItem copy;
  return cache->take(token, PinnedItem::Kind::kView, &copy);
}

[[gnu::always_inline]] inline Status release_view(memstream_t* cache, memstream_view_t* view) {
  const std::uint64_t token = view->token;
  const bool is_pinned = (token & memstream_handle::kPinnedToken) != 0;
  const Status status = is_pinned ? cache->cache().release(memstream_handle::pinned_block(token))  //
                                  : release_copy(cache, token);
  if (status == Status::kOk) *view = {};
  return status;
}

}  // namespace

extern "C" {

// ---- reading ----

int memstream_view(memstream_t* cache, const void* key, size_t key_size, memstream_view_t* view) {
  return guarded([&] {
    if (const Status status = require("cache, key, view", cache, key, view); status != Status::kOk) return status;
    return cache->calls_in_flight().operation<view_value>(cache, key, key_size, view);
  });
}

int memstream_release(memstream_t* cache, memstream_view_t* view) {
  return guarded([&] {
    if (const Status status = require("cache, view", cache, view); status != Status::kOk) return status;
    return cache->calls_in_flight().operation<release_view>(cache, view);
  });
}

int memstream_view_in_place(memstream_t* cache, const memstream_view_t* view, int* in_place) {
  return guarded([&] {
    if (const Status status = require("cache, view, in_place", cache, view, in_place); status != Status::kOk)
      return status;
    *in_place = (view->token & memstream_handle::kPinnedToken) != 0 ? 1 : 0;
    return Status::kOk;
  });
}

// ---- writing ----

int memstream_reserve(memstream_t* cache, const void* key, size_t key_size, size_t value_size,
                      memstream_reservation_t* reservation) {
  return guarded([&] {
    if (const Status status = require("cache, key, reservation", cache, key, reservation); status != Status::kOk)
      return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    *reservation = {};
    PinnedItem item;
    item.kind = PinnedItem::Kind::kReservation;
    item.size_bytes = value_size;
    if (key_size <= memstream::kMaxKeySize) item.key = bytes_of(key, key_size);  // reserve() refuses a longer key.
    const Status status = cache->cache().reserve(bytes_of(key, key_size), value_size, &item.block);
    if (status == Status::kFull) {
      item.copy = std::make_unique<OwnedBytes>(value_size);
    } else if (status != Status::kOk) {
      return status;
    }
    reservation->data = item.copy ? item.copy->data() : item.block.value;
    reservation->size = value_size;
    reservation->token = cache->keep(std::move(item));
    return Status::kOk;
  });
}

int memstream_commit(memstream_t* cache, memstream_reservation_t* reservation, uint64_t ttl_ms, uint32_t flags) {
  return guarded([&] {
    if (const Status status = require("cache, reservation", cache, reservation); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    PinnedItem item;
    if (const Status status = cache->take(reservation->token, PinnedItem::Kind::kReservation, &item);
        status != Status::kOk)
      return status;
    const Cache::Value value{item.copy ? item.copy->data() : nullptr, item.size_bytes, ttl_ms, flags};
    const Status status = item.copy ? cache->cache().store(item.key, value, StoreMode::kSet, 0)
                                    : cache->cache().commit(item.key, item.block, value, StoreMode::kSet, 0);
    if (status == Status::kBusy) {
      // Nothing has changed: the caller may commit the filled reservation again.
      reservation->token = cache->keep(std::move(item));
      return status;
    }
    *reservation = {};
    return status;
  });
}

int memstream_abort(memstream_t* cache, memstream_reservation_t* reservation) {
  return guarded([&] {
    if (const Status status = require("cache, reservation", cache, reservation); status != Status::kOk) return status;
    const InFlightCalls::OperationGuard guard(cache->calls_in_flight());
    PinnedItem item;
    if (const Status status = cache->take(reservation->token, PinnedItem::Kind::kReservation, &item);
        status != Status::kOk)
      return status;
    *reservation = {};
    return item.copy ? Status::kOk : cache->cache().release(item.block);
  });
}

}  // extern "C"
